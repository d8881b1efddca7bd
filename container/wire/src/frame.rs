//! Framing on the control connection: a 4-byte big-endian length, then JSON `{"v":1,"m":…}`.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::VERSION;

/// Longest frame in bytes. A [`crate::Live`] with the 253 users that a /24 holds needs about 50 KiB.
pub const MAX_FRAME: usize = 256 * 1024;

/// Why a frame cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The connection is out of step; close it.
    #[error("a control frame of {0} bytes exceeds the limit of {MAX_FRAME}")]
    TooLong(usize),
    /// The other side speaks another version; it can be answered.
    #[error("a control frame has version {0}, this side speaks version {VERSION}")]
    Version(u16),
    /// The other side sent something else than a message; it can be answered.
    #[error("a control frame does not hold the expected message")]
    Unreadable,
}

#[derive(Serialize)]
struct Outgoing<'a, T> {
    v: u16,
    m: &'a T,
}

/// One message as a frame.
///
/// # Errors
/// [`FrameError::TooLong`] when the message does not fit [`MAX_FRAME`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, &Outgoing { v: VERSION, m: message })
        .map_err(|_| FrameError::Unreadable)?;
    let length = frame.len() - 4;
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    frame[..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    Ok(frame)
}

/// Cuts a byte stream into messages. It never holds more than one frame and what arrived behind it.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
}

impl Frames {
    /// Appends bytes as they arrive, in pieces of any size.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` until more bytes arrive.
    ///
    /// # Errors
    /// See [`FrameError`]. After [`FrameError::TooLong`] the stream cannot be read on.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some((head, rest)) = self.buffer.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*head) as usize;
        if length > MAX_FRAME {
            return Err(FrameError::TooLong(length));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = read(body);
        self.buffer.drain(..4 + length);
        message.map(Some)
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    #[derive(Deserialize)]
    struct Head {
        v: u16,
    }
    #[derive(Deserialize)]
    struct Body<T> {
        m: T,
    }
    let Head { v } = serde_json::from_slice(body).map_err(|_| FrameError::Unreadable)?;
    if v != VERSION {
        return Err(FrameError::Version(v));
    }
    let Body { m } = serde_json::from_slice(body).map_err(|_| FrameError::Unreadable)?;
    Ok(m)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Live, Reply, Request};

    proptest! {
        #[test]
        fn messages_survive_any_cutting_of_the_stream(cuts in proptest::collection::vec(1_usize..40, 1..30)) {
            let sent = [Request::Telemetry, Request::Configure(Live { generation: 7, ..Live::default() }), Request::Telemetry];
            let stream: Vec<u8> = sent.iter().flat_map(|m| encode(m).unwrap()).collect();
            let mut frames = Frames::default();
            let mut received = Vec::new();
            let mut rest = stream.as_slice();
            for cut in cuts.into_iter().cycle() {
                let (piece, tail) = rest.split_at(cut.min(rest.len()));
                frames.push(piece);
                while let Some(message) = frames.take::<Request>().unwrap() {
                    received.push(message);
                }
                rest = tail;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(received.as_slice(), sent.as_slice());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut frames = Frames::default();
            frames.push(&bytes);
            while let Ok(Some(_)) = frames.take::<Reply>() {}
        }
    }

    #[test]
    fn after_an_unreadable_message_the_next_one_is_still_read() {
        let mut frames = Frames::default();
        frames.push(&[0, 0, 0, 2, b'{', b'}']);
        frames.push(&[0, 0, 0, 16]);
        frames.push(br#"{"v":2,"m":null}"#);
        frames.push(&encode(&Request::Telemetry).unwrap());
        assert_eq!(frames.take::<Request>(), Err(FrameError::Unreadable));
        assert_eq!(frames.take::<Request>(), Err(FrameError::Version(2)));
        assert_eq!(frames.take::<Request>(), Ok(Some(Request::Telemetry)));
        assert_eq!(frames.take::<Request>(), Ok(None));
    }

    #[test]
    fn an_endless_frame_is_refused_before_it_is_stored() {
        let mut frames = Frames::default();
        frames.push(&u32::MAX.to_be_bytes());
        assert_eq!(frames.take::<Request>(), Err(FrameError::TooLong(u32::MAX as usize)));
    }
}
