use proptest::prelude::*;

use super::*;

fn policy(routes: &[&str]) -> Policy {
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
    let own = ["203.0.113.10", "20.1.2.3", "172.16.0.4", "2600::10"].map(|text| text.parse().unwrap());
    Policy::new(&nets(routes), &nets(&["10.8.0.0/24", "fd65:6262:0:1::/64"]), &own)
}

fn full_tunnel() -> Policy {
    policy(&["0.0.0.0/0", "::/0"])
}

fn check(policy: &Policy, address: &str) -> Result<(), Refusal> {
    policy.check(address.parse().unwrap())
}

/// Everything that is refused although the routes lead everywhere.
const REFUSED: &[(&str, Refusal)] = &[
    ("0.0.0.0", Refusal::NotAHost),
    ("0.1.2.3", Refusal::NotAHost),
    ("127.0.0.1", Refusal::Loopback),
    ("127.255.255.254", Refusal::Loopback),
    ("169.254.169.254", Refusal::LinkLocal),
    ("169.254.0.1", Refusal::LinkLocal),
    ("168.63.129.16", Refusal::CloudService),
    ("224.0.0.1", Refusal::NotAHost),
    ("239.255.255.250", Refusal::NotAHost),
    ("255.255.255.255", Refusal::NotAHost),
    ("10.0.0.1", Refusal::Special),
    ("172.16.0.1", Refusal::Special),
    ("172.31.255.255", Refusal::Special),
    ("192.168.1.1", Refusal::Special),
    ("100.64.0.1", Refusal::Special),
    ("100.127.255.255", Refusal::Special),
    ("192.0.0.170", Refusal::Special),
    ("192.0.2.1", Refusal::Special),
    ("198.51.100.1", Refusal::Special),
    ("203.0.113.1", Refusal::Special),
    ("198.19.0.1", Refusal::Special),
    ("240.0.0.1", Refusal::Special),
    ("10.8.0.3", Refusal::Pool),
    ("20.1.2.3", Refusal::Gateway),
    ("172.16.0.4", Refusal::Gateway),
    ("::", Refusal::NotAHost),
    ("::1", Refusal::Loopback),
    ("fe80::1", Refusal::LinkLocal),
    ("febf::1", Refusal::LinkLocal),
    ("ff02::1", Refusal::NotAHost),
    ("fc00::1", Refusal::Special),
    ("fd00:ec2::254", Refusal::Special),
    ("fec0::1", Refusal::Special),
    ("100::1", Refusal::Special),
    ("2001:db8::1", Refusal::Special),
    ("3fff:fff::1", Refusal::Special),
    ("5f00::1", Refusal::Special),
    ("fd65:6262:0:1::5", Refusal::Pool),
    ("fd65:6262:0:ffff::1", Refusal::ControlNetwork),
    ("fd65:6262:0:ffff::2", Refusal::ControlNetwork),
    ("2600::10", Refusal::Gateway),
    // IPv4 in IPv6: mapped, compatible, NAT64, local NAT64, translated, 6to4, Teredo server and client, ISATAP.
    ("::ffff:169.254.169.254", Refusal::NotAHost),
    ("::ffff:8.8.8.8", Refusal::NotAHost),
    ("::ffff:127.0.0.1", Refusal::NotAHost),
    ("::127.0.0.1", Refusal::NotAHost),
    ("::8.8.8.8", Refusal::NotAHost),
    ("64:ff9b::169.254.169.254", Refusal::LinkLocal),
    ("64:ff9b::168.63.129.16", Refusal::CloudService),
    ("64:ff9b::127.0.0.1", Refusal::Loopback),
    ("64:ff9b::10.0.0.1", Refusal::Special),
    ("64:ff9b::20.1.2.3", Refusal::Gateway),
    ("64:ff9b:1::169.254.169.254", Refusal::LinkLocal),
    ("64:ff9b:1::8.8.8.8", Refusal::Special),
    ("::ffff:0:169.254.169.254", Refusal::LinkLocal),
    ("2002:a9fe:a9fe::1", Refusal::LinkLocal),
    ("2002:7f00:1::1", Refusal::Loopback),
    ("2002:c0a8:101::1", Refusal::Special),
    ("2001:0:a83f:8110::1", Refusal::CloudService),
    ("2001:0:808:808:0:0:5601:5601", Refusal::LinkLocal),
    ("2600:1:2:3:0:5efe:169.254.169.254", Refusal::LinkLocal),
    ("2600:1:2:3:200:5efe:127.0.0.1", Refusal::Loopback),
];

#[test]
fn a_full_tunnel_does_not_reach_what_is_not_the_internet() {
    for (address, refusal) in REFUSED {
        assert_eq!(check(&full_tunnel(), address), Err(*refusal), "{address}");
    }
}

#[test]
fn a_full_tunnel_reaches_the_internet() {
    for address in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.1",
        "172.15.255.255",
        "172.32.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "168.63.129.15",
        "169.253.0.1",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
        "2001:4860:4860::8888",
    ] {
        assert_eq!(check(&full_tunnel(), address), Ok(()), "{address}");
    }
}

#[test]
fn no_route_opens_what_is_never_reachable() {
    let refusals = [
        Refusal::NotAHost,
        Refusal::Loopback,
        Refusal::LinkLocal,
        Refusal::CloudService,
        Refusal::Gateway,
        Refusal::ControlNetwork,
    ];
    for (address, refusal) in REFUSED.iter().filter(|(_, refusal)| refusals.contains(refusal)) {
        let host: IpAddr = address.parse().unwrap();
        let named = policy(&["0.0.0.0/0", "::/0", &IpNet::from(host).to_string()]);
        assert_eq!(check(&named, address), Err(*refusal), "{address}");
    }
}

#[test]
fn a_private_range_is_reachable_where_a_route_lies_inside_it() {
    let named = policy(&["0.0.0.0/0", "10.1.0.0/16", "192.168.0.0/16", "fd12::/16"]);
    assert_eq!(check(&named, "10.1.2.3"), Ok(()));
    assert_eq!(check(&named, "192.168.7.7"), Ok(()));
    assert_eq!(check(&named, "fd12::1"), Ok(()));
    assert_eq!(check(&named, "10.2.0.1"), Err(Refusal::Special));
    assert_eq!(check(&named, "fd13::1"), Err(Refusal::NoRoute));
}

#[test]
fn halves_of_a_default_route_name_no_private_range() {
    let halves = policy(&["0.0.0.0/1", "128.0.0.0/1", "8.0.0.0/5"]);
    assert_eq!(check(&halves, "10.0.0.1"), Err(Refusal::Special));
    assert_eq!(check(&halves, "8.8.8.8"), Ok(()));
}

#[test]
fn a_split_tunnel_reaches_its_routes_only() {
    let split = policy(&["10.1.0.0/16", "20.0.0.0/8"]);
    assert_eq!(check(&split, "20.9.9.9"), Ok(()));
    assert_eq!(check(&split, "10.1.0.1"), Ok(()));
    assert_eq!(check(&split, "8.8.8.8"), Err(Refusal::NoRoute));
    assert_eq!(check(&split, "2606:4700:4700::1111"), Err(Refusal::NoRoute));
}

#[test]
fn users_reach_each_other_only_when_a_route_lies_inside_their_pool() {
    assert_eq!(check(&policy(&["0.0.0.0/0", "10.0.0.0/8"]), "10.8.0.3"), Err(Refusal::Pool));
    assert_eq!(check(&policy(&["10.8.0.0/24"]), "10.8.0.3"), Ok(()));
    assert_eq!(check(&policy(&["10.8.0.0/28"]), "10.8.0.3"), Ok(()));
    assert_eq!(check(&policy(&["10.8.0.0/28"]), "10.8.0.30"), Err(Refusal::Pool));
    assert_eq!(check(&policy(&["fd65:6262:0:1::/64"]), "fd65:6262:0:1::5"), Ok(()));
}

#[test]
fn addresses_of_the_gateway_may_change() {
    let mut policy = full_tunnel();
    policy.set_own(&["8.8.8.8".parse().unwrap()]);
    assert_eq!(check(&policy, "8.8.8.8"), Err(Refusal::Gateway));
    assert_eq!(check(&policy, "20.1.2.3"), Ok(()));
}

#[test]
fn without_routes_nothing_is_reachable() {
    assert_eq!(check(&Policy::default(), "8.8.8.8"), Err(Refusal::NoRoute));
}

const REFUSED_V4: [&str; 12] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "169.254.169.254/32",
    "168.63.129.16/32",
    "224.0.0.0/3",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "198.18.0.0/15",
    "20.1.2.3/32",
];

proptest! {
    /// Whatever IPv6 form a refused IPv4 address takes, it stays refused.
    #[test]
    fn no_ipv6_form_of_a_refused_ipv4_address_is_allowed(
        range in prop::sample::select(REFUSED_V4.to_vec()), host: u32, low: u64,
    ) {
        let range: ipnet::Ipv4Net = range.parse().unwrap();
        let address = Ipv4Addr::from_bits(range.network().to_bits() | (host & range.hostmask().to_bits()));
        let policy = full_tunnel();
        prop_assert!(policy.check(address.into()).is_err());
        let bits = u128::from(address.to_bits());
        let (low, inverted) = (u128::from(low), u128::from(!address.to_bits()));
        let forms = [
            bits,
            0xffff_0000_0000 | bits,
            0xffff_0000_0000_0000 | bits,
            0x64_ff9b << 96 | bits,
            0x64_ff9b_0001 << 80 | bits,
            0x2002 << 112 | bits << 80 | low,
            0x2001 << 112 | bits << 64 | low,
            0x2001 << 112 | 0x0808_0808 << 64 | inverted,
            0x2600 << 112 | 0x0000_5efe << 32 | bits,
            0x2600 << 112 | 0x0200_5efe << 32 | bits,
        ];
        for form in forms {
            let form = Ipv6Addr::from_bits(form);
            prop_assert!(policy.check(form.into()).is_err(), "{form} for {address}");
        }
    }

    #[test]
    fn more_routes_never_take_a_destination_away(bits: u32, route in 0_u32.., prefix in 0_u8..=32) {
        let address = Ipv4Addr::from_bits(bits);
        let before = full_tunnel();
        let route = IpNet::new(Ipv4Addr::from_bits(route).into(), prefix).unwrap().to_string();
        let after = policy(&["0.0.0.0/0", "::/0", &route]);
        prop_assert!(before.check(address.into()).is_err() || after.check(address.into()).is_ok());
    }
}
