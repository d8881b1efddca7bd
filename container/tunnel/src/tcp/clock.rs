//! Microsecond arithmetic: spans are plain `u64` inside the endpoint.

use std::time::Duration;

use crate::Time;

/// One millisecond in microseconds.
pub(super) const MILLISECOND: u64 = 1_000;
/// One second in microseconds.
pub(super) const SECOND: u64 = 1_000_000;

/// Microseconds from `earlier` to `later`; zero when they are the other way round.
#[inline]
pub(super) fn between(earlier: Time, later: Time) -> u64 {
    later.as_micros().saturating_sub(earlier.as_micros())
}

/// `micros` after `time`.
#[inline]
pub(super) fn after(time: Time, micros: u64) -> Time {
    Time::from_micros(time.as_micros().saturating_add(micros))
}

/// A span in microseconds.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The earlier of two deadlines.
#[inline]
pub(super) fn earliest(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}
