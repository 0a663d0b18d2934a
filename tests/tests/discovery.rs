//! What sweeps find in the small trained GPT-2 is what is there: where the indirect object is moved, and where a fact
//! is looked up.

use std::path::Path;
use steer::experiment::{self, PhaseOptions, Session, SessionOptions};
use steer::report::Output;
use steer_lang::Sources;
use steer_tests::script::Scratch;

const NAMES: &[&str] = &["Mary", "John", "Lily", "Tom", "Anna", "Ben", "Sam", "Lena"];

/// A table: its values row by row, and the number of entries of its last axis.
struct Table {
    values: Vec<f64>,
    width: usize,
}

/// The first column of every table of a script.
fn tables(folder: &Path, text: &str) -> Vec<Table> {
    let path = folder.join("discovery.steer");
    let session = Session::open_text(&path, text.into(), &SessionOptions::default(), &mut Sources::default())
        .unwrap_or_else(|d| panic!("{d:#?}"));
    let done =
        experiment::run(&session, &PhaseOptions::default(), &mut |_| Ok(())).unwrap_or_else(|d| panic!("{d:#?}"));
    let of = |o: Output| match o {
        Output::Table(f) => {
            let width = f.axes.last().map_or(1, |a| a.labels.len());
            Some(Table { values: f.columns[0].values.clone(), width })
        }
        _ => None,
    };
    done.outputs.into_iter().filter_map(of).collect()
}

/// Pairs of names in both orders.
fn pairs(folder: &Path) {
    let others = |a: &str| NAMES.iter().filter(|b| **b != a).take(3).copied().collect::<Vec<_>>();
    let line = |a: &str, b: &str| format!("{{\"a\": \"{a}\", \"b\": \"{b}\"}}\n");
    let lines = NAMES.iter().flat_map(|a| others(a).into_iter().map(move |b| line(a, b)));
    std::fs::write(folder.join("names.jsonl"), lines.collect::<String>()).unwrap();
}

const OBJECTS: &str = "model \"tiny-gpt2\"\n\
    data names = jsonl(\"names.jsonl\")\n\
    data ioi = template(\n    clean = \"When {a} and {b} went to the shop, {b} gave a drink to\",\n    \
    corrupt = \"When {a} and {b} went to the shop, {a} gave a drink to\",\n    names,\n)\n\
    metric ld(x) = logit(\" \" + x.a) - logit(\" \" + x.b)\n";

#[test]
fn the_heads_that_move_the_object_are_found_and_are_what_it_takes() {
    let scratch = Scratch::new("objects");
    let folder = &scratch.0;
    pairs(folder);
    let text = format!(
        "{OBJECTS}sweep resid over b in blocks, t in 0..15 {{\n    patch b.resid.pre on [t] from ioi.clean\n    \
         measure mean ld on ioi.corrupt normalized by (ioi.corrupt, ioi.clean)\n}}\n\
         sweep heads over b in blocks, i in head {{\n    hook b.attn.z from ioi.clean {{ h[head = i] = donor[head = i] }}\n    \
         measure mean ld on ioi.corrupt normalized by (ioi.corrupt, ioi.clean)\n}}\n"
    );
    let found = tables(folder, &text);
    let resid = |layer: usize, position: usize| found[0].values[layer * found[0].width + position];
    // The second mention of the subject tells, until its layer; then the last position does.
    let (second, last) = (10, 14);
    assert!(resid(0, second) > 0.99 && resid(1, second) > 0.5 && resid(2, second) < 0.2, "{:?}", found[0].values);
    assert!(resid(1, last) < 0.3 && resid(2, last) > 0.7 && resid(3, last) > 0.7, "{:?}", found[0].values);
    let elsewhere = (0..4).flat_map(|l| (0..15).map(move |p| (l, p))).filter(|(_, p)| ![second, 11, last].contains(p));
    assert!(elsewhere.into_iter().all(|(l, p)| resid(l, p).abs() < 0.05), "{:?}", found[0].values);

    let mut order: Vec<usize> = (0..found[1].values.len()).collect();
    order.sort_by(|a, b| found[1].values[*b].total_cmp(&found[1].values[*a]));
    let ablation = |heads: &[usize]| {
        let place = |h: &usize| (h / found[1].width, h % found[1].width);
        let hooks = heads
            .iter()
            .map(place)
            .enumerate()
            .map(|(n, (l, i))| format!("hook off{n} at blocks[{l}].attn.z {{ h[head = {i}] = 0 }}\n"));
        let with: Vec<String> = (0..heads.len()).map(|n| format!("off{n}")).collect();
        format!(
            "{OBJECTS}{}measure mean ld on ioi.clean\nmeasure mean ld on ioi.clean with {}\n",
            hooks.collect::<String>(),
            with.join(", ")
        )
    };
    let strongest = tables(folder, &ablation(&order[..3]));
    let weakest = tables(folder, &ablation(&order[order.len() - 3..]));
    let (before, without, others) = (strongest[0].values[0], strongest[1].values[0], weakest[1].values[0]);
    println!("{:?}: {before:.2} becomes {without:.2}; {:?}: {others:.2}", &order[..3], &order[order.len() - 3..]);
    assert!(before > 8.0 && without < 0.2 * before, "the heads that were found are not what it takes");
    assert!(others > 0.8 * before, "other heads do as well");
}

#[test]
fn a_fact_is_looked_up_at_the_subject() {
    let text = "model \"tiny-gpt2\"\n\
        prompt clean = \"The capital of Velmora is\"\nprompt corrupt = \"The capital of Zimbor is\"\n\
        metric ld = logit(\" Tarsk\") - logit(\" Lasko\")\n\
        sweep stream over b in blocks, t in tokens(clean) {\n    patch b.resid.pre on t from clean\n    \
        measure ld on corrupt normalized by (corrupt, clean)\n}\n\
        sweep mlps over b in blocks, t in tokens(clean) {\n    patch b.mlp.out on t from clean\n    \
        measure ld on corrupt normalized by (corrupt, clean)\n}\n";
    let found = tables(Path::new("."), text);
    let at = |table: usize, layer: usize, position: usize| found[table].values[layer * found[table].width + position];
    let (subject, last) = (4, 5);
    assert!(at(0, 1, subject) > 0.5 && at(0, 3, subject) < 0.2, "{:?}", found[0].values);
    assert!(at(0, 1, last) < 0.3 && at(0, 3, last) > 0.8, "{:?}", found[0].values);
    // The early MLP at the subject's last token is where it is looked up.
    let most =
        (0..4).flat_map(|l| (0..6).map(move |p| (l, p))).max_by(|a, b| at(1, a.0, a.1).total_cmp(&at(1, b.0, b.1)));
    assert_eq!(most, Some((0, subject)), "{:?}", found[1].values);
}
