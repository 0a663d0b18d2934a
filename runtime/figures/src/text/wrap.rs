//! Wrapped texts, alone and side by side.

use super::width;

/// Control characters as pictures of themselves, so that a model's text cannot act on the terminal.
pub fn visible(text: &str) -> String {
    let picture = |c: char| match c {
        '\n' => '\n',
        '\t' => ' ',
        '\u{0}'..='\u{1F}' => char::from_u32(0x2400 + c as u32).unwrap_or('?'),
        '\u{7F}' => '␡',
        '\u{80}'..='\u{9F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => '�',
        _ => c,
    };
    text.chars().map(picture).collect()
}

/// A text in lines of at most `columns`, broken at spaces where there are any.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(2);
    visible(text).split('\n').flat_map(|line| wrap_line(line, columns)).collect()
}

fn wrap_line(line: &str, columns: usize) -> Vec<String> {
    let mut out = Vec::new();
    let mut current = String::new();
    let mut used = 0;
    for word in line.split_inclusive(' ') {
        let bare = width::of(word.trim_end_matches(' '));
        if used > 0 && used + bare > columns {
            out.push(std::mem::take(&mut current));
            used = 0;
        }
        for c in word.chars() {
            let w = width::of_char(c);
            if used + w > columns {
                // A space that does not fit is the end of the line.
                if c == ' ' {
                    continue;
                }
                out.push(std::mem::take(&mut current));
                used = 0;
            }
            current.push(c);
            used += w;
        }
    }
    out.push(current);
    out.iter_mut().for_each(|l| l.truncate(l.trim_end().len()));
    out
}

/// Titled texts side by side, each in a column of its own; one below the other where columns would
/// be too narrow to read.
pub fn beside(blocks: &[(&str, &str)], columns: usize) -> String {
    const GAP: usize = 3;
    const NARROWEST: usize = 24;
    let n = blocks.len().max(1);
    let each = columns.saturating_sub(GAP * (n - 1)) / n;
    if n == 1 || each < NARROWEST {
        return blocks.iter().map(|(title, text)| stacked(title, text, columns)).collect();
    }
    let wrapped: Vec<Vec<String>> = blocks
        .iter()
        .map(|(title, text)| {
            let title = wrap(title, each).into_iter().next().unwrap_or_default();
            let rule = "─".repeat(each);
            [title, rule].into_iter().chain(wrap(text, each)).collect()
        })
        .collect();
    let height = wrapped.iter().map(Vec::len).max().unwrap_or(0);
    let mut out = String::new();
    for i in 0..height {
        let mut line = String::new();
        for (j, block) in wrapped.iter().enumerate() {
            let cell = block.get(i).map_or("", String::as_str);
            line.push_str(cell);
            if j + 1 < n {
                line.push_str(&" ".repeat(each.saturating_sub(width::of(cell)) + GAP));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// The part of a titled text alone that no further text changes: all but its last word. What `beside`
/// makes of the whole text, once it is complete, begins with it.
pub fn settled(title: &str, text: &str, columns: usize) -> String {
    let complete = text.rfind([' ', '\n']).map_or("", |at| &text[..at]);
    let mut out = beside(&[(title, complete)], columns);
    out.truncate(out.trim_end().len());
    out
}

fn stacked(title: &str, text: &str, columns: usize) -> String {
    let lines = wrap(text, columns.saturating_sub(2)).into_iter().map(|l| format!("  {l}").trim_end().to_string());
    let lines: Vec<String> = lines.collect();
    format!("{}\n{}\n", visible(title), lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces_and_inside_of_long_words() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(wrap("a\n\nb", 8), ["a", "", "b"]);
        assert_eq!(wrap("你好你好", 5), ["你好", "你好"]);
        assert_eq!(wrap("", 8), [""]);
        for n in 0..30 {
            let text = "The quick  brown 🙂 fox, 你好世界 and so-on-and-so-on";
            assert!(wrap(text, n).iter().all(|l| width::of(l) <= n.max(2)), "{n}");
        }
    }

    #[test]
    fn what_is_settled_is_how_the_whole_begins() {
        let pieces =
            ["The", " quick", "  ", "brown", "\n", "\n\n", " 🙂", "你好世界", "é", "e\u{301}", "\t", " a", "\u{3000}"];
        let mut state = 7u32;
        for round in 0..300 {
            let mut texts = vec![String::new()];
            for _ in 0..30 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let next = texts[texts.len() - 1].clone() + pieces[(state >> 16) as usize % pieces.len()];
                texts.push(next);
            }
            let columns = 8 + round % 40;
            let whole = beside(&[("title", &texts[30])], columns);
            let mut before = String::new();
            for text in &texts {
                let now = settled("title", text, columns);
                assert!(whole.starts_with(&now) && now.starts_with(&before), "{text:?} in {columns}");
                before = now;
            }
            assert!(before.len() > 5, "{whole:?}");
        }
    }

    #[test]
    fn blocks_stand_beside_each_other_where_there_is_room() {
        let text = beside(&[("baseline", "one two three four five six"), ("steered", "short")], 53);
        let rule = "─".repeat(25);
        assert_eq!(
            text,
            format!("baseline                    steered\n{rule}   {rule}\none two three four five     short\nsix\n")
        );
        assert_eq!(beside(&[("a", "x"), ("b", "y\nz")], 30), "a\n  x\nb\n  y\n  z\n");
        assert_eq!(visible("\u{1b}[2Jx\u{202e}"), "␛[2Jx�");
    }
}
