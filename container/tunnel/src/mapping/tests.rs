use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits::udp(3, 5);

fn peer(number: u32) -> PeerId {
    PeerId::for_tests(number)
}

fn source(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 8, 0, 2], port))
}

fn remote(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], port))
}

fn made(outbound: Outbound) -> MappingId {
    match outbound {
        Outbound::New { id, evicted: None } => id,
        other => panic!("{other:?}"),
    }
}

/// The rules in the plainest words, for comparison.
#[derive(Default)]
struct Reference {
    /// By peer and source port.
    mappings: BTreeMap<(u32, u16), Plain>,
}

struct Plain {
    remotes: Vec<IpAddr>,
    answered: bool,
    only_resolvers: bool,
    used: Time,
}

impl Reference {
    fn expire(&mut self, now: Time) -> usize {
        let before = self.mappings.len();
        self.mappings.retain(|_, mapping| {
            let life = match (mapping.only_resolvers, mapping.answered) {
                (true, _) => 10,
                (false, true) => 120,
                (false, false) => 30,
            };
            // A timer of the wheel fires within its tick.
            let ends = mapping.used + Duration::from_secs(life);
            ends.as_micros().div_ceil(128) > now.as_micros() / 128
        });
        before - self.mappings.len()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Out { peer: u32, port: u16, host: u8, resolver: bool },
    In { peer: u32, port: u16, host: u8 },
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u32..3, 0_u16..5, 0_u8..4, any::<bool>())
            .prop_map(|(peer, port, host, resolver)| Step::Out { peer, port, host, resolver }),
        3 => (0_u32..3, 0_u16..5, 0_u8..4).prop_map(|(peer, port, host)| Step::In { peer, port, host }),
        2 => (0_u64..40_000_000).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..200)
}

proptest! {
    #[test]
    fn the_table_follows_the_plain_rules(steps in steps()) {
        let mut now = Time::ZERO;
        let mut table = Mappings::new(LIMITS, now);
        let mut reference = Reference::default();
        let mut ids = BTreeMap::new();
        for step in steps {
            match step {
                Step::Out { peer: p, port, host, resolver } => {
                    let to = remote(host, if resolver { 53 } else { 4000 });
                    let known = reference.mappings.contains_key(&(p, port));
                    let own = reference.mappings.keys().filter(|(owner, _)| *owner == p).count();
                    let crowded = !known && (own >= 3 || reference.mappings.len() >= 5);
                    let oldest = reference.mappings.iter().filter(|((owner, _), _)| *owner == p);
                    let oldest = oldest.min_by_key(|(_, mapping)| mapping.used).map(|(key, _)| *key);
                    let outbound = table.outbound(peer(p), source(port), to, now);
                    match outbound {
                        Outbound::Full => {
                            prop_assert!(crowded && oldest.is_none());
                            continue;
                        }
                        Outbound::Known(id) => prop_assert_eq!(ids.get(&(p, port)), Some(&id)),
                        Outbound::New { id, evicted } => {
                            prop_assert!(!known);
                            prop_assert_eq!(evicted.is_some(), crowded);
                            if let Some(evicted) = evicted {
                                let oldest = oldest.unwrap();
                                prop_assert_eq!(ids.remove(&oldest), Some(evicted));
                                reference.mappings.remove(&oldest);
                            }
                            ids.insert((p, port), id);
                        }
                    }
                    let entry = reference.mappings.entry((p, port)).or_insert(Plain {
                        remotes: vec![],
                        answered: false,
                        only_resolvers: true,
                        used: now,
                    });
                    entry.remotes.push(to.ip());
                    entry.only_resolvers &= resolver;
                    entry.used = now;
                }
                Step::In { peer: p, port, host } => {
                    let from = remote(host, 9).ip();
                    let expected = reference.mappings.get_mut(&(p, port)).filter(|entry| entry.remotes.contains(&from));
                    let allowed = expected.is_some();
                    if let Some(entry) = expected {
                        entry.answered = true;
                        entry.used = now;
                    }
                    if let Some(id) = ids.get(&(p, port)) {
                        let found = table.inbound(*id, from, now);
                        prop_assert_eq!(found, allowed.then_some((peer(p), source(port))));
                    }
                }
                Step::Wait(micros) => {
                    now += Duration::from_micros(micros);
                    let expected = reference.expire(now);
                    let expired: Vec<_> = std::iter::from_fn(|| table.expire(now)).collect();
                    prop_assert_eq!(expired.len(), expected);
                    ids.retain(|key, id| {
                        reference.mappings.contains_key(key) != expired.contains(id)
                            && !expired.contains(id)
                    });
                }
            }
            // Distinct times, so that "oldest" has one meaning.
            now += Duration::from_micros(1);
            prop_assert_eq!(table.len(), reference.mappings.len());
            prop_assert_eq!(ids.len(), reference.mappings.len());
        }
    }
}

#[test]
fn one_source_keeps_its_mapping_wherever_it_sends() {
    let mut table = Mappings::new(LIMITS, Time::ZERO);
    let id = made(table.outbound(peer(1), source(1), remote(1, 1000), Time::ZERO));
    for host in 2..20 {
        assert_eq!(table.outbound(peer(1), source(1), remote(host, 2), Time::ZERO), Outbound::Known(id));
    }
}

#[test]
fn only_addresses_that_were_sent_to_may_answer_from_any_port() {
    let mut table = Mappings::new(LIMITS, Time::ZERO);
    let id = made(table.outbound(peer(1), source(1), remote(1, 1000), Time::ZERO));
    assert_eq!(table.inbound(id, remote(1, 9).ip(), Time::ZERO), Some((peer(1), source(1))));
    assert_eq!(table.inbound(id, remote(2, 1000).ip(), Time::ZERO), None);
}

#[test]
fn a_mapping_that_talks_to_everybody_hears_everybody() {
    let mut table = Mappings::new(LIMITS, Time::ZERO);
    let id = made(table.outbound(peer(1), source(1), remote(0, 1), Time::ZERO));
    for host in 1..=REMEMBERED as u8 {
        assert_eq!(table.inbound(id, remote(200, 1).ip(), Time::ZERO), None);
        table.outbound(peer(1), source(1), remote(host, 1), Time::ZERO);
    }
    assert_eq!(table.inbound(id, remote(200, 1).ip(), Time::ZERO), Some((peer(1), source(1))));
}

#[test]
fn an_attacker_with_many_sources_takes_nobody_elses_mapping() {
    let mut table = Mappings::new(LIMITS, Time::ZERO);
    let victim = made(table.outbound(peer(1), source(1), remote(1, 1), Time::ZERO));
    for port in 1..1000 {
        table.outbound(peer(2), source(port), remote(1, 1), Time::from_millis(u64::from(port)));
    }
    assert_eq!(table.len(), 1 + LIMITS.per_peer as usize);
    assert_eq!(table.owner(victim), Some((peer(1), source(1))));
}

#[test]
fn a_removed_users_mappings_are_removed_one_by_one() {
    let mut table = Mappings::new(LIMITS, Time::ZERO);
    table.outbound(peer(1), source(1), remote(1, 1), Time::ZERO);
    table.outbound(peer(1), source(2), remote(1, 1), Time::ZERO);
    table.outbound(peer(2), source(1), remote(1, 1), Time::ZERO);
    assert_eq!(std::iter::from_fn(|| table.remove_one_of(peer(1))).count(), 2);
    assert_eq!(table.len(), 1);
}
