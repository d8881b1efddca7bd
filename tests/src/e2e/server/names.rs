//! A name server (RFC 1035) that knows what it is told, over UDP.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use domain::base::iana::{Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Ttl};
use domain::rdata::{A, Aaaa};

use super::{Stop, Visit, Visits, serve_datagrams};
use crate::e2e::namespace::Namespace;

/// A name server.
pub struct Names {
    visits: Visits,
    _stop: Stop,
}

impl Names {
    /// Starts it in a namespace.
    pub fn start(namespace: &Namespace, address: SocketAddr, known: &[(&str, &[&str])]) -> Self {
        let known: BTreeMap<String, Vec<IpAddr>> = known
            .iter()
            .map(|(name, addresses)| {
                let addresses = addresses.iter().map(|address| address.parse().expect("an address"));
                ((*name).to_owned(), addresses.collect())
            })
            .collect();
        let visits = Visits::default();
        let record = visits.clone();
        let stop = serve_datagrams(namespace, address, move |from, datagram| {
            let (name, reply) = answer(&known, datagram)?;
            record.add(Visit { to: address, from, what: name });
            Some(reply)
        });
        Self { visits, _stop: stop }
    }

    /// Every name that was asked for.
    #[must_use]
    pub fn visits(&self) -> Vec<Visit> {
        self.visits.all()
    }
}

fn answer(known: &BTreeMap<String, Vec<IpAddr>>, datagram: &[u8]) -> Option<(String, Vec<u8>)> {
    let message = Message::from_octets(datagram).ok()?;
    let question = message.first_question()?;
    let name = question.qname().to_string().to_lowercase();
    let addresses = known.get(&name);
    let code = if addresses.is_some() { Rcode::NOERROR } else { Rcode::NXDOMAIN };
    let mut reply = MessageBuilder::new_vec().start_answer(&message, code).ok()?;
    let ttl = Ttl::from_secs(1);
    for address in addresses.into_iter().flatten() {
        match (address, question.qtype()) {
            (IpAddr::V4(address), Rtype::A) => reply.push((question.qname(), ttl, A::new(*address))).ok()?,
            (IpAddr::V6(address), Rtype::AAAA) => {
                reply.push((question.qname(), ttl, Aaaa::new(*address))).ok()?;
            }
            _ => {}
        }
    }
    Some((name, reply.finish()))
}
