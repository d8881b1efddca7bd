//! Sets of positions as sorted, disjoint, non-adjacent ranges: what arrived out of order, and what the peer reported so.

use std::collections::VecDeque;

/// A set of positions.
///
/// Look-ups are binary searches. Changes happen almost always at the ends (holes are filled in front, new ranges appear at
/// the back), where a deque is O(1); the owner bounds the number of ranges.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges(VecDeque<(u64, u64)>);

impl Ranges {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn clear(&mut self) {
        self.0 = VecDeque::new();
    }

    /// The first range.
    pub fn first(&self) -> Option<(u64, u64)> {
        self.0.front().copied()
    }

    /// The end of the last range.
    pub fn end(&self) -> Option<u64> {
        self.0.back().map(|&(_, end)| end)
    }

    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }

    /// Index of the first range that ends after `position`.
    fn after(&self, position: u64) -> usize {
        self.0.partition_point(|&(_, end)| end <= position)
    }

    /// The range that holds `position`.
    pub fn containing(&self, position: u64) -> Option<(u64, u64)> {
        self.0.get(self.after(position)).copied().filter(|&(start, _)| start <= position)
    }

    /// Whether `from..to` would add a range and join none.
    pub fn is_apart(&self, from: u64, to: u64) -> bool {
        let index = self.0.partition_point(|&(_, end)| end < from);
        self.0.get(index).is_none_or(|&(start, _)| start > to)
    }

    /// Adds `from..to` and calls `gap` for each part of it that was not in the set. Returns the range it is part of now.
    pub fn insert(&mut self, from: u64, to: u64, mut gap: impl FnMut(u64, u64)) -> (u64, u64) {
        if from >= to {
            return (from, to);
        }
        // Ranges touching from..to, including those merely adjacent.
        let first = self.0.partition_point(|&(_, end)| end < from);
        let mut last = first;
        let (mut start, mut end) = (from, to);
        let mut at = from;
        while let Some(&(left, right)) = self.0.get(last) {
            if left > to {
                break;
            }
            if at < left {
                gap(at, left);
            }
            at = at.max(right);
            start = start.min(left);
            end = end.max(right);
            last += 1;
        }
        if at < to {
            gap(at, to);
        }
        if first == last {
            self.0.insert(first, (start, end));
        } else {
            self.0[first] = (start, end);
            if last - first > 1 {
                self.0.drain(first + 1..last);
            }
        }
        (start, end)
    }

    /// Removes the first range.
    pub fn pop_first(&mut self) -> Option<(u64, u64)> {
        self.0.pop_front()
    }

    /// Removes everything below `position`.
    pub fn remove_below(&mut self, position: u64) {
        while let Some(front) = self.0.front_mut() {
            if front.1 > position {
                front.0 = front.0.max(position);
                break;
            }
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_range_set_holds_what_a_set_of_numbers_holds(
            edits in prop::collection::vec((0u64..200, 0u64..30, prop::bool::weighted(0.1)), 1..60)
        ) {
            let mut ranges = Ranges::default();
            let mut model = BTreeSet::new();
            for (from, length, trim) in edits {
                if trim {
                    ranges.remove_below(from);
                    model = model.split_off(&from);
                    continue;
                }
                let to = from + length;
                let fresh: BTreeSet<u64> = (from..to).filter(|at| !model.contains(at)).collect();
                let mut gaps = BTreeSet::new();
                let touches = |at: &u64| *at + 1 >= from && *at <= to;
                prop_assert_eq!(ranges.is_apart(from, to), !model.iter().any(touches));
                ranges.insert(from, to, |left, right| gaps.extend(left..right));
                prop_assert_eq!(&gaps, &fresh);
                model.extend(fresh);
                let held: Vec<u64> = ranges.iter().flat_map(|(left, right)| left..right).collect();
                prop_assert!(held.iter().eq(model.iter()));
                prop_assert!(ranges.iter().zip(ranges.iter().skip(1)).all(|(a, b)| a.1 < b.0));
                for at in 0..250 {
                    prop_assert_eq!(ranges.containing(at).is_some(), model.contains(&at));
                }
            }
        }
    }
}
