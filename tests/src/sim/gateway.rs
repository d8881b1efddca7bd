//! A gateway as the daemon and the users meet it: peers, handshakes, traffic, telemetry, lease.

use std::collections::BTreeMap;

use ebb_wire::{Digest, Flows, Live, PeerTelemetry, PublicKey, Refusal, Telemetry};
use jiff::{SignedDuration, Timestamp};

/// Without control contact and user traffic for this long a gateway ends itself.
pub const LEASE: SignedDuration = SignedDuration::from_mins(30);

/// A client makes a new handshake this often as long as it has anything to send (WireGuard, `REKEY_AFTER_TIME`).
pub const REKEY_AFTER: SignedDuration = SignedDuration::from_secs(120);

/// The gateway prints telemetry to its log this often.
pub const LOG_INTERVAL: SignedDuration = SignedDuration::from_secs(60);

/// One running gateway.
#[derive(Debug, Clone)]
pub struct Gateway {
    boot: String,
    started_at: Timestamp,
    live: Option<(Live, Digest)>,
    uses: BTreeMap<PublicKey, Use>,
    contact_at: Timestamp,
    printed: Option<(Timestamp, Telemetry)>,
}

/// What a gateway knows of one user.
#[derive(Debug, Clone, Default)]
pub struct Use {
    /// Last handshake.
    pub handshake_at: Option<Timestamp>,
    /// Last data packet.
    pub data_at: Option<Timestamp>,
    /// TCP connections that are open at both ends.
    pub flows: u32,
    /// Bytes from the user.
    pub received: u64,
}

impl Gateway {
    /// A gateway that starts now. It lets nobody in before it is configured.
    #[must_use]
    pub fn start(boot: String, now: Timestamp) -> Self {
        Self { boot, started_at: now, live: None, uses: BTreeMap::new(), contact_at: now, printed: None }
    }

    /// When it started.
    #[must_use]
    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// What it was told last.
    #[must_use]
    pub fn live(&self) -> Option<&Live> {
        self.live.as_ref().map(|(live, _)| live)
    }

    /// What it knows of a user; `None` for somebody who is no peer.
    pub fn peer(&mut self, key: &PublicKey) -> Option<&mut Use> {
        let known = self.live()?.peers.iter().any(|peer| peer.public_key == *key);
        known.then(|| self.uses.entry(*key).or_default())
    }

    /// Takes peers, routes and names. Users who stay keep their flows. With `fence` an older generation is refused.
    ///
    /// # Errors
    /// [`Refusal::OlderGeneration`].
    pub fn configure(&mut self, live: &Live, fence: bool, now: Timestamp) -> Result<Digest, Refusal> {
        self.contact_at = now;
        let held = self.live().map_or(0, |live| live.generation);
        if fence && live.generation < held {
            return Err(Refusal::OlderGeneration { held, offered: live.generation });
        }
        self.uses.retain(|key, _| live.peers.iter().any(|peer| peer.public_key == *key));
        let digest = live.digest();
        self.live = Some((live.clone(), digest.clone()));
        Ok(digest)
    }

    /// Answers the daemon.
    pub fn ask(&mut self, now: Timestamp) -> Telemetry {
        self.contact_at = now;
        self.telemetry(now)
    }

    /// The last line in its log and when it was printed.
    #[must_use]
    pub fn log(&self) -> Option<&(Timestamp, Telemetry)> {
        self.printed.as_ref()
    }

    /// Prints a line if one is due.
    pub fn print(&mut self, now: Timestamp) {
        let last = self.printed.as_ref().map_or(self.started_at, |(at, _)| *at);
        if now.duration_since(last) >= LOG_INTERVAL {
            self.printed = Some((now, self.telemetry(now)));
        }
    }

    /// When it ends itself if nothing more happens.
    #[must_use]
    pub fn lease_ends(&self) -> Timestamp {
        let data = self.uses.values().filter_map(|user| user.data_at).max();
        self.contact_at.max(data.unwrap_or(self.contact_at)) + LEASE
    }

    fn telemetry(&self, now: Timestamp) -> Telemetry {
        let age = |at: Timestamp| u64::try_from(now.duration_since(at).as_millis()).unwrap_or(0);
        let peers: Vec<PeerTelemetry> = self
            .live()
            .into_iter()
            .flat_map(|live| &live.peers)
            .map(|peer| {
                let user = self.uses.get(&peer.public_key).cloned().unwrap_or_default();
                PeerTelemetry {
                    public_key: peer.public_key,
                    endpoint: None,
                    handshake_age_ms: user.handshake_at.map(age),
                    data_age_ms: user.data_at.map(age),
                    received_bytes: user.received,
                    sent_bytes: 0,
                    open_flows: user.flows,
                }
            })
            .collect();
        let tcp = peers.iter().map(|peer| peer.open_flows).sum();
        Telemetry {
            boot: self.boot.clone(),
            uptime_ms: age(self.started_at),
            generation: self.live().map(|live| live.generation),
            digest: self.live.as_ref().map(|(_, digest)| digest.clone()),
            peers,
            flows: Flows { tcp, ..Flows::default() },
        }
    }
}
