//! What hooks cost, and how steer compares with candle-transformers on the GPT-2-small shape:
//! `cargo run --release -p steer-bench --features candle [-- --threads N] [--turns N]`.
//!
//! The checkpoint has random weights and is written to a temporary folder (500 MB). Of the models of
//! candle-transformers that run, StarCoder2 is the nearest to GPT-2: the same widths, heads, norms,
//! biases, MLP and tied unembedding, with rotary positions instead of learned ones. `starcoder2.steer`
//! describes it to steer, both read the same file, and their logits are compared first.
//!
//! The machine's speed drifts, so all models take turns, and what is printed are medians over the turns:
//! of the rates, and of the time against the same turn of steer without hooks. The fastest turn is printed,
//! too: on a machine with other work it says more.

mod candle;
mod checkpoint;
mod machine;
#[path = "steer.rs"]
mod steer_model;

use candle::Candle;
use checkpoint::Random;
use std::hint::black_box;
use std::time::Instant;
use steer_kernels::Isa;
use steer_model::{Model, Steer};

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
    let candle = Candle::open(folder).map_err(|e| e.to_string())?;
    let mut models: Vec<(&str, Box<dyn Model>)> = vec![("candle", Box::new(candle))];
    for (name, hooks) in
        [("steer", &[][..]), ("steer, one hook", &["one"]), ("steer, a hook on every layer", &["every"])]
    {
        models.push((name, Box::new(Steer::open(folder, "hooks.steer", Some("starcoder2.steer"), hooks)?)));
    }
    agree(&mut models)?;

    let mut random = Random(2);
    let tokens: Vec<u32> = (0..512).map(|_| random.token()).collect();
    let numbers = vec![1.0f32; 100 << 20];
    for n in [128, 512] {
        let turns = turns(&mut models, options.turns, |models, order| {
            let peak = machine::peak(options.threads);
            let mut seconds = vec![0.0; models.len()];
            for &at in order {
                let m = &mut models[at].1;
                m.begin();
                let clock = Instant::now();
                black_box(m.extend(&tokens[..n]));
                seconds[at] = clock.elapsed().as_secs_f64();
            }
            Turn { seconds, least: checkpoint::operations(n) / peak, most: peak }
        });
        print(&format!("prompt of {n} tokens"), &models, &turns, n, "GFLOP/s");
    }
    // Token by token, so that all models meet the same moments of the machine.
    let turns = turns(&mut models, options.turns, |models, order| {
        let read = machine::read(options.threads, &numbers);
        let mut seconds = vec![0.0; models.len()];
        for (_, m) in models.iter_mut() {
            m.begin();
            m.extend(&tokens[..16]);
        }
        for t in &tokens[16..80] {
            for &at in order {
                let clock = Instant::now();
                black_box(models[at].1.extend(&[*t]));
                seconds[at] += clock.elapsed().as_secs_f64();
            }
        }
        Turn { seconds, least: 64.0 * checkpoint::weight_bytes() / read, most: read }
    });
    print("64 new tokens after 16", &models, &turns, 64, "GB/s");
    Ok(())
}

/// Checks that candle and steer compute the same.
fn agree(models: &mut Models) -> Result<(), String> {
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

type Models<'a> = [(&'a str, Box<dyn Model>)];

/// One turn of all models.
struct Turn {
    /// By model.
    seconds: Vec<f64>,
    /// What the machine would need at its limit, and that limit, measured in the same turn.
    least: f64,
    most: f64,
}

/// Who begins moves on from turn to turn; the first turn warms up.
fn turns(models: &mut Models, turns: usize, mut work: impl FnMut(&mut Models, &[usize]) -> Turn) -> Vec<Turn> {
    let n = models.len();
    let all = (0..=turns).map(|turn| {
        let order: Vec<usize> = (0..n).map(|i| (turn + i) % n).collect();
        work(models, &order)
    });
    all.skip(1).collect()
}

/// A table: the rate, that of the fastest turn, the time against the same turn of steer without hooks, and the
/// share of what the machine could do at most in that turn.
fn print(title: &str, models: &Models, turns: &[Turn], tokens: usize, unit: &str) {
    let median = |f: &dyn Fn(&Turn) -> f64| machine::median(turns.iter().map(f).collect());
    println!("{title} (the machine: {:.1} {unit})", median(&|t| t.most) / 1e9);
    for (i, (name, _)) in models.iter().enumerate() {
        let fastest = turns.iter().map(|t| t.seconds[i]).fold(f64::INFINITY, f64::min);
        println!(
            "    {name:<30} {:>7.1} tokens/s, at best {:>7.1}   time {:>6.1}%   {:>3.0}% of the machine",
            median(&|t| tokens as f64 / t.seconds[i]),
            tokens as f64 / fastest,
            median(&|t| 100.0 * t.seconds[i] / t.seconds[1]),
            median(&|t| 100.0 * t.least / t.seconds[i]),
        );
    }
    println!();
}
