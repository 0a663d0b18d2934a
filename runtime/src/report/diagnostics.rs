//! Diagnostics as a person reads them: the source lines, what is there, what to do.

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan,
    SpanContents,
};
use std::fmt;
use steer_lang::diagnostic::Label;
use steer_lang::{Diagnostic, FileId, Severity, Sources, Span};

/// How wide a report is where no terminal says otherwise.
const WIDTH: usize = 100;

/// Lines longer than this are shown around the place only.
const LONG: usize = 300;

/// All diagnostics, one after another, in the order given.
pub fn render(diagnostics: &[Diagnostic], sources: &Sources, color: bool) -> String {
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(super::width::terminal(WIDTH)).with_links(false);
    // Names have hyphens, and are copied.
    let handler = handler.with_word_splitter(textwrap::WordSplitter::NoHyphenation);
    let mut out = String::new();
    for d in diagnostics {
        let view = View::of(d, sources);
        if handler.render_report(&mut out, &view).is_err() {
            // Only a place outside of its text does this; the message is worth more than the picture.
            out.push_str(&format!("{}: {}\n", d.code, d.message));
        }
        out.push('\n');
    }
    out
}

/// A diagnostic with one text, as miette wants it; labels in other texts are views of their own.
#[derive(Debug)]
struct View {
    code: String,
    severity: miette::Severity,
    message: String,
    help: Option<String>,
    text: Option<Excerpt>,
    labels: Vec<LabeledSpan>,
    others: Vec<View>,
}

impl View {
    fn of(d: &Diagnostic, sources: &Sources) -> Self {
        let severity = match d.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        };
        let explain = format!("see `steer explain {}`", d.code);
        let mut view = View {
            code: d.code.to_string(),
            severity,
            message: visible(&d.message),
            help: Some(d.help.as_deref().map_or(explain.clone(), |h| format!("{}\n{explain}", visible(h)))),
            text: None,
            labels: Vec::new(),
            others: Vec::new(),
        };
        let Some(main) = d.labels.first() else { return view };
        let (here, elsewhere): (Vec<&Label>, Vec<&Label>) =
            d.labels.iter().partition(|l| l.span.file == main.span.file);
        (view.text, view.labels) = marked(main.span.file, &here, sources);
        view.others = elsewhere
            .iter()
            .map(|label| {
                let (text, labels) = marked(label.span.file, &[label], sources);
                let message = format!("in `{}`", sources.get(label.span.file).name);
                View {
                    code: String::new(),
                    severity: miette::Severity::Advice,
                    message,
                    help: None,
                    text,
                    labels,
                    others: Vec::new(),
                }
            })
            .collect();
        view
    }
}

/// The text of a file, or the part of a long line that matters, with labels on it.
fn marked(file: FileId, labels: &[&Label], sources: &Sources) -> (Option<Excerpt>, Vec<LabeledSpan>) {
    let source = sources.get(file);
    if source.text.is_empty() {
        return (None, Vec::new());
    }
    let excerpt = Excerpt::around(&source.name, &source.text, labels[0].span);
    let spans = labels.iter().filter_map(|l| {
        let (start, end) = inside(l.span, &source.text);
        let (start, end) = (start.checked_sub(excerpt.from)?, end.checked_sub(excerpt.from)?);
        let text = (!l.text.is_empty()).then(|| visible(&l.text));
        (end <= excerpt.text.len()).then(|| LabeledSpan::new(text, start, end - start))
    });
    let spans = spans.collect();
    (Some(excerpt), spans)
}

/// The bytes of a span that lie in the text, on whole characters; the last character where none do.
fn inside(span: Span, text: &str) -> (usize, usize) {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let last = floor(text.len().saturating_sub(1));
    let start = floor(span.start as usize).min(last);
    (start, floor(span.end as usize).max(start))
}

/// Control characters would act on the terminal instead of being seen.
fn visible(text: &str) -> String {
    super::visible(text)
}

/// A text, or a piece of one of its lines.
#[derive(Debug)]
struct Excerpt {
    name: String,
    text: String,
    /// Where it begins in the whole text: byte, and line and column from 0.
    from: usize,
    line: usize,
    column: usize,
}

impl Excerpt {
    fn around(name: &str, text: &str, span: Span) -> Self {
        let (start, _) = inside(span, text);
        let begin = text[..start].rfind('\n').map_or(0, |n| n + 1);
        let end = text[start..].find('\n').map_or(text.len(), |n| start + n);
        if end - begin <= LONG {
            return Excerpt { name: name.into(), text: text.into(), from: 0, line: 0, column: 0 };
        }
        let near = |at: usize| inside(Span { start: at as u32, end: at as u32, ..span }, text).0;
        let from = near(start.saturating_sub(60).max(begin));
        let to = if end - start <= 120 { end } else { near(start + 120) };
        let line = text[..begin].matches('\n').count();
        let column = text[begin..from].chars().count();
        Excerpt { name: name.into(), text: text[from..to].into(), from, line, column }
    }
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let read = self.text.read_span(span, before, after)?;
        let first = if read.line() == 0 { self.column } else { 0 };
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            read.data(),
            *read.span(),
            read.line() + self.line,
            read.column() + first,
            read.line_count(),
        )))
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for View {}

impl miette::Diagnostic for View {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        (!self.code.is_empty()).then(|| Box::new(&self.code) as _)
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|h| Box::new(h) as _)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.text.as_ref().map(|t| t as _)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        (!self.labels.is_empty()).then(|| Box::new(self.labels.iter().cloned()) as _)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        (!self.others.is_empty()).then(|| Box::new(self.others.iter().map(|o| o as &dyn miette::Diagnostic)) as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use steer_lang::codes;

    fn sources(text: &str) -> (Sources, FileId) {
        let mut s = Sources::default();
        let file = s.add("a.steer", text);
        (s, file)
    }

    #[test]
    fn a_diagnostic_shows_code_place_and_help() {
        let (mut s, file) = sources("model \"x\"\nhook h at blocks[0].atn.q { h *= 2 }\n");
        let other = s.add("llama.steer", "arch \"L\" {\n}\n");
        let d = Diagnostic::error(codes::UNKNOWN_SITE, "the model has no site `blocks[0].atn.q`")
            .at(Span::new(file, 20, 35), "not a site")
            .at(Span::new(other, 0, 8), "the model is described here")
            .help("did you mean `blocks[0].attn.q`?");
        let text = render(&[d], &s, false);
        for part in [
            "E0203",
            "the model has no site",
            "[a.steer:2:11]",
            "blocks[0].atn.q { h",
            "not a site",
            "did you mean",
            "see `steer explain E0203`",
            "[llama.steer:1:1]",
            "the model is described here",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn no_place_and_odd_places_are_rendered_too() {
        let (s, file) = sources("é");
        let odd = [(0, 0), (1, 1), (1, 9), (2, 2), (7, 9), (0, 2)];
        for (start, end) in odd {
            let text =
                render(&[Diagnostic::warning(codes::SYNTAX, "odd\u{7}").at(Span::new(file, start, end), "")], &s, true);
            assert!(text.contains("odd␇") && text.contains("a.steer:1:1"), "{text}");
        }
        let (s, file) = sources("");
        assert!(
            render(&[Diagnostic::error(codes::SYNTAX, "empty").at(Span::new(file, 0, 0), "here")], &s, false)
                .contains("empty")
        );
        let text = render(&[Diagnostic::error(codes::NO_MODEL, "none")], &Sources::default(), false);
        assert!(text.contains("none") && text.contains("steer explain E0501"), "{text}");
    }

    #[test]
    fn of_a_very_long_line_only_the_place_is_shown() {
        let long = format!("first\n{{{}\"é\": 7}}\nlast", "\"key\": 1, ".repeat(5000));
        let (s, file) = sources(&long);
        let at = long.find("\"é\"").unwrap();
        let text = render(
            &[Diagnostic::error(codes::MISSING_KEY, "seven").at(Span::new(file, at, at + 4), "here")],
            &s,
            false,
        );
        assert!(text.len() < 1500 && text.contains("here"), "{text}");
        assert!(text.contains(&format!("[a.steer:2:{}]", at - 6 + 1)), "{text}");
    }
}
