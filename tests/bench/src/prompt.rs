//! What an input takes at the prompt, from the enter key to the end of what it prints: a hook is changed, and one token is
//! made with it.

use std::path::PathBuf;
use std::time::Instant;
use steer::experiment::{PhaseOptions, SessionOptions};
use steer::hub::Hub;
use steer::repl::Repl;

/// Prints the median and the longest of so many inputs, after one that loads the model.
pub fn run(model: &str, turns: usize) -> Result<(), String> {
    let options = SessionOptions { model: Some(model.to_owned()), hub: Hub::from_env(), ..SessionOptions::default() };
    let mut repl = Repl::new(PathBuf::from("."), options, PhaseOptions::default());
    let mut enter = |text: &str| {
        let clock = Instant::now();
        match repl.enter(text).1 {
            true => Ok(clock.elapsed().as_secs_f64() * 1000.0),
            false => Err(format!("an error in {text}")),
        }
    };
    let hook =
        |alpha: usize| format!("hook push at blocks[1].resid.post {{\n    h *= {}\n}}", 1.0 + alpha as f64 / 64.0);
    let run = "generate \"Tom went to the\" with push { max: 1 }";
    let first = enter(&hook(0))? + enter(run)?;
    let mut defined = Vec::new();
    let mut made = Vec::new();
    for turn in 1..=turns {
        defined.push(enter(&hook(turn))?);
        made.push(enter(run)?);
    }
    let mut whole: Vec<f64> = defined.iter().zip(&made).map(|(a, b)| a + b).collect();
    for all in [&mut defined, &mut made, &mut whole] {
        all.sort_by(f64::total_cmp);
    }
    let median = |v: &[f64]| v[v.len() / 2];
    eprintln!(
        "{model}: the first input {first:.1} ms; then a changed hook {:.1} ms and a token with it {:.1} ms, together {:.1} ms (longest {:.1}) over {turns} turns",
        median(&defined),
        median(&made),
        median(&whole),
        whole.last().copied().unwrap_or(0.0),
    );
    Ok(())
}
