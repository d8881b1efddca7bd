//! Webhooks: somebody says that the document has changed.
//!
//! A delivery is a hint and nothing else. What it says is not read: it only brings the next fetch forward, and the fetch decides.

mod event_grid;
mod guard;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path as FilePath;
use std::sync::{Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use zeroize::Zeroizing;

use self::guard::{Accepted, Guard, Refused};
use super::{App, Problem};
use crate::clock;

pub(super) use self::event_grid::{deliver as event_grid, validate as event_grid_validation};

/// Bytes of a delivery that are read.
pub(super) const LONGEST: usize = 5_000_000;

/// Shorter secrets can be guessed from one delivery.
const SHORTEST_SECRET: usize = 16;

/// Who may send deliveries, and what they have sent.
pub struct Hooks {
    guard: Mutex<Guard>,
}

impl Hooks {
    /// Reads the secret that senders sign with.
    ///
    /// # Errors
    /// When the file cannot be read or holds fewer than 16 bytes.
    pub fn open(secret: &FilePath) -> io::Result<Self> {
        let text = Zeroizing::new(fs::read(secret)?);
        let trimmed = Zeroizing::new(text.trim_ascii_end().to_vec());
        if trimmed.len() < SHORTEST_SECRET {
            let why = format!(
                "a webhook secret has at least {SHORTEST_SECRET} characters; `openssl rand -hex 32` makes one"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(Self { guard: Mutex::new(Guard::new(trimmed)) })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Guard) -> T) -> T {
        work(&mut self.guard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Refuses senders that are too fast, before anything of what they send is read.
pub(super) async fn limit(
    State(app): State<App>,
    ConnectInfo(sender): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let admitted = hooks(&app)?.with(|guard| guard.admit(sender.ip(), clock::monotonic()));
    admitted.map_err(|wait| {
        count(&app, "limited");
        let text = "too many deliveries; the document is looked at soon all the same";
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", text).retry_after(wait.as_secs())
    })?;
    Ok(next.run(request).await)
}

/// A delivery of GitHub, <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>.
pub(super) async fn github(
    State(app): State<App>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Problem> {
    let body = body.map_err(|error| too_large(&app, &error))?;
    let judged = hooks(&app)?.with(|guard| guard.judge(text(&headers, "x-hub-signature-256"), &body));
    let accepted = judged.map_err(|refused| unsigned(&app, refused, "X-Hub-Signature-256"))?;
    // Of all that GitHub tells, only this can mean a new version. A ping asks whether the secret is right.
    let is_push = text(&headers, "x-github-event").is_none_or(|event| event == "push");
    take(&app, accepted, is_push).await
}

/// A delivery of anybody else: `X-Ebb-Signature: sha256=…` over `X-Ebb-Timestamp` (seconds since the epoch), a full stop, and
/// the body.
pub(super) async fn generic(
    State(app): State<App>,
    Path(_sender): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Problem> {
    let body = body.map_err(|error| too_large(&app, &error))?;
    let signature = text(&headers, "x-ebb-signature");
    let timestamp = text(&headers, "x-ebb-timestamp").unwrap_or_default();
    let judged = hooks(&app)?.with(|guard| guard.judge_timed(signature, timestamp, &body, clock::now()));
    let accepted = judged.map_err(|refused| unsigned(&app, refused, "X-Ebb-Signature"))?;
    take(&app, accepted, true).await
}

async fn take(app: &App, accepted: Accepted, is_news: bool) -> Result<StatusCode, Problem> {
    match accepted {
        Accepted::New if is_news => {
            count(app, "accepted");
            app.engine.hint().await;
        }
        Accepted::New => count(app, "ignored"),
        Accepted::Repeated => count(app, "repeated"),
    }
    Ok(StatusCode::ACCEPTED)
}

fn hooks(app: &App) -> Result<&Hooks, Problem> {
    app.hooks.as_deref().ok_or_else(|| {
        Problem::not_found("webhooks need a secret; start the daemon with --webhook-secret-file")
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn too_large(app: &App, error: &BytesRejection) -> Problem {
    count(app, "refused");
    Problem::new(error.status(), "TOO_LARGE", format!("a delivery has at most {LONGEST} bytes: {error}"))
}

fn unsigned(app: &App, refused: Refused, header: &str) -> Problem {
    count(app, "refused");
    let text = match refused {
        Refused::NoSignature => {
            format!("the header {header} is missing, or is not sha256= and 64 hexadecimal digits")
        }
        Refused::WrongSignature => {
            format!(
                "{header} was not made with this daemon's webhook secret, or the delivery was changed on its way"
            )
        }
        Refused::OutOfTime => "X-Ebb-Timestamp is more than five minutes from this daemon's clock".to_owned(),
    };
    tracing::warn!("webhook refused: {text}");
    Problem::new(StatusCode::UNAUTHORIZED, "BAD_SIGNATURE", text)
}

fn count(app: &App, result: &str) {
    app.counters.deliveries.with_label_values(&[result]).inc();
}
