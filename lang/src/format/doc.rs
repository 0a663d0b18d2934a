//! A small document language, and its layout within a width.
//!
//! A group is written on one line where it fits and holds no forced line end; otherwise every
//! [`Doc::Line`] directly in it becomes a line end.

const WIDTH: usize = 100;
const INDENT: usize = 4;

#[derive(Debug)]
pub(super) enum Doc {
    Text(String),
    /// A space, or a line end where the group is broken.
    Line,
    /// Nothing, or a line end where the group is broken.
    Soft,
    /// A line end. Two of them leave one line empty.
    Hard,
    /// A comment after something on its line. A line end follows it in every case.
    Trailing(String),
    /// Only where the group is broken.
    Broken(&'static str),
    Nest(Box<Doc>),
    Concat(Vec<Doc>),
    /// Whether it must break, and what is in it.
    Group(bool, Box<Doc>),
}

impl Doc {
    pub fn text(text: impl Into<String>) -> Doc {
        Doc::Text(text.into())
    }

    pub fn concat(docs: impl IntoIterator<Item = Doc>) -> Doc {
        Doc::Concat(docs.into_iter().collect())
    }

    pub fn nest(docs: impl IntoIterator<Item = Doc>) -> Doc {
        Doc::Nest(Box::new(Doc::concat(docs)))
    }

    pub fn group(docs: impl IntoIterator<Item = Doc>) -> Doc {
        let inner = Doc::concat(docs);
        Doc::Group(inner.forced(), Box::new(inner))
    }

    /// Whether it holds a line end whatever the width.
    pub fn forced(&self) -> bool {
        match self {
            Doc::Hard | Doc::Trailing(_) => true,
            Doc::Group(forced, _) => *forced,
            Doc::Nest(inner) => inner.forced(),
            Doc::Concat(docs) => docs.iter().any(Doc::forced),
            _ => false,
        }
    }
}

#[derive(Clone, Copy)]
struct Frame<'a> {
    indent: usize,
    broken: bool,
    doc: &'a Doc,
}

/// The text of a document.
pub(super) fn layout(doc: &Doc) -> String {
    let mut out = Output::default();
    let mut stack = vec![Frame { indent: 0, broken: true, doc }];
    while let Some(frame) = stack.pop() {
        match frame.doc {
            Doc::Text(text) => out.text(text),
            Doc::Trailing(text) => {
                out.text(" ");
                out.text(text);
            }
            Doc::Line if !frame.broken => out.text(" "),
            Doc::Soft if !frame.broken => {}
            Doc::Line | Doc::Soft | Doc::Hard => out.line_end(frame.indent),
            Doc::Broken(text) => {
                if frame.broken {
                    out.text(text);
                }
            }
            Doc::Nest(inner) => stack.push(Frame { indent: frame.indent + INDENT, doc: inner, ..frame }),
            Doc::Concat(docs) => stack.extend(docs.iter().rev().map(|doc| Frame { doc, ..frame })),
            Doc::Group(forced, inner) => {
                let flat = Frame { broken: false, doc: inner, ..frame };
                let broken = *forced || !fits(WIDTH.saturating_sub(out.column()), flat, &stack);
                stack.push(Frame { broken, ..flat });
            }
        }
    }
    out.text
}

/// Whether a frame, and what follows it up to the next line end, fits into `room`.
fn fits(room: usize, first: Frame, rest: &[Frame]) -> bool {
    let mut room = room;
    let mut rest = rest.iter().rev();
    let mut stack = vec![first];
    loop {
        let Some(frame) = stack.pop().or_else(|| rest.next().copied()) else {
            return true;
        };
        let width = match frame.doc {
            Doc::Text(text) => text.chars().count(),
            Doc::Line if !frame.broken => 1,
            Doc::Soft if !frame.broken => 0,
            Doc::Line | Doc::Soft | Doc::Hard | Doc::Trailing(_) => return true,
            Doc::Broken(text) => {
                if frame.broken {
                    text.len()
                } else {
                    0
                }
            }
            Doc::Nest(inner) => {
                stack.push(Frame { doc: inner, ..frame });
                0
            }
            Doc::Concat(docs) => {
                stack.extend(docs.iter().rev().map(|doc| Frame { doc, ..frame }));
                0
            }
            // Groups further on can break by themselves.
            Doc::Group(forced, inner) => {
                stack.push(Frame { broken: frame.broken || *forced, doc: inner, ..frame });
                0
            }
        };
        if width > room {
            return false;
        }
        room -= width;
    }
}

#[derive(Default)]
struct Output {
    text: String,
    /// Of the line that has begun, if nothing is on it yet.
    indent: usize,
    /// Characters on the line.
    written: usize,
}

impl Output {
    fn column(&self) -> usize {
        if self.written == 0 { self.indent } else { self.written }
    }

    fn text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if self.written == 0 {
            self.text.extend(std::iter::repeat_n(' ', self.indent));
            self.written = self.indent;
        }
        self.text.push_str(text);
        self.written += text.chars().count();
    }

    fn line_end(&mut self, indent: usize) {
        self.text.push('\n');
        self.indent = indent;
        self.written = 0;
    }
}
