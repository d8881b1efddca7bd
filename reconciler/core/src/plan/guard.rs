//! One bad edit must not tear everything down.

use std::collections::BTreeSet;

use ebb_desired_state::SessionName;

use super::Inputs;
use super::session::Draft;
use crate::machine::Demand;

/// Sessions whose teardown waits for approval.
///
/// When one revision of the document would end more running sessions than `limit`, it ends none of them until somebody
/// approves that revision. Ending the first few and holding the rest would only spread the accident over several passes.
pub(super) fn held(drafts: &[Draft<'_>], limit: u32, inputs: &Inputs<'_>) -> BTreeSet<SessionName> {
    if inputs.approved == Some(&inputs.desired.revision) {
        return BTreeSet::new();
    }
    let ending: BTreeSet<_> =
        drafts.iter().filter(|draft| is_ended_by_edit(draft)).map(|draft| draft.name().clone()).collect();
    if ending.len() > usize::try_from(limit).unwrap_or(usize::MAX) { ending } else { BTreeSet::new() }
}

fn is_ended_by_edit(draft: &Draft<'_>) -> bool {
    draft.runs() && (draft.respecified || matches!(&draft.demand, Demand::Rest(why) if why.is_edit()))
}
