//! HTTP around the service.

use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use http_body::Frame;
use serde_json::Value;

use super::Shared;
use super::calls::{Call, Fault, Kind};
use super::routes;

/// A request as the service sees it.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

/// An answer of the service.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Option<Value>,
}

impl Answer {
    pub(super) fn new(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body: Some(body) }
    }

    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: None }
    }

    pub(super) fn error(status: u16, code: &str, message: impl Into<String>) -> Self {
        let message: String = message.into();
        Self::new(status, serde_json::json!({ "error": { "code": code, "message": message } }))
    }

    pub(super) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

impl Asked {
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Serves for as long as the process lives.
pub(super) fn serve(listener: TcpListener, shared: Shared) {
    crate::serve::serve(listener, Router::new().fallback(answer).with_state(shared));
}

async fn answer(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let query = uri.query().unwrap_or_default();
    let asked = Asked {
        method,
        path: uri.path().to_owned(),
        query: query.split('&').filter_map(pair).collect(),
        headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let (kind, name) = routes::kind(&asked);
    let (answer, lost, then, first) = {
        let state = &mut *shared.lock();
        let ahead = state.behaviour.ahead;
        let fault = state.calls.next_fault(kind);
        let answer = match &fault {
            Some(Fault::Refuse { status, code, retry_after }) => {
                let answer = Answer::error(*status, code, "as the test wants it");
                retry_after.iter().fold(answer, |answer, seconds| answer.with("retry-after", seconds))
            }
            Some(Fault::LoseRequest) => Answer::empty(0),
            Some(Fault::LoseAnswer | Fault::None) | None => routes::answer(state, kind, &asked),
        };
        let answer = if ahead == 0 { answer } else { answer.with("date", date(ahead)) };
        let lost = matches!(fault, Some(Fault::LoseRequest | Fault::LoseAnswer));
        let then = state.calls.made(Call { kind, name, status: answer.status });
        (answer, lost, then, state.calls.take_before_answer(kind))
    };
    first.into_iter().for_each(|first| first());
    if let Some(then) = then {
        then();
        return broken();
    }
    if lost {
        return broken();
    }
    into_response(answer, kind)
}

/// What a clock shows that is this many seconds ahead (RFC 9110, section 5.6.7).
#[expect(clippy::disallowed_methods, reason = "a service has a clock")]
fn date(ahead: i64) -> String {
    let shown = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(ahead);
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    printer.timestamp_to_rfc9110_string(&shown).expect("a time of our days")
}

fn pair(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=')?;
    Some((key.replace("%24", "$"), value.to_owned()))
}

fn into_response(answer: Answer, kind: Kind) -> Response<Body> {
    let mut response = Response::builder().status(StatusCode::from_u16(answer.status).expect("a status"));
    for (name, value) in &answer.headers {
        response = response.header(*name, value);
    }
    response = response.header("x-ms-request-id", format!("{kind:?}"));
    let body = answer.body.map(|body| body.to_string());
    if body.is_some() {
        response = response.header("content-type", "application/json; charset=utf-8");
    }
    response.body(body.map_or_else(Body::empty, Body::from)).expect("a response")
}

/// The connection ends where an answer should be.
fn broken() -> Response<Body> {
    Response::new(Body::new(Broken))
}

struct Broken;

impl HttpBody for Broken {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(Some(Err(io::Error::other("the connection breaks"))))
    }
}
