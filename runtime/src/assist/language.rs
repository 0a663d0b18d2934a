//! What the language's own reference says of its words, taken from the tables of that document.

use std::sync::OnceLock;

/// The document.
const REFERENCE: &str = include_str!("../../../docs/LANGUAGE.md");

/// A line of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The heading that it stands under.
    pub section: String,
    /// The pieces of code in its first cell.
    pub heads: Vec<String>,
    /// The cells behind, joined.
    pub text: String,
}

impl Row {
    /// What is said of one of several pieces: of as many sentences as there are pieces its own.
    pub fn of(&self, head: &str) -> &str {
        let parts: Vec<&str> = self.text.split("; ").collect();
        match self.heads.iter().position(|h| h == head) {
            Some(n) if parts.len() == self.heads.len() => parts[n],
            _ => &self.text,
        }
    }
}

/// Every line of every table, in order.
pub fn rows() -> &'static [Row] {
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    ROWS.get_or_init(|| read(REFERENCE))
}

fn read(text: &str) -> Vec<Row> {
    let (mut out, mut section) = (Vec::new(), String::new());
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix('#') {
            section = heading.trim_start_matches('#').trim().to_owned();
        }
        let Some(inner) = line.strip_prefix("| ").and_then(|l| l.strip_suffix(" |").or(l.strip_suffix('|'))) else {
            continue;
        };
        let cells = cells(inner);
        let [first, rest @ ..] = &cells[..] else { continue };
        let heads = pieces_of_code(first);
        if heads.is_empty() {
            continue;
        }
        let rest: Vec<String> = rest.iter().map(|c| without_links(c)).filter(|c| !c.is_empty()).collect();
        out.push(Row { section: section.clone(), heads, text: rest.join(": ") });
    }
    out
}

/// The cells of a line; `\|` is a bar of the text.
fn cells(line: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some('|')) => {
                chars.next();
                out.last_mut().into_iter().for_each(|s| s.push('|'));
            }
            ('|', _) => out.push(String::new()),
            _ => out.last_mut().into_iter().for_each(|s| s.push(c)),
        }
    }
    out.into_iter().map(|s| s.trim().to_owned()).collect()
}

fn pieces_of_code(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// `[text](#place)` as its text: places of the document mean nothing elsewhere.
fn without_links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let link = rest[open + 1..].find("](").and_then(|middle| {
            let inner = &rest[open + 1..open + 1 + middle];
            let after = open + 1 + middle + 2;
            let close = rest[after..].find(')')?;
            (!inner.contains(['[', '`'])).then_some((inner, after + close + 1))
        });
        match link {
            Some((inner, end)) => {
                out.push_str(&rest[..open]);
                out.push_str(inner);
                rest = &rest[end..];
            }
            None => {
                out.push_str(&rest[..=open]);
                rest = &rest[open + 1..];
            }
        }
    }
    out + rest
}

/// What a table says of a word: of a section, or of any.
pub fn about(word: &str, section: &[&str]) -> Option<&'static Row> {
    let rows = rows().iter().filter(|r| section.is_empty() || section.contains(&r.section.as_str()));
    rows.into_iter()
        .find(|r| r.heads.iter().any(|h| h == word || h.split_whitespace().any(|w| w == word) && !h.contains('(')))
}

/// What a section says of the word that a form begins with.
pub fn section_word(word: &str, section: &str) -> Option<&'static Row> {
    let begins = |h: &String| h.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    rows().iter().filter(|r| r.section == section).find(|r| r.heads.iter().any(begins))
}

/// What is said of a word that begins a declaration or statement.
pub fn keyword(word: &str) -> Option<&'static Row> {
    let sections = ["Items", "Hook bodies", "Routes", "Model files", "Sweeps", "Tables", "Positions"];
    about(word, &["Items"]).or_else(|| sections.into_iter().find_map(|s| section_word(word, s)))
}

/// The names of a table's first cells that are single words.
pub fn words_of(section: &str) -> impl Iterator<Item = (&'static str, &'static Row)> {
    let rows = rows().iter().filter(move |r| r.section == section);
    rows.flat_map(|r| r.heads.iter().map(move |h| (h.as_str(), r)))
        .filter(|(h, _)| !h.is_empty() && h.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read() {
        assert!(keyword("hook").is_some_and(|r| r.text.contains("an edit")));
        assert!(keyword("when").is_some_and(|r| r.text.contains("where the condition holds")));
        assert!(keyword("force").is_some_and(|r| r.text.contains("among the chosen")));
        assert!(about("temperature", &["Generation"]).is_some_and(|r| r.text.contains("0 is greedy")));
        assert!(about("donor", &["Hook bodies"]).is_some());
        assert!(words_of("Generation").any(|(w, _)| w == "min_p"));
        assert!(rows().iter().all(|r| !r.text.contains("](#")), "links are gone");
        assert_eq!(without_links("as [here](#there) and [a] b"), "as here and [a] b");
    }
}
