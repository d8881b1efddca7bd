//! What the gateway reports about itself.

use ebb_tunnel::Time;
use ebb_wire::{Flows, LogLine, PeerTelemetry, Telemetry, VERSION};

use super::Plane;
use super::loops::Letter;
use crate::clock;

impl Plane {
    /// The report on all loops; `None` when one does not answer.
    pub(super) fn telemetry(&self) -> Option<Telemetry> {
        let others = self.post.ask(Letter::Report)?;
        let mut whole = self.report();
        for other in others {
            whole.peers.extend(other.peers);
            whole.flows.tcp += other.flows.tcp;
            whole.flows.udp += other.flows.udp;
            whole.flows.icmp += other.flows.icmp;
            whole.flows.refused += other.flows.refused;
        }
        whole.peers.sort_by_key(|peer| peer.public_key);
        Some(whole)
    }

    /// The report on this loop. Memory for buffers belongs to all of them.
    pub(super) fn report(&self) -> Telemetry {
        let now = self.clock.now();
        let age = |at: Option<Time>| at.map(|at| now.since(at).as_millis() as u64);
        let open = self.tcp.open_by_peer();
        let peers = self.in_force.iter().flat_map(|in_force| &in_force.peers).filter_map(|(key, id)| {
            let statistics = self.link.tunnel.statistics(*id)?;
            Some(PeerTelemetry {
                public_key: *key,
                endpoint: statistics.endpoint,
                handshake_age_ms: age(statistics.last_handshake),
                data_age_ms: age(statistics.last_data),
                received_bytes: statistics.received_bytes,
                sent_bytes: statistics.sent_bytes,
                open_flows: open.get(id).copied().unwrap_or(0),
            })
        });
        Telemetry {
            boot: self.instance.clone(),
            uptime_ms: now.as_micros() / 1000,
            generation: self.in_force.as_ref().map(|in_force| in_force.agreed.live.generation),
            digest: self.in_force.as_ref().map(|in_force| in_force.digest.clone()),
            peers: peers.collect(),
            flows: Flows {
                tcp: self.tcp.len() as u32,
                udp: self.udp.len() as u32,
                icmp: self.pings.len() as u32,
                refused: self.refused + self.tcp.refused(),
                buffered_bytes: self.tcp.buffered() as u64,
            },
        }
    }

    /// The report as a line of log; `None` when a loop does not answer.
    #[must_use]
    pub fn log_line(&self) -> Option<String> {
        let line = LogLine {
            ebb: "telemetry".into(),
            version: VERSION,
            session: self.boot.session.clone(),
            unix_seconds: clock::unix().as_secs(),
            telemetry: self.telemetry()?,
        };
        // A struct of strings, numbers and lists always serialises.
        Some(serde_json::to_string(&line).unwrap_or_default())
    }

    /// When the lease was last renewed: by the control peer's last authenticated message or a user's last data. A loop that
    /// does not answer counts as a user.
    #[must_use]
    pub fn last_sign_of_life(&self) -> Option<Time> {
        let now = self.clock.now();
        let Some(telemetry) = self.telemetry() else { return Some(now) };
        let control = self.control.and_then(|control| self.link.tunnel.statistics(control)?.last_received);
        let ages = telemetry.peers.iter().filter_map(|peer| peer.data_age_ms);
        let data = ages.map(|age| Time::from_micros(now.as_micros().saturating_sub(age * 1000)));
        data.chain(control).max()
    }
}
