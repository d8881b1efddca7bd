//! Looking at the source, beside the loop: a fetch may take as long as a network does.
//!
//! However many triggers arrive, one fetch runs at a time and at most one more is due; whoever waits for a fetch waits for one that
//! began after they asked.

use std::time::Duration;

use ebb_core::plan::Revision;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Engine;
use crate::preview;
use crate::source::{Fetched, Provenance, SourceError};

/// A daemon that has just started waits this long for the source before it acts on the document that it remembers: what has
/// happened to the document since is usually known in a moment.
const FIRST_FETCH: Duration = Duration::from_secs(10);

pub(super) type Outcome = Result<Fetched, SourceError>;

/// Fetches that run, are due, or are waited for.
pub(super) struct Fetching {
    sender: mpsc::Sender<Outcome>,
    outcomes: mpsc::Receiver<Outcome>,
    running: bool,
    /// Another one is due as soon as the present one has come back.
    due: bool,
    /// Who waits for the running one, and who for the one that is due.
    waiting: [Vec<oneshot::Sender<()>>; 2],
    /// Requests that the running one handles, and the one that is due: the time of the newest.
    requested: [Option<Timestamp>; 2],
    /// What is known of a revision that somebody has sent before the running one began, and since.
    announced: [Option<(Revision, Provenance)>; 2],
    /// Until then nothing is done before the first fetch has come back.
    hold_until: Option<Instant>,
}

const RUNNING: usize = 0;
const DUE: usize = 1;

impl Fetching {
    pub(super) fn new(now: Instant) -> Self {
        let (sender, outcomes) = mpsc::channel(1);
        Self {
            sender,
            outcomes,
            running: false,
            due: true,
            waiting: Default::default(),
            requested: Default::default(),
            announced: Default::default(),
            hold_until: Some(now + FIRST_FETCH),
        }
    }

    /// Resolves with what a fetch has brought.
    pub(super) async fn next(&mut self) -> Option<Outcome> {
        self.outcomes.recv().await
    }

    /// The same without waiting.
    pub(super) fn pending(&mut self) -> Option<Outcome> {
        self.outcomes.try_recv().ok()
    }

    /// Asks for a fetch that begins from now on.
    pub(super) fn ask(&mut self) {
        self.due = true;
    }

    /// The same, with word when it has been judged.
    pub(super) fn ask_and_wait(
        &mut self,
        done: oneshot::Sender<()>,
        announced: Option<(Revision, Provenance)>,
    ) {
        self.ask();
        self.waiting[DUE].push(done);
        if announced.is_some() {
            self.announced[DUE] = announced;
        }
    }

    /// The same, by a request that will be acknowledged.
    pub(super) fn request(&mut self, at: Timestamp) {
        self.ask();
        self.requested[DUE] = Some(at);
    }

    /// When passes may begin, if not yet.
    pub(super) fn hold_until(&self) -> Option<Instant> {
        self.hold_until
    }
}

impl Engine {
    /// Begins the fetch that is due, if none runs.
    pub(super) fn start_fetch(&mut self) {
        let fetching = &mut self.fetching;
        if !fetching.due || fetching.running {
            return;
        }
        if !self.parts.leadership.holds_first() {
            // Another daemon looks at the source; what it takes into force is found in the store.
            (fetching.due, fetching.hold_until) = (false, None);
            for waiting in fetching.waiting[DUE].drain(..) {
                let _ = waiting.send(());
            }
            self.judged = fetching.requested[DUE].take().or(self.judged);
            return;
        }
        (fetching.due, fetching.running) = (false, true);
        fetching.waiting[RUNNING] = std::mem::take(&mut fetching.waiting[DUE]);
        fetching.requested[RUNNING] = fetching.requested[DUE].take();
        fetching.announced[RUNNING] = fetching.announced[DUE].take();
        let (source, sender) = (self.parts.source.clone(), fetching.sender.clone());
        let base = self.intake.base();
        tokio::spawn(async move {
            let _ = sender.send(source.fetch(base.as_ref()).await).await;
        });
    }

    /// An approval is for one time in force: a document that comes back later is another matter. It ends before the next
    /// document counts, so that no crash in between leaves it behind; false: it could not be ended, and the fetch is repeated.
    async fn end_approval(&mut self) -> bool {
        if self.approved.is_none() {
            return true;
        }
        match self.parts.store.approve(&Revision(String::new())).await {
            Ok(()) => {
                self.approved = None;
                true
            }
            Err(error) => {
                tracing::error!("{error}; the new document waits until the old approval can be ended");
                false
            }
        }
    }

    /// Judges what a fetch has brought.
    pub(super) async fn take_fetched(&mut self, outcome: Outcome) {
        self.fetching.running = false;
        self.fetching.hold_until = None;
        let announced = self.fetching.announced[RUNNING].take();
        if let Some(candidate) = self.intake.judge(&self.parts, outcome).await
            && self.end_approval().await
        {
            let plan = preview::summary(&self.snapshot(), &candidate.desired);
            self.intake.accept(&self.parts, candidate, announced, plan).await;
        }
        self.judged = self.fetching.requested[RUNNING].take().or(self.judged);
        for waiting in std::mem::take(&mut self.fetching.waiting[RUNNING]) {
            let _ = waiting.send(());
        }
    }
}
