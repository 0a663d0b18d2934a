//! What a processor does at most, to hold measured work against: each function is one thread's part.

use crate::isa::{Isa, by_isa, for_each_isa};
use crate::lanes::Wide;
use std::hint::black_box;

/// The loops of an instruction set.
struct Limits {
    multiply: unsafe fn(usize) -> f32,
    /// Vectors that one step of `multiply` takes.
    chains: usize,
    read: unsafe fn(&[f32]) -> f32,
}

/// Fused multiply-adds between registers, `steps` of them in each of as many vectors as keep the processor busy. Gives
/// the number of its operations: two for each lane.
///
/// # Panics
/// When this processor lacks `isa`.
pub fn multiply(isa: Isa, steps: usize) -> u64 {
    isa.require();
    let limits = by_isa!(isa, LIMITS);
    // SAFETY: the processor has the instruction set.
    black_box(unsafe { (limits.multiply)(steps) });
    (steps * limits.chains * 16 * 2) as u64
}

/// Reads all of these numbers once, in four streams at a time.
///
/// # Panics
/// When this processor lacks `isa`.
pub fn read(isa: Isa, numbers: &[f32]) {
    isa.require();
    // SAFETY: as above.
    black_box(unsafe { (by_isa!(isa, LIMITS).read)(numbers) });
}

#[inline(always)]
unsafe fn chains<V: Wide, const N: usize>(steps: usize) -> f32 {
    let x = V::splat(black_box(0.999));
    let mut sums = [x; N];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = x.fma(*sum, x);
        }
    }
    sums.into_iter().fold(V::splat(0.0), |a, b| a + b).sum()
}

#[inline(always)]
unsafe fn streams<V: Wide>(numbers: &[f32]) -> f32 {
    let each = numbers.len() / 4 / 16 * 16;
    let mut sums = [V::splat(0.0); 4];
    let at = numbers.as_ptr();
    for i in (0..each).step_by(16) {
        for (s, sum) in sums.iter_mut().enumerate() {
            *sum = *sum + unsafe { V::load(at.add(s * each + i)) };
            V::prefetch(at.wrapping_add(s * each + i + 1024));
        }
    }
    sums.into_iter().fold(V::splat(0.0), |a, b| a + b).sum()
}

/// Vectors that fit into the registers: 32 of 16 lanes or 16 of 8, and one for the factor.
macro_rules! count {
    (avx512) => {
        12
    };
    ($other:ident) => {
        6
    };
}

macro_rules! limits {
    ($isa:ident, $lanes:ty, $attribute:meta) => {
        mod $isa {
            pub(super) static LIMITS: super::Limits = super::Limits { multiply, chains: CHAINS, read };
            const CHAINS: usize = count!($isa);

            #[$attribute]
            unsafe fn multiply(steps: usize) -> f32 {
                unsafe { super::chains::<$lanes, CHAINS>(steps) }
            }
            #[$attribute]
            unsafe fn read(numbers: &[f32]) -> f32 {
                unsafe { super::streams::<$lanes>(numbers) }
            }
        }
    };
}
for_each_isa!(limits);
