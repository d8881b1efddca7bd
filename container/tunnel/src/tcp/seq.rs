//! Sequence numbers: 32 bits that wrap (RFC 9293 3.4).

use std::fmt;

/// A sequence number as it stands on the wire.
///
/// It has no order of its own: "before" means something only between two numbers less than 2^31 apart. Inside the endpoint
/// positions in a stream are `u64` and never wrap; [`Seq::unwrap_near`] and [`Seq::from_position`] are the only two doors.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Seq(pub u32);

impl Seq {
    /// The position whose low 32 bits are this number and that lies nearest to `reference`, at most 2^31 away.
    ///
    /// `reference` must be at least 2^31, so that a number "behind" it still has a position; [`Seq::origin`] sees to that.
    #[must_use]
    #[inline]
    pub const fn unwrap_near(self, reference: u64) -> u64 {
        let distance = self.0.wrapping_sub(reference as u32) as i32;
        reference.wrapping_add_signed(distance as i64)
    }

    /// The number on the wire for a position.
    #[must_use]
    #[inline]
    pub const fn from_position(position: u64) -> Self {
        Self(position as u32)
    }

    /// The position that stands for this number when it is the first one of a stream: far enough from zero for
    /// [`Seq::unwrap_near`].
    #[must_use]
    pub const fn origin(self) -> u64 {
        (1 << 32) | self.0 as u64
    }

    /// The number `count` further on.
    #[must_use]
    pub const fn plus(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_unwraps_to_the_nearest_position_on_either_side_of_the_wrap() {
        let start = Seq(u32::MAX - 1).origin();
        assert_eq!(Seq(3).unwrap_near(start), start + 5);
        assert_eq!(Seq(u32::MAX - 11).unwrap_near(start + 5), start - 10);
        assert_eq!(Seq::from_position(start + 5), Seq(3));
        assert_eq!(Seq(0).unwrap_near(Seq(0).origin()), Seq(0).origin());
    }
}
