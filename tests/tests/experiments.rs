//! Generated experiments over all kinds of models: shared is separate, pieces, chunks and shards are the whole, bit
//! for bit.

use std::path::Path;
use steer::experiment::{self, Done, Keeping, KeepingPlace, PhaseOptions, Session, SessionOptions, Shard, prepare_all};
use steer::report::{Output, Plain};
use steer_compiler::plan::generate::Lcg;
use steer_lang::Sources;
use steer_tests::script::Scratch;

/// A model's name, sites of whole vectors, and sites with an axis of so many heads or experts.
type Kind = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str, usize)]);

const MODELS: &[Kind] = &[
    (
        "tiny-gpt2",
        &["resid.pre", "resid.post", "attn.out", "mlp.out", "attn.pattern"],
        &[("attn.z", "head", 4), ("attn.v", "kv_head", 4)],
    ),
    (
        "tiny-llama",
        &["resid.pre", "resid.mid", "attn.out", "mlp.out", "attn.scores"],
        &[("attn.z", "head", 8), ("attn.q", "head", 8)],
    ),
    ("tiny-mamba", &["resid.post", "ssm.out", "ssm.in", "ssm.state", "ssm.dt"], &[]),
    (
        "tiny-mixtral",
        &["resid.post", "mlp.out", "moe.router", "attn.out"],
        &[("moe.gates", "expert", 8), ("attn.z", "head", 6)],
    ),
];

const TEXTS: &[&str] = &[
    "When Mary and John went to the shop, John gave a drink to",
    "When Mary and John went to the shop, Mary gave a drink to",
    "When Anna and John went to the shop, John gave a drink to",
    "After Lena and Mary walked to the church, Mary handed a ring to",
    "The capital of Velmora is",
];

struct Random(Lcg);

impl Random {
    fn of<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.0.below(from.len())]
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.0.below(n) == 0
    }
}

/// One edit without a name, in a sweep over `b`, `t` and `a`.
fn edit(r: &mut Random, (_, sites, parts): &Kind, aligned: bool) -> String {
    let on = if aligned { "on t" } else { *r.of(&["on [2, 3]", "on prompt[1..4]", "on [1]"]) };
    if !parts.is_empty() && r.one_in(3) {
        let (site, axis, n) = r.of(parts);
        let i = r.0.below(*n);
        return match r.0.below(2) {
            0 => format!("hook b.{site} {on} from clean {{ h[{axis} = {i}] = donor[{axis} = {i}] }}"),
            _ => format!("hook b.{site} {on} {{ h[{axis} = {i}] *= a }}"),
        };
    }
    let site = r.of(sites);
    match r.0.below(4) {
        0 => format!("patch b.{site} {on} from clean"),
        1 => format!("hook b.{site} {on} from clean {{ h += a * (donor - h) }}"),
        2 => format!("hook b.{site} {on} {{ h *= a }}"),
        _ => format!("hook b.{site} {on} {{ when norm(h) > 1 {{ h *= a }} }}"),
    }
}

fn script(r: &mut Random, model: &Kind) -> String {
    let (clean, corrupt) = (r.0.below(4), r.0.below(3));
    let mut out = format!(
        "model \"{}\"\nprompt clean = {:?}\nprompt corrupt = {:?}\nmetric ld = logit(1000) - logit(1001)\n\
         hook less(x = 0.5) at blocks[1].resid.post on prompt {{ h *= x }}\n",
        model.0, TEXTS[clean], TEXTS[corrupt]
    );
    for n in 0..1 + r.0.below(2) {
        let blocks = r.of(&["blocks", "blocks[1..]", "blocks[..2]"]);
        let edits: Vec<String> = (0..1 + r.0.below(2)).map(|_| format!("    {}\n", edit(r, model, true))).collect();
        let with = if r.one_in(2) { " with less" } else { "" };
        let normalized = if r.one_in(2) { " normalized by (corrupt, clean)" } else { "" };
        let metrics = r.of(&["ld", "ld, kl(corrupt)", "ld, norm(blocks[1].resid.post)"]);
        out.push_str(&format!(
            "sweep s{n} over b in {blocks}, t in tokens(corrupt)[2..6], a in [0.5, 2] {{\n{}    measure {metrics} on corrupt{with}{normalized}\n}}\n",
            edits.concat()
        ));
    }
    let fixed = edit(r, model, false).replace("b.", "blocks[1].").replace("a * (", "0.5 * (").replace("*= a", "*= 0.5");
    let named = match fixed.strip_prefix("patch ") {
        Some(rest) => format!("patch own at {rest}"),
        None => fixed.replacen("hook ", "hook own at ", 1),
    };
    out.push_str(&format!("{named}\nmeasure ld, cross_entropy() on corrupt with own\n"));
    out.push_str(
        "data both = [clean, corrupt]\ntop rows of norm(blocks[1].resid.post) over both with own { count: 5 }\n",
    );
    out.push_str("generate corrupt with less { max: 4, stop: false, temperature: 0.7 }\ngenerate clean { max: 3, stop: false }\n");
    out
}

fn bits(done: &Done) -> Vec<String> {
    let one = |o: &Output| match o {
        Output::Table(f) => f.columns.iter().flat_map(|c| &c.values).map(|x| format!("{:x} ", x.to_bits())).collect(),
        other => format!("{other:?}"),
    };
    done.outputs.iter().map(one).chain(done.receipts.iter().map(|r| format!("{r:?}"))).collect()
}

#[test]
fn however_an_experiment_is_executed_it_gives_the_same_bits() {
    let scratch = Scratch::new("experiments");
    let mut saved = (0, 0);
    for seed in 0..24 {
        let mut r = Random(Lcg(seed * 7919 + 1));
        let model = &MODELS[seed as usize % MODELS.len()];
        let text = script(&mut r, model);
        let open = || {
            let path = Path::new("experiment.steer");
            Session::open_text(path, text.clone(), &SessionOptions::default(), &mut Sources::default())
        };
        let session = open().unwrap_or_else(|d| panic!("seed {seed}: {d:#?}\n{text}"));
        let run = |options: &PhaseOptions, keeping: &Keeping| {
            experiment::run_on(&session, options, keeping, &mut Plain(&mut |_| Ok(())))
                .unwrap_or_else(|d| panic!("seed {seed}: {d:#?}\n{text}"))
        };
        let nothing = Keeping::default();
        let whole = run(&PhaseOptions::default(), &nothing);
        let expected = bits(&whole);
        saved.0 += whole.results.work.rows.computed;
        saved.1 += whole.results.work.rows.naive;
        let same = |what: &str, done: &Done| assert_eq!(expected, bits(done), "seed {seed} {what}\n{text}");
        same("unshared", &run(&PhaseOptions { share: false, ..PhaseOptions::default() }, &nothing));
        same("in chunks", &run(&PhaseOptions { chunk: 1 + r.0.below(5), ..PhaseOptions::default() }, &nothing));
        let needs = prepare_all(&session, &PhaseOptions::default()).unwrap().needs(&PhaseOptions::default()).unwrap();
        let rows = (needs.buffers + needs.caches + needs.outputs) / 2;
        let tight = PhaseOptions { memory: Some(needs.weights + needs.reading.max(rows)), ..PhaseOptions::default() };
        same("in pieces", &run(&tight, &nothing));
        let of = 2 + r.0.below(2);
        let parts: Vec<_> = (1..=of).map(|n| scratch.0.join(format!("{seed}-{n}.kept"))).collect();
        for (n, part) in parts.iter().enumerate() {
            let shard = Some(Shard { number: n + 1, of });
            run(&PhaseOptions::default(), &Keeping { place: KeepingPlace::File(part.clone()), shard, resume: false });
        }
        let merged = experiment::merge_on(&session, &PhaseOptions::default(), &parts, &mut Plain(&mut |_| Ok(())));
        same("in shards", &merged.unwrap_or_else(|d| panic!("seed {seed}: {d:#?}")));
    }
    println!("{} of {} rows were computed", saved.0, saved.1);
    assert!(saved.0 * 3 < saved.1);
}
