//! Every value that transformers exposes, against ours, on small random checkpoints.

use std::sync::Arc;
use steer::experiment::ModelSession;
use steer_compiler::backend::DEFAULT;
use steer_compiler::elaborate::Scope;
use steer_compiler::plan::rules::Options;
use steer_compiler::plan::{Plan, Size};
use steer_tests::fixture::{
    ENCODERS, FAMILIES, MORE, Stored, TOLERANCE, checkpoints, distance, folder, model, site_of, size, stored,
};
use steer_tests::run::BACKENDS;
use steer_tests::run::{Compiled, Feed, Outcome, all, compile_sites, engine, feed, no_tensors};

struct Case {
    name: String,
    session: ModelSession,
    expected: Stored,
    /// All sites of the fixture by the script's name, in order.
    sites: Vec<String>,
}

fn cases() -> Vec<Case> {
    let names = checkpoints();
    let families = || FAMILIES.iter().map(|f| (f, 3)).chain(MORE.iter().chain(ENCODERS).map(|f| (f, 2)));
    for (family, enough) in families() {
        let of = names.iter().filter(|n| n.starts_with(&format!("{family}-"))).count();
        assert!(of >= enough, "{family} has only {of} checkpoints");
    }
    assert!(names.iter().all(|n| families().any(|(f, _)| n.starts_with(&format!("{f}-")))), "{names:?}");
    let case = |name: String| {
        let at = folder("parity").join(&name);
        let expected = stored(&at.join("expected.safetensors"));
        let sites = expected.tensors.keys().map(|k| site_of(k)).collect();
        Case { session: model(&at), expected, sites, name }
    };
    names.into_iter().map(case).collect()
}

fn run(case: &Case, compiled: &Compiled, backend: &str, cuts: &[usize]) -> Outcome {
    let mut engine = engine(backend, compiled, &case.session.checkpoint, &no_tensors());
    let feeds = [Feed::plain(&case.expected.tokens)];
    feed(engine.as_mut(), &feeds, cuts, compiled.plan.outputs.len(), &all)
        .unwrap_or_else(|e| panic!("{}: {e}", case.name))
}

/// The fixture's row of an output, as long as the row has keys: those up to its own, as many as a window holds.
fn expected_row(case: &Case, plan: &Plan, output: usize, position: usize, entries: usize) -> Vec<f32> {
    let name =
        case.expected.tensors.keys().find(|k| site_of(k) == plan.outputs[output].name).expect("a site of the fixture");
    let array = &case.expected.tensors[name];
    let len: usize = array.shape[1..].iter().product();
    let row = &array.data[position * len..(position + 1) * len];
    if !plan.ty(plan.outputs[output].node).has_keys() {
        return row.to_vec();
    }
    let (heads, keys) = (array.shape[1], array.shape[2]);
    let seen = if plan.is_whole() { 0..keys } else { position + 1 - entries / heads..position + 1 };
    let unseen = |h: &[f32]| h.iter().enumerate().all(|(k, x)| seen.contains(&k) || *x == 0.0);
    assert!(row.chunks(keys).all(unseen), "{name} reads the future, or beyond its window");
    row.chunks(keys).flat_map(|h| &h[seen.clone()]).copied().collect()
}

#[test]
fn every_site_equals_that_of_transformers() {
    for case in cases() {
        let compiled = compile_sites(&case.session.model, &case.sites, &Options::default());
        for backend in BACKENDS {
            let outcome = run(&case, &compiled, backend, &[]);
            let mut worst = (0.0, "");
            for (o, output) in compiled.plan.outputs.iter().enumerate() {
                let ty = compiled.plan.ty(output.node);
                let name = case.expected.tensors.keys().find(|k| site_of(k) == output.name).expect("a site");
                let array = &case.expected.tensors[name];
                let sizes =
                    ty.axes.iter().map(|a| if let Size::Fixed(n) = a.size { n } else { case.expected.tokens.len() });
                assert_eq!(array.shape[1..], sizes.collect::<Vec<_>>(), "{}: {name}", case.name);
                let scale = size(&array.data);
                for p in 0..case.expected.tokens.len() {
                    let have = outcome.value(0, o, p);
                    let off = distance(have, &expected_row(&case, &compiled.plan, o, p, have.len()), scale);
                    assert!(off <= TOLERANCE, "{} {backend}: {name} of row {p} is off by {off}", case.name);
                    if off > worst.0 {
                        worst = (off, &output.name);
                    }
                }
            }
            println!("{} {backend}: {} sites, worst {:.1e} ({})", case.name, case.sites.len(), worst.0, worst.1);
        }
    }
}

/// Without any other output nothing is materialized: the streamed attention and the fused kernels.
#[test]
fn logits_row_by_row_and_at_once() {
    for case in cases() {
        let compiled = compile_sites(&case.session.model, &["logits".to_owned()], &Options::default());
        let tokens = case.expected.tokens.len();
        let scale = size(&case.expected.tensors["logits"].data);
        // What reads a text as a whole has no steps.
        let each: Vec<usize> = if compiled.plan.is_whole() { Vec::new() } else { (1..tokens).collect() };
        for backend in BACKENDS {
            for cuts in [&[][..], &each] {
                let outcome = run(&case, &compiled, backend, cuts);
                for p in 0..tokens {
                    let have = outcome.value(0, 0, p);
                    let off = distance(have, &expected_row(&case, &compiled.plan, 0, p, have.len()), scale);
                    assert!(off <= TOLERANCE, "{} {backend}: logits of row {p} are off by {off}", case.name);
                }
            }
        }
    }
}

/// What is read beside them decides where kernels end and what is materialized, not what they compute.
#[test]
fn reading_a_site_changes_no_bit_of_the_logits() {
    for case in cases() {
        let bits = |sites: &[String]| {
            let compiled = compile_sites(&case.session.model, sites, &Options::default());
            let logits = sites.iter().position(|s| s == "logits").expect("logits");
            let outcome = run(&case, &compiled, DEFAULT, &[]);
            let row = |p| outcome.value(0, logits, p).iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            (0..case.expected.tokens.len()).map(row).collect::<Vec<_>>()
        };
        let alone = bits(&["logits".to_owned()]);
        assert_eq!(alone, bits(&case.sites), "{}: reading every site", case.name);
        for site in case.sites.iter().filter(|s| s.starts_with("blocks[1].")) {
            assert_eq!(alone, bits(&[site.clone(), "logits".to_owned()]), "{}: reading {site}", case.name);
        }
    }
}

/// Sites of which transformers computes the sum alone; `methods.rs` compares that.
const UNEXPOSED: &[&str] = &["attn.result", "mlp.result"];

#[test]
fn the_fixtures_have_every_site() {
    for case in cases() {
        let built = case.session.model.build(&[], &[], &Default::default(), &Scope::new()).unwrap();
        for site in &built.plan.sites {
            let short = site.name.split_once("].").map_or(site.name.as_str(), |(_, s)| s);
            let known = case.sites.contains(&site.name);
            assert!(known != UNEXPOSED.contains(&short), "{}: {} in the fixture: {known}", case.name, site.name);
        }
        for name in &case.sites {
            assert!(built.plan.sites.iter().any(|s| s.name == *name), "{}: the model lacks {name}", case.name);
        }
    }
}

/// No tensor is left out, but for those that the model does not compute with; scales are read with what they belong to.
#[test]
fn every_tensor_is_read() {
    // Encoders have a bias twice.
    for case in cases().into_iter().filter(|c| !ENCODERS.iter().any(|e| c.name.starts_with(e))) {
        let built = case.session.model.build(&[], &[], &Default::default(), &Scope::new()).unwrap();
        let left = case.session.checkpoint.unread_tensors(&built.plan.weights);
        assert!(left.is_none(), "{}: {left:?}", case.name);
        assert!(case.session.checkpoint.validate(&built.plan.weights).is_empty(), "{}", case.name);
    }
}

/// What a name means on every architecture.
#[test]
fn the_contracts_of_sites_hold() {
    for case in cases() {
        let compiled = compile_sites(&case.session.model, &case.sites, &Options::default());
        // Norms behind the sums: the stream is what they give.
        let normed = case.name == "opt-behind" || compiled.plan.is_whole();
        let layers = case.session.model.build(&[], &[], &Default::default(), &Scope::new()).unwrap().layers;
        // Gates sum to one, unless the configuration says otherwise (by a key that some families lack), times a factor. Shares
        // of a softmax sum to less, and what scores by a sigmoid is not bounded.
        let config = &case.session.model.config;
        let family = |of: &[&str]| of.iter().any(|f| case.name.starts_with(f));
        let scaled = config.get("norm_topk_prob").map_or(!family(&["jamba", "deepseek2"]), |v| v == true);
        let factor = config.get("routed_scaling_factor").and_then(|v| v.as_f64()).unwrap_or(1.0) as f32;
        let bounded = scaled || !family(&["deepseek3"]);
        let chosen = config.get("num_experts_per_tok").and_then(|v| v.as_u64()).unwrap_or(0) as f32;
        for backend in BACKENDS {
            let outcome = run(&case, &compiled, backend, &[]);
            let has = |site: &str| case.sites.iter().any(|s| s == site);
            let at = |site: &str, p: usize| {
                let o = case.sites.iter().position(|s| s == site).unwrap_or_else(|| panic!("{}: no {site}", case.name));
                Arc::clone(&outcome.values[&(0, o, p)])
            };
            let add = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x + y).collect::<Vec<f32>>();
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            for p in 0..case.expected.tokens.len() {
                let about = format!("{} {backend} row {p}", case.name);
                let mut stream = at("embed", p).to_vec();
                if has("pos_embed") {
                    stream = add(&stream, &at("pos_embed", p));
                }
                for l in 0..layers {
                    let site = |s: &str| format!("blocks[{l}].{s}");
                    let pre = at(&site("resid.pre"), p);
                    assert!((normed && l == 0) || bits(&stream) == bits(&pre), "{about} layer {l}: resid.pre");
                    stream = pre.to_vec();
                    let writes: Vec<String> =
                        ["attn.out", "ssm.out", "mlp.out"].map(site).into_iter().filter(|s| has(s)).collect();
                    assert!(!writes.is_empty(), "{about}: layer {l} writes nothing");
                    for w in &writes {
                        stream = add(&stream, &at(w, p));
                        if !w.ends_with("mlp.out") && has(&site("resid.mid")) {
                            let mid = at(&site("resid.mid"), p);
                            assert!(normed || bits(&stream) == bits(&mid), "{about} layer {l}: resid.mid");
                            stream = mid.to_vec();
                        }
                    }
                    let post = at(&site("resid.post"), p);
                    assert!(normed || bits(&stream) == bits(&post), "{about} layer {l}: resid.post");
                    stream = post.to_vec();
                    if has(&site("attn.pattern")) {
                        let pattern = at(&site("attn.pattern"), p);
                        let heads = case.expected.tensors[&format!("blocks.{l}.attn.pattern")].shape[1];
                        let sink = has(&site("attn.sink")).then(|| at(&site("attn.sink"), p));
                        for (h, head) in pattern.chunks(pattern.len() / heads).enumerate() {
                            let sum = head.iter().sum::<f32>() + sink.as_ref().map_or(0.0, |s| s[h]);
                            assert!((sum - 1.0).abs() < 1e-5, "{about} layer {l}: a pattern row sums to {sum}");
                        }
                    }
                    if has(&site("moe.gates")) {
                        let sum = at(&site("moe.gates"), p).iter().sum::<f32>() / factor;
                        let one = (sum - 1.0).abs() < 1e-5;
                        let right = if scaled { one } else { !bounded || sum < 1.0 };
                        assert!(right, "{about} layer {l}: the gates sum to {sum} times {factor}");
                        let count: f32 = at(&site("moe.chosen"), p).iter().sum();
                        assert_eq!(count, chosen, "{about} layer {l}: chosen experts");
                    }
                    if has(&site("moe.shared")) {
                        let both = add(&at(&site("moe.out"), p), &at(&site("moe.shared"), p));
                        assert!(bits(&both) == bits(&at(&site("mlp.out"), p)), "{about} layer {l}: mlp.out");
                    }
                }
            }
        }
    }
}
