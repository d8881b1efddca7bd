//! How long others remember a name.

use std::net::SocketAddr;
use std::time::Duration;

use domain::base::iana::{Class, Rtype};
use domain::base::{Message, MessageBuilder, Name};
use domain::rdata::A;

use super::probe::Probe;

/// For each of a few attempts; datagrams get lost.
const PATIENCE: Duration = Duration::from_secs(2);

const ATTEMPTS: usize = 3;

/// Seconds for which the resolver says that the address of `name` may be remembered (TTL, RFC 1035, section 4.1.3). A resolver that
/// remembers it itself says what is left.
pub(super) async fn of(name: &str, resolver: SocketAddr) -> Result<u32, String> {
    let name: Name<Vec<u8>> = name.parse().map_err(|_| format!("{name:?} is no name"))?;
    let probe = Probe::at(&resolver.ip().to_string(), resolver.port()).await?;
    for _ in 0..ATTEMPTS {
        let question = question(&name)?;
        if let Some(answer) = probe.once(&question, PATIENCE).await {
            return read(&answer, &question);
        }
    }
    Err(format!("the resolver {resolver} does not answer"))
}

fn question(name: &Name<Vec<u8>>) -> Result<Vec<u8>, String> {
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(rand::random());
    message.header_mut().set_rd(true);
    let mut questions = message.question();
    questions.push((name, Rtype::A, Class::IN)).map_err(|error| error.to_string())?;
    Ok(questions.finish())
}

fn read(answer: &[u8], question: &[u8]) -> Result<u32, String> {
    let message = Message::from_octets(answer).map_err(|error| error.to_string())?;
    if answer.get(..2) != question.get(..2) {
        return Err("the resolver has answered another question".to_owned());
    }
    let records = message.answer().map_err(|error| error.to_string())?;
    let addresses = records.flatten().filter_map(|record| record.to_record::<A>().ok().flatten());
    let ttl = addresses.map(|record| record.ttl().as_secs()).min();
    ttl.ok_or_else(|| format!("the resolver has no address ({})", message.header().rcode()))
}
