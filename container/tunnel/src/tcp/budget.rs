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
        let taken = self.0.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = taken.checked_add(bytes).is_some_and(|after| after <= self.0.limit);
        if !fits {
            self.give(bytes);
        }
        fits
    }

    /// Gives `bytes` back.
    pub(super) fn give(&self, bytes: usize) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}
