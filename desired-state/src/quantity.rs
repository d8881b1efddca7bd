//! Decimal amounts of processors and memory.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A decimal number with up to three places, kept exactly, so that equal sizes are equal and hash alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(u32);

/// Why a text is no [`Quantity`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no decimal number with at most three places, such as 1, 0.5 or 1.25")]
pub struct QuantityError;

impl Quantity {
    /// The quantity of so many thousandths.
    #[must_use]
    pub const fn from_milli(milli: u32) -> Self {
        Self(milli)
    }

    /// Thousandths: 1500 for 1.5.
    #[must_use]
    pub const fn milli(self) -> u32 {
        self.0
    }

    /// The nearest floating-point number, for interfaces that want one.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (whole, places) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        // Trailing zeros carry nothing; what remains is at most thousandths.
        let places = if digits(places) { places.trim_end_matches('0') } else { return Err(QuantityError) };
        if !digits(whole) || places.len() > 3 {
            return Err(QuantityError);
        }
        let number = |part: &str| part.parse::<u32>().map_err(|_| QuantityError);
        let thousandths = number(&format!("{places:0<3}"))?;
        number(whole)?
            .checked_mul(1000)
            .and_then(|milli| milli.checked_add(thousandths))
            .map(Self)
            .ok_or(QuantityError)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 1000, self.0 % 1000);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        write!(f, "{whole}.{}", format!("{rest:03}").trim_end_matches('0'))
    }
}

impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(1000) {
            serializer.serialize_u32(self.0 / 1000)
        } else {
            serializer.serialize_f64(self.as_f64())
        }
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The shortest text that gives the number back has the places that were written.
        f64::deserialize(deserializer)?.to_string().parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_exact_and_print_as_people_write_them() {
        for (text, milli, shown) in [
            ("1", 1000, "1"),
            ("0.5", 500, "0.5"),
            ("1.250", 1250, "1.25"),
            ("31.0", 31000, "31"),
            ("0.001", 1, "0.001"),
        ] {
            let quantity: Quantity = text.parse().unwrap();
            assert_eq!((quantity.milli(), quantity.to_string().as_str()), (milli, shown));
        }
    }

    #[test]
    fn other_texts_are_no_quantities() {
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e3",
            "0.0001",
            "1,5",
            "4294968",
            "99999999999",
            "0x10",
            "1_0",
            ".inf",
        ] {
            assert_eq!(text.parse::<Quantity>(), Err(QuantityError), "{text}");
        }
    }

    #[test]
    fn quantities_survive_the_trip_through_json() {
        for milli in [1, 100, 333, 500, 1000, 1100, 2500, 31_000, 240_000] {
            let quantity = Quantity::from_milli(milli);
            let json = serde_json::to_string(&quantity).unwrap();
            assert_eq!(serde_json::from_str::<Quantity>(&json).unwrap(), quantity, "{json}");
        }
    }
}
