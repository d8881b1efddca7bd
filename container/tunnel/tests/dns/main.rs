//! The resolver from outside: bytes of clients and upstreams in, bytes out, time as a number.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bed;
mod caching;
mod forwarding;
mod fuzz;
mod limits;
mod model;
mod names;
mod protection;
mod protocol;
