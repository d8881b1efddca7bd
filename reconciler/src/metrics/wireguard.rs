//! The numbers that WireGuard dashboards expect, under the names of both common exporters.
//!
//! Set A is that of `prometheus_wireguard_exporter` (MindFlavor), set B that of `wireguard_exporter` (mdlayher); they share no
//! name. `latest_handshake_seconds` is a time, never an age. The interface is the session's name, because users keep their key
//! across sessions. The peer's address on the Internet is left out: it tells where people are.

use ebb_core::evidence::PeerReport;
use ebb_core::spec::Users as _;
use ebb_desired_state::{Session, SessionName};
use ebb_wire::PublicKey;
use jiff::SignedDuration;
use prometheus::proto::MetricFamily;

use super::Sheet;
use super::snapshot::seconds;
use crate::client_config;
use crate::engine::Snapshot;

/// WireGuard itself considers a session over after this (`REJECT_AFTER_TIME`, WireGuard paper, section 6.1).
const CONNECTED_WITHIN: SignedDuration = SignedDuration::from_secs(180);

struct Peer<'a> {
    session: &'a Session,
    user: String,
    key: PublicKey,
    allowed_ips: Vec<String>,
    report: &'a PeerReport,
}

impl Peer<'_> {
    fn set_a(&self) -> Vec<String> {
        let session = self.session.name.to_string();
        let allowed_ips = self.allowed_ips.join(",");
        vec![
            session.clone(),
            self.key.to_string(),
            allowed_ips,
            self.user.clone(),
            session,
            self.session.region.clone(),
        ]
    }

    fn set_b(&self) -> Vec<String> {
        vec![self.session.name.to_string(), self.key.to_string()]
    }

    fn handshake(&self) -> f64 {
        self.report.handshake_at.map_or(0.0, |at| seconds(at).floor())
    }
}

const SET_A: [&str; 6] = ["interface", "public_key", "allowed_ips", "friendly_name", "session", "region"];
const SET_B: [&str; 2] = ["device", "public_key"];

pub(super) fn families(snapshot: &Snapshot, only: Option<&SessionName>) -> Vec<MetricFamily> {
    let sheet = Sheet::new();
    let peers = peers(snapshot, only);
    set_a(&sheet, snapshot, &peers);
    set_b(&sheet, snapshot, only, &peers);
    sheet.families()
}

fn peers<'a>(snapshot: &'a Snapshot, only: Option<&SessionName>) -> Vec<Peer<'a>> {
    let Some(desired) = &snapshot.desired else { return Vec::new() };
    let sessions =
        desired.document.sessions.iter().filter(|session| only.is_none_or(|only| *only == session.name));
    let mut peers = Vec::new();
    for session in sessions {
        let report = snapshot.evidence.get(&session.name).and_then(|evidence| evidence.report.as_ref());
        let hosts = snapshot.records.get(&session.name).map(|record| &record.hosts);
        for name in &session.users {
            let key = desired.user(name).and_then(|user| snapshot.keys.user(user));
            let host = hosts.and_then(|hosts| hosts.get(name));
            let (Some(key), Some(host)) = (key, host) else { continue };
            let Some(report) = report.and_then(|report| report.peers.get(&key)) else { continue };
            let allowed_ips = client_config::addresses(session, *host)
                .iter()
                .map(|address| format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 }))
                .collect();
            peers.push(Peer { session, user: name.to_string(), key, allowed_ips, report });
        }
    }
    peers
}

fn set_a(sheet: &Sheet, snapshot: &Snapshot, peers: &[Peer<'_>]) {
    sheet.counter(
        "wireguard_sent_bytes_total",
        "Bytes sent to the peer since its gateway started.",
        &SET_A,
        peers.iter().map(|peer| (peer.set_a(), peer.report.sent_bytes)),
    );
    sheet.counter(
        "wireguard_received_bytes_total",
        "Bytes received from the peer since its gateway started.",
        &SET_A,
        peers.iter().map(|peer| (peer.set_a(), peer.report.received_bytes)),
    );
    sheet.gauge(
        "wireguard_latest_handshake_seconds",
        "Time of the latest handshake in seconds since the epoch, 0 for never.",
        &SET_A,
        peers.iter().map(|peer| (peer.set_a(), peer.handshake())),
    );
    let age = |peer: &Peer<'_>| Some(snapshot.at.duration_since(peer.report.handshake_at?));
    sheet.gauge(
        "wireguard_latest_handshake_delay_seconds",
        "Age of the latest handshake in seconds. Absent for a peer that never shook hands.",
        &SET_A,
        peers.iter().filter_map(|peer| Some((peer.set_a(), age(peer)?.as_secs_f64()))),
    );
    sheet.gauge(
        "wireguard_peer_connected",
        "1 if the latest handshake is less than 180 seconds old.",
        &SET_A,
        peers.iter().map(|peer| {
            let connected = age(peer).is_some_and(|age| age < CONNECTED_WITHIN);
            (peer.set_a(), f64::from(u8::from(connected)))
        }),
    );
}

fn set_b(sheet: &Sheet, snapshot: &Snapshot, only: Option<&SessionName>, peers: &[Peer<'_>]) {
    let devices = snapshot.evidence.iter().filter(|(_, evidence)| evidence.report.is_some());
    let devices = devices.filter(|(session, _)| only.is_none_or(|only| only == *session));
    sheet.gauge(
        "wireguard_device_info",
        "A gateway that reports.",
        &SET_B,
        devices.filter_map(|(session, _)| {
            let key = snapshot.keys.gateways.get(session)?;
            Some((vec![session.to_string(), key.to_string()], 1.0))
        }),
    );
    sheet.gauge(
        "wireguard_peer_info",
        "A user of a gateway.",
        &["device", "public_key", "endpoint", "name"],
        peers.iter().map(|peer| {
            let mut labels = peer.set_b();
            labels.extend([String::new(), peer.user.clone()]);
            (labels, 1.0)
        }),
    );
    sheet.gauge(
        "wireguard_peer_allowed_ips_info",
        "An address of a user inside the tunnel.",
        &["device", "public_key", "allowed_ips", "family"],
        peers.iter().flat_map(|peer| {
            peer.allowed_ips.iter().map(|allowed| {
                let family = if allowed.contains(':') { "IPv6" } else { "IPv4" };
                let mut labels = peer.set_b();
                labels.extend([allowed.clone(), family.to_owned()]);
                (labels, 1.0)
            })
        }),
    );
    sheet.counter(
        "wireguard_peer_receive_bytes_total",
        "Bytes received from the peer since its gateway started.",
        &SET_B,
        peers.iter().map(|peer| (peer.set_b(), peer.report.received_bytes)),
    );
    sheet.counter(
        "wireguard_peer_transmit_bytes_total",
        "Bytes sent to the peer since its gateway started.",
        &SET_B,
        peers.iter().map(|peer| (peer.set_b(), peer.report.sent_bytes)),
    );
    sheet.gauge(
        "wireguard_peer_last_handshake_seconds",
        "Time of the last handshake in seconds since the epoch, 0 for never.",
        &SET_B,
        peers.iter().map(|peer| (peer.set_b(), peer.handshake())),
    );
}
