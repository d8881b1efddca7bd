//! One generated history: a document, things that happen, and then calm.

use ebb_core::operator::Wish;
use ebb_core::outcome::Class;
use ebb_core::state::StateName;
use jiff::{SignedDuration, Timestamp};

use super::expected;
use super::mutation::Mutation;
use super::oracle::Rule;
use super::provider::{Fate, Fault, Group, Standing};
use super::sketch::{self, Edit, SIZE, Sketch};
use super::world::World;

/// 08:00 on a Friday, in the middle of no change of clocks.
pub const EPOCH: Timestamp = Timestamp::constant(1_795_161_600, 0);

/// Longer than the longest way back to order: a creation that hangs (10 min) and the longest pause between two series (12.5 min),
/// then the idle timeouts (10 min) of as many sessions as there are, if they have to run one after the other.
const CALM: SignedDuration = SignedDuration::from_mins(75);

/// Passes in which a world that has come to rest must stay as it is.
const STEADY_PASSES: u32 = 100;

/// A generated history.
#[derive(Debug, Clone)]
pub struct Case {
    /// Seed of the world.
    pub seed: u64,
    /// The first document.
    pub sketch: Sketch,
    /// Listings show the world as of up to this many seconds ago.
    pub lag: u8,
    /// Durations vary.
    pub vary: bool,
    /// Requests arrive although the daemon has died.
    pub ghosts: bool,
    /// Logs of gateways can be read.
    pub logs: bool,
    /// What happens, each after a pause in seconds.
    pub steps: Vec<(u8, Op)>,
    /// In the calm, everybody uses everything all the time; else nobody uses anything.
    pub busy: bool,
}

/// Something that happens.
#[derive(Debug, Clone)]
pub enum Op {
    /// Time passes.
    Wait(u16),
    /// The document changes.
    Edit(Edit),
    /// What is there is no document.
    BreakDocument,
    /// It is one again.
    MendDocument,
    /// Somebody approves the teardowns of the document in force.
    Approve,
    /// Somebody starts a session.
    Start(usize),
    /// Somebody stops a session.
    Stop(usize),
    /// A user switches the tunnel on.
    Connect(usize, usize),
    /// A user sends one packet.
    Send(usize, usize),
    /// A user sends for this many seconds.
    Stream(usize, usize, u16),
    /// A user opens a connection.
    OpenFlow(usize, usize),
    /// A user closes all connections.
    CloseFlows(usize, usize),
    /// A user keeps the tunnel alive without data.
    Keepalive(usize, usize),
    /// A user switches the tunnel off.
    Leave(usize, usize),
    /// The control link of a session closes.
    CutLink(usize),
    /// All control links open.
    MendLinks,
    /// A gateway starts anew inside its group.
    RestartGateway(usize),
    /// A gateway ends with an error.
    BreakGateway(usize),
    /// A group vanishes.
    Vanish(usize),
    /// Somebody else deletes a group.
    DeleteGroup(usize),
    /// The daemon's clock is set by this many seconds.
    Jump(i16),
    /// The daemon dies.
    Crash,
    /// The daemon freezes and is replaced.
    Freeze,
    /// The frozen daemon goes on.
    Thaw,
    /// The store loses every record.
    LoseStore,
    /// The next creates go wrong.
    FailCreates(Fault, u8),
    /// The next deletes go wrong.
    FailDeletes(Fault, u8),
    /// The next listings go wrong.
    FailLists(u8),
    /// The next creation ends like this.
    Fate(Fate),
    /// The next group lives through this many deletes.
    Survive(u8),
    /// Somebody else's group appears under a name like ours.
    Foreign(u8),
}

impl Case {
    /// Lives through the history, with a deliberate bug if there is one, and returns the world at its end.
    #[must_use]
    pub fn run(&self, mutation: Option<Mutation>) -> World {
        let mut world = self.begin(mutation);
        let mut sketch = self.sketch.clone();
        for (pause, op) in &self.steps {
            world.advance(SignedDuration::from_secs(i64::from(*pause)));
            apply(&mut world, &mut sketch, op);
            world.judge_present();
        }
        self.calm(&mut world, &sketch);
        world
    }

    /// The world before the first step.
    #[must_use]
    pub fn begin(&self, mutation: Option<Mutation>) -> World {
        let mut world = World::new(self.seed, EPOCH);
        world.mutation = mutation;
        world.pace.vary = self.vary;
        world.ghosts_arrive = self.ghosts;
        world.logs = self.logs;
        world.provider.faults.lag = SignedDuration::from_secs(i64::from(self.lag));
        world.provider.promised_lag = SignedDuration::from_secs(if self.lag > 0 { 30 } else { 0 });
        let survives = self.steps.iter().any(|(_, op)| matches!(op, Op::Survive(_) | Op::Thaw));
        world.oracle.strict = self.lag == 0 && !self.ghosts && !survives;
        world.publish(Some(self.sketch.document(EPOCH)));
        world
    }

    /// Ends all faults, waits, and looks whether everything is as it should be.
    pub fn calm(&self, world: &mut World, sketch: &Sketch) {
        world.thaw();
        // The daemon may have died a moment ago.
        world.advance(world.pace.restart * 4);
        world.provider.faults =
            super::provider::Faults { lag: world.provider.faults.lag, ..Default::default() };
        world.reach_all();
        world.publish(Some(sketch.document(EPOCH)));
        world.approve();
        for (s, u) in pairs() {
            let (session, user) = (sketch::session(s), sketch::user(u));
            world.catch_up(&session);
            if self.busy {
                let client = world.clients.of(&session, &user);
                client.on = true;
                client.streams_until = Some(Timestamp::MAX);
            } else {
                let name = world.name_of(&session);
                world.clients.leave(&session, &user);
                world.clients.close_flows(&session, &user, world.provider.gateway(&name), world.now);
                world.clients.leave(&session, &user);
            }
        }
        world.advance(CALM);
        // Something may be due just now, and a window may have opened a moment ago.
        for _ in 0..60 {
            if !world.is_at_rest() || is_on_its_way(world) {
                world.advance(SignedDuration::from_secs(5));
            }
        }
        world.judge_present();
        for problem in expected::problems(world, self.busy) {
            world.violate(Rule::Converges, problem);
        }
        self.stay(world);
    }

    fn stay(&self, world: &mut World) {
        let sessions = world.daemon.as_ref().map(|daemon| daemon.records.values());
        let ends = !self.busy
            && sessions.is_some_and(|mut records| records.any(|record| !record.state.name().is_down()));
        if ends || changes_by_itself(world) || world.oracle.caught(Rule::Converges) {
            return;
        }
        // What has just come up still waits for the first handshake of its users, and that is written down.
        world.advance(SignedDuration::from_mins(1));
        let before = (world.provider.calls.writes(), world.store.writes, world.passes);
        while world.passes < before.2 + u64::from(STEADY_PASSES) {
            world.trigger();
            world.advance(SignedDuration::from_secs(2));
        }
        let after = (world.provider.calls.writes(), world.store.writes);
        if after != (before.0, before.1) {
            let calls = after.0 - before.0;
            let writes = after.1 - before.1;
            world.violate(
                Rule::SteadyState,
                format!("{calls} calls and {writes} writes although nothing changed"),
            );
        }
    }
}

/// Whether a session is in a state that it leaves by itself.
fn is_on_its_way(world: &World) -> bool {
    let passing =
        [StateName::Provisioning, StateName::Starting, StateName::BackingOff, StateName::Terminating];
    let records = world.daemon.iter().flat_map(|daemon| daemon.records.values());
    records.into_iter().any(|record| passing.contains(&record.state.name()))
}

/// Whether the mere passing of the next minutes changes what is wanted.
fn changes_by_itself(world: &World) -> bool {
    let (now, soon) = (world.clock(), world.clock() + SignedDuration::from_mins(10));
    let Some(document) = world.desired().map(|desired| &desired.document) else { return false };
    let of_all = document.suspended.iter().map(|suspension| suspension.until);
    let of_users = document.users.iter().filter_map(|user| user.until);
    let soon_over = of_all.chain(of_users).any(|at| now < at && at <= soon);
    soon_over
        || document.sessions.iter().any(|session| {
            let schedule = session.schedule.as_ref().and_then(|schedule| schedule.next_change(now));
            let suspended = session.suspended.as_ref().map(|suspension| suspension.until);
            let moments = [schedule.map(|(at, _)| at), suspended, session.until];
            session.max_lifetime.is_some() || moments.into_iter().flatten().any(|at| now < at && at <= soon)
        })
}

/// Every pair of session and user.
pub fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..SIZE).flat_map(|s| (0..SIZE).map(move |u| (s, u)))
}

/// Lets one thing happen.
pub fn apply(world: &mut World, sketch: &mut Sketch, op: &Op) {
    match op {
        Op::Wait(seconds) => world.advance(SignedDuration::from_secs(i64::from(*seconds))),
        Op::Edit(edit) => {
            sketch.apply(edit);
            world.publish(Some(sketch.document(EPOCH)));
        }
        Op::BreakDocument => world.publish(None),
        Op::MendDocument => world.publish(Some(sketch.document(EPOCH))),
        Op::Approve => world.approve(),
        Op::Start(n) => request(world, *n, Wish::Start),
        Op::Stop(n) => request(world, *n, Wish::Stop),
        Op::CutLink(n) => world.set_reachable(&sketch::session(*n), false),
        Op::MendLinks => world.reach_all(),
        Op::Jump(seconds) => world.jump_clock(SignedDuration::from_secs(i64::from(*seconds))),
        Op::Crash => world.crash(),
        Op::Freeze => world.freeze(),
        Op::Thaw => world.thaw(),
        Op::LoseStore => {
            world.crash();
            world.store.lose();
            world.oracle.forget();
        }
        Op::FailCreates(fault, times) => repeat(&mut world.provider.faults.create, fault, *times),
        Op::FailDeletes(fault, times) => repeat(&mut world.provider.faults.delete, fault, *times),
        Op::FailLists(times) => {
            repeat(&mut world.provider.faults.list, &Fault::Refuse(Class::Transient), *times);
        }
        Op::Fate(fate) => world.provider.faults.fates.push_back(*fate),
        Op::Survive(times) => world.provider.faults.survivals.push_back(u32::from(*times)),
        Op::Foreign(n) => place_foreign(world, *n),
        Op::RestartGateway(n) | Op::BreakGateway(n) | Op::Vanish(n) | Op::DeleteGroup(n) => {
            disturb(world, *n, op);
        }
        Op::Connect(..)
        | Op::Send(..)
        | Op::Stream(..)
        | Op::OpenFlow(..)
        | Op::CloseFlows(..)
        | Op::Keepalive(..)
        | Op::Leave(..) => use_session(world, op),
    }
}

fn use_session(world: &mut World, op: &Op) {
    let (s, u) = match op {
        Op::Connect(s, u) | Op::Send(s, u) | Op::Stream(s, u, _) | Op::OpenFlow(s, u) => (*s, *u),
        Op::CloseFlows(s, u) | Op::Keepalive(s, u) | Op::Leave(s, u) => (*s, *u),
        _ => return,
    };
    let (session, user, now) = (sketch::session(s), sketch::user(u), world.now);
    world.catch_up(&session);
    let name = world.name_of(&session);
    let gateway = world.provider.gateway(&name);
    match op {
        Op::Connect(..) => world.clients.connect(&session, &user),
        Op::Send(..) => drop(world.clients.send(&session, &user, gateway, now)),
        Op::Stream(_, _, seconds) => {
            let client = world.clients.of(&session, &user);
            client.on = true;
            client.streams_until = Some(now + SignedDuration::from_secs(i64::from(*seconds)));
        }
        Op::OpenFlow(..) => drop(world.clients.open_flow(&session, &user, gateway, now)),
        Op::CloseFlows(..) => drop(world.clients.close_flows(&session, &user, gateway, now)),
        Op::Keepalive(..) => {
            let client = world.clients.of(&session, &user);
            (client.on, client.keepalive) = (true, true);
        }
        _ => world.clients.leave(&session, &user),
    }
}

fn disturb(world: &mut World, n: usize, op: &Op) {
    let session = sketch::session(n);
    world.catch_up(&session);
    let (name, now) = (world.name_of(&session), world.now);
    let running = world.provider.groups().get(&name).is_some_and(|group| group.standing == Standing::Running);
    let standing = match op {
        Op::RestartGateway(_) => return world.provider.restart(&name, now),
        Op::BreakGateway(_) if running => Some(Standing::Exited { status: 137 }),
        Op::DeleteGroup(_) => Some(Standing::Deleting { until: now + world.pace.gone }),
        Op::Vanish(_) => None,
        _ => return,
    };
    world.oracle.disturbed.insert(session);
    world.provider.disturb(&name, standing, now);
}

fn place_foreign(world: &mut World, n: u8) {
    let group = foreign(n);
    let name = ebb_core::names::GatewayName::listed(&format!("ebb-homer-s{n}"));
    world.provider.place(name, group, world.now);
}

/// A group of somebody else's deployment.
///
/// # Panics
/// Never: all its parts are well formed.
#[must_use]
pub fn foreign(n: u8) -> Group {
    Group {
        deployment: "homer".parse().expect("a name"),
        session: sketch::session(usize::from(n)),
        run: format!("foreign-{n}").into(),
        generation: ebb_core::names::Generation(1),
        hash: ebb_core::names::Hash::from_tag("foreign"),
        port: 41820,
        created_at: EPOCH,
        standing: Standing::Running,
        gateway: None,
        survives: 0,
    }
}

fn request(world: &mut World, n: usize, wish: Wish) {
    let session = sketch::session(n);
    // The API answers 404 for a session that nobody knows.
    if matches!(world.store.get(&session), Ok(Some(_))) {
        world.request(&session, wish);
    }
}

fn repeat(faults: &mut std::collections::VecDeque<Fault>, fault: &Fault, times: u8) {
    faults.extend(std::iter::repeat_n(fault.clone(), usize::from(times)));
}
