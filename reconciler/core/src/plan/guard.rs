//! One bad edit must not tear everything down.

use std::collections::BTreeSet;

use ebb_desired_state::SessionName;

use super::Inputs;
use super::session::Draft;
use crate::machine::Demand;

/// Sessions whose teardown waits for approval.
///
/// When one revision of the document would end more running sessions than `limit`, it ends none of them until somebody
/// approves that revision. Ending the first few and holding the rest would only spread the accident over several passes. For the
/// same reason a session that was held stays so when others of its revision end by themselves.
pub(super) fn held(drafts: &[Draft<'_>], limit: u32, inputs: &Inputs<'_>) -> BTreeSet<SessionName> {
    let revision = &inputs.desired.revision;
    if inputs.approved == Some(revision) {
        return BTreeSet::new();
    }
    let ending: Vec<_> = drafts.iter().filter(|draft| is_ended_by_edit(draft)).collect();
    let too_many = ending.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    ending
        .into_iter()
        .filter(|draft| too_many || draft.record.held.as_ref() == Some(revision))
        .map(|draft| draft.name().clone())
        .collect()
}

/// Whether the document ends the session, and not the mere passing of time.
fn is_ended_by_edit(draft: &Draft<'_>) -> bool {
    if draft.record.detached.is_some() {
        return false;
    }
    let edited = draft.changed || draft.record.held.is_some();
    let rests = match &draft.demand {
        Demand::Rest(why) => why.is_edit() || (edited && why.is_dated()),
        Demand::Up => false,
    };
    draft.runs() && (draft.respecified || rests)
}
