//! Where things lie in messages (WireGuard paper, sections 5.4.2, 5.4.3, 5.4.6 and 5.4.7).

/// Length of an initiation.
pub(super) const INITIATION: usize = 148;
/// Length of a response.
pub(super) const RESPONSE: usize = 92;
/// Length of a cookie reply.
pub(super) const COOKIE: usize = 64;
/// Bytes before the encrypted packet in a data message: type, receiver, counter.
pub(super) const DATA_HEADER: usize = 16;
/// Bytes that a datagram is longer than its inner packet: the header before, the tag behind.
pub const OVERHEAD: usize = DATA_HEADER + super::crypto::TAG;

/// Type fields: one byte and three reserved ones that are zero.
pub(super) const TYPE_INITIATION: [u8; 4] = [1, 0, 0, 0];
pub(super) const TYPE_RESPONSE: [u8; 4] = [2, 0, 0, 0];
pub(super) const TYPE_COOKIE: [u8; 4] = [3, 0, 0, 0];
pub(super) const TYPE_DATA: [u8; 4] = [4, 0, 0, 0];

/// What a datagram claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Initiation,
    /// With the index of the receiver, chosen by us.
    Response(u32),
    Cookie(u32),
    Data(u32),
}

impl Kind {
    /// Looks at type and length; `None` for what is no WireGuard message.
    #[inline]
    pub fn of(datagram: &[u8]) -> Option<Self> {
        let kind = *datagram.first_chunk::<4>()?;
        match (kind, datagram.len()) {
            (TYPE_DATA, OVERHEAD..) => Some(Self::Data(word(datagram, 4))),
            (TYPE_INITIATION, INITIATION) => Some(Self::Initiation),
            (TYPE_RESPONSE, RESPONSE) => Some(Self::Response(word(datagram, 8))),
            (TYPE_COOKIE, COOKIE) => Some(Self::Cookie(word(datagram, 4))),
            _ => None,
        }
    }
}

/// The four bytes at `at` as a number; zero behind the end.
#[inline]
pub(super) fn word(message: &[u8], at: usize) -> u32 {
    message[at.min(message.len())..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// A part of a message of fixed length. `AT + N` must lie within `L`, which is checked at compile time.
#[inline]
pub(super) fn part<const AT: usize, const N: usize, const L: usize>(message: &[u8; L]) -> &[u8; N] {
    const { assert!(AT + N <= L) };
    message[AT..].first_chunk().unwrap_or(&[0; N])
}
