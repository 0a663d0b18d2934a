//! What statements give, printed in the script's order and as early as it is there.

use super::answer::{Tables, answer};
use super::phase::TensorValues;
use super::results::Results;
use super::session::{Session, one};
use super::statements::Experiment;
use crate::error::Error;
use crate::report::{self, Align, Completion, Generation, Output, Page, Table};
use steer_compiler::elaborate::{RunSpec, StatementKind};
use steer_lang::Diagnostics;

/// Statements on their way to a page.
pub struct Show<'a> {
    session: &'a Session,
    experiment: &'a Experiment,
    values: &'a TensorValues,
    page: &'a mut dyn Page,
    /// How wide texts are, from the first to the last.
    columns: usize,
    /// The statement whose turn it is; of `generate` the text among its texts, its first run among the
    /// statement's runs, and what of it was printed.
    at: usize,
    text: usize,
    run: usize,
    printed: String,
    /// With the statements that they are of.
    outputs: Vec<(usize, Output)>,
    tables: Tables,
}

impl<'a> Show<'a> {
    pub fn new(
        session: &'a Session,
        experiment: &'a Experiment,
        values: &'a TensorValues,
        page: &'a mut dyn Page,
    ) -> Self {
        let columns = report::width::terminal(100);
        let (printed, outputs) = (String::new(), Vec::new());
        let tables = Tables::new();
        Show { session, experiment, values, page, columns, at: 0, text: 0, run: 0, printed, outputs, tables }
    }

    /// Whether texts are seen as they come.
    pub fn streams(&self) -> bool {
        self.page.drafts()
    }

    /// Prints what is there by now and whose turn it is. At the `end` nothing more comes.
    pub fn advance(&mut self, results: &Results, end: bool) -> Result<(), Diagnostics> {
        while let Some(s) = self.session.script.statements.get(self.at) {
            let place = &self.experiment.places[self.at];
            let waits = match &s.kind {
                StatementKind::Generate { runs, options, .. } => {
                    let all = self.generate(runs, options.samples, &place.runs, results, end)?;
                    if all {
                        self.rank().map_err(one)?;
                    }
                    !all
                }
                StatementKind::Print(_) | StatementKind::SaveTensors(_) => false,
                _ => !results.measured && !end,
            };
            if waits {
                break;
            }
            if !matches!(s.kind, StatementKind::Generate { .. }) {
                let at = (self.at, s);
                let (outputs, text) =
                    answer(self.session, self.experiment, at, results, self.values, &mut self.tables)?;
                self.outputs.extend(outputs.into_iter().map(|o| (self.at, o)));
                self.put(&text).map_err(one)?;
            }
            self.at += 1;
            (self.text, self.run) = (0, 0);
        }
        Ok(())
    }

    /// What all statements gave.
    pub fn outputs(self) -> Vec<(usize, Output)> {
        self.outputs
    }

    /// Leaves the page as it is, with no line half-written, because of an error.
    pub fn abandon(&mut self) {
        let end = if self.printed.is_empty() || self.printed.ends_with('\n') { "" } else { "\n" };
        // What went wrong before is the one to report.
        let _ = self.page.print(end);
    }

    /// Prints the texts of a `generate` that are there, and says whether these are all.
    fn generate(
        &mut self,
        prompts: &[RunSpec],
        samples: usize,
        runs: &[usize],
        results: &Results,
        end: bool,
    ) -> Result<bool, Diagnostics> {
        while let Some(spec) = prompts.get(self.text / samples) {
            let sample = (samples > 1).then_some(self.text % samples + 1);
            let runs = &runs[self.run..self.run + if spec.uses.is_empty() { 1 } else { 2 }];
            if !end && !results.prompts_done {
                return Ok(false);
            }
            if !end && !runs.iter().all(|r| results.ended[*r]) {
                self.part(spec, sample, runs, results).map_err(one)?;
                return Ok(false);
            }
            let completions = completions(spec, runs, results);
            let text = self.block(spec, sample, &completions) + "\n";
            self.put(text.strip_prefix(self.printed.as_str()).unwrap_or(&text)).map_err(one)?;
            self.printed.clear();
            let text = Output::Generate(Generation { prompt: spec.text.to_string(), sample, completions });
            self.outputs.push((self.at, text));
            self.text += 1;
            self.run += runs.len();
        }
        Ok(true)
    }

    /// Which of a statement's texts have the largest scores.
    fn rank(&mut self) -> Result<(), Error> {
        let mut texts: Vec<(f64, &str, &Completion, Option<usize>)> = Vec::new();
        for (_, output) in self.outputs.iter().filter(|(at, _)| *at == self.at) {
            if let Output::Generate(g) = output {
                let scored = g.completions.iter().filter_map(|c| Some((c.score?, g.prompt.as_str(), c, g.sample)));
                texts.extend(scored);
            }
        }
        if texts.len() < 2 {
            return Ok(());
        }
        // What has no score stands last; equal ones in their order.
        texts.sort_by(|a, b| a.0.is_nan().cmp(&b.0.is_nan()).then(b.0.total_cmp(&a.0)));
        let several = texts.iter().any(|t| t.1 != texts[0].1);
        let mut columns = vec![("score", Align::Right), ("text", Align::Left)];
        columns.extend(several.then_some(("of", Align::Left)));
        let mut table = Table::new(&columns);
        for (score, prompt, completion, sample) in &texts {
            let mut row = vec![report::number(*score), report::titled(&completion.with, *sample, None)];
            row.extend(several.then(|| report::visible(prompt)));
            table.row(row);
        }
        self.page.print(&(table.render() + "\n"))
    }

    /// Shows a text that still grows.
    fn part(&mut self, spec: &RunSpec, sample: Option<usize>, runs: &[usize], results: &Results) -> Result<(), Error> {
        let (&[run], false) = (runs, self.scored()) else {
            let block = self.block(spec, sample, &completions(spec, runs, results));
            return self.page.draft(&block);
        };
        let settled = match self.alone() {
            true => self.bare(&results.texts[run]),
            false => {
                let whole = format!("{}{}", spec.text, results.texts[run]);
                report::settled(&report::titled(BASELINE, sample, None), &whole, self.columns)
            }
        };
        self.settle(&settled)
    }

    /// Prints what of a text was not printed yet.
    fn settle(&mut self, text: &str) -> Result<(), Error> {
        let Some(new) = text.strip_prefix(self.printed.as_str()) else { return Ok(()) };
        self.page.print(new)?;
        self.printed = text.to_owned();
        Ok(())
    }

    fn put(&mut self, text: &str) -> Result<(), Error> {
        if text.is_empty() { Ok(()) } else { self.page.print(text) }
    }

    /// The continuations of a text as they are printed.
    fn block(&self, spec: &RunSpec, sample: Option<usize>, completions: &[Completion]) -> String {
        if let (true, [only]) = (self.alone(), completions) {
            return self.bare(&only.text);
        }
        let texts: Vec<(String, String)> = completions
            .iter()
            .map(|c| (report::titled(&c.with, sample, c.score), format!("{}{}", spec.text, c.text)))
            .collect();
        let refs: Vec<(&str, &str)> = texts.iter().map(|(w, t)| (w.as_str(), t.as_str())).collect();
        report::beside(&refs, self.columns)
    }

    /// Whether the script does nothing but continue one text, which is then printed as it is.
    fn alone(&self) -> bool {
        match (&self.session.script.statements[..], &self.experiment.places[..]) {
            ([only], [place]) => match &only.kind {
                StatementKind::Generate { scores, .. } => place.runs.len() == 1 && scores.is_empty(),
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether the statement scores its texts: the score stands above a text, and is known when it is complete.
    fn scored(&self) -> bool {
        let kind = self.session.script.statements.get(self.at).map(|s| &s.kind);
        matches!(kind, Some(StatementKind::Generate { scores, .. }) if !scores.is_empty())
    }

    /// A text without a frame; a model's text must not act on a terminal.
    fn bare(&self, text: &str) -> String {
        if self.page.drafts() { report::visible(text) } else { text.to_owned() }
    }
}

/// How the run without edits is called.
const BASELINE: &str = "baseline";

/// What the runs of one text gave, the baseline first.
fn completions(spec: &RunSpec, runs: &[usize], results: &Results) -> Vec<Completion> {
    let steered = || spec.label.rsplit_once(" with ").map_or_else(|| "steered".into(), |(_, w)| w.to_owned());
    let with = |i: usize| if i == 0 { BASELINE.to_owned() } else { steered() };
    let of = |(i, &run): (usize, &usize)| Completion {
        with: with(i),
        text: results.texts[run].clone(),
        tokens: results.generated[run].clone(),
        score: results.scores[run],
    };
    runs.iter().enumerate().map(of).collect()
}
