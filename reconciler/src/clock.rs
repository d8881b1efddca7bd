//! The only place of the daemon that reads a clock.

use std::sync::LazyLock;
use std::time::Instant;

use ebb_tunnel::Time;
use jiff::Timestamp;

/// The wall clock, for everything that people see or that outlives the process.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The monotonic clock, for protocols.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn monotonic() -> Time {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    Time::ZERO + ORIGIN.elapsed()
}

/// The monotonic clock that goes on while the machine is suspended (`CLOCK_BOOTTIME`), for leases that end elsewhere meanwhile.
#[must_use]
pub fn boottime() -> Time {
    // Linux has had this clock since 2.6.39; the error is that of a clock that does not exist.
    let read = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    read.map_or_else(|_| monotonic(), |time| Time::ZERO + std::time::Duration::from(time))
}

/// The monotonic instant at which `time` is reached, for timers.
#[must_use]
pub fn instant_of(time: Time) -> tokio::time::Instant {
    tokio::time::Instant::now() + time.since(monotonic())
}

/// The monotonic instant at which the wall clock will show `at`, if nobody sets it.
#[must_use]
pub fn instant_at(at: Timestamp) -> tokio::time::Instant {
    let wait = at.duration_since(now()).unsigned_abs();
    if at <= now() { tokio::time::Instant::now() } else { tokio::time::Instant::now() + wait }
}
