//! Large pieces of memory.

use std::ops::{Deref, DerefMut};

use memmap2::{MmapMut, MmapOptions, MmapRaw};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// From so many bytes on memory is mapped, in pages as large as the system has: fresh pages of the usual size cost as
/// much as the values that are written to them.
const MAPPED: usize = 1 << 20;

/// A large page, and the size from which on memory is whole ones.
const LARGE: (usize, usize) = (2 << 20, 4 << 20);

/// From so many bytes on what lasts shares large pages with others, which the processor finds faster; and the bytes that
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
    /// From a byte of what several share on.
    Beside(Arc<MmapRaw>, usize),
}

impl Default for Place {
    fn default() -> Self {
        Place::Heap(Vec::new())
    }
}

impl Area {
    /// Room for `capacity` numbers, of which none is seen; `None` where there is no memory for them.
    pub fn with_capacity(capacity: usize) -> Option<Area> {
        let bytes = capacity.checked_mul(size_of::<f32>())?;
        let place = match bytes {
            MAPPED.. => Place::Mapped(mapped(bytes)?),
            _ => Place::Heap(vec![Line([0.0; 16]); capacity.div_ceil(16)]),
        };
        Some(Area { place, capacity, len: 0 })
    }

    /// As many zeros beside others that are asked for in this way, all of them in large pages; `None` where there is no
    /// memory for them. Meant for what stays, such as weights: their memory is given back when none of those that share
    /// a map is left, and what is dropped meanwhile is not used again.
    pub fn lasting(len: usize) -> Option<Area> {
        let bytes = len.checked_mul(size_of::<f32>())?;
        if !(SHARED.0..LARGE.1).contains(&bytes) {
            return Area::zeros(len);
        }
        match beside(bytes) {
            Some((map, at)) => Some(Area { place: Place::Beside(map, at), capacity: len, len }),
            None => Area::zeros(len),
        }
    }

    /// As many zeros, and `None` where there is no memory for them.
    pub fn zeros(len: usize) -> Option<Area> {
        let mut area = Area::with_capacity(len)?;
        area.show(len);
        Some(area)
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
    #[cfg(target_os = "linux")]
    let bytes = if bytes < LARGE.1 { bytes } else { bytes.checked_next_multiple_of(LARGE.0)? };
    let map = MmapOptions::new().len(bytes).map_anon().ok()?;
    // A wish: without it the memory is the same.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    Some(map)
}

/// Bytes that nobody had yet, from a line of the cache on.
fn beside(bytes: usize) -> Option<(Arc<MmapRaw>, usize)> {
    /// The map that has room, and the first free byte.
    static OPEN: Mutex<(Weak<MmapRaw>, usize)> = Mutex::new((Weak::new(), 0));
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(map) = open.0.upgrade().filter(|map| open.1 + bytes <= map.len()) {
        let at = open.1;
        open.1 = (at + bytes).next_multiple_of(size_of::<Line>());
        return Some((map, at));
    }
    // The system may begin anywhere: so that every byte can be in a large page, from one on.
    let map = Arc::new(MmapRaw::from(mapped(SHARED.1 + LARGE.0)?));
    let at = map.as_ptr().align_offset(LARGE.0);
    *open = (Arc::downgrade(&map), (at + bytes).next_multiple_of(size_of::<Line>()));
    Some((map, at))
}

impl Deref for Area {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        let at = match &self.place {
            Place::Heap(lines) => lines.as_ptr().cast(),
            Place::Mapped(map) => map.as_ptr().cast(),
            Place::Beside(map, at) => map.as_ptr().wrapping_add(*at).cast(),
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
            Place::Beside(map, at) => map.as_mut_ptr().wrapping_add(*at).cast(),
        };
        // SAFETY: as above, and the area is borrowed.
        unsafe { std::slice::from_raw_parts_mut(at, self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::Area;

    #[test]
    fn what_lasts_shares_memory_and_nothing_else() {
        let sizes = [1, 1 << 10, 3000, 100_003, 1 << 18, 900_000, (1 << 20) - 1, 1 << 20];
        let mut all: Vec<Area> = (0..40).map(|i| Area::lasting(sizes[i % sizes.len()]).unwrap()).collect();
        for (i, area) in all.iter_mut().enumerate() {
            assert_eq!((area.len(), area.as_ptr().align_offset(64)), (sizes[i % sizes.len()], 0));
            assert!(area.iter().all(|x| *x == 0.0));
            area.fill(i as f32);
        }
        // Others stay as they are when some go, and new ones are zeros.
        let mut i = 0;
        all.retain(|_| {
            i += 1;
            i % 3 != 0
        });
        let new = Area::lasting(1 << 18).unwrap();
        assert!(new.iter().all(|x| *x == 0.0));
        for area in &all {
            assert!(area.iter().all(|x| *x == area[0]));
        }
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
