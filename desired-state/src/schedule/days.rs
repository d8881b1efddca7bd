//! Sets of weekdays.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Weekday;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ScheduleError;

const NAMES: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// A set of weekdays, never empty: `daily`, `Mon-Fri`, `Sat,Sun`, `Fri-Mon`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Days(u8);

impl Days {
    /// All seven.
    pub const DAILY: Self = Self(0b111_1111);

    /// Whether the day is in the set.
    #[must_use]
    pub fn contains(self, day: Weekday) -> bool {
        self.has(usize::try_from(day.to_monday_zero_offset()).unwrap_or_default())
    }

    fn has(self, index: usize) -> bool {
        self.0 & (1 << index) != 0
    }
}

impl FromStr for Days {
    type Err = ScheduleError;

    /// Reads `daily`, or names of three letters and ranges of them separated by commas; a range may run over Sunday.
    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        if text == "daily" {
            return Ok(Self::DAILY);
        }
        let index = |name: &str| {
            NAMES
                .iter()
                .position(|known| *known == name.trim())
                .ok_or_else(|| ScheduleError::Days { found: name.trim().to_owned() })
        };
        let mut set = 0;
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (index(first)?, index(last)?);
            for step in 0..=(last + 7 - first) % 7 {
                set |= 1 << ((first + step) % 7);
            }
        }
        Ok(Self(set))
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::DAILY {
            return f.write_str("daily");
        }
        let mut parts = Vec::new();
        let mut index = 0;
        while index < 7 {
            let run = (index..7).take_while(|&day| self.has(day)).count();
            match run {
                0 => {}
                1 => parts.push(NAMES[index].to_owned()),
                2 => parts.push(format!("{},{}", NAMES[index], NAMES[index + 1])),
                _ => parts.push(format!("{}-{}", NAMES[index], NAMES[index + run - 1])),
            }
            index += run.max(1);
        }
        f.write_str(&parts.join(","))
    }
}

impl fmt::Debug for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Days {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Days {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_of_days_survives_the_trip_through_its_text() {
        for bits in 1..=0b111_1111 {
            let days = Days(bits);
            assert_eq!(days.to_string().parse::<Days>().unwrap(), days, "{days}");
        }
    }

    #[test]
    fn a_range_may_run_over_sunday() {
        assert_eq!("Fri-Mon".parse::<Days>().unwrap().to_string(), "Mon,Fri-Sun");
        assert_eq!("Sat, Sun".parse::<Days>().unwrap().to_string(), "Sat,Sun");
    }

    #[test]
    fn other_texts_name_no_days() {
        for text in ["", "Daily", "Monday", "mon", "Mon-", "-", "Mon-Fri-Sun", "Mon,,Tue", "Mon;Tue", "1-5"] {
            assert!(text.parse::<Days>().is_err(), "{text}");
        }
    }
}
