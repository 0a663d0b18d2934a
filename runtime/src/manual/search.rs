//! From what a user types to what is meant.

use super::markdown::{Block, bare};
use super::words::{MEANT, PARTS, Part};
use super::{Entry, Kind, Manual, Topic};
use std::collections::BTreeMap;
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, codes};

/// So many are listed where several things are meant.
const LISTED: usize = 24;

/// So many names are suggested where nothing is.
const SUGGESTED: usize = 3;

impl Manual {
    /// What is meant by a name: all that is called so; else what stands below it, as `attn.q` below `attn`; else the
    /// heading that has these words, or whatever has them. The error names what is spelled alike.
    pub fn find(&self, topic: &str) -> Result<Topic, Diagnostic> {
        let wanted = plain(topic);
        if let Some(found) = self.exact(&wanted) {
            return Ok(found);
        }
        let below = self.below(&wanted);
        if !below.is_empty() {
            return Ok(Topic::list(&wanted, &below));
        }
        let words: Vec<String> = wanted.split(|c: char| !is_part(c)).filter(|w| w.len() > 1).map(stem).collect();
        let with = |text: &dyn Fn(&Entry) -> String, kind: fn(Kind) -> bool| -> Vec<&Entry> {
            let all = self.entries.iter().filter(|e| !words.is_empty() && kind(e.kind));
            all.filter(|e| has(&text(e), &words)).collect()
        };
        let section = |k: Kind| k == Kind::Section;
        let other = |k: Kind| k != Kind::Section && k != Kind::Code;
        let searches = [
            with(&called, section),
            with(&called, other),
            with(&|e| called(e) + " " + &e.summary, |k| k != Kind::Section),
            with(&|e| text_of(&e.blocks), section),
        ];
        match searches.into_iter().find(|found| !found.is_empty()) {
            Some(found) if found.len() == 1 => Ok(Topic::of(topic.trim(), &found, Vec::new())),
            Some(found) => {
                let mut named: Vec<(&str, &Entry)> = Vec::new();
                for e in found {
                    if named.len() < LISTED && !named.iter().any(|(name, _)| *name == e.name) {
                        named.push((&e.name, e));
                    }
                }
                Ok(Topic::list(topic.trim(), &named))
            }
            None => Err(self.unknown(topic.trim(), &wanted)),
        }
    }

    /// All that has exactly this name.
    fn exact(&self, wanted: &str) -> Option<Topic> {
        let mut found = self.named(|n| n == wanted);
        let meant = MEANT.iter().find(|(word, _)| *word == wanted).map_or(&[][..], |(_, parts)| parts);
        let openings: Vec<Entry> = meant.iter().filter_map(|p| self.opening(p)).collect();
        for part in meant {
            let more: Vec<&Entry> = match part {
                Part::Whole(name) => self.of(Kind::Section).filter(|e| e.name == *name).collect(),
                Part::Opening(_) => Vec::new(),
                Part::Within(place, name) => self
                    .of(Kind::Word)
                    .filter(|e| e.place == *place && (e.name == *name || e.also.iter().any(|a| a == name)))
                    .collect(),
            };
            more.into_iter().for_each(|e| {
                if !found.iter().any(|f| f.id == e.id) {
                    found.push(e)
                }
            });
        }
        found.extend(&openings);
        if found.is_empty() {
            return None;
        }
        found.sort_by_key(|e| e.kind);
        // A row of the reference that has a code shows no more than how its page is asked for.
        if found.iter().any(|e| e.kind == Kind::Code) {
            found.retain(|e| e.kind == Kind::Code);
        }
        let whole: Vec<String> = found.iter().filter(|e| e.kind == Kind::Section).map(|e| e.name.clone()).collect();
        let mut more: Vec<String> = Vec::new();
        let places: Vec<String> = found.iter().filter(|e| e.kind == Kind::Word).map(|e| e.place.clone()).collect();
        for place in places.into_iter().chain(openings.iter().map(|o| o.name.clone())) {
            let shown = whole.contains(&place) && !openings.iter().any(|o| o.name == place);
            if !shown && !more.contains(&place) {
                more.push(place);
            }
        }
        without_repetition(&mut found, wanted);
        Some(Topic::of(wanted, &found, more))
    }

    /// What stands below a name, as `attn.q` below `attn`, each by what says most of it.
    fn below(&self, wanted: &str) -> Vec<(&str, &Entry)> {
        let mut out: BTreeMap<&str, &Entry> = BTreeMap::new();
        for e in &self.entries {
            for name in e.also.iter().chain([&e.name]) {
                let within = name.to_lowercase().strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'));
                if within && !wanted.is_empty() {
                    let said = out.entry(name).or_insert(e);
                    if e.kind == Kind::Site {
                        *said = e;
                    }
                }
            }
        }
        out.into_iter().collect()
    }

    /// How a section begins: up to its first table or example.
    fn opening(&self, part: &Part) -> Option<Entry> {
        let Part::Opening(name) = part else { return None };
        let section = self.of(Kind::Section).find(|e| e.name == *name)?;
        let paragraphs = section.blocks.iter().take_while(|b| matches!(b, Block::Paragraph { .. })).take(2);
        Some(Entry { blocks: paragraphs.cloned().collect(), ..section.clone() })
    }

    /// Entries of which one of the names fits.
    fn named(&self, fits: impl Fn(&str) -> bool) -> Vec<&Entry> {
        let names = |e: &Entry| fits(&e.name.to_lowercase()) || e.also.iter().any(|a| fits(&a.to_lowercase()));
        self.entries.iter().filter(|e| names(e)).collect()
    }

    fn unknown(&self, topic: &str, wanted: &str) -> Diagnostic {
        let all = self.entries.iter().flat_map(|e| e.also.iter().chain([&e.name])).map(String::as_str);
        let mut names: BTreeMap<String, &str> = all.map(|n| (n.to_lowercase(), n)).collect();
        names.extend(MEANT.iter().map(|(word, _)| ((*word).to_owned(), *word)));
        let mut near: Vec<&str> = Vec::new();
        while near.len() < SUGGESTED
            && wanted.len() > 1
            && let Some(name) = nearest(wanted, names.keys().map(String::as_str)).map(str::to_owned)
        {
            near.extend(names.remove(&name));
        }
        let near: Vec<String> = near.iter().map(|n| format!("`{n}`")).collect();
        let help = match &near[..] {
            [] => "`steer doc` without a name lists what there is".to_owned(),
            [first @ .., last] if !first.is_empty() => format!("did you mean {} or {last}?", first.join(", ")),
            _ => format!("did you mean {}?", near.join("")),
        };
        Diagnostic::error(codes::COMMAND, format!("the manual has nothing on `{topic}`")).help(help)
    }
}

/// Takes out rows that stand in what is shown anyway: in a section, behind a paragraph, or that call a function that says
/// itself what it is.
fn without_repetition(found: &mut Vec<&Entry>, wanted: &str) {
    let sections: Vec<String> =
        found.iter().filter(|e| e.kind == Kind::Section && e.blocks.len() > 2).map(|e| e.name.clone()).collect();
    let tables: Vec<usize> = found
        .iter()
        .filter_map(|e| match &e.blocks[..] {
            [Block::Paragraph { .. }, Block::Table(t)] if e.kind == Kind::Word => Some(t.number),
            _ => None,
        })
        .collect();
    let function = found.iter().any(|e| matches!(e.kind, Kind::Builtin | Kind::Method | Kind::Block));
    found.retain(|e| {
        let [Block::Table(t)] = &e.blocks[..] else { return true };
        let first = t.rows.first().and_then(|r| r.cells.first()).map(|c| bare(c).to_lowercase()).unwrap_or_default();
        let call = first.split(", ").any(|form| form.starts_with(&format!("{wanted}(")));
        e.kind != Kind::Word || !(sections.contains(&e.place) || tables.contains(&t.number) || function && call)
    });
}

/// What is typed without what does not tell it from others.
fn plain(topic: &str) -> String {
    let text = topic.trim().trim_matches('`').to_lowercase();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = text.strip_suffix("()").unwrap_or(&text);
    match text.strip_prefix("blocks[").and_then(|rest| rest.split_once("].")) {
        Some((_, site)) => site.to_owned(),
        None => text.to_owned(),
    }
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric()
}

/// A word without the ending of its plural.
fn stem(word: &str) -> String {
    match word.strip_suffix('s').filter(|w| w.len() > 2 && !w.ends_with('s')) {
        Some(one) => one.to_lowercase(),
        None => word.to_lowercase(),
    }
}

/// What an entry is called, and what the parts of its name stand for.
fn called(e: &Entry) -> String {
    let mut out = format!("{} {}", e.name, e.also.join(" "));
    for name in e.also.iter().chain([&e.name]) {
        let first = name.split('.').next().unwrap_or_default();
        out.extend(
            PARTS.iter().filter(|(part, _)| *part == first && name.contains('.')).map(|(_, more)| format!(" {more}")),
        );
    }
    out
}

/// Whether a text has all of these words.
fn has(text: &str, words: &[String]) -> bool {
    let all: Vec<String> = text.split(|c: char| !is_part(c)).filter(|w| !w.is_empty()).map(stem).collect();
    words.iter().all(|w| all.contains(w))
}

fn text_of(blocks: &[Block]) -> String {
    let mut out = String::new();
    for block in blocks {
        match block {
            Block::Heading { text, .. } | Block::Paragraph { text, .. } => out.push_str(&bare(text)),
            Block::Code { .. } => {}
            Block::Table(t) => t.rows.iter().flat_map(|r| &r.cells).for_each(|c| out.push_str(&(bare(c) + " "))),
            Block::List { items, .. } => items.iter().for_each(|i| out.push_str(&text_of(i))),
        }
        out.push(' ');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_compared_plainly() {
        for (typed, same) in
            [(" `Softmax()` ", "softmax"), ("blocks[3].attn.pattern", "attn.pattern"), ("Hook   Bodies", "hook bodies")]
        {
            assert_eq!(plain(typed), same);
        }
        assert_eq!(["positions", "class", "is", "bias"].map(stem), ["position", "class", "is", "bia"]);
    }
}
