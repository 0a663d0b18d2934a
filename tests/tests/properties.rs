//! What holds for every script, on generated ones: bits that never change, and tolerances where the
//! order of sums does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use steer::engine::{Engine, Run, RunEdit, TensorSource, WeightSource};
use steer::error::Error;
use steer::experiment::{ModelSession, PhaseOptions, Prepared, Session};
use steer::reference::Reference;
use steer::rows::RowsEngine;
use steer_compiler::backend::{DEFAULT, row_backend};
use steer_compiler::elaborate::RunSpec;
use steer_compiler::plan::generate::{self, Lcg, VOCAB};
use steer_compiler::plan::rules::{self, Options, RULES};
use steer_compiler::plan::{Axis, Size, Stat, Tensor, Weight};
use steer_tests::fixture::{ENCODERS, FAMILIES, MORE, TOLERANCE, checkpoints, distance, folder, model, size};
use steer_tests::random::{Generated, Kinds, Surroundings, script};
use steer_tests::run::{Compiled, Feed, Outcome, all, compile, engine, feed, rows_engine};
use steer_tests::script::{Scratch, compiled, feeds, generated, loaded, phase, session};

/// Scripts of each architecture in each test; `STEER_SCRIPTS` asks for another number.
fn scripts() -> u64 {
    std::env::var("STEER_SCRIPTS").ok().and_then(|n| n.parse().ok()).unwrap_or(24)
}

const DISCRETE: Kinds = Kinds { continuous: false, prompt: 9, later: 5 };
const CONTINUOUS: Kinds = Kinds { continuous: true, ..DISCRETE };

/// One generated script on one checkpoint, ready to run.
struct Case {
    about: String,
    session: Session,
    runs: Vec<RunSpec>,
    sites: Vec<String>,
    later: Vec<u32>,
    tensors: Arc<dyn TensorSource>,
    lcg: Lcg,
}

/// Calls `f` with the scripts of every architecture, each on one of its checkpoints; with fewer where it differs in
/// settings alone.
fn each(test: &str, count: u64, kinds: Kinds, f: &mut dyn FnMut(&mut Case)) {
    for (family, count) in FAMILIES.iter().map(|f| (f, count)).chain(MORE.iter().map(|f| (f, count.div_ceil(6)))) {
        let names: Vec<String> = checkpoints().into_iter().filter(|n| n.starts_with(&format!("{family}-"))).collect();
        for (i, name) in names.iter().enumerate() {
            let checkpoint = model(&folder("parity").join(name));
            let at = Surroundings::of(&checkpoint.model);
            let scratch = Scratch::new(&format!("{test}-{name}"));
            at.write_tensors(&scratch.0);
            for seed in (0..count).filter(|s| *s as usize % names.len() == i) {
                let g = script(&at, seed * 131 + family.len() as u64, kinds);
                f(&mut case(&checkpoint, &scratch.0, name, seed, g));
            }
        }
    }
}

fn case(checkpoint: &ModelSession, scratch: &Path, name: &str, seed: u64, g: Generated) -> Case {
    let about = format!("{name}, seed {seed}, reading {:?} and logits of\n{}", g.reads, g.text);
    let session = session(checkpoint, scratch, &g.text).unwrap_or_else(|d| panic!("{d:#?}\n{about}"));
    let runs = generated(&session.script);
    let mut sites = g.reads;
    sites.push("logits".into());
    let tensors = loaded(&session);
    Case { about, runs, sites, later: g.later, tensors, session, lcg: Lcg(seed + 5) }
}

impl Case {
    fn prepare(&self, runs: &[RunSpec], options: &PhaseOptions) -> Prepared {
        let sites: Vec<&str> = self.sites.iter().map(String::as_str).collect();
        phase(&self.session, runs, &sites, options).unwrap_or_else(|d| panic!("{d:#?}\n{}", self.about))
    }

    /// The asked runs grow by the same tokens; donors do not.
    fn feeds(&self, prepared: &Prepared, asked: usize) -> Vec<Feed> {
        feeds(prepared, &|run| if run < asked { self.later.clone() } else { Vec::new() })
    }

    fn rows(&self, prepared: &Prepared) -> RowsEngine {
        rows_engine(DEFAULT, &compiled(prepared), &self.session.checkpoint, &self.tensors)
    }

    fn run(&self, engine: &mut dyn Engine, feeds: &[Feed], cuts: &[usize]) -> Outcome {
        self.done(feed(engine, feeds, cuts, self.sites.len(), &all))
    }

    fn done(&self, outcome: Result<Outcome, Error>) -> Outcome {
        outcome.unwrap_or_else(|e| panic!("{e}\n{}", self.about))
    }

    fn cuts(&mut self, longest: usize) -> Vec<usize> {
        (1..longest).filter(|_| self.lcg.below(3) == 0).collect()
    }

    /// The same runs, donors and all, bit for bit. `of` is the place of a run of `a` in `b`.
    fn same(&self, what: &str, a: &Outcome, b: &Outcome, of: &dyn Fn(usize) -> Option<usize>) {
        let mut compared = 0;
        for (&(run, output, position), value) in &a.values {
            let Some(other) = of(run) else { continue };
            let site = &self.sites[output];
            let found = b.values.get(&(other, output, position));
            let found =
                found.unwrap_or_else(|| panic!("{what}: no {site} of run {run} row {position}\n{}", self.about));
            let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            if bits(value) != bits(found) {
                let off = distance(value, found, size(value));
                panic!("{what}: {site} of run {run} row {position} is off by {off}\n{}", self.about);
            }
            compared += 1;
        }
        assert!(compared > 0, "{what}: nothing to compare\n{}", self.about);
    }

    /// The same within a tolerance, relative to the largest entry that the site has in any row.
    fn near(&self, what: &str, a: &Outcome, b: &Outcome, tolerance: f32) -> f32 {
        let mut sizes = vec![0.0f32; self.sites.len()];
        for (&(_, output, _), value) in &a.values {
            sizes[output] = sizes[output].max(size(value));
        }
        let mut worst = 0.0f32;
        for (&(run, output, position), value) in &a.values {
            let off = distance(value, b.value(run, output, position), sizes[output]);
            let site = &self.sites[output];
            assert!(off <= tolerance, "{what}: {site} of run {run} row {position} is off by {off}\n{}", self.about);
            worst = worst.max(off);
        }
        worst
    }

    fn same_receipts(&self, what: &str, a: &Outcome, b: &Outcome) {
        // As text, where a number that is none equals itself: selection scores may be infinite.
        assert_eq!(format!("{:?}", a.receipts), format!("{:?}", b.receipts), "{what}\n{}", self.about);
    }
}

/// A run with the donors that it takes from, by themselves.
fn alone(feeds: &[Feed], run: usize) -> (Vec<Feed>, Vec<usize>) {
    let mut kept = vec![run];
    let mut at = 0;
    while at < kept.len() {
        for donor in feeds[kept[at]].run.edits.iter().filter_map(|e| e.donor) {
            if !kept.contains(&donor) {
                kept.push(donor);
            }
        }
        at += 1;
    }
    let of = |&i: &usize| {
        let mut f = feeds[i].clone();
        for e in &mut f.run.edits {
            e.donor = e.donor.and_then(|d| kept.iter().position(|k| *k == d));
        }
        f
    };
    (kept.iter().map(of).collect(), kept)
}

#[test]
fn chunks_neighbours_and_sharing_change_no_bit() {
    let mut shared = (0, 0);
    each("bits", scripts(), DISCRETE, &mut |case| {
        let asked = case.runs.len();
        let prepared = case.prepare(&case.runs, &PhaseOptions::default());
        let feeds = case.feeds(&prepared, asked);
        let mut engine = case.rows(&prepared);
        let whole = case.run(&mut engine, &feeds, &[]);
        shared.0 += whole.rows.computed;
        shared.1 += whole.rows.naive;
        let longest = feeds.iter().map(|f| f.tokens.len()).max().unwrap_or(0);
        let own = |run| Some(run);
        for (what, cuts) in [
            ("row by row", (1..longest).collect()),
            ("in chunks", case.cuts(longest)),
            ("in other chunks", case.cuts(longest)),
        ] {
            let other = case.run(&mut engine, &feeds, &cuts);
            case.same(&format!("{what} {cuts:?}"), &whole, &other, &own);
            case.same_receipts(what, &whole, &other);
        }
        engine.share = false;
        let unshared = case.run(&mut engine, &feeds, &[]);
        case.same("unshared", &whole, &unshared, &own);
        case.same_receipts("unshared", &whole, &unshared);
        let cuts = case.cuts(longest);
        case.same("unshared in chunks", &whole, &case.run(&mut engine, &feeds, &cuts), &own);
        engine.share = true;
        for run in 0..asked {
            let (mine, kept) = alone(&feeds, run);
            let cuts = case.cuts(longest);
            let single = case.run(&mut engine, &mine, &cuts);
            case.same("alone", &whole, &single, &|r| kept.iter().position(|k| *k == r));
        }
        // Only some rows are read: the last layers then work on these alone.
        let mut lcg = case.lcg.clone();
        let picked: BTreeSet<(usize, usize, usize)> =
            whole.values.keys().copied().filter(|_| lcg.below(4) == 0).collect();
        let reads = |run, output, position| picked.contains(&(run, output, position));
        for cuts in [vec![], case.cuts(longest)] {
            let some = case.done(feed(&mut engine, &feeds, &cuts, case.sites.len(), &reads));
            assert_eq!(some.values.len(), picked.len(), "{}", case.about);
            if !picked.is_empty() {
                case.same("some rows", &some, &whole, &own);
            }
        }
    });
    println!("{} rows and stretches computed of {}", shared.0, shared.1);
}

/// Compiled alone, a run has other kernels around it; its numbers stay.
#[test]
fn a_plan_of_its_own_changes_no_bit() {
    each("own", scripts() / 2, DISCRETE, &mut |case| {
        let prepared = case.prepare(&case.runs, &PhaseOptions::default());
        let whole = case.run(&mut case.rows(&prepared), &case.feeds(&prepared, case.runs.len()), &[]);
        for run in 0..case.runs.len() {
            let single = case.prepare(&case.runs[run..=run], &PhaseOptions::default());
            let feeds = case.feeds(&single, 1);
            let outcome = case.run(&mut case.rows(&single), &feeds, &[]);
            case.same(&format!("run {run} compiled alone"), &outcome, &whole, &|r| (r == 0).then_some(run));
        }
    });
}

#[test]
fn threads_change_no_bit() {
    let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("threads");
    let pools = [pool(1), pool(2), pool(3)];
    // Longer, so that work is really divided.
    let long = Kinds { prompt: 40, ..DISCRETE };
    each("threads", scripts() / 2, long, &mut |case| {
        let prepared = case.prepare(&case.runs, &PhaseOptions::default());
        let feeds = case.feeds(&prepared, case.runs.len());
        let (compiled, outputs) = (compiled(&prepared), case.sites.len());
        let (weights, tensors) = (&case.session.checkpoint, &case.tensors);
        let on = |_| feed(&mut rows_engine(DEFAULT, &compiled, weights, tensors), &feeds, &[], outputs, &all);
        let [one, rest @ ..] = pools.each_ref().map(|p| p.install(|| on(())));
        let one = case.done(one);
        for other in rest.map(|r| case.done(r)) {
            let other = &other;
            case.same("threads", &one, other, &|r| Some(r));
            case.same_receipts("threads", &one, other);
        }
    });
}

/// Hooks that change nothing, as bodies.
const NOTHING: &[(&str, &str)] = &[
    ("", "h *= 1"),
    ("", "h -= 0"),
    ("", "h = h0"),
    ("", "h = -(-h)"),
    ("", "h = max(h, h)"),
    ("", "let twice = h * 2\n    h = twice / 2"),
    ("", "when 1 < 0 { h *= 3 }"),
    ("", "when position < 0 { h *= 3 } else { h = h0 }"),
    ("", "when norm(h) < 0 { h = 0 }"),
    (" on maybe after \"t9999\"", "h *= 3"),
    (" on maybe generated[90..]", "h = 0"),
];

#[test]
fn a_hook_that_changes_nothing_changes_no_bit() {
    // Encoders generate nothing: `encoders.rs`.
    let causal = |name: &String| !ENCODERS.iter().any(|f| name.starts_with(&format!("{f}-")));
    for name in checkpoints().into_iter().filter(causal) {
        let checkpoint = model(&folder("parity").join(&name));
        let at = Surroundings::of(&checkpoint.model);
        let scratch = Scratch::new(&format!("nothing-{name}"));
        let mut lcg = Lcg(name.len() as u64);
        let tokens: Vec<u32> = (0..12).map(|_| lcg.below(at.vocab) as u32).collect();
        let prompt = format!("prompt p = \"{}\"\n", steer_tests::script::words(&tokens));
        let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
        for p in &at.places {
            kinds.insert(&p.short, &p.name);
        }
        let run = |text: String, reads: Vec<String>| {
            let g = Generated { text, reads, later: tokens[..4].to_vec() };
            let case = case(&checkpoint, &scratch.0, &name, 0, g);
            let prepared = case.prepare(&case.runs, &PhaseOptions::default());
            let feeds = case.feeds(&prepared, 1);
            let outcome = case.run(&mut case.rows(&prepared), &feeds, &[]);
            (case, outcome)
        };
        for (i, (short, site)) in kinds.into_iter().enumerate() {
            // What an attention computes inside of itself is materialized on both sides, where it is hooked.
            let reads =
                if matches!(short, "attn.scores" | "attn.pattern") { vec![site.to_owned()] } else { Vec::new() };
            let (_, plain) = run(format!("{prompt}generate p {{ max: 4 }}\n"), reads.clone());
            for k in 0..3 {
                let (on, body) = NOTHING[(3 * i + k) % NOTHING.len()];
                let text = format!("{prompt}hook e at {site}{on} {{\n    {body}\n}}\ngenerate p with e {{ max: 4 }}\n");
                let (case, hooked) = run(text, reads.clone());
                case.same("with a hook", &hooked, &plain, &|r| Some(r));
                let changed: f32 = hooked.receipts.iter().map(|r| r.of(Stat::Changed) + r.of(Stat::Moved)).sum();
                assert_eq!(changed, 0.0, "{}", case.about);
            }
        }
    }
}

/// Rules and backends may sum in another order; what that makes of a difference is bounded as in `parity`.
#[test]
fn rules_and_backends_agree() {
    let mut worst: BTreeMap<String, f32> = BTreeMap::new();
    each("rules", scripts(), CONTINUOUS, &mut |case| {
        let asked = case.runs.len();
        let prepared = case.prepare(&case.runs, &PhaseOptions::default());
        let feeds = case.feeds(&prepared, asked);
        let optimized = case.run(&mut case.rows(&prepared), &feeds, &[]);
        let mut note = |what: &str, off: f32| {
            let w = worst.entry(what.to_owned()).or_default();
            *w = w.max(off);
        };
        let on = |backend: &str, prepared: &Prepared| {
            let mut e = engine(backend, &compiled(prepared), &case.session.checkpoint, &case.tensors);
            case.run(e.as_mut(), &feeds, &[])
        };
        let interpreted = on("interp", &prepared);
        case.same("interp", &optimized, &interpreted, &|r| Some(r));
        case.same_receipts("interp", &optimized, &interpreted);
        let reference = on("candle", &prepared);
        note("candle", case.near("candle", &reference, &optimized, TOLERANCE));
        let rows = |o: &Outcome| o.receipts.iter().map(|r| (r.run, r.edit, r.position)).collect::<Vec<_>>();
        assert_eq!(rows(&reference), rows(&optimized), "{}", case.about);
        let every: Vec<String> = RULES.iter().map(|r| r.name.to_owned()).collect();
        for disable in every.iter().map(|r| vec![r.clone()]).chain([every.clone()]) {
            let name = if disable.len() == 1 { disable[0].clone() } else { "every rule".to_owned() };
            let exact = disable.iter().all(|d| rules::find(d).is_ok_and(|r| r.exact));
            let options = PhaseOptions { rules: Options { disable, stop_after: None }, ..PhaseOptions::default() };
            let plain = case.prepare(&case.runs, &options);
            let outcome = on(DEFAULT, &plain);
            if exact {
                // Op by op no bit changes; a kernel may be cut in another place.
                case.same(&format!("without {name}"), &reference, &on("candle", &plain), &|r| Some(r));
            }
            note(&name, case.near(&format!("without {name}"), &optimized, &outcome, TOLERANCE));
        }
    });
    for (what, off) in worst {
        println!("{what}: {off:.1e}");
    }
}

/// Weights by chance, the same for the same name; tensors count up from 1.
struct Numbers;

fn length<'a>(axes: impl IntoIterator<Item = &'a Axis>) -> usize {
    axes.into_iter().map(|a| if let Size::Fixed(n) = a.size { n } else { 0 }).product()
}

impl WeightSource for Numbers {
    fn read(&self, weight: &Weight) -> Result<Vec<f32>, Error> {
        let mut lcg = Lcg(weight.name.bytes().fold(7, |h, b| h * 31 + u64::from(b)));
        Ok((0..length(&weight.axes())).map(|_| lcg.unit()).collect())
    }
}

impl TensorSource for Numbers {
    fn read(&self, tensor: &Tensor) -> Result<Arc<[f32]>, Error> {
        Ok((1..=length(&tensor.axes)).map(|i| i as f32).collect())
    }
}

/// A donor and a run that takes from it, with every edit of a Plan active on some rows.
fn generated_feeds(plan: &steer_compiler::plan::Plan, lcg: &mut Lcg) -> Vec<Feed> {
    let tokens = |lcg: &mut Lcg| (0..8).map(|_| lcg.below(VOCAB) as u32).collect::<Vec<_>>();
    let donor = Feed::plain(&tokens(lcg));
    let mut taker = Feed { tokens: tokens(lcg), ..Feed::default() };
    for id in 0..plan.edits.len() {
        let edit = steer_compiler::plan::EditId(id as u32);
        taker.run.edits.push(RunEdit { edit, params: vec![0.5 + lcg.unit()], donor: Some(0) });
        taker.active.push((0..8).map(|_| lcg.below(2) == 0).collect());
    }
    vec![donor, taker, Feed { run: Run::default(), tokens: tokens(lcg), active: Vec::new() }]
}

#[test]
fn generated_plans_compute_what_the_reference_does() {
    for seed in 0..200 {
        let plan = generate::plan(seed).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let mut lcg = Lcg(seed + 99);
        let feeds = generated_feeds(&plan, &mut lcg);
        let outputs = plan.outputs.len();
        let about = steer_compiler::plan::print(&plan);
        let rows = |c: &Compiled, backend: &str| {
            let backend = row_backend(backend).expect("a backend");
            RowsEngine::new(Arc::clone(&c.plan), Arc::clone(&c.program), backend, Arc::new(Numbers), &Numbers)
                .unwrap_or_else(|e| panic!("seed {seed}: {e}\n{about}"))
        };
        let run = |engine: &mut dyn Engine, feeds: &[Feed], cuts: &[usize]| {
            feed(engine, feeds, cuts, outputs, &all).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{about}"))
        };
        let compiled = compile(plan.clone(), &Options::default());
        let whole = run(&mut rows(&compiled, DEFAULT), &feeds, &[]);
        let bits = |o: &Outcome| {
            let of =
                |(k, v): (&(usize, usize, usize), &Arc<[f32]>)| (*k, v.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
            o.values.iter().map(of).collect::<BTreeMap<_, _>>()
        };
        let parts = run(&mut rows(&compiled, DEFAULT), &feeds, &[1, 2, 5]);
        assert_eq!(bits(&whole), bits(&parts), "seed {seed} in parts\n{about}");
        let interpreted = run(&mut rows(&compiled, "interp"), &feeds, &[]);
        assert_eq!(bits(&whole), bits(&interpreted), "seed {seed} interpreted\n{about}");
        let mut reference = Reference::new(Arc::new(plan.clone()), Arc::new(Numbers), Arc::new(Numbers))
            .unwrap_or_else(|e| panic!("{e}"));
        let expected = run(&mut reference, &feeds, &[]);
        let mut sizes = vec![0.0f32; outputs];
        for (&(_, o, _), v) in &expected.values {
            sizes[o] = sizes[o].max(size(v));
        }
        for (&(run, output, position), v) in &expected.values {
            let off = distance(v, whole.value(run, output, position), sizes[output].max(1e-3));
            assert!(
                off <= TOLERANCE,
                "seed {seed}: output {output} of run {run} row {position} is off by {off}\n{about}"
            );
        }
    }
}

#[test]
fn formatting_keeps_the_tree() {
    let parse = |text: &str| {
        let mut sources = steer_lang::Sources::default();
        let id = sources.add("script.steer", text);
        let (tree, diagnostics) = steer_lang::parse(id, text);
        assert!(diagnostics.is_empty(), "{diagnostics:#?}\n{text}");
        tree
    };
    for family in FAMILIES {
        let name = checkpoints().into_iter().find(|n| n.starts_with(&format!("{family}-"))).expect("a checkpoint");
        let at = Surroundings::of(&model(&folder("parity").join(name)).model);
        for seed in 0..100 {
            let text = script(&at, seed, DISCRETE).text;
            let tree = parse(&text);
            let formatted = steer_lang::format(&text).unwrap_or_else(|d| panic!("{d:#?}\n{text}"));
            assert!(steer_lang::eq_ignoring_spans(&tree, &parse(&formatted)), "{text}\nbecame\n{formatted}");
            assert_eq!(steer_lang::format(&formatted).ok(), Some(formatted), "formatting twice");
        }
    }
}
