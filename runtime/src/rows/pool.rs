//! Memory for the values of rows, used again from stretch to stretch: fresh memory costs the system as much
//! as the values that are written to it.

use crate::error::Error;
use crate::memory;
use steer_kernels::Area;

/// Pieces of memory that are not in use, for a pass over so many rows at most.
#[derive(Default)]
pub struct Pool {
    free: Vec<Area>,
    most: usize,
}

impl Pool {
    /// A pool for a pass of which no stretch has more rows than `most`, with the memory of the pass before. A pass of
    /// few rows after one of many gives back what it does not need.
    pub fn of(most: usize, before: Pool) -> Self {
        // A few more rows in the next pass are no reason for other memory.
        let most = most.next_multiple_of((most.next_power_of_two() / 8).max(1));
        match before.most / 4 < most && most <= before.most {
            true => before,
            false => Pool { free: Vec::new(), most },
        }
    }

    /// Room for `rows` rows of `width`; what it holds is of no matter.
    pub fn take(&mut self, rows: usize, width: usize, what: &str) -> Result<Area, Error> {
        let (len, all) = (rows * width, self.most.max(rows) * width);
        if len == 0 {
            return Ok(Area::default());
        }
        let mut out = match self.free.iter().position(|v| v.capacity() == all) {
            Some(at) => self.free.swap_remove(at),
            // Room for as many rows as any stretch has; what is not written to is not taken from the system.
            None => Area::with_capacity(all).ok_or_else(|| memory::refused(all, what))?,
        };
        out.show(len);
        Ok(out)
    }

    /// Takes memory back.
    pub fn give(&mut self, v: Area) {
        if v.capacity() > 0 {
            self.free.push(v);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pool;

    #[test]
    fn memory_is_used_again_for_other_numbers_of_rows() {
        let mut pool = Pool::of(97, Pool::default());
        let a = pool.take(10, 8, "a").unwrap();
        let at = a.as_ptr();
        pool.give(a);
        let b = pool.take(100, 8, "b").unwrap();
        assert!(b.as_ptr() == at && b.len() == 800);
        pool.give(b);
        let c = pool.take(100, 9, "c").unwrap();
        assert_ne!(c.as_ptr(), at);
        let mut fewer = Pool::of(50, pool);
        let d = fewer.take(50, 9, "d").unwrap();
        assert_eq!(d.capacity(), 112 * 9);
        fewer.give(d);
        assert!(Pool::of(113, Pool::of(20, fewer)).free.is_empty());
    }
}
