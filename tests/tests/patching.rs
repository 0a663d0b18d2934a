//! Sweeps of patches against what TransformerLens' patching functions give (`parity/patching.py`).

use std::path::Path;
use steer::experiment::{self, PhaseOptions, Session, SessionOptions};
use steer::report::Output;
use steer_lang::Sources;
use steer_tests::cases::package;

const SWEEPS: &str = r#"
sweep resid_pre over b in blocks, t in tokens(corrupt) {
    patch b.resid.pre on t from clean
    measure ld on corrupt
}
sweep attn_out over b in blocks, t in tokens(corrupt) {
    patch b.attn.out on t from clean
    measure ld on corrupt
}
sweep mlp_out over b in blocks, t in tokens(corrupt) {
    patch b.mlp.out on t from clean
    measure ld on corrupt
}
sweep head_all_pos over b in blocks, i in head {
    hook b.attn.z from clean { h[head = i] = donor[head = i] }
    measure ld on corrupt
}
sweep head_by_pos over b in blocks, t in tokens(corrupt), i in head {
    hook b.attn.z on t from clean { h[head = i] = donor[head = i] }
    measure ld on corrupt
}
measure ld on clean, corrupt
"#;

/// Both sum in float32 in orders of their own; logits are of size 10.
const TOLERANCE: f64 = 1e-4;

#[test]
fn sweeps_give_what_transformer_lens_gives() {
    let text = std::fs::read_to_string(package("parity/patching.json")).expect("the fixture");
    let fixture: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let script = format!(
        "model \"tiny-gpt2\"\nprompt clean = {}\nprompt corrupt = {}\n\
         metric ld = logit(\" Mary\") - logit(\" John\") at seq[-1]\n{SWEEPS}",
        fixture["clean"], fixture["corrupt"]
    );
    let mut sources = Sources::default();
    let session = Session::open_text(Path::new("sweeps.steer"), script, &SessionOptions::default(), &mut sources)
        .unwrap_or_else(|d| panic!("{d:#?}"));
    let done =
        experiment::run(&session, &PhaseOptions::default(), &mut |_| Ok(())).unwrap_or_else(|d| panic!("{d:#?}"));
    let mut compared = 0;
    for output in &done.outputs {
        let Output::Table(frame) = output else { continue };
        let values = &frame.columns[0].values;
        let expected: Vec<f64> = match frame.name.as_str() {
            "" => ["clean_ld", "corrupt_ld"].iter().filter_map(|k| fixture[*k].as_f64()).collect(),
            name => {
                let table = &fixture["tables"][name];
                let shape: Vec<u64> =
                    table["shape"].as_array().expect(name).iter().filter_map(|n| n.as_u64()).collect();
                let mine: Vec<u64> = frame.axes.iter().map(|a| a.len() as u64).collect();
                assert_eq!(shape, mine, "{name}");
                table["values"].as_array().expect(name).iter().filter_map(|x| x.as_f64()).collect()
            }
        };
        assert_eq!(values.len(), expected.len(), "{}", frame.name);
        for (i, (mine, theirs)) in values.iter().zip(&expected).enumerate() {
            let far = (mine - theirs).abs();
            assert!(far <= TOLERANCE * theirs.abs().max(1.0), "{} {i}: {mine} and {theirs}", frame.name);
            compared += 1;
        }
    }
    assert_eq!(compared, 3 * 4 * 15 + 16 + 4 * 15 * 4 + 2);
}
