//! Options that several subcommands share.

use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

/// Which model, and how it is described.
#[derive(Args, Clone, Debug, Default)]
pub struct ModelArgs {
    /// The model: a Hugging Face folder or a shipped model's name, instead of the script's own
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// A model file (.steer) with an architecture that steer does not know; may be repeated
    #[arg(long, value_name = "FILE")]
    pub arch: Vec<PathBuf>,
}

/// `name=value`, as given; the script says of what type `name` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub name: String,
    pub value: String,
}

impl std::str::FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => {
                Ok(Setting { name: name.trim().into(), value: value.trim().into() })
            }
            _ => Err("write name=value, as in --set alpha=4".into()),
        }
    }
}

/// What executes the Plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// Compiled for this processor
    #[default]
    Cranelift,
    /// The kernels, interpreted
    Interp,
    /// candle, op by op: the reference
    Candle,
}

impl Backend {
    /// How reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Cranelift => "cranelift",
            Backend::Interp => "interp",
            Backend::Candle => "candle",
        }
    }
}

/// A stage to print instead of running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Emit {
    /// The syntax tree
    Ast,
    /// The Plan after the rules
    Plan,
    /// The fused kernels
    Kir,
    /// Cranelift's form of the kernels
    Clif,
}

/// The folder that relative paths of a script begin at.
pub fn script_folder(script: &Path) -> &Path {
    match script.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}
