//! Prints how fast attention is: decoding one row at several contexts as a share of the read bandwidth, and prompts as a
//! share of the arithmetic: `cargo run --release -p steer-kernels --example attention -- [threads] [instruction set] [heads
//! kv_heads d_head context [prompt]]`.
//!
//! Each figure is timed in turns with the loop that it is held against, and a share is the median over the turns.

mod turns;

use std::hint::black_box;
use std::ops::Range;
use steer_kernels::attention::CacheFormat;
use steer_kernels::{Area, Heads, Isa, KeyValues, Queries, Scratch, Softmax, attend_block, limits};
use turns::{in_turns, median};

const PLAIN: Softmax = Softmax { scale: 0.125, sinks: &[] };

struct Shared(*mut f32);
unsafe impl Sync for Shared {}
impl Shared {
    fn at(&self) -> *mut f32 {
        self.0
    }
}

fn filled(len: usize) -> Area {
    let mut area = Area::zeros(len).expect("memory");
    area.iter_mut().enumerate().for_each(|(i, x)| *x = ((i * 7 + i / 13) % 31) as f32 / 16.0 - 1.0);
    area
}

/// Layers of keys and values that no cache holds together.
struct Layers {
    shape: Heads,
    context: usize,
    keys: Vec<Area>,
    values: Vec<Area>,
}

impl Layers {
    fn new(shape: Heads, context: usize, bytes: usize) -> Self {
        let len = context * shape.kv_heads * shape.d_head;
        let count = (bytes / (len * 8)).max(1);
        let all = || (0..count).map(|_| filled(len)).collect();
        Layers { shape, context, keys: all(), values: all() }
    }

    fn cache(&self, layer: usize) -> KeyValues {
        let (stride, head) = (self.shape.d_head, self.context * self.shape.d_head);
        KeyValues {
            keys: self.keys[layer].as_ptr(),
            key_stride: stride,
            key_head: head,
            values: self.values[layer].as_ptr(),
            value_stride: stride,
            value_head: head,
            format: CacheFormat::F32,
        }
    }

    /// The bytes that one row reads of all layers.
    fn bytes(&self, window: usize) -> f64 {
        (self.keys.len() * window.min(self.context) * self.shape.kv_heads * self.shape.d_head * 8) as f64
    }
}

fn part(n: usize, t: usize, threads: usize) -> Range<usize> {
    n * t / threads..n * (t + 1) / threads
}

fn decode(isa: Isa, threads: usize, shape: Heads, context: usize, window: usize) {
    let layers = Layers::new(shape, context, 384 << 20);
    let width = shape.heads * shape.d_head;
    let q = filled(width);
    let mut out = filled(width);
    let out = Shared(out.as_mut_ptr());
    let slots: Vec<u32> = (0..context as u32).collect();
    let seen = context.saturating_sub(window)..context;
    let row = |t: usize| {
        let mut scratch = Scratch::default();
        for layer in 0..layers.keys.len() {
            let cache = layers.cache(layer);
            let queries = Queries { q: q.as_ptr(), q_stride: width, out: out.at(), out_stride: width };
            let heads = part(shape.kv_heads, t, threads);
            let seen = std::slice::from_ref(&seen);
            unsafe { attend_block(isa, &shape, PLAIN, &queries, seen, &cache, &slots, heads, &mut scratch) };
        }
    };
    let read = |t: usize| {
        for area in layers.keys.iter().chain(&layers.values) {
            for head in part(shape.kv_heads, t, threads) {
                limits::read(isa, &area[(head * context + seen.start) * shape.d_head..][..seen.len() * shape.d_head]);
            }
        }
    };
    let times = in_turns(threads, 9, &[&read, &row]);
    let share = median(times[1].iter().zip(&times[0]).map(|(s, r)| r / s).collect());
    let rate = |i: usize| layers.bytes(window) / median(times[i].clone()) / 1e9;
    println!(
        "{:2} heads on {:2} of {:3}, {context:6} keys{}: {:5.1} GB/s of {:5.1}, {:3.0}%",
        shape.heads,
        shape.kv_heads,
        shape.d_head,
        if window < context { format!(", window {window}") } else { String::new() },
        rate(1),
        rate(0),
        100.0 * share,
    );
}

fn prompt(isa: Isa, threads: usize, shape: Heads, rows: usize) {
    const STEPS: usize = 1 << 21;
    let layers = Layers::new(shape, rows, 0);
    let width = shape.heads * shape.d_head;
    let q = filled(rows * width);
    let mut out = filled(rows * width);
    let out = Shared(out.as_mut_ptr());
    let slots: Vec<u32> = (0..rows as u32).collect();
    let all = |t: usize| {
        let mut scratch = Scratch::default();
        let cache = layers.cache(0);
        // As many rows at a time as the engine takes.
        let together = (128 / shape.group()).max(32);
        for first in (0..rows).step_by(together) {
            let seen: Vec<Range<usize>> = (first..rows.min(first + together)).map(|i| 0..i + 1).collect();
            let queries = Queries {
                q: unsafe { q.as_ptr().add(first * width) },
                q_stride: width,
                out: unsafe { out.at().add(first * width) },
                out_stride: width,
            };
            let heads = part(shape.kv_heads, t, threads);
            unsafe { attend_block(isa, &shape, PLAIN, &queries, &seen, &cache, &slots, heads, &mut scratch) };
        }
    };
    let registers = |_: usize| {
        black_box(limits::multiply(isa, STEPS));
    };
    let times = in_turns(threads, 5, &[&registers, &all]);
    let peak = limits::multiply(isa, 1) as f64 * STEPS as f64 * threads as f64;
    let ops = 4.0 * width as f64 * (rows * (rows + 1) / 2) as f64;
    let share = times[1].iter().zip(&times[0]).map(|(s, r)| ops / s / (peak / r)).collect();
    println!(
        "{:2} heads on {:2} of {:3}, prompt of {rows}: {:4.0} GFLOP/s of {:4.0}, {:3.0}%",
        shape.heads,
        shape.kv_heads,
        shape.d_head,
        ops / median(times[1].clone()) / 1e9,
        peak / median(times[0].clone()) / 1e9,
        100.0 * median(share),
    );
}

fn main() {
    let threads = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1);
    let isa = std::env::args().nth(2).and_then(|name| Isa::from_name(&name)).unwrap_or(Isa::detect());
    println!("{}, {threads} thread(s)", isa.name());
    let shape = |heads, kv_heads, d_head| Heads { heads, kv_heads, d_head };
    let numbers: Vec<usize> = std::env::args().skip(3).filter_map(|n| n.parse().ok()).collect();
    if let [heads, kv_heads, d_head, context, rest @ ..] = &numbers[..] {
        return match rest {
            [] => decode(isa, threads, shape(*heads, *kv_heads, *d_head), *context, usize::MAX),
            _ => prompt(isa, threads, shape(*heads, *kv_heads, *d_head), *context),
        };
    }
    for shape in [shape(14, 2, 64), shape(32, 8, 128), shape(12, 12, 64)] {
        for context in [1 << 10, 1 << 13, 1 << 15] {
            decode(isa, threads, shape, context, usize::MAX);
        }
        decode(isa, threads, shape, 1 << 15, 1 << 12);
        prompt(isa, threads, shape, 1 << 11);
    }
}
