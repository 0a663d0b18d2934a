//! What the machine can do at most, measured beside the models.

#[path = "../../../runtime/kernels/examples/turns/mod.rs"]
mod turns;

use std::time::Duration;
use steer_kernels::{Area, Isa, limits};
pub use turns::median;

/// More numbers than any cache holds.
const NUMBERS: usize = 32 << 20;

/// As many, in pages as large as those of weights: from small ones less is read in a second than models do.
pub fn numbers() -> Area {
    let mut numbers = Area::zeros(NUMBERS).expect("memory for what the machine is measured with");
    numbers.fill(1.0);
    numbers
}

/// Steps of multiply-adds in one measurement.
const STEPS: usize = 1 << 24;

/// Multiplications and additions in a second, of all threads together.
pub fn peak(threads: usize) -> f64 {
    let isa = Isa::detect();
    let operations = limits::multiply(isa, 1) as f64 * STEPS as f64;
    let times = turns::in_turns(
        threads,
        1,
        &[&|_| {
            limits::multiply(isa, STEPS);
        }],
    );
    operations * threads as f64 / times[0][0]
}

/// How long the threads of a pass may stay awake behind it.
const AWAKE: Duration = Duration::from_millis(3);

/// Bytes read in a second, by all threads together.
pub fn read(threads: usize, numbers: &[f32]) -> f64 {
    std::thread::sleep(AWAKE);
    let part = |t: usize| &numbers[numbers.len() * t / threads..numbers.len() * (t + 1) / threads];
    let times = turns::in_turns(threads, 1, &[&|t| limits::read(Isa::detect(), part(t))]);
    numbers.len() as f64 * 4.0 / times[0][0]
}
