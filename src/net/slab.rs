//! Things under numbers that are never mistaken for an earlier thing's.

/// The number of a thing: its place, and how often the place was given before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key(u64);

impl Key {
    /// Bits of a key.
    pub(super) const BITS: u32 = 56;

    /// The key with these bits; whatever they are, at worst it is no thing's.
    pub(super) fn from_bits(bits: u64) -> Self {
        Self(bits & ((1 << Self::BITS) - 1))
    }

    /// Its bits, of which the upper [`Key::BITS`].. are zero.
    pub(super) fn bits(self) -> u64 {
        self.0
    }

    fn place(self) -> usize {
        self.0 as u32 as usize
    }

    fn turn(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Things by their keys.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    /// Reserves a key whose thing comes by [`Slab::put`].
    pub(super) fn reserve(&mut self) -> Key {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            (self.places.len() - 1) as u32
        });
        let turn = self.places.get(place as usize).map_or(0, |(turn, _)| *turn);
        Key(u64::from(turn) << 32 | u64::from(place))
    }

    /// Takes the thing out, so that whoever works with it can work with the slab too. It comes back by [`Slab::put`], or
    /// its place is given away by [`Slab::forget`].
    pub(super) fn take(&mut self, key: Key) -> Option<T> {
        self.places.get_mut(key.place()).filter(|(turn, _)| *turn == key.turn())?.1.take()
    }

    pub(super) fn put(&mut self, key: Key, thing: T) {
        if let Some((turn, place)) = self.places.get_mut(key.place())
            && *turn == key.turn()
        {
            *place = Some(thing);
        }
    }

    /// Gives the place of a key away.
    pub(super) fn forget(&mut self, key: Key) {
        if let Some((turn, place)) = self.places.get_mut(key.place())
            && *turn == key.turn()
        {
            *turn = (*turn + 1) & 0xff_ffff;
            *place = None;
            self.free.push(key.place() as u32);
        }
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.places.get_mut(key.place()).filter(|(turn, _)| *turn == key.turn())?.1.as_mut()
    }

    /// Every thing.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().filter_map(|(_, thing)| thing.as_ref())
    }

    /// Everything that is in.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.places.drain(..).filter_map(|(_, thing)| thing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_given_again_has_another_key() {
        let mut slab = Slab::new();
        let first = slab.reserve();
        slab.put(first, "first");
        assert_eq!(slab.take(first), Some("first"));
        assert_eq!(slab.take(first), None);
        slab.put(first, "back");
        assert_eq!(slab.get_mut(first), Some(&mut "back"));
        slab.forget(first);
        let second = slab.reserve();
        assert_ne!(first, second);
        slab.put(second, "second");
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.take(first), None);
        slab.put(first, "late");
        slab.forget(first);
        assert_eq!(Key::from_bits(second.bits() | 0xff << Key::BITS), second);
        assert_eq!(slab.drain().collect::<Vec<_>>(), ["second"]);
    }
}
