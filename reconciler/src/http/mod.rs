//! The daemon's HTTP side: health, metrics, and the API that the command line speaks.

mod auth;
mod problem;
mod routes;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use tokio::net::TcpListener;

use crate::engine::Handle;
use crate::metrics::Counters;
use crate::secrets::Secrets;
use crate::store::Store;

pub use auth::AdminKey;
pub use problem::Problem;
pub use routes::Approval;

/// What the handlers share.
#[derive(Clone)]
pub struct App {
    /// The engine.
    pub engine: Handle,
    /// For history.
    pub store: Arc<dyn Store>,
    /// For client configurations.
    pub secrets: Arc<dyn Secrets>,
    /// For scrapes.
    pub counters: Counters,
    /// Who may do everything.
    pub admin: Arc<AdminKey>,
}

/// The routes.
///
/// `/livez`, `/readyz` and `/metrics` need no key; listen where only the machine itself or the cluster can reach them.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/livez", get(routes::livez))
        .route("/readyz", get(routes::readyz))
        .route("/metrics", get(routes::metrics))
        .route("/metrics/{session}", get(routes::metrics_of_session))
        .route("/api/sessions", get(routes::sessions))
        .route("/api/sessions/{session}", get(routes::session))
        .route("/api/sessions/{session}/start", post(routes::start))
        .route("/api/sessions/{session}/stop", post(routes::stop))
        .route("/api/sessions/{session}/users/{user}/config", get(routes::config))
        .route("/api/sessions/{session}/users/{user}/connection", get(routes::connection))
        .route("/api/plan", get(routes::plan).post(routes::plan_candidate))
        .route("/api/approve", post(routes::approve))
        .route("/api/reconcile", post(routes::reconcile))
        .route("/api/events", get(routes::events))
        .with_state(app)
}

/// Answers probes of a daemon that stands by: it lives and is not ready.
///
/// # Errors
/// When the listener fails.
pub async fn stand_by(listener: TcpListener) -> std::io::Result<()> {
    let waiting = || async { (StatusCode::SERVICE_UNAVAILABLE, "standing by: another daemon leads\n") };
    let router = Router::new().route("/livez", get(|| async { "alive\n" })).fallback(waiting);
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
