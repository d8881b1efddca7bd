//! Durations as the document writes them: `90s`, `10m`, `1h30m`, `7d`.

use std::time::Duration;

/// Units from the largest to the smallest, in seconds. A day is 24 hours, whatever clocks do.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

/// Reads whole numbers with units, the largest unit first, each at most once. `None` when the text is no such duration.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0_u64;
    for (unit, length) in UNITS {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if let Some(after) = rest[digits..].strip_prefix(unit) {
            let count: u64 = rest[..digits].parse().ok()?;
            seconds = seconds.checked_add(count.checked_mul(length)?)?;
            rest = after;
        }
    }
    (rest.is_empty() && !text.is_empty()).then_some(Duration::from_secs(seconds))
}

/// The shortest text that [`parse`] reads as this duration; parts of a second are cut off.
pub(crate) fn format(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    let mut text = String::new();
    // Hours read better than days up to two days, and nobody writes weeks of them.
    let units = if rest.is_multiple_of(86_400) && rest > 2 * 86_400 { &UNITS[..] } else { &UNITS[1..] };
    for (unit, length) in units {
        if rest >= *length {
            text.push_str(&format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_units_in_falling_order() {
        for (text, seconds) in [
            ("90s", 90),
            ("10m", 600),
            ("1h30m", 5400),
            ("12h", 43_200),
            ("7d", 604_800),
            ("1d2h3m4s", 93_784),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_durations() {
        for text in [
            "",
            "10",
            "m",
            "10 m",
            "1h 30m",
            "30m1h",
            "1m1m",
            "1.5h",
            "-1m",
            "+1m",
            "1w",
            "10min",
            "PT1H",
            "10M",
            "1é",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_survives_the_trip_through_its_text(seconds in 0..100_000_000_u64) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(parse(&format(duration)), Some(duration));
        }
    }
}
