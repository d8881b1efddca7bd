//! One blob of a storage account that keeps versions, on a port of this machine.
//!
//! Azurite keeps none: it answers without `x-ms-version-id`. This imitation does what Microsoft documents of Get Blob and Put
//! Blob as far as a document needs it: `ETag`, conditions, a new version with every write, and refusals when it is told to.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};

use crate::serve::serve;

/// Where the blob is in its account.
pub const CONTAINER: &str = "desired-state";
/// Its name.
pub const NAME: &str = "home.yaml";

/// The account.
#[derive(Clone)]
pub struct FakeBlob {
    address: SocketAddr,
    state: Arc<Mutex<Account>>,
}

#[derive(Default)]
struct Account {
    versions: Vec<Version>,
    refusal: Option<(StatusCode, Option<u64>)>,
    asked: usize,
}

#[derive(Clone)]
struct Version {
    id: String,
    etag: String,
    text: Vec<u8>,
}

impl FakeBlob {
    /// Serves it for as long as the process lives; a test's world ends with it.
    ///
    /// # Panics
    /// When the listener is not bound.
    #[must_use]
    pub fn start(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("it is bound");
        let fake = Self { address, state: Arc::default() };
        serve(listener, Router::new().fallback(answer).with_state(fake.clone()));
        fake
    }

    /// The blob's address, with something that looks like a signature.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/account/{CONTAINER}/{NAME}?sv=2021-10-04&sig=of-the-fake", self.address)
    }

    /// Writes a version from elsewhere; returns its id.
    pub fn write(&self, text: &str) -> String {
        self.lock().write(text.as_bytes())
    }

    /// The ids of all versions, the newest last.
    #[must_use]
    pub fn versions(&self) -> Vec<String> {
        self.lock().versions.iter().map(|version| version.id.clone()).collect()
    }

    /// What is there.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let state = self.lock();
        state.versions.last().map(|version| String::from_utf8_lossy(&version.text).into_owned())
    }

    /// Answers everything with this status from now on, and with `Retry-After` if seconds are given; `None` works again.
    ///
    /// # Panics
    /// When it is no status of HTTP.
    pub fn refuse(&self, refusal: Option<(u16, Option<u64>)>) {
        self.lock().refusal =
            refusal.map(|(status, seconds)| (StatusCode::from_u16(status).expect("it is a status"), seconds));
    }

    /// Requests so far.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.lock().asked
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    fn write(&mut self, text: &[u8]) -> String {
        let number = self.versions.len() + 1;
        let id = format!("2026-11-20T08:00:{number:02}.1234567Z");
        self.versions.push(Version {
            id: id.clone(),
            etag: format!("\"0x8DD{number:012X}\""),
            text: text.to_vec(),
        });
        id
    }
}

async fn answer(
    State(fake): State<FakeBlob>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let state = &mut *fake.lock();
    state.asked += 1;
    if let Some((status, seconds)) = state.refusal {
        let more = seconds.map(|seconds| ("retry-after", seconds.to_string()));
        return response(status, more.as_slice(), &[]);
    }
    let signed = uri.query().is_some_and(|query| query.contains("sig=of-the-fake"));
    if !signed || header("x-ms-version").is_none_or(|version| version < "2019-12-12") {
        return refused(StatusCode::FORBIDDEN, "AuthenticationFailed");
    }
    if uri.path() != format!("/account/{CONTAINER}/{NAME}") {
        return refused(StatusCode::NOT_FOUND, "BlobNotFound");
    }
    let newest = state.versions.last().cloned();
    let etag = newest.as_ref().map(|version| version.etag.as_str());
    match (method, newest.clone()) {
        (Method::GET, None) => refused(StatusCode::NOT_FOUND, "BlobNotFound"),
        (Method::GET, Some(version)) if header("if-none-match") == Some(&version.etag) => {
            response(StatusCode::NOT_MODIFIED, &told(&version), &[])
        }
        (Method::GET, Some(version)) => response(StatusCode::OK, &told(&version), &version.text),
        (Method::PUT, _) if header("x-ms-blob-type") != Some("BlockBlob") => {
            refused(StatusCode::BAD_REQUEST, "MissingRequiredHeader")
        }
        (Method::PUT, _) if header("if-match").is_some_and(|wanted| Some(wanted) != etag) => {
            refused(StatusCode::PRECONDITION_FAILED, "ConditionNotMet")
        }
        (Method::PUT, _) => {
            state.write(&body);
            let version = state.versions.last().expect("it was written").clone();
            response(StatusCode::CREATED, &told(&version), &[])
        }
        _ => refused(StatusCode::METHOD_NOT_ALLOWED, "UnsupportedHttpVerb"),
    }
}

fn told(version: &Version) -> [(&'static str, String); 3] {
    [
        ("etag", version.etag.clone()),
        ("x-ms-version-id", version.id.clone()),
        ("last-modified", "Fri, 20 Nov 2026 08:00:00 GMT".to_owned()),
    ]
}

fn refused(status: StatusCode, code: &str) -> Response<Body> {
    response(status, &[("x-ms-error-code", code.to_owned())], &[])
}

fn response(status: StatusCode, headers: &[(&'static str, String)], body: &[u8]) -> Response<Body> {
    let mut response = Response::builder().status(status).header("x-ms-request-id", "of-the-fake");
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    response.body(Body::from(body.to_vec())).expect("a response")
}
