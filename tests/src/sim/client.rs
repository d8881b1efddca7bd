//! People's devices, and the truth about when they used a session.

use std::collections::BTreeMap;

use ebb_desired_state::{SessionName, UserName};
use jiff::{SignedDuration, Timestamp};

use super::gateway::{Gateway, REKEY_AFTER};

/// Bytes of one data packet.
const PACKET: u64 = 100;

/// One user's tunnel to one session.
#[derive(Debug, Clone, Default)]
pub struct Client {
    /// The tunnel is switched on.
    pub on: bool,
    /// `PersistentKeepalive` is set: handshakes without data.
    pub keepalive: bool,
    /// Sends data all the time until then.
    pub streams_until: Option<Timestamp>,
    /// Wants a handshake although it has nothing to send.
    knocks: bool,
    /// Brought up to date until then.
    seen_to: Option<Timestamp>,
}

/// When somebody really used a session.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    /// Spans of data packets and open flows, in order; only those of the last day are kept.
    pub spans: Vec<(Timestamp, Timestamp)>,
    /// The last handshake.
    pub handshake_at: Option<Timestamp>,
}

impl Truth {
    /// Whether anything was sent or open in the span from `from` to `to`.
    #[must_use]
    pub fn used_between(&self, from: Timestamp, to: Timestamp) -> bool {
        self.spans.iter().any(|(begin, end)| *begin < to && *end > from)
    }

    /// When the last use ended.
    #[must_use]
    pub fn last_use(&self) -> Option<Timestamp> {
        self.spans.iter().map(|(_, end)| *end).max()
    }

    fn add(&mut self, from: Timestamp, to: Timestamp) {
        match self.spans.last_mut() {
            Some((_, end)) if from.duration_since(*end) <= SignedDuration::from_millis(1) => {
                *end = to.max(*end);
            }
            Some(_) | None => self.spans.push((from, to)),
        }
    }
}

/// All clients, and the truth about all users.
#[derive(Debug, Clone, Default)]
pub struct Clients {
    clients: BTreeMap<(SessionName, UserName), Client>,
    truth: BTreeMap<(SessionName, UserName), Truth>,
}

impl Clients {
    /// The client of a user for a session.
    pub fn of(&mut self, session: &SessionName, user: &UserName) -> &mut Client {
        self.clients.entry((session.clone(), user.clone())).or_default()
    }

    /// The truth about a user in a session.
    #[must_use]
    pub fn truth(&self, session: &SessionName, user: &UserName) -> Truth {
        self.truth.get(&(session.clone(), user.clone())).cloned().unwrap_or_default()
    }

    /// The last handshake of anybody in a session.
    #[must_use]
    pub fn last_handshake(&self, session: &SessionName) -> Option<Timestamp> {
        let of_session = self.truth.iter().filter(|((of, _), _)| of == session);
        of_session.filter_map(|(_, truth)| truth.handshake_at).max()
    }

    /// Switches a tunnel on and knocks at the gateway.
    pub fn connect(&mut self, session: &SessionName, user: &UserName) {
        let client = self.of(session, user);
        client.on = true;
        client.knocks = true;
    }

    /// Switches a tunnel off.
    pub fn leave(&mut self, session: &SessionName, user: &UserName) {
        *self.of(session, user) = Client::default();
    }

    /// Lets everybody do what they have been doing until `now`. `gateway` is what they reach, if anything.
    pub fn catch_up(&mut self, session: &SessionName, mut gateway: Option<&mut Gateway>, now: Timestamp) {
        for ((_, user), client) in self.clients.iter_mut().filter(|((of, _), _)| of == session) {
            let from = client.seen_to.unwrap_or(now).max(gateway.as_ref().map_or(now, |g| g.started_at()));
            client.seen_to = Some(now);
            let Some(peer) = gateway
                .as_mut()
                .and_then(|gateway| gateway.peer(&super::store::key(&format!("user {user}"))))
            else {
                continue;
            };
            let truth = self.truth.entry((session.clone(), user.clone())).or_default();
            let streams =
                client.streams_until.filter(|until| client.on && *until > from).map(|until| until.min(now));
            if client.on && (client.knocks || client.keepalive || streams.is_some()) {
                let due = peer.handshake_at.is_none_or(|at| now.duration_since(at) >= REKEY_AFTER);
                if due || client.knocks {
                    peer.handshake_at = Some(now);
                    truth.handshake_at = Some(now);
                }
                client.knocks = false;
            }
            if let Some(until) = streams {
                peer.data_at = Some(until);
                peer.received += PACKET;
                truth.add(from.min(until), until);
            }
            if peer.flows > 0 {
                truth.add(from, now);
            }
        }
    }

    /// Sends one data packet. Lost when the gateway does not know the user.
    pub fn send(
        &mut self,
        session: &SessionName,
        user: &UserName,
        gateway: Option<&mut Gateway>,
        now: Timestamp,
    ) -> bool {
        self.act(session, user, gateway, now, |_| {})
    }

    /// Opens a connection and leaves it open.
    pub fn open_flow(
        &mut self,
        session: &SessionName,
        user: &UserName,
        gateway: Option<&mut Gateway>,
        now: Timestamp,
    ) -> bool {
        self.act(session, user, gateway, now, |flows| *flows += 1)
    }

    /// Closes all connections.
    pub fn close_flows(
        &mut self,
        session: &SessionName,
        user: &UserName,
        gateway: Option<&mut Gateway>,
        now: Timestamp,
    ) -> bool {
        self.act(session, user, gateway, now, |flows| *flows = 0)
    }

    fn act(
        &mut self,
        session: &SessionName,
        user: &UserName,
        mut gateway: Option<&mut Gateway>,
        now: Timestamp,
        on_flows: impl FnOnce(&mut u32),
    ) -> bool {
        self.catch_up(session, gateway.as_deref_mut(), now);
        let key = super::store::key(&format!("user {user}"));
        let Some(peer) = gateway.and_then(|gateway| gateway.peer(&key)) else { return false };
        self.clients.entry((session.clone(), user.clone())).or_default().on = true;
        let truth = self.truth.entry((session.clone(), user.clone())).or_default();
        if peer.handshake_at.is_none_or(|at| now.duration_since(at) >= REKEY_AFTER) {
            peer.handshake_at = Some(now);
            truth.handshake_at = Some(now);
        }
        peer.data_at = Some(now);
        peer.received += PACKET;
        truth.add(now, now);
        on_flows(&mut peer.flows);
        true
    }
}
