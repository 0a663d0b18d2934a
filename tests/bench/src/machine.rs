//! What the machine can do at most, measured beside the models.

#[allow(dead_code)]
#[path = "../../../runtime/kernels/examples/limits.rs"]
mod limits;

pub use limits::median;
use std::hint::black_box;
use steer_kernels::{Isa, rows};

/// More numbers than any cache holds.
pub const NUMBERS: usize = 32 << 20;

/// Multiplications and additions in a second, of all threads together.
pub fn peak(threads: usize) -> f64 {
    let (registers, operations) = limits::peak(Isa::detect());
    let times = limits::in_turns(threads, 1, &[&|_| registers()]);
    operations * threads as f64 / times[0][0]
}

/// Bytes read in a second, by all threads together.
pub fn read(threads: usize, numbers: &[f32]) -> f64 {
    let dot = rows::dot(Isa::detect());
    let work = |t: usize| {
        let part = &numbers[numbers.len() * t / threads..numbers.len() * (t + 1) / threads];
        // Two halves at a time: one stream alone is not as fast.
        let (a, b) = part.split_at(part.len() / 2);
        // SAFETY: `b` holds at least as many numbers as `a`.
        black_box(unsafe { dot(a.as_ptr(), b.as_ptr(), a.len()) });
    };
    let times = limits::in_turns(threads, 1, &[&work]);
    numbers.len() as f64 * 4.0 / times[0][0]
}
