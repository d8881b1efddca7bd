//! The real gateway binary between real network namespaces, driven through the tunnel.
//!
//! ```text
//!   client ──── veth ──── gateway ──── veth ──── server
//!   172.31.1.2          .1.1  .2.1            172.31.2.2
//!   fd31:1::2          ::1    fd31:2::1       fd31:2::2
//! ```
//! Namespaces need root; without it the tests say so and do nothing. The gateway itself always runs as nobody, without any
//! capability.

#[cfg(test)]
mod bed;
#[cfg(test)]
mod control;
#[cfg(test)]
mod daemon;
#[cfg(test)]
mod dns;
#[cfg(test)]
mod host;
#[cfg(test)]
mod interop;
#[cfg(test)]
mod life;
#[cfg(test)]
mod loops;
#[cfg(test)]
mod tcp;
#[cfg(test)]
mod udp;
