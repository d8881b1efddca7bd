//! Carrying out one step: its actions in order, up to the first failure.

use std::time::Duration;

use ebb_core::action::{Action, Step};
use ebb_core::ended::EndedRun;
use ebb_core::fold::{Outcome, fold};
use ebb_core::note::{Note, NoteKind};
use ebb_core::outcome::Failure;
use ebb_core::record::Record;
use ebb_core::spec::{GatewaySpec, Keys};
use ebb_desired_state::{SessionName, UserName};
use ebb_wire::{Boot, PrivateKey, PublicKey};
use tokio::sync::watch;

use super::Parts;
use crate::clock;
use crate::secrets::{SecretError, SecretName};
use crate::store::{StoreError, Version};
use crate::telemetry::Configurer;

/// A step that met a fault of the store or of the secrets ends after this pause, so that the next pass does not repeat it at
/// once for ever.
const FAULT_PAUSE: Duration = Duration::from_secs(2);

/// What became of a step.
pub(super) struct Done {
    pub(super) session: SessionName,
    pub(super) memory: Memory,
    pub(super) keys: Keys,
    /// The provider was asked to change something.
    pub(super) provider_touched: bool,
    pub(super) store_error: Option<String>,
}

/// What the store has for the session now.
pub(super) enum Memory {
    /// What it had before.
    AsBefore,
    /// This record.
    Is(Box<Record>, Version),
    /// Nothing.
    Gone,
    /// Nobody can say; it has to be read.
    Doubtful,
}

/// Everything that a step needs.
pub(super) struct Worker {
    pub(super) parts: Parts,
    pub(super) control_key: PublicKey,
    pub(super) configurer: Configurer,
    pub(super) record: Option<Record>,
    pub(super) version: Option<Version>,
    pub(super) stopping: watch::Receiver<bool>,
}

/// Why a step ends early.
enum Stop {
    Store(StoreError),
    Secret(SecretError),
    /// The outcome has been folded into the record.
    Failed,
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<SecretError> for Stop {
    fn from(error: SecretError) -> Self {
        Self::Secret(error)
    }
}

impl Worker {
    pub(super) async fn carry_out(self, step: Step) -> Done {
        let mut progress = Progress {
            done: Done {
                session: step.session,
                memory: Memory::AsBefore,
                keys: Keys::default(),
                provider_touched: false,
                store_error: None,
            },
            record: self.record,
            version: self.version,
            parts: self.parts,
            control_key: self.control_key,
            configurer: Some(self.configurer),
        };
        for action in step.actions {
            if *self.stopping.borrow() {
                break;
            }
            match progress.act(action).await {
                Ok(()) => {}
                Err(Stop::Failed) => break,
                Err(Stop::Store(error)) => {
                    tracing::error!(session = %progress.done.session, "{error}");
                    progress.done.memory = Memory::Doubtful;
                    progress.done.store_error = Some(error.to_string());
                    tokio::time::sleep(FAULT_PAUSE).await;
                    break;
                }
                Err(Stop::Secret(error)) => {
                    tracing::error!(session = %progress.done.session, "{error}");
                    tokio::time::sleep(FAULT_PAUSE).await;
                    break;
                }
            }
        }
        progress.done
    }
}

struct Progress {
    done: Done,
    record: Option<Record>,
    version: Option<Version>,
    parts: Parts,
    control_key: PublicKey,
    configurer: Option<Configurer>,
}

impl Progress {
    async fn act(&mut self, action: Action) -> Result<(), Stop> {
        tracing::info!(session = %self.done.session, "{action}");
        self.parts.counters.actions.with_label_values(&[action.name()]).inc();
        match action {
            Action::EnsureKeys { gateway, users } => self.ensure_keys(gateway, users).await,
            Action::Store { record, ended } => self.put(*record, ended.as_deref()).await,
            Action::Forget { ended } => self.forget(ended.as_deref()).await,
            Action::Create { spec } => {
                let boot = self.boot(&spec).await?;
                self.done.provider_touched = true;
                let outcome = match self.parts.provider.create(&spec, &boot).await {
                    Ok(()) => Outcome::Created,
                    Err(failure) => Outcome::CreateFailed(failure),
                };
                self.fold(outcome).await
            }
            Action::Delete { name, run, .. } => {
                self.done.provider_touched = true;
                let outcome = match self.parts.provider.delete(&name, &run).await {
                    Ok(()) => Outcome::Deleted,
                    Err(failure) => Outcome::DeleteFailed(failure),
                };
                self.fold(outcome).await
            }
            Action::Configure { live } => {
                let Some(configurer) = self.configurer.take() else { return Ok(()) };
                match configurer.configure(live).await {
                    Ok(()) => Ok(()),
                    Err(failure) => self.fold(Outcome::ConfigureFailed(failure)).await,
                }
            }
            Action::Note { note } => {
                self.note(note).await;
                Ok(())
            }
        }
    }

    async fn ensure_keys(&mut self, gateway: bool, users: Vec<UserName>) -> Result<(), Stop> {
        if gateway {
            let session = self.done.session.clone();
            let key = self.ensure(SecretName::Gateway(session.clone())).await?;
            self.done.keys.gateways.insert(session, key.public());
        }
        for user in users {
            let key = self.ensure(SecretName::User(user.clone())).await?;
            self.done.keys.users.insert(user, key.public());
        }
        Ok(())
    }

    async fn ensure(&self, name: SecretName) -> Result<PrivateKey, Stop> {
        Ok(self.parts.secrets.ensure(&name, PrivateKey::from_random(rand::random())).await?)
    }

    async fn boot(&self, spec: &GatewaySpec) -> Result<Boot, Stop> {
        let addresses = &spec.template.addresses;
        Ok(Boot {
            version: ebb_wire::VERSION,
            session: spec.session.to_string(),
            listen_port: spec.template.port,
            private_key: self.ensure(SecretName::Gateway(spec.session.clone())).await?,
            control_key: self.control_key,
            ipv4: addresses.ipv4,
            ipv6: addresses.ipv6,
            lease_seconds: self.parts.lease.as_secs(),
        })
    }

    async fn put(&mut self, record: Record, ended: Option<&EndedRun>) -> Result<(), Stop> {
        let version = self.parts.store.put_record(&record, self.version, ended).await?;
        self.version = Some(version);
        self.done.memory = Memory::Is(Box::new(record.clone()), version);
        self.record = Some(record);
        Ok(())
    }

    async fn forget(&mut self, ended: Option<&EndedRun>) -> Result<(), Stop> {
        if let Some(version) = self.version.take() {
            self.parts.store.remove_record(&self.done.session, version, ended).await?;
        }
        self.record = None;
        self.done.memory = Memory::Gone;
        Ok(())
    }

    async fn fold(&mut self, outcome: Outcome) -> Result<(), Stop> {
        let failure = match &outcome {
            Outcome::Created | Outcome::Deleted => None,
            Outcome::CreateFailed(failure) => Some((NoteKind::ProvisionFailure, failure.clone())),
            Outcome::DeleteFailed(failure) => Some((NoteKind::StopFailure, failure.clone())),
            Outcome::ConfigureFailed(failure) => Some((NoteKind::ConfigureFailure, failure.clone())),
        };
        // A stray has no record; there is nothing to remember about it.
        if let Some(record) = &self.record {
            let record = fold(record, &outcome, &rand::random(), clock::now());
            self.put(record, None).await?;
        }
        let Some((kind, failure)) = failure else { return Ok(()) };
        self.report(kind, &failure).await;
        Err(Stop::Failed)
    }

    async fn report(&self, kind: NoteKind, failure: &Failure) {
        let labels = [kind.as_str(), failure.class.as_str()];
        self.parts.counters.action_failures.with_label_values(&labels).inc();
        tracing::warn!(session = %self.done.session, class = failure.class.as_str(), "{failure}");
        let note = Note {
            at: clock::now(),
            kind,
            outcome: ebb_core::note::Outcome::Failure,
            session: Some(self.done.session.clone()),
            run: self.record.as_ref().and_then(|record| Some(record.run.as_ref()?.id.clone())),
            user: None,
            message: failure.message.chars().take(2000).collect(),
        };
        self.note(note).await;
    }

    /// History is worth less than what it tells of: a line that cannot be written stops nothing.
    async fn note(&self, note: Note) {
        if let Err(error) = self.parts.store.append(&[note]).await {
            tracing::warn!("{error}");
        }
    }
}
