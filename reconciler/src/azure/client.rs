//! Sending one request.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::TokenCredential;
use azure_core::error::ErrorKind;
use azure_core::http::headers::AUTHORIZATION;
use azure_core::http::headers::{HeaderName, Headers};
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{
    ClientOptions, Context, Pipeline, PipelineSendOptions, Request, RetryOptions, Transport,
};
use ebb_core::outcome::{Class, Failure};
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use crate::clock;

/// A token and an answer together take no longer than this. It is more than an answer alone may take, because a metadata service
/// that has just started is asked several times for the first token.
const ALL_WITHIN: Duration = Duration::from_secs(100);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-ms-correlation-request-id");
const RETRY_AFTER: HeaderName = HeaderName::from_static("retry-after");

/// Sends requests to one service. Clones share connections and tokens.
#[derive(Debug, Clone)]
pub struct Client {
    pipeline: Pipeline,
}

/// An answer, whatever it says.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: Headers,
    /// Body.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The request was not sent.
    #[error("cannot connect to {host}: {why}")]
    NotSent {
        /// Where it was to go.
        host: String,
        /// Why it did not.
        why: String,
    },
    /// The request may have been carried out; nobody knows.
    #[error("no answer from {host}, so nobody knows whether it was done: {why}")]
    Lost {
        /// Where it went.
        host: String,
        /// What happened instead of an answer.
        why: String,
    },
    /// No token, so nothing was sent.
    #[error(
        "no token for {host}: {why}. Check EBB_AZURE_CREDENTIAL and EBB_AZURE_CLIENT_ID, and that the identity is assigned; \
         on a person's machine `az account show` says who is logged in"
    )]
    NoToken {
        /// Where it was to go.
        host: String,
        /// Why there is none.
        why: String,
        /// Whether waiting may help.
        passing: bool,
    },
}

impl From<Unanswered> for Failure {
    fn from(error: Unanswered) -> Self {
        let class = match &error {
            Unanswered::NotSent { .. }
            | Unanswered::Lost { .. }
            | Unanswered::NoToken { passing: true, .. } => Class::Transient,
            Unanswered::NoToken { passing: false, .. } => Class::Stalled,
        };
        Self::new(class, error.to_string())
    }
}

impl Client {
    pub(super) fn new(transport: Transport, authorize: Option<Arc<dyn Policy>>) -> Self {
        let options = ClientOptions {
            transport: Some(transport),
            // Whoever sends a request knows whether it may be sent again.
            retry: RetryOptions::none(),
            ..ClientOptions::default()
        };
        let (name, version) = (option_env!("CARGO_PKG_NAME"), option_env!("CARGO_PKG_VERSION"));
        let authorize = authorize.into_iter().collect();
        Self { pipeline: Pipeline::new(name, version, options, Vec::new(), authorize, None) }
    }

    /// Sends a request once.
    ///
    /// # Errors
    /// When there is no answer. An answer that says no is an answer.
    pub async fn send(&self, mut request: Request) -> Result<Answer, Unanswered> {
        let began = clock::monotonic();
        let host = request.url().host_str().unwrap_or_default().to_owned();
        let (method, path) = (request.method(), request.url().path().to_owned());
        let context = Context::new();
        let unchecked = PipelineSendOptions { skip_checks: true, ..PipelineSendOptions::default() };
        let sending = self.pipeline.send(&context, &mut request, Some(unchecked));
        let response = match tokio::time::timeout(ALL_WITHIN, sending).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(unanswered(host, &error)),
            Err(_) => {
                let why = format!("{} s have passed", ALL_WITHIN.as_secs());
                return Err(Unanswered::Lost { host, why });
            }
        };
        let (status, headers, body) = response.deconstruct();
        let answer = Answer { status: status.into(), headers, body: body.to_vec() };
        tracing::debug!(
            %method,
            path,
            status = answer.status,
            request_id = answer.request_id(),
            milliseconds = u64::try_from(clock::monotonic().since(began).as_millis()).unwrap_or(u64::MAX),
            "asked Azure"
        );
        Ok(answer)
    }
}

/// Puts a token of Microsoft Entra on every request. The SDK's own policy refuses http even where the service is a program on the
/// same machine; addresses are checked when they are read (see [`super::address`]). Credentials keep their tokens themselves.
#[derive(Debug)]
pub(super) struct Bearer {
    pub(super) credential: Arc<dyn TokenCredential>,
    pub(super) scope: String,
}

#[async_trait]
#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's signature, which an explicit lifetime would not match"
)]
impl Policy for Bearer {
    async fn send(&self, context: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        let token = self.credential.get_token(&[&self.scope], None).await?;
        request.insert_header(AUTHORIZATION, format!("Bearer {}", token.token.secret()));
        let Some((first, rest)) = next.split_first() else {
            return Err(azure_core::Error::with_message(ErrorKind::Other, "a policy has nowhere to send to"));
        };
        first.send(context, request, rest).await
    }
}

fn unanswered(host: String, error: &azure_core::Error) -> Unanswered {
    let why = with_causes(error);
    match error.kind() {
        ErrorKind::Connection => Unanswered::NotSent { host, why },
        ErrorKind::Credential => {
            let passing = match status_of(error) {
                // The metadata service, Entra: "no" for good, or "not now".
                Some(status) => status == 429 || status >= 500,
                // Developer tools say in words what they have against it; a file or an endpoint can be late.
                None => false,
            };
            Unanswered::NoToken { host, why, passing }
        }
        ErrorKind::HttpResponse { .. } | ErrorKind::Io | ErrorKind::DataConversion | ErrorKind::Other => {
            Unanswered::Lost { host, why }
        }
    }
}

/// The status with which whoever gives out tokens refused one.
fn status_of(error: &azure_core::Error) -> Option<u16> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(status) =
            error.downcast_ref::<azure_core::Error>().and_then(azure_core::Error::http_status)
        {
            return Some(status.into());
        }
        cause = error.source();
    }
    None
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = told(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = told(error);
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// An error without the address of the request, which can hold a signature.
fn told(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    match text.split_once(" for url (") {
        Some((before, rest)) => format!("{before}{}", rest.split_once(')').map_or("", |(_, after)| after)),
        None => text,
    }
}

impl Answer {
    /// Whether it says yes.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &'static str) -> Option<&str> {
        self.headers.get_optional_str(&HeaderName::from_static(name))
    }

    /// What Azure's support asks for.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        let id = self.headers.get_optional_str(&REQUEST_ID);
        id.or_else(|| self.headers.get_optional_str(&CORRELATION_ID))
    }

    /// How long to wait before asking again, if the answer says so: seconds or a date (RFC 9110, section 10.2.3).
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get_optional_str(&RETRY_AFTER)?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let at = azure_core::time::parse_rfc7231(text).ok()?;
        let at = Timestamp::from_second(at.unix_timestamp()).ok()?;
        Some(Duration::try_from(at.duration_since(clock::now())).unwrap_or_default())
    }

    /// The body as JSON of the given form.
    ///
    /// # Errors
    /// When it is something else.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let message = format!(
                "Azure answered {} with a body that cannot be read ({error}); request {}",
                self.status,
                self.request_id().unwrap_or("without an id")
            );
            Failure::new(Class::Transient, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(retry_after: &str) -> Answer {
        let mut headers = Headers::new();
        headers.insert("retry-after", retry_after.to_owned());
        Answer { status: 429, headers, body: Vec::new() }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(answer("17").retry_after(), Some(Duration::from_secs(17)));
        assert_eq!(answer("Fri, 20 Nov 2015 08:00:00 GMT").retry_after(), Some(Duration::ZERO));
        let wait = answer("Sat, 20 Nov 2100 08:00:00 GMT").retry_after();
        assert!(wait.is_some_and(|wait| wait > Duration::from_hours(24)));
        assert_eq!(answer("soon").retry_after(), None);
    }

    #[test]
    fn an_answer_that_never_came_may_have_been_carried_out() {
        let lost = unanswered("h".into(), &azure_core::Error::with_message(ErrorKind::Io, "reset by peer"));
        assert_eq!(Failure::from(lost.clone()).class, Class::Transient);
        assert!(lost.to_string().contains("nobody knows"), "{lost}");
        let refused =
            unanswered("h".into(), &azure_core::Error::with_message(ErrorKind::Connection, "refused"));
        assert!(matches!(refused, Unanswered::NotSent { .. }));
    }

    #[test]
    fn a_missing_token_stalls_unless_its_source_is_only_busy() {
        let credential = |status| {
            let kind = ErrorKind::HttpResponse { status, error_code: None, raw_response: None };
            let inner = azure_core::Error::with_message(kind, "no");
            azure_core::Error::with_error(ErrorKind::Credential, inner, "ManagedIdentityCredential")
        };
        let class = |error| Failure::from(unanswered("h".into(), &error)).class;
        use azure_core::http::StatusCode;
        assert_eq!(class(credential(StatusCode::BadRequest)), Class::Stalled);
        assert_eq!(class(credential(StatusCode::ServiceUnavailable)), Class::Transient);
    }
}
