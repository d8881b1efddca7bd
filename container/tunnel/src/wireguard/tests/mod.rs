mod flood;
mod interop;
mod rules;
mod sources;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use proptest::prelude::*;

use super::*;
use crate::packet::{HEADER_V4, Header, protocol, udp};

const NOW: Time = Time::from_millis(5000);

fn start(now: Time) -> Start {
    Start { now, unix: Duration::from_secs(1_700_000_000), seed: [77; 32] }
}

/// A peer that nobody here wrote: boringtun's `Tunn`, bare.
struct Raw {
    tunn: Tunn,
    address: SocketAddr,
    inner: IpAddr,
}

impl Raw {
    fn new(number: u8, gateway: &PrivateKey) -> (Self, PeerConfig) {
        let key = PrivateKey::from_random([number; 32]);
        let inner = IpAddr::from([10, 8, 0, number]);
        let tunn = Tunn::new(
            x25519::StaticSecret::from(*key.reveal_bytes()),
            x25519::PublicKey::from(*gateway.public().as_bytes()),
            None,
            None,
            u32::from(number),
            None,
        );
        let config = PeerConfig {
            key: key.public(),
            addresses: Addresses::Hosts(vec![inner]),
            endpoint: None,
            keepalive: None,
        };
        (Self { tunn, address: SocketAddr::from(([192, 0, 2, number], 5000)), inner }, config)
    }

    fn initiation(&mut self) -> Vec<u8> {
        let mut out = [0; 148];
        match self.tunn.format_handshake_initiation(&mut out, true) {
            TunnResult::WriteToNetwork(message) => message.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    /// Takes a datagram; returns what it answers and the inner packet it found.
    fn open(&mut self, datagram: &[u8]) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let mut out = [0; 2048];
        match self.tunn.decapsulate(None, datagram, &mut out) {
            TunnResult::WriteToNetwork(message) => (Some(message.to_vec()), None),
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                (None, Some(packet.to_vec()))
            }
            TunnResult::Done => (None, None),
            TunnResult::Err(error) => panic!("{error:?}"),
        }
    }

    fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut out = [0; 2048];
        match self.tunn.encapsulate(packet, &mut out) {
            TunnResult::WriteToNetwork(message) => message.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    fn datagram_from(&self, inner: IpAddr) -> Vec<u8> {
        let mut out = [0; 128];
        let to = SocketAddr::from(([198, 51, 100, 1], 53));
        let length = udp::write(&mut out, (inner, 4000).into(), to, b"question").unwrap();
        out[..length].to_vec()
    }

    /// Handshake in full: initiation, response, confirmation.
    fn connect(&mut self, endpoint: &mut Endpoint) {
        let initiation = self.initiation();
        let [response] = deliver(endpoint, self.address, &initiation).try_into().unwrap();
        let (confirmation, _) = self.open(&response);
        assert!(deliver(endpoint, self.address, &confirmation.unwrap()).is_empty());
    }
}

fn gateway() -> (PrivateKey, Endpoint) {
    let key = PrivateKey::from_random([200; 32]);
    let endpoint = Endpoint::new(&key, 1420, start(NOW));
    (key, endpoint)
}

fn connected(number: u8) -> (Endpoint, Raw, PeerId) {
    let (key, mut endpoint) = gateway();
    let (mut raw, config) = Raw::new(number, &key);
    let id = endpoint.add(config).unwrap();
    raw.connect(&mut endpoint);
    (endpoint, raw, id)
}

/// Hands a datagram over and returns what the endpoint wants to send.
fn deliver(endpoint: &mut Endpoint, from: SocketAddr, datagram: &[u8]) -> Vec<Vec<u8>> {
    endpoint.receive(&mut datagram.to_vec(), from.into(), NOW);
    outgoing(endpoint)
}

fn outgoing(endpoint: &mut Endpoint) -> Vec<Vec<u8>> {
    let mut out = [0; 2048];
    std::iter::from_fn(|| endpoint.transmit(&mut out).map(|(length, _)| out[..length].to_vec())).collect()
}

fn received(
    endpoint: &mut Endpoint,
    from: SocketAddr,
    datagram: &[u8],
    now: Time,
) -> Option<(PeerId, Vec<u8>)> {
    match endpoint.receive(&mut datagram.to_vec(), from.into(), now) {
        Received::Packet { peer, packet } => Some((peer, packet.bytes.to_vec())),
        Received::Stranger(_) | Received::Nothing => None,
    }
}

fn seal(endpoint: &mut Endpoint, id: PeerId, packet: &[u8], now: Time) -> Option<Vec<u8>> {
    let mut out = [0xee; 2048];
    let sealed = endpoint.seal(id, &mut out, now, |room| {
        room[..packet.len()].copy_from_slice(packet);
        Some(packet.len())
    });
    match sealed {
        Sealed::Datagram(length, _) => Some(out[..length].to_vec()),
        Sealed::Kept | Sealed::Nothing | Sealed::Unreachable => None,
    }
}

#[test]
fn packets_pass_both_ways_after_a_handshake() {
    let (mut endpoint, mut raw, id) = connected(2);
    let packet = raw.datagram_from(raw.inner);
    let datagram = raw.seal(&packet);
    assert_eq!(received(&mut endpoint, raw.address, &datagram, NOW), Some((id, packet.clone())));

    let sealed = seal(&mut endpoint, id, &packet, NOW).unwrap();
    assert_eq!(raw.open(&sealed), (None, Some(packet)));
}

#[test]
fn what_is_sealed_is_padded_to_16_bytes_within_the_mtu() {
    let (mut endpoint, mut raw, id) = connected(2);
    for size in [21, 63, 64, 65, 1409, 1416, 1420] {
        let mut packet = vec![7; size];
        Header::new(raw.inner, raw.inner, protocol::UDP).write(&mut packet, size - HEADER_V4).unwrap();
        let sealed = seal(&mut endpoint, id, &packet, NOW).unwrap();
        assert_eq!(sealed.len(), 32 + size.next_multiple_of(16).min(1420), "{size}");
        assert_eq!(raw.open(&sealed).1, Some(packet));
    }
}

#[test]
fn an_inner_source_that_is_not_the_peers_is_dropped() {
    let (mut endpoint, mut raw, id) = connected(2);
    let forged = raw.datagram_from(IpAddr::from([10, 8, 0, 3]));
    let datagram = raw.seal(&forged);
    assert_eq!(received(&mut endpoint, raw.address, &datagram, NOW), None);
    let statistics = endpoint.statistics(id).unwrap();
    assert_eq!((statistics.wrong_source, statistics.received_bytes, statistics.last_data), (1, 0, None));
}

#[test]
fn a_peer_moves_only_with_an_authenticated_packet() {
    let (mut endpoint, mut raw, id) = connected(2);
    let elsewhere = SocketAddr::from(([203, 0, 113, 9], 9));
    let packet = raw.datagram_from(raw.inner);

    let mut forged = raw.seal(&packet);
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(received(&mut endpoint, elsewhere, &forged, NOW), None);
    assert_eq!(endpoint.statistics(id).unwrap().endpoint, Some(raw.address));

    let genuine = raw.seal(&packet);
    assert!(received(&mut endpoint, elsewhere, &genuine, NOW).is_some());
    assert_eq!(endpoint.statistics(id).unwrap().endpoint, Some(elsewhere));

    // The same packet again, from where an attacker sits.
    assert_eq!(received(&mut endpoint, raw.address, &genuine, NOW), None);
    assert_eq!(endpoint.statistics(id).unwrap().endpoint, Some(elsewhere));
    assert_eq!(endpoint.counters().refused, 2);
}

#[test]
fn a_removed_peer_is_out_at_once_and_the_others_do_not_notice() {
    let (key, mut endpoint) = gateway();
    let (mut stays, config) = Raw::new(2, &key);
    let stays_id = endpoint.add(config).unwrap();
    let (mut goes, goes_config) = Raw::new(3, &key);
    let goes_id = endpoint.add(goes_config.clone()).unwrap();
    stays.connect(&mut endpoint);
    goes.connect(&mut endpoint);

    endpoint.remove(goes_id);
    let packet = goes.datagram_from(goes.inner);
    let datagram = goes.seal(&packet);
    assert_eq!(received(&mut endpoint, goes.address, &datagram, NOW), None);
    assert_eq!(seal(&mut endpoint, goes_id, &packet, NOW), None);
    assert_eq!(deliver(&mut endpoint, goes.address, &goes.initiation()), Vec::<Vec<u8>>::new());
    assert_eq!(endpoint.owner(goes.inner), None);

    let packet = stays.datagram_from(stays.inner);
    let datagram = stays.seal(&packet);
    assert_eq!(received(&mut endpoint, stays.address, &datagram, NOW), Some((stays_id, packet)));

    // The slot is used again, by the same key: the old name still means nothing.
    let back = endpoint.add(goes_config).unwrap();
    assert_ne!(back, goes_id);
    assert_eq!(endpoint.statistics(goes_id), None);
    goes.connect(&mut endpoint);
}

#[test]
fn a_handshake_counts_only_when_the_peer_has_used_its_session() {
    let (key, mut endpoint) = gateway();
    let (mut raw, config) = Raw::new(2, &key);
    let id = endpoint.add(config).unwrap();
    let initiation = raw.initiation();
    let responses = deliver(&mut endpoint, raw.address, &initiation);
    assert_eq!(endpoint.statistics(id).unwrap().last_handshake, None);
    let (confirmation, _) = raw.open(&responses[0]);
    deliver(&mut endpoint, raw.address, &confirmation.unwrap());
    assert_eq!(endpoint.statistics(id).unwrap().last_handshake, Some(NOW));
    // A replayed initiation changes nothing.
    assert!(deliver(&mut endpoint, raw.address, &initiation).is_empty());
}

#[test]
fn keepalives_and_acknowledgments_are_no_data() {
    let (mut endpoint, mut raw, id) = connected(2);
    let later = NOW + Duration::from_secs(1);
    let keepalive = raw.seal(&[]);
    received(&mut endpoint, raw.address, &keepalive, later);
    let mut acknowledgment = [0; 40];
    Header::new(raw.inner, [198, 51, 100, 1].into(), protocol::TCP).write(&mut acknowledgment, 20).unwrap();
    acknowledgment[HEADER_V4 + 12..HEADER_V4 + 14].copy_from_slice(&[0x50, 0x10]);
    let datagram = raw.seal(&acknowledgment);
    assert!(received(&mut endpoint, raw.address, &datagram, later).is_some());
    seal(&mut endpoint, id, &acknowledgment, later).unwrap();
    assert_eq!(endpoint.statistics(id).unwrap().last_data, None);

    let datagram = raw.datagram_from(raw.inner);
    seal(&mut endpoint, id, &datagram, later).unwrap();
    assert_eq!(endpoint.statistics(id).unwrap().last_data, Some(later));
}

#[test]
fn packets_sealed_before_there_is_a_session_arrive_after_the_handshake() {
    let (key, mut endpoint) = gateway();
    let (mut raw, config) = Raw::new(2, &key);
    let id = endpoint.add(PeerConfig { endpoint: Some(raw.address), ..config }).unwrap();
    let packet = raw.datagram_from(raw.inner);
    let initiation = seal(&mut endpoint, id, &packet, NOW).unwrap();
    assert_eq!(seal(&mut endpoint, id, &packet, NOW), None);
    let (response, _) = raw.open(&initiation);
    let sent = deliver(&mut endpoint, raw.address, &response.unwrap());
    let arrived: Vec<_> = sent.iter().filter_map(|datagram| raw.open(datagram).1).collect();
    assert_eq!(arrived, [packet.clone(), packet]);
    assert_eq!(endpoint.statistics(id).unwrap().last_handshake, Some(NOW));
}

#[test]
fn in_a_flood_of_handshakes_those_who_answer_a_cookie_get_in() {
    let (key, mut endpoint) = gateway();
    let (mut raw, config) = Raw::new(2, &key);
    let id = endpoint.add(config).unwrap();
    // Whoever knows the public key can make initiations with a valid first MAC, from any address.
    let (mut stranger, _) = Raw::new(99, &key);
    let flood = |endpoint: &mut Endpoint, stranger: &mut Raw| {
        for host in 0..=255 {
            let from = SocketAddr::from(([203, 0, 113, host], 1));
            deliver(endpoint, from, &stranger.initiation());
        }
    };
    flood(&mut endpoint, &mut stranger);
    assert!(endpoint.counters().challenged > 0);

    let initiation = raw.initiation();
    let [cookie] = deliver(&mut endpoint, raw.address, &initiation).try_into().unwrap();
    assert_eq!(cookie.len(), 64);
    assert_eq!(raw.open(&cookie), (None, None));
    flood(&mut endpoint, &mut stranger);
    let initiation = raw.initiation();
    let [response] = deliver(&mut endpoint, raw.address, &initiation).try_into().unwrap();
    let (confirmation, _) = raw.open(&response);
    deliver(&mut endpoint, raw.address, &confirmation.unwrap());
    assert_eq!(endpoint.statistics(id).unwrap().last_handshake, Some(NOW));
}

#[test]
fn two_peers_cannot_have_one_key_or_one_address() {
    let (key, mut endpoint) = gateway();
    let (_, first) = Raw::new(2, &key);
    let (_, second) = Raw::new(3, &key);
    let id = endpoint.add(first.clone()).unwrap();
    assert_eq!(endpoint.add(first.clone()), Err(AddError::Key));
    let address = IpAddr::from([10, 8, 0, 2]);
    let clash = PeerConfig { addresses: first.addresses.clone(), ..second.clone() };
    assert_eq!(endpoint.add(clash), Err(AddError::Address(address)));
    let other = endpoint.add(second).unwrap();
    assert_eq!(endpoint.set_addresses(other, first.addresses.clone()), Err(AddError::Address(address)));
    assert_eq!(endpoint.owner(address), Some(id));
    endpoint.set_addresses(id, Addresses::Hosts(vec![[10, 8, 0, 7].into()])).unwrap();
    endpoint.set_addresses(other, first.addresses).unwrap();
    assert_eq!(endpoint.owner(address), Some(other));
}

#[test]
fn timers_rest_and_keys_are_gone_when_nobody_has_been_there_for_nine_minutes() {
    let (key, mut endpoint) = gateway();
    let (mut raw, config) = Raw::new(2, &key);
    endpoint.add(config).unwrap();
    assert_eq!(endpoint.deadline(), None);
    raw.connect(&mut endpoint);
    assert_eq!(endpoint.indices.count(), 1);
    while let Some(at) = endpoint.deadline() {
        assert!(at <= NOW + Duration::from_secs(541), "{at:?}");
        endpoint.expire(at);
    }
    assert_eq!(endpoint.indices.count(), 0);
    assert!(outgoing(&mut endpoint).is_empty());
}

proptest! {
    #[test]
    fn no_datagram_makes_it_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0_u8..6, length in 0_usize..5, index: u8,
    ) {
        let (mut endpoint, raw, _) = connected(2);
        let length = [bytes.len(), 148, 92, 64, 32][length];
        bytes.resize(length, 0);
        if bytes.len() >= 8 {
            bytes[..4].copy_from_slice(&[kind, 0, 0, 0]);
            bytes[4..8].copy_from_slice(&[index & 3, 0, 0, 0]);
        }
        prop_assert_eq!(received(&mut endpoint, raw.address, &bytes, NOW), None);
    }
}

#[test]
fn of_endpoints_with_one_key_each_has_its_own_peers_and_indices() {
    let key = PrivateKey::from_random([200; 32]);
    let mut endpoints =
        [0, 1, 2].map(|n| Endpoint::new(&key, 1420, start(NOW)).with_share(Share::new(n, 3).unwrap()));
    for number in 2..40 {
        let (mut raw, config) = Raw::new(number, &key);
        let (owner, public) = (usize::from(number) % 3, config.key);
        endpoints[owner].add(config).unwrap();
        let mut initiation = raw.initiation();
        let [first, ..] = &mut endpoints;
        if owner == 0 {
            assert_eq!(first.receive(&mut initiation, raw.address.into(), NOW), Received::Nothing);
        } else {
            assert_eq!(first.receive(&mut initiation, raw.address.into(), NOW), Received::Stranger(public));
            assert!(outgoing(first).is_empty());
            endpoints[owner].receive_vouched(&initiation, raw.address.into(), NOW);
        }
        let [response] = outgoing(&mut endpoints[owner]).try_into().unwrap();
        assert!(raw.open(&response).0.is_some());
        // What the peer answers with carries the index that the response named.
        assert_eq!(usize::from(response[4]) % 3, owner);
    }
}

#[test]
fn a_share_keeps_all_of_an_index_but_what_tells_endpoints_apart() {
    for (of, number) in (1..=128).flat_map(|of| (0..of).map(move |number| (of, number))) {
        let share = Share::new(number, of).unwrap();
        for low in 0..=255 {
            let [marked, rest @ ..] = share.mark(u32::from_le_bytes([low, 1, 2, 3])).to_le_bytes();
            assert_eq!((usize::from(marked) % of, rest), (number, [1, 2, 3]), "{number} of {of}: {low}");
        }
    }
    assert_eq!(Share::new(2, 2), None);
}
