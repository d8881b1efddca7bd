//! From the source to the document in force.
//!
//! Whatever cannot be read, parsed or trusted changes nothing: the last valid document stays in force, here and after a
//! restart, because every accepted text is kept in the store before it counts.

use std::sync::Arc;

use ebb_core::note::{Note, NoteKind, Outcome};
use ebb_core::plan::{Desired, Revision};
use ebb_desired_state::Document;
use jiff::Timestamp;

use super::Parts;
use super::fetch;
use super::snapshot::{Refusal, SourceStatus};
use crate::clock;
use crate::source::{Base, Fetched, Provenance, Reason, revision_of};
use crate::store::{Accepted, MOST_LINES, PlanSummary, StoreError};

/// The document in force and what is wrong with newer ones.
#[derive(Default)]
pub struct Intake {
    desired: Option<Arc<Desired>>,
    /// What names the text in force, wherever it comes from.
    text: Option<Revision>,
    /// What a new version has to follow.
    base: Option<Base>,
    status: SourceStatus,
}

/// A version that could be taken into force.
pub(super) struct Candidate {
    pub(super) desired: Desired,
    text: String,
    provenance: Provenance,
}

impl Intake {
    /// Takes the last accepted document into force again.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open(parts: &Parts) -> Result<Self, StoreError> {
        let mut intake = Self::default();
        intake.status.origin = parts.source.origin();
        intake.status.verifies = parts.source.verifies();
        if let Some(accepted) = parts.store.accepted(1).await?.pop() {
            // A text that was valid once may not be for a newer Ebb; then it waits for a new one like any other.
            if let Ok(document) = ebb_desired_state::parse(&accepted.text) {
                intake.remember(document, &accepted);
            }
        }
        Ok(intake)
    }

    /// Takes into force what another daemon has accepted since.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) async fn follow(&mut self, parts: &Parts) -> Result<(), StoreError> {
        let Some(accepted) = parts.store.accepted(1).await?.pop() else { return Ok(()) };
        if accepted.generation > self.status.generation
            && let Ok(document) = ebb_desired_state::parse(&accepted.text)
        {
            tracing::info!("following revision {}, which another daemon has accepted", accepted.revision);
            self.remember(document, &accepted);
            self.status.clear();
        }
        Ok(())
    }

    fn remember(&mut self, document: Document, accepted: &Accepted) {
        let Accepted { revision, origin, at, .. } = accepted;
        self.status.accepted_at = Some(*at);
        self.status.generation = accepted.generation.max(1);
        self.status.provenance = accepted.provenance.clone();
        self.text = Some(revision_of(accepted.text.as_bytes()));
        self.base = Some(Base { revision: revision.clone(), origin: origin.clone() });
        self.desired = Some(Arc::new(Desired::new(document, revision.clone())));
    }

    /// The document in force.
    #[must_use]
    pub fn desired(&self) -> Option<&Arc<Desired>> {
        self.desired.as_ref()
    }

    /// What is known of the source.
    #[must_use]
    pub fn status(&self) -> &SourceStatus {
        &self.status
    }

    pub(super) fn base(&self) -> Option<Base> {
        self.base.clone()
    }

    pub(super) fn requested(&mut self, at: Timestamp) {
        self.status.requested_at = Some(at);
    }

    pub(super) fn handled(&mut self, at: Timestamp) {
        self.status.handled_at = Some(at);
    }

    /// Judges what a fetch has brought: refuses it, finds that it is in force already, or hands it back.
    pub(super) async fn judge(&mut self, parts: &Parts, outcome: fetch::Outcome) -> Option<Candidate> {
        self.status.fetched_at = Some(clock::now());
        let Fetched { text, revision, provenance } = match outcome {
            Ok(fetched) => fetched,
            Err(error) => {
                if error.reason.is_about_the_source() {
                    parts.counters.source_failures.inc();
                }
                let message = error.to_string();
                self.refuse(parts, error.reason, error.revision, message).await;
                return None;
            }
        };
        self.status.seen = Some(revision.clone());
        let judged = self.status.refusal.as_ref();
        if judged.is_some_and(|refusal| {
            refusal.revision.as_ref() == Some(&revision) && refusal.reason.is_about_the_document()
        }) {
            return None;
        }
        if self.text.as_ref() == Some(&revision_of(&text)) {
            // It says what is in force, perhaps in a version that changed something else.
            if let Some(base) = &mut self.base {
                *base = Base { revision, origin: self.status.origin.clone() };
            }
            self.status.clear();
            return None;
        }
        let document = match ebb_desired_state::parse_bytes(&text) {
            Ok(document) => document,
            Err(problems) => {
                let message = problems.render(&self.status.origin, false);
                self.refuse(parts, problems.fault().into(), Some(revision), message).await;
                return None;
            }
        };
        if let Some(message) = self.desired.as_ref().and_then(|old| renames(&old.document, &document)) {
            let message = format!("{}: {message}", self.status.origin);
            self.refuse(parts, Reason::OtherDeployment, Some(revision), message).await;
            return None;
        }
        // What was parsed is UTF-8.
        let text = String::from_utf8_lossy(&text).into_owned();
        Some(Candidate { desired: Desired::new(document, revision), text, provenance })
    }

    /// Takes a version into force, as soon as it is kept.
    pub(super) async fn accept(
        &mut self,
        parts: &Parts,
        candidate: Candidate,
        announced: Option<(Revision, Provenance)>,
        plan: PlanSummary,
    ) {
        let Candidate { desired: Desired { document, revision, .. }, text, mut provenance } = candidate;
        if let Some((_, by)) = announced.filter(|(announced, _)| *announced == revision) {
            (provenance.by, provenance.restores) = (by.by, by.restores);
        }
        let diff = self.desired.as_ref().map(|old| ebb_desired_state::diff(&old.document, &document));
        let changes: Vec<_> = diff.iter().flat_map(|diff| &diff.changes).map(ToString::to_string).collect();
        let message = match &diff {
            None => format!("revision {revision} with {} sessions", document.sessions.len()),
            Some(_) if changes.is_empty() => format!("revision {revision}: no setting changed"),
            Some(_) => format!("revision {revision}: {}", changes.join("; ")),
        };
        let accepted = Accepted {
            revision: revision.clone(),
            generation: self.status.generation + 1,
            at: clock::now(),
            origin: self.status.origin.clone(),
            provenance,
            changes: changes.into_iter().take(MOST_LINES).collect(),
            plan,
            text,
        };
        if let Err(error) = parts.store.accept(&accepted).await {
            let message = format!("{error}; the document is not taken into force before it can be kept");
            return self.refuse(parts, Reason::NotKept, Some(revision), message).await;
        }
        parts.counters.documents.with_label_values(&["accepted"]).inc();
        let who = accepted.provenance.who().map(|who| format!(" by {who}")).unwrap_or_default();
        tracing::info!("desired state accepted{who}: {message}");
        self.remember(document, &accepted);
        self.status.clear();
        note(parts, NoteKind::DesiredAccepted, Outcome::Success, message).await;
    }

    async fn refuse(&mut self, parts: &Parts, reason: Reason, revision: Option<Revision>, message: String) {
        let refusal = Refusal { reason, revision };
        if self.status.error.as_deref() == Some(message.as_str())
            && self.status.refusal.as_ref() == Some(&refusal)
        {
            return;
        }
        parts.counters.documents.with_label_values(&["refused"]).inc();
        let in_force = match &self.desired {
            Some(desired) => format!("revision {} stays in force", desired.revision),
            None => "there is no earlier one to stay in force".to_owned(),
        };
        tracing::error!("desired state refused ({}), {in_force}:\n{message}", reason.as_str());
        note(parts, NoteKind::DesiredRejected, Outcome::Failure, message.clone()).await;
        self.status.seen = refusal.revision.clone().or(self.status.seen.take());
        self.status.error = Some(message);
        self.status.refusal = Some(refusal);
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

#[cfg(test)]
mod tests;
