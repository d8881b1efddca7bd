//! `ebb run`: the daemon.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
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
use crate::http::{self, AdminKey, App};
use crate::metrics::Counters;
use crate::provider::{LocalProvider, LocalSettings};
use crate::secrets::{FileSecrets, SecretName, Secrets};
use crate::source::FileSource;
use crate::store::RedbStore;
use crate::telemetry::Links;

/// Requests in progress get this long after SIGTERM; Container Apps waits 30 s before it kills.
const LAST_REQUESTS: Duration = Duration::from_secs(3);

/// Reports that wait for the engine; links wait when it is full.
const NEWS: usize = 256;

pub(super) async fn run(options: Run, daemon: &Daemon) -> Outcome {
    log();
    let state = prepare_state(&daemon.state)?;
    let _lock = lock(&state)?;
    let listener = TcpListener::bind(daemon.api).await.map_err(|error| {
        Failure::new(format!("cannot listen on {}: {error}; choose another address with --api", daemon.api))
    })?;
    let secrets: Arc<dyn Secrets> = Arc::new(FileSecrets::open(&state.join("secrets"))?);
    let control = secrets.ensure(&SecretName::Control, PrivateKey::from_random(rand::random())).await?;
    let counters = Counters::new();
    let parts = Parts {
        source: Arc::new(FileSource::open(&options.document)?),
        provider: Arc::new(LocalProvider::open(local_settings(&options, &state))?),
        store: Arc::new(RedbStore::open(&state.join("store.redb"))?),
        secrets: Arc::clone(&secrets),
        lease: Duration::from_secs(options.lease),
        counters: counters.clone(),
    };
    let store = Arc::clone(&parts.store);
    let (news, heard) = mpsc::channel(NEWS);
    let (engine, handle) = Engine::open(parts, Links::new(control, news), heard).await?;
    let app = App {
        engine: handle,
        store,
        secrets,
        counters,
        admin: Arc::new(AdminKey::open(&state.join("admin.key"))?),
    };
    tracing::info!(
        "Ebb {} runs; document {}, state {}, API http://{}",
        env!("CARGO_PKG_VERSION"),
        options.document.display(),
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
    if let Ok(served) = tokio::time::timeout(LAST_REQUESTS, serving).await {
        served??;
    }
    Ok(ExitCode::SUCCESS)
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

fn prepare_state(directory: &Path) -> Result<std::path::PathBuf, Failure> {
    let error =
        |error| Failure::new(format!("cannot use the state directory {}: {error}", directory.display()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(error)?;
    directory.canonicalize().map_err(error)
}

/// One daemon for each state directory. The kernel gives the lock back however this process ends.
fn lock(state: &Path) -> Result<File, Failure> {
    let path = state.join("lock");
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            return Err(Failure::new(format!(
                "another daemon (process {}) works on {}; stop it first, or name another directory with --state",
                holder.trim(),
                state.display()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

fn local_settings(options: &Run, state: &Path) -> LocalSettings {
    // The executable by this name is the running one even after the file was replaced by a newer build.
    let program = match &options.gateway {
        Some(program) => vec![program.clone().into_os_string()],
        None => vec!["/proc/self/exe".into(), "gateway".into()],
    };
    LocalSettings { state: state.to_owned(), advertise: options.advertise.clone(), program }
}
