//! The Internet checksum (RFC 1071).

use std::net::IpAddr;

/// A running ones' complement sum. Parts are added in any order, each starting at an even offset.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes; an odd last byte counts as the high half of a word (RFC 1071, section 4.1).
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        // Eight bytes at a time: 2^16 = 1 modulo 2^16 - 1, so a wide word may be added as the sum of its halves.
        let (chunks, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let halves = |chunk: &[u8; 8]| {
            let word = u64::from_ne_bytes(*chunk);
            (word >> 32) + (word & 0xffff_ffff)
        };
        Self(self.0 + chunks.iter().map(halves).sum::<u64>() + halves(&last))
    }

    /// Adds the pseudo header of UDP and ICMPv6 (RFC 768; RFC 8200, section 8.1).
    #[must_use]
    pub fn pseudo_header(self, source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Self {
        let sum = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.with(&source.octets()).with(&destination.octets())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.with(&source.octets()).with(&destination.octets())
            }
            // No packet has addresses of two families.
            _ => self,
        };
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        sum.with(&[0, 0, 0, protocol, length[0], length[1], length[2], length[3]])
    }

    /// The checksum as it stands in a header, in the machine's byte order: write it with `to_ne_bytes` (RFC 1071,
    /// section 2 B: the sum does not depend on byte order as long as reading and writing agree).
    #[must_use]
    pub fn finish(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        (!(sum as u16)).to_ne_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition of RFC 1071, word by word.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    proptest! {
        #[test]
        fn the_wide_sum_equals_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(u16::from_be_bytes(Sum::default().with(&bytes).finish()), reference(&bytes));
        }

        #[test]
        fn parts_may_be_added_apart(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0_usize..300) {
            let (head, tail) = bytes.split_at((cut & !1).min(bytes.len() & !1));
            prop_assert_eq!(Sum::default().with(head).with(tail).finish(), Sum::default().with(&bytes).finish());
        }
    }

    #[test]
    fn the_example_of_rfc_1071_gives_its_sum() {
        let sum = Sum::default().with(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(u16::from_be_bytes(sum.finish()), !0xddf2);
    }
}
