//! Reading what upstreams send, and answers in the form in which they are kept.

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use domain::base::iana::{Class, Opcode, OptRcode, Rcode};
use domain::base::{
    Header, HeaderCounts, Message, ParseRecordData, ParsedName, ParsedRecord, RecordSection, Rtype,
};
use domain::rdata::svcb::{HttpsVariant, SvcbRdata, SvcbVariant};
use domain::rdata::{A, Aaaa, Cname, Dname, Mx, Ns, Ptr, Soa, Srv};

use super::Settings;
use super::answer::HEADER;
use super::query::Question;

/// An answer, reduced to header, question, answers and, where it means something, authority.
///
/// It stays in the bytes it came in, so that record types this gateway has never heard of pass through (RFC 3597). The
/// additional section is dropped: clients may not trust it and hardly use it, and the OPT record in it is for one hop only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    bytes: Vec<u8>,
    /// Where the TTLs are.
    ttls: Vec<usize>,
    /// How long it holds; `None` when it may not be kept.
    ttl: Option<Duration>,
    /// All addresses in it.
    addresses: Vec<IpAddr>,
}

/// What an upstream said.
pub(super) enum Heard {
    /// Not the answer to this question, hence not from the upstream.
    Foreign,
    /// The name exists or does not: an answer.
    Answer(Reply),
    /// The answer did not fit; ask over TCP.
    Truncated,
    /// The upstream does not know EDNS (RFC 6891, section 7).
    NoEdns,
    /// It has no answer.
    Failed,
}

struct Malformed;

impl<E: std::error::Error> From<E> for Malformed {
    fn from(_: E) -> Self {
        Self
    }
}

/// Reads a message that may answer `question`. The caller has checked where it comes from, and its ID.
pub(super) fn read(bytes: &[u8], question: &Question, settings: &Settings) -> Heard {
    let Ok(message) = Message::from_slice(bytes) else { return Heard::Foreign };
    let header = message.header();
    if !header.qr() || header.opcode() != Opcode::QUERY {
        return Heard::Foreign;
    }
    let rcode = message.opt_rcode();
    let answers = matches!(rcode, OptRcode::NOERROR | OptRcode::NXDOMAIN);
    // RFC 5452, section 9.1. Some servers leave the question out of an error.
    let same = message.sole_question().is_ok_and(|asked| {
        !asked.qname().is_compressed()
            && *asked.qname() == question.name
            && asked.qtype() == question.rtype
            && asked.qclass() == Class::IN
    });
    if !same && (answers || message.header_counts().qdcount() != 0) {
        return Heard::Foreign;
    }
    match rcode {
        _ if answers && header.tc() => Heard::Truncated,
        _ if answers => match Reply::parse(bytes, question, settings) {
            Ok(reply) => Heard::Answer(reply),
            Err(Malformed) => Heard::Failed,
        },
        OptRcode::FORMERR | OptRcode::NOTIMP | OptRcode::BADVERS => Heard::NoEdns,
        _ => Heard::Failed,
    }
}

/// The ID of a message, if it has one.
pub(super) fn id(message: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*message.first_chunk()?))
}

impl Reply {
    /// An answer that was made here, for `question`.
    pub fn local(message: &[u8], question: &Question, settings: &Settings) -> Option<Self> {
        Self::parse(message, question, settings).ok()
    }

    fn parse(bytes: &[u8], question: &Question, settings: &Settings) -> Result<Self, Malformed> {
        let message = Message::from_slice(bytes)?;
        let header = message.header();
        let counts = message.header_counts();
        let mut walk =
            Walk { question, settings, ttls: Vec::new(), addresses: Vec::new(), found: Found::default() };
        let answers = walk.section(message.answer()?, false)?;
        let authority = walk.section(message.authority()?, true)?;
        let Walk { mut ttls, addresses, found, .. } = walk;

        // A server that does not recurse and points to others is of no use here (RFC 1034, section 4.3.1).
        if !header.ra() && !header.aa() && counts.ancount() == 0 && !found.soa {
            return Err(Malformed);
        }
        let positive = header.rcode() == Rcode::NOERROR && found.answer;
        // The name servers behind a positive answer are of no use to a client, unless they prove a wildcard.
        let keep_authority = !positive || question.dnssec_ok;
        let end = if keep_authority { authority.end } else { answers.end };
        ttls.retain(|&(at, _)| at < end);
        let mut kept = bytes[..end].to_vec();
        let counted = HeaderCounts::for_message_slice_mut(&mut kept);
        counted.set_arcount(0);
        if !keep_authority {
            counted.set_nscount(0);
        }
        kept[HEADER..HEADER + question.name.len()].copy_from_slice(question.name.as_slice());
        for &(at, ttl) in &ttls {
            kept[at..at + 4].copy_from_slice(&ttl.to_be_bytes());
        }
        let least = ttls.iter().map(|&(_, ttl)| ttl).min().map(|ttl| Duration::from_secs(ttl.into()));
        let ttl = if positive {
            least
        } else {
            // Without a SOA record nothing says how long it holds (RFC 2308, section 5).
            least.filter(|_| found.soa).map(|ttl| ttl.min(settings.max_negative_ttl))
        };
        let ttl = ttl.filter(|ttl| !ttl.is_zero());
        Ok(Self { bytes: kept, ttls: ttls.into_iter().map(|(at, _)| at).collect(), ttl, addresses })
    }

    /// Header as it came.
    pub fn header(&self) -> Header {
        *Header::for_message_slice(&self.bytes)
    }

    /// Bytes of the message.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that it takes to keep it.
    pub fn memory(&self) -> usize {
        self.bytes.len()
            + self.ttls.len() * size_of::<usize>()
            + self.addresses.len() * size_of::<IpAddr>()
            + size_of::<Self>()
    }

    /// How long it may be kept.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// Where it leads.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The message with TTLs as they are when it has been kept for `age` (RFC 1034, section 5.3.3).
    pub fn aged(&self, age: Duration) -> Vec<u8> {
        let seconds = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        let mut message = self.bytes.clone();
        for &at in &self.ttls {
            if let Some(ttl) = message[at..].first_chunk_mut() {
                *ttl = u32::from_be_bytes(*ttl).saturating_sub(seconds).to_be_bytes();
            }
        }
        message
    }
}

#[derive(Default)]
struct Found {
    /// A record of the type that was asked for.
    answer: bool,
    /// The SOA record of a negative answer.
    soa: bool,
}

struct Walk<'q> {
    question: &'q Question,
    settings: &'q Settings,
    /// Place and value.
    ttls: Vec<(usize, u32)>,
    addresses: Vec<IpAddr>,
    found: Found,
}

impl Walk<'_> {
    /// Reads a section; returns where it is.
    fn section(
        &mut self,
        mut records: RecordSection<'_, [u8]>,
        authority: bool,
    ) -> Result<Range<usize>, Malformed> {
        let start = records.pos();
        while let Some(record) = records.next() {
            let record = record?;
            let negative = authority && record.rtype() == Rtype::SOA;
            // Type, class, TTL and length of the data precede the data (RFC 1035, section 4.1.3).
            let at = records.pos() - usize::from(record.rdlen()) - 6;
            let mut ttl = record.ttl().as_secs();
            // RFC 2181, section 8.
            if ttl > i32::MAX.cast_unsigned() {
                ttl = 0;
            }
            let cap = |limit: Duration| u32::try_from(limit.as_secs()).unwrap_or(u32::MAX);
            ttl = ttl.min(cap(self.settings.max_ttl));
            if !authority && record.rtype() == self.question.rtype {
                self.found.answer = true;
            }
            if let Some(minimum) = data(&record, &mut self.addresses)?
                && negative
            {
                // RFC 2308, section 5.
                self.found.soa = true;
                ttl = ttl.min(minimum).min(cap(self.settings.max_negative_ttl));
            }
            self.ttls.push((at, ttl));
        }
        Ok(start..records.pos())
    }
}

/// Looks into the data of the types that matter: those that may be compressed and hence may be broken by what is cut off
/// (RFC 3597, section 4), and those that hold addresses. Returns the minimum of a SOA record.
fn data<'a>(record: &ParsedRecord<'a, [u8]>, addresses: &mut Vec<IpAddr>) -> Result<Option<u32>, Malformed> {
    type Host<'a> = ParsedName<&'a [u8]>;
    if record.class() != Class::IN {
        return Ok(None);
    }
    match record.rtype() {
        Rtype::A => {
            if let Some(record) = record.to_record::<A>()? {
                addresses.push(record.data().addr().into());
            }
        }
        Rtype::AAAA => {
            if let Some(record) = record.to_record::<Aaaa>()? {
                addresses.push(record.data().addr().into());
            }
        }
        Rtype::SVCB => {
            if let Ok(Some(record)) = record.to_record::<SvcbRdata<SvcbVariant, _, Host<'_>>>() {
                hints(record.data(), addresses);
            }
        }
        Rtype::HTTPS => {
            if let Ok(Some(record)) = record.to_record::<SvcbRdata<HttpsVariant, _, Host<'_>>>() {
                hints(record.data(), addresses);
            }
        }
        Rtype::SOA => {
            return Ok(record.to_record::<Soa<Host<'_>>>()?.map(|soa| soa.data().minimum().as_secs()));
        }
        Rtype::CNAME => sound::<Cname<Host<'a>>>(record)?,
        Rtype::DNAME => sound::<Dname<Host<'a>>>(record)?,
        Rtype::NS => sound::<Ns<Host<'a>>>(record)?,
        Rtype::PTR => sound::<Ptr<Host<'a>>>(record)?,
        Rtype::MX => sound::<Mx<Host<'a>>>(record)?,
        Rtype::SRV => sound::<Srv<Host<'a>>>(record)?,
        _ => {}
    }
    Ok(None)
}

fn sound<'a, Data: ParseRecordData<'a, [u8]>>(record: &ParsedRecord<'a, [u8]>) -> Result<(), Malformed> {
    record.to_record::<Data>()?;
    Ok(())
}

/// Addresses that browsers connect to without asking for A or AAAA (RFC 9460, section 7.3).
fn hints<V, N>(service: &SvcbRdata<V, &[u8], N>, addresses: &mut Vec<IpAddr>) {
    if let Some(hint) = service.params().ipv4hint() {
        addresses.extend(hint.iter().map(IpAddr::from));
    }
    if let Some(hint) = service.params().ipv6hint() {
        addresses.extend(hint.iter().map(IpAddr::from));
    }
}
