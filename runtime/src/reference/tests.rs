//! The reference against values computed by hand, and optimized Plans against the ones they came from.

use super::Reference;
use crate::engine::{Engine, Extend, Run, RunEdit, StepResult, TensorSource, WeightSource};
use crate::error::Error;
use std::sync::Arc;
use steer_compiler::plan::generate::{self, Lcg};
use steer_compiler::plan::rules::{Options, optimize};
use steer_compiler::plan::{EditId, Plan, Stat, Tensor, Weight, parse, print, verify};

/// Weights by chance, the same for the same name; tensors count up from 1.
struct Numbers;

impl WeightSource for Numbers {
    fn read(&self, weight: &Weight) -> Result<Vec<f32>, Error> {
        let mut lcg = Lcg(weight.name.bytes().fold(7, |h, b| h * 31 + u64::from(b)));
        let len = weight.axes().iter().map(size).product::<usize>();
        Ok((0..len).map(|_| lcg.unit()).collect())
    }
}

impl TensorSource for Numbers {
    fn read(&self, tensor: &Tensor) -> Result<Arc<[f32]>, Error> {
        let len = tensor.axes.iter().map(size).product::<usize>();
        Ok((1..=len).map(|i| i as f32).collect())
    }
}

fn size(axis: &steer_compiler::plan::Axis) -> usize {
    if let steer_compiler::plan::Size::Fixed(n) = axis.size { n } else { 0 }
}

fn engine(plan: Plan) -> Reference {
    assert_eq!(verify(&plan), Vec::<String>::new(), "{}", print(&plan));
    Reference::new(Arc::new(plan), Arc::new(Numbers), Arc::new(Numbers)).unwrap()
}

/// The only output of a text, on rows with these tokens.
fn rows(text: &str, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut engine = engine(parse(text).unwrap_or_else(|e| panic!("{e}\n{text}")));
    engine.begin(vec![Run::default()]).unwrap();
    let reads = vec![(0..tokens.len()).collect()];
    let work = Extend { run: 0, tokens: tokens.to_vec(), active: vec![], donor_positions: vec![], reads };
    engine.extend(&[work]).unwrap().values.into_iter().map(|v| v.data.to_vec()).collect()
}

/// A body of `region r0` that ends with the output `y`.
fn body(lines: &str) -> String {
    let tensors = "tensor t0 \"t\" [a=2, b=3]\ntensor t1 \"u\" [a=2]\ntensor t2 \"s\" [b=3]\n";
    // Every number below the output's is a node.
    let unused = |i: &usize| !lines.lines().any(|l| l.starts_with(&format!("n{i} ")));
    let rest: String = (4..9).filter(unused).map(|i| format!("n{i} = number 0.0\n")).collect();
    format!(
        "{tensors}region r0 () -> () {{\nn0 = tensor t0\nn1 = tensor t1\nn2 = tensor t2\nn3 = token\n{rest}{lines}\n}}\noutput \"y\" n9"
    )
}

#[test]
fn elementwise_by_name() {
    // t = [[1, 2, 3], [4, 5, 6]], u = [1, 2], s = [1, 2, 3]
    let case = |lines: &str| rows(&body(lines), &[2, 3]);
    assert_eq!(case("n4 = mul n1, n3\nn9 = add n0, n4"), [[3., 4., 5., 8., 9., 10.], [4., 5., 6., 10., 11., 12.]]);
    assert_eq!(case("n4 = add n2, n3\nn9 = sub n4, n1"), [[2., 1., 3., 2., 4., 3.], [3., 2., 4., 3., 5., 4.]]);
    assert_eq!(case("n4 = le n0, n3\nn9 = select n4, n1, n0"), [[1., 1., 3., 4., 5., 6.], [1., 1., 1., 4., 5., 6.]]);
    assert_eq!(case("n4 = pow n1, n3\nn9 = round n4"), [[1., 4.], [1., 8.]]);
}

#[test]
fn reductions_views_and_choices() {
    let case = |lines: &str| rows(&body(&format!("n4 = mul n0, n3\n{lines}")), &[1]).remove(0);
    assert_eq!(case("n9 = reduce sum n4 over [b]"), [6., 15.]);
    assert_eq!(case("n9 = reduce sum_sq n4 over [a, b]"), [91.]);
    assert_eq!(case("n5 = neg n4\nn9 = reduce argmax n5 over [a]"), [0., 0., 0.]);
    assert_eq!(case("n5 [b=3, a=2] row = permute n4\nn9 [c=6] row = reshape n5"), [1., 4., 2., 5., 3., 6.]);
    assert_eq!(case("n5 = slice n4 along b start 1 len 2\nn9 = at n5 along a index 1"), [5., 6.]);
    assert_eq!(case("n5 = concat n4, n0 along a\nn9 = reduce max n5 over [a]"), [4., 5., 6.]);
    assert_eq!(case("n5 = pick n0 along b entries [2, 0]\nn9 = mul n5, n3"), [3., 1., 6., 4.]);
    // Of equals the first.
    assert_eq!(case("n5 = min n4, n1\nn6 = number 2.0\nn9 = top_k n5 along b count n6"), [1., 1., 0., 1., 1., 0.]);
}

#[test]
fn products_and_lookups() {
    let case = |lines: &str| rows(&body(lines), &[1]).remove(0);
    assert_eq!(case("n4 = mul n2, n3\nn9 = linear n4, n0 over [b]"), [14., 32.]);
    // A shared axis stays; where it is not active there is nothing.
    assert_eq!(case("n4 = mul n0, n3\nn9 = linear n4, n0 over [b]"), [14., 77.]);
    assert_eq!(
        case(
            "n4 = mul n2, n3\nn5 = ge n1, n3\nn6 = number 1.0\nn7 = gt n1, n6\nn8 = mul n7, n3\nn9 = linear n4, n0 over [b] active n8"
        ),
        [0., 32.]
    );
    assert_eq!(case("n9 = lookup n0, n3"), [4., 5., 6.]);
}

#[test]
fn a_token_beyond_the_table_is_an_error() {
    let mut engine = engine(parse(&body("n9 = lookup n0, n3")).unwrap());
    engine.begin(vec![Run::default()]).unwrap();
    let work = Extend { run: 0, tokens: vec![2], reads: vec![vec![0]], ..Extend::default() };
    let error = engine.extend(&[work]).unwrap_err();
    assert_eq!(error.0.code, steer_lang::codes::OUT_OF_RANGE);
}

#[test]
fn rows_that_are_mixed() {
    let conv = "tensor t0 \"w\" [c=1, tap=2]\nregion r0 () -> () {\nn0 = tensor t0\nn1 = token\nn2 [c=1] index row = reshape n1\nn3 = mul n2, n1\nn4 [c=1] row = conv1d n3, n0\n}\noutput \"y\" n4";
    // x = token², w = [1, 2]
    assert_eq!(rows(conv, &[1, 2, 3]), [[2.], [9.], [22.]]);
    let scan = "region r0 () -> () {\nn0 = token\nn1 [] row = scan body r1\nregion r1 (n2) -> (n5, n6) {\nn2 [] row = arg 0\nn3 = number 2.0\nn4 = mul n2, n3\nn5 = add n4, n0\nn6 = neg n5\n}\n}\noutput \"y\" n1";
    assert_eq!(rows(scan, &[1, 2, 3]), [[-1.], [-4.], [-11.]]);
    // The pattern is 1 for every key: the sum of the values of the window.
    let sum = "region r0 () -> () {\nn0 = token\nn1 [h=1, d=1] index row = reshape n0\nn6 = abs n1\nn2 = attention n6, n6, n6 scale 1.0 window 2 body r1\nregion r1 (n3) -> (n5) {\nn3 [h=1, key] row = arg 0\nn4 = sub n3, n3\nn5 = cos n4\n}\n}\noutput \"y\" n2";
    assert_eq!(rows(sum, &[1, 2, 3]), [[1.], [3.], [5.]]);
    // The number of keys, their positions and the best of them.
    let seen = "region r0 () -> () {\nn0 = token\nn1 [h=1, d=1] index row = reshape n0\nn7 = abs n1\nn2 = attention n7, n7, n7 scale 1.0 window 2 body r1\nregion r1 (n3) -> (n6) {\nn3 [h=1, key] row = arg 0\nn4 [key] index row = iota\nn5 = reduce sum n4 over [key]\nn6 = mul n3, n5\nn8 = number 1.0\nn9 = top_k n3 along key count n8\n}\n}\noutput \"y\" n6\noutput \"best\" n9";
    // scores of row 2: keys 1, 2 with tokens 2, 1; q = 1; the positions sum up to 3.
    assert_eq!(rows(seen, &[1, 2, 1]), [vec![0.], vec![2., 4.], vec![6., 3.]]);
}

/// Two runs, the second one with every edit, and patched from the first one.
fn experiment(plan: &Plan, chunks: &[usize], seed: u64) -> StepResult {
    let edits = plan.edits.len();
    let mut engine = engine(plan.clone());
    let run = |e: usize| RunEdit { edit: EditId(e as u32), params: vec![0.5], donor: Some(0) };
    engine.begin(vec![Run::default(), Run { edits: (0..edits).map(run).collect() }]).unwrap();
    let mut result = StepResult::default();
    let (mut lcg, mut position) = (Lcg(seed), 0);
    for &len in chunks {
        let mut new = Vec::new();
        let mut flags: Vec<Vec<bool>> = Vec::new();
        for _ in 0..len {
            new.push([0; 2].map(|_| lcg.below(generate::VOCAB) as u32));
            flags.push((0..edits).map(|_| lcg.below(2) == 0).collect());
        }
        let reads = vec![(position..position + len).collect(); plan.outputs.len()];
        let work = |run: usize, active: Vec<Vec<bool>>| Extend {
            run,
            tokens: new.iter().map(|t| t[run]).collect(),
            active,
            donor_positions: vec![],
            reads: reads.clone(),
        };
        let active = (0..edits).map(|e| flags.iter().map(|f| f[e]).collect()).collect();
        let step = engine.extend(&[work(0, vec![]), work(1, active)]).unwrap();
        result.values.extend(step.values);
        result.receipts.extend(step.receipts);
        position += len;
    }
    result.values.sort_by_key(|v| (v.run, v.output, v.position));
    result.receipts.sort_by_key(|r| (r.run, r.edit, r.position));
    result
}

fn compare(a: &StepResult, b: &StepResult, what: &str) {
    let near = |a: f32, b: f32| (a - b).abs() <= 2e-4 * (1.0 + a.abs());
    assert_eq!(a.values.len(), b.values.len());
    for (x, y) in a.values.iter().zip(&b.values) {
        assert_eq!((x.run, x.output, x.position, x.data.len()), (y.run, y.output, y.position, y.data.len()));
        for (p, q) in x.data.iter().zip(y.data.iter()) {
            assert!(p.is_finite() && near(*p, *q), "{what}: {x:?} {y:?}");
        }
    }
    for y in &b.receipts {
        let x = a.receipts.iter().find(|x| (x.run, x.edit, x.position) == (y.run, y.edit, y.position));
        let x = x.unwrap_or_else(|| panic!("{what}: {y:?}"));
        assert!(x.did.iter().zip(y.did).all(|(p, q)| near(*p, q)), "{x:?} {y:?}");
    }
}

#[test]
fn optimized_plans_compute_the_same() {
    for seed in 0..40 {
        let plan = generate::plan(seed).unwrap();
        let mut optimized = plan.clone();
        optimize(&mut optimized, &Options::default(), &mut |_, _, _| {}).unwrap();
        let (a, b) = (experiment(&plan, &[5], seed), experiment(&optimized, &[5], seed));
        assert!(!a.values.is_empty());
        compare(&a, &b, &format!("{seed}\n{plan}\n{optimized}"));
    }
}

#[test]
fn chunks_make_no_difference() {
    for seed in 0..20 {
        let plan = generate::plan(seed).unwrap();
        compare(&experiment(&plan, &[6], seed), &experiment(&plan, &[1, 3, 2], seed), &format!("{seed}\n{plan}"));
    }
}

#[test]
fn a_patch_takes_the_donors_row_and_says_so() {
    let text = "edit e0 \"p\" at \"s\"\nregion r0 () -> () {\nn0 = token\nn1 = neg n0\nn2 [] row = donor e0\nn3 = overlay e0 n1, n2\nn4 = ne n2, n1\nn5 = receipt e0 changed n4\nn6 = sub n2, n1\nn7 = reduce sum_sq n8 over [x]\nn8 [x=1] row = reshape n6\nn9 = receipt e0 moved n7\n}\noutput \"y\" n3";
    let text = text.replace(
        "n7 = reduce sum_sq n8 over [x]\nn8 [x=1] row = reshape n6",
        "n8 [x=1] row = reshape n6\nn7 = reduce sum_sq n8 over [x]",
    );
    let mut engine = engine(parse(&text).unwrap());
    let patch = RunEdit { edit: EditId(0), params: vec![], donor: Some(1) };
    engine.begin(vec![Run { edits: vec![patch] }, Run::default()]).unwrap();
    let work = [
        Extend {
            run: 0,
            tokens: vec![1, 2, 3],
            active: vec![vec![false, true, true]],
            donor_positions: vec![vec![9, 0, 1]],
            reads: vec![vec![0, 1, 2]],
        },
        Extend { run: 1, tokens: vec![7, 3], ..Extend::default() },
    ];
    let step = engine.extend(&work).unwrap();
    assert_eq!(step.values.iter().map(|v| v.data[0]).collect::<Vec<_>>(), [-1., -7., -3.]);
    assert_eq!(
        step.receipts.iter().map(|r| (r.position, r.of(Stat::Changed), r.of(Stat::Moved))).collect::<Vec<_>>(),
        [(1, 1., 25.), (2, 0., 0.)]
    );
    assert_eq!((step.rows.computed, step.rows.naive), (5, 5));
    // A patch from its own run, and from a place that is not there.
    let own = RunEdit { edit: EditId(0), params: vec![], donor: Some(0) };
    engine.begin(vec![Run { edits: vec![own] }]).unwrap();
    let work = Extend { run: 0, tokens: vec![1], active: vec![vec![true]], ..Extend::default() };
    assert!(engine.extend(&[work]).is_err());
}

#[test]
#[ignore = "takes seconds; shows how long a long generation takes"]
fn two_hundred_steps() {
    let plan = generate::plan(3).unwrap();
    let start = std::time::Instant::now();
    experiment(&plan, &[1; 200], 3);
    println!("{:?}", start.elapsed());
}
