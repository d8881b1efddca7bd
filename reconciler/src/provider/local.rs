//! Gateways as processes of this machine: one unprivileged `ebb-gateway` for each session.
//!
//! A gateway outlives the daemon that started it. What says that it lives is a lock: the process holds its lock file open as
//! standard input, and the kernel drops the lock when the process ends, however it ends. So a new daemon finds the gateways of
//! its predecessor without trusting process ids, which are used again.
//!
//! ```text
//!   STATE/local/ports.json              which session has which UDP port, so that client configurations stay valid
//!   STATE/local/NAME/gateway.json       what it was created from
//!   STATE/local/NAME/boot.json          what it was started with (0600: it holds the gateway's private key)
//!   STATE/local/NAME/lock               held while it runs
//!   STATE/local/NAME/pid                for signals, checked against the lock before use
//!   STATE/local/NAME/ended              its own last words: why it ended
//!   STATE/logs/SESSION.log              what it printed
//! ```

mod ports;
mod process;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ebb_core::names::{GatewayName, RunId};
use ebb_core::observed::{Endpoint, Gateway, Observed, Phase, Scope};
use ebb_core::outcome::{Class, Failure};
use ebb_core::spec::GatewaySpec;
use ebb_desired_state::{DeploymentName, SessionName};
use ebb_wire::Boot;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use self::process::{Home, Life};
use super::{Pace, Provider};
use crate::clock;

/// Bytes of log in which the last minutes' telemetry is found: a line of the largest session has about 60 KiB.
const LOG_TAIL: u64 = 256 << 10;

/// How gateways of this machine are run.
#[derive(Debug, Clone)]
pub struct LocalSettings {
    /// Directory of the daemon's state.
    pub state: PathBuf,
    /// Name or address under which clients reach this machine.
    pub advertise: String,
    /// The program that is a gateway when called with `run --boot FILE`, and its leading arguments.
    pub program: Vec<std::ffi::OsString>,
}

/// A [`Provider`] on this machine.
pub struct LocalProvider {
    settings: LocalSettings,
    changed: Arc<Notify>,
}

/// What a gateway was created from.
#[derive(Debug, Serialize, Deserialize)]
struct Created {
    spec: GatewaySpec,
    port: u16,
    /// Where in the session's log, which outlives its gateways, this one's part begins.
    #[serde(default)]
    log_from: u64,
}

impl LocalProvider {
    /// Runs gateways under `settings`.
    ///
    /// # Errors
    /// When the directories cannot be created.
    pub fn open(settings: LocalSettings) -> io::Result<Self> {
        for directory in [settings.state.join("local"), settings.state.join("logs")] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        Ok(Self { settings, changed: Arc::default() })
    }

    fn home(&self, name: &GatewayName) -> Home {
        Home::new(self.settings.state.join("local").join(name.as_str()))
    }

    fn observe(&self, deployment: &DeploymentName) -> io::Result<BTreeMap<GatewayName, Gateway>> {
        let mut gateways = BTreeMap::new();
        for entry in fs::read_dir(self.settings.state.join("local"))? {
            let path = entry?.path();
            if !path.is_dir() {
                continue;
            }
            let Some(created) = read_created(&path)? else { continue };
            if created.spec.deployment != *deployment {
                continue;
            }
            let phase = match Home::new(path).life()? {
                Life::Running => Phase::Running,
                Life::Ended { status: Some(status) } => Phase::Exited { status: Some(status) },
                Life::Ended { status: None } => {
                    Phase::Failed { message: self.last_words(&created.spec.session) }
                }
            };
            let endpoint = Endpoint { host: self.settings.advertise.clone(), port: created.port };
            let gateway = Gateway {
                session: created.spec.session,
                run: created.spec.run,
                generation: created.spec.generation,
                hash: created.spec.hash,
                phase,
                endpoint: Some(endpoint),
            };
            gateways.insert(created.spec.name, gateway);
        }
        Ok(gateways)
    }

    fn log(&self, session: &SessionName) -> PathBuf {
        self.settings.state.join("logs").join(format!("{session}.log"))
    }

    /// What a gateway said before it died without a reason.
    fn last_words(&self, session: &SessionName) -> String {
        let log = self.log(session);
        let text = fs::read_to_string(&log).unwrap_or_default();
        let last = text.lines().rev().find(|line| line.contains("error")).unwrap_or("it said nothing");
        let last: String = last.chars().take(300).collect();
        format!("it was killed or could not go on; the last error in {} is: {last}", log.display())
    }

    fn read_log(&self, name: &GatewayName, run: &RunId) -> io::Result<String> {
        let created = read_created(self.home(name).path())?.filter(|created| created.spec.run == *run);
        let created = created.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it is not there"))?;
        let mut log = File::open(self.log(&created.spec.session))?;
        let end = log.seek(SeekFrom::End(0))?;
        log.seek(SeekFrom::Start(created.log_from.max(end.saturating_sub(LOG_TAIL))))?;
        let mut tail = Vec::new();
        log.take(LOG_TAIL).read_to_end(&mut tail)?;
        Ok(String::from_utf8_lossy(&tail).into_owned())
    }

    fn start(&self, spec: &GatewaySpec, boot: &Boot) -> io::Result<()> {
        let home = self.home(&spec.name);
        if let Some(created) = read_created(home.path())? {
            if created.spec.run == spec.run && matches!(home.life()?, Life::Running) {
                return Ok(());
            }
            home.remove()?;
        }
        let port = ports::assign(&self.settings.state.join("local"), &spec.session, spec.template.port)?;
        fs::DirBuilder::new().mode(0o700).create(home.path())?;
        let log = self.log(&spec.session);
        let log_from = fs::metadata(&log).map_or(0, |metadata| metadata.len());
        let created = Created { spec: spec.clone(), port, log_from };
        process::write_private(&home.path().join("gateway.json"), &serde_json::to_vec_pretty(&created)?)?;
        let boot = Boot { listen_port: port, ..boot.clone() };
        process::write_private(&home.boot(), &serde_json::to_vec(&boot)?)?;
        home.start(&self.settings.program, &log, Arc::clone(&self.changed))
    }
}

fn read_created(home: &Path) -> io::Result<Option<Created>> {
    match fs::read(home.join("gateway.json")) {
        Ok(json) => Ok(serde_json::from_slice(&json).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn failure(what: &str, error: &io::Error) -> Failure {
    let class = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Class::Quota,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Class::Stalled,
        _ => Class::Transient,
    };
    Failure::new(class, format!("{what}: {error}"))
}

#[async_trait]
impl Provider for LocalProvider {
    async fn list(&self, scope: &Scope) -> Result<Observed, Failure> {
        let asked_at = clock::now();
        let gateways = self.observe(&scope.deployment).map_err(|error| {
            let directory = self.settings.state.join("local");
            failure(&format!("cannot list the gateways in {}", directory.display()), &error)
        })?;
        Ok(Observed {
            asked_at,
            lag: SignedDuration::ZERO,
            gateways,
            unseen: BTreeMap::new(),
            blocked: BTreeMap::new(),
        })
    }

    async fn create(&self, spec: &GatewaySpec, boot: &Boot) -> Result<(), Failure> {
        self.start(spec, boot)
            .map_err(|error| failure(&format!("cannot start the gateway {}", spec.name), &error))
    }

    async fn delete(&self, name: &GatewayName, run: &RunId) -> Result<(), Failure> {
        let home = self.home(name);
        let what = format!("cannot end the gateway {name}");
        match read_created(home.path()).map_err(|error| failure(&what, &error))? {
            Some(created) if created.spec.run == *run => {}
            Some(_) | None => return Ok(()),
        }
        home.end().await.map_err(|error| failure(&what, &error))?;
        home.remove().map_err(|error| failure(&what, &error))
    }

    async fn log_tail(&self, name: &GatewayName, run: &RunId) -> Result<String, Failure> {
        let what = format!("cannot read the log of the gateway {name}");
        self.read_log(name, run).map_err(|error| failure(&what, &error))
    }

    /// Every list looks at every gateway anyway.
    fn look_at(&self, _: &GatewayName) {}

    async fn changed(&self) {
        self.changed.notified().await;
    }

    fn pace(&self) -> Pace {
        // A list is a handful of small files; adopted gateways announce their end in no other way.
        Pace { settled: Duration::from_secs(1), moving: Duration::from_millis(200) }
    }
}
