//! The daemon's HTTP side: health, metrics, and the API that the command line speaks.

mod auth;
mod document;
mod hooks;
mod problem;
mod routes;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tokio::net::TcpListener;

use crate::engine::Handle;
use crate::metrics::{self, Counters};
use crate::secrets::Secrets;
use crate::source::Source;
use crate::store::Store;

pub use auth::AdminKey;
pub use document::{Replaced, Restore, Revisions};
pub use hooks::Hooks;
pub use problem::Problem;
pub use routes::{Approval, Reconciling, Rest};

/// What the handlers share.
#[derive(Clone)]
pub struct App {
    /// The engine.
    pub engine: Handle,
    /// For history.
    pub store: Arc<dyn Store>,
    /// For replacing the document.
    pub source: Arc<dyn Source>,
    /// For client configurations.
    pub secrets: Arc<dyn Secrets>,
    /// For scrapes.
    pub counters: Counters,
    /// Who may bring fetches forward. `None`: nobody.
    pub hooks: Option<Arc<Hooks>>,
    /// Who may do everything.
    pub admin: Arc<AdminKey>,
}

/// The routes.
///
/// `/livez`, `/readyz` and `/metrics` need no key; listen where only the machine itself or the cluster can reach them.
///
/// `/hooks/…` need a signature instead of the key, and `/hooks/eventgrid` the webhook secret, because Event Grid signs nothing.
pub fn router(app: App) -> Router {
    let hooks = Router::new()
        .route("/hooks/github", post(hooks::github))
        .route("/hooks/eventgrid", post(hooks::event_grid).options(hooks::event_grid_validation))
        .route("/hooks/{sender}", post(hooks::generic))
        .layer(DefaultBodyLimit::max(hooks::LONGEST))
        .layer(from_fn_with_state(app.clone(), hooks::limit));
    Router::new()
        .merge(hooks)
        .route("/livez", get(routes::livez))
        .route("/readyz", get(routes::readyz))
        .route("/metrics", get(routes::metrics))
        .route("/metrics/{session}", get(routes::metrics_of_session))
        .route("/api/sessions", get(routes::sessions))
        .route("/api/sessions/{session}", get(routes::session))
        .route("/api/sessions/{session}/runs", get(routes::runs))
        .route("/api/sessions/{session}/start", post(routes::start))
        .route("/api/sessions/{session}/stop", post(routes::stop))
        .route("/api/sessions/{session}/suspend", post(routes::suspend))
        .route("/api/sessions/{session}/resume", post(routes::resume))
        .route("/api/sessions/{session}/detach", post(routes::detach))
        .route("/api/sessions/{session}/adopt", post(routes::adopt))
        .route("/api/sessions/{session}/users/{user}/config", get(routes::config))
        .route("/api/sessions/{session}/users/{user}/connection", get(routes::connection))
        .route("/api/plan", get(routes::plan).post(routes::plan_candidate))
        .route("/api/approve", post(routes::approve))
        .route("/api/reconcile", post(routes::reconcile))
        .route("/api/events", get(routes::events))
        .route("/api/desired-state", get(document::get).put(document::put))
        .route("/api/desired-state/history", get(document::history))
        .route("/api/desired-state/history/{revision}", get(document::revision))
        .route("/api/desired-state/rollback", post(document::rollback))
        .with_state(app)
}

/// Answers probes of a daemon that stands by: it lives and is not ready.
///
/// # Errors
/// When the listener fails.
pub async fn stand_by(listener: TcpListener) -> std::io::Result<()> {
    // Before several daemons stands something that may choose another one the next time.
    let again = [(header::RETRY_AFTER, "1")];
    let waiting = move || async move {
        (StatusCode::SERVICE_UNAVAILABLE, again, "standing by: another daemon leads\n")
    };
    let metrics = || async { ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::standing_by()) };
    let router = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/metrics", get(metrics))
        .fallback(waiting);
    axum::serve(listener, router).await
}

/// Serves until `stop` resolves, then lets the requests in progress end.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    app: App,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let service = router(app).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(stop).await
}
