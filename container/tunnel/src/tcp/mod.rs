//! One TCP connection, seen from our end of the tunnel.
//!
//! A [`Connection`] is told what arrived ([`Connection::receive`]) and what time it is, and asked what to send
//! ([`Connection::transmit`]) and when to ask again ([`Connection::deadline`]). Bytes of the stream are exchanged through two
//! rings, as slices that suit `readv` and `writev`.
//!
//! # One round of the caller's loop
//! ```text
//! for each segment of the batch:   connection.receive(&segment, now)
//! while readable and socket takes: connection.consume(writev(socket, connection.readable()))
//! while room and socket has:       connection.commit(readv(socket, connection.writable()))
//! loop:                            connection.transmit(&mut buffer, now) until None
//! arm a timer for                  connection.deadline(); when due: expire(now), then transmit
//! ```
//! Transmit *after* the batch: that makes one acknowledgment of many, and it carries the window that `consume` opened.

mod budget;
mod checksum;
mod clock;
mod connection;
mod isn;
mod ranges;
mod receiver;
mod ring;
mod segment;
mod sender;
mod seq;
mod settings;

pub use budget::Budget;
pub use connection::{Connection, End, State, Statistics};
pub use isn::initial_sequence;
pub use segment::{Flags, HEADER, HEADER_MAX, Options, SackBlocks, Segment, SynInfo, Timestamps, reset_for};
pub use seq::Seq;
pub use settings::{Keepalive, Settings};
