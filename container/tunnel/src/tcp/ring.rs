//! A byte ring whose bytes are found by their position in the stream.

use std::fmt;

use super::budget::Budget;
use super::checksum;
use super::clock::{SECOND, between};
use crate::Time;

/// How often [`Ring::fit`] looks.
const FIT_INTERVAL: u64 = SECOND;

/// Storage for a stretch of a stream. Which stretch is live is the owner's business; the ring maps a position to a byte and
/// holds no more than its capacity of consecutive positions. Nothing is allocated before the first [`Ring::reserve`].
pub(super) struct Ring {
    /// Empty, or a power of two long.
    bytes: Vec<u8>,
    /// The position stored at index 0 (modulo the capacity).
    base: u64,
    /// The most that was live since when.
    peak: usize,
    since: Time,
    budget: Budget,
}

impl Ring {
    pub fn new(budget: &Budget) -> Self {
        Self { bytes: Vec::new(), base: 0, peak: 0, since: Time::ZERO, budget: budget.clone() }
    }

    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Makes room for `capacity` positions (rounded up to a power of two) and keeps the bytes of `from..to`, which the ring
    /// held before. False, and nothing changed, when the budget does not allow it.
    pub fn reserve(&mut self, capacity: usize, from: u64, to: u64) -> bool {
        let capacity = capacity.next_power_of_two();
        if capacity <= self.capacity() {
            return true;
        }
        if !self.budget.take(capacity - self.capacity()) {
            return false;
        }
        self.resize(capacity, from, to);
        true
    }

    fn resize(&mut self, capacity: usize, from: u64, to: u64) {
        // Zeroed pages straight from the system where the allocator can: a large ring costs nothing until it is written.
        let mut bytes = vec![0; capacity];
        let (first, second) = self.slices(from, to);
        bytes[..first.len()].copy_from_slice(first);
        bytes[first.len()..first.len() + second.len()].copy_from_slice(second);
        self.bytes = bytes;
        self.base = from;
        self.peak = capacity;
    }

    /// Looks once in a while whether the ring has become far too large for what is live in it, `from..to`, and gives memory
    /// back if so; not below `least`.
    pub fn fit(&mut self, from: u64, to: u64, least: usize, now: Time) {
        self.peak = self.peak.max((to - from) as usize);
        if between(self.since, now) < FIT_INTERVAL {
            return;
        }
        let wanted = (2 * self.peak).next_power_of_two().max(least.next_power_of_two());
        if wanted < self.capacity() / 2 {
            let freed = self.capacity() - wanted;
            self.resize(wanted, from, to);
            self.budget.give(freed);
        }
        self.peak = 0;
        self.since = now;
    }

    /// Starts over at index 0 with `position`, for a ring that holds nothing: what comes next is contiguous and lands in
    /// memory that is still in the cache.
    pub fn rewind(&mut self, position: u64) {
        self.base = position;
    }

    /// Frees the memory of a ring that holds nothing.
    pub fn release(&mut self) {
        self.budget.give(self.capacity());
        self.bytes = Vec::new();
    }

    fn index(&self, position: u64) -> usize {
        position.wrapping_sub(self.base) as usize & (self.capacity() - 1)
    }

    /// Where `from..to` lies: a range up to the end of the storage, and how much continues at its start.
    fn split(&self, from: u64, to: u64) -> (usize, usize, usize) {
        let length = (to - from) as usize;
        if length == 0 {
            return (0, 0, 0);
        }
        debug_assert!(length <= self.capacity());
        let start = self.index(from);
        let end = (start + length).min(self.capacity());
        (start, end, length - (end - start))
    }

    /// The bytes at positions `from..to`.
    pub fn slices(&self, from: u64, to: u64) -> (&[u8], &[u8]) {
        let (start, end, wrapped) = self.split(from, to);
        (&self.bytes[start..end], &self.bytes[..wrapped])
    }

    /// The same to write to.
    pub fn slices_mut(&mut self, from: u64, to: u64) -> (&mut [u8], &mut [u8]) {
        let (start, end, wrapped) = self.split(from, to);
        let (low, high) = self.bytes.split_at_mut(start);
        (&mut high[..end - start], &mut low[..wrapped])
    }

    /// Stores `bytes` from `position` on.
    pub fn write(&mut self, position: u64, bytes: &[u8]) {
        let (first, second) = self.slices_mut(position, position + bytes.len() as u64);
        let (head, tail) = bytes.split_at(first.len());
        first.copy_from_slice(head);
        second.copy_from_slice(tail);
    }

    /// Copies the bytes from `position` on into `out` and returns their sum for the checksum.
    pub fn read(&self, position: u64, out: &mut [u8]) -> u64 {
        let (first, second) = self.slices(position, position + out.len() as u64);
        if second.is_empty() {
            return checksum::copy_and_sum(first, out);
        }
        let (head, tail) = out.split_at_mut(first.len());
        head.copy_from_slice(first);
        tail.copy_from_slice(second);
        checksum::raw_sum(out)
    }
}

/// The content is people's traffic and belongs into no log.
impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("capacity", &self.capacity())
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_growth_across_the_wrap() {
        let budget = Budget::new(1 << 20);
        let mut ring = Ring::new(&budget);
        assert!(ring.reserve(8, 100, 100));
        ring.rewind(100);
        ring.write(100, b"abcdefgh");
        ring.write(108, b"ijkl");
        assert!(ring.reserve(16, 104, 112));
        ring.write(112, b"mnopqrst");
        let mut out = [0; 16];
        ring.read(104, &mut out);
        assert_eq!(&out, b"efghijklmnopqrst");
    }

    #[test]
    fn a_ring_that_is_hardly_used_shrinks_and_keeps_what_is_live() {
        let budget = Budget::new(1 << 20);
        let mut ring = Ring::new(&budget);
        assert!(ring.reserve(4096, 0, 0));
        let at = |seconds: u64| Time::from_millis(seconds * 1000);
        ring.fit(0, 4000, 16, at(10));
        assert_eq!(ring.capacity(), 4096);
        ring.write(4090, b"0123456789");
        ring.fit(4090, 4100, 16, at(11));
        ring.fit(4090, 4100, 16, at(12));
        assert_eq!((ring.capacity(), budget.used()), (32, 32));
        let mut out = [0; 10];
        ring.read(4090, &mut out);
        assert_eq!(&out, b"0123456789");
    }

    #[test]
    fn the_budget_bounds_growth_and_gets_everything_back() {
        let budget = Budget::new(48);
        let mut ring = Ring::new(&budget);
        assert!(ring.reserve(32, 0, 0));
        assert!(!ring.reserve(64, 0, 0));
        assert_eq!((ring.capacity(), budget.used()), (32, 32));
        drop(ring);
        assert_eq!(budget.used(), 0);
    }
}
