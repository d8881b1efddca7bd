//! The desired-state document: which sessions are wanted, who may use them, and how long they may idle.
//!
//! Everything here is pure: text in, values out. Nothing reads a clock, a file or a socket, and the time zone rules are the ones
//! compiled in, so that one document means the same on every machine.

mod diff;
mod document;
mod duration;
mod hash;
mod name;
mod problem;
mod quantity;
mod reader;
mod resolve;
mod schedule;
mod schema;
mod serial;
mod session;
mod similar;
mod text;
mod values;
mod written;

pub use diff::{Change, Diff, Subject, diff};
pub use document::{Document, Drift, Limits, Suspension, User};
pub use hash::{ApiKeyHash, HashError};
pub use name::{DeploymentName, NameError, SessionName, UserName};
pub use problem::{Fault, Problem, Problems};
pub use quantity::{Quantity, QuantityError};
pub use schedule::{Days, Hours, Schedule, ScheduleError};
pub use schema::SCHEMA;
pub use session::{Addresses, Dns, Idle, Network, Placement, Session, Signal, Size};
pub use text::MAX_BYTES;
pub use values::reserved_by_aci;

/// Version of the document format that this crate reads.
pub const VERSION: u32 = 1;

/// Reads a document.
///
/// Time plays no part: a document stays valid however old the moments in it become.
///
/// # Errors
/// Everything that is wrong with the document, each with its place and its line, when it is not valid. Nothing of an invalid
/// document can be had, so that nobody acts on a part of one.
///
/// ```
/// let document = ebb_desired_state::parse(
///     "version: 1\n\
///      deployment: home\n\
///      users: [{ name: alice }]\n\
///      sessions: [{ name: alice-home, users: [alice], region: local }]\n",
/// )?;
/// assert_eq!(document.sessions[0].idle.timeout.as_secs(), 600);
///
/// let problems = ebb_desired_state::parse("version: 1\ndeployment: home\nusers: []\nsessions: {}\n").unwrap_err();
/// assert_eq!(problems.to_string(), "\
/// error: expected a list, found a map
///  --> desired-state.yaml:4:11
///   |
/// 4 | sessions: {}
///   |           ^ sessions
///
/// desired-state.yaml: 1 problem");
/// # Ok::<(), ebb_desired_state::Problems>(())
/// ```
pub fn parse(text: &str) -> Result<Document, Problems> {
    parse_bytes(text.as_bytes())
}

/// Reads a document as it comes from a file or a network: UTF-8, at most [`MAX_BYTES`].
///
/// # Errors
/// As [`parse`].
pub fn parse_bytes(bytes: &[u8]) -> Result<Document, Problems> {
    let text = text::decode(bytes).map_err(Problems::one)?;
    let node = text::read(text).map_err(Problems::one)?;
    let mut cx = reader::Cx::new(text);
    let written = <written::Document as reader::Value>::read(&node, &mut cx);
    let document = written.and_then(|written| resolve::resolve(written, text, &mut cx));
    match document {
        Some(document) => Ok(document),
        None => Err(cx.finish()),
    }
}
