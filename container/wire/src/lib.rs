//! What a gateway and the daemon say to each other.
//!
//! ```text
//!   daemon ── boot file ──────────────────────────────▶ gateway    (once, at start)
//!   daemon ══ WireGuard peer ══ TCP CONTROL_PORT ═════▶ gateway    (requests and replies)
//!   daemon ◀─ one JSON line a minute on standard output ─ gateway  (when the tunnel cannot be reached)
//! ```
//!
//! The boot file holds only what never changes while the gateway runs; peers, routes and names arrive through the tunnel, so
//! that a restarted gateway lets nobody in whom the desired state has since dropped.
//!
//! Every message carries [`VERSION`]. A reader ignores fields it does not know and refuses a version it does not know.

mod boot;
mod control;
mod frame;
mod key;
mod live;
mod telemetry;

pub use boot::{Boot, BootError};
pub use control::{CONTROL_PORT, DAEMON_ADDRESS, GATEWAY_ADDRESS, Refusal, Reply, Request, control_network};
pub use frame::{FrameError, Frames, MAX_FRAME, encode};
pub use key::{KeyError, PrivateKey, PublicKey};
pub use live::{Digest, Dns, Live, Peer};
pub use telemetry::{Flows, LogLine, PeerTelemetry, Telemetry};

/// Version of every message in this crate.
pub const VERSION: u16 = 1;
