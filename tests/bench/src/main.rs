//! What hooks cost, and how steer compares with candle-transformers on the GPT-2-small shape:
//! `cargo run --release -p steer-bench --features candle [-- --threads N] [--turns N]`.
//!
//! The checkpoint has random weights and is written to a temporary folder (500 MB). Of the models of
//! candle-transformers that run, StarCoder2 is the nearest to GPT-2: the same widths, heads, norms,
//! biases, MLP and tied unembedding, with rotary positions instead of learned ones. `starcoder2.steer`
//! describes it to steer, both read the same file, and their logits are compared first.
//!
//! The machine's speed drifts, so all models take turns, and what is printed are medians over the turns:
//! of the rates, and of the shares within a turn.

mod checkpoint;
#[allow(dead_code)]
#[path = "../../../runtime/kernels/examples/limits.rs"]
mod limits;
mod models;

use checkpoint::Random;
use models::{Candle, Model, Steer};
use std::hint::black_box;
use std::time::Instant;
use steer_kernels::{Isa, rows};

struct Options {
    threads: usize,
    turns: usize,
}

fn main() -> Result<(), String> {
    let options = options()?;
    // SAFETY: no other thread runs yet. Both sides ask this variable.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", options.threads.to_string()) };
    let folder = std::env::temp_dir().join(format!("steer-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    let done = measure(&folder, &options);
    let _ = std::fs::remove_dir_all(&folder);
    done
}

fn options() -> Result<Options, String> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut o = Options { threads: cores, turns: 9 };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let number = args.next().and_then(|v| v.parse().ok()).filter(|n| *n > 0);
        match (name.as_str(), number) {
            ("--threads", Some(n)) => o.threads = n,
            ("--turns", Some(n)) => o.turns = n,
            _ => return Err("the options are --threads N and --turns N".into()),
        }
    }
    Ok(o)
}

fn measure(folder: &std::path::Path, options: &Options) -> Result<(), String> {
    println!("{}, {} thread(s), {} turns", Isa::detect().name(), options.threads, options.turns);
    println!("writing 500 MB of random weights to {}", folder.display());
    checkpoint::write(folder).map_err(|e| e.to_string())?;
    let (read, peak) = machine(options.threads);
    println!("the machine reads {:.1} GB/s and computes {:.0} GFLOP/s at most", read / 1e9, peak / 1e9);
    let candle = Candle::open(folder).map_err(|e| e.to_string())?;
    let mut models: Vec<(&str, Box<dyn Model>)> = vec![("candle", Box::new(candle))];
    for (name, hooks) in [("steer", &[][..]), ("steer, one hook", &["one"]), ("steer, a hook on every layer", &["every"])] {
        models.push((name, Box::new(Steer::open(folder, hooks)?)));
    }
    agree(&mut models)?;

    let mut random = Random(2);
    let tokens: Vec<u32> = (0..512).map(|_| random.token()).collect();
    for n in [128, 512] {
        let seconds = turns(&mut models, options.turns, |m| {
            m.begin();
            let clock = Instant::now();
            black_box(m.extend(&tokens[..n]));
            clock.elapsed().as_secs_f64()
        });
        let most = peak / checkpoint::operations(n);
        print(&format!("prompt of {n} tokens"), &models, &seconds, n, most, "of the arithmetic");
    }
    let seconds = turns(&mut models, options.turns, |m| {
        m.begin();
        m.extend(&tokens[..16]);
        let clock = Instant::now();
        for t in &tokens[16..80] {
            black_box(m.extend(&[*t]));
        }
        clock.elapsed().as_secs_f64()
    });
    let most = read / checkpoint::weight_bytes() / 64.0;
    print("64 new tokens after 16", &models, &seconds, 64, most, "of the bandwidth");
    Ok(())
}

/// Checks that candle and steer compute the same.
fn agree(models: &mut [(&str, Box<dyn Model>)]) -> Result<(), String> {
    let mut random = Random(3);
    let tokens: Vec<u32> = (0..48).map(|_| random.token()).collect();
    let mut logits = Vec::new();
    for (_, m) in models.iter_mut().take(2) {
        m.begin();
        m.extend(&tokens[..40]);
        logits.push(tokens[40..].iter().map(|t| m.extend(&[*t])).next_back().unwrap_or_default());
    }
    let most = logits[0].iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let apart = logits[0].iter().zip(&logits[1]).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    println!("logits of candle and steer are at most {:.1e} apart, of {most:.1}\n", apart);
    if apart < 1e-4 * most { Ok(()) } else { Err("they do not compute the same".into()) }
}

/// By model, the seconds of each turn; who begins moves on from turn to turn.
fn turns(
    models: &mut [(&str, Box<dyn Model>)],
    turns: usize,
    mut work: impl FnMut(&mut dyn Model) -> f64,
) -> Vec<Vec<f64>> {
    let n = models.len();
    let mut seconds = vec![Vec::new(); n];
    for turn in 0..turns + 1 {
        for i in 0..n {
            let at = (turn + i) % n;
            let s = work(models[at].1.as_mut());
            // The first turn warms up.
            if turn > 0 {
                seconds[at].push(s);
            }
        }
    }
    seconds
}

/// A table: the rate, the time against the same turn of steer without hooks, and the share of what the machine
/// could do at most (`most` times a second).
fn print(title: &str, models: &[(&str, Box<dyn Model>)], seconds: &[Vec<f64>], tokens: usize, most: f64, of: &str) {
    println!("{title}");
    for ((name, _), own) in models.iter().zip(seconds) {
        let against: Vec<f64> = own.iter().zip(&seconds[1]).map(|(a, b)| a / b).collect();
        let time = limits::median(own.clone());
        println!(
            "    {name:<30} {:>8.1} tokens/s   time {:>6.1}%   {:>3.0}% {of}",
            tokens as f64 / time,
            100.0 * limits::median(against),
            100.0 / time / most,
        );
    }
    println!();
}

/// Bytes read and multiplications or additions done in a second by all threads.
fn machine(threads: usize) -> (f64, f64) {
    let isa = Isa::detect();
    let dot = rows::dot(isa);
    let data = vec![1.0f32; 100 << 20];
    let (registers, operations) = limits::peak(isa);
    let read = |t: usize| {
        let part = &data[data.len() * t / threads..data.len() * (t + 1) / threads];
        let (a, b) = part.split_at(part.len() / 2);
        // SAFETY: both halves hold as many floats.
        black_box(unsafe { dot(a.as_ptr(), b.as_ptr(), a.len()) });
    };
    let times = limits::in_turns(threads, 9, &[&read, &|_| registers()]);
    let rate = |i: usize, amount: f64| amount / limits::median(times[i].clone());
    (rate(0, data.len() as f64 * 4.0), rate(1, operations * threads as f64))
}
