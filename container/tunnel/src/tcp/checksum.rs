//! The Internet checksum (RFC 1071) over TCP segments and their pseudo header (RFC 9293 3.1, RFC 8200 8.1).

use std::net::IpAddr;

/// Protocol number of TCP.
const TCP: u16 = 6;

/// The sum of one connection's pseudo header, without the length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pseudo(u32);

impl Pseudo {
    /// Sums the addresses and the protocol. A pair of mixed families has no pseudo header; the addresses are summed as
    /// they are.
    pub fn new(local: IpAddr, remote: IpAddr) -> Self {
        let mut sum = u64::from(TCP.to_be());
        for address in [local, remote] {
            sum += match address {
                IpAddr::V4(v4) => raw_sum(&v4.octets()),
                IpAddr::V6(v6) => raw_sum(&v6.octets()),
            };
        }
        Self(u32::from(fold(sum)))
    }

    /// Writes the checksum of `segment`, whose checksum field is zero.
    pub fn fill(self, segment: &mut [u8]) {
        let sum = raw_sum(segment);
        self.fill_with(segment, sum);
    }

    /// The same when the sum of all but the first `header` octets is known.
    pub fn fill_header(self, segment: &mut [u8], header: usize, payload: u64) {
        let sum = raw_sum(&segment[..header]) + payload;
        self.fill_with(segment, sum);
    }

    fn fill_with(self, segment: &mut [u8], sum: u64) {
        let length = u64::from((segment.len() as u16).to_be());
        let sum = !fold(u64::from(self.0) + length + sum);
        segment[16..18].copy_from_slice(&sum.to_ne_bytes());
    }
}

/// The sum of 16-bit words in the machine's own byte order: the order does not matter to a ones' complement sum as long as
/// the result is written back in the same order (RFC 1071 section 2 B).
pub(super) fn raw_sum(bytes: &[u8]) -> u64 {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let (mut whole, mut upper) = (0_u64, 0);
    for chunk in chunks {
        let word = u64::from_ne_bytes(*chunk);
        whole = whole.wrapping_add(word);
        upper += word >> 32;
    }
    // The sum of the lower halves fits, so it is right although `whole` has lost carries.
    let lower = whole.wrapping_sub(upper << 32);
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let word = u64::from_ne_bytes(last);
    lower + upper + (word >> 32) + (word & 0xffff_ffff)
}

/// Copies `from` to `to`, of the same length, and returns the sum of it. The sum first: it walks through `from` line by line, so
/// that the processor fetches ahead, and the copy finds everything in its nearest cache.
pub(super) fn copy_and_sum(from: &[u8], to: &mut [u8]) -> u64 {
    let sum = raw_sum(from);
    to.copy_from_slice(from);
    sum
}

/// Folds carries until 16 bits are left.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 section 1, word by word.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
        }
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        sum as u16
    }

    proptest! {
        #[test]
        fn both_ways_of_summing_agree_with_the_plain_one(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut copy = vec![0; bytes.len()];
            let fused = copy_and_sum(&bytes, &mut copy);
            prop_assert_eq!(u16::from_be(fold(fused)), plain(&bytes));
            prop_assert_eq!(u16::from_be(fold(raw_sum(&bytes))), plain(&bytes));
            prop_assert_eq!(copy, bytes);
        }
    }

    #[test]
    fn a_sum_of_ones_only_does_not_overflow() {
        assert_eq!(fold(raw_sum(&[0xff; 65_535])), u16::to_be(plain(&[0xff; 65_535])));
    }
}
