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
#[cfg(feature = "azure")]
use crate::azure::lead::Lead;
use crate::engine::{Ended, Engine, Parts};
use crate::http::{self, AdminKey, App, Hooks};
use crate::leadership::Leadership;
use crate::metrics::Counters;
use crate::reporter;
use crate::secrets::SecretName;
use crate::setup;
#[cfg(feature = "azure")]
use crate::store::Store;
use crate::telemetry::Links;

/// Requests in progress get this long after SIGTERM. With what the actions in flight and the lock get it stays below 10 s, after
/// which Docker kills; Container Apps and systemd wait longer.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// Giving back the lock gets this long; if that does not suffice, it ends by itself.
#[cfg(feature = "azure")]
const LAST_WORDS: Duration = Duration::from_secs(2);

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
    #[cfg(feature = "azure")]
    let lock = settings.lock()?;
    #[cfg(feature = "azure")]
    let leadership = lock.as_ref().map_or_else(Leadership::alone, |_| Leadership::of(settings.shards));
    #[cfg(not(feature = "azure"))]
    let leadership = Leadership::alone();
    let store = settings.store(&state, &leadership)?;
    #[cfg(feature = "azure")]
    let (listener, mut lead) = match lock {
        Some(lock) => {
            let lead = Lead::new(lock, &leadership);
            match stand_by(lead, store.as_ref(), listener).await? {
                Some((listener, lead)) => (listener, Some(lead)),
                None => return Ok(ExitCode::SUCCESS),
            }
        }
        None => (listener, None),
    };
    let secrets = settings.secrets(&state)?;
    let control = secrets.ensure(&SecretName::Control, PrivateKey::from_random(rand::random())).await?;
    let counters = Counters::new();
    let parts = Parts {
        source: settings.source(&state)?,
        provider: settings.provider(&state, &leadership)?,
        store: Arc::clone(&store),
        secrets: Arc::clone(&secrets),
        leadership,
        lease: Duration::from_secs(options.lease),
        counters: counters.clone(),
    };
    let source = Arc::clone(&parts.source);
    let (news, heard) = mpsc::channel(NEWS);
    let links = Links::new(control, Arc::clone(&parts.provider), news);
    let (engine, handle) = Engine::open(parts, links, heard).await?;
    #[cfg(feature = "azure")]
    let (busy, of_lead) = (handle.busy(), Arc::clone(&store));
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
    #[cfg(feature = "azure")]
    let deposed = async {
        match &mut lead {
            Some(lead) => lead.keep(of_lead.as_ref(), busy).await,
            None => std::future::pending().await,
        }
    };
    #[cfg(not(feature = "azure"))]
    let deposed = std::future::pending::<String>();
    let deposed = tokio::select! {
        name = ending_signal() => {
            tracing::info!("{}: finishing what is under way; gateways go on", name?);
            None
        }
        why = deposed => Some(why),
    };
    drop(stop);
    if let Some(why) = deposed {
        // The steps in flight do not count any more: whoever leads next has made sure that they cannot be written down.
        let message = format!(
            "the lock is lost: {why}; another daemon leads or will, and this one stands by when it is started again"
        );
        return Err(Failure::new(message));
    }
    let ended = reconciling.await?;
    // What it has not told by now it tells after the next start.
    reporting.abort();
    #[cfg(feature = "azure")]
    match (lead, ended) {
        (Some(mut lead), Ended::Settled) => drop(tokio::time::timeout(LAST_WORDS, lead.release()).await),
        // What may still reach Azure must find nobody else at work.
        (Some(_), Ended::Abandoned) | (None, _) => {}
    }
    #[cfg(not(feature = "azure"))]
    let _: Ended = ended;
    if let Ok(served) = tokio::time::timeout(LAST_REQUESTS, serving).await {
        served??;
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until this daemon leads, and answers probes meanwhile: alive, not ready. `None` when somebody wants it to end.
#[cfg(feature = "azure")]
async fn stand_by(
    mut lead: Lead,
    store: &dyn Store,
    listener: TcpListener,
) -> Result<Option<(TcpListener, Lead)>, Failure> {
    let listener = listener.into_std()?;
    let probes = tokio::spawn(http::stand_by(TcpListener::from_std(listener.try_clone()?)?));
    let leads = tokio::select! {
        led = lead.begin(store) => {
            led?;
            true
        }
        name = ending_signal() => {
            tracing::info!("{}: this daemon did not lead", name?);
            false
        }
    };
    probes.abort();
    // It has ended and given back its half of the listener when this returns.
    let _ = probes.await;
    if !leads {
        lead.release().await;
        return Ok(None);
    }
    Ok(Some((TcpListener::from_std(listener)?, lead)))
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
    // What the SDK says about requests is said better where their meaning is known, and without addresses that are signed.
    let filter = format!("azure_core=off,azure_identity=warn,typespec_client_core=off,{filter}");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false).init();
}
