//! What happens when nobody can say whether a session is in use: nothing, visibly.

use std::time::Duration;

use ebb::view::SessionView;
use ebb_core::condition::{ConditionKind, Status};
use ebb_core::idle::STALE_AFTER;
use ebb_core::state::StateName;
use ebb_tests::e2e::daemon::SOON;
use ebb_tests::e2e::world::SERVER;
use ebb_tests::e2e::{Client, Daemon};
use nix::sys::signal::{Signal, kill};

use crate::{home, world};

fn known(view: &SessionView) -> Status {
    let mut conditions = view.conditions.iter();
    conditions.find(|c| c.kind == ConditionKind::TelemetryKnown).map_or(Status::Unknown, |c| c.status)
}

#[test]
fn a_gateway_that_cannot_be_asked_is_never_torn_down() {
    let Some(world) = world() else { return };
    // Longer than the grace period: use in that time shows when the period ends, and for as long as the timeout is longer.
    let daemon = Daemon::with_document(&world, &home(&["alice"], "idleTimeout: 15s"));
    daemon.await_state("home", StateName::Active, SOON);
    let alice = Client::connected(&world, 1, "alice", "home");
    assert!(alice.pings(SERVER));
    let gateway = daemon.gateway("home");
    kill(gateway, Signal::SIGSTOP).unwrap();

    // Long after the timeout, the grace, and the age at which the last report stops to count.
    let stale = Duration::try_from(STALE_AFTER).unwrap();
    let doubtful = |view: &SessionView| known(view) != Status::True && view.next.is_none_or(|_| true);
    let what = "shows that nobody knows";
    let view = daemon.await_session("home", what, stale + SOON, |view| {
        doubtful(view) && view.because.iter().any(|line| line.contains("that tears nothing down"))
    });
    assert!(view.state_name().is_up(), "{view:?}");
    assert_eq!(daemon.gateway("home"), gateway);
    let explained = world.ebb(&["explain", "home"]).success().stdout;
    assert!(explained.contains("TelemetryKnown="), "{explained}");
    let (_, metrics) = daemon.get("/metrics");
    assert!(metrics.contains("type=\"TelemetryKnown\""), "{metrics}");

    kill(gateway, Signal::SIGCONT).unwrap();
    daemon.await_session("home", "is known again", SOON, |view| known(view) == Status::True);
    assert_eq!(daemon.gateway("home"), gateway);
    alice.await_reach(SERVER);
    daemon.await_session("home", "is in use again", SOON, |view| view.state_name() == StateName::Active);
}
