//! Sparse autoencoders against SAELens' own numbers; `files/saes.py` writes both.

use std::collections::BTreeMap;
use steer::experiment::{PhaseOptions, run};
use steer::report::Output;
use steer::tensors::Array;
use steer_compiler::backend::DEFAULT;
use steer_tests::fixture::{distance, folder, model, size, stored};
use steer_tests::script::{session, words};

/// The product of an encoder and a decoder is summed in another order than torch's.
const NEAR: f32 = 1e-5;

/// The columns of all tables of a script.
fn tables(model: &steer::experiment::ModelSession, text: &str, backend: &str) -> Vec<Vec<f32>> {
    let session = session(model, &folder("files/saes"), text).unwrap_or_else(|d| panic!("{text}\n{d:#?}"));
    let options = PhaseOptions { backend: backend.into(), ..PhaseOptions::default() };
    let done = run(&session, &options, &mut |_| Ok(())).unwrap_or_else(|d| panic!("{text}\n{d:#?}"));
    let tables = done.outputs.into_iter().filter_map(|o| if let Output::Table(t) = o { Some(t) } else { None });
    tables.map(|t| t.columns[0].values.iter().map(|x| *x as f32).collect()).collect()
}

fn row(array: &Array, position: usize) -> &[f32] {
    let n: usize = array.shape[1..].iter().product();
    &array.data[position * n..(position + 1) * n]
}

#[test]
fn features_reconstructions_and_edits_are_those_of_saelens() {
    let expected = stored(&folder("files/saes/expected.safetensors"));
    let tokens = stored(&folder("parity/gpt2-inner/expected.safetensors")).tokens;
    let model = model(&folder("parity/gpt2-inner"));
    let mut saes: BTreeMap<&str, f32> = BTreeMap::new();
    for name in expected.tensors.keys().filter_map(|k| k.strip_suffix(".features")) {
        for backend in [DEFAULT, "candle"] {
            for at in [4, tokens.len() - 1] {
                let text = format!(
                    "sae lens = \"{name}\"\nprompt own = \"{}\"\n\
                     metric features = encode(lens, lens.site) at [{at}]\n\
                     metric whole = decode(lens, encode(lens, lens.site), lens.site) at [{at}]\n\
                     metric scores = logits at [{at}]\n\
                     hook edit at lens.site {{\n let f = encode(lens, h)\n f[feature = 17] = 5\n h = splice(lens, h, f)\n}}\n\
                     hook idle at lens.site {{ h = splice(lens, h, encode(lens, h)) }}\n\
                     measure features on own\nmeasure whole on own\nmeasure scores on own with edit\n\
                     measure scores on own with idle\nmeasure scores on own\n",
                    words(&tokens)
                );
                let got = tables(&model, &text, backend);
                let want = ["features", "reconstruction", "edited"].map(|k| &expected.tensors[&format!("{name}.{k}")]);
                for (got, want) in got.iter().zip(want) {
                    let off = distance(got, row(want, at), size(&want.data));
                    assert!(off <= NEAR, "{name} {backend} at {at}: {off}\n{got:?}\n{:?}", row(want, at));
                    let worst = saes.entry(name).or_default();
                    *worst = worst.max(off);
                }
                let moved = distance(&got[3], &got[4], size(&got[4]));
                assert!(moved <= NEAR, "{name} {backend}: an unedited SAE moves the logits by {moved}");
            }
        }
    }
    println!("{saes:?}");
    assert!(saes.len() >= 14);
}
