//! Long streams of known bytes, so that a byte that is lost, repeated or moved is found where it happened.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::client::Client;
use super::namespace::Namespace;
use super::wait::eventually;

const BLOCK: usize = 64 * 1024;

/// The stream: blocks that begin with their number and are otherwise noise.
#[derive(Clone)]
pub struct Pattern {
    block: Box<[u8]>,
    number: u64,
    offset: usize,
}

impl Pattern {
    /// The stream from its first byte.
    #[must_use]
    pub fn new() -> Self {
        // Marsaglia's xorshift64: noise that no compression or coincidence reproduces.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut block = Vec::with_capacity(BLOCK);
        while block.len() < BLOCK {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            block.extend(state.to_le_bytes());
        }
        let mut pattern = Self { block: block.into(), number: 0, offset: 0 };
        pattern.stamp();
        pattern
    }

    fn stamp(&mut self) {
        self.block[..8].copy_from_slice(&self.number.to_le_bytes());
    }

    fn rest(&self) -> &[u8] {
        &self.block[self.offset..]
    }

    fn advance(&mut self, length: usize) {
        self.offset += length;
        if self.offset == BLOCK {
            (self.offset, self.number) = (0, self.number + 1);
            self.stamp();
        }
    }

    fn position(&self) -> u64 {
        self.number * BLOCK as u64 + self.offset as u64
    }

    /// Writes the first `length` bytes.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(mut self, to: &mut impl Write, length: u64) -> io::Result<()> {
        while self.position() < length {
            let left = usize::try_from(length - self.position()).unwrap_or(usize::MAX);
            let part = self.rest().len().min(left);
            to.write_all(&self.rest()[..part])?;
            self.advance(part);
        }
        to.flush()
    }

    /// Reads to the end, or to `limit` bytes, and says how many there were. `seen` follows the count.
    ///
    /// # Errors
    /// Those of the reader, and the first byte that is not what it should be.
    pub fn check(mut self, from: &mut impl Read, limit: u64, seen: &AtomicU64) -> io::Result<u64> {
        let mut buffer = vec![0; BLOCK];
        while self.position() < limit {
            let room = usize::try_from(limit - self.position()).unwrap_or(usize::MAX).min(BLOCK);
            let length = from.read(&mut buffer[..room])?;
            if length == 0 {
                break;
            }
            let mut bytes = &buffer[..length];
            while !bytes.is_empty() {
                let part = self.rest().len().min(bytes.len());
                if bytes[..part] != self.rest()[..part] {
                    let wrong = (0..part).find(|at| bytes[*at] != self.rest()[*at]).unwrap_or(0) as u64;
                    return Err(io::Error::other(format!("byte {} is wrong", self.position() + wrong)));
                }
                self.advance(part);
                bytes = &bytes[part..];
            }
            seen.store(self.position(), Ordering::Relaxed);
        }
        Ok(self.position())
    }
}

impl Default for Pattern {
    fn default() -> Self {
        Self::new()
    }
}

/// A download by `curl` that goes on while the test does other things.
pub struct Download {
    curl: Child,
    length: u64,
    seen: Arc<AtomicU64>,
    checking: Option<JoinHandle<io::Result<u64>>>,
}

impl Download {
    /// Begins to fetch `length` bytes from `server`.
    #[must_use]
    pub fn start(client: &Client<'_>, server: &str, length: u64) -> Self {
        Self::with(&client.namespace, &[], &format!("{server}/bytes/{length}"), length)
    }

    /// The same, but only as fast as the server permits; see [`super::server::Web::permit`].
    #[must_use]
    pub fn gated(client: &Client<'_>, server: &str, length: u64) -> Self {
        Self::with(&client.namespace, &[], &format!("{server}/gated/{length}"), length)
    }

    /// The same from any namespace, of any page, with these further arguments for `curl`.
    #[must_use]
    pub fn with(namespace: &Namespace, arguments: &[&str], page: &str, length: u64) -> Self {
        let mut command = Command::new("curl");
        command.args(["-q", "-sS", "--no-buffer", "--fail", "--max-time", "120"]);
        command.args(arguments).arg(format!("http://{page}"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut curl = namespace.run(move || command.spawn()).expect("curl can be run");
        let mut body = curl.stdout.take().expect("it is piped");
        let seen = Arc::new(AtomicU64::new(0));
        let progress = Arc::clone(&seen);
        let checking = std::thread::spawn(move || Pattern::new().check(&mut body, u64::MAX, &progress));
        Self { curl, length, seen, checking: Some(checking) }
    }

    /// Bytes that have arrived.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Waits until this many bytes have arrived.
    pub fn await_bytes(&self, bytes: u64, within: Duration) {
        eventually(&format!("{bytes} bytes arrive"), within, || {
            let progress = self.progress();
            if progress >= bytes { Ok(()) } else { Err(format!("{progress} bytes")) }
        });
    }

    /// Waits for the end; every byte must have arrived, and be the right one.
    pub fn finish(mut self) {
        let checking = self.checking.take().expect("it is taken once");
        let length = checking.join().expect("checking does not panic").expect("every byte is the right one");
        let status = self.curl.wait().expect("a child can be waited for");
        assert!(status.success(), "curl ended with {status} after {length} of {} bytes", self.length);
        assert_eq!(length, self.length, "the download is complete");
    }

    /// Whether it has ended, in whatever way.
    pub fn is_over(&mut self) -> bool {
        self.curl.try_wait().expect("a child can be waited for").is_some()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8]) -> io::Result<u64> {
        Pattern::new().check(&mut &bytes[..], u64::MAX, &AtomicU64::new(0))
    }

    #[test]
    fn a_stream_is_recognised_and_every_damage_is_found() {
        let mut stream = Vec::new();
        Pattern::new().write(&mut stream, 300_001).unwrap();
        assert_eq!(check(&stream).unwrap(), 300_001);
        let mut flipped = stream.clone();
        flipped[200_000] ^= 1;
        assert_eq!(check(&flipped).unwrap_err().to_string(), "byte 200000 is wrong");
        let skipped = [&stream[..BLOCK], &stream[2 * BLOCK..]].concat();
        assert_eq!(check(&skipped).unwrap_err().to_string(), format!("byte {BLOCK} is wrong"));
        let repeated = [&stream[..2 * BLOCK], &stream[BLOCK..]].concat();
        assert_eq!(check(&repeated).unwrap_err().to_string(), format!("byte {} is wrong", 2 * BLOCK));
    }
}
