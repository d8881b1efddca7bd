//! What became of a step, folded back into the record.

use jiff::Timestamp;

use crate::machine::{Event, Machine};
use crate::outcome::{self, Failure};
use crate::plan::jitter;
use crate::record::{Accepted, Failed, ProviderOperation, Record};
use crate::state::State;

/// What became of an action that reaches outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The provider accepted the create, or had the gateway already.
    Created,
    /// It did not.
    CreateFailed(Failure),
    /// The provider accepted the delete, or the gateway was gone already.
    Deleted,
    /// It did not.
    DeleteFailed(Failure),
    /// The gateway did not take its configuration.
    ConfigureFailed(Failure),
}

/// The record after `outcome`.
#[must_use]
pub fn fold(record: &Record, outcome: &Outcome, seed: &[u8; 32], now: Timestamp) -> Record {
    let mut record = record.clone();
    match outcome {
        Outcome::Created => {
            record.accepted = Some(Accepted { operation: ProviderOperation::Create, at: now });
            if let Some(run) = &mut record.run {
                run.created_at.get_or_insert(now);
            }
        }
        Outcome::Deleted => {
            record.accepted = Some(Accepted { operation: ProviderOperation::Delete, at: now });
            record.not_before = None;
        }
        Outcome::CreateFailed(failure) => {
            let retry_at = failed(&mut record, failure, seed, now);
            let mut machine = Machine::restore(&record.session, record.generation, &record.state, retry_at);
            machine.tell(Event::CreateFailed { retry_at });
            if machine.state() != record.state {
                record.state = machine.state();
                record.since = now;
            }
        }
        Outcome::DeleteFailed(failure) | Outcome::ConfigureFailed(failure) => {
            record.not_before = Some(failed(&mut record, failure, seed, now));
        }
    }
    if matches!(record.state, State::BackingOff { .. }) {
        record.run = None;
    }
    record
}

fn failed(record: &mut Record, failure: &Failure, seed: &[u8; 32], now: Timestamp) -> Timestamp {
    record.failures = record.failures.saturating_add(1);
    record.last_failure = Some(Failed { failure: failure.clone(), at: now });
    outcome::retry_at(record.failures, &failure.class, jitter(seed, &record.session), now)
}
