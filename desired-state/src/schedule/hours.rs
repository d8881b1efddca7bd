//! Hours of a day.

use std::fmt;
use std::str::FromStr;

use jiff::ToSpan;
use jiff::civil::{Date, DateTime, Time};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ScheduleError;

const DAY: u16 = 24 * 60;

/// A range of the day to the minute, never empty. An end at or before the start lies on the next day.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hours {
    /// Minutes after midnight, below 1440.
    start: u16,
    /// Minutes after midnight, 1 to 1440.
    end: u16,
}

impl Hours {
    /// `00:00-24:00`.
    pub const WHOLE_DAY: Self = Self { start: 0, end: DAY };

    /// Start and end of the window that starts on `day`, as civil times. `None` at the end of the calendar.
    pub(super) fn on(self, day: Date) -> Option<(DateTime, DateTime)> {
        let last =
            if self.end == DAY || self.end < self.start { day.checked_add(1.day()).ok()? } else { day };
        Some((day.to_datetime(time(self.start)), last.to_datetime(time(self.end % DAY))))
    }
}

fn time(minutes: u16) -> Time {
    let [hour, minute] = [minutes / 60, minutes % 60].map(|part| i8::try_from(part).unwrap_or_default());
    Time::new(hour, minute, 0, 0).unwrap_or_default()
}

fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |part: &str| {
        let two_digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        two_digits.then(|| part.parse::<u16>().ok()).flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (minutes < 60 && (hours < 24 || (hours == 24 && minutes == 0))).then_some(hours * 60 + minutes)
}

impl FromStr for Hours {
    type Err = ScheduleError;

    /// Reads `HH:MM-HH:MM`. 24:00 is an end only.
    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let (start, end) = text.split_once('-').ok_or(ScheduleError::Hours)?;
        let read = |part: &str| minutes(part.trim()).ok_or(ScheduleError::Hours);
        let (start, end) = (read(start)?, read(end)?);
        if start == DAY {
            return Err(ScheduleError::Hours);
        }
        // 00:00 as an end means the coming midnight, as 24:00 does.
        let end = if end == 0 && start != 0 { DAY } else { end };
        if start == end {
            return Err(ScheduleError::EmptyHours);
        }
        Ok(Self { start, end })
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [start, end] = [self.start, self.end].map(|at| format!("{:02}:{:02}", at / 60, at % 60));
        write!(f, "{start}-{end}")
    }
}

impl fmt::Debug for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Hours {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_survive_the_trip_through_their_text() {
        for text in ["06:00-22:00", "22:00-06:00", "00:00-24:00", "23:59-24:00", "12:30-12:29"] {
            assert_eq!(text.parse::<Hours>().unwrap().to_string(), text);
        }
        assert_eq!("22:00-00:00".parse::<Hours>().unwrap().to_string(), "22:00-24:00");
    }

    #[test]
    fn equal_ends_are_refused_because_nobody_knows_what_they_mean() {
        for text in ["06:00-06:00", "00:00-00:00"] {
            assert_eq!(text.parse::<Hours>(), Err(ScheduleError::EmptyHours));
        }
    }

    #[test]
    fn other_texts_are_no_hours() {
        for text in [
            "",
            "06:00",
            "6:00-22:00",
            "06:00-25:00",
            "06:60-07:00",
            "24:00-06:00",
            "06-22",
            "06:00-24:01",
            "a-b",
        ] {
            assert_eq!(text.parse::<Hours>(), Err(ScheduleError::Hours), "{text}");
        }
    }
}
