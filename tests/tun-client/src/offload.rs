//! What stands before each packet of a TUN device with offload (virtio 1.2, section 5.1.6, legacy form; the machine's byte
//! order).

/// The header, and the longest packet behind it.
pub const PACKET_MAX: usize = VnetHeader::LENGTH + 65_535;

/// Bytes of a TCP header without options, and where its fields are (RFC 9293, section 3.1).
pub mod tcp {
    pub const HEADER: usize = 20;
    pub const SEQUENCE: usize = 4;
    pub const OFFSET: usize = 12;
    pub const FLAGS: usize = 13;
    pub const CHECKSUM: usize = 16;
    pub const FIN: u8 = 1;
    pub const PSH: u8 = 8;
    pub const ACK: u8 = 16;
    pub const CWR: u8 = 128;
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// A checksum has to be filled in; its field holds the sum of the pseudo header.
    pub needs_checksum: bool,
    /// Payload of each segment, when the packet is to be cut.
    pub segment: Option<u16>,
    /// Length of all headers.
    pub headers: u16,
    /// Where what is summed starts, and where in it the checksum is.
    pub checksum: (u16, u16),
}

impl VnetHeader {
    pub const LENGTH: usize = 10;

    const NEEDS_CHECKSUM: u8 = 1;
    const TCP_V4: u8 = 1;
    const TCP_V6: u8 = 4;

    /// Splits it off a packet; `None` for what this program did not ask for.
    pub fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (&[flags, kind, h0, h1, s0, s1, c0, c1, o0, o1], packet) =
            bytes.split_first_chunk::<{ Self::LENGTH }>()?;
        let word = |low, high| u16::from_ne_bytes([low, high]);
        let segment = match kind {
            0 => None,
            Self::TCP_V4 | Self::TCP_V6 => Some(word(s0, s1)).filter(|size| *size > 0),
            _ => return None,
        };
        let needs_checksum = flags & Self::NEEDS_CHECKSUM != 0;
        let checksum = (word(c0, c1), word(o0, o1));
        Some((Self { needs_checksum, segment, headers: word(h0, h1), checksum }, packet))
    }

    pub fn bytes(self, v6: bool) -> [u8; Self::LENGTH] {
        let kind = match self.segment {
            None => 0,
            Some(_) if v6 => Self::TCP_V6,
            Some(_) => Self::TCP_V4,
        };
        let mut bytes = [u8::from(self.needs_checksum) * Self::NEEDS_CHECKSUM, kind, 0, 0, 0, 0, 0, 0, 0, 0];
        let words = [self.headers, self.segment.unwrap_or(0), self.checksum.0, self.checksum.1];
        for (field, word) in bytes[2..].chunks_exact_mut(2).zip(words) {
            field.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

/// Writes the length of a whole packet, and IPv4's checksum over its header of `header` bytes.
pub fn set_length(packet: &mut [u8], header: usize, length: usize) {
    use ebb_tunnel::packet::checksum::Sum;
    if packet[0] >> 4 == 4 {
        packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        packet[10..12].fill(0);
        let sum = Sum::default().with(&packet[..header]).finish();
        packet[10..12].copy_from_slice(&sum);
    } else {
        packet[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
    }
}
