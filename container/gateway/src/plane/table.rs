//! Things with names that are never used again, so that a late event of the kernel cannot hit a successor.

/// Names an entry of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    index: u32,
    generation: u32,
}

impl Handle {
    /// Bits of a generation that [`Handle::to_bits`] keeps.
    pub const GENERATION_BITS: u32 = 24;

    /// Index and generation in 56 bits.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The other way.
    pub fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 & ((1 << Self::GENERATION_BITS) - 1) }
    }
}

/// A growing list with holes.
#[derive(Debug)]
pub struct Table<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Table<T> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Adds an entry that may want to know its own name.
    pub fn insert_with(&mut self, value: impl FnOnce(Handle) -> T) -> Handle {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        let handle = Handle { index, generation: slot.0 };
        slot.1 = Some(value(handle));
        handle
    }

    /// Takes an entry out.
    pub fn remove(&mut self, handle: Handle) -> Option<T> {
        let slot = self.slots.get_mut(handle.index as usize).filter(|slot| slot.0 == handle.generation)?;
        let value = slot.1.take()?;
        slot.0 = (slot.0 + 1) & ((1 << Handle::GENERATION_BITS) - 1);
        self.free.push(handle.index);
        Some(value)
    }

    /// An entry.
    #[inline]
    pub fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        let slot = self.slots.get_mut(handle.index as usize).filter(|slot| slot.0 == handle.generation)?;
        slot.1.as_mut()
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (Handle, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, (generation, value))| {
            let handle = Handle { index: index as u32, generation: *generation };
            value.as_ref().map(|value| (handle, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_never_reaches_the_successor_of_its_entry() {
        let mut table = Table::default();
        let first = table.insert_with(|_| 'a');
        assert_eq!(table.remove(first), Some('a'));
        let second = table.insert_with(|_| 'b');
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get_mut(second), Some(&mut 'b'));
        assert_eq!(table.len(), 1);
        assert_eq!(Handle::from_bits(second.to_bits()), second);
    }
}
