//! Weekly windows in a real time zone.

mod days;
mod hours;
#[cfg(test)]
mod tests;

use std::fmt;

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use days::Days;
pub use hours::Hours;

/// Days without a window after which [`Schedule::next_change`] gives up. A window comes at least once a week, unless a change of
/// the clocks swallows it, which happens to one day of a year at most.
const HORIZON_DAYS: i32 = 21;

/// The hours of a week in which a session exists, on the clocks of one time zone.
///
/// A window starts when the local clock first reaches its start and ends when the local clock last reaches its end. So a window
/// is never split: where clocks go back, the repeated hour belongs to it once begun; where clocks go forward over its start or
/// end, the jump is that moment.
///
/// ```
/// use ebb_desired_state::Schedule;
///
/// let office = Schedule::new("Mon-Fri".parse()?, "06:00-22:00".parse()?, "America/New_York")?;
/// let friday_evening = "2026-11-20T21:00:00-05:00".parse()?;
/// assert!(office.is_open(friday_evening));
/// let closing = "2026-11-20T22:00:00-05:00".parse()?;
/// assert_eq!(office.next_change(friday_evening), Some((closing, false)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    days: Days,
    hours: Hours,
    timezone: TimeZone,
}

/// Why a part of a schedule cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The days are not well formed.
    #[error("days are `daily`, or names and ranges such as `Mon-Fri` or `Sat,Sun`; {found:?} is neither")]
    Days {
        /// The part that cannot be read.
        found: String,
    },
    /// The hours are not well formed.
    #[error("hours are a range such as \"06:00-22:00\", \"22:00-06:00\" over midnight or \"00:00-24:00\"")]
    Hours,
    /// Start and end are the same.
    #[error("these hours start and end at the same time; write \"00:00-24:00\" for whole days")]
    EmptyHours,
    /// The time zone database does not know the name.
    #[error("{name:?} is not in the IANA time zone database; use a name such as Europe/Berlin or UTC")]
    Timezone {
        /// The name.
        name: String,
        /// A similar name that exists.
        similar: Option<String>,
    },
}

impl Schedule {
    /// Opens on `days`, during `hours`, as shown by clocks in `timezone`, a name of the IANA time zone database.
    ///
    /// # Errors
    /// [`ScheduleError::Timezone`] when the database compiled into this crate does not know the name.
    pub fn new(days: Days, hours: Hours, timezone: &str) -> Result<Self, ScheduleError> {
        let timezone = zone(timezone)?;
        Ok(Self { days, hours, timezone })
    }

    /// The days on which a window starts.
    #[must_use]
    pub fn days(&self) -> Days {
        self.days
    }

    /// The hours of each window.
    #[must_use]
    pub fn hours(&self) -> Hours {
        self.hours
    }

    /// Name of the time zone in the IANA database.
    #[must_use]
    pub fn timezone(&self) -> &str {
        self.timezone.iana_name().unwrap_or("UTC")
    }

    /// Whether `at` lies inside a window. The start of a window belongs to it, the end does not.
    #[must_use]
    pub fn is_open(&self, at: Timestamp) -> bool {
        self.windows_from(at).next().is_some_and(|(start, end)| start <= at && at < end)
    }

    /// The first moment later than `after` at which the answer of [`Self::is_open`] changes, and the answer from then on.
    /// `None`: it never changes.
    #[must_use]
    pub fn next_change(&self, after: Timestamp) -> Option<(Timestamp, bool)> {
        let mut windows = self.windows_from(after);
        let (start, mut end) = windows.next()?;
        if start > after {
            return Some((start, true));
        }
        // Windows that touch or overlap are one to whoever looks at the answer. A week of them without a gap is always open.
        for (next_start, next_end) in windows {
            if next_start > end {
                return Some((end, false));
            }
            end = end.max(next_end);
        }
        None
    }

    /// Windows that end after `at`, earliest first, up to the horizon.
    fn windows_from(&self, at: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> + '_ {
        let today = self.timezone.to_datetime(at).date();
        // A window over midnight may have begun yesterday; a repeated hour at midnight may carry it one day further.
        (-2..=HORIZON_DAYS)
            .filter_map(move |offset| today.checked_add(offset.days()).ok())
            .filter_map(|day| self.window(day))
            .filter(move |(start, end)| start < end && *end > at)
    }

    fn window(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        if !self.days.contains(day.weekday()) {
            return None;
        }
        let (start, end) = self.hours.on(day)?;
        Some((self.first(start)?, self.last(end)?))
    }

    /// The first moment at which local clocks show `civil` or later.
    fn first(&self, civil: DateTime) -> Option<Timestamp> {
        match self.timezone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
                offset.to_timestamp(civil).ok()
            }
            AmbiguousOffset::Gap { after, .. } => self.jump_after(after.to_timestamp(civil).ok()?),
        }
    }

    /// The last moment at which local clocks reach `civil`.
    fn last(&self, civil: DateTime) -> Option<Timestamp> {
        match self.timezone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { after: offset, .. } => {
                offset.to_timestamp(civil).ok()
            }
            AmbiguousOffset::Gap { after, .. } => self.jump_after(after.to_timestamp(civil).ok()?),
        }
    }

    /// The moment of the gap: with the offset that holds after it, a time inside the gap lies before it.
    fn jump_after(&self, before: Timestamp) -> Option<Timestamp> {
        self.timezone.following(before).next().map(|transition| transition.timestamp())
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.days, self.hours, self.timezone())
    }
}

/// Looks a time zone up in the compiled-in database only, so that the rules do not depend on the machine.
fn zone(name: &str) -> Result<TimeZone, ScheduleError> {
    let database = TimeZoneDatabase::bundled();
    let unknown = || {
        let names: Vec<String> = database.available().map(|known| known.as_str().to_owned()).collect();
        let similar = crate::similar::closest(name, names.iter().map(String::as_str)).map(str::to_owned);
        ScheduleError::Timezone { name: name.to_owned(), similar }
    };
    let zone = database.get(name).map_err(|_| unknown())?;
    // The lookup ignores case; other programs that read the document may not.
    if zone.iana_name() == Some(name) { Ok(zone) } else { Err(unknown()) }
}

#[derive(Serialize, Deserialize)]
struct Form {
    days: Days,
    hours: Hours,
    timezone: String,
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Form { days: self.days, hours: self.hours, timezone: self.timezone().to_owned() }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Form { days, hours, timezone } = Form::deserialize(deserializer)?;
        Self::new(days, hours, &timezone).map_err(serde::de::Error::custom)
    }
}
