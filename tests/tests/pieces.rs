//! An experiment in pieces gives what it gives in one, bit for bit.

use std::path::Path;
use steer::experiment::{self, Done, PhaseOptions, Session, SessionOptions, prepare_all};
use steer::report::Output;
use steer_lang::{Sources, codes};

const STATEMENTS: &str = r#"
prompt clean = "When Mary and John went to the shop, John gave a drink to"
prompt corrupt = "When Mary and John went to the shop, Mary gave a drink to"
metric ld = logit(1000) - logit(1001) at seq[-1]
hook less(a = 0.5) at blocks[1].mlp.out on prompt { h *= a }
hook grown at blocks[1].mlp.out { h *= 0.5 }

sweep parts over b in blocks, t in tokens(corrupt)[8..], a in [0.5, 1] {
    hook b.mlp.out on t from clean { h += a * (donor - h) }
    measure ld, kl(clean) on corrupt with less normalized by (corrupt, clean)
}
measure ld, blocks[1].mlp.out[d_model = 3] on clean, corrupt with less
generate clean with grown { max: 6, stop: false, temperature: 0.9 }
generate corrupt { max: 6, stop: false }
"#;

/// Grouped heads with rotary positions, and learned positions.
const MODELS: &[&str] = &["tiny-llama", "tiny-gpt2"];

fn session(model: &str) -> Session {
    let text = format!("model \"{model}\"\n{STATEMENTS}");
    Session::open_text(Path::new("pieces.steer"), text, &SessionOptions::default(), &mut Sources::default())
        .unwrap_or_else(|d| panic!("{d:#?}"))
}

fn run(session: &Session, memory: Option<u64>) -> Done {
    let options = PhaseOptions { memory, ..PhaseOptions::default() };
    experiment::run(session, &options, &mut |_| Ok(())).unwrap_or_else(|d| panic!("{d:#?}"))
}

/// What was given, every bit of it.
fn bits(done: &Done) -> Vec<String> {
    let one = |o: &Output| match o {
        Output::Table(f) => f.columns.iter().flat_map(|c| &c.values).map(|x| format!("{:x} ", x.to_bits())).collect(),
        other => format!("{other:?}"),
    };
    done.outputs.iter().map(one).collect()
}

#[test]
fn a_limit_on_memory_changes_no_bit() {
    for model in MODELS {
        let session = session(model);
        let whole = run(&session, None);
        let needs = prepare_all(&session, &PhaseOptions::default()).unwrap().needs(&PhaseOptions::default()).unwrap();
        let rows = needs.buffers + needs.caches + needs.outputs;
        for part in [4, 2] {
            let limit = needs.weights + needs.reading.max(rows / part);
            let cut = run(&session, Some(limit));
            assert_eq!(bits(&whole), bits(&cut), "{model} in {part}");
            assert_eq!(whole.receipts, cut.receipts, "{model} in {part}");
            // What pieces share is computed in each: they were cut indeed.
            assert!(cut.results.work.rows.computed > whole.results.work.rows.computed, "{model} in {part}");
        }
    }
}

#[test]
fn what_no_piece_fits_into_is_refused() {
    let session = session("tiny-llama");
    let options = PhaseOptions { memory: Some(100_000), ..PhaseOptions::default() };
    let Err(found) = experiment::run(&session, &options, &mut |_| Ok(())) else { panic!("it ran") };
    assert_eq!(found[0].code, codes::MEMORY);
    assert!(found[0].message.ends_with("--memory allows 100 kB"), "{}", found[0].message);
}

/// Where a pass has many rows, instructions that work row by row are executed together, some rows at a time.
#[test]
fn many_rows_at_once_are_the_same_bits_as_one_position_after_another() {
    let names = ["Tom", "Lily", "Ben", "Mary", "Anna", "John"];
    let texts = names.iter().flat_map(|a| names.iter().map(move |b| format!("{a:?} went to the park with {b}")));
    let texts: Vec<String> = texts.map(|t| format!("{:?}", t.replace('"', ""))).collect();
    for (model, site) in
        [("tiny-gpt2", "attn.out"), ("tiny-llama", "attn.out"), ("tiny-mamba", "ssm.out"), ("tiny-mixtral", "attn.out")]
    {
        let text = format!(
            "model {model:?}\ndata d = [{}]\nhook h at blocks[1].{site} on prompt[3..] {{ h *= 0.5 }}\n\
             measure logit(100), norm(blocks[2].resid.post) on d, d with h\n",
            texts.join(", ")
        );
        let mut sources = Sources::default();
        let session = Session::open_text(Path::new("many.steer"), text, &SessionOptions::default(), &mut sources)
            .unwrap_or_else(|d| panic!("{d:#?}"));
        let bits = |chunk: usize| {
            let options = PhaseOptions { chunk, ..PhaseOptions::default() };
            let done = experiment::run(&session, &options, &mut |_| Ok(())).unwrap_or_else(|d| panic!("{d:#?}"));
            let [steer::report::Output::Table(frame)] = &done.outputs[..] else { panic!("{:?}", done.outputs) };
            frame.columns.iter().flat_map(|c| &c.values).map(|x| x.to_bits()).collect::<Vec<u64>>()
        };
        let whole = bits(usize::MAX);
        assert_eq!(whole.len(), 2 * 2 * 36);
        assert_eq!(whole, bits(1), "{model}");
    }
}
