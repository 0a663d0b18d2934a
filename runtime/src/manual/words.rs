//! Words of the language that no heading and no table of the reference has for a name, and what explains them.

/// A part of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A section as it is.
    Whole(&'static str),
    /// How a section begins.
    Opening(&'static str),
    /// A row or a paragraph of a section, by its name.
    Within(&'static str, &'static str),
}

use Part::{Opening, Whole, Within};

/// By word what stands behind all that has it for a name.
pub(super) const MEANT: &[(&str, &[Part])] = &[
    ("model", &[Whole("Where a model is")]),
    ("import", &[Whole("Imports and parameters")]),
    ("param", &[Whole("Imports and parameters")]),
    ("data", &[Whole("Data sets")]),
    ("vector", &[Whole("Tensors")]),
    ("tensor", &[Whole("Tensors")]),
    ("sae", &[Whole("Sparse autoencoders")]),
    ("fn", &[Opening("Functions")]),
    ("hook", &[Whole("Hook bodies")]),
    ("patch", &[Within("Items", "from")]),
    ("route", &[Opening("Routes")]),
    ("metric", &[Whole("Metrics")]),
    ("measure", &[Opening("Sweeps"), Opening("Metrics")]),
    ("sweep", &[Whole("Sweeps")]),
    ("top", &[Whole("Tables")]),
    ("plot", &[Whole("Tables")]),
    ("save", &[Whole("Tables")]),
    ("report", &[Whole("Receipts and reports")]),
    ("generate", &[Whole("Generation")]),
    ("arch", &[Opening("Model files")]),
    ("at", &[Opening("Sites"), Opening("Positions")]),
    ("on", &[Whole("Positions")]),
    ("over", &[Opening("Sweeps"), Opening("Functions")]),
    ("with", &[Within("Items", "run")]),
    ("by", &[Within("Items", "from")]),
    ("of", &[Within("Items", "capture"), Within("Items", "top")]),
    ("to", &[Within("Items", "Paths")]),
    ("in", &[Opening("Sweeps"), Within("Items", "param")]),
    ("under", &[Within("Model files", "blocks")]),
    ("as", &[Within("Tables", "plot")]),
    ("before", &[Within("Items", "Capture")]),
    ("else", &[Within("Hook bodies", "when"), Within("Hook bodies", "if")]),
    ("blocks", &[Opening("Sites")]),
    ("true", &[Whole("Text, numbers, names")]),
    ("false", &[Whole("Text, numbers, names")]),
    ("none", &[Whole("Text, numbers, names"), Within("Text, numbers, names", "??")]),
    ("chat", &[Whole("Conversations")]),
    ("receipts", &[Whole("Receipts and reports")]),
    ("options", &[Whole("The command line")]),
    ("run", &[Whole("Long experiments")]),
    ("prompt", &[Whole("The prompt")]),
    ("repl", &[Whole("The prompt")]),
    ("diff", &[Whole("The prompt")]),
    ("undo", &[Whole("The prompt")]),
    ("ablate", ABLATION),
    ("ablation", ABLATION),
    ("transformerlens", COMING),
    ("transformer_lens", COMING),
    ("nnsight", COMING),
    ("pyvene", COMING),
];

const ABLATION: &[Part] =
    &[Within("Methods", "zero, mean, resample ablation"), Within("Methods", "noise ablation (causal tracing)")];

const COMING: &[Part] = &[Whole("TransformerLens, nnsight, pyvene")];

/// What else the first part of a site's name stands for.
pub(super) const PARTS: &[(&str, &str)] = &[
    ("attn", "attention"),
    ("resid", "residual stream"),
    ("mlp", "neurons"),
    ("moe", "mixture of experts routing"),
    ("ssm", "state space model mamba"),
];
