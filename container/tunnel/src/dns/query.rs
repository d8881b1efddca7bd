//! Reading what clients send.

use domain::base::iana::{Class, ExtendedErrorCode, Opcode, OptRcode};
use domain::base::message::Section;
use domain::base::opt::{Opt, OptRecord};
use domain::base::{Message, Rtype, ToName as _};

use super::{Settings, Transport, answer};

/// A name in wire form. Comparisons ignore case (RFC 4343), and order is that of DNSSEC: a name comes right before all
/// names under it (RFC 4034, section 6.1).
pub(super) type Name = domain::base::Name<Vec<u8>>;

/// What is asked, with all that makes an answer differ. Names are in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Question {
    pub name: Name,
    pub rtype: Rtype,
    /// The DO bit: signatures are wanted (RFC 4035, section 3.2.1).
    pub dnssec_ok: bool,
    /// The CD bit: data that fails validation is wanted (RFC 4035, section 3.2.2).
    pub checking_disabled: bool,
}

/// A query that deserves an answer, and what the answer must look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub id: u16,
    /// The name as the client wrote it; some check that they get it back so (0x20).
    pub name: Name,
    pub question: Question,
    /// Only IN is served, but an error repeats the question as it was.
    pub class: Class,
    pub recursion_desired: bool,
    /// Whether the client understands the AD bit (RFC 6840, section 5.7).
    pub wants_ad: bool,
    /// Whether the query had an OPT record; only then may the answer (RFC 6891, section 6.1.1).
    pub edns: bool,
    /// Longest message that can be sent back.
    pub limit: usize,
    /// What the gateway announces in its own OPT record.
    pub announce: u16,
}

/// An error code and its explanation (RFC 8914), shown by `dig` and in browsers' network logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub rcode: OptRcode,
    pub code: ExtendedErrorCode,
    pub text: &'static str,
}

impl Failure {
    pub const fn new(rcode: OptRcode, code: ExtendedErrorCode, text: &'static str) -> Self {
        Self { rcode, code, text }
    }
}

const OTHER: ExtendedErrorCode = ExtendedErrorCode::OTHER;
const NOT_SUPPORTED: ExtendedErrorCode = ExtendedErrorCode::NOT_SUPPORTED;
const PROHIBITED: ExtendedErrorCode = ExtendedErrorCode::PROHIBITED;

/// What to do with a message of a client.
pub(super) enum Read {
    /// No answer: nothing that answers could be meant for it.
    Drop,
    /// This answer at once.
    Refuse(Vec<u8>),
    /// A real answer.
    Ask(Asked),
}

/// Longest query that is read. Name, padding (RFC 8467), cookie and signature stay far below; anything longer is made to cost
/// time, with thousands of records whose names lead through each other.
const LONGEST: usize = 4096;

/// Reads a message of a client. Answering a response would let two servers keep each other busy for ever.
pub(super) fn read(message: &[u8], transport: Transport, settings: &Settings) -> Read {
    let Ok(message) = Message::from_slice(message) else { return Read::Drop };
    let header = message.header();
    if header.qr() {
        return Read::Drop;
    }
    if header.opcode() != Opcode::QUERY {
        return Read::Refuse(answer::bare(header, OptRcode::NOTIMP));
    }
    // More than one question: RFC 9619, section 4. None at all: there is nothing to answer.
    if message.header_counts().qdcount() != 1 || message.as_slice().len() > LONGEST {
        return Read::Refuse(answer::bare(header, OptRcode::FORMERR));
    }
    let Some(mut asked) = asked(message, settings) else {
        return Read::Refuse(answer::bare(header, OptRcode::FORMERR));
    };
    let opt = match opt(message) {
        Ok(opt) => opt,
        Err(Malformed) => return Read::Refuse(answer::bare(header, OptRcode::FORMERR)),
    };
    let udp = usize::from(settings.udp_payload);
    let mut version = 0;
    if let Some(opt) = opt {
        version = opt.version();
        asked.edns = true;
        asked.question.dnssec_ok = opt.dnssec_ok();
        // Sizes below 512 count as 512 (RFC 6891, section 6.2.3).
        asked.limit = usize::from(opt.udp_payload_size()).clamp(512, udp.max(512));
    }
    if transport == Transport::Tcp {
        asked.limit = usize::from(u16::MAX);
    }
    match unwanted(version, asked.class, asked.question.rtype) {
        Some(failure) => Read::Refuse(answer::failure(&asked, failure)),
        None => Read::Ask(asked),
    }
}

/// The question as if there were no OPT record.
fn asked(message: &Message<[u8]>, settings: &Settings) -> Option<Asked> {
    let header = message.header();
    let question = message.sole_question().ok()?;
    // Nothing precedes the question that its name could point to.
    if question.qname().is_compressed() {
        return None;
    }
    let name: Name = question.qname().to_name();
    let mut canonical = name.clone();
    canonical.make_canonical();
    Some(Asked {
        id: header.id(),
        name,
        question: Question {
            name: canonical,
            rtype: question.qtype(),
            dnssec_ok: false,
            checking_disabled: header.cd(),
        },
        class: question.qclass(),
        recursion_desired: header.rd(),
        wants_ad: header.ad(),
        edns: false,
        // RFC 1035, section 4.2.1.
        limit: 512,
        announce: settings.udp_payload,
    })
}

struct Malformed;

/// The OPT record. More than one, or one that is not at the root, is an error (RFC 6891, sections 6.1.1 and 6.1.2).
fn opt(message: &Message<[u8]>) -> Result<Option<OptRecord<&[u8]>>, Malformed> {
    let mut found = None;
    for record in message.iter() {
        let (record, section) = record.map_err(|_| Malformed)?;
        if section != Section::Additional || record.rtype() != Rtype::OPT {
            continue;
        }
        if found.is_some() || !record.owner().is_root() {
            return Err(Malformed);
        }
        let record = record.into_record::<Opt<_>>().map_err(|_| Malformed)?.ok_or(Malformed)?;
        found = Some(OptRecord::from_record(record));
    }
    Ok(found)
}

/// Why a well-formed query gets no answer.
fn unwanted(version: u8, class: Class, rtype: Rtype) -> Option<Failure> {
    if version > 0 {
        // RFC 6891, section 6.1.3.
        return Some(Failure::new(OptRcode::BADVERS, OTHER, "only EDNS version 0 is supported"));
    }
    if class != Class::IN {
        return Some(Failure::new(OptRcode::REFUSED, NOT_SUPPORTED, "only class IN is served"));
    }
    match rtype {
        Rtype::AXFR | Rtype::IXFR => {
            Some(Failure::new(OptRcode::REFUSED, PROHIBITED, "zones are not transferred"))
        }
        // 0 and OPT stand in no question (RFC 6895, section 3.1; RFC 6891, section 6.1.1).
        Rtype::OPT => Some(Failure::new(OptRcode::FORMERR, OTHER, "no query type")),
        Rtype::ANY => None,
        // Meta types and query types (RFC 6895, section 3.1), which mean something to the server that is asked only.
        other => match other.to_int() {
            0 => Some(Failure::new(OptRcode::FORMERR, OTHER, "no query type")),
            128..=255 => Some(Failure::new(OptRcode::REFUSED, NOT_SUPPORTED, "meta types are not served")),
            _ => None,
        },
    }
}
