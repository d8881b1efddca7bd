//! Thousands of initiations a second that anybody can make who knows the public key: valid first MACs, forged addresses.

use super::*;

/// What a flood of a second looks like: as many initiations as there are addresses.
const FLOOD: u32 = 5000;

struct Flood {
    stranger: Raw,
    sent: u32,
}

impl Flood {
    fn new(key: &PrivateKey) -> Self {
        Self { stranger: Raw::new(99, key).0, sent: 0 }
    }

    /// One more, from an address of its own. Without the cookies that go there.
    fn hit(&mut self, endpoint: &mut Endpoint, now: Time) -> usize {
        self.sent += 1;
        let from = SocketAddr::from((std::net::Ipv4Addr::from(0xcb00_0000 + self.sent), 1));
        endpoint.receive(&mut self.stranger.initiation(), from.into(), now);
        let answers = outgoing(endpoint);
        assert!(answers.iter().all(|answer| answer.len() == 64));
        answers.len()
    }
}

#[test]
fn under_load_a_forged_initiation_costs_a_cookie_and_no_computation_of_keys() {
    let (key, mut endpoint) = gateway();
    let mut flood = Flood::new(&key);
    let mut cookies = 0;
    for second in 0..3 {
        for n in 0..FLOOD {
            let now = NOW + Duration::from_secs(second) + Duration::from_micros(u64::from(200 * n));
            cookies += flood.hit(&mut endpoint, now);
        }
    }
    let counters = endpoint.counters();
    // Unknown is who was computed for: the first hundred, before there was load.
    assert_eq!((counters.unknown, counters.challenged), (100, u64::from(3 * FLOOD) - 100));
    assert_eq!(cookies, 3 * FLOOD as usize - 100);
}

#[test]
fn in_a_flood_a_peer_connects_within_one_repetition_and_sessions_go_on() {
    let (key, mut endpoint) = gateway();
    let (mut control, config) = Raw::new(2, &key);
    let control_id = endpoint.add(config).unwrap();
    let (mut user, config) = Raw::new(3, &key);
    endpoint.add(config).unwrap();
    user.connect(&mut endpoint);
    let mut flood = Flood::new(&key);
    let mut now = NOW;
    let mut storm = |endpoint: &mut Endpoint, now: &mut Time| {
        for _ in 0..FLOOD / 10 {
            *now += Duration::from_micros(200);
            flood.hit(endpoint, *now);
        }
    };
    storm(&mut endpoint, &mut now);
    let at = |endpoint: &mut Endpoint, raw: &Raw, datagram: &[u8], now: Time| {
        endpoint.receive(&mut datagram.to_vec(), raw.address.into(), now);
        outgoing(endpoint)
    };
    let initiation = control.initiation();
    let [cookie] = at(&mut endpoint, &control, &initiation, now).try_into().unwrap();
    assert_eq!(control.open(&cookie), (None, None));
    storm(&mut endpoint, &mut now);
    let initiation = control.initiation();
    let [response] = at(&mut endpoint, &control, &initiation, now).try_into().unwrap();
    let confirmation = control.open(&response).0.unwrap();
    storm(&mut endpoint, &mut now);
    at(&mut endpoint, &control, &confirmation, now);
    assert_eq!(endpoint.statistics(control_id).unwrap().last_handshake, Some(now));

    let packet = user.datagram_from(user.inner);
    for _ in 0..20 {
        storm(&mut endpoint, &mut now);
        let datagram = user.seal(&packet);
        assert!(received(&mut endpoint, user.address, &datagram, now).is_some());
    }
}

#[test]
fn the_client_of_ebb_connects_through_a_flood_by_itself() {
    let key = PrivateKey::from_random([200; 32]);
    let (mut endpoint, mut client) = (Endpoint::new(&key, 1420, start(NOW)), None);
    let control = PrivateKey::from_random([2; 32]);
    let inner = IpAddr::from([10, 8, 0, 2]);
    let peer = PeerConfig {
        key: control.public(),
        addresses: Addresses::Hosts(vec![inner]),
        endpoint: None,
        keepalive: None,
    };
    endpoint.add(peer).unwrap();
    let mut flood = Flood::new(&key);
    let mut now = NOW;
    for _ in 0..3000 {
        now += Duration::from_millis(1);
        for _ in 0..5 {
            flood.hit(&mut endpoint, now);
        }
        // After a second of flood.
        if now.since(NOW) < Duration::from_secs(1) {
            continue;
        }
        let client = client.get_or_insert_with(|| {
            let config = crate::client::ClientConfig {
                private_key: control.clone(),
                gateway_key: key.public(),
                endpoint: SocketAddr::from(([192, 0, 2, 1], 41820)),
                addresses: vec![inner],
                mtu: 1420,
                persistent_keepalive: None,
            };
            let mut client = crate::client::Client::new(config, Start { seed: [5; 32], ..start(now) });
            client.initiate(now);
            client
        });
        client.expire(now);
        let mut out = [0; 2048];
        while let Some((length, _)) = client.transmit(&mut out, now) {
            endpoint.receive(&mut out[..length], SocketAddr::from(([192, 0, 2, 7], 7)).into(), now);
        }
        for mut answer in outgoing(&mut endpoint) {
            client.receive(&mut answer, SocketAddr::from(([192, 0, 2, 1], 41820)), now);
        }
        if client.last_handshake().is_some() {
            let waited = now.since(NOW + Duration::from_secs(1));
            assert!(waited < Duration::from_millis(400), "{waited:?}");
            return;
        }
    }
    panic!("it never got in");
}

#[test]
fn one_address_that_answers_cookies_gets_its_share_and_no_more() {
    let (key, mut endpoint) = gateway();
    let mut flood = Flood::new(&key);
    for _ in 0..200 {
        flood.hit(&mut endpoint, NOW);
    }
    let mut stranger = Raw::new(98, &key).0;
    let from = stranger.address;
    let initiation = stranger.initiation();
    let [cookie] = deliver(&mut endpoint, from, &initiation).try_into().unwrap();
    stranger.open(&cookie);
    let before = endpoint.counters();
    for _ in 0..100 {
        deliver(&mut endpoint, from, &stranger.initiation());
    }
    let after = endpoint.counters();
    assert_eq!((after.unknown - before.unknown, after.limited - before.limited), (5, 95));
}

#[test]
fn cookies_leave_room_for_handshakes_in_the_queue() {
    let (key, mut endpoint) = gateway();
    let (mut raw, config) = Raw::new(2, &key);
    endpoint.add(config).unwrap();
    raw.connect(&mut endpoint);
    let mut stranger = Raw::new(99, &key).0;
    for n in 0..2000_u32 {
        let from = SocketAddr::from((std::net::Ipv4Addr::from(0xcb00_0000 + n), 1));
        endpoint.receive(&mut stranger.initiation(), from.into(), NOW);
    }
    let id = endpoint.find(&PrivateKey::from_random([2; 32]).public()).unwrap();
    endpoint.initiate(id, NOW);
    assert!(outgoing(&mut endpoint).iter().any(|message| message[0] == 1));
}
