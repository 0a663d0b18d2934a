//! Where the words of each message stand in the text that a template made.
//!
//! A template may trim words, repeat them, leave them out or merge messages. So nothing is searched for: the conversation is
//! rendered again with marks around the words, and where that is the same text but for the marks, they say where the words are.

use super::template::ChatTemplate;
use std::collections::{BTreeSet, HashMap};
use steer_compiler::elaborate::{Chat, Content};

/// Characters that no text has: the last plane of those that are free for private use.
const MARKS: std::ops::RangeInclusive<u32> = 0x10_0000..=0x10_FFFD;

/// The places of all messages in `text`, which is how the template renders the conversation.
pub fn place(template: &ChatTemplate, chat: &Chat, prompt: bool, text: &str) -> Vec<Content> {
    let rendering = Rendering { template, chat, prompt, text };
    let all = rendering.all();
    (0..chat.messages.len()).map(|i| all.as_ref().map_or_else(|| rendering.alone(i), |a| a[i].clone())).collect()
}

struct Rendering<'a> {
    template: &'a ChatTemplate,
    chat: &'a Chat,
    prompt: bool,
    text: &'a str,
}

/// On which side of the spaces around the words a mark stands. Inside, it does not keep a template from trimming.
#[derive(Clone, Copy)]
struct Sides {
    start_outside: bool,
    end_outside: bool,
}

const OUTSIDE: Sides = Sides { start_outside: true, end_outside: true };

/// From the words with all of their spaces to those without any.
const SIDES: [Sides; 4] = [
    OUTSIDE,
    Sides { start_outside: true, end_outside: false },
    Sides { start_outside: false, end_outside: true },
    Sides { start_outside: false, end_outside: false },
];

impl Rendering<'_> {
    /// All messages at once; `None` where the template makes another text of it.
    fn all(&self) -> Option<Vec<Content>> {
        let marks = self.marks(self.chat.messages.len())?;
        let contents = self.chat.messages.iter().zip(&marks).map(|(m, mark)| marked(&m.content, *mark, OUTSIDE));
        let found = self.find(&contents.collect::<Vec<_>>(), &marks)?;
        let each = found.into_iter().enumerate();
        Some(each.map(|(i, places)| self.content(i, places)).collect())
    }

    /// One message, the others as they are.
    fn alone(&self, i: usize) -> Content {
        let Some(marks) = self.marks(1) else { return Content::Changed };
        let words = &self.chat.messages[i].content;
        let tries = if words.trim().len() == words.len() { &SIDES[..1] } else { &SIDES[..] };
        for sides in tries {
            let mut contents: Vec<String> = self.chat.messages.iter().map(|m| m.content.to_string()).collect();
            contents[i] = marked(words, marks[0], *sides);
            if let Some(mut found) = self.find(&contents, &marks) {
                return self.content(i, found.remove(0));
            }
        }
        // Spaces that the template trims away are nowhere.
        if words.trim().is_empty() { Content::At(Vec::new()) } else { Content::Changed }
    }

    fn content(&self, i: usize, places: Vec<(usize, usize)>) -> Content {
        let nothing = places.is_empty() && !self.chat.messages[i].content.trim().is_empty();
        if nothing { Content::LeftOut } else { Content::At(places) }
    }

    /// Pairs of characters that stand nowhere in the conversation or its text.
    fn marks(&self, n: usize) -> Option<Vec<[char; 2]>> {
        let contents = self.chat.messages.iter().flat_map(|m| m.content.chars());
        let used: BTreeSet<char> = contents.chain(self.text.chars()).filter(|c| MARKS.contains(&(*c as u32))).collect();
        let free: Vec<char> = MARKS.filter_map(char::from_u32).filter(|c| !used.contains(c)).take(2 * n).collect();
        (free.len() == 2 * n).then(|| free.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect())
    }

    /// What each pair of marks encloses; `None` where the text is another one, or marks are lost.
    fn find(&self, contents: &[String], marks: &[[char; 2]]) -> Option<Vec<Vec<(usize, usize)>>> {
        let roles = self.chat.messages.iter().map(|m| &*m.role);
        let messages = roles.zip(contents.iter().map(String::as_str));
        let rendered = self.template.render_messages(messages, self.prompt).ok()?;
        let pairs = marks.iter().enumerate();
        let known: HashMap<char, (usize, bool)> =
            pairs.flat_map(|(i, [start, end])| [(*start, (i, true)), (*end, (i, false))]).collect();
        let mut found = vec![Vec::new(); marks.len()];
        let mut open: Vec<(usize, usize)> = Vec::new();
        let mut rest = self.text;
        for c in rendered.chars() {
            let at = self.text.len() - rest.len();
            match known.get(&c) {
                Some(&(i, true)) => open.push((i, at)),
                Some(&(i, false)) => match open.pop() {
                    Some((begun, start)) if begun == i => found[i].push((start, at)),
                    _ => return None,
                },
                None => rest = rest.strip_prefix(c)?,
            }
        }
        (rest.is_empty() && open.is_empty()).then_some(found)
    }
}

/// Words with marks around them. Empty ones stay empty, as templates ask whether they are.
fn marked(words: &str, [start, end]: [char; 2], sides: Sides) -> String {
    if words.is_empty() {
        return String::new();
    }
    let inner = words.trim();
    let before = words.len() - words.trim_start().len();
    let (before, after) = (&words[..before], &words[(before + inner.len()).min(words.len())..]);
    let (b0, b1) = if sides.start_outside { ("", before) } else { (before, "") };
    let (a0, a1) = if sides.end_outside { (after, "") } else { ("", after) };
    format!("{b0}{start}{b1}{inner}{a0}{end}{a1}")
}
