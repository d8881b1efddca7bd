//! The resolver inside the tunnel, without sockets: it answers on port 53 of the gateway's tunnel addresses.
//!
//! # Names
//! | name | answer |
//! |---|---|
//! | `gateway.ebb.internal`, `<session>.ebb.internal` | the gateway |
//! | `<user>.ebb.internal` | the user's addresses inside the tunnel |
//! | a key of `dns.names` | its addresses; a key of one label, such as `wiki`, answers as `wiki` and as `wiki.ebb.internal` |
//! | reverse names of tunnel addresses | the name under `ebb.internal` |
//! | everything else | what an upstream says |
//!
//! Where names collide, `dns.names` wins over `gateway`, that over users, those over the session. `internal` is the
//! top-level domain that ICANN reserved for private use (board resolution 2024.07.29.06), so nothing public is shadowed.
//! `A`, `AAAA` and `PTR` exist; another type of a name above is answered "no data", never asked upstream.
//!
//! # Use
//! After every call, take everything out of [`Resolver::poll_answer`] and [`Resolver::poll_upstream`], and call
//! [`Resolver::expire`] at [`Resolver::deadline`]. Time never goes back.
//!
//! ```
//! use ebb_tunnel::{Time, dns::{Client, Config, Resolver, Settings, Transport}};
//!
//! let mut resolver = Resolver::new(Settings::default(), [7; 32], Box::new(|_| true));
//! let config = Config {
//!     session: "alice-east",
//!     dns: &Default::default(),
//!     peers: &[],
//!     gateway: &["10.8.0.1".parse().unwrap()],
//!     networks: &["10.8.0.0/24".parse().unwrap()],
//!     fallback: &["1.1.1.1".parse().unwrap()],
//! };
//! resolver.configure(&config).unwrap();
//! let client = Client { peer: 0, flow: 0, source: "10.8.0.2:5000".parse().unwrap(), transport: Transport::Udp };
//! let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07gateway\x03ebb\x08internal\0\0\x01\0\x01";
//! resolver.query(client, query, Time::ZERO);
//! let (to, answer) = resolver.poll_answer().unwrap();
//! assert_eq!(to, client);
//! assert!(answer.ends_with(&[10, 8, 0, 1]));
//! ```

mod address;
mod answer;
mod cache;
mod forward;
mod fuzz;
mod names;
mod outstanding;
mod query;
mod reply;
mod resolver;
mod settings;
mod special;
mod stream;
mod types;
mod upstreams;

pub use fuzz::fuzz;
pub use resolver::Resolver;
pub use settings::Settings;
pub use stream::{Frames, frame};
pub use types::{Attempt, Client, Config, ConfigError, Stats, Transport, Upstream};
