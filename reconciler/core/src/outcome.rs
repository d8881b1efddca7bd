//! What became of an action, and how long to wait before the next attempt.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// What kind of failure it is, which decides what happens next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "class", rename_all = "camelCase")]
pub enum Class {
    /// A fault that passes by itself.
    Transient,
    /// Too many requests; the provider says how long to wait.
    Throttled {
        /// Seconds to wait.
        retry_after_seconds: u64,
    },
    /// A quota or the capacity of a region is used up.
    Quota,
    /// Another operation is in progress on the same resource.
    Conflict,
    /// Repeating does not help until a person changes something.
    Stalled,
    /// A fault of Ebb itself or of its permissions.
    Fatal,
}

impl Class {
    /// One word, as in metrics and conditions.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Transient => "Transient",
            Self::Throttled { .. } => "Throttled",
            Self::Quota => "QuotaExceeded",
            Self::Conflict => "Conflict",
            Self::Stalled => "Stalled",
            Self::Fatal => "Fatal",
        }
    }
}

/// A failed action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind.
    #[serde(flatten)]
    pub class: Class,
    /// For the person who reads it: what happened, where, what to do.
    pub message: String,
}

impl Failure {
    /// A failure of the given class.
    #[must_use]
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }
}

/// Attempts in one series (FR-004). A series fails as a whole; what the document wants begins a new one.
pub const SERIES: u32 = 3;

/// Shortest pause between series: a provider that refused three times in three seconds needs longer than seconds.
const SERIES_PAUSE: SignedDuration = SignedDuration::from_secs(60);

/// Longest pause between series: somebody who frees quota should not wait longer than this for the effect.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_secs(600);

/// Shortest pause after a conflict: Azure asks for 10 s while a container group is in transition ("Container group transitioning
/// state"), and a third attempt within three seconds would end the series for nothing.
const CONFLICT_PAUSE: SignedDuration = SignedDuration::from_secs(10);

/// When to try again after `failures` failures in a row, the present one included.
///
/// Within a series the pauses are 1 s and 2 s (FR-004), between series
/// 60 s doubling to 600 s. `jitter` in 0..=255 lengthens every pause by up to a quarter, so that sessions which failed
/// together do not come back together. A provider's own wish to wait longer wins.
#[must_use]
pub fn retry_at(failures: u32, class: &Class, jitter: u8, now: Timestamp) -> Timestamp {
    let pause = match class {
        Class::Stalled | Class::Fatal => LONGEST_PAUSE,
        Class::Transient | Class::Throttled { .. } | Class::Quota | Class::Conflict => backoff(failures),
    };
    let jittered = pause + pause * i32::from(jitter) / 1024;
    let wished = match class {
        Class::Throttled { retry_after_seconds } => {
            SignedDuration::from_secs(i64::try_from(*retry_after_seconds).unwrap_or(i64::MAX))
        }
        Class::Conflict => CONFLICT_PAUSE,
        Class::Transient | Class::Quota | Class::Stalled | Class::Fatal => SignedDuration::ZERO,
    };
    // Nobody needs to read more than milliseconds.
    let pause = SignedDuration::from_millis_i128(jittered.max(wished).as_millis());
    now.checked_add(pause).unwrap_or(Timestamp::MAX)
}

fn backoff(failures: u32) -> SignedDuration {
    let (series, within) = (failures / SERIES, failures % SERIES);
    match (series, within) {
        (0, 0 | 1) => SignedDuration::from_secs(1),
        (_, 0) => (SERIES_PAUSE * (1 << (series - 1).min(4))).min(LONGEST_PAUSE),
        (_, within) => SignedDuration::from_secs(i64::from(within)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(class: &Class, jitter: u8) -> Vec<i64> {
        let now = Timestamp::UNIX_EPOCH;
        (1..=18).map(|failures| retry_at(failures, class, jitter, now).as_second()).collect()
    }

    #[test]
    fn three_attempts_are_one_and_two_seconds_apart_and_series_a_minute_doubling_to_ten() {
        assert_eq!(
            pauses(&Class::Quota, 0),
            [1, 2, 60, 1, 2, 120, 1, 2, 240, 1, 2, 480, 1, 2, 600, 1, 2, 600]
        );
    }

    #[test]
    fn a_longer_wish_of_the_provider_wins() {
        assert_eq!(pauses(&Class::Throttled { retry_after_seconds: 90 }, 0)[..6], [90, 90, 90, 90, 90, 120]);
    }

    #[test]
    fn what_is_in_transition_gets_ten_seconds() {
        assert_eq!(pauses(&Class::Conflict, 0)[..4], [10, 10, 60, 10]);
    }

    #[test]
    fn what_only_a_person_can_mend_is_tried_every_ten_minutes() {
        assert_eq!(pauses(&Class::Stalled, 0)[..2], [600, 600]);
    }

    #[test]
    fn jitter_lengthens_a_pause_by_less_than_a_quarter() {
        for (plain, jittered) in pauses(&Class::Transient, 0).into_iter().zip(pauses(&Class::Transient, 255))
        {
            assert!(jittered >= plain && jittered <= plain + plain / 4, "{plain} {jittered}");
        }
    }
}
