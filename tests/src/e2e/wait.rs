//! Waiting for conditions. The only place of these tests that reads a clock or sleeps.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until `look` has what the test waits for; its error says what it saw instead.
///
/// # Panics
/// When it takes longer than `within`, with what was seen last.
pub fn eventually<T>(what: &str, within: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = now() + within;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if now() >= deadline => panic!("not within {within:?}: {what}; seen last: {seen}"),
            Err(_) => pause(LOOK_EVERY),
        }
    }
}

/// The time.
#[expect(clippy::disallowed_methods, reason = "this is the clock of the end-to-end tests")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// The time of day.
#[expect(clippy::disallowed_methods, reason = "this is the clock of the end-to-end tests")]
#[must_use]
pub fn wall_clock() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Waits between two looks at a condition, or between two steps of somebody who is in no hurry.
#[expect(clippy::disallowed_methods, reason = "this is the clock of the end-to-end tests")]
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
