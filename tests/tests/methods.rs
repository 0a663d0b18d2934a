//! The methods of the standard library do what their papers say.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use steer::experiment::{self, ModelSession, PhaseOptions, Session, SessionOptions};
use steer::report::Output;
use steer::tensors::{Named, write_safetensors};
use steer_compiler::backend::DEFAULT;
use steer_lang::Sources;
use steer_tests::script::session;

fn open(text: &str) -> Session {
    Session::open_text(Path::new("methods.steer"), text.into(), &SessionOptions::default(), &mut Sources::default())
        .unwrap_or_else(|d| panic!("{d:#?}\n{text}"))
}

/// All numbers of all tables, column by column.
fn numbers(session: &Session, backend: &str) -> Vec<Vec<f64>> {
    let options = PhaseOptions { backend: backend.into(), ..PhaseOptions::default() };
    let done = experiment::run(session, &options, &mut |_| Ok(())).unwrap_or_else(|d| panic!("{d:#?}"));
    let tables = done.outputs.into_iter().filter_map(|o| if let Output::Table(f) = o { Some(f) } else { None });
    tables.flat_map(|f| f.columns).map(|c| c.values).collect()
}

fn close(a: f64, b: f64, within: f64) -> bool {
    (a - b).abs() <= within * (1.0 + a.abs().max(b.abs()))
}

/// What is written to the residual stream, a term each.
fn writes(model: &str) -> (Vec<String>, u32) {
    let (first, inner, layers): (&[&str], &[&str], u32) = match model {
        "tiny-gpt2" => (&["embed", "pos_embed"], &["attn.out", "mlp.out"], 4),
        "tiny-llama" => (&["embed"], &["attn.out", "mlp.out"], 4),
        "tiny-mamba" => (&["embed"], &["ssm.out"], 4),
        _ => (&["embed"], &["attn.out", "mlp.out"], 3),
    };
    let blocks = (0..layers).flat_map(|l| inner.iter().map(move |s| format!("blocks[{l}].{s}")));
    (first.iter().map(|s| s.to_string()).chain(blocks).collect(), layers)
}

#[test]
fn direct_effects_sum_to_the_logit_difference() {
    for model in ["tiny-gpt2", "tiny-llama", "tiny-mamba", "tiny-mixtral"] {
        let (terms, layers) = writes(model);
        let direct = |v: &str| format!("direct_logit({v}, \" Mary\") - direct_logit({v}, \" John\")");
        let each: Vec<String> = terms.iter().map(|t| direct(t)).collect();
        let text = format!(
            "model \"{model}\"\nprompt p = \"When Mary and John went to the shop, John gave a drink to\"\n\
             metric ld = logit(\" Mary\") - logit(\" John\")\n\
             measure ld, {}, {} on p\n",
            direct(&format!("blocks[{}].resid.post", layers - 1)),
            each.join(", ")
        );
        let found = numbers(&open(&text), DEFAULT);
        let (ld, all) = (found[0][0], found[1][0]);
        let sum: f64 = found[2..].iter().map(|c| c[0]).sum();
        assert!(close(sum, all, 1e-4), "{model}: {sum} and {all}");
        // The last norm of GPT-2 has a bias; those of the others have none, nor have their unembeddings.
        assert!(model == "tiny-gpt2" || close(all, ld, 1e-4), "{model}: {all} of {ld}");
        assert!(found[2..].iter().all(|c| c[0].abs() > 1e-4), "{model}: {found:?}");
    }
}

#[test]
fn heads_and_neurons_sum_to_their_layer() {
    for model in ["tiny-gpt2", "tiny-llama", "tiny-mixtral"] {
        let neurons = match model {
            "tiny-mixtral" => "gates_out(blocks[1].moe.gates, blocks[1].moe.expert_out), expert",
            _ => "direct_logit(blocks[1].mlp.result, \" Mary\"), neuron",
        };
        let weights = "../tests/models/tiny-gpt2/model.safetensors";
        let biases = format!(
            "vector bo = load(\"{weights}\", \"transformer.h.1.attn.c_proj.bias\")\n\
             vector bm = load(\"{weights}\", \"transformer.h.1.mlp.c_proj.bias\")\n"
        );
        let (biases, bo, bm) = match model {
            "tiny-gpt2" => (biases.as_str(), "direct_logit(bo, \" Mary\")", "direct_logit(bm, \" Mary\")"),
            _ => ("", "0", "0"),
        };
        let text = format!(
            "model \"{model}\"\nprompt p = \"When Mary and John went to the shop, John gave a drink to\"\n{biases}\
             fn gates_out(g, out) = direct_logit(g * out, 1000)\n\
             metric heads = sum(direct_logit(blocks[1].attn.result, \" Mary\"), head) + {bo}\n\
             metric neurons = sum({neurons}) + {bm}\n\
             measure heads, direct_logit(blocks[1].attn.out, \" Mary\") on p\n\
             measure neurons, direct_logit(blocks[1].mlp.out, {}) on p\n",
            if model == "tiny-mixtral" { "1000" } else { "\" Mary\"" }
        );
        let folder = steer_tests::cases::package("../runtime");
        let session = Session::open_text(
            &folder.join("methods.steer"),
            text.clone(),
            &SessionOptions::default(),
            &mut Sources::default(),
        )
        .unwrap_or_else(|d| panic!("{d:#?}\n{text}"));
        for backend in [DEFAULT, "candle"] {
            let found = numbers(&session, backend);
            assert!(close(found[0][0], found[1][0], 1e-4), "{model} {backend} heads: {found:?}");
            assert!(close(found[2][0], found[3][0], 1e-4), "{model} {backend} neurons: {found:?}");
        }
    }
}

#[test]
fn noise_is_normal_and_independent() {
    let text = "model \"tiny-gpt2\"\n\
        prompt p = \"When Mary and John went to the shop, John gave a drink to\"\n\
        metric first = mean(noise(blocks[1].attn.z, 3)) at seq\n\
        metric second = mean(noise(blocks[1].attn.z, 3) ^ 2) at seq\n\
        metric fourth = mean(noise(blocks[1].attn.z, 3) ^ 4) at seq\n\
        metric seeds = mean(noise(blocks[1].attn.z, 3) * noise(blocks[1].attn.z, 4)) at seq\n\
        metric one = noise(blocks[1].attn.z, 3)[head = 2, d_head = 5] at [7]\n\
        measure first, second, fourth, seeds, one on p\n";
    let session = open(text);
    let found = numbers(&session, DEFAULT);
    let n = 128.0 * 15.0;
    let within = |x: f64, mean: f64, deviation: f64| (x - mean).abs() < 4.0 * deviation / f64::sqrt(n);
    assert!(within(found[0][0], 0.0, 1.0), "mean {found:?}");
    assert!(within(found[1][0], 1.0, f64::sqrt(2.0)), "variance {found:?}");
    assert!(within(found[2][0], 3.0, f64::sqrt(96.0)), "fourth moment {found:?}");
    assert!(within(found[3][0], 0.0, 1.0), "two seeds {found:?}");
    let reference = numbers(&session, "candle");
    for (a, b) in found.iter().zip(&reference) {
        assert!(close(a[0], b[0], 1e-5), "{found:?} {reference:?}");
    }
}

/// The toy of the illusion: h = (x, 0, x) is read as 2 h2 + h3.
struct Toy(PathBuf);

impl Toy {
    fn new() -> Self {
        // Two tests have one at the same time.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("steer-illusion-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("config.json"), "{\"architectures\": [\"Illusion\"], \"vocab_size\": 8}").unwrap();
        let embed: Vec<f32> = (0..8).flat_map(|t| [t as f32, 0.0, t as f32]).collect();
        let read: Vec<f32> = (0..8).flat_map(|t| if t == 0 { [0.0, 2.0, 1.0] } else { [0.0; 3] }).collect();
        let tensors = [
            Named { name: "embed", shape: &[8, 3], data: &embed },
            Named { name: "read", shape: &[8, 3], data: &read },
            Named { name: "w", shape: &[1, 3], data: &[0.0, 2.0, 1.0] },
        ];
        write_safetensors(&folder.join("model.safetensors"), &tensors, &Default::default()).unwrap();
        let arch = "## A value that is read along one direction.\n\
            arch \"Illusion\" {\n    axis d_model = 3\n    axis vocab = config.vocab_size\n\
            \x20   ## The value itself.\n    write embed = lookup(weight(\"embed\", [vocab, d_model]), token)\n\
            \x20   blocks layer in 0..1 under \"\" {\n        ## The same.\n        site inner = resid\n    }\n\
            \x20   ## What is read, as the logit 0.\n    site logits = linear(resid, weight(\"read\", [vocab, d_model]))\n}\n";
        std::fs::write(folder.join("illusion.steer"), arch).unwrap();
        Toy(folder)
    }
}

impl Drop for Toy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_subspace_illusion_is_exact_on_the_toy() {
    let toy = Toy::new();
    let name = toy.0.to_str().unwrap();
    let model = ModelSession::open(name, &[toy.0.join("illusion.steer")], &Default::default(), &mut Sources::default())
        .unwrap_or_else(|d| panic!("{d:#?}"));
    let text = "prompt own = \"t2\"\nprompt source = \"t7\"\n\
        tensor w: [out = 1, d_model] = load(\"model.safetensors\", \"w\")\n\
        tensor e: [vocab = 8, d_model] = load(\"model.safetensors\", \"embed\")\n\
        fn direction(e) = select(index(d_model) < 2, 1, 0)\n\
        hook whole at embed from source { h = exchange(h, donor, direction(h)) }\n\
        hook row at embed from source { h = exchange(h, donor, row_part(direction(h), w)) }\n\
        hook null at embed from source { h = exchange(h, donor, null_part(direction(h), w)) }\n\
        run a = own with whole\nrun b = own with row\nrun c = own with null\n\
        measure logit(0) on own, source, a, b, c\n";
    let session = session(&model, &toy.0, text).unwrap_or_else(|d| panic!("{d:#?}"));
    let found = numbers(&session, DEFAULT);
    // Along (1, 1, 0) the output becomes the source's, through a part that is never active by itself: alone, what is
    // read of the direction does the same here, and what is not read does nothing.
    for (have, want) in found[0].iter().zip([2.0, 7.0, 7.0, 7.0, 2.0]) {
        assert!((have - want).abs() < 1e-5, "{found:?}");
    }
}

#[test]
fn a_direction_splits_into_what_a_matrix_reads_and_the_rest() {
    let folder = steer_tests::cases::package("models/tiny-gpt2");
    let text = "model \"tiny-gpt2\"\n\
        data glad = [\"Lily was so happy that\", \"They laughed and smiled.\"]\n\
        data sad = [\"Lily was so sad that\", \"They cried and wept.\"]\n\
        tensor w: [neuron = 512, d_model] = load(\"model.safetensors\", \"transformer.h.2.mlp.c_proj.weight\")\n\
        tensor v = mean_diff(glad, sad) at blocks[2].mlp.act on prompt[-1]\n\
        tensor row = row_part(mean_diff(glad, sad), w) at blocks[2].mlp.act on prompt[-1]\n\
        tensor null = null_part(mean_diff(glad, sad), w) at blocks[2].mlp.act on prompt[-1]\n\
        print norm(v), norm(row), norm(null), norm(dot(v, w)), norm(dot(null, w)), dot(row, null)\n";
    let session =
        Session::open_text(&folder.join("x.steer"), text.into(), &SessionOptions::default(), &mut Sources::default())
            .unwrap_or_else(|d| panic!("{d:#?}"));
    let done =
        experiment::run(&session, &PhaseOptions::default(), &mut |_| Ok(())).unwrap_or_else(|d| panic!("{d:#?}"));
    let [Output::Print { values }] = &done.outputs[..] else { panic!("{:?}", done.outputs) };
    let n: Vec<f64> =
        values.iter().map(|v| if let steer::report::Value::Number(n) = v { *n } else { f64::NAN }).collect();
    assert!(n[1] > 0.1 * n[0] && n[2] > 0.1 * n[0], "both parts are there: {n:?}");
    assert!(close(n[1] * n[1] + n[2] * n[2], n[0] * n[0], 1e-3), "{n:?}");
    assert!(n[4] < 1e-3 * n[3] && n[5].abs() < 1e-3 * n[0] * n[0], "{n:?}");
}

#[test]
fn matrices_of_low_rank_read_little() {
    let toy = Toy::new();
    let (outputs, inputs) = (40, 128);
    let mut state = 7u64;
    let mut number = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 40) as f32) / (1 << 23) as f32 - 1.0
    };
    let mut text = "model \"tiny-gpt2\"\ndata glad = [\"Lily was so happy that\"]\n\
        vector v = mean(glad) at blocks[2].resid.post on prompt[-1]\n"
        .to_owned();
    let mut printed = vec!["norm(v)".to_owned()];
    for rank in [1, 2, 16, 40] {
        let a: Vec<f32> = (0..outputs * rank).map(|_| number()).collect();
        let b: Vec<f32> = (0..rank * inputs).map(|_| number()).collect();
        let entry = |o: usize, i: usize| (0..rank).map(|r| a[o * rank + r] * b[r * inputs + i]).sum::<f32>();
        let w: Vec<f32> = (0..outputs * inputs).map(|at| entry(at / inputs, at % inputs)).collect();
        let name = format!("rank{rank}");
        let tensors = [steer::tensors::Named { name: "w", shape: &[outputs, inputs], data: &w }];
        let file = toy.0.join(format!("{name}.safetensors"));
        steer::tensors::write_safetensors(&file, &tensors, &Default::default()).unwrap();
        text += &format!("tensor {name}: [out = {outputs}, d_model] = load(\"{name}.safetensors\", \"w\")\n");
        printed.extend([
            format!("norm(row_part(v, {name}))"),
            format!("norm(null_part(v, {name}))"),
            format!("norm(dot(null_part(v, {name}), {name})) / norm(dot(v, {name}))"),
        ]);
    }
    text += &format!("print {}\n", printed.join(", "));
    let session = Session::open_text(&toy.0.join("x.steer"), text, &SessionOptions::default(), &mut Sources::default())
        .unwrap_or_else(|d| panic!("{d:#?}"));
    let done =
        experiment::run(&session, &PhaseOptions::default(), &mut |_| Ok(())).unwrap_or_else(|d| panic!("{d:#?}"));
    let [Output::Print { values }] = &done.outputs[..] else { panic!("{:?}", done.outputs) };
    let n: Vec<f64> =
        values.iter().map(|v| if let steer::report::Value::Number(n) = v { *n } else { f64::NAN }).collect();
    for part in n[1..].chunks(3) {
        // What is not read is not read, and the parts are at right angles; the last matrix is close to one of lower rank.
        assert!(part[2] < 1e-2 && close(part[0].hypot(part[1]), n[0], 1e-2), "{n:?}");
    }
    assert!(n[1] < n[10] && n[4] < n[10] && n[10] < 0.8 * n[0], "{n:?}");
}
