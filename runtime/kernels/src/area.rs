//! Large pieces of memory.

use memmap2::{MmapMut, MmapOptions, MmapRaw, UncheckedAdvice};
use std::ops::{Deref, DerefMut, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// From so many bytes on memory is mapped.
const MAPPED: usize = 1 << 20;

/// A large page, which the processor finds faster, and the size from which on what stays is whole ones. A fresh one costs
/// the system more than as many small ones where it has to get it from its host.
const LARGE: (usize, usize) = (2 << 20, 4 << 20);

/// From so many bytes on memory may be beside others' in large pages, which the processor finds faster; and the bytes that
/// are mapped for that at once.
const SHARED: (usize, usize) = (4 << 10, 16 << 20);

/// A line of the caches; its numbers are read through pointers.
#[derive(Clone)]
#[repr(align(64))]
#[allow(dead_code)]
struct Line([f32; 16]);

/// Numbers that begin at a multiple of 64 bytes, zeros at first. As many of them as were asked for last are seen;
/// the others keep what they hold.
#[derive(Default)]
pub struct Area {
    place: Place,
    capacity: usize,
    len: usize,
}

enum Place {
    Heap(Vec<Line>),
    Mapped(MmapMut),
    Beside(Piece),
}

impl Default for Place {
    fn default() -> Self {
        Place::Heap(Vec::new())
    }
}

impl Area {
    /// Room for `capacity` numbers, of which none is seen; `None` where there is no memory for them. Its pages are small:
    /// what is not written to is not taken from the system, and what is used but a few times costs less.
    pub fn with_capacity(capacity: usize) -> Option<Area> {
        Area::mapped_by(capacity, |bytes| MmapOptions::new().len(bytes).map_anon().ok())
    }

    fn mapped_by(capacity: usize, map: impl Fn(usize) -> Option<MmapMut>) -> Option<Area> {
        let bytes = capacity.checked_mul(size_of::<f32>())?;
        let place = match bytes {
            MAPPED.. => Place::Mapped(map(bytes)?),
            _ => Place::Heap(vec![Line([0.0; 16]); capacity.div_ceil(16)]),
        };
        Some(Area { place, capacity, len: 0 })
    }

    /// As many zeros, in large pages together with others that are asked for in this way; `None` where there is no memory
    /// for them. What is dropped is used again by others, and given back to the system when none of those that share a map
    /// is left. Meant for what stays for a while, such as weights and caches.
    pub fn together(len: usize) -> Option<Area> {
        let bytes = len.checked_mul(size_of::<f32>())?;
        if !(SHARED.0..LARGE.1).contains(&bytes) {
            return Area::zeros(len);
        }
        match Piece::of(bytes.next_multiple_of(size_of::<Line>())) {
            Some(piece) => Some(Area { place: Place::Beside(piece), capacity: len, len }),
            None => Area::zeros(len),
        }
    }

    /// As many zeros, many of them in large pages; `None` where there is no memory for them.
    pub fn zeros(len: usize) -> Option<Area> {
        let mut area = Area::mapped_by(len, mapped)?;
        area.show(len);
        Some(area)
    }

    /// The memory that so many numbers take of what is mapped for them.
    pub fn bytes_of(len: usize) -> Option<usize> {
        let bytes = len.checked_mul(size_of::<f32>())?;
        match bytes {
            _ if cfg!(not(target_os = "linux")) || bytes < LARGE.1 => Some(bytes),
            _ => bytes.checked_next_multiple_of(LARGE.0),
        }
    }

    /// How many numbers it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Lets the first `len` numbers be seen, whatever they hold.
    ///
    /// # Panics
    /// When it holds fewer.
    pub fn show(&mut self, len: usize) {
        assert!(len <= self.capacity, "{len} of {} numbers", self.capacity);
        self.len = len;
    }
}

fn mapped(bytes: usize) -> Option<MmapMut> {
    let bytes = Area::bytes_of(bytes.div_ceil(size_of::<f32>()))?;
    let map = MmapOptions::new().len(bytes).map_anon().ok()?;
    // A wish: without it the memory is the same.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    Some(map)
}

/// Memory that several share.
struct Shared {
    map: MmapRaw,
    free: Mutex<Free>,
}

/// What nobody has of a map.
struct Free {
    /// Ascending, and apart from one another.
    holes: Vec<Range<usize>>,
    /// From this byte on it is as the system gave it: zeros.
    fresh: usize,
}

impl Free {
    fn of(all: Range<usize>) -> Free {
        Free { fresh: all.start, holes: Vec::from([all]) }
    }
}

/// Some bytes of it.
struct Piece {
    of: Arc<Shared>,
    bytes: Range<usize>,
}

impl Piece {
    /// So many zeros, whole lines of the cache: in the first map that has room.
    fn of(bytes: usize) -> Option<Piece> {
        static MAPS: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());
        let mut maps = MAPS.lock().unwrap_or_else(PoisonError::into_inner);
        maps.retain(|map| map.strong_count() > 0);
        if let Some(piece) = maps.iter().filter_map(Weak::upgrade).find_map(|map| Shared::take(map, bytes)) {
            return Some(piece);
        }
        // The system may begin anywhere: so that every byte can be in a large page, from one on.
        let map = MmapRaw::from(mapped(SHARED.1 + LARGE.0)?);
        let first = map.as_ptr().align_offset(LARGE.0);
        let all = first..map.len();
        let new = Arc::new(Shared { map, free: Mutex::new(Free::of(all)) });
        maps.push(Arc::downgrade(&new));
        Shared::take(new, bytes)
    }

    fn at(&self) -> *mut u8 {
        self.of.map.as_mut_ptr().wrapping_add(self.bytes.start)
    }
}

impl Shared {
    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first bytes of the first hole that has as many.
    fn take(self: Arc<Self>, bytes: usize) -> Option<Piece> {
        let mut free = self.free();
        let hole = free.holes.iter_mut().find(|hole| hole.len() >= bytes)?;
        let taken = hole.start..hole.start + bytes;
        hole.start = taken.end;
        free.holes.retain(|hole| !hole.is_empty());
        let used = taken.start..taken.end.min(free.fresh).max(taken.start);
        free.fresh = free.fresh.max(taken.end);
        drop(free);
        // SAFETY: bytes of the map that nobody has but this piece.
        unsafe { self.map.as_mut_ptr().add(used.start).write_bytes(0, used.len()) };
        Some(Piece { of: self, bytes: taken })
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut free = self.of.free();
        let holes = &mut free.holes;
        let i = holes.partition_point(|hole| hole.start < self.bytes.start);
        holes.insert(i, self.bytes.clone());
        // Those that meet are one.
        if holes.get(i + 1).is_some_and(|next| next.start == holes[i].end) {
            holes[i].end = holes.remove(i + 1).end;
        }
        if i > 0 && holes[i - 1].end == holes[i].start {
            holes[i - 1].end = holes.remove(i).end;
        }
        let at = holes.partition_point(|hole| hole.end < self.bytes.end);
        let hole = holes[at].clone();
        // Large pages of which nobody has anything any more are given back: they are zeros when they come again.
        let first = self.of.map.as_ptr().align_offset(LARGE.0);
        let below = |at: usize| at.checked_sub(first).map_or(0, |n| n / LARGE.0 * LARGE.0 + first);
        let above = |at: usize| at.saturating_sub(first).next_multiple_of(LARGE.0) + first;
        let pages = above(hole.start).max(below(self.bytes.start))..below(hole.end).min(above(self.bytes.end));
        #[cfg(target_os = "linux")]
        if !pages.is_empty() {
            // SAFETY: the map is of memory alone, and these bytes are nobody's.
            let _ = unsafe { self.of.map.unchecked_advise_range(UncheckedAdvice::DontNeed, pages.start, pages.len()) };
        }
    }
}

impl Deref for Area {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        let at = match &self.place {
            Place::Heap(lines) => lines.as_ptr().cast(),
            Place::Mapped(map) => map.as_ptr().cast(),
            Place::Beside(piece) => piece.at().cast_const().cast(),
        };
        // SAFETY: `len <= capacity` numbers, all of them initialized and of nobody else; a map begins at a page.
        unsafe { std::slice::from_raw_parts(at, self.len) }
    }
}

impl DerefMut for Area {
    fn deref_mut(&mut self) -> &mut [f32] {
        let at = match &mut self.place {
            Place::Heap(lines) => lines.as_mut_ptr().cast(),
            Place::Mapped(map) => map.as_mut_ptr().cast(),
            Place::Beside(piece) => piece.at().cast(),
        };
        // SAFETY: as above, and the area is borrowed.
        unsafe { std::slice::from_raw_parts_mut(at, self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Area, Free, Piece, Place, Shared};
    use memmap2::MmapRaw;
    use std::collections::HashSet;
    use std::sync::{Arc, Mutex};

    #[test]
    fn areas_that_share_memory_have_it_each_alone_and_again() {
        let sizes = [1, 1 << 10, 3000, 100_003, 1 << 18, 900_000, (1 << 20) - 1, 1 << 20];
        let mut all: Vec<Area> = Vec::new();
        let mut state = 1u32;
        for i in 0..400 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if all.len() > 24 {
                let gone = all.swap_remove(state as usize / 7 % all.len());
                assert!(gone.iter().all(|x| *x == gone[0]));
            }
            let size = sizes[(state >> 16) as usize % sizes.len()];
            let mut area = Area::together(size).unwrap();
            assert_eq!((area.len(), area.as_ptr().align_offset(64)), (size, 0));
            assert!(area.iter().all(|x| *x == 0.0));
            area.fill(i as f32 + 1.0);
            all.push(area);
        }
        let maps: HashSet<usize> = all.iter().filter_map(of_map).collect();
        // What is alive would fit into two of them.
        assert!(maps.len() < 8, "{} maps", maps.len());
    }

    /// Which map an area has a piece of.
    fn of_map(area: &Area) -> Option<usize> {
        if let Place::Beside(piece) = &area.place { Some(piece.of.map.as_ptr().addr()) } else { None }
    }

    #[test]
    fn holes_that_meet_are_one() {
        let map = MmapRaw::from(super::mapped(1 << 20).unwrap());
        let map = Arc::new(Shared { map, free: Mutex::new(Free::of(0..1 << 20)) });
        let take = |bytes| Shared::take(Arc::clone(&map), bytes);
        let mut all: Vec<Piece> = (0..16).map(|_| take(1 << 16).unwrap()).collect();
        assert!(take(64).is_none());
        for i in [3, 4, 9, 0, 0] {
            all.remove(i);
        }
        assert_eq!(map.free().holes.len(), 4);
        assert_eq!(take(2 << 16).unwrap().bytes, 0..2 << 16);
        drop(all);
        let free = map.free();
        assert_eq!((free.holes.len(), free.holes[0].clone(), free.fresh), (1, 0..1 << 20, 1 << 20));
    }

    #[test]
    fn areas_of_every_size_are_zeros_and_keep_what_is_written() {
        for n in [0, 1, 100, 1 << 20, (1 << 20) + 1] {
            let mut area = Area::zeros(n).unwrap();
            assert_eq!((area.len(), area.capacity(), area.as_ptr().align_offset(64)), (n, n, 0));
            assert!(area.iter().all(|x| *x == 0.0));
            area.fill(1.0);
            area.show(n / 2);
            assert_eq!(area.len(), n / 2);
            area.show(n);
            assert!(area.iter().all(|x| *x == 1.0));
        }
        assert!(Area::with_capacity(usize::MAX / 2).is_none());
        assert!(Area::with_capacity(usize::MAX / 16).is_none());
    }
}
