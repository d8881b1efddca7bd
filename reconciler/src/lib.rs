//! Ebb: WireGuard sessions that exist only while somebody uses them.
//!
//! `ebb-core` decides; this crate is everything with a clock, a socket or a cloud around it.
//!
//! | module | what it is |
//! |---|---|
//! | [`source`] | where the desired-state document comes from |
//! | [`provider`] | where gateways run |
//! | [`store`] | where records and history are kept |
//! | [`secrets`] | where private keys are kept |
//! | [`telemetry`] | the daemon's links to its gateways, through their tunnels |
//! | [`leadership`] | for which sessions the daemon may act, and until when |
//! | [`engine`] | the loop that joins them |
//! | [`http`], [`metrics`], [`cli`] | what people touch |

mod atomic;
#[cfg(feature = "azure")]
pub mod azure;
pub mod cli;
pub mod client_config;
mod clock;
mod deployment;
pub mod engine;
pub mod http;
pub mod leadership;
pub mod metrics;
pub mod preview;
pub mod provider;
pub mod proxy;
pub mod reporter;
pub mod secrets;
pub mod setup;
pub mod source;
pub mod store;
pub mod telemetry;
pub mod tunnel;
pub mod view;
