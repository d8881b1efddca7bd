//! Who may run when not everybody can.

use std::collections::{BTreeMap, BTreeSet};

use ebb_desired_state::{Limits, SessionName, UserName};
use jiff::Timestamp;

use crate::machine::Slot;
use crate::state::{Rest, StateName, Wait};

/// A session that is wanted or occupies a slot.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    /// Which.
    pub session: &'a SessionName,
    /// Its entitled users; of a session that the document no longer has, those it had.
    pub users: BTreeSet<&'a UserName>,
    /// Where it is.
    pub state: StateName,
    /// Since when it has been wanted; `None`: it is not.
    pub wanted_since: Option<Timestamp>,
    /// Whether it could begin in this pass if there were room: a session that backs off cannot.
    pub ready: bool,
    /// Position in the document, which decides between equals.
    pub position: usize,
}

/// What capacity decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allotment {
    /// For every wanted session that is down: whether it may begin.
    pub slots: BTreeMap<SessionName, Slot>,
    /// Provisioning sessions that have to make way for a newer session of their users.
    pub superseded: BTreeMap<SessionName, Rest>,
}

/// Hands out slots: who has been wanted longest goes first, and nobody who waits for a user is a reason for others to wait.
///
/// A user has one session at a time. While the older one is still provisioning the newer one replaces it, provided that this
/// takes nothing away from anybody else; afterwards the newer one waits.
#[must_use]
pub fn allot(candidates: &[Candidate<'_>], limits: &Limits) -> Allotment {
    let mut allotment = Allotment::default();
    let mut holders: Vec<&Candidate<'_>> = candidates.iter().filter(|c| c.state.holds_slot()).collect();
    let mut queue: Vec<&Candidate<'_>> =
        candidates.iter().filter(|c| c.state.is_down() && c.wanted_since.is_some()).collect();
    queue.sort_by_key(|c| (c.wanted_since, c.position));
    for newcomer in queue {
        let rivals: Vec<_> =
            holders.iter().filter(|h| !h.users.is_disjoint(&newcomer.users)).copied().collect();
        for rival in rivals.iter().filter(|rival| makes_way(rival, newcomer)) {
            let by = newcomer.session.clone();
            allotment.superseded.insert(rival.session.clone(), Rest::Superseded { by });
        }
        let slot =
            match rivals.first().and_then(|rival| shared_user(rival, newcomer).map(|user| (user, rival))) {
                Some((user, rival)) => {
                    Slot::Taken(Wait::User { user: user.clone(), session: rival.session.clone() })
                }
                None => room(&holders, newcomer, limits),
            };
        if slot == Slot::Free && newcomer.ready {
            holders.push(newcomer);
        }
        allotment.slots.insert(newcomer.session.clone(), slot);
    }
    allotment
}

fn shared_user<'a>(rival: &Candidate<'a>, newcomer: &Candidate<'a>) -> Option<&'a UserName> {
    rival.users.intersection(&newcomer.users).next().copied()
}

fn makes_way(rival: &Candidate<'_>, newcomer: &Candidate<'_>) -> bool {
    matches!(rival.state, StateName::Provisioning | StateName::Starting)
        && rival.users.is_subset(&newcomer.users)
        && rival.wanted_since < newcomer.wanted_since
}

fn room(holders: &[&Candidate<'_>], newcomer: &Candidate<'_>, limits: &Limits) -> Slot {
    let sessions = u32::try_from(holders.len()).unwrap_or(u32::MAX);
    if sessions >= limits.active_sessions {
        return Slot::Taken(Wait::Sessions { limit: limits.active_sessions });
    }
    let users: BTreeSet<_> = holders.iter().flat_map(|holder| &holder.users).collect();
    let active = u32::try_from(users.len()).unwrap_or(u32::MAX);
    let adds = u32::try_from(newcomer.users.len()).unwrap_or(u32::MAX);
    if active.saturating_add(adds) > limits.active_users {
        return Slot::Taken(Wait::Users { active, adds, limit: limits.active_users });
    }
    Slot::Free
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World(Vec<(SessionName, Vec<UserName>, StateName, Option<i64>)>);

    impl World {
        fn of(sessions: &[(&str, &[&str], StateName, Option<i64>)]) -> Self {
            Self(
                sessions
                    .iter()
                    .map(|(name, users, state, wanted)| {
                        let users = users.iter().map(|user| user.parse().unwrap()).collect();
                        (name.parse().unwrap(), users, *state, *wanted)
                    })
                    .collect(),
            )
        }

        fn allot(&self, active_sessions: u32, active_users: u32) -> Allotment {
            let candidates: Vec<_> = self
                .0
                .iter()
                .enumerate()
                .map(|(position, (session, users, state, wanted))| Candidate {
                    session,
                    users: users.iter().collect(),
                    state: *state,
                    wanted_since: wanted.map(|second| Timestamp::from_second(second).unwrap()),
                    ready: *state != BackingOff,
                    position,
                })
                .collect();
            allot(&candidates, &Limits { active_sessions, active_users, max_teardowns_per_pass: 3 })
        }
    }

    fn free(allotment: &Allotment) -> Vec<&str> {
        allotment
            .slots
            .iter()
            .filter(|(_, slot)| **slot == Slot::Free)
            .map(|(name, _)| name.as_str())
            .collect()
    }

    use StateName::{Active, BackingOff, Parked, Provisioning, Queued, Terminating};

    #[test]
    fn whoever_has_been_wanted_longest_goes_first() {
        let world = World::of(&[
            ("c", &["carol"], Queued, Some(3)),
            ("a", &["alice"], Queued, Some(1)),
            ("b", &["bob"], Parked, Some(2)),
        ]);
        assert_eq!(free(&world.allot(2, 9)), ["a", "b"]);
        assert_eq!(world.allot(2, 9).slots["c"], Slot::Taken(Wait::Sessions { limit: 2 }));
    }

    #[test]
    fn a_session_that_terminates_still_holds_its_slot() {
        let world = World::of(&[("a", &["alice"], Terminating, None), ("b", &["bob"], Queued, Some(1))]);
        assert!(free(&world.allot(1, 9)).is_empty());
    }

    #[test]
    fn a_session_that_backs_off_holds_no_slot() {
        let world = World::of(&[("a", &["alice"], BackingOff, Some(1)), ("b", &["bob"], Queued, Some(2))]);
        assert_eq!(free(&world.allot(1, 9)), ["a", "b"]);
    }

    #[test]
    fn users_of_running_sessions_count_once_each() {
        let world = World::of(&[
            ("a", &["alice", "bob"], Active, Some(1)),
            ("b", &["carol", "dave"], Queued, Some(2)),
            ("c", &["erin"], Queued, Some(3)),
        ]);
        let allotment = world.allot(9, 3);
        assert_eq!(free(&allotment), ["c"]);
        assert_eq!(allotment.slots["b"], Slot::Taken(Wait::Users { active: 2, adds: 2, limit: 3 }));
    }

    #[test]
    fn a_newer_session_replaces_one_that_is_still_provisioning() {
        let world =
            World::of(&[("old", &["alice"], Provisioning, Some(1)), ("new", &["alice"], Queued, Some(2))]);
        let allotment = world.allot(9, 9);
        assert_eq!(
            allotment.superseded,
            BTreeMap::from([("old".parse().unwrap(), Rest::Superseded { by: "new".parse().unwrap() })])
        );
        assert!(free(&allotment).is_empty(), "the newer one waits until the older one is gone");
    }

    #[test]
    fn an_active_session_is_not_replaced() {
        let world = World::of(&[("old", &["alice"], Active, Some(1)), ("new", &["alice"], Queued, Some(2))]);
        let allotment = world.allot(9, 9);
        assert!(allotment.superseded.is_empty());
        let wait = Wait::User { user: "alice".parse().unwrap(), session: "old".parse().unwrap() };
        assert_eq!(allotment.slots["new"], Slot::Taken(wait));
    }

    #[test]
    fn nobody_else_loses_a_session_to_a_newer_one() {
        let world = World::of(&[
            ("team", &["alice", "bob"], Provisioning, Some(1)),
            ("new", &["alice"], Queued, Some(2)),
        ]);
        assert!(world.allot(9, 9).superseded.is_empty());
    }

    #[test]
    fn two_sessions_of_one_user_in_one_revision_do_not_replace_each_other() {
        let world =
            World::of(&[("one", &["alice"], Provisioning, Some(1)), ("two", &["alice"], Queued, Some(1))]);
        assert!(world.allot(9, 9).superseded.is_empty());
        let both = World::of(&[("one", &["alice"], Queued, Some(1)), ("two", &["alice"], Queued, Some(1))]);
        assert_eq!(free(&both.allot(9, 9)), ["one"]);
    }
}
