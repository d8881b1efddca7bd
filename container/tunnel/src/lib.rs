//! The tunnel without sockets: bytes and the time go in, bytes and the next deadline come out.
//!
//! Nothing here reads a clock, opens a socket or draws a random number; [`Time`] and seeds are parameters. That makes every
//! path replayable, and one loop in `ebb-gateway` the only place where the kernel is asked for anything.

pub mod client;
pub mod dns;
pub mod mapping;
pub mod packet;
pub mod policy;
pub mod tcp;
mod time;
pub mod timer;
pub mod wireguard;

pub use time::Time;
