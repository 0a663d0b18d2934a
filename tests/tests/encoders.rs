//! Encoders: a row sees its whole text, and nothing of what is computed beside it.

use std::path::Path;
use steer::experiment::{self, ModelSession, PhaseOptions};
use steer::report::Output;
use steer_lang::codes;
use steer_tests::fixture::{ENCODERS, checkpoints, folder, model};
use steer_tests::script::{Scratch, session, words};

const DECLARED: &str = "hook late at blocks[0].resid.post on [9] { h *= 2 }\n\
    hook row at blocks[1].attn.pattern on [2] {\n    h[head = 1] = 0\n    h[head = 1, key = 9] = 1\n}\n\
    patch given at blocks[0].attn.scores on [3] from c\n\
    patch stream at blocks[0].resid.post on [5] from b\n\
    metric first = log_prob(7) at [0]\n\
    metric all = norm(blocks[1].resid.post) at seq\n\
    metric own = logit(3) - logit(4) at [2..6]\n";

const RUNS: &[&str] =
    &["a", "b", "c", "short", "a", "a with late", "a with row", "a with given", "a with stream", "b with late, row"];

fn prompts() -> String {
    let a = [4, 9, 2, 30, 17, 8, 21, 5, 11, 40];
    let b = [4, 9, 2, 30, 17, 8, 33, 6, 12, 41];
    let mut c = a;
    c[9] = 39;
    let named = [("a", &a[..]), ("b", &b), ("c", &c), ("short", &a[..7])];
    named.iter().map(|(name, tokens)| format!("prompt {name} = \"{}\"\n", words(tokens))).collect()
}

/// What is measured of these runs, a column a metric.
fn measured(model: &ModelSession, at: &Path, runs: &[&str], options: &PhaseOptions) -> Vec<Vec<f64>> {
    let text = format!("{}{DECLARED}measure first, all, own on {}\n", prompts(), runs.join(", "));
    let session = session(model, at, &text).unwrap_or_else(|d| panic!("{d:#?}\n{text}"));
    let done = experiment::run(&session, options, &mut |_| Ok(())).unwrap_or_else(|d| panic!("{d:#?}\n{text}"));
    let tables = done.outputs.into_iter().filter_map(|o| if let Output::Table(f) = o { Some(f) } else { None });
    tables.flat_map(|f| f.columns).map(|c| c.values).collect()
}

fn each(f: &mut dyn FnMut(&str, &ModelSession, &Path)) {
    for name in checkpoints().iter().filter(|n| ENCODERS.iter().any(|f| n.starts_with(&format!("{f}-")))) {
        let scratch = Scratch::new(&format!("encoders-{name}"));
        f(name, &model(&folder("parity").join(name)), &scratch.0);
    }
}

#[test]
fn what_is_computed_beside_a_text_changes_no_bit() {
    each(&mut |name, model, at| {
        let together = measured(model, at, RUNS, &PhaseOptions::default());
        for options in [
            PhaseOptions { chunk: 3, ..PhaseOptions::default() },
            PhaseOptions { share: false, ..PhaseOptions::default() },
            PhaseOptions { memory: Some(1 << 24), ..PhaseOptions::default() },
        ] {
            assert_eq!(together, measured(model, at, RUNS, &options), "{name} {options:?}");
        }
        for (i, run) in RUNS.iter().enumerate() {
            let alone = measured(model, at, &[run], &PhaseOptions::default());
            for (m, (column, own)) in together.iter().zip(&alone).enumerate() {
                assert_eq!(column[i].to_bits(), own[0].to_bits(), "{name}: metric {m} of {run}");
            }
        }
    });
}

#[test]
fn the_reference_says_the_same() {
    each(&mut |name, model, at| {
        let have = measured(model, at, RUNS, &PhaseOptions::default());
        for backend in ["interp", "candle"] {
            let options = PhaseOptions { backend: backend.into(), ..PhaseOptions::default() };
            for (a, b) in have.iter().flatten().zip(measured(model, at, RUNS, &options).iter().flatten()) {
                assert!((a - b).abs() <= 1e-4 * (1.0 + a.abs()), "{name} {backend}: {a} and {b}");
            }
        }
    });
}

#[test]
fn a_row_sees_those_behind_it() {
    each(&mut |name, model, at| {
        let found = measured(model, at, RUNS, &PhaseOptions::default());
        let first = |run: &str| found[0][RUNS.iter().position(|r| *r == run).expect("a run")];
        for other in ["c", "b", "short", "a with late", "a with stream"] {
            assert!((first("a") - first(other)).abs() > 1e-5, "{name}: {other}");
        }
    });
}

#[test]
fn what_is_causal_is_refused_with_its_place() {
    each(&mut |name, model, at| {
        for (text, place) in [
            ("generate a { max: 2 }", "a"),
            ("measure cross_entropy() on a", "cross_entropy()"),
            ("measure log_prob(7) on a", "log_prob(7)"),
            ("hook h1 at blocks[0].mlp.out on all | generated { h = 0 }\nmeasure own on a with h1", "generated"),
        ] {
            let text = format!("{}{DECLARED}{text}\n", prompts());
            let Err(found) = session(model, at, &text) else { panic!("{name}: {text}") };
            let d = found.iter().find(|d| d.code == codes::WHOLE_TEXT).unwrap_or_else(|| panic!("{found:#?}"));
            let span = d.labels[0].span;
            assert_eq!(&text[span.start as usize..span.end as usize], place);
            assert!(d.help.is_some());
        }
    });
}
