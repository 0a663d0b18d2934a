//! Prints what the processor can do and what share of it the kernels reach, with one thread and
//! with two: `cargo run --release -p steer-kernels --example limits`. With `formats` behind it, by the format of weights, and
//! with `formats q8_0` of rows that are rounded to whole numbers.
//!
//! The machine's own speed drifts, so each kernel is timed in turns with the loop it is held
//! against, and a share is the median over the turns.

mod turns;

use std::hint::black_box;
use steer_kernels::{Activations, Arithmetic, Format, Isa, Packed, gemm, rows};
use turns::{in_turns, median};

/// Steps of fused multiply-adds between registers in one call.
const STEPS: usize = 1 << 24;

/// One thread's part, and its operations.
fn peak(isa: Isa) -> (impl Fn(), f64) {
    (
        move || {
            steer_kernels::limits::multiply(isa, STEPS);
        },
        steer_kernels::limits::multiply(isa, 1) as f64 * STEPS as f64,
    )
}

/// Enough copies that no cache holds them.
fn weights(outputs: usize, inputs: usize) -> Vec<Packed> {
    let one = Packed::from_fn(outputs, inputs, |o, k| ((o * 3 + k) % 17) as f32 / 16.0 - 0.5);
    vec![one; (400 << 20) / (outputs * inputs * 4)]
}

struct Shared(*mut f32);
unsafe impl Sync for Shared {}
impl Shared {
    fn at(&self) -> *mut f32 {
        self.0
    }
}

fn part(panels: usize, t: usize, threads: usize) -> std::ops::Range<usize> {
    panels * t / threads..panels * (t + 1) / threads
}

/// Seconds that two threads take for the products of some layers of GPT-2-small's shape on so many rows.
fn products(rows: usize, layers: usize) -> f64 {
    let isa = Isa::detect();
    let shapes = [(2304, 768), (768, 768), (3072, 768), (768, 3072)];
    let weights: Vec<Vec<Packed>> = shapes
        .iter()
        .map(|&(o, i)| (0..layers).map(|l| Packed::from_fn(o, i, |o, k| ((o * 3 + k + l) % 17) as f32 - 8.0)).collect())
        .collect();
    let x = vec![0.25f32; rows * 3072];
    let mut y = vec![0.0f32; rows * 3072];
    let y = Shared(y.as_mut_ptr());
    let work = |t: usize| {
        let (from, to) = (rows * t / 2, rows * (t + 1) / 2);
        for layer in 0..layers {
            for (w, (outputs, inputs)) in weights.iter().zip(shapes) {
                let (x, y) = (&x[from * inputs..], unsafe { y.at().add(from * outputs) });
                unsafe { gemm(isa, x, inputs, to - from, &w[layer], 0..w[layer].panels(), y, outputs) };
            }
        }
    };
    median(in_turns(2, 3, &[&work])[0].clone())
}

/// A stored matrix of some levels.
fn stored(format: Format, outputs: usize, inputs: usize) -> Packed {
    let (block, bytes) = format.block();
    let mut file: Vec<u8> = (0..outputs * inputs / block * bytes).map(|i| (i * 7 % 251) as u8).collect();
    // An exponent of a common size, wherever there is one.
    file.as_chunks_mut::<2>().0.iter_mut().for_each(|b| b[1] = b[1] & 0x83 | 0x28);
    Packed::from_blocks(format, outputs, inputs, &file)
}

/// What a format's products reach: of one row against reading as many bytes, of 512 rows against f32 and the peak.
fn format(how: Arithmetic, format: Format, threads: usize) {
    let (outputs, inputs) = (4096, 4096);
    let one = stored(format, outputs, inputs);
    let bytes = one.bytes();
    let w = vec![one; (400 << 20) / bytes];
    let wide = Packed::from_fn(outputs, inputs, |o, k| ((o * 3 + k) % 17) as f32 / 16.0 - 0.5);
    let (x, mut y) = (vec![0.25f32; 512 * inputs], vec![0.0f32; 512 * outputs]);
    let y = Shared(y.as_mut_ptr());
    let numbers = vec![0.5f32; w.len() * bytes / 4];
    let product = |rows: usize, w: &Packed, t: usize| unsafe {
        gemm(how, &x, inputs, rows, w, part(w.panels(), t, threads), y.at(), outputs);
    };
    let dot = rows::dot(how.isa);
    let read = |t: usize| {
        let part = part(numbers.len() / 32, t, threads);
        let (a, b) = numbers[part.start * 32..part.end * 32].split_at(part.len() * 16);
        black_box(unsafe { dot(a.as_ptr(), b.as_ptr(), a.len()) });
    };
    let of_rows = |rows: usize| {
        let (w, product) = (&w, &product);
        move |t: usize| w.iter().for_each(|w| product(rows, w, t))
    };
    let (one, four) = (of_rows(1), of_rows(4));
    let times = in_turns(threads, 7, &[&read, &one, &four]);
    let share = |i: usize| 100.0 * median(times[i].iter().zip(&times[0]).map(|(s, r)| r / s).collect());
    let (registers, operations) = peak(how.isa);
    let (many, many_wide) = (|t: usize| product(512, &w[0], t), |t: usize| product(512, &wide, t));
    let long = in_turns(threads, 5, &[&many_wide, &many, &|_| registers()]);
    let ops = 2.0 * (512 * outputs * inputs) as f64;
    let against = |i: usize, by: f64| 100.0 * median(long[1].iter().zip(&long[i]).map(|(s, w)| by * w / s).collect());
    println!(
        "{:5} {threads} thread(s): read {:.1} GB/s; 1 row {:.1} GB/s, {:.0}% of it; 4 rows {:.0}%; 512 rows {:.0}% of f32's speed, {:.0}% of the peak",
        format.name(),
        (w.len() * bytes) as f64 / median(times[0].clone()) / 1e9,
        (w.len() * bytes) as f64 / median(times[1].clone()) / 1e9,
        share(1),
        share(2),
        against(0, 1.0),
        against(2, ops / (operations * threads as f64)),
    );
}

fn main() {
    // `limits formats [ACTIVATIONS]`: products by the format of their weights.
    if let Some(word) = std::env::args().nth(1)
        && word == "formats"
    {
        let name = std::env::args().nth(2).unwrap_or_default();
        let activations = Activations::from_name(&name).unwrap_or_default();
        let how = Arithmetic { isa: Isa::detect(), activations };
        for f in Format::ALL.into_iter().filter(|f| activations != Activations::Q8 || f.is_levels()) {
            [1, 2].into_iter().for_each(|threads| format(how, f, threads));
        }
        return;
    }
    // `limits peak N`: only what N threads reach between registers, in GFLOP/s.
    if let [Some(word), Some(threads)] = [1, 2].map(|n| std::env::args().nth(n))
        && word == "peak"
    {
        let threads = threads.parse().unwrap_or(1);
        let (registers, operations) = peak(Isa::detect());
        let times = in_turns(threads, 3, &[&|_| registers()]);
        println!("{:.1}", operations * threads as f64 / median(times[0].clone()) / 1e9);
        return;
    }
    if let [Some(word), Some(rows), Some(layers)] = [1, 2, 3].map(|n| std::env::args().nth(n))
        && word == "products"
    {
        println!("{:.3}", products(rows.parse().unwrap_or(1), layers.parse().unwrap_or(1)));
        return;
    }
    let isa = std::env::args().nth(1).and_then(|name| Isa::from_name(&name)).unwrap_or(Isa::detect());
    println!("{}", isa.name());
    let dot = rows::dot(isa);
    for (outputs, inputs) in [(4096, 4096), (768, 3072), (3072, 768)] {
        let w = weights(outputs, inputs);
        let panels = w[0].panels();
        for threads in [1, 2] {
            let x = vec![0.25f32; 512 * inputs];
            let mut y = vec![0.0f32; 512 * outputs];
            let y = Shared(y.as_mut_ptr());
            let product = |rows: usize, w: &Packed, t: usize| unsafe {
                gemm(isa, &x, inputs, rows, w, part(panels, t, threads), y.at(), outputs);
            };
            let (registers, operations) = peak(isa);
            let many = |t: usize| product(512, &w[0], t);
            let times = in_turns(threads, 7, &[&|_| registers(), &many]);
            let ops = 2.0 * (512 * outputs * inputs) as f64;
            let peak: Vec<f64> = times[0].iter().map(|s| operations * threads as f64 / s).collect();
            let share = times[1].iter().zip(&peak).map(|(s, p)| ops / s / p).collect();
            println!(
                "{outputs}x{inputs}, {threads} thread(s): peak {:.0} GFLOP/s; 512 rows {:.0} GFLOP/s, {:.0}% of it",
                median(peak.clone()) / 1e9,
                ops / median(times[1].clone()) / 1e9,
                100.0 * median(share),
            );
            let read = |t: usize| {
                for w in &w {
                    let p = part(panels, t, threads);
                    let numbers = &w.as_slice()[p.start * 16 * inputs..p.end * 16 * inputs];
                    // Two halves at a time: one stream alone is not as fast.
                    let (a, b) = numbers.split_at(numbers.len() / 2);
                    black_box(unsafe { dot(a.as_ptr(), b.as_ptr(), a.len()) });
                }
            };
            let of_rows = |rows: usize| {
                let (w, product) = (&w, &product);
                move |t: usize| w.iter().for_each(|w| product(rows, w, t))
            };
            let (one, four, eight) = (of_rows(1), of_rows(4), of_rows(8));
            let times = in_turns(threads, 7, &[&read, &one, &four, &eight]);
            let bytes = (w.len() * outputs * inputs * 4) as f64;
            let share = |i: usize| 100.0 * median(times[i].iter().zip(&times[0]).map(|(s, r)| r / s).collect());
            println!(
                "    read {:.1} GB/s; weights with 1 row {:.1} GB/s, {:.0}% of it; 4 rows {:.0}%; 8 rows {:.0}%",
                bytes / median(times[0].clone()) / 1e9,
                bytes / median(times[1].clone()) / 1e9,
                share(1),
                share(2),
                share(3),
            );
        }
    }
}
