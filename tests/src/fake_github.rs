//! GitHub's commit statuses, on a port of this machine, as <https://docs.github.com/en/rest/commits/statuses> has them.

use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::serve::serve;

/// Who may set statuses.
pub const TOKEN: &str = crate::e2e::repository::TOKEN;

/// The service, for the repository `acme/vpn`.
#[derive(Clone, Default)]
pub struct FakeGithub {
    state: Arc<Mutex<Service>>,
}

#[derive(Default)]
struct Service {
    is_down: bool,
    set: Vec<(String, Value)>,
    refused: usize,
}

impl FakeGithub {
    /// Serves it for as long as the process lives; a test's world ends with it.
    ///
    /// # Panics
    /// When the listener is not bound.
    #[must_use]
    pub fn start(listener: TcpListener) -> Self {
        let fake = Self::default();
        let router = Router::new()
            .route("/repos/{owner}/{repository}/statuses/{sha}", post(set))
            .with_state(fake.clone());
        serve(listener, router);
        fake
    }

    /// The statuses of a commit, the newest last.
    #[must_use]
    pub fn statuses(&self, sha: &str) -> Vec<Value> {
        let state = self.lock();
        state.set.iter().filter(|(of, _)| of == sha).map(|(_, status)| status.clone()).collect()
    }

    /// Requests that were refused.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.lock().refused
    }

    /// Answers 503 from now on.
    pub fn go_down(&self) {
        self.lock().is_down = true;
    }

    fn lock(&self) -> MutexGuard<'_, Service> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn set(
    State(fake): State<FakeGithub>,
    Path((owner, repository, sha)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, Json<Value>) {
    let mut state = fake.lock();
    match judge(&state, (&owner, &repository), &sha, &headers, &body) {
        Ok(status) => {
            state.set.push((sha, status.clone()));
            (StatusCode::CREATED, Json(status))
        }
        Err((code, message)) => {
            state.refused += 1;
            let page = "https://docs.github.com/rest/commits/statuses#create-a-commit-status";
            let body = json!({ "message": message, "documentation_url": page, "status": code.to_string() });
            (StatusCode::from_u16(code).expect("it is a status"), Json(body))
        }
    }
}

fn judge(
    state: &Service,
    repository: (&str, &str),
    sha: &str,
    headers: &HeaderMap,
    body: &str,
) -> Result<Value, (u16, String)> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if state.is_down {
        return Err((503, "Service unavailable".to_owned()));
    }
    if header("user-agent").is_empty() {
        return Err((403, "Request forbidden by administrative rules.".to_owned()));
    }
    if header("authorization") != format!("Bearer {TOKEN}") {
        return Err((401, "Bad credentials".to_owned()));
    }
    if repository != ("acme", "vpn") {
        return Err((404, "Not Found".to_owned()));
    }
    if header("accept") != "application/vnd.github+json" || header("x-github-api-version") != "2022-11-28" {
        return Err((400, "not as the documentation wants it".to_owned()));
    }
    let invalid = |what: &str| (422, format!("Validation Failed: {what}"));
    if sha.len() != 40 {
        return Err(invalid(&format!("No commit found for SHA: {sha}")));
    }
    let status: Value = serde_json::from_str(body).map_err(|_| (400, "Problems parsing JSON".to_owned()))?;
    let text = |name: &str| status[name].as_str();
    if !text("state").is_some_and(|state| ["error", "failure", "pending", "success"].contains(&state)) {
        return Err(invalid("state"));
    }
    if text("description").is_some_and(|description| description.chars().count() > 140) {
        return Err(invalid("description is too long (maximum is 140 characters)"));
    }
    if text("target_url").is_some_and(|url| !url.starts_with("https://") && !url.starts_with("http://")) {
        return Err(invalid("target_url must use http(s) scheme"));
    }
    Ok(status)
}
