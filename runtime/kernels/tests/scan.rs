//! Scans and convolutions against the row operations that say what they mean, bit for bit.

use steer_kernels::scan::{Of, Part, Scan, convolve, scan};
use steer_kernels::{Binary, Isa, Unary, rows};

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut s = seed;
    let mut next = || {
        s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (s >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// Heads, channels, states, and whether each state has its own rate.
const SHAPES: [(usize, usize, usize, bool); 8] = [
    (33, 1, 16, true),
    (20, 1, 4, true),
    (5, 1, 80, true),
    (7, 1, 1, true),
    (3, 8, 128, false),
    (2, 5, 64, false),
    (4, 17, 16, false),
    (2, 3, 150, false),
];
const ROWS: usize = 7;

struct Numbers {
    dt: Vec<f32>,
    rate: Vec<f32>,
    x: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
}

fn described(n: &Numbers, (heads, channels, states, each): (usize, usize, usize, bool), y: *mut f32) -> Scan {
    let of = |v: &[f32], row: usize, head: usize, channel: usize| Of { at: v.as_ptr(), row, head, channel };
    Scan {
        heads,
        channels,
        states,
        dt: of(&n.dt, heads, 1, 0),
        rate: of(&n.rate, 0, if each { states } else { 1 }, 0),
        each,
        x: of(&n.x, heads * channels, channels, 1),
        b: of(&n.b, heads * states, states, 0),
        c: of(&n.c, states, 0, 0),
        y,
    }
}

/// The same by row operations.
fn stepped(n: &Numbers, shape: (usize, usize, usize, bool), state: &mut [f32], y: &mut [f32]) {
    let (heads, channels, states, each) = shape;
    let p = Isa::Portable;
    let (mul, add) = (rows::binary(p, Binary::Mul), rows::binary(p, Binary::Add));
    for row in 0..ROWS {
        for unit in 0..heads * channels {
            let head = unit / channels;
            let dt = n.dt[row * heads + head];
            let rates: Vec<f32> =
                (0..states).map(|i| if each { n.rate[head * states + i] } else { n.rate[head] }).collect();
            let mut decay: Vec<f32> = rates.iter().map(|r| dt * r).collect();
            let dx = dt * n.x[row * heads * channels + unit];
            let mut added: Vec<f32> = (0..states).map(|i| dx * n.b[(row * heads + head) * states + i]).collect();
            let h = &mut state[unit * states..(unit + 1) * states];
            // SAFETY: rows of `states` numbers.
            unsafe {
                rows::unary(p, Unary::Exp)(decay.as_mut_ptr(), decay.as_ptr(), states);
                mul(decay.as_mut_ptr(), decay.as_ptr(), h.as_ptr(), states);
                add(added.as_mut_ptr(), decay.as_ptr(), added.as_ptr(), states);
                h.copy_from_slice(&added);
                y[row * heads * channels + unit] = rows::dot(p)(h.as_ptr(), n.c[row * states..].as_ptr(), states);
            }
        }
    }
}

fn bits(v: &[f32]) -> Vec<u32> {
    v.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn scans_have_the_bits_of_row_operations() {
    // Common steps; and some so large that a state is gone, or with rates that make it grow.
    for (shape, [steps, rates]) in
        SHAPES.into_iter().flat_map(|s| [[1.0, -4.0], [60.0, -4.0], [1.0, 1.0]].map(|r| (s, r)))
    {
        let (heads, channels, states, each) = shape;
        let units = heads * channels;
        let mut n = Numbers {
            dt: numbers(ROWS * heads, 1).iter().map(|x| steps * x.abs()).collect(),
            rate: numbers(heads * if each { states } else { 1 }, 2).iter().map(|x| rates * x.abs()).collect(),
            x: numbers(ROWS * units, 3),
            b: numbers(ROWS * heads * states, 4),
            c: numbers(ROWS * states, 5),
        };
        let mut first = numbers(units * states, 6);
        // One whose sums are of products that are too small to be numbers, and above or below zero.
        let small = 2.min(units - 1);
        first[small * states..(small + 1) * states].iter_mut().for_each(|x| *x *= 1e-30);
        (0..ROWS).for_each(|row| n.x[row * units + small] = 0.0);
        n.c[..2 * states].iter_mut().for_each(|x| *x *= 1e-30);
        let (mut state, mut y) = (first.clone(), vec![0.0; ROWS * units]);
        stepped(&n, shape, &mut state, &mut y);
        for isa in Isa::supported() {
            // Whole; by parts of the units and rows; in two steps a row.
            let all: Vec<u32> = (0..ROWS as u32).collect();
            for way in 0..3 {
                let (mut got, mut read) = (first.clone(), vec![f32::NAN; ROWS * units]);
                let s = described(&n, shape, read.as_mut_ptr());
                let at = got.as_mut_ptr();
                // SAFETY: `got` and `read` hold all units and rows.
                unsafe {
                    match way {
                        0 => scan(isa, Part::Both, &s, &all, 0..units, at),
                        1 => {
                            for part in [0..units / 3, units / 3..units] {
                                scan(isa, Part::Both, &s, &all[..3], part.clone(), at);
                                scan(isa, Part::Both, &s, &all[3..], part, at);
                            }
                        }
                        _ => {
                            for row in &all {
                                scan(isa, Part::State, &s, std::slice::from_ref(row), 0..units, at);
                                scan(isa, Part::Read, &s, std::slice::from_ref(row), 0..units, at);
                            }
                        }
                    }
                }
                assert_eq!(bits(&got), bits(&state), "{shape:?} {} {way}", isa.name());
                assert_eq!(bits(&read), bits(&y), "{shape:?} {} {way}", isa.name());
            }
        }
    }
}

#[test]
fn convolutions_add_one_product_after_another() {
    let (n, taps) = (77, 4);
    let (w, x) = (numbers(n * taps, 1), numbers(n * taps, 2));
    for count in 0..=taps {
        let at: Vec<(*const f32, *const f32)> =
            (0..count).map(|t| (w[t * n..].as_ptr(), x[t * n..].as_ptr())).collect();
        let sum = |i: usize| (0..count).fold(0.0f32, |s, t| s + w[t * n + i] * x[t * n + i]);
        let expected: Vec<f32> = (0..n).map(sum).collect();
        for isa in Isa::supported() {
            let mut got = vec![f32::NAN; n];
            // SAFETY: all rows have `n` numbers.
            unsafe {
                convolve(isa, got.as_mut_ptr(), &at, 0..20);
                convolve(isa, got.as_mut_ptr(), &at, 20..n);
            }
            assert_eq!(bits(&got), bits(&expected), "{count} {}", isa.name());
        }
    }
}
