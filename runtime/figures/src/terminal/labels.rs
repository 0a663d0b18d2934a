//! Labels under or over columns: all of them where there is room, else in two lines, downwards, or some of them.

use crate::side::clip;
use crate::text::width;

/// How many letters of a label stand one below the other.
const DEEP: usize = 12;

/// Lines with labels around places (in halves of a column), within a width. Of `numeric` ones some are enough.
pub(crate) fn place(labels: &[String], halves: &[usize], columns: usize, numeric: bool) -> Vec<String> {
    let gap = halves.windows(2).map(|w| w[1].saturating_sub(w[0])).min().unwrap_or(columns * 2) / 2;
    if let Some(line) = one(labels, halves, columns, 1) {
        return vec![line];
    }
    if numeric {
        return (2..=labels.len()).find_map(|k| one(labels, halves, columns, k)).into_iter().collect();
    }
    // In turns, with the room of two columns each.
    if gap >= 4 {
        let short: Vec<String> = labels.iter().map(|l| clip(l, 2 * gap - 1)).collect();
        let half = |from: usize| {
            let pick = |i: &usize| i % 2 == from;
            let texts: Vec<String> = (0..short.len()).filter(pick).map(|i| short[i].clone()).collect();
            let places: Vec<usize> = (0..short.len()).filter(pick).map(|i| halves[i]).collect();
            one(&texts, &places, columns, 1)
        };
        if let (Some(a), Some(b)) = (half(0), half(1)) {
            return vec![a, b];
        }
    }
    let every = if gap >= 2 { 1 } else { 2usize.div_ceil(gap.max(1)) };
    down(labels, halves, every)
}

/// One line with every k-th label, or nothing where they would touch.
fn one(labels: &[String], halves: &[usize], columns: usize, every: usize) -> Option<String> {
    let mut out = String::new();
    let mut used = 0;
    for (label, at) in labels.iter().zip(halves).step_by(every) {
        let w = width::of(label);
        let least = if used == 0 { 0 } else { used + 1 };
        let start = ((at + 1).saturating_sub(w) / 2).min(columns.saturating_sub(w));
        // A label may move by a column to make room.
        let start = if start + 1 == least { least } else { start };
        if start < least || start + w > columns {
            return None;
        }
        out.push_str(&" ".repeat(start - used));
        out.push_str(label);
        used = start + w;
    }
    Some(out)
}

/// Labels downwards, a letter a line.
fn down(labels: &[String], halves: &[usize], every: usize) -> Vec<String> {
    let clipped: Vec<Vec<char>> = labels.iter().step_by(every).map(|l| clip(l, DEEP).chars().collect()).collect();
    let deep = clipped.iter().map(Vec::len).max().unwrap_or(0);
    (0..deep)
        .map(|row| {
            let mut out = String::new();
            let mut used = 0;
            for (letters, at) in clipped.iter().zip(halves.iter().step_by(every)) {
                let (Some(c), start) = (letters.get(row), at / 2) else { continue };
                if start < used {
                    continue;
                }
                out.push_str(&" ".repeat(start - used));
                // The end of a long label, seen from above.
                out.push(if *c == '…' { '⋮' } else { *c });
                used = start + width::of_char(*c);
            }
            out
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(labels: &[&str], step: usize, numeric: bool) -> Vec<String> {
        let labels: Vec<String> = labels.iter().map(|l| l.to_string()).collect();
        let halves: Vec<usize> = (0..labels.len()).map(|i| step * (2 * i + 1) - 1).collect();
        place(&labels, &halves, labels.len() * step, numeric)
    }

    #[test]
    fn labels_take_the_room_there_is() {
        assert_eq!(of(&["a", "b", "c"], 4, false), [" a   b   c"]);
        assert_eq!(of(&["one", "two", "three", "four"], 4, false), ["one    three", "    two     four"]);
        assert_eq!(of(&["ab", "cd", "ef"], 2, false), ["a c e", "b d f"]);
        assert_eq!(of(&["8", "9", "10", "11", "12"], 2, true), ["8   10  12"]);
        assert_eq!(of(&["abcdefghijklmnop"], 1, false).last().map(String::as_str), Some("⋮"));
    }
}
