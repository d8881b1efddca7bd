//! Ebb from the outside: the shipped program, real gateways, and a WireGuard client that nobody here wrote.

#![allow(clippy::unwrap_used, reason = "a test ends where its world is not as it says")]

mod azure;
mod blob;
mod commands;
mod connect;
mod crash;
mod doctor;
mod document;
mod doubt;
mod egress;
mod faults;
mod git;
mod history;
mod idle;
mod interop;
mod metrics;
mod privileges;
mod secrets;
mod sources;
mod statuses;
mod tags;
mod takeover;
mod traffic;
mod vnet;
mod webhook;

use ebb_tests::e2e::{Place, World};

/// A world with the program under test.
fn world() -> Option<World> {
    World::build(env!("CARGO_BIN_EXE_ebb-under-test"))
}

/// A document with one session of these users, and these further lines of it.
fn home(users: &[&str], lines: &str) -> String {
    let declared: String = users.iter().map(|user| format!("  - name: {user}\n")).collect();
    let lines: String = lines.lines().map(|line| format!("    {}\n", line.trim())).collect();
    let users = users.join(", ");
    format!(
        "version: 1\ndeployment: home\nusers:\n{declared}sessions:\n  - name: home\n    users: [{users}]\n    \
         region: {}\n{lines}",
        Place::chosen().region()
    )
}
