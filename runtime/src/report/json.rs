//! The report as JSON. The same script, model and seed give the same bytes but for `timings`.

use super::{Receipt, Steps, Work};
use crate::checkpoint::{FileHash, sha256};
use crate::error::Error;
use crate::experiment::InputKind;
use crate::files;
use crate::limits::Limits;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use steer_figures::{Figure, Frame};
use steer_lang::{Diagnostic, Sources};

/// All that a run of a script gave, and what it takes to run it again.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// The version of steer.
    pub steer: String,
    pub script: FileName,
    pub model: ModelReport,
    pub backend: String,
    /// What the bits depend on beside the backend, such as `avx512`.
    pub instruction_set: String,
    /// How keys and values were stored for later tokens.
    pub cache: String,
    /// What products with weights read of rows.
    pub activations: String,
    pub seed: u64,
    /// The script's parameters as they were used.
    pub parameters: BTreeMap<String, Value>,
    /// Files that the script reads, itself among them.
    pub inputs: Vec<InputFile>,
    /// How names and files that come from elsewhere were understood.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub readings: Vec<String>,
    pub receipts: Vec<Receipt>,
    pub warnings: Vec<Warning>,
    /// One for each statement, in the script's order.
    pub outputs: Vec<Output>,
    /// Whether ctrl-C ended the run before the script did.
    pub stopped: bool,
    /// Everything that differs from run to run.
    pub timings: Timings,
}

/// A file and the hash of its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FileName {
    pub file: String,
    pub sha256: String,
}

/// A file that was read, and what it is to the script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InputFile {
    pub kind: InputKind,
    #[serde(flatten)]
    pub file: FileName,
}

/// A warning, as far as a program needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Warning {
    pub code: String,
    pub message: String,
    /// File and line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Warning {
    pub fn of(d: &Diagnostic, sources: &Sources) -> Self {
        let place = d.labels.first().map(|l| {
            let (line, _) = sources.line_col(l.span);
            format!("{}:{line}", sources.get(l.span.file).name)
        });
        Warning { code: d.code.to_string(), message: d.message.clone(), place, help: d.help.clone() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ModelReport {
    /// As the script or the command line names it.
    pub name: String,
    pub architecture: String,
    /// The file that declares it; `stdlib/` is built in.
    pub model_file: String,
    pub files: Vec<FileHash>,
}

/// A value that a statement gave.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Numbers that are not finite are `null`.
    Number(f64),
    Bool(bool),
    Text(String),
    List(Vec<Value>),
    /// Row-major over named axes.
    Tensor {
        axes: Vec<(String, usize)>,
        data: Vec<f32>,
    },
}

/// What one statement gave.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "statement", rename_all = "snake_case")]
pub enum Output {
    Generate(Generation),
    /// Of `measure`, which has no name and an axis of runs, and of `sweep`.
    Table(Frame),
    Plot {
        table: String,
        /// Where it was drawn to a file.
        #[serde(skip_serializing_if = "Option::is_none")]
        file: Option<String>,
        plot: Box<steer_figures::Plot>,
        /// As it is drawn.
        #[serde(skip)]
        figure: Box<Figure>,
    },
    Save {
        table: String,
        file: String,
    },
    SaveTensors {
        tensors: String,
        file: String,
    },
    Print {
        values: Vec<Value>,
    },
    Capture {
        file: String,
        tensors: BTreeMap<String, Vec<usize>>,
    },
}

/// One prompt and its continuations, the baseline first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Generation {
    pub prompt: String,
    /// Which of its texts, from 1, where the statement asks for several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<usize>,
    pub completions: Vec<Completion>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Completion {
    /// `baseline`, or the edits as the script writes them.
    pub with: String,
    pub text: String,
    pub tokens: Vec<u32>,
    /// What the statement scores it with; of a text that it cannot be taken of, `null`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
}

/// What stands above a completion, which may be of one of several texts, and have a score.
pub fn titled(with: &str, sample: Option<usize>, score: Option<f64>) -> String {
    let title = sample.map_or_else(|| with.to_owned(), |n| format!("{with}, text {n}"));
    score.map_or(title.clone(), |score| format!("{title}: {}", super::number(score)))
}

/// Seconds by stage, rates, and what was computed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Timings {
    pub seconds: BTreeMap<String, f64>,
    pub tokens_per_second: BTreeMap<String, f64>,
    /// It depends on how the experiment is cut into pieces.
    pub work: Work,
    /// Where the passes are measured: by stage, what they were spent on.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<String, Steps>,
    /// What the shares in `steps` are of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<Limits>,
}

impl Report {
    /// A report on a script's text, as of this version, with nothing in it yet.
    pub fn new(script: &Path, text: &str) -> Self {
        Report {
            steer: env!("CARGO_PKG_VERSION").into(),
            script: FileName { file: script.display().to_string(), sha256: sha256(text.as_bytes()) },
            ..Report::default()
        }
    }

    /// The report as indented JSON.
    pub fn to_json(&self) -> String {
        // Every key is a string, so this cannot fail.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Writes the report, completely or not at all.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        files::write_atomic(path, |out| out.write_all(self.to_json().as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use steer_figures::{FrameAxis, FrameColumn};

    #[test]
    fn equal_runs_differ_in_their_timings_alone() {
        let mut report = Report::new(Path::new("a.steer"), "model \"x\"\n");
        report.parameters.insert("alpha".into(), Value::Number(6.0));
        report.outputs.push(Output::Table(Frame {
            name: "ld".into(),
            axes: vec![FrameAxis::new("run", ["clean"])],
            columns: vec![FrameColumn::new("ld", vec![f64::NAN])],
        }));
        report.outputs.push(Output::Generate(Generation {
            prompt: "a".into(),
            sample: None,
            completions: vec![Completion { with: "baseline".into(), text: " b".into(), tokens: vec![1], score: None }],
        }));
        let mut other = report.clone();
        other.timings.seconds.insert("load".into(), 0.25);
        let (a, b) = (report.to_json(), other.to_json());
        let cut = |t: &str| t.split("\"timings\"").next().map(str::to_string);
        assert_eq!(cut(&a), cut(&b));
        let json: serde_json::Value = serde_json::from_str(&b).unwrap();
        assert_eq!(json["outputs"][0]["statement"], "table");
        assert_eq!(json["outputs"][0]["columns"][0]["values"][0], serde_json::Value::Null);
        assert_eq!(json["outputs"][1]["completions"][0]["tokens"][0], 1);
        assert_eq!(json["script"]["sha256"].as_str().map(str::len), Some(64));
        assert_eq!(json.as_object().unwrap().keys().next_back().unwrap(), "timings");
    }
}
