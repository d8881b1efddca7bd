//! Writing what clients get.

use std::time::Duration;

use domain::base::iana::{Opcode, OptRcode};
use domain::base::message_builder::{AdditionalBuilder, PushError};
use domain::base::opt::ExtendedError;
use domain::base::{Header, MessageBuilder};

use super::query::{Asked, Failure};
use super::reply::Reply;

/// Length of the header (RFC 1035, section 4.1.1), behind which the question begins.
pub(super) const HEADER: usize = 12;

/// An error without question, for queries that cannot be read.
pub(super) fn bare(query: Header, rcode: OptRcode) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    let header = builder.header_mut();
    header.set_id(query.id());
    header.set_qr(true);
    header.set_opcode(query.opcode());
    header.set_rd(query.rd());
    header.set_ra(true);
    header.set_rcode(rcode.rcode());
    builder.finish()
}

/// An error with its explanation.
pub(super) fn failure(asked: &Asked, failure: Failure) -> Vec<u8> {
    let mut builder = start(asked);
    builder.header_mut().set_rcode(failure.rcode.rcode());
    // A question and an OPT record always fit.
    let _ = opt(asked, &mut builder, failure.rcode, Some(failure));
    builder.finish()
}

/// The answer to `asked` out of a reply that is `age` old. One that is too long for UDP is left out and TC set: half of it
/// would be of no use (RFC 2181, section 9), the client asks again over TCP.
pub(super) fn answer(asked: &Asked, reply: &Reply, age: Duration, trust_ad: bool) -> Vec<u8> {
    let opt = opt_record(asked);
    if reply.len() + opt.len() > asked.limit {
        let mut builder = start(asked);
        builder.header_mut().set_tc(true);
        builder.header_mut().set_rcode(reply.header().rcode());
        let _ = self::opt(asked, &mut builder, OptRcode::NOERROR, None);
        return builder.finish();
    }
    let mut message = reply.aged(age);
    let from = reply.header();
    let header = Header::for_message_slice_mut(&mut message);
    *header = answering(asked);
    header.set_rcode(from.rcode());
    header.set_aa(from.aa());
    // RFC 6840, section 5.8.
    header.set_ad(trust_ad && from.ad() && (asked.wants_ad || asked.question.dnssec_ok));
    let name = asked.name.as_slice();
    message[HEADER..HEADER + name.len()].copy_from_slice(name);
    // The reply has no additional section; the OPT record becomes all of it.
    message[HEADER - 2..HEADER].copy_from_slice(&u16::from(asked.edns).to_be_bytes());
    message.extend_from_slice(&opt);
    message
}

fn answering(asked: &Asked) -> Header {
    let mut header = Header::new();
    header.set_id(asked.id);
    header.set_qr(true);
    header.set_opcode(Opcode::QUERY);
    header.set_rd(asked.recursion_desired);
    header.set_ra(true);
    // RFC 4035, section 3.2.2.
    header.set_cd(asked.question.checking_disabled);
    header
}

fn start(asked: &Asked) -> AdditionalBuilder<Vec<u8>> {
    let mut builder = MessageBuilder::new_vec();
    *builder.header_mut() = answering(asked);
    let mut builder = builder.question();
    // One question always fits.
    let _ = builder.push((&asked.name, asked.question.rtype, asked.class));
    builder.additional()
}

/// Adds the OPT record of an answer. Without one in the query it must not be there (RFC 6891, section 6.1.1).
fn opt(
    asked: &Asked,
    builder: &mut AdditionalBuilder<Vec<u8>>,
    rcode: OptRcode,
    failure: Option<Failure>,
) -> Result<(), PushError> {
    if !asked.edns {
        return Ok(());
    }
    builder.opt(|opt| {
        opt.set_udp_payload_size(asked.announce);
        opt.set_rcode(rcode);
        // RFC 3225, section 3.
        opt.set_dnssec_ok(asked.question.dnssec_ok);
        if let Some(failure) = failure
            && let Ok(error) = ExtendedError::<Vec<u8>>::new_with_str(failure.code, failure.text)
        {
            opt.push(&error)?;
        }
        Ok(())
    })
}

/// The OPT record alone, empty when there is to be none.
fn opt_record(asked: &Asked) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec().additional();
    let _ = opt(asked, &mut builder, OptRcode::NOERROR, None);
    builder.finish().split_off(HEADER)
}
