//! What people decide about a session beside the document.
//!
//! These decisions are made at the daemon, in the middle of an incident, and they are remembered in the session's record. The
//! document is not changed by them and does not lift them.

use ebb_desired_state::{SessionName, Suspension};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::note::{Note, NoteKind, Outcome};
use crate::record::{Record, Request, RequestKind};

/// Characters in a reason: enough for a sentence and the number of an incident.
pub const LONGEST_REASON: usize = 200;

/// A rest that somebody ordered. It ends by itself, so that nobody has to remember it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Suspended {
    /// Why, and until when.
    #[serde(flatten)]
    pub suspension: Suspension,
    /// Who, in the words of the audit log.
    pub by: String,
    /// When it was ordered.
    pub at: Timestamp,
}

/// A session that somebody took out of Ebb's hands: nothing is created, configured or deleted for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Detached {
    /// Why.
    pub reason: String,
    /// Who, in the words of the audit log.
    pub by: String,
    /// Since when.
    pub at: Timestamp,
}

/// Something that somebody wants of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Run it.
    Start,
    /// Let it rest until it is started again.
    Stop,
    /// Let it rest until then, whatever anybody else wants.
    Suspend(Suspension),
    /// Take that back.
    Resume,
    /// Leave it and its gateway exactly as they are.
    Detach {
        /// Why.
        reason: String,
    },
    /// Take it in hand again.
    Adopt,
}

impl Record {
    /// Writes down what somebody wants; the next pass finds it.
    pub fn take_wish(&mut self, wish: Wish, by: &str, at: Timestamp) {
        let by = by.to_owned();
        let request = |kind| Some(Request { kind, at, by: by.clone(), handled: false });
        match wish {
            Wish::Start => self.request = request(RequestKind::Start),
            Wish::Stop => self.request = request(RequestKind::Stop),
            Wish::Suspend(suspension) => self.suspended = Some(Suspended { suspension, by, at }),
            Wish::Resume => self.suspended = None,
            Wish::Detach { reason } => self.detached = Some(Detached { reason, by, at }),
            Wish::Adopt => self.detached = None,
        }
    }
}

/// The line of history for a decision that people will ask about later. Starts and stops show in the session's own history.
#[must_use]
pub fn note(session: &SessionName, wish: &Wish, by: &str, at: Timestamp) -> Option<Note> {
    let (kind, message) = match wish {
        Wish::Start | Wish::Stop => return None,
        Wish::Suspend(Suspension { reason, until }) => {
            (NoteKind::OperatorSuspend, format!("{by} suspended it until {until}: {reason}"))
        }
        Wish::Resume => (NoteKind::OperatorResume, format!("{by} resumed it")),
        Wish::Detach { reason } => {
            (NoteKind::OperatorDetach, format!("{by} took it out of Ebb's hands: {reason}"))
        }
        Wish::Adopt => (NoteKind::OperatorAdopt, format!("{by} put it into Ebb's hands again")),
    };
    let outcome = Outcome::Success;
    Some(Note { at, kind, outcome, session: Some(session.clone()), run: None, user: None, message })
}

/// What is wrong with a reason, if anything.
#[must_use]
pub fn check_reason(reason: &str) -> Option<String> {
    let length = reason.chars().count();
    if reason.trim().is_empty() {
        return Some("a reason is needed, for whoever finds this later".to_owned());
    }
    if length > LONGEST_REASON {
        return Some(format!("the reason has {length} characters; at most {LONGEST_REASON} are kept"));
    }
    reason.chars().any(char::is_control).then(|| "the reason has to be one line of text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_that_says_something() {
        assert_eq!(check_reason("incident 42"), None);
        for wrong in ["", "  ", "two\nlines", &"x".repeat(LONGEST_REASON + 1)] {
            assert!(check_reason(wrong).is_some(), "{wrong:?}");
        }
    }
}
