//! What Blob and Table storage have in common.

use azure_core::http::headers::{HeaderName, HeaderValue};
use azure_core::http::{Method, Request, Url};
use serde::Deserialize;

use super::{Answer, Azure, AzureError, Client, Unanswered, address};

/// What tokens for storage are for.
const SCOPE: &str = "https://storage.azure.com/.default";

/// Version of the storage services. Azurite refuses those that it does not know.
const VERSION: &str = "2021-12-02";

/// One account, container or blob, by its address.
///
/// An address with a signature in its query (a shared access signature) is asked with that, as Azurite wants it; any other one
/// as the daemon's identity.
#[derive(Debug, Clone)]
pub struct Storage {
    client: Client,
    base: Url,
    signature: Option<String>,
}

impl Storage {
    /// The place at `url`, which came from `variable`.
    ///
    /// # Errors
    /// When it is no address that a token may be sent to.
    pub fn open(azure: &Azure, variable: &'static str, url: &str) -> Result<Self, AzureError> {
        let mut base = address(variable, url.to_owned())?;
        let signature = base.query().filter(|query| query.contains("sig=")).map(str::to_owned);
        base.set_query(None);
        let client = if signature.is_some() { azure.anonymous() } else { azure.client(SCOPE) };
        Ok(Self { client, base, signature })
    }

    /// The place whose name is this one's and the suffix.
    #[must_use]
    pub fn beside(&self, suffix: &str) -> Self {
        let mut other = self.clone();
        other.base.set_path(&format!("{}{suffix}", self.base.path().trim_end_matches('/')));
        other
    }

    /// The address without its signature, for people.
    #[must_use]
    pub fn place(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Whether the place is this blob, whatever the account is called: behind a private name or in an emulator its address is
    /// another one.
    #[must_use]
    pub fn is_blob(&self, container: &str, blob: &str) -> bool {
        names(self.base.path(), container, blob)
    }

    /// A request for `path` below the place, already encoded, with these pairs of a query.
    #[must_use]
    pub fn request(&self, method: Method, path: &str, query: &[(&str, &str)]) -> Request {
        let pairs = query.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
        let query: Vec<String> = pairs.chain(self.signature.clone()).collect();
        let mut url = self.base.clone();
        if !path.is_empty() {
            url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        }
        url.set_query((!query.is_empty()).then(|| query.join("&")).as_deref());
        let mut request = Request::new(url, method);
        header(&mut request, "x-ms-version", VERSION);
        request
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&self, request: Request) -> Result<Answer, Unanswered> {
        self.client.send(request).await
    }
}

/// Adds a header.
pub fn header(request: &mut Request, name: &'static str, value: &str) {
    request.insert_header(HeaderName::from_static(name), HeaderValue::from(value.to_owned()));
}

/// A text as part of a path or a query (RFC 3986, section 2.3): everything but unreserved characters by its number.
#[must_use]
pub fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

/// Whether a path ends with this container and this blob.
fn names(path: &str, container: &str, blob: &str) -> bool {
    let parts: Vec<String> = path.split('/').map(|part| encoded(&decoded(part))).collect();
    let name = blob.split('/').map(encoded).collect::<Vec<_>>().join("/");
    !container.is_empty() && parts.join("/").ends_with(&format!("/{}/{name}", encoded(container)))
}

/// The text behind a part of a path.
fn decoded(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let number =
            after.get(..2).filter(|_| first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match number.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Azure's word for what is wrong.
#[must_use]
pub fn error_code(answer: &Answer) -> String {
    #[derive(Deserialize)]
    struct Envelope {
        #[serde(rename = "odata.error")]
        error: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        code: String,
    }
    let header = answer.header("x-ms-error-code").map(str::to_owned);
    let body = || Some(serde_json::from_slice::<Envelope>(&answer.body).ok()?.error.code);
    header.or_else(body).unwrap_or_default()
}

/// What is wrong, in words for people.
#[must_use]
pub fn words(answer: &Answer) -> String {
    let code = error_code(answer);
    let advice = match answer.status {
        403 => {
            "; give the daemon's identity its role on the storage account, which can take some minutes to count"
        }
        404 if code == "ResourceNotFound" || code == "ContainerNotFound" => "; it does not exist",
        _ => "",
    };
    let request = answer.request_id().unwrap_or("without an id");
    format!("HTTP status {} {code} (request {request}){advice}", answer.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_can_end_the_part_that_it_stands_in() {
        assert_eq!(encoded("a'b/c?d#e%f g&h=ü"), "a%27b%2Fc%3Fd%23e%25f%20g%26h%3D%C3%BC");
    }

    #[test]
    fn a_blob_is_known_by_its_container_and_name_wherever_the_account_is() {
        for path in ["/desired/team%20a/home.yaml", "/account/desired/team a/home.yaml"] {
            assert!(names(path, "desired", "team a/home.yaml"), "{path}");
            for (container, blob) in
                [("desired", "home.yaml"), ("esired", "team a/home.yaml"), ("", ""), ("desired", "team a")]
            {
                assert!(!names(path, container, blob), "{path}: {container}, {blob}");
            }
        }
    }
}
