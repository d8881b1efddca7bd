//! What the provider remembers between two listings. All of it can be lost: it only saves questions, or asks some earlier.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ebb_core::names::{GatewayName, RunId};
use ebb_core::observed::{Gateway, Phase};
use ebb_tunnel::Time;

use super::observe::Way;
use crate::azure::arm::{GroupId, Operation};

/// A group in doubt is looked at no more often than this.
const DOUBT_PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Memory {
    listing_since: Option<Time>,
    has_seen_everything: bool,
    known: BTreeMap<GatewayName, Known>,
}

#[derive(Debug)]
struct Known {
    id: GroupId,
    run: Option<RunId>,
    /// How the run ended. A listing would say that it runs.
    ended: Option<Phase>,
    /// Listings may still be from before the last write.
    written_until: Time,
    operation: Option<(Operation, Time)>,
    in_doubt: bool,
    quiet_until: Time,
    way: Option<Way>,
    /// It was asked for its end; whatever leads to it has to go.
    doomed: bool,
}

impl Known {
    fn new(id: &GroupId) -> Self {
        Self {
            id: id.clone(),
            run: None,
            ended: None,
            written_until: Time::ZERO,
            operation: None,
            in_doubt: false,
            quiet_until: Time::ZERO,
            way: None,
            doomed: false,
        }
    }
}

impl Memory {
    /// How much of what happened before `now` a listing may lack. Our own writes are looked at one by one; it is those of a
    /// predecessor that may be missing, and only in the beginning.
    pub(super) fn lag(&mut self, now: Time, lag: Duration) -> Duration {
        let since = *self.listing_since.get_or_insert(now);
        if now < since + lag && !self.has_seen_everything { lag } else { Duration::ZERO }
    }

    /// Somebody else has acted until a moment ago.
    pub(super) fn begin_again(&mut self) {
        (self.listing_since, self.has_seen_everything) = (None, false);
    }

    /// Whether what a predecessor did last may still be unknown.
    pub(super) fn is_new(&self) -> bool {
        !self.has_seen_everything && self.listing_since.is_none()
    }

    /// Every group there can be was looked at by itself.
    pub(super) fn has_seen_everything(&mut self) {
        self.has_seen_everything = true;
    }

    pub(super) fn whereabouts(&self, name: &GatewayName) -> Option<GroupId> {
        Some(self.known.get(name)?.id.clone())
    }

    pub(super) fn run(&self, name: &GatewayName) -> Option<RunId> {
        self.known.get(name)?.run.clone()
    }

    /// A group was shown, in this phase; the phase it is in as far as is known altogether.
    pub(super) fn saw(&mut self, name: &GatewayName, id: &GroupId, run: &RunId, phase: Phase) -> Phase {
        let known = self.known.entry(name.clone()).or_insert_with(|| Known::new(id));
        known.id = id.clone();
        if known.run.as_ref() != Some(run) {
            known.run = Some(run.clone());
            known.ended = None;
        }
        match phase {
            Phase::Exited { .. } => {
                known.ended = Some(phase.clone());
                phase
            }
            Phase::Running => known.ended.clone().unwrap_or(phase),
            Phase::Failed { .. } => match &known.ended {
                Some(said @ Phase::Failed { .. }) => said.clone(),
                _ => phase,
            },
            Phase::Creating | Phase::Deleting | Phase::Other { .. } => phase,
        }
    }

    /// How a load balancer leads to a group that was shown.
    pub(super) fn saw_way(&mut self, name: &GatewayName, way: Option<Way>) {
        if let Some(known) = self.known.get_mut(name) {
            known.way = way;
        }
    }

    pub(super) fn way(&self, name: &GatewayName) -> Option<Way> {
        self.known.get(name)?.way.clone()
    }

    /// Load balancers that lead to groups.
    pub(super) fn load_balancers(&self) -> impl Iterator<Item = &str> {
        self.known.values().filter_map(|known| Some(known.way.as_ref()?.load_balancer.as_str()))
    }

    /// Its end was asked for, or it begins anew.
    pub(super) fn doom(&mut self, name: &GatewayName, doomed: bool) {
        if let Some(known) = self.known.get_mut(name) {
            known.doomed = doomed;
        }
    }

    pub(super) fn is_doomed(&self, name: &GatewayName) -> bool {
        self.known.get(name).is_some_and(|known| known.doomed)
    }

    /// Whether something was asked of Azure so lately that a listing may not show it.
    pub(super) fn wrote_lately(&self, name: &GatewayName, now: Time) -> bool {
        self.known.get(name).is_some_and(|known| now < known.written_until)
    }

    /// Something was asked of Azure that changes the group.
    pub(super) fn wrote(
        &mut self,
        name: &GatewayName,
        id: &GroupId,
        operation: Option<Operation>,
        now: Time,
        lag: Duration,
    ) {
        let known = self.known.entry(name.clone()).or_insert_with(|| Known::new(id));
        known.id = id.clone();
        known.written_until = now + lag;
        known.operation = operation.map(|operation| {
            let from = now + operation.wait;
            (operation, from)
        });
    }

    /// The operation on a group, if it is time to ask about it.
    pub(super) fn operation(&mut self, name: &GatewayName, now: Time) -> Option<Operation> {
        let (operation, from) = self.known.get_mut(name)?.operation.as_mut()?;
        if now < *from {
            return None;
        }
        *from = now + operation.wait;
        Some(operation.clone())
    }

    /// Whether a doubt is new, so that it is worth a listing.
    pub(super) fn doubt(&mut self, name: &GatewayName, now: Time) -> bool {
        let Some(known) = self.known.get_mut(name) else { return false };
        let new = !known.in_doubt && known.quiet_until <= now;
        known.in_doubt |= new;
        new
    }

    /// Groups to look at by themselves: those written to lately, those in doubt, and those that failed without a word.
    pub(super) fn due(
        &mut self,
        listed: &BTreeMap<GatewayName, Gateway>,
        now: Time,
    ) -> BTreeSet<(GatewayName, GroupId)> {
        let failed = |name: &GatewayName| {
            let phase = listed.get(name).map(|gateway| &gateway.phase);
            matches!(phase, Some(Phase::Failed { message }) if message == super::observe::UNSAID)
        };
        self.known
            .retain(|name, known| listed.contains_key(name) || now < known.written_until || known.in_doubt);
        let due = |(name, known): &(&GatewayName, &Known)| {
            now < known.written_until || known.in_doubt || (failed(name) && known.quiet_until <= now)
        };
        self.known.iter().filter(due).map(|(name, known)| (name.clone(), known.id.clone())).collect()
    }

    pub(super) fn looked_at(&mut self, name: &GatewayName, now: Time) {
        if let Some(known) = self.known.get_mut(name) {
            known.in_doubt = false;
            known.quiet_until = now + DOUBT_PAUSE;
        }
    }

    pub(super) fn is_gone(&mut self, name: &GatewayName, now: Time) {
        self.looked_at(name, now);
        if let Some(known) = self.known.get_mut(name) {
            (known.run, known.ended) = (None, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::ZERO;
    const LAG: Duration = Duration::from_secs(30);

    fn later(seconds: u64) -> Time {
        NOW + Duration::from_secs(seconds)
    }

    fn id() -> GroupId {
        GroupId { subscription: "s".into(), resource_group: "r".into(), name: "g".into() }
    }

    fn name() -> GatewayName {
        GatewayName::listed("g")
    }

    fn run(text: &str) -> RunId {
        RunId::from(text.to_owned())
    }

    fn due(memory: &mut Memory, now: Time) -> usize {
        let gateway = Gateway {
            session: "s".parse().unwrap(),
            run: run("1"),
            generation: Default::default(),
            hash: ebb_core::names::Hash::from_tag("h"),
            phase: Phase::Running,
            endpoint: None,
        };
        memory.due(&BTreeMap::from([(name(), gateway)]), now).len()
    }

    #[test]
    fn a_listing_does_not_revive_a_gateway_that_was_seen_to_have_ended() {
        let mut memory = Memory::default();
        let ended = Phase::Exited { status: Some(0) };
        memory.saw(&name(), &id(), &run("1"), ended.clone());
        assert_eq!(memory.saw(&name(), &id(), &run("1"), Phase::Running), ended);
        assert_eq!(memory.saw(&name(), &id(), &run("2"), Phase::Running), Phase::Running);
    }

    #[test]
    fn what_was_written_is_looked_at_until_listings_show_it_and_then_no_more() {
        let mut memory = Memory::default();
        memory.saw(&name(), &id(), &run("1"), Phase::Running);
        assert_eq!(due(&mut memory, NOW), 0, "at rest");
        memory.wrote(&name(), &id(), None, NOW, LAG);
        memory.looked_at(&name(), NOW);
        assert_eq!((due(&mut memory, later(1)), due(&mut memory, later(30))), (1, 0));
    }

    #[test]
    fn a_doubt_that_is_repeated_costs_one_look_every_ten_seconds() {
        let mut memory = Memory::default();
        memory.saw(&name(), &id(), &run("1"), Phase::Running);
        assert!(memory.doubt(&name(), NOW) && !memory.doubt(&name(), NOW));
        assert_eq!(due(&mut memory, NOW), 1);
        memory.looked_at(&name(), NOW);
        assert!(!memory.doubt(&name(), later(9)));
        assert_eq!(due(&mut memory, later(9)), 0);
        assert!(memory.doubt(&name(), later(10)));
    }

    #[test]
    fn only_what_a_predecessor_wrote_can_be_missing_from_a_listing() {
        let mut memory = Memory::default();
        assert_eq!(memory.lag(later(5), LAG), LAG);
        assert_eq!(memory.lag(later(34), LAG), LAG);
        assert_eq!(memory.lag(later(35), LAG), Duration::ZERO);
        let mut thorough = Memory::default();
        thorough.has_seen_everything();
        assert_eq!(thorough.lag(later(5), LAG), Duration::ZERO);
    }
}
