//! A world for end-to-end tests: the real daemon, real gateways, Debian's `wireguard-go`, and kernel network namespaces.
//!
//! ```text
//!   client 1 ──┐                  ┌── ebb run ── gateways            ┌── 45.45.45.1, 2a0e:45::1: web, echo, names
//!              ├── 198.51.100.1 ──┤ host                ── 45.45.45.0/24 ── internet
//!   client 2 ──┘                  └── does not forward               └── 10.50.0.1, 169.254.169.254, 168.63.129.16
//! ```
//!
//! Every test has a world of its own, so ports and addresses are the same in all of them and nothing collides. A namespace lives
//! as long as something in it does; when a test ends, in whatever way, everything that it started is killed.
#![expect(
    clippy::missing_panics_doc,
    reason = "a world that cannot be built, or a wait that takes too long, fails the test"
)]

pub mod client;
pub mod command;
pub mod daemon;
pub mod namespace;
pub mod process;
pub mod relay;
pub mod repository;
pub mod server;
pub mod transfer;
pub mod wait;
pub mod world;

pub use client::Client;
pub use command::Output;
pub use daemon::Daemon;
pub use repository::Repository;
pub use transfer::Download;
pub use wait::eventually;
pub use world::{Place, World};
