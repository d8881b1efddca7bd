//! The bytes that flow: each follows from its direction and its offset, so any copy can be checked anywhere.

fn word(seed: u64, index: u64) -> [u8; 8] {
    let mut z = seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 32)).to_le_bytes()
}

/// Writes the bytes of the stream `seed` from `offset` on.
pub fn fill(seed: u64, mut offset: u64, mut out: &mut [u8]) {
    while !out.is_empty() {
        let bytes = word(seed, offset / 8);
        let skip = (offset % 8) as usize;
        let count = (8 - skip).min(out.len());
        let (now, rest) = out.split_at_mut(count);
        now.copy_from_slice(&bytes[skip..skip + count]);
        out = rest;
        offset += count as u64;
    }
}

/// Whether `bytes` are those of the stream `seed` from `offset` on.
pub fn matches(seed: u64, mut offset: u64, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let expected = word(seed, offset / 8);
        let skip = (offset % 8) as usize;
        let count = (8 - skip).min(bytes.len());
        let (now, rest) = bytes.split_at(count);
        if now != &expected[skip..skip + count] {
            return false;
        }
        bytes = rest;
        offset += count as u64;
    }
    true
}
