//! The desired-state document: which sessions are wanted, who may use them, and how long they may idle.
//!
//! Everything here is pure: text in, values out. Nothing reads a clock, a file or a socket, and the time zone rules are the ones
//! compiled in, so that one document means the same on every machine.

mod document;
mod duration;
mod hash;
mod name;
mod quantity;
mod schedule;
mod serial;
mod session;
mod similar;

pub use document::{Document, Drift, Limits, Suspension, User};
pub use hash::{ApiKeyHash, HashError};
pub use name::{DeploymentName, NameError, SessionName, UserName};
pub use quantity::{Quantity, QuantityError};
pub use schedule::{Days, Hours, Schedule, ScheduleError};
pub use session::{Addresses, Dns, Idle, Network, Session, Signal, Size};

/// Version of the document format that this crate reads.
pub const VERSION: u32 = 1;
