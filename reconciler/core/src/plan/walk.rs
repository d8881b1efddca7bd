//! Looking things up in the order in which they are sorted.

use std::cmp::Ordering;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;

/// One walk through a sorted map, which finds any number of keys on its way as long as they come in ascending order.
pub(super) struct Walk<'a, K, V> {
    ahead: Peekable<btree_map::Iter<'a, K, V>>,
}

impl<'a, K: Ord, V> Walk<'a, K, V> {
    pub(super) fn of(map: &'a BTreeMap<K, V>) -> Self {
        Self { ahead: map.iter().peekable() }
    }

    /// The value of `key`, which is not before any key asked for earlier.
    pub(super) fn to(&mut self, key: &K) -> Option<&'a V> {
        loop {
            let (at, value) = *self.ahead.peek()?;
            match at.cmp(key) {
                Ordering::Less => self.ahead.next(),
                Ordering::Equal => return Some(value),
                Ordering::Greater => return None,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_finds_what_the_map_has() {
        let map: BTreeMap<_, _> = [2, 3, 5, 8].map(|key| (key, key * 10)).into();
        let mut walk = Walk::of(&map);
        for key in [0, 2, 2, 4, 5, 6, 8, 9, 9] {
            assert_eq!(walk.to(&key), map.get(&key), "{key}");
        }
    }
}
