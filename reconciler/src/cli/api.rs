//! Talking to the daemon.

use std::fs;
use std::io;
use std::net::SocketAddr;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::args::Daemon;

/// The daemon's API.
pub(super) struct Api {
    address: SocketAddr,
    key: Zeroizing<String>,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// Why the daemon did not answer as hoped.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// Nobody listens.
    #[error("no daemon answers at {address}; start one with `ebb run`, or name another with --api")]
    NoDaemon {
        /// Where nobody listens.
        address: SocketAddr,
    },
    /// The key cannot be had.
    #[error(
        "cannot read the key for the daemon's API from {path}: {error}; run this as the user who runs the daemon, or name \
         its state directory with --state"
    )]
    NoKey {
        /// Where it should be.
        path: String,
        /// Why not.
        error: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {path}: {error}")]
    NoFile {
        /// Which.
        path: String,
        /// Why not.
        error: io::Error,
    },
    /// The daemon said no.
    #[error("{message}")]
    Refused {
        /// With which status.
        status: StatusCode,
        /// In which words.
        message: String,
    },
    /// The answer cannot be understood.
    #[error("cannot understand the answer of {address}: {why}; are daemon and command line of one version?")]
    Strange {
        /// Who answered.
        address: SocketAddr,
        /// What is strange.
        why: String,
    },
}

impl ApiError {
    /// The daemon could not make sense of a document.
    pub(super) fn is_invalid_document(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::UNPROCESSABLE_ENTITY)
    }
}

impl Api {
    pub(super) fn open(daemon: &Daemon) -> Result<Self, ApiError> {
        let path = daemon.state.join("admin.key");
        let key = fs::read_to_string(&path).map_err(|error| match error.kind() {
            // Without a key there was never a daemon here.
            io::ErrorKind::NotFound => ApiError::NoDaemon { address: daemon.api },
            _ => ApiError::NoKey { path: path.display().to_string(), error },
        })?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self { address: daemon.api, key: Zeroizing::new(key.trim().to_owned()), client })
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let body = self.call(Method::GET, path, "", Vec::new()).await?;
        serde_json::from_slice(&body).map_err(|error| self.strange(error))
    }

    pub(super) async fn text(&self, path: &str) -> Result<Zeroizing<String>, ApiError> {
        let body = self.call(Method::GET, path, "", Vec::new()).await?;
        String::from_utf8(body.to_vec()).map(Zeroizing::new).map_err(|error| self.strange(error))
    }

    pub(super) async fn post(&self, path: &str, json: &impl serde::Serialize) -> Result<(), ApiError> {
        let body = serde_json::to_vec(json).map_err(|error| self.strange(error))?;
        self.call(Method::POST, path, "application/json", body).await.map(drop)
    }

    pub(super) async fn post_text<T: DeserializeOwned>(
        &self,
        path: &str,
        text: String,
    ) -> Result<T, ApiError> {
        let body = self.call(Method::POST, path, "application/yaml", text.into_bytes()).await?;
        serde_json::from_slice(&body).map_err(|error| self.strange(error))
    }

    /// Posts JSON and reads JSON.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        json: &impl serde::Serialize,
    ) -> Result<T, ApiError> {
        let body = serde_json::to_vec(json).map_err(|error| self.strange(error))?;
        let body = self.call(Method::POST, path, "application/json", body).await?;
        serde_json::from_slice(&body).map_err(|error| self.strange(error))
    }

    /// Gets a text and its `ETag`.
    pub(super) async fn get_tagged(&self, path: &str) -> Result<(String, String), ApiError> {
        let (headers, body) = self.exchange(Method::GET, path, &[], Vec::new()).await?;
        let text = String::from_utf8(body.to_vec()).map_err(|error| self.strange(error))?;
        let tag = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
        let tag = tag.ok_or_else(|| self.strange("there is no ETag"))?.to_owned();
        Ok((text, tag))
    }

    /// Replaces what has this `ETag`.
    pub(super) async fn put_tagged<T: DeserializeOwned>(
        &self,
        path: &str,
        tag: &str,
        text: String,
    ) -> Result<T, ApiError> {
        let headers = [(header::IF_MATCH, tag), (header::CONTENT_TYPE, "application/yaml")];
        let (_, body) = self.exchange(Method::PUT, path, &headers, text.into_bytes()).await?;
        serde_json::from_slice(&body).map_err(|error| self.strange(error))
    }

    async fn call(&self, method: Method, path: &str, media: &str, body: Vec<u8>) -> Result<Bytes, ApiError> {
        let headers = [(header::CONTENT_TYPE, media)];
        self.exchange(method, path, &headers, body).await.map(|(_, body)| body)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: &[(header::HeaderName, &str)],
        body: Vec<u8>,
    ) -> Result<(HeaderMap, Bytes), ApiError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header("X-API-Key", self.key.as_str());
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| self.strange(error))?;
        let response = self.client.request(request).await.map_err(|error| {
            if error.is_connect() {
                ApiError::NoDaemon { address: self.address }
            } else {
                self.strange(chain(&error))
            }
        })?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.into_body().collect().await.map_err(|error| self.strange(error))?.to_bytes();
        if status.is_success() {
            return Ok((headers, body));
        }
        #[derive(Deserialize)]
        struct Problem {
            error: String,
        }
        let message = serde_json::from_slice(&body).map_or_else(
            |_| String::from_utf8_lossy(&body).trim().to_owned(),
            |problem: Problem| problem.error,
        );
        Err(ApiError::Refused { status, message })
    }

    fn strange(&self, why: impl ToString) -> ApiError {
        ApiError::Strange { address: self.address, why: why.to_string() }
    }
}

/// The error and its causes: hyper's own text names only the layer that failed.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
