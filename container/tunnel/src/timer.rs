//! A timer wheel: any number of deadlines, each set, moved and dropped in constant time.
//!
//! Hierarchical, after Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (SOSP 1987), scheme 7. A deadline that is
//! moved to later keeps its place until that place comes up, because most timers of a busy connection are pushed back with
//! every packet and never fire.

use crate::Time;

/// Width of the finest slot in microseconds, as a shift: 128 µs, a tenth of what a pacing sender needs.
const TICK_SHIFT: u32 = 7;
/// Slots of one level, as a shift.
const SLOT_SHIFT: u32 = 6;
const SLOTS: usize = 1 << SLOT_SHIFT;
/// Levels. The last one reaches 64^5 ticks = 38 hours; what lies further waits in its last slot and is placed again.
const LEVELS: usize = 5;
const NONE: u32 = u32::MAX;

/// Names one timer of one wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerId(u32);

#[derive(Debug)]
struct Entry<K> {
    key: Option<K>,
    /// Wanted deadline in ticks, rounded up: a timer never fires early.
    at: Option<u64>,
    /// Slot the entry is linked in, [`NONE`] when it is in none.
    slot: u32,
    /// The tick the entry will be looked at.
    placed: u64,
    previous: u32,
    next: u32,
}

/// Timers with keys of type `K`.
#[derive(Debug)]
pub struct Wheel<K> {
    entries: Vec<Entry<K>>,
    free: Vec<u32>,
    /// First entry of each slot's list.
    heads: [u32; LEVELS * SLOTS],
    /// One bit per slot that has entries.
    occupied: [u64; LEVELS],
    /// Everything before this tick has been looked at.
    now: u64,
    due: Vec<u32>,
}

impl<K: Copy> Wheel<K> {
    /// A wheel without timers.
    #[must_use]
    pub fn new(now: Time) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            heads: [NONE; LEVELS * SLOTS],
            occupied: [0; LEVELS],
            now: now.as_micros() >> TICK_SHIFT,
            due: Vec::new(),
        }
    }

    /// Makes a timer that is not set.
    pub fn insert(&mut self, key: K) -> TimerId {
        let entry = Entry { key: Some(key), at: None, slot: NONE, placed: 0, previous: NONE, next: NONE };
        if let Some(id) = self.free.pop() {
            self.entries[id as usize] = entry;
            return TimerId(id);
        }
        self.entries.push(entry);
        TimerId(self.entries.len() as u32 - 1)
    }

    /// Drops a timer. The name must not be used again.
    pub fn remove(&mut self, id: TimerId) {
        self.unlink(id.0);
        let entry = &mut self.entries[id.0 as usize];
        if entry.key.take().is_some() {
            entry.at = None;
            self.free.push(id.0);
        }
    }

    /// Sets, moves or stops a timer.
    pub fn set(&mut self, id: TimerId, at: Option<Time>) {
        let tick = at.map(|at| at.as_micros().div_ceil(1 << TICK_SHIFT));
        let entry = &mut self.entries[id.0 as usize];
        entry.at = tick;
        let Some(tick) = tick else {
            // It is looked at when its slot comes up, found to be stopped, and forgotten.
            return;
        };
        if entry.slot != NONE && entry.placed <= tick {
            return;
        }
        self.unlink(id.0);
        self.link(id.0, tick);
    }

    /// Whether a timer is set.
    #[must_use]
    pub fn is_set(&self, id: TimerId) -> bool {
        self.entries[id.0 as usize].at.is_some()
    }

    /// When [`pop`](Self::pop) should be called next. It may be earlier than the first deadline, never later.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        if !self.due.is_empty() {
            return Some(Time::from_micros(self.now << TICK_SHIFT));
        }
        (0..LEVELS)
            .filter_map(|level| self.next_occupied(level))
            .min()
            .map(|tick| Time::from_micros(tick << TICK_SHIFT))
    }

    /// The key of a timer whose time has come; that timer is stopped then. Call until `None`.
    pub fn pop(&mut self, now: Time) -> Option<K> {
        let target = now.as_micros() >> TICK_SHIFT;
        loop {
            while let Some(id) = self.due.pop() {
                let entry = &mut self.entries[id as usize];
                // Stopped, moved or dropped between coming due and now.
                if entry.slot != NONE || entry.key.is_none() {
                    continue;
                }
                match entry.at {
                    Some(at) if at <= target => {
                        entry.at = None;
                        return entry.key;
                    }
                    Some(at) => self.link(id, at),
                    None => {}
                }
            }
            let next =
                (0..LEVELS).filter_map(|level| self.next_occupied(level).map(|tick| (tick, level))).min();
            match next {
                Some((tick, level)) if tick <= target => self.take_slot(tick, level),
                _ => {
                    self.now = self.now.max(target);
                    return None;
                }
            }
        }
    }

    /// The tick at which the next occupied slot of a level comes up.
    fn next_occupied(&self, level: usize) -> Option<u64> {
        let occupied = self.occupied[level];
        if occupied == 0 {
            return None;
        }
        let shift = SLOT_SHIFT * level as u32;
        let current = self.now >> shift;
        let distance = occupied.rotate_right((current % SLOTS as u64) as u32).trailing_zeros();
        Some(((current + u64::from(distance)) << shift).max(self.now))
    }

    /// Moves to `tick` and takes the entries of the slot of `level` that comes up there.
    fn take_slot(&mut self, tick: u64, level: usize) {
        self.now = tick;
        let slot = Self::slot(tick, level);
        let mut id = self.heads[slot];
        self.heads[slot] = NONE;
        self.occupied[level] &= !(1 << (slot % SLOTS));
        while id != NONE {
            let entry = &mut self.entries[id as usize];
            let next = entry.next;
            entry.slot = NONE;
            entry.previous = NONE;
            entry.next = NONE;
            match entry.at {
                Some(at) if at > self.now => self.link(id, at),
                Some(_) => self.due.push(id),
                None => {}
            }
            id = next;
        }
    }

    const fn slot(tick: u64, level: usize) -> usize {
        level * SLOTS + ((tick >> (SLOT_SHIFT * level as u32)) % SLOTS as u64) as usize
    }

    fn link(&mut self, id: u32, tick: u64) {
        let tick = tick.max(self.now);
        let distance = tick - self.now;
        let level = (0..LEVELS)
            .find(|level| {
                let shift = SLOT_SHIFT * *level as u32;
                // In slots of this level, so that a slot is never met a round too early.
                (tick >> shift) - (self.now >> shift) < SLOTS as u64
            })
            .unwrap_or(LEVELS - 1);
        let horizon = (SLOTS as u64 - 1) << (SLOT_SHIFT * (LEVELS as u32 - 1));
        let tick = if distance > horizon { self.now + horizon } else { tick };
        let slot = Self::slot(tick, level);
        let shift = SLOT_SHIFT * level as u32;
        let head = self.heads[slot];
        let entry = &mut self.entries[id as usize];
        entry.slot = slot as u32;
        entry.placed = ((tick >> shift) << shift).max(self.now);
        entry.previous = NONE;
        entry.next = head;
        if head != NONE {
            self.entries[head as usize].previous = id;
        }
        self.heads[slot] = id;
        self.occupied[level] |= 1 << (slot % SLOTS);
    }

    fn unlink(&mut self, id: u32) {
        let entry = &mut self.entries[id as usize];
        let (slot, previous, next) = (entry.slot, entry.previous, entry.next);
        if slot == NONE {
            return;
        }
        entry.slot = NONE;
        entry.previous = NONE;
        entry.next = NONE;
        if previous == NONE {
            self.heads[slot as usize] = next;
            if next == NONE {
                self.occupied[slot as usize / SLOTS] &= !(1 << (slot as usize % SLOTS));
            }
        } else {
            self.entries[previous as usize].next = next;
        }
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Set(usize, u64),
        Stop(usize),
        Replace(usize),
        Advance(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        // Short, middling and absurd distances.
        let far = prop_oneof![0_u64..20_000, 0_u64..100_000_000, 0_u64..1_000_000_000_000];
        let step = prop_oneof![
            4 => (0_usize..12, far.clone()).prop_map(|(timer, at)| Step::Set(timer, at)),
            1 => (0_usize..12).prop_map(Step::Stop),
            1 => (0_usize..12).prop_map(Step::Replace),
            3 => far.prop_map(Step::Advance),
        ];
        proptest::collection::vec(step, 1..120)
    }

    proptest! {
        /// The reference is a map of deadlines: a timer fires once, not early, and at the first look after its tick.
        #[test]
        fn it_fires_what_a_sorted_map_would_fire(steps in steps()) {
            let mut now = Time::from_micros(77);
            let mut wheel = Wheel::new(now);
            let mut ids: Vec<_> = (0..12).map(|timer| wheel.insert(timer)).collect();
            let mut reference = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Set(timer, ahead) => {
                        let at = now + Duration::from_micros(ahead);
                        wheel.set(ids[timer], Some(at));
                        reference.insert(timer, at);
                    }
                    Step::Stop(timer) => {
                        wheel.set(ids[timer], None);
                        reference.remove(&timer);
                    }
                    Step::Replace(timer) => {
                        wheel.remove(ids[timer]);
                        ids[timer] = wheel.insert(timer);
                        reference.remove(&timer);
                    }
                    Step::Advance(by) => {
                        let first = reference.values().min().copied();
                        if let (Some(deadline), Some(first)) = (wheel.deadline(), first) {
                            prop_assert!(deadline <= first + Duration::from_micros(128));
                        }
                        prop_assert!(first.is_none() || wheel.deadline().is_some());
                        now += Duration::from_micros(by);
                        let mut fired: Vec<_> = std::iter::from_fn(|| wheel.pop(now)).collect();
                        fired.sort_unstable();
                        let tick = |at: Time| at.as_micros().div_ceil(128);
                        let due: Vec<_> = reference
                            .iter()
                            .filter(|(_, at)| tick(**at) <= now.as_micros() / 128)
                            .map(|(timer, _)| *timer)
                            .collect();
                        reference.retain(|timer, _| !due.contains(timer));
                        prop_assert_eq!(fired, due);
                    }
                }
            }
        }
    }

    #[test]
    fn waking_at_the_deadline_it_names_always_ends() {
        let mut wheel = Wheel::new(Time::ZERO);
        let timer = wheel.insert(());
        let at = Time::ZERO + Duration::from_hours(100);
        wheel.set(timer, Some(at));
        let mut wakes = 0;
        while let Some(deadline) = wheel.deadline() {
            wakes += 1;
            let fired = wheel.pop(deadline);
            assert_eq!(fired.is_some(), deadline >= at);
        }
        assert!(wakes < 20, "{wakes}");
    }
}
