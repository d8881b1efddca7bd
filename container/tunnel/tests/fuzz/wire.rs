//! What comes on the control connection and in a boot file, in pieces of any size.

use ebb_wire::{Boot, FrameError, Frames, LogLine, Reply, Request, encode};
use serde::{Serialize, de::DeserializeOwned};

/// Cuts bytes into pieces and reads messages of both directions out of them. What is read can be written and read again.
pub fn fuzz_wire(bytes: &[u8]) {
    messages::<Request>(bytes);
    messages::<Reply>(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Boot::parse(text);
        let _ = LogLine::parse(text);
    }
}

fn messages<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let mut frames = Frames::default();
    // The first byte says how long the pieces are.
    let Some((piece, bytes)) = bytes.split_first() else { return };
    for piece in bytes.chunks(usize::from(*piece).max(1)) {
        frames.push(piece);
        loop {
            match frames.take::<T>() {
                Ok(Some(message)) => {
                    let mut again = Frames::default();
                    again.push(&encode(&message).unwrap());
                    assert_eq!(again.take::<T>(), Ok(Some(message)));
                }
                Ok(None) => break,
                Err(FrameError::TooLong(_)) => return,
                Err(FrameError::Version(_) | FrameError::Unreadable) => {}
            }
        }
    }
}
