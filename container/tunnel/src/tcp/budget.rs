//! One byte budget over the buffers of all connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A shared limit on buffer memory. Clones share it; what a connection took returns when its buffers shrink or drop.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Shared { limit, used: AtomicUsize::new(0) }))
    }

    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The limit in bytes.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Bytes left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.limit().saturating_sub(self.used())
    }

    /// Takes `bytes`; false, and nothing taken, when they would exceed the limit.
    pub(super) fn take(&self, bytes: usize) -> bool {
        // In one step: what is taken and given back would for a moment look used to other loops, which would get nothing.
        let fits = |used: usize| used.checked_add(bytes).filter(|after| *after <= self.0.limit);
        self.0.used.try_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// Gives `bytes` back.
    pub(super) fn give(&self, bytes: usize) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_is_too_large_never_counts_as_used() {
        let budget = Budget::new(100);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| (0..1_000_000).filter(|_| budget.take(101)).count());
            while !asking.is_finished() {
                assert_eq!(budget.used(), 0);
            }
            assert_eq!(asking.join().unwrap(), 0);
        });
        assert!(budget.take(100) && !budget.take(1));
        budget.give(100);
        assert_eq!(budget.left(), 100);
    }
}
