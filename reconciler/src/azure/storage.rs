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
}
