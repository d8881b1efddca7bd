//! What a world must look like once nothing disturbs it: the specification, written down independently of the planner.

use std::collections::BTreeSet;

use ebb_core::names::Hash;
use ebb_core::record::Record;
use ebb_core::spec::{self, Template};
use ebb_core::state::{State, Wait};
use ebb_desired_state::{Session, UserName};
use jiff::SignedDuration;

use super::provider::Standing;
use super::world::World;

/// A session may run for this long without a user: it comes up, waits for its first user or its idle timeout, and goes.
const YOUNG: SignedDuration = SignedDuration::from_mins(12);

/// Everything that is not as it should be. With `busy`, every user uses every session all the time; else nobody uses anything.
///
/// # Panics
/// When the store holds a record that cannot be read, which nothing in a simulated world causes.
#[must_use]
pub fn problems(world: &World, busy: bool) -> Vec<String> {
    let Some(desired) = world.desired() else { return vec!["there is no document".to_owned()] };
    let records = world.store.load().expect("a record that the simulation wrote");
    let mut problems = Vec::new();
    if !world.is_at_rest() {
        problems.push("the last pass planned something".to_owned());
    }
    for session in &desired.document.sessions {
        let Some((_, record)) = records.get(&session.name) else {
            problems.push(format!("{}: there is no record", session.name));
            continue;
        };
        problems.extend(
            of_session(world, session, record, busy).map(|problem| format!("{}: {problem}", session.name)),
        );
    }
    let undeclared = records.keys().filter(|name| desired.document.session(name).is_none());
    problems.extend(undeclared.map(|name| format!("{name}: remembered although it is not declared")));
    for (name, group) in world.provider.groups() {
        let ours = group.deployment == desired.document.deployment;
        if ours && *name != world.name_of(&group.session) {
            problems.push(format!("{name}: stands under a name of nobody"));
        } else if ours && desired.document.session(&group.session).is_none() {
            problems.push(format!("{name}: left behind"));
        }
    }
    problems
}

fn of_session(world: &World, session: &Session, record: &Record, busy: bool) -> Option<String> {
    let group = world.provider.groups().get(&world.name_of(&session.name));
    let state = &record.state;
    if must_rest(world, session) || record.latch.is_some() {
        let rests = matches!(state, State::Parked { .. } | State::Suspended);
        return (!rests || group.is_some())
            .then(|| format!("should rest, is {state:?} with group {group:?}"));
    }
    if let State::Queued { wait } = state {
        return if group.is_some() {
            Some("waits, but has a group".to_owned())
        } else {
            (!waits_rightly(world, session, wait)).then(|| format!("waits without need: {wait}"))
        };
    }
    if !busy {
        let young = world.clock().duration_since(record.since) < YOUNG;
        return (!young).then(|| format!("nobody uses it, is {state:?} since {}", record.since));
    }
    let Some(group) = group else { return Some(format!("should run, is {state:?} without a group")) };
    let live = group.gateway.as_ref().and_then(|gateway| gateway.live());
    let peers: BTreeSet<&str> =
        live.into_iter().flat_map(|live| &live.peers).map(|peer| peer.name.as_str()).collect();
    let users = entitled(world, session);
    let users: BTreeSet<&str> = users.iter().map(UserName::as_str).collect();
    let right = *state == State::Active
        && group.standing == Standing::Running
        && group.hash == Hash::of(&Template::of(session))
        && live.is_some_and(|live| live.dns.upstream == session.dns.upstream)
        && peers == users;
    (!right).then(|| {
        format!("should run with {users:?}, is {state:?} with {peers:?} in group {:?}", group.standing)
    })
}

/// Whether the document itself says that the session rests now.
fn must_rest(world: &World, session: &Session) -> bool {
    let Some(desired) = world.desired() else { return true };
    let now = world.clock();
    let suspended = desired.document.suspended.iter().chain(&session.suspended).any(|s| now < s.until);
    suspended
        || session.until.is_some_and(|until| until <= now)
        || session.schedule.as_ref().is_some_and(|schedule| !schedule.is_open(now))
        || entitled(world, session).is_empty()
}

fn waits_rightly(world: &World, session: &Session, wait: &Wait) -> bool {
    let Some(desired) = world.desired() else { return false };
    let document = &desired.document;
    let mine = entitled(world, session);
    let mut running = 0_u32;
    let mut theirs: BTreeSet<UserName> = BTreeSet::new();
    for other in &document.sessions {
        let state = world.store.get(&other.name).ok().flatten().map(|record| record.state);
        if other.name != session.name && state.is_some_and(|state| state.name().holds_slot()) {
            running += 1;
            theirs.extend(entitled(world, other));
        }
    }
    let users = u32::try_from(theirs.union(&mine).count()).unwrap_or(u32::MAX);
    match wait {
        Wait::Turn => false,
        Wait::Sessions { .. } => running + 1 > document.limits.active_sessions,
        Wait::Users { .. } => users > document.limits.active_users,
        Wait::User { user, .. } => mine.contains(user) && theirs.contains(user),
    }
}

fn entitled(world: &World, session: &Session) -> BTreeSet<UserName> {
    let Some(desired) = world.desired() else { return BTreeSet::new() };
    spec::entitled(&desired.document, session, world.clock()).map(|user| user.name.clone()).collect()
}
