//! Histories at random.

use ebb_core::outcome::Class;
use ebb_desired_state::Signal;
use ebb_tests::sim::case::{Case, Op};
use ebb_tests::sim::provider::{Fate, Fault};
use ebb_tests::sim::sketch::{Edit, SIZE, SessionSketch, Sketch};
use proptest::array::uniform4;
use proptest::option;
use proptest::prelude::*;

/// Which kinds of trouble a history may hold.
#[derive(Debug, Clone, Copy)]
pub struct Trouble {
    /// Refused and lost calls, creations that fail, groups that survive a delete.
    pub provider: bool,
    /// Gateways that break, restart or vanish; links that close.
    pub gateways: bool,
    /// Daemons that die or freeze, stores that lose everything.
    pub daemon: bool,
    /// Clocks that are set.
    pub clock: bool,
    /// Listings from the past and requests that arrive late.
    pub stale: bool,
}

impl Trouble {
    pub const ALL: Self = Self { provider: true, gateways: true, daemon: true, clock: true, stale: true };
    pub const NONE: Self =
        Self { provider: false, gateways: false, daemon: false, clock: false, stale: false };
}

/// A history of up to `length` steps.
pub fn case(length: usize, trouble: Trouble) -> impl Strategy<Value = Case> {
    let lag = if trouble.stale { (0_u8..=25).boxed() } else { Just(0).boxed() };
    (
        any::<u64>(),
        sketch(),
        lag,
        any::<bool>(),
        any::<bool>().prop_map(move |ghosts| ghosts && trouble.stale),
        any::<bool>(),
        prop::collection::vec((pause(), op(trouble)), 0..length),
        prop::bool::weighted(0.6),
    )
        .prop_map(|(seed, sketch, lag, vary, ghosts, logs, steps, busy)| Case {
            seed,
            sketch,
            lag,
            vary,
            ghosts,
            logs,
            steps,
            busy,
        })
}

fn pause() -> impl Strategy<Value = u8> {
    prop_oneof![3 => 0_u8..3, 4 => 3_u8..40, 2 => 40_u8..=200]
}

fn moment() -> impl Strategy<Value = u16> {
    60_u16..1500
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let limits = (
        prop_oneof![3 => Just(4_u32), 1 => 0_u32..4],
        prop_oneof![3 => Just(4_u32), 1 => 0_u32..4],
        0_u32..5,
    );
    (
        limits,
        option::weighted(0.05, moment()),
        uniform4(option::weighted(0.1, moment())),
        uniform4(session_sketch()),
    )
        .prop_map(|((active_users, active_sessions, max_teardowns), suspended, until, sessions)| {
            Sketch { active_users, active_sessions, max_teardowns, suspended, until, sessions }
        })
}

fn session_sketch() -> impl Strategy<Value = SessionSketch> {
    (
        prop::bool::weighted(0.7),
        1_u8..16,
        0_usize..4,
        prop_oneof![3 => Just(Signal::Traffic), 1 => Just(Signal::Handshake)],
        option::weighted(0.1, 700_u16..900),
        option::weighted(0.1, moment()),
        option::weighted(0.1, moment()),
        option::weighted(0.1, 0_u8..50),
        0_u8..2,
    )
        .prop_map(|(present, users, timeout, signal, lifetime, until, suspended, opens, wake)| {
            SessionSketch {
                present,
                users,
                timeout,
                signal,
                lifetime,
                until,
                suspended,
                opens,
                wake,
                template: 0,
                dns: 0,
            }
        })
}

fn op(trouble: Trouble) -> BoxedStrategy<Op> {
    let mut kinds = vec![(8, user_op().boxed()), (6, operator_op().boxed())];
    if trouble.provider {
        kinds.push((3, provider_op().boxed()));
    }
    if trouble.gateways {
        kinds.push((3, gateway_op().boxed()));
    }
    if trouble.daemon {
        kinds.push((2, daemon_op().boxed()));
    }
    if trouble.clock {
        kinds.push((1, (-4000_i16..4000).prop_map(Op::Jump).boxed()));
    }
    if trouble.stale {
        kinds.push((1, (1_u8..3).prop_map(Op::Survive).boxed()));
    }
    proptest::strategy::Union::new_weighted(kinds).boxed()
}

fn session() -> impl Strategy<Value = usize> {
    0..SIZE
}

fn user_op() -> impl Strategy<Value = Op> {
    let pair = || (session(), 0..SIZE);
    prop_oneof![
        2 => pair().prop_map(|(s, u)| Op::Connect(s, u)),
        3 => pair().prop_map(|(s, u)| Op::Send(s, u)),
        3 => (pair(), 5_u16..400).prop_map(|((s, u), seconds)| Op::Stream(s, u, seconds)),
        1 => pair().prop_map(|(s, u)| Op::OpenFlow(s, u)),
        1 => pair().prop_map(|(s, u)| Op::CloseFlows(s, u)),
        1 => pair().prop_map(|(s, u)| Op::Keepalive(s, u)),
        1 => pair().prop_map(|(s, u)| Op::Leave(s, u)),
        4 => (60_u16..700).prop_map(Op::Wait),
    ]
}

fn operator_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => edit().prop_map(Op::Edit),
        1 => Just(Op::BreakDocument),
        1 => Just(Op::MendDocument),
        1 => Just(Op::Approve),
        2 => session().prop_map(Op::Start),
        2 => session().prop_map(Op::Stop),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    let maybe = || option::weighted(0.6, moment());
    prop_oneof![
        4 => (session(), any::<bool>()).prop_map(|(n, present)| Edit::Present(n, present)),
        3 => (session(), 1_u8..16).prop_map(|(n, users)| Edit::Users(n, users)),
        1 => (session(), 0_usize..4).prop_map(|(n, timeout)| Edit::Timeout(n, timeout)),
        2 => (session(), 0_u8..3).prop_map(|(n, template)| Edit::Template(n, template)),
        2 => (session(), 0_u8..3).prop_map(|(n, dns)| Edit::Dns(n, dns)),
        2 => (session(), 0_u8..3).prop_map(|(n, wake)| Edit::Wake(n, wake)),
        1 => (session(), maybe()).prop_map(|(n, until)| Edit::Suspend(n, until)),
        1 => maybe().prop_map(Edit::SuspendAll),
        1 => (session(), maybe()).prop_map(|(n, until)| Edit::Until(n, until)),
        1 => (session(), maybe()).prop_map(|(n, until)| Edit::UserUntil(n, until)),
        1 => (session(), option::of(0_u8..50)).prop_map(|(n, opens)| Edit::Opens(n, opens)),
        1 => (0_u32..5, 0_u32..5, 0_u32..5).prop_map(|(users, sessions, ends)| Edit::Limits(users, sessions, ends)),
        1 => Just(Edit::Clear),
    ]
}

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![
        Just(Class::Transient),
        (1_u64..120).prop_map(|retry_after_seconds| Class::Throttled { retry_after_seconds }),
        Just(Class::Quota),
        Just(Class::Conflict),
        Just(Class::Stalled),
        Just(Class::Fatal),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![2 => class().prop_map(Fault::Refuse), 1 => Just(Fault::LoseAnswer)]
}

fn provider_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (fault(), 1_u8..5).prop_map(|(fault, times)| Op::FailCreates(fault, times)),
        3 => (fault(), 1_u8..5).prop_map(|(fault, times)| Op::FailDeletes(fault, times)),
        1 => (1_u8..5).prop_map(Op::FailLists),
        1 => Just(Op::Fate(Fate::Fails)),
        1 => Just(Op::Fate(Fate::Hangs)),
        1 => (0_u8..4).prop_map(Op::Foreign),
    ]
}

fn gateway_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => session().prop_map(Op::CutLink),
        2 => Just(Op::MendLinks),
        1 => session().prop_map(Op::RestartGateway),
        1 => session().prop_map(Op::BreakGateway),
        1 => session().prop_map(Op::Vanish),
        1 => session().prop_map(Op::DeleteGroup),
    ]
}

fn daemon_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Crash),
        1 => Just(Op::Freeze),
        1 => Just(Op::Thaw),
        1 => Just(Op::LoseStore),
    ]
}
