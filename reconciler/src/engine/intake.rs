//! From the source to the document in force.
//!
//! Whatever cannot be read, parsed or trusted changes nothing: the last valid document stays in force, here and after a
//! restart, because every accepted text is kept in the store before it counts.

use ebb_core::note::{Note, NoteKind, Outcome};
use ebb_core::plan::{Desired, Revision};
use ebb_desired_state::Document;

use super::Parts;
use super::snapshot::SourceStatus;
use crate::clock;
use crate::store::{Accepted, StoreError};

/// The document in force and what is wrong with newer ones.
#[derive(Default)]
pub struct Intake {
    desired: Option<Desired>,
    status: SourceStatus,
    /// The revision that was looked at last, accepted or not.
    seen: Option<Revision>,
}

impl Intake {
    /// Takes the last accepted document into force again.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open(parts: &Parts) -> Result<Self, StoreError> {
        let mut intake = Self::default();
        intake.status.origin = parts.source.origin();
        if let Some(accepted) = parts.store.accepted(1).await?.pop() {
            // A text that was valid once may not be for a newer Ebb; then it waits for a new one like any other.
            if let Ok(document) = ebb_desired_state::parse(&accepted.text) {
                intake.status.accepted_at = Some(accepted.at);
                intake.desired = Some(Desired::new(document, accepted.revision.clone()));
                intake.seen = Some(accepted.revision);
            }
        }
        Ok(intake)
    }

    /// The document in force.
    #[must_use]
    pub fn desired(&self) -> Option<&Desired> {
        self.desired.as_ref()
    }

    /// What is known of the source.
    #[must_use]
    pub fn status(&self) -> &SourceStatus {
        &self.status
    }

    /// Looks at the source and takes a new valid document into force.
    pub async fn fetch(&mut self, parts: &Parts) {
        self.status.fetched_at = Some(clock::now());
        let fetched = match parts.source.fetch().await {
            Ok(fetched) => fetched,
            Err(error) => {
                parts.counters.source_failures.inc();
                return self.refuse(parts, None, error.to_string()).await;
            }
        };
        if self.seen.as_ref() == Some(&fetched.revision) {
            // The file is as it was when it was last judged; a lost file that came back unchanged clears the error.
            if self.desired.as_ref().is_some_and(|desired| desired.revision == fetched.revision) {
                self.status.error = None;
            }
            return;
        }
        let text = match String::from_utf8(fetched.text) {
            Ok(text) => text,
            Err(error) => {
                let message = format!("{} is not UTF-8: {}", self.status.origin, error.utf8_error());
                return self.refuse(parts, Some(fetched.revision), message).await;
            }
        };
        match ebb_desired_state::parse(&text) {
            Ok(document) => self.accept(parts, fetched.revision, document, text).await,
            Err(problems) => {
                let message = problems.render(&self.status.origin, false);
                self.refuse(parts, Some(fetched.revision), message).await;
            }
        }
    }

    async fn accept(&mut self, parts: &Parts, revision: Revision, document: Document, text: String) {
        if let Some(message) = self.desired.as_ref().and_then(|old| renames(&old.document, &document)) {
            let message = format!("{}: {message}", self.status.origin);
            return self.refuse(parts, Some(revision), message).await;
        }
        let now = clock::now();
        let accepted =
            Accepted { revision: revision.clone(), at: now, origin: self.status.origin.clone(), text };
        if let Err(error) = parts.store.accept(&accepted).await {
            // Not seen: it is tried again.
            tracing::error!("{error}; the document is not taken into force before it can be kept");
            self.status.error = Some(error.to_string());
            return;
        }
        let message = match &self.desired {
            None => format!("revision {revision} with {} sessions", document.sessions.len()),
            Some(old) => {
                let diff = ebb_desired_state::diff(&old.document, &document);
                let changes: Vec<_> = diff.changes.iter().map(ToString::to_string).collect();
                format!("revision {revision}: {}", changes.join("; "))
            }
        };
        parts.counters.documents.with_label_values(&["accepted"]).inc();
        tracing::info!("desired state accepted: {message}");
        self.status.accepted_at = Some(now);
        self.status.error = None;
        self.seen = Some(revision.clone());
        self.desired = Some(Desired::new(document, revision));
        note(parts, NoteKind::DesiredAccepted, Outcome::Success, message).await;
    }

    async fn refuse(&mut self, parts: &Parts, revision: Option<Revision>, message: String) {
        self.seen = revision.or(self.seen.take());
        if self.status.error.as_deref() == Some(message.as_str()) {
            return;
        }
        parts.counters.documents.with_label_values(&["refused"]).inc();
        let in_force = match &self.desired {
            Some(desired) => format!("revision {} stays in force", desired.revision),
            None => "there is no earlier one to stay in force".to_owned(),
        };
        tracing::error!("desired state refused, {in_force}:\n{message}");
        note(parts, NoteKind::DesiredRejected, Outcome::Failure, message.clone()).await;
        self.status.error = Some(message);
    }
}

/// Why `new` cannot follow `old`, if it renames the deployment.
#[must_use]
pub fn renames(old: &Document, new: &Document) -> Option<String> {
    (old.deployment != new.deployment).then(|| {
        format!(
            "the deployment is named {}, the one in force {}. A deployment cannot be renamed: everything it owns is marked \
             with its name. Put the old name back",
            new.deployment, old.deployment
        )
    })
}

async fn note(parts: &Parts, kind: NoteKind, outcome: Outcome, message: String) {
    let message = message.chars().take(2000).collect();
    let note = Note { at: clock::now(), kind, outcome, session: None, run: None, user: None, message };
    if let Err(error) = parts.store.append(&[note]).await {
        tracing::warn!("{error}");
    }
}
