//! Documents that were taken into force.

use ebb_core::plan::Revision;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::source::Provenance;

/// Lines kept of the changes of one revision, and of its plan. Whoever wants more compares the texts.
pub const MOST_LINES: usize = 200;

/// Digits that an abbreviated revision has at least, as with git.
const SHORTEST_PREFIX: usize = 4;

/// A document that was taken into force. Every one is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// Its version.
    pub revision: Revision,
    /// Counts the documents that were taken into force. Zero in what was written before they were counted.
    #[serde(default)]
    pub generation: u64,
    /// When.
    pub at: Timestamp,
    /// Where it came from.
    pub origin: String,
    /// Who made it, and who vouches for it.
    #[serde(flatten)]
    pub provenance: Provenance,
    /// How it differs from the one before.
    #[serde(default)]
    pub changes: Vec<String>,
    /// What was to be done about it when it came.
    #[serde(default)]
    pub plan: PlanSummary,
    /// The text.
    pub text: String,
}

/// What a plan does, without the details.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PlanSummary {
    /// Gateways created.
    pub creates: usize,
    /// Gateways deleted.
    pub deletes: usize,
    /// Gateways given other peers, routes or names.
    pub configures: usize,
    /// Teardowns that wait for approval.
    pub held: usize,
    /// A line for each action, at most [`MOST_LINES`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

impl std::fmt::Display for PlanSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = [
            (self.creates, "create"),
            (self.deletes, "delete"),
            (self.configures, "configure"),
            (self.held, "held back"),
        ];
        let parts: Vec<_> = counts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        f.write_str(&if parts.is_empty() { "nothing to do".to_owned() } else { parts.join(", ") })
    }
}

/// What was found for an abbreviated revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// This one; of several acceptances of one revision the last.
    One(Box<Accepted>),
    /// Several revisions begin like this.
    Several(Vec<Revision>),
    /// None does.
    None,
}

/// The accepted document that `wanted` names: a revision, its first digits (at least 4), or `#` and a generation. `newest_first`
/// are all of them.
#[must_use]
pub fn find(newest_first: Vec<Accepted>, wanted: &str) -> Found {
    if let Some(generation) = wanted.strip_prefix('#').and_then(|number| number.parse::<u64>().ok()) {
        let found = newest_first.into_iter().find(|accepted| accepted.generation == generation);
        return found.map_or(Found::None, |accepted| Found::One(Box::new(accepted)));
    }
    let is_wanted = |accepted: &Accepted| {
        let revision = accepted.revision.0.as_str();
        revision == wanted || (wanted.len() >= SHORTEST_PREFIX && revision.starts_with(wanted))
    };
    let mut found: Vec<Accepted> = newest_first.into_iter().filter(is_wanted).collect();
    if let Some(exact) = found.iter().position(|accepted| accepted.revision.0 == wanted) {
        return Found::One(Box::new(found.swap_remove(exact)));
    }
    let mut revisions: Vec<Revision> = found.iter().map(|accepted| accepted.revision.clone()).collect();
    revisions.sort();
    revisions.dedup();
    match (revisions.len(), found.into_iter().next()) {
        (1, Some(newest)) => Found::One(Box::new(newest)),
        (0, _) | (_, None) => Found::None,
        _ => Found::Several(revisions),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(generation: u64, revision: &str) -> Accepted {
        Accepted {
            revision: Revision(revision.to_owned()),
            generation,
            at: Timestamp::UNIX_EPOCH,
            origin: "test".to_owned(),
            provenance: Provenance::default(),
            changes: Vec::new(),
            plan: PlanSummary::default(),
            text: String::new(),
        }
    }

    fn history() -> Vec<Accepted> {
        vec![
            accepted(4, "aaaa1111"),
            accepted(3, "bbbb2222"),
            accepted(2, "aaaa3333"),
            accepted(1, "bbbb2222"),
        ]
    }

    fn generation(wanted: &str) -> Option<u64> {
        match find(history(), wanted) {
            Found::One(accepted) => Some(accepted.generation),
            Found::Several(_) | Found::None => None,
        }
    }

    #[test]
    fn a_revision_is_found_by_its_name_its_beginning_or_its_number() {
        assert_eq!(generation("aaaa3333"), Some(2));
        assert_eq!(generation("aaaa3"), Some(2));
        assert_eq!(generation("#1"), Some(1));
        assert_eq!(generation("bbbb2222"), Some(3), "the last acceptance of a revision counts");
        assert_eq!(generation("bbbb"), Some(3));
    }

    #[test]
    fn what_names_none_or_several_is_not_guessed() {
        let both = vec![Revision("aaaa1111".into()), Revision("aaaa3333".into())];
        assert_eq!(find(history(), "aaaa"), Found::Several(both));
        for wanted in ["bbb", "", "#9", "#x", "cccc"] {
            assert_eq!(find(history(), wanted), Found::None, "{wanted}");
        }
    }

    #[test]
    fn what_an_older_ebb_wrote_can_be_read() {
        let old = r#"{"revision":"r","at":"2026-11-20T08:00:00Z","origin":"/file","text":"version: 1"}"#;
        let read: Accepted = serde_json::from_str(old).unwrap();
        assert_eq!((read.generation, read.text.as_str()), (0, "version: 1"));
        assert_eq!(read.provenance, Provenance::default());
    }

    #[test]
    fn an_accepted_document_comes_back_as_it_was_stored() {
        let mut stored = accepted(7, "r");
        stored.provenance.author = Some("Alice <alice@example.com>".into());
        stored.provenance.by = Some("admin".into());
        stored.plan.deletes = 2;
        let json = serde_json::to_vec(&stored).unwrap();
        assert_eq!(serde_json::from_slice::<Accepted>(&json).unwrap(), stored);
    }
}
