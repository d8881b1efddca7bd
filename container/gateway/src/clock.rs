//! The one place that reads clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ebb_tunnel::Time;

/// A monotonic clock that starts at zero.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts the clock.
    #[expect(clippy::disallowed_methods, reason = "the clock module")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    #[inline]
    pub fn now(self) -> Time {
        Time::ZERO + self.0.elapsed()
    }
}

/// Time since 1970 on the wall clock; zero when it stands before.
#[expect(clippy::disallowed_methods, reason = "the clock module")]
pub fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
