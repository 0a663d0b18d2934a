//! One fused row kernel by each backend, beside the same written by hand with vector intrinsics.
//!
//! `h += alpha v; if dot(h, u) > t { h -= dot(h, u) u }; rescale to the norm that h had`, with rows of 4096 numbers. The
//! kernel is what the scheduler makes of the Plan below; nothing in it is written for this measurement.

use std::hint::black_box;
use std::time::Instant;
use steer_compiler::backend::{ROW_BACKENDS, RowKernels};
use steer_compiler::kernel::{Kernel, ParamKind};
use steer_compiler::plan::parse;
use steer_compiler::plan::rules::Options;
use steer_compiler::program::KernelId;
use steer_compiler::schedule::schedule;
use steer_kernels::Isa;

const D: usize = 4096;

const PLAN: &str = r#"plan 1 "row"
weight w0 "h" [token=16, d_model=4096]
weight w1 "v" [d_model=4096]
weight w2 "u" [d_model=4096]
region r0 () -> () {
  n0 [token=16, d_model=4096] = weight w0
  n1 [] index row = token
  n2 [d_model=4096] row = lookup n0, n1
  n3 [d_model=4096] = weight w1
  n4 [d_model=4096] = weight w2
  n5 [] = number 0.5
  n6 [] = number 0.125
  n7 [d_model=4096] row = mul n5, n3
  n8 [d_model=4096] row = add n2, n7
  n9 [d_model=4096] row = mul n8, n4
  n10 [] row = reduce sum n9 over [d_model]
  n11 [] bool row = gt n10, n6
  n12 [d_model=4096] row = mul n10, n4
  n13 [d_model=4096] row = sub n8, n12
  n14 [d_model=4096] row = select n11, n13, n8
  n15 [] row = reduce sum_sq n2 over [d_model]
  n16 [] row = sqrt n15
  n17 [] row = reduce sum_sq n14 over [d_model]
  n18 [] row = sqrt n17
  n19 [] row = div n16, n18
  n20 [d_model=4096] row = mul n14, n19
}
output "h" n20
"#;

const ALPHA: f32 = 0.5;
const T: f32 = 0.125;

/// The kernel that the scheduler makes of the Plan.
fn kernel() -> Result<Kernel, String> {
    let plan = parse(PLAN).map_err(|e| format!("{e:?}"))?;
    let (program, _) = schedule(&plan, &Options::default()).map_err(|d| d.message)?;
    match &program.kernels[..] {
        [kernel] => Ok(kernel.clone()),
        kernels => Err(format!("{} kernels instead of one", kernels.len())),
    }
}

/// Rows in, rows out, and the two vectors.
struct Rows {
    h: Vec<f32>,
    out: Vec<f32>,
    v: Vec<f32>,
    u: Vec<f32>,
}

impl Rows {
    fn new(rows: usize) -> Rows {
        let mut state = 1u64;
        let mut number = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let mut many = |n: usize| (0..n).map(|_| number()).collect::<Vec<f32>>();
        let (mut h, v, mut u) = (many(rows * D), many(D), many(D));
        let norm = u.iter().map(|x| x * x).sum::<f32>().sqrt();
        u.iter_mut().for_each(|x| *x /= norm);
        // Far enough along u that the condition holds on every row.
        h.chunks_mut(D).for_each(|row| row.iter_mut().zip(&u).for_each(|(x, u)| *x += 8.0 * u));
        Rows { h, out: vec![0.0; rows * D], v, u }
    }
}

/// A compiled kernel with its arguments in order.
struct Compiled {
    kernels: Box<dyn RowKernels>,
    kernel: Kernel,
    scratch: Vec<f32>,
}

impl Compiled {
    fn call(&mut self, rows: &mut Rows, count: usize) -> Result<(), String> {
        let mut consts = 0;
        let mut args = Vec::new();
        for p in &self.kernel.params {
            args.push(match (p.kind, p.out) {
                (ParamKind::Rows, false) => rows.h.as_mut_ptr(),
                (ParamKind::Rows, true) => rows.out.as_mut_ptr(),
                (ParamKind::Const, _) => {
                    consts += 1;
                    if consts == 1 { rows.v.as_mut_ptr() } else { rows.u.as_mut_ptr() }
                }
                (kind, _) => return Err(format!("an argument that is {}", kind.name())),
            });
        }
        // SAFETY: each argument has the length and the rows that the kernel wants.
        unsafe { self.kernels.call(KernelId(0), &args, 0..count, 1, &mut self.scratch) }
        Ok(())
    }
}

#[cfg(target_arch = "x86_64")]
mod by_hand {
    use super::{ALPHA, D, Rows, T};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx2,fma")]
    fn sum8(v: [__m256; 4]) -> f32 {
        let v = _mm256_add_ps(_mm256_add_ps(v[0], v[1]), _mm256_add_ps(v[2], v[3]));
        let a = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
        _mm_cvtss_f32(_mm_add_ss(a, _mm_shuffle_ps::<1>(a, a)))
    }

    /// # Safety
    /// The processor has AVX2 and FMA, and `rows` has so many rows.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2(rows: &mut Rows, count: usize) {
        let (v, u) = (rows.v.as_ptr(), rows.u.as_ptr());
        for r in 0..count {
            let (h, out) = (rows.h[r * D..].as_ptr(), rows.out[r * D..].as_mut_ptr());
            // SAFETY: all pointers are to D numbers.
            unsafe {
                let alpha = _mm256_set1_ps(ALPHA);
                let zero = _mm256_setzero_ps();
                let (mut dot, mut before) = ([zero; 4], [zero; 4]);
                for i in (0..D).step_by(32) {
                    for k in 0..4 {
                        let at = i + 8 * k;
                        let x = _mm256_loadu_ps(h.add(at));
                        before[k] = _mm256_fmadd_ps(x, x, before[k]);
                        let x = _mm256_fmadd_ps(alpha, _mm256_loadu_ps(v.add(at)), x);
                        _mm256_storeu_ps(out.add(at), x);
                        dot[k] = _mm256_fmadd_ps(x, _mm256_loadu_ps(u.add(at)), dot[k]);
                    }
                }
                let (dot, before) = (sum8(dot), sum8(before));
                let mut after = [zero; 4];
                if dot > T {
                    let by = _mm256_set1_ps(-dot);
                    for i in (0..D).step_by(32) {
                        for (k, sum) in after.iter_mut().enumerate() {
                            let at = i + 8 * k;
                            let x = _mm256_fmadd_ps(by, _mm256_loadu_ps(u.add(at)), _mm256_loadu_ps(out.add(at)));
                            _mm256_storeu_ps(out.add(at), x);
                            *sum = _mm256_fmadd_ps(x, x, *sum);
                        }
                    }
                } else {
                    for i in (0..D).step_by(32) {
                        for (k, sum) in after.iter_mut().enumerate() {
                            let x = _mm256_loadu_ps(out.add(i + 8 * k));
                            *sum = _mm256_fmadd_ps(x, x, *sum);
                        }
                    }
                }
                let by = _mm256_set1_ps(before.sqrt() / sum8(after).sqrt());
                for i in (0..D).step_by(32) {
                    for k in 0..4 {
                        let at = out.add(i + 8 * k);
                        _mm256_storeu_ps(at, _mm256_mul_ps(_mm256_loadu_ps(at), by));
                    }
                }
            }
        }
    }

    /// # Safety
    /// The processor has AVX-512 F, and `rows` has so many rows.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn avx512(rows: &mut Rows, count: usize) {
        let (v, u) = (rows.v.as_ptr(), rows.u.as_ptr());
        for r in 0..count {
            let (h, out) = (rows.h[r * D..].as_ptr(), rows.out[r * D..].as_mut_ptr());
            let sum = |v: [__m512; 4]| {
                _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(v[0], v[1]), _mm512_add_ps(v[2], v[3])))
            };
            // SAFETY: all pointers are to D numbers.
            unsafe {
                let alpha = _mm512_set1_ps(ALPHA);
                let zero = _mm512_setzero_ps();
                let (mut dot, mut before) = ([zero; 4], [zero; 4]);
                for i in (0..D).step_by(64) {
                    for k in 0..4 {
                        let at = i + 16 * k;
                        let x = _mm512_loadu_ps(h.add(at));
                        before[k] = _mm512_fmadd_ps(x, x, before[k]);
                        let x = _mm512_fmadd_ps(alpha, _mm512_loadu_ps(v.add(at)), x);
                        _mm512_storeu_ps(out.add(at), x);
                        dot[k] = _mm512_fmadd_ps(x, _mm512_loadu_ps(u.add(at)), dot[k]);
                    }
                }
                let (dot, before) = (sum(dot), sum(before));
                let mut after = [zero; 4];
                if dot > T {
                    let by = _mm512_set1_ps(-dot);
                    for i in (0..D).step_by(64) {
                        for (k, sum) in after.iter_mut().enumerate() {
                            let at = i + 16 * k;
                            let x = _mm512_fmadd_ps(by, _mm512_loadu_ps(u.add(at)), _mm512_loadu_ps(out.add(at)));
                            _mm512_storeu_ps(out.add(at), x);
                            *sum = _mm512_fmadd_ps(x, x, *sum);
                        }
                    }
                } else {
                    for i in (0..D).step_by(64) {
                        for (k, sum) in after.iter_mut().enumerate() {
                            let x = _mm512_loadu_ps(out.add(i + 16 * k));
                            *sum = _mm512_fmadd_ps(x, x, *sum);
                        }
                    }
                }
                let by = _mm512_set1_ps(before.sqrt() / sum(after).sqrt());
                for i in (0..D).step_by(64) {
                    for k in 0..4 {
                        let at = out.add(i + 16 * k);
                        _mm512_storeu_ps(at, _mm512_mul_ps(_mm512_loadu_ps(at), by));
                    }
                }
            }
        }
    }
}

type Contestant = (String, Box<dyn FnMut(&mut Rows, usize) -> Result<(), String>>);

fn by_hand() -> Vec<Contestant> {
    let mut out: Vec<Contestant> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has it.
            out.push((
                "by hand, AVX-512".into(),
                Box::new(|r, n| unsafe {
                    by_hand::avx512(r, n);
                    Ok(())
                }),
            ));
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has it.
            out.push((
                "by hand, AVX2".into(),
                Box::new(|r, n| unsafe {
                    by_hand::avx2(r, n);
                    Ok(())
                }),
            ));
        }
    }
    out
}

pub fn measure() -> Result<(), String> {
    let kernel = kernel()?;
    println!("{kernel}\n");
    let mut contestants = by_hand();
    let mut latencies = Vec::new();
    for backend in ROW_BACKENDS {
        let compile = || backend.compile(std::slice::from_ref(&kernel), Isa::detect()).map_err(|d| d.message);
        compile()?;
        let best = (0..20).map(|_| {
            let start = Instant::now();
            compile().map(|_| start.elapsed().as_secs_f64() * 1e3)
        });
        latencies
            .push((backend.name(), best.collect::<Result<Vec<f64>, String>>()?.into_iter().fold(f64::MAX, f64::min)));
        let kernels = compile()?;
        let scratch = vec![0.0; kernels.scratch_len(KernelId(0), 1)];
        let mut compiled = Compiled { kernels, kernel: kernel.clone(), scratch };
        contestants.push((backend.name().into(), Box::new(move |r, n| compiled.call(r, n))));
    }
    // All compute the same, but for the order of sums.
    let mut rows = Rows::new(4);
    let mut first: Option<Vec<f32>> = None;
    for (name, run) in &mut contestants {
        rows.out.fill(0.0);
        run(&mut rows, 4)?;
        let expected = first.get_or_insert_with(|| rows.out.clone());
        let off = rows.out.iter().zip(expected).map(|(a, b)| (*a - *b).abs()).fold(0.0, f32::max);
        if off.is_nan() || off > 1e-4 {
            return Err(format!("{name} is off by {off}"));
        }
    }
    println!("microseconds a row, and how often the first one's time ({})", Isa::detect().name());
    println!("{:20} {:>16} {:>16} {:>16}", "", "1 row", "64 rows", "1024 rows");
    let mut table: Vec<Vec<f64>> = vec![Vec::new(); contestants.len()];
    for count in [1usize, 64, 1024] {
        let mut rows = Rows::new(count);
        let mut best = vec![f64::MAX; contestants.len()];
        // In turns, so that what else the machine does meets all of them.
        for turn in 0..40 {
            for (i, (name, run)) in contestants.iter_mut().enumerate() {
                let slow = name == "interp";
                if slow && turn > 0 {
                    continue;
                }
                let times = if slow { 1 } else { (2048 / count).max(1) };
                let start = Instant::now();
                for _ in 0..times {
                    run(black_box(&mut rows), count)?;
                }
                best[i] = best[i].min(start.elapsed().as_secs_f64() / (times * count) as f64);
            }
        }
        table.iter_mut().zip(best).for_each(|(line, b)| line.push(b));
    }
    for ((name, _), line) in contestants.iter().zip(&table) {
        let cells = line.iter().zip(&table[0]).map(|(t, f)| format!("{:>9.3} {:>5.2}x", t * 1e6, t / f));
        println!("{name:20} {}", cells.collect::<Vec<_>>().join(" "));
    }
    println!();
    for (name, ms) in latencies {
        println!("{name:20} compiles in {ms:.2} ms");
    }
    Ok(())
}
