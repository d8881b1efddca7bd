//! Which counters have been seen: a sliding window as a bitmap in a ring (RFC 6479).

/// Bits of one block.
const BITS: u64 = u64::BITS as u64;
/// Blocks of the ring; a power of two, so that finding one is a mask.
const BLOCKS: u64 = 256;
/// How far a counter may lag behind the greatest one. One block is the one being filled, so it does not count. A batch of
/// segmented datagrams spread over several queues of a network card reorders thousands of packets: the Linux module keeps
/// 8128, and the next power of two costs one kilobyte more per session.
const WINDOW: u64 = (BLOCKS - 1) * BITS;

/// The window of one session.
#[derive(Debug)]
pub(super) struct Window {
    /// One more than the greatest counter that was accepted.
    next: u64,
    seen: [u64; BLOCKS as usize],
}

impl Default for Window {
    fn default() -> Self {
        Self { next: 0, seen: [0; BLOCKS as usize] }
    }
}

impl Window {
    /// Whether a counter is new, as far as anybody remembers.
    #[inline]
    pub fn is_new(&self, counter: u64) -> bool {
        if counter >= self.next {
            return true;
        }
        self.next - counter <= WINDOW && self.seen[block(counter)] & bit(counter) == 0
    }

    /// Remembers a counter; to be called only when the message has proven to be authentic. False when it is not new.
    #[inline]
    pub fn accept(&mut self, counter: u64) -> bool {
        if !self.is_new(counter) {
            return false;
        }
        if counter >= self.next {
            // Blocks that the greatest counter enters held bits of long ago.
            let (last, current) = (self.next.saturating_sub(1) / BITS, counter / BITS);
            for entered in last + 1..=current.min(last + BLOCKS) {
                self.seen[(entered % BLOCKS) as usize] = 0;
            }
            self.next = counter + 1;
        }
        self.seen[block(counter)] |= bit(counter);
        true
    }
}

#[inline]
fn block(counter: u64) -> usize {
    (counter / BITS % BLOCKS) as usize
}

#[inline]
fn bit(counter: u64) -> u64 {
    1 << (counter % BITS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The same without a ring: everything that was seen, and the greatest of it.
    #[derive(Default)]
    struct Model(BTreeSet<u64>);

    impl Model {
        fn accept(&mut self, counter: u64) -> bool {
            let too_old = self.0.last().is_some_and(|last| last + 1 > counter + WINDOW);
            !too_old && self.0.insert(counter)
        }
    }

    #[test]
    fn the_window_holds_at_least_8192_counters() {
        let mut window = Window::default();
        assert!(window.accept(1_000_000));
        assert!(window.accept(1_000_000 - 8191));
        assert!(window.accept(1_000_001 - WINDOW));
        assert!(!window.accept(1_000_000 - WINDOW));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn it_accepts_what_a_set_of_all_counters_accepts(
            steps in proptest::collection::vec((0_u8..5, 0_u64..3 * WINDOW), 1..200),
        ) {
            let (mut window, mut model, mut greatest) = (Window::default(), Model::default(), 0_u64);
            for (kind, distance) in steps {
                let counter = match kind {
                    0 => greatest + distance,
                    1 => greatest + distance % 100,
                    2 => greatest.saturating_sub(distance),
                    3 => greatest.saturating_sub(distance % 200),
                    _ => (greatest + 66).saturating_sub(WINDOW) + distance % 132,
                };
                greatest = greatest.max(counter);
                prop_assert_eq!(window.is_new(counter), model.0.last().is_none_or(|last| last < &(counter + WINDOW)) && !model.0.contains(&counter));
                prop_assert_eq!(window.accept(counter), model.accept(counter), "{}", counter);
            }
        }
    }
}
