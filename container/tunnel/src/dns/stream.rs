//! DNS messages on a byte stream.

/// Bytes kept for a message that is not whole: the longest one and its length.
const LONGEST: usize = 2 + u16::MAX as usize;

/// A message as it goes on a TCP stream, behind its length in two bytes (RFC 1035, section 4.2.2). Length and message in
/// one piece, as RFC 7766, section 8, asks. A message over 65535 bytes cannot exist and becomes an empty frame.
#[must_use]
pub fn frame(message: &[u8]) -> Vec<u8> {
    let Ok(length) = u16::try_from(message.len()) else { return vec![0, 0] };
    [&length.to_be_bytes(), message].concat()
}

/// Cuts a TCP stream into messages.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
}

impl Frames {
    /// How many bytes [`push`](Self::push) will take.
    #[must_use]
    pub fn room(&self) -> usize {
        LONGEST.saturating_sub(self.buffer.len())
    }

    /// Takes bytes as they arrive and returns how many; the rest is for after [`take`](Self::take).
    #[must_use]
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        self.buffer.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// The next whole message, or `None` until more bytes arrive.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let (length, rest) = self.buffer.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let message = rest.get(..length)?.to_vec();
        self.buffer.drain(..2 + length);
        Some(message)
    }

    /// Whether nothing waits; a connection that is idle then may be closed (RFC 7766, section 6.2.3).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_survive_any_cutting_of_the_stream(
            sent in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..10),
            cut in 1_usize..60,
        ) {
            let stream: Vec<u8> = sent.iter().flat_map(|message| frame(message)).collect();
            let mut frames = Frames::default();
            let mut received = Vec::new();
            for piece in stream.chunks(cut) {
                prop_assert_eq!(frames.push(piece), piece.len());
                received.extend(std::iter::from_fn(|| frames.take()));
            }
            prop_assert_eq!(received, sent);
            prop_assert!(frames.is_empty());
        }
    }

    #[test]
    fn a_stream_that_never_completes_a_message_fills_no_more_than_one() {
        let mut frames = Frames::default();
        assert_eq!(frames.push(&[0xff; 70_000]), 65_537);
        assert_eq!(frames.push(&[1]), 0);
        assert_eq!(frames.take().map(|message| message.len()), Some(65_535));
        assert_eq!(frames.push(&[1]), 1);
    }
}
