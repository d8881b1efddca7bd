//! Whether the image of gateways is where it should be: its manifest is asked for, as a container engine would before it pulls
//! (OCI Distribution Specification, "Pulling manifests").

use azure_core::http::headers::AUTHORIZATION;
use azure_core::http::{Method, Request, Url};
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::Finding;
use crate::azure::storage::{encoded, header};
use crate::azure::{Answer, Azure};

const CHECK: &str = "image";

/// Kinds of manifests, newest first.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.docker.distribution.manifest.v2+json";

/// An image's name in its parts.
#[derive(Debug, PartialEq, Eq)]
struct Image<'a> {
    registry: &'a str,
    repository: String,
    reference: &'a str,
}

impl<'a> Image<'a> {
    /// What container engines make of a name.
    fn parse(text: &'a str) -> Self {
        let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
            _ => ("registry-1.docker.io", name),
        };
        let (path, tag) = path.rsplit_once(':').unwrap_or((path, "latest"));
        let is_official = registry == "registry-1.docker.io" && !path.contains('/');
        let repository = if is_official { format!("library/{path}") } else { path.to_owned() };
        Self { registry, repository, reference: digest.unwrap_or(tag) }
    }

    fn base(&self) -> String {
        let host = self.registry.split(':').next().unwrap_or_default();
        let here = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        format!("{}://{}", if here { "http" } else { "https" }, self.registry)
    }
}

#[derive(Deserialize)]
struct Token {
    #[serde(alias = "token", alias = "access_token", alias = "refresh_token")]
    value: String,
}

pub(super) async fn examine(azure: &Azure, name: &str) -> Finding {
    let image = Image::parse(name);
    let fix = "check EBB_GATEWAY_IMAGE; a private registry needs the role AcrPull for EBB_GATEWAY_IDENTITY, and for this command \
               the daemon's identity needs it too";
    match manifest(azure, &image).await {
        Ok(answer) if answer.is_success() => judge(name, &answer),
        Ok(answer) if matches!(answer.status, 401 | 403) => {
            let message = format!(
                "{name}: this identity may not read it (HTTP status {}), so nobody can tell here",
                answer.status
            );
            Finding::warn(CHECK, message, fix)
        }
        Ok(answer) if answer.status == 404 => {
            Finding::fail(CHECK, format!("{name}: {} has no such image", image.registry), fix)
        }
        Ok(answer) => Finding::fail(CHECK, format!("{name}: HTTP status {}", answer.status), fix),
        Err(why) => Finding::fail(CHECK, format!("{name}: {why}"), fix),
    }
}

/// Container Instances run linux/amd64 and nothing else.
fn judge(name: &str, answer: &Answer) -> Finding {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let platforms = body["manifests"].as_array().map(|all| {
        let platforms = all.iter().map(|one| &one["platform"]);
        platforms
            .map(|one| {
                format!(
                    "{}/{}",
                    one["os"].as_str().unwrap_or("?"),
                    one["architecture"].as_str().unwrap_or("?")
                )
            })
            .collect::<Vec<_>>()
    });
    if let Some(platforms) = platforms.filter(|all| !all.iter().any(|one| one == "linux/amd64")) {
        let message = format!(
            "{name}: is there for {}, and Container Instances need linux/amd64",
            platforms.join(", ")
        );
        return Finding::fail(CHECK, message, "build it for linux/amd64");
    }
    if !name.contains("@sha256:") {
        let fix =
            "name it by digest, REGISTRY/NAME@sha256:…, so that a gateway cannot come up with another one";
        return Finding::warn(
            CHECK,
            format!("{name}: is there, by a tag, which can change its meaning"),
            fix,
        );
    }
    Finding::ok(CHECK, format!("{name}: is there"))
}

async fn manifest(azure: &Azure, image: &Image<'_>) -> Result<Answer, String> {
    let url = format!("{}/v2/{}/manifests/{}", image.base(), image.repository, image.reference);
    let url: Url = url.parse().map_err(|error| format!("it is no name of an image: {error}"))?;
    let ask = async |token: Option<&str>| {
        let mut request = Request::new(url.clone(), Method::Get);
        header(&mut request, "accept", ACCEPT);
        if let Some(token) = token {
            request.insert_header(AUTHORIZATION, format!("Bearer {token}"));
        }
        azure.anonymous().send(request).await.map_err(|error| error.to_string())
    };
    let answer = ask(None).await?;
    if answer.status != 401 {
        return Ok(answer);
    }
    let challenge = answer.header("www-authenticate").unwrap_or_default().to_owned();
    let token = match token(azure, image, &challenge).await {
        Some(token) => token,
        None => return Ok(answer),
    };
    ask(Some(&token)).await
}

/// A token for reading, from where the registry says: for the identity at a registry of Azure, else for anybody.
async fn token(azure: &Azure, image: &Image<'_>, challenge: &str) -> Option<Zeroizing<String>> {
    let of = |name: &str| {
        let rest = challenge.split_once(&format!("{name}=\""))?.1;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    let (realm, service) = (of("realm")?, of("service").unwrap_or_default());
    let scope = format!("repository:{}:pull", image.repository);
    if realm.ends_with("/oauth2/token") {
        // Only the registry itself gets to see a token of the identity.
        let base = image.base();
        if !realm.starts_with(&format!("{base}/")) {
            return None;
        }
        let own = azure.credential().get_token(&[&azure.endpoints().management_scope()], None).await.ok()?;
        let form = Zeroizing::new(format!(
            "grant_type=access_token&service={}&access_token={}",
            encoded(&service),
            encoded(own.token.secret())
        ));
        let refresh = form_answer(azure, &format!("{base}/oauth2/exchange"), &form).await?;
        let form = Zeroizing::new(format!(
            "grant_type=refresh_token&service={}&scope={}&refresh_token={}",
            encoded(&service),
            encoded(&scope),
            encoded(&refresh)
        ));
        return form_answer(azure, &realm, &form).await;
    }
    let url: Url = format!("{realm}?service={}&scope={}", encoded(&service), encoded(&scope)).parse().ok()?;
    let answer = azure.anonymous().send(Request::new(url, Method::Get)).await.ok()?;
    serde_json::from_slice::<Token>(&answer.body).ok().map(|token| Zeroizing::new(token.value))
}

async fn form_answer(azure: &Azure, url: &str, form: &str) -> Option<Zeroizing<String>> {
    let mut request = Request::new(url.parse().ok()?, Method::Post);
    header(&mut request, "content-type", "application/x-www-form-urlencoded");
    request.set_body(form.as_bytes().to_vec());
    let answer = azure.anonymous().send(request).await.ok()?;
    serde_json::from_slice::<Token>(&answer.body).ok().map(|token| Zeroizing::new(token.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_container_engines_read_them() {
        for (name, registry, repository, reference) in [
            ("ebb.azurecr.io/ebb-gateway@sha256:00", "ebb.azurecr.io", "ebb-gateway", "sha256:00"),
            ("ebb.azurecr.io/a/b:1", "ebb.azurecr.io", "a/b", "1"),
            ("127.0.0.1:5000/gateway", "127.0.0.1:5000", "gateway", "latest"),
            ("127.0.0.1:5000/gateway:2@sha256:00", "127.0.0.1:5000", "gateway", "sha256:00"),
            ("debian:12", "registry-1.docker.io", "library/debian", "12"),
            ("ebb/gateway", "registry-1.docker.io", "ebb/gateway", "latest"),
        ] {
            let image = Image { registry, repository: repository.to_owned(), reference };
            assert_eq!(Image::parse(name), image, "{name}");
        }
    }

    #[test]
    fn only_this_machine_is_asked_without_encryption() {
        assert_eq!(Image::parse("127.0.0.1:5000/g").base(), "http://127.0.0.1:5000");
        assert_eq!(Image::parse("192.0.2.1:5000/g").base(), "https://192.0.2.1:5000");
    }
}
