//! Register tiles: a few rows times a few vectors, each output one chain of fused multiply-adds.

use crate::isa::{Isa, by_isa, for_each_isa};
use crate::lanes::Wide;

/// `c[r][..cols] (+)= sum over k ascending of a[r][k] * b[k][..]`.
pub(crate) struct Tile {
    /// Row 0, input 0.
    pub a: *const f32,
    /// From row to row, for tiles that read rows where they lie.
    pub a_row: usize,
    /// Panel 0, input 0; inputs follow one another by 16 numbers.
    pub b: *const f32,
    /// From panel to panel.
    pub b_panel: usize,
    pub inputs: usize,
    /// Row 0, column 0.
    pub c: *mut f32,
    pub c_row: usize,
    /// Columns to write, at most 16 a panel.
    pub cols: usize,
    /// Whether the chains begin here, or go on from what `c` holds.
    pub begin: bool,
    /// During the first `early` inputs the weights at `next`, laid out as those at `b`, are asked
    /// for.
    pub next: *const f32,
    pub early: usize,
}

/// What asks for so many lines of the cache from an address on, which need not be readable: what is there is near when it
/// is read a little later.
pub fn ask(isa: Isa) -> fn(*const f32, usize) {
    tiles(isa).ask
}

pub(crate) type TileFn = unsafe fn(&Tile);
type TransposeFn = unsafe fn(&[*const f32], &[*const f32], usize, *mut f32);

/// The tiles of an instruction set. `f[n][r - 1]` does `r` rows; the index of a list is the power
/// of two of its vectors.
pub(crate) struct Tiles {
    /// Inputs and rows of one pass of packed rows, as measured: they stay in the second cache.
    pub block: (usize, usize),
    /// Over rows packed as `[input][r]`.
    pub packed: &'static [&'static [TileFn]],
    /// Over rows where they lie.
    pub direct: &'static [&'static [TileFn]],
    /// See [`transpose_rows`].
    pub transpose: TransposeFn,
    /// Asks for so many lines of the cache from an address on, which need not be readable.
    pub ask: fn(*const f32, usize),
}

/// What `c` holds: whole vectors, or one vector's first `cols` lanes.
#[inline(always)]
pub(crate) unsafe fn load_c<V: Wide, const R: usize, const N: usize>(
    c: *const f32,
    c_row: usize,
    cols: usize,
) -> [[V; N]; R] {
    let mut acc = [[V::splat(0.0); N]; R];
    unsafe {
        if cols == 16 * N {
            for (r, row) in acc.iter_mut().enumerate() {
                for (n, v) in row.iter_mut().enumerate() {
                    *v = V::load(c.add(r * c_row + 16 * n));
                }
            }
        } else {
            for (r, row) in acc.iter_mut().enumerate() {
                row[0] = V::load_part(c.add(r * c_row), cols);
            }
        }
    }
    acc
}

#[inline(always)]
pub(crate) unsafe fn store_c<V: Wide, const R: usize, const N: usize>(
    acc: [[V; N]; R],
    c: *mut f32,
    c_row: usize,
    cols: usize,
) {
    unsafe {
        if cols == 16 * N {
            for (r, row) in acc.iter().enumerate() {
                for (n, v) in row.iter().enumerate() {
                    v.store(c.add(r * c_row + 16 * n));
                }
            }
        } else {
            for (r, row) in acc.iter().enumerate() {
                row[0].store_part(c.add(r * c_row), cols);
            }
        }
    }
}

/// The chains of a tile, on through inputs `from` up to `to`.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
unsafe fn advance<V: Wide, const R: usize, const N: usize, const ASK: bool>(
    acc: &mut [[V; N]; R],
    t: &Tile,
    (a_row, a_step): (usize, usize),
    from: usize,
    to: usize,
) {
    unsafe {
        let (mut a, mut b, panel) = (t.a.add(from * a_step), t.b.add(from * 16), t.b_panel);
        let mut next = t.next;
        for _ in from..to {
            let mut w = [V::splat(0.0); N];
            for n in 0..N {
                w[n] = V::load(b.add(n * panel));
                if ASK {
                    V::prefetch(next.wrapping_add(n * panel));
                }
            }
            for r in 0..R {
                let x = V::splat(*a.add(r * a_row));
                for n in 0..N {
                    acc[r][n] = x.fma(w[n], acc[r][n]);
                }
            }
            a = a.add(a_step);
            b = b.add(16);
            next = next.wrapping_add(16);
        }
    }
}

#[inline(always)]
unsafe fn run<V: Wide, const R: usize, const N: usize>(t: &Tile, a: (usize, usize)) {
    unsafe {
        // The next strip goes on from what its rows hold, and stores to them.
        for r in 0..R {
            for n in 0..N {
                V::prefetch(t.c.wrapping_add((R + r) * t.c_row + 16 * n));
            }
        }
        let mut acc = [[V::splat(0.0); N]; R];
        if !t.begin {
            acc = load_c(t.c, t.c_row, t.cols);
        }
        advance::<V, R, N, true>(&mut acc, t, a, 0, t.early);
        advance::<V, R, N, false>(&mut acc, t, a, t.early, t.inputs);
        store_c(acc, t.c, t.c_row, t.cols);
    }
}

/// Rows to columns: `dst[k * step + r] = rows[r][k]` for `k < inputs`, at most 16 rows, where
/// `step` is the number of rows. Up to 16 numbers beyond the end are overwritten. The rows `next`
/// are asked for.
#[inline(always)]
unsafe fn transpose_rows<V: Wide>(rows: &[*const f32], next: &[*const f32], inputs: usize, dst: *mut f32) {
    unsafe {
        let step = rows.len();
        let mut k = 0;
        while k < inputs {
            let m = (inputs - k).min(16);
            let mut block = [V::splat(0.0); 16];
            for (v, &row) in block.iter_mut().zip(rows) {
                *v = if m == 16 { V::load(row.add(k)) } else { V::load_part(row.add(k), m) };
            }
            for row in next {
                V::prefetch(row.wrapping_add(k));
            }
            let block = V::transpose(block);
            for (i, v) in block.iter().enumerate().take(m) {
                v.store(dst.add((k + i) * step));
            }
            k += 16;
        }
    }
}

macro_rules! tiles {
    ($isa:ident, $lanes:ty, $attribute:meta) => {
        mod $isa {
            use super::{Tile, Tiles, Wide};
            type V = $lanes;

            pub(super) static TILES: Tiles = lists!($isa);

            #[$attribute]
            unsafe fn packed<const R: usize, const N: usize>(t: &Tile) {
                unsafe { super::run::<V, R, N>(t, (1, R)) }
            }
            #[$attribute]
            unsafe fn direct<const R: usize, const N: usize>(t: &Tile) {
                unsafe { super::run::<V, R, N>(t, (t.a_row, 1)) }
            }
            fn ask(at: *const f32, lines: usize) {
                (0..lines).for_each(|i| V::prefetch(at.wrapping_add(i * 16)));
            }
            #[$attribute]
            unsafe fn transpose(rows: &[*const f32], next: &[*const f32], inputs: usize, dst: *mut f32) {
                unsafe { super::transpose_rows::<V>(rows, next, inputs, dst) }
            }
        }
    };
}

/// Which tiles fit into the registers: 32 of 16 lanes, or 16 of 8.
macro_rules! lists {
    (avx512) => {
        Tiles {
            block: (512, 280),
            packed: &[rows!(packed 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14), rows!(packed 2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14)],
            direct: &[rows!(direct 1: 1 2 3 4 5 6), rows!(direct 2: 1 2 3 4 5 6), rows!(direct 4: 1 2 3 4 5 6)],
            transpose,
            ask,
        }
    };
    ($other:ident) => {
        Tiles {
            block: (768, 140),
            packed: &[rows!(packed 1: 1 2 3 4 5 6)],
            direct: &[rows!(direct 1: 1 2 3 4), rows!(direct 2: 1 2 3), rows!(direct 4: 1)],
            transpose,
            ask,
        }
    };
}

macro_rules! rows {
    ($f:ident $n:literal: $($r:literal)*) => {
        &[$($f::<$r, $n>),*]
    };
}

for_each_isa!(tiles);

/// The tiles of `isa`.
#[track_caller]
pub(crate) fn tiles(isa: Isa) -> &'static Tiles {
    isa.require();
    by_isa!(isa, TILES)
}
