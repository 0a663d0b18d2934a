//! Sweeps of patches against what TransformerLens' patching functions give (`parity/patching.py`).

use std::path::Path;
use steer::experiment::{self, PhaseOptions, Session, SessionOptions};
use steer::report::Output;
use steer::tensors::{Named, write_safetensors};
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
measure ld on clean, corrupt
"#;

const BY_POSITION: &str = r#"
sweep head_by_pos over b in blocks, t in TIMES, i in HEADS {
    hook b.attn.z on t from clean { h[head = i] = donor[head = i] }
    measure ld on corrupt
}
"#;

/// Both sum in float32 in orders of their own; logits are of size 10.
const TOLERANCE: f64 = 1e-4;

/// Runs the sweeps on the model of a folder and compares them with a fixture; how many numbers there were.
fn compare(model: &str, fixture: &str, times: &str, heads: &str) -> usize {
    let text = std::fs::read_to_string(package("parity").join(fixture)).expect("the fixture");
    let fixture: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let script = format!(
        "model {model:?}\nprompt clean = {}\nprompt corrupt = {}\n\
         metric ld = logit(\" Mary\") - logit(\" John\") at seq[-1]\n{SWEEPS}{}",
        fixture["clean"],
        fixture["corrupt"],
        BY_POSITION.replace("TIMES", times).replace("HEADS", heads)
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
    compared
}

#[test]
fn sweeps_give_what_transformer_lens_gives() {
    let compared = compare("tiny-gpt2", "patching.json", "tokens(corrupt)", "head");
    assert_eq!(compared, 3 * 4 * 15 + 16 + 4 * 15 * 4 + 2);
}

#[test]
fn and_so_they_do_on_gpt2_small_with_random_weights() {
    let folder = std::env::temp_dir().join(format!("steer-gpt2-small-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let made = random_small(&folder);
    let compared = std::panic::catch_unwind(|| {
        made.unwrap();
        compare(folder.to_str().unwrap(), "patching_random.json", "[1, 10, 14]", "[0, 7]")
    });
    // Half a gigabyte is not left behind.
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(compared.unwrap_or_else(|e| std::panic::resume_unwind(e)), 3 * 12 * 15 + 144 + 12 * 3 * 2 + 2);
}

/// Whole numbers from -128 to 127, as `numbers` of the fixture's script makes them.
fn number(tensor: u64, element: u64) -> f32 {
    let mut z = (element + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(tensor << 40);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 56) as f32 - 128.0
}

/// Adds a tensor by its name, shape, step as a power of two, and middle.
type Add<'a> = dyn FnMut(&str, &[usize], i32, f32) + 'a;

/// The checkpoint of `random_state` of the fixture's script.
fn random_small(folder: &Path) -> Result<(), steer::error::Error> {
    const D: usize = 768;
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    let mut add = |name: &str, shape: &[usize], step: i32, middle: f32| {
        let (tensor, count) = (tensors.len() as u64, shape.iter().product::<usize>());
        let data = (0..count).map(|i| middle + number(tensor, i as u64) * 2f32.powi(step)).collect();
        tensors.push((format!("transformer.{name}"), shape.to_vec(), data));
    };
    add("wte.weight", &[50257, D], -9, 0.0);
    add("wpe.weight", &[1024, D], -12, 0.0);
    let part = |add: &mut Add, name: &str, shape: &[usize]| {
        let norm = shape.len() == 1;
        add(&format!("{name}.weight"), shape, if norm { -10 } else { -12 }, if norm { 1.0 } else { 0.0 });
        add(&format!("{name}.bias"), &shape[shape.len() - 1..], -12, 0.0);
    };
    for i in 0..12 {
        part(&mut add, &format!("h.{i}.ln_1"), &[D]);
        part(&mut add, &format!("h.{i}.attn.c_attn"), &[D, 3 * D]);
        part(&mut add, &format!("h.{i}.attn.c_proj"), &[D, D]);
        part(&mut add, &format!("h.{i}.ln_2"), &[D]);
        part(&mut add, &format!("h.{i}.mlp.c_fc"), &[D, 4 * D]);
        part(&mut add, &format!("h.{i}.mlp.c_proj"), &[4 * D, D]);
    }
    part(&mut add, "ln_f", &[D]);
    let named: Vec<Named<'_>> = tensors.iter().map(|(name, shape, data)| Named { name, shape, data }).collect();
    write_safetensors(&folder.join("model.safetensors"), &named, &Default::default())?;
    let config = serde_json::json!({
        "architectures": ["GPT2LMHeadModel"], "n_embd": D, "n_layer": 12, "n_head": 12, "n_positions": 1024,
        "vocab_size": 50257, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new", "n_inner": null,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(package("models/tiny-gpt2").join(name), folder.join(name)).unwrap();
    }
    Ok(())
}
