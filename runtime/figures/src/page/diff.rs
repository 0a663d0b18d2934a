//! Which words of a text another one does not have at that place.

/// Beyond so many pairs of words everything between common ends counts as different.
const PAIRS: usize = 4_000_000;

/// The text in pieces, each with whether it differs from `base`.
pub(super) fn against<'a>(base: &str, text: &'a str) -> Vec<(&'a str, bool)> {
    let (old, new) = (words(base), words(text));
    let before = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let most = old.len().min(new.len()) - before;
    let after = old.iter().rev().zip(new.iter().rev()).take(most).take_while(|(a, b)| a == b).count();
    let middle = before..new.len() - after;
    let mut same = vec![true; new.len()];
    same[middle.clone()].fill(false);
    for i in common(&old[before..old.len() - after], &new[middle.clone()]) {
        same[before + i] = true;
    }
    let mut out: Vec<(usize, usize, bool)> = Vec::new();
    let mut at = 0;
    for (word, same) in new.iter().zip(same) {
        let end = at + word.len();
        match out.last_mut() {
            Some((_, to, changed)) if *changed != same => *to = end,
            _ => out.push((at, end, !same)),
        }
        at = end;
    }
    out.into_iter().map(|(from, to, changed)| (&text[from..to], changed)).collect()
}

/// Words with the spaces before them.
fn words(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut start = 0;
    let mut inside = false;
    for (i, c) in text.char_indices() {
        if c.is_whitespace() && inside {
            out.push(&text[start..i]);
            start = i;
        }
        inside = !c.is_whitespace();
    }
    if start < text.len() {
        out.push(&text[start..]);
    }
    out
}

/// The places in `new` of a longest common subsequence.
fn common(old: &[&str], new: &[&str]) -> Vec<usize> {
    if old.is_empty() || new.is_empty() || old.len().saturating_mul(new.len()) > PAIRS {
        return Vec::new();
    }
    let width = new.len() + 1;
    // The length of the best match of what follows each pair.
    let mut best = vec![0u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            best[i * width + j] = match old[i] == new[j] {
                true => best[(i + 1) * width + j + 1] + 1,
                false => best[(i + 1) * width + j].max(best[i * width + j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut out = Vec::new();
    while i < old.len() && j < new.len() {
        if old[i] == new[j] {
            out.push(j);
            (i, j) = (i + 1, j + 1);
        } else if best[(i + 1) * width + j] >= best[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_found() {
        let parts = against("He felt sad. The sky was dark.", "He felt very glad. The sky was golden.");
        assert_eq!(parts, [("He felt", false), (" very glad.", true), (" The sky was", false), (" golden.", true)]);
        assert_eq!(against("a b", "a b"), [("a b", false)]);
        assert_eq!(against("", "x"), [("x", true)]);
        assert_eq!(against("x", ""), []);
        assert_eq!(against("a a a", "a"), [("a", false)]);
        for (a, b) in [("é ü", " é\n\nü  "), ("  ", " ")] {
            let whole: String = against(a, b).into_iter().map(|p| p.0).collect();
            assert_eq!(whole, b);
        }
    }
}
