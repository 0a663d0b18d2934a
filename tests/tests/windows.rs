//! Tables of keys behind a window: entries are counted as the positions that they are.

use steer::experiment::{self, PhaseOptions};
use steer::report::Output;
use steer_tests::fixture::{folder, model};
use steer_tests::script::{Scratch, session, words};

#[test]
fn keys_of_a_window_have_their_own_positions() {
    let scratch = Scratch::new("windows");
    let model = model(&folder("parity/mistral-window"));
    let long: Vec<u32> = (1..=9).collect();
    let at = |position: usize| {
        let text = format!(
            "prompt long = \"{}\"\nmetric row = blocks[1].attn.pattern[head = 0] at [{position}]\nmeasure row on long\n",
            words(&long)
        );
        let session = session(&model, &scratch.0, &text).unwrap_or_else(|d| panic!("{d:#?}"));
        let done = experiment::run(&session, &PhaseOptions::default(), &mut |_| Ok(())).unwrap();
        let mut tables = done.outputs.into_iter().filter_map(|o| if let Output::Table(f) = o { Some(f) } else { None });
        tables.next().unwrap()
    };
    // A window of five: row 7 sees 3 to 7, and row 2 all from the first.
    for (position, first, keys) in [(7, 3, 5), (2, 0, 3)] {
        let table = at(position);
        let axis = table.axes.iter().find(|a| a.name == "key").unwrap();
        assert_eq!((axis.first, axis.labels.len()), (first, keys));
        let csv = table.to_csv().unwrap();
        let column = csv.lines().next().unwrap().split(',').position(|c| c == "key_index").unwrap();
        let found: Vec<String> = csv.lines().skip(1).map(|l| l.split(',').nth(column).unwrap().to_owned()).collect();
        let want: Vec<String> = (first..first + keys).map(|n| n.to_string()).collect();
        assert_eq!(found, want, "{csv}");
    }
}
