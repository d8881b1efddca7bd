//! What became of a commit, as a commit status at GitHub, which pull requests and branches show
//! (<https://docs.github.com/en/rest/commits/statuses#create-a-commit-status>).

use std::io;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::location::{Location, Transport};
use super::settings::GitSettings;
use crate::azure::{Trust, http_client};
use crate::source::{Report, Standing};

/// Characters of a description; GitHub refuses longer ones.
const LONGEST: usize = 140;

/// The version of the API that this was written for.
const VERSION: &str = "2022-11-28";

/// Sets commit statuses in one repository.
pub(super) struct Statuses {
    http: reqwest::Client,
    /// Where they are set, without the commit.
    place: String,
    target: Option<String>,
    /// What was set last: GitHub takes at most 1000 for one commit and context.
    last: Mutex<Option<(String, Status)>>,
}

/// Body of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Status {
    state: &'static str,
    description: String,
    context: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_url: Option<String>,
}

impl Statuses {
    /// Prepares to set them, if that is asked for.
    ///
    /// # Errors
    /// When the repository is none of GitHub's, there is no token, or no connection can be made.
    pub(super) fn open(location: &Location, settings: &GitSettings) -> io::Result<Option<Self>> {
        if !settings.git_commit_status {
            return Ok(None);
        }
        if settings.git_token_file.is_none() {
            return Err(io::Error::other("--git-commit-status needs --git-token-file"));
        }
        let place = place(location, settings.git_api.as_deref()).ok_or_else(|| {
            io::Error::other(
                "--git-commit-status needs a repository at GitHub, git+https://HOST/OWNER/NAME.git or git+ssh",
            )
        })?;
        let http = http_client(Trust::OfMachine).map_err(io::Error::other)?;
        Ok(Some(Self { http, place, target: settings.git_status_url.clone(), last: Mutex::default() }))
    }

    /// Sets the status of a commit, unless it is set already.
    ///
    /// # Errors
    /// In words for people, when GitHub does not take it.
    pub(super) async fn set(&self, token: &str, report: &Report) -> Result<(), String> {
        let status = Status::of(report, self.target.clone());
        let set = (report.revision.0.clone(), status.clone());
        if self.last.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(&set) {
            return Ok(());
        }
        let body = serde_json::to_vec(&status).map_err(|error| error.to_string())?;
        let request = self
            .http
            .post(format!("{}/{}", self.place, report.revision))
            .bearer_auth(token)
            .header("accept", "application/vnd.github+json")
            .header("content-type", "application/json")
            .header("user-agent", "ebb")
            .header("x-github-api-version", VERSION)
            .body(body);
        let answer = request.send().await.map_err(|error| with_causes(&error))?;
        let code = answer.status().as_u16();
        if code != 201 {
            return Err(refused(code, &answer.bytes().await.unwrap_or_default()));
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(set);
        Ok(())
    }
}

impl Status {
    fn of(report: &Report, target_url: Option<String>) -> Self {
        let state = match report.standing {
            Standing::Pending => "pending",
            Standing::Success => "success",
            Standing::Failure => "failure",
            Standing::Error => "error",
        };
        let context = format!("ebb/{}", report.deployment);
        Self { state, description: shortened(&report.summary), context, target_url }
    }
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST - 1).chain(['…']).collect()
}

/// Where statuses of a repository are set: below the API of github.com, or of a GitHub Enterprise Server.
fn place(location: &Location, api: Option<&str>) -> Option<String> {
    if location.transport == Transport::File {
        return None;
    }
    let (_, rest) = location.repository.split_once("://")?;
    let (authority, path) = rest.split_once('/')?;
    let path = path.trim_end_matches('/');
    let (owner, name) = path.strip_suffix(".git").unwrap_or(path).split_once('/')?;
    if owner.is_empty() || name.is_empty() || name.contains('/') {
        return None;
    }
    let host = authority.rsplit('@').next()?.split(':').next()?;
    let api = match api {
        Some(api) => api.trim_end_matches('/').to_owned(),
        None if matches!(host, "github.com" | "ssh.github.com") => "https://api.github.com".to_owned(),
        None => format!("https://{host}/api/v3"),
    };
    Some(format!("{api}/repos/{owner}/{name}/statuses"))
}

/// What GitHub says against it, and what to do.
fn refused(code: u16, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Answer {
        message: String,
    }
    let said = serde_json::from_slice::<Answer>(body).map(|answer| answer.message).unwrap_or_default();
    let said: String = said.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    let advice = match code {
        401 | 403 | 404 => "the token needs to write commit statuses of this repository",
        422 => "look whether the commit is in this repository, and has fewer than 1000 statuses",
        _ => "it is tried again",
    };
    let said = if said.is_empty() { "without a reason" } else { &said };
    format!("GitHub answered {code} {said}; {advice}")
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use ebb_core::plan::Revision;

    use super::*;

    fn at(url: &str, api: Option<&str>) -> Option<String> {
        place(&url.parse().unwrap(), api)
    }

    #[test]
    fn the_api_is_found_by_the_repository() {
        let of_acme = |api: &str| Some(format!("{api}/repos/acme/vpn/statuses"));
        for url in [
            "https://github.com/acme/vpn.git",
            "https://github.com/acme/vpn",
            "ssh://git@github.com/acme/vpn.git",
        ] {
            assert_eq!(at(&format!("git+{url}?ref=main"), None), of_acme("https://api.github.com"), "{url}");
        }
        let enterprise = "git+ssh://git@git.acme.example:2222/acme/vpn.git";
        assert_eq!(at(enterprise, None), of_acme("https://git.acme.example/api/v3"));
        assert_eq!(at(enterprise, Some("https://api.acme.example/")), of_acme("https://api.acme.example"));
        for url in
            ["git+file:///acme/vpn.git", "git+https://github.com/vpn.git", "git+https://github.com/a/b/c.git"]
        {
            assert_eq!(at(url, None), None, "{url}");
        }
    }

    #[test]
    fn a_description_is_as_short_as_github_wants_it() {
        let report = |summary: String| Report {
            revision: Revision("r".into()),
            deployment: "home".into(),
            standing: Standing::Failure,
            summary,
            text: String::new(),
        };
        let status = Status::of(&report("ü".repeat(140)), None);
        assert_eq!((status.description, status.context.as_str()), ("ü".repeat(140), "ebb/home"));
        let status = Status::of(&report("ü".repeat(141)), None);
        assert_eq!((status.description.chars().count(), status.state), (140, "failure"));
        assert!(status.description.ends_with('…'));
        assert!(!serde_json::to_string(&status).unwrap_or_default().contains("target_url"));
    }

    #[test]
    fn a_refusal_says_what_the_token_lacks() {
        let text =
            refused(403, br#"{ "message": "Resource not accessible by integration", "status": "403" }"#);
        assert!(text.contains("not accessible") && text.contains("write commit statuses"), "{text}");
        let text = refused(422, b"<html>");
        assert!(text.starts_with("GitHub answered 422 without a reason; look whether the commit"), "{text}");
    }
}
