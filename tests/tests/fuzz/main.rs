//! Ten thousand random changes to each kind of input: each is read or refused, soon, and nothing panics.
//!
//! `STEER_FUZZ_SECONDS=600 cargo test --release --workspace --test fuzz` changes each kind for ten minutes, otherwise every
//! time. What fails is written to `tests/found/KIND-...`, and tried first from then on.

mod models;
mod scripts;
mod tensors;
mod texts;
mod typed;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime};
use steer_tests::cases::{package, read};

const TIMES: usize = 10_000;

/// On a busy machine; alone, none takes half of it.
const LIMIT: Duration = Duration::from_secs(60);

/// No single input takes longer; nor, where the machine is busy for long, than some times that.
const EACH: Duration = Duration::from_secs(8);
const EACH_OF_MANY: Duration = Duration::from_secs(20);

/// Numbers that look random and are the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n.max(1)
    }

    /// One change or two: a word replaced by another or written over, or bytes changed, removed, inserted, repeated.
    fn mutate(&mut self, seed: &[u8], words: &[&str]) -> Vec<u8> {
        let mut out = seed.to_vec();
        for _ in 0..1 + self.below(2) {
            let at = self.below(out.len() + 1);
            let end = (at + 1 + self.below(12)).min(out.len());
            match self.below(12) {
                0 if at < out.len() => out[at] = self.below(256) as u8,
                1 if at < end => drop(out.drain(at..end)),
                2 => out.insert(at, b"0123456789-{}[]()\",:.=+*|&!#\n"[self.below(29)]),
                3 if at < end => {
                    let part = out[at..end].to_vec();
                    let to = self.below(out.len());
                    out.splice(to..to, part);
                }
                4 => out.truncate(at.max(1)),
                5 if at < out.len() => {
                    // Lengths stay as they are, so that files with lengths in them are read on.
                    let word = words[self.below(words.len())].as_bytes();
                    out[at..].iter_mut().zip(word).for_each(|(to, from)| *to = *from);
                }
                _ => {
                    // A whole word, so that many texts still parse.
                    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.';
                    let from = out[..at].iter().rposition(|b| !is_word(*b)).map_or(0, |p| p + 1);
                    let to = out[at..].iter().position(|b| !is_word(*b)).map_or(out.len(), |p| at + p);
                    let word = words[self.below(words.len())];
                    out.splice(from..to, word.bytes());
                }
            }
        }
        out
    }
}

/// Feeds changed copies of the seeds to `f`, which says whether it was taken. Some must be, and some not.
fn mutated(kind: &str, seeds: &[Vec<u8>], words: &[&str], mut f: impl FnMut(usize, Vec<u8>) -> bool) {
    let long = std::env::var("STEER_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok()).map(Duration::from_secs);
    for (name, bytes) in found(kind) {
        let tried = one(0, bytes, &mut f);
        tried.unwrap_or_else(|what| panic!("tests/found/{name} {what}"));
    }
    let time = SystemTime::UNIX_EPOCH.elapsed().map_or(1, |t| t.as_nanos() as u64 | 1);
    let mut random = Random(if long.is_some() { time } else { 0x9E37_79B9_7F4A_7C15 });
    let clock = Instant::now();
    let (mut taken, mut times) = (0, 0);
    while long.map_or(times < TIMES, |long| clock.elapsed() < long) {
        let bytes = random.mutate(&seeds[times % seeds.len()], words);
        match one(times, bytes.clone(), &mut f) {
            Ok(yes) => taken += usize::from(yes),
            Err(what) => {
                if long.is_some() {
                    let name = format!("{kind}-{time:x}-{times}");
                    std::fs::write(package("found").join(&name), &bytes).expect("tests/found can be written");
                }
                panic!("{kind} {times} {what}:\n{}", String::from_utf8_lossy(&bytes));
            }
        }
        assert!(long.is_some() || clock.elapsed() < LIMIT, "only {times} in {LIMIT:?}");
        times += 1;
    }
    println!("{kind}: {taken} of {times} were taken, in {:.1} s", clock.elapsed().as_secs_f64());
    assert!(0 < taken && taken < times, "{taken} of {times} were taken");
}

/// Whether an input was taken, or what is wrong.
fn one(number: usize, bytes: Vec<u8>, f: &mut impl FnMut(usize, Vec<u8>) -> bool) -> Result<bool, String> {
    let clock = Instant::now();
    let taken = catch_unwind(AssertUnwindSafe(|| f(number, bytes))).map_err(|_| "panics".to_owned())?;
    let most = if std::env::var_os("STEER_FUZZ_SECONDS").is_some() { EACH_OF_MANY } else { EACH };
    match clock.elapsed() {
        long if long > most => Err(format!("took {long:?}")),
        _ => Ok(taken),
    }
}

/// Inputs of this kind that once failed.
fn found(kind: &str) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(package("found")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.retain(|n| n.strip_prefix(kind).is_some_and(|rest| rest.starts_with('-')));
    names.sort();
    names.into_iter().map(|n| (n.clone(), read(&package("found").join(n)))).collect()
}
