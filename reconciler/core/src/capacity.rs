//! Who may run when not everybody can.

use std::collections::{BTreeMap, BTreeSet, HashMap};

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
    /// When somebody last asked for it, be it by wanting it; decides who is newer.
    pub asked_at: Option<Timestamp>,
    /// Whether it could begin in this pass if there were room: a session that backs off cannot.
    pub ready: bool,
    /// Whether its last step is still being carried out: it may just be taking the slot that an earlier pass gave it.
    pub in_flight: bool,
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
    /// Sessions that replace others take over their place in the queue, so that nobody is put before them meanwhile.
    pub inherited: BTreeMap<SessionName, Timestamp>,
}

/// Hands out slots: who has been wanted longest goes first, and nobody who waits for a user is a reason for others to wait.
///
/// A user has one session at a time. While the older one is still provisioning the newer one replaces it, provided that the
/// newer one can then begin and that this takes nothing away from anybody else; otherwise the newer one waits.
#[must_use]
pub fn allot(candidates: &[Candidate<'_>], limits: &Limits) -> Allotment {
    let mut allotment = Allotment::default();
    let mut holders = Holders::default();
    candidates.iter().filter(|c| c.state.holds_slot()).for_each(|holder| holders.add(holder));
    let mut queue: Vec<&Candidate<'_>> =
        candidates.iter().filter(|c| c.state.is_down() && c.wanted_since.is_some()).collect();
    queue.sort_by_key(|c| (c.wanted_since, c.position));
    for newcomer in queue {
        let rivals = holders.rivals(newcomer);
        let slot = match rivals.values().next() {
            Some((rival, user)) => {
                if newcomer.ready && holders.can_replace(&rivals, newcomer, limits) {
                    allotment.replace(&rivals, newcomer);
                }
                Slot::Taken(Wait::User { user: (*user).clone(), session: rival.session.clone() })
            }
            None => holders.room(newcomer, limits),
        };
        if slot == Slot::Free && (newcomer.ready || newcomer.in_flight) {
            holders.add(newcomer);
        }
        allotment.slots.insert(newcomer.session.clone(), slot);
    }
    allotment
}

/// Sessions that share users with a newcomer, each with one of the users; in the order in which they took their slots.
type Rivals<'h, 'a> = BTreeMap<usize, (&'h Candidate<'a>, &'a UserName)>;

/// Who occupies the slots.
#[derive(Default)]
struct Holders<'h, 'a> {
    sessions: Vec<&'h Candidate<'a>>,
    /// Positions in `sessions`. An edit of a running session can give one user two.
    by_user: HashMap<&'a UserName, Vec<usize>>,
}

impl<'h, 'a> Holders<'h, 'a> {
    fn add(&mut self, holder: &'h Candidate<'a>) {
        for user in &holder.users {
            self.by_user.entry(*user).or_default().push(self.sessions.len());
        }
        self.sessions.push(holder);
    }

    fn rivals(&self, newcomer: &Candidate<'a>) -> Rivals<'h, 'a> {
        let mut rivals = Rivals::new();
        for user in &newcomer.users {
            for index in self.by_user.get(user).into_iter().flatten() {
                rivals.entry(*index).or_insert((self.sessions[*index], *user));
            }
        }
        rivals
    }

    fn room(&self, newcomer: &Candidate<'a>, limits: &Limits) -> Slot {
        if count(self.sessions.len()) >= limits.active_sessions {
            return Slot::Taken(Wait::Sessions { limit: limits.active_sessions });
        }
        let (active, adds) = (count(self.by_user.len()), count(newcomer.users.len()));
        if active.saturating_add(adds) > limits.active_users {
            return Slot::Taken(Wait::Users { active, adds, limit: limits.active_users });
        }
        Slot::Free
    }

    fn can_replace(&self, rivals: &Rivals<'h, 'a>, newcomer: &Candidate<'a>, limits: &Limits) -> bool {
        let theirs: BTreeSet<&UserName> =
            rivals.values().flat_map(|(rival, _)| &rival.users).copied().collect();
        let held_otherwise = |user: &&UserName| {
            self.by_user.get(user).into_iter().flatten().any(|index| !rivals.contains_key(index))
        };
        let freed = theirs.into_iter().filter(|user| !held_otherwise(user)).count();
        let users = self.by_user.len() - freed + newcomer.users.len();
        let sessions = self.sessions.len() - rivals.len() + 1;
        rivals.values().all(|(rival, _)| makes_way(rival, newcomer))
            && count(sessions) <= limits.active_sessions
            && count(users) <= limits.active_users
    }
}

impl Allotment {
    fn replace(&mut self, rivals: &Rivals<'_, '_>, newcomer: &Candidate<'_>) {
        for (rival, _) in rivals.values() {
            let by = newcomer.session.clone();
            self.superseded.insert(rival.session.clone(), Rest::Superseded { by });
        }
        if let Some(place) = rivals.values().filter_map(|(rival, _)| rival.wanted_since).min() {
            self.inherited.insert(newcomer.session.clone(), place);
        }
    }
}

fn makes_way(rival: &Candidate<'_>, newcomer: &Candidate<'_>) -> bool {
    matches!(rival.state, StateName::Provisioning | StateName::Starting)
        && rival.wanted_since.is_some()
        && rival.users.is_subset(&newcomer.users)
        && rival.asked_at < newcomer.asked_at
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
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
                    asked_at: wanted.map(|second| Timestamp::from_second(second).unwrap()),
                    ready: *state != BackingOff,
                    in_flight: false,
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

    use StateName::{Active, BackingOff, Parked, Provisioning, Queued, Starting, Terminating};

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
    fn a_session_keeps_the_slot_that_its_step_in_flight_may_just_be_taking() {
        let (first, second) = ("first".parse().unwrap(), "second".parse().unwrap());
        let users: [UserName; 2] = ["alice".parse().unwrap(), "bob".parse().unwrap()];
        let candidate = |session, position: usize, in_flight: bool| Candidate {
            session,
            users: BTreeSet::from([&users[position]]),
            state: Queued,
            wanted_since: Timestamp::from_second(1).ok(),
            asked_at: Timestamp::from_second(1).ok(),
            ready: !in_flight,
            in_flight,
            position,
        };
        let limits = Limits { active_sessions: 1, active_users: 9, max_teardowns_per_pass: 3 };
        let allotment = allot(&[candidate(&first, 0, true), candidate(&second, 1, false)], &limits);
        assert_eq!(allotment.slots[&second], Slot::Taken(Wait::Sessions { limit: 1 }));
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
    fn nobody_makes_way_for_a_session_that_cannot_begin_then() {
        let replaces = |sessions: &[(&str, &[&str], StateName, Option<i64>)], limits: (u32, u32)| {
            !World::of(sessions).allot(limits.0, limits.1).superseded.is_empty()
        };
        let old = ("old", &["alice"][..], Provisioning, Some(1));
        assert!(!replaces(&[old, ("new", &["alice"], BackingOff, Some(2))], (9, 9)), "it backs off");
        let team = ("new", &["alice", "bob"][..], Queued, Some(2));
        assert!(
            !replaces(&[old, ("his", &["bob"], Active, Some(1)), team], (9, 9)),
            "its other user is busy"
        );
        assert!(!replaces(&[old, team], (9, 1)), "it has too many users");
        assert!(replaces(&[old, team], (1, 2)));
    }

    #[test]
    fn whoever_replaces_a_session_takes_its_place_in_the_queue() {
        let world = World::of(&[
            ("old", &["alice"], Provisioning, Some(1)),
            ("other", &["bob"], Queued, Some(2)),
            ("new", &["alice"], Queued, Some(3)),
        ]);
        let place = Timestamp::from_second(1).unwrap();
        assert_eq!(world.allot(1, 9).inherited, BTreeMap::from([("new".parse().unwrap(), place)]));
    }

    #[test]
    fn a_session_that_is_going_anyway_is_not_replaced() {
        let world = World::of(&[("old", &["alice"], Starting, None), ("new", &["alice"], Queued, Some(2))]);
        assert!(world.allot(9, 9).superseded.is_empty());
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
