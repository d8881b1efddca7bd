//! A world in which time is a number: the planner runs against a provider, gateways, users and a daemon that behave as badly as
//! real ones, thousands of times faster.
//!
//! ```text
//!   script or generated case ──▶ World ── advance ──▶ Provider, Gateway, Clients     what is
//!                                  │                   Daemon ── plan ── executor     what Ebb does about it
//!                                  └──────────────────▶ Oracle                        what must hold, judged by the truth
//! ```
//!
//! The [`oracle`] sees the truth, which the daemon never does, and says so whenever a promise is broken. A [`mutation`] is a
//! deliberate bug, by which the oracles themselves are tested.

pub mod case;
pub mod client;
pub mod daemon;
pub mod executor;
pub mod expected;
pub mod gateway;
mod judge;
pub mod mutation;
pub mod oracle;
pub mod pace;
pub mod provider;
mod reads;
pub mod script;
pub mod sketch;
pub mod store;
pub mod world;

pub use case::Case;
pub use mutation::Mutation;
pub use oracle::{Rule, Violation};
pub use world::World;
