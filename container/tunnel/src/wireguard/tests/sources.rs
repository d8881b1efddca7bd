//! Networks that a peer has to call from.

use super::*;

fn confined(networks: &[&str]) -> (Endpoint, Raw, PeerId) {
    let (key, mut endpoint) = gateway();
    let (raw, config) = Raw::new(2, &key);
    let id = endpoint.add(config).unwrap();
    endpoint.set_source_ips(id, list(networks));
    (endpoint, raw, id)
}

fn list(networks: &[&str]) -> Vec<IpNet> {
    networks.iter().map(|network| network.parse().unwrap()).collect()
}

fn foreigner() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 9], 9))
}

#[test]
fn a_handshake_from_outside_of_the_list_is_not_answered_and_costs_the_peer_nothing() {
    let (mut endpoint, mut raw, id) = confined(&["192.0.2.0/24", "2001:db8::/32"]);
    let initiation = raw.initiation();
    assert_eq!(deliver(&mut endpoint, foreigner(), &initiation), Vec::<Vec<u8>>::new());
    assert_eq!((endpoint.counters().foreign, endpoint.statistics(id).unwrap().foreign), (1, 1));
    // Nothing was remembered: the same initiation is no replay when it comes from where it should.
    assert_eq!(deliver(&mut endpoint, raw.address, &initiation).len(), 1);
    assert_eq!(endpoint.counters().refused, 0);
}

#[test]
fn a_listed_address_connects_over_ipv4_and_ipv6_and_in_the_mapped_form() {
    for address in ["192.0.2.77:1", "[2001:db8::5]:1", "[::ffff:192.0.2.77]:1"] {
        let (mut endpoint, mut raw, id) = confined(&["192.0.2.0/24", "2001:db8::/32"]);
        raw.address = address.parse().unwrap();
        raw.connect(&mut endpoint);
        assert_eq!(endpoint.statistics(id).unwrap().last_handshake, Some(NOW), "{address}");
    }
}

#[test]
fn a_peer_does_not_move_to_an_address_that_is_not_listed() {
    let (mut endpoint, mut raw, id) = confined(&["192.0.2.0/24"]);
    raw.connect(&mut endpoint);
    let packet = raw.datagram_from(raw.inner);
    let datagram = raw.seal(&packet);
    assert_eq!(received(&mut endpoint, foreigner(), &datagram, NOW), None);
    assert_eq!(endpoint.statistics(id).unwrap().endpoint, Some(raw.address));
    // It was judged before it was opened: its number is still free.
    assert_eq!(received(&mut endpoint, raw.address, &datagram, NOW), Some((id, packet)));
}

#[test]
fn a_response_from_outside_of_the_list_completes_nothing() {
    let (mut endpoint, mut raw, id) = confined(&["192.0.2.0/24"]);
    endpoint.set_endpoint(id, raw.address);
    endpoint.initiate(id, NOW);
    let [initiation] = outgoing(&mut endpoint).try_into().unwrap();
    let (response, _) = raw.open(&initiation);
    let response = response.unwrap();
    assert!(deliver(&mut endpoint, foreigner(), &response).is_empty());
    assert_eq!(endpoint.statistics(id).unwrap().last_handshake, None);
    deliver(&mut endpoint, raw.address, &response);
    assert_eq!(endpoint.statistics(id).unwrap().last_handshake, Some(NOW));
}

#[test]
fn a_list_counts_from_the_moment_it_is_set_and_keeps_the_session() {
    let (mut endpoint, mut raw, id) = connected(2);
    let packet = raw.datagram_from(raw.inner);
    endpoint.set_source_ips(id, list(&["198.51.100.0/24"]));
    assert_eq!(endpoint.statistics(id).unwrap().endpoint, None);
    assert_eq!(seal(&mut endpoint, id, &packet, NOW), None, "nothing goes to where the peer may not be");
    let datagram = raw.seal(&packet);
    assert_eq!(received(&mut endpoint, raw.address, &datagram, NOW), None);

    let listed = SocketAddr::from(([198, 51, 100, 7], 9));
    assert_eq!(received(&mut endpoint, listed, &datagram, NOW), Some((id, packet.clone())));
    assert!(seal(&mut endpoint, id, &packet, NOW).is_some());
    endpoint.set_source_ips(id, Vec::new());
    let datagram = raw.seal(&packet);
    assert!(
        received(&mut endpoint, foreigner(), &datagram, NOW).is_some(),
        "without a list, from everywhere"
    );
}

#[test]
fn one_peers_list_does_not_concern_another() {
    let (key, mut endpoint) = gateway();
    let (mut free, config) = Raw::new(2, &key);
    endpoint.add(config).unwrap();
    let (_, config) = Raw::new(3, &key);
    let confined = endpoint.add(config).unwrap();
    endpoint.set_source_ips(confined, list(&["198.51.100.0/24"]));
    free.connect(&mut endpoint);
    assert_eq!(endpoint.counters().foreign, 0);
}
