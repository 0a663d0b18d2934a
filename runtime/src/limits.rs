//! What this machine does at most, measured with the threads of this process.

use crate::memory::Offer;
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use steer_kernels::{Area, Isa, limits};

/// Bytes that no cache holds.
const BYTES: usize = 256 << 20;
/// How often each is measured; the best counts.
const TURNS: usize = 3;
/// How long a thread multiplies, and how many steps it takes between two looks at the clock.
const MULTIPLY: (Duration, usize) = (Duration::from_millis(10), 1 << 12);

/// The rates that work is held against.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    pub threads: usize,
    /// Read from memory.
    pub bytes_per_second: f64,
    /// Fused multiply-adds in float32, two operations each.
    pub operations_per_second: f64,
}

impl Limits {
    /// Takes some tenths of a second; `None` where there is no memory for it.
    pub fn measure() -> Option<Limits> {
        if Offer::now().is_some_and(|o| o.bytes < 2 * BYTES as u64) {
            return None;
        }
        let (isa, threads) = (Isa::detect(), rayon::current_num_threads());
        let numbers = BYTES / size_of::<f32>();
        let mut area = Area::zeros(numbers)?;
        // Memory is there when it is written to.
        rayon::scope(|scope| {
            area.chunks_mut(numbers.div_ceil(threads)).for_each(|part| scope.spawn(move |_| part.fill(1.0)));
        });
        let read = || {
            let start = Instant::now();
            rayon::broadcast(|at| {
                let part = |t: usize| numbers * t / threads;
                limits::read(isa, &area[part(at.index())..part(at.index() + 1)]);
            });
            BYTES as f64 / start.elapsed().as_secs_f64()
        };
        let multiply = || {
            let all = AtomicU64::new(0);
            let start = Instant::now();
            rayon::broadcast(|_| {
                let start = Instant::now();
                while start.elapsed() < MULTIPLY.0 {
                    all.fetch_add(limits::multiply(isa, MULTIPLY.1), Ordering::Relaxed);
                }
            });
            all.into_inner() as f64 / start.elapsed().as_secs_f64()
        };
        let best = |work: &dyn Fn() -> f64| (0..TURNS).map(|_| work()).fold(0.0, f64::max);
        Some(Limits { threads, bytes_per_second: best(&read), operations_per_second: best(&multiply) })
    }
}
