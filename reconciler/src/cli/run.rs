//! `ebb run`: the daemon.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ebb_wire::PrivateKey;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::args::{Daemon, Run};
use super::{Failure, Outcome};
use crate::engine::{Engine, Parts};
use crate::http::{self, AdminKey, App, Hooks};
use crate::metrics::Counters;
use crate::reporter;
use crate::secrets::SecretName;
use crate::setup;
use crate::telemetry::Links;

/// Requests in progress get this long after SIGTERM; Container Apps waits 30 s before it kills.
const LAST_REQUESTS: Duration = Duration::from_secs(3);

/// Reports that wait for the engine; links wait when it is full.
const NEWS: usize = 256;

pub(super) async fn run(options: Run, daemon: &Daemon) -> Outcome {
    log();
    let state = setup::prepare_state(&daemon.state)?;
    let _lock = setup::lock_state(&state)?;
    let listener = TcpListener::bind(daemon.api).await.map_err(|error| {
        Failure::new(format!("cannot listen on {}: {error}; choose another address with --api", daemon.api))
    })?;
    let settings = &options.settings;
    let secrets = settings.secrets(&state)?;
    let control = secrets.ensure(&SecretName::Control, PrivateKey::from_random(rand::random())).await?;
    let counters = Counters::new();
    let parts = Parts {
        source: settings.source(&state)?,
        provider: settings.provider(&state)?,
        store: settings.store(&state)?,
        secrets: Arc::clone(&secrets),
        lease: Duration::from_secs(options.lease),
        counters: counters.clone(),
    };
    let (store, source) = (Arc::clone(&parts.store), Arc::clone(&parts.source));
    let (news, heard) = mpsc::channel(NEWS);
    let links = Links::new(control, Arc::clone(&parts.provider), news);
    let (engine, handle) = Engine::open(parts, links, heard).await?;
    let reporting = tokio::spawn(reporter::run(handle.clone(), Arc::clone(&source)));
    let admin = Arc::new(AdminKey::open(&state.join("admin.key"))?);
    let hooks = options.webhook_secret_file.as_deref().map(open_hooks).transpose()?.map(Arc::new);
    let app = App { engine: handle, store, source, secrets, counters, hooks, admin };
    tracing::info!(
        "Ebb {} runs; document {}, state {}, API http://{}",
        env!("CARGO_PKG_VERSION"),
        settings.document,
        state.display(),
        daemon.api
    );

    let (stop, stopped) = watch::channel(());
    let serving = tokio::spawn(http::serve(listener, app, closed(stopped.clone())));
    let reconciling = tokio::spawn(engine.run(closed(stopped)));
    let name = ending_signal().await?;
    tracing::info!("{name}: finishing what is under way; gateways go on");
    drop(stop);
    reconciling.await?;
    // What it has not told by now it tells after the next start.
    reporting.abort();
    if let Ok(served) = tokio::time::timeout(LAST_REQUESTS, serving).await {
        served??;
    }
    Ok(ExitCode::SUCCESS)
}

fn open_hooks(secret: &Path) -> Result<Hooks, Failure> {
    Hooks::open(secret).map_err(|error| Failure::new(format!("cannot use {}: {error}", secret.display())))
}

/// Resolves when the sender is gone.
async fn closed(mut stop: watch::Receiver<()>) {
    while stop.changed().await.is_ok() {}
}

/// Resolves when somebody wants this process to end.
pub(super) async fn ending_signal() -> io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

fn log() {
    let filter = std::env::var("EBB_LOG").unwrap_or_else(|_| "info".to_owned());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false).init();
}
