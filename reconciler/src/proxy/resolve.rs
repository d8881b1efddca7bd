//! Names, resolved by the gateway, so that no question leaves beside the tunnel.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use domain::base::iana::{Class, Rtype};
use domain::base::{Message, MessageBuilder, Name};
use domain::rdata::{A, Aaaa};

use crate::tunnel::Tunnel;

/// A question is repeated after this long; datagrams get lost.
const PATIENCE: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// Addresses of `name`, IPv4 first: a gateway on ACI has no route for IPv6.
pub(super) async fn addresses(tunnel: &Tunnel, resolver: SocketAddr, name: &str) -> io::Result<Vec<IpAddr>> {
    let invalid = |_| io::Error::new(io::ErrorKind::NotFound, format!("{name:?} is no name"));
    let name: Name<Vec<u8>> = name.parse().map_err(invalid)?;
    let (v4, v6) =
        tokio::join!(ask(tunnel, resolver, &name, Rtype::A), ask(tunnel, resolver, &name, Rtype::AAAA));
    match (v4, v6) {
        (Err(error), Err(_)) => Err(error),
        (v4, v6) => Ok(v4.into_iter().chain(v6).flatten().collect()),
    }
}

async fn ask(
    tunnel: &Tunnel,
    resolver: SocketAddr,
    name: &Name<Vec<u8>>,
    kind: Rtype,
) -> io::Result<Vec<IpAddr>> {
    let question = question(name, kind)?;
    for patience in PATIENCE {
        match tokio::time::timeout(patience, tunnel.exchange(resolver, &question)).await {
            Ok(answer) => return read(&answer?, &question),
            Err(_) => continue,
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "the resolver inside the tunnel does not answer"))
}

fn question(name: &Name<Vec<u8>>, kind: Rtype) -> io::Result<Vec<u8>> {
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(rand::random());
    message.header_mut().set_rd(true);
    let mut questions = message.question();
    questions.push((name, kind, Class::IN)).map_err(|_| io::ErrorKind::OutOfMemory)?;
    Ok(questions.finish())
}

/// The addresses in an answer. Names that the answer's own aliases lead to are the resolver's business.
fn read(answer: &[u8], question: &[u8]) -> io::Result<Vec<IpAddr>> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "the answer of the resolver cannot be read");
    let message = Message::from_octets(answer).map_err(|_| strange())?;
    if answer.get(..2) != question.get(..2) {
        return Err(strange());
    }
    let records = message.answer().map_err(|_| strange())?;
    let mut addresses = Vec::new();
    for record in records.flatten() {
        if let Ok(Some(record)) = record.to_record::<A>() {
            addresses.push(IpAddr::V4(record.data().addr()));
        } else if let Ok(Some(record)) = record.to_record::<Aaaa>() {
            addresses.push(IpAddr::V6(record.data().addr()));
        }
    }
    Ok(addresses)
}
