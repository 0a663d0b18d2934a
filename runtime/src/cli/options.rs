//! Options that several subcommands share.

use crate::engine::Rounding;
use crate::error::Error;
use crate::experiment::PhaseOptions;
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};
use steer_kernels::attention::CacheFormat;
use steer_kernels::{Activations, Isa};
use steer_lang::codes;

/// Which model, and how it is described.
#[derive(Args, Clone, Debug, Default)]
pub struct ModelArgs {
    /// The model, instead of the script's own: a Hugging Face folder, a shipped model's name, or an id of the hub
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
    /// Compiled for this processor by LLVM, where steer was built with it
    #[cfg_attr(feature = "llvm", default)]
    Llvm,
    /// Compiled for this processor
    #[cfg_attr(not(feature = "llvm"), default)]
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
            Backend::Llvm => "llvm",
            Backend::Cranelift => "cranelift",
            Backend::Interp => "interp",
            Backend::Candle => "candle",
        }
    }

    /// What it does, as a sentence.
    pub fn does(self) -> String {
        match self {
            Backend::Llvm | Backend::Cranelift => {
                format!("Kernels are compiled by {}, on this machine for {}", self.name(), Isa::detect().name())
            }
            Backend::Interp => "Kernels are interpreted".into(),
            Backend::Candle => "No kernel is executed: the reference computes op by op".into(),
        }
    }

    /// The name, if this steer has it.
    pub fn available(self) -> Result<&'static str, Error> {
        if self == Backend::Llvm && !cfg!(feature = "llvm") {
            return Err(without_llvm("compile kernels with LLVM"));
        }
        Ok(self.name())
    }
}

/// What a steer without LLVM cannot do: `doing` completes "cannot ...".
pub fn without_llvm(doing: &str) -> Error {
    Error::new(codes::BACKEND, format!("cannot {doing}: this steer was built without LLVM")).help(
        "build it with `cargo build --release --features llvm`, which needs LLVM 19; the README says how to install that",
    )
}

/// How keys and values are stored for later tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Cache {
    /// As they are
    #[default]
    F32,
    /// In half precision
    F16,
    /// In 8 bits, with a scale for each 32 numbers of a head
    #[value(name = "q8_0")]
    Q8,
}

impl Cache {
    pub fn format(self) -> CacheFormat {
        match self {
            Cache::F32 => CacheFormat::F32,
            Cache::F16 => CacheFormat::F16,
            Cache::Q8 => CacheFormat::Q8,
        }
    }
}

/// What products with weights read of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ActivationsArg {
    /// As they are
    #[default]
    F32,
    /// Rounded to bf16
    Bf16,
    /// By quantized weights: in 8 bits, with a scale for each 32 numbers, much as llama.cpp does; faster
    #[value(name = "q8_0")]
    Q8,
}

/// What executes the model, and where numbers are kept in fewer bits.
#[derive(Args, Clone, Debug)]
pub struct ExecutionArgs {
    /// What executes the model
    #[arg(long, value_enum, default_value_t)]
    pub backend: Backend,
    /// How keys and values are stored for later tokens
    #[arg(long, value_enum, default_value_t)]
    pub cache: Cache,
    /// What products with weights read of rows
    #[arg(long, value_enum, default_value_t)]
    pub activations: ActivationsArg,
}

impl ExecutionArgs {
    pub fn options(&self) -> Result<PhaseOptions, Error> {
        let activations = match self.activations {
            ActivationsArg::F32 => Activations::F32,
            ActivationsArg::Bf16 => Activations::Bf16,
            ActivationsArg::Q8 => Activations::Q8,
        };
        Ok(PhaseOptions {
            backend: self.backend.available()?.into(),
            rounding: Rounding { cache: self.cache.format(), activations },
            ..PhaseOptions::default()
        })
    }
}

/// What values depend on beside the script and its model.
#[derive(Args, Clone, Debug)]
pub struct ValueArgs {
    #[command(flatten)]
    pub execution: ExecutionArgs,
    /// The seed of everything random (default: the script's, else 0)
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

impl ValueArgs {
    pub fn options(&self) -> Result<PhaseOptions, Error> {
        Ok(PhaseOptions { seed: self.seed, ..self.execution.options()? })
    }
}

/// How weights are kept in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Weights {
    /// As their files have them
    #[default]
    Stored,
    /// Widened when they are loaded
    F32,
}

/// What a run may take of the machine; no result depends on it.
#[derive(Args, Clone, Debug)]
pub struct ResourceArgs {
    /// Threads to use, at most 256 (default: one for each core)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Rows that one pass of a prompt takes at most
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..))]
    pub chunk: Option<u32>,
    /// The memory that a run may take, such as 2GiB (default: what there is)
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub memory: Option<u64>,
    /// How weights are kept in memory; results are the same, bit for bit
    #[arg(long, value_enum, default_value_t)]
    pub weights: Weights,
}

impl ResourceArgs {
    /// The same options within these bounds. Threads are those of the process.
    pub fn bound(&self, options: PhaseOptions) -> PhaseOptions {
        let chunk = self.chunk.map_or(options.chunk, |rows| rows as usize);
        PhaseOptions { chunk, memory: self.memory, widen: self.weights == Weights::F32, ..options }
    }
}

/// Where the finished cells of runs are kept until their end: `STEER_CACHE`, else the user's cache folder.
pub fn cache() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let own = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    set("STEER_CACHE").or_else(|| own.map(|cache| cache.join("steer")))
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
    /// LLVM's form of the kernels, where steer was built with it
    Llvm,
}

/// The folder that relative paths of a script begin at.
pub fn script_folder(script: &Path) -> &Path {
    match script.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

/// `2GiB`, `500MB` or a plain number of bytes.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let unit: f64 = match text[digits..].trim() {
        "" | "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" | "K" | "k" => 1024.0,
        "MiB" | "M" => 1024.0 * 1024.0,
        "GiB" | "G" => 1024.0 * 1024.0 * 1024.0,
        other => return Err(format!("`{other}` is no unit: write 2GiB, 500MB or a number of bytes")),
    };
    match text[..digits].parse::<f64>() {
        Ok(n) if n > 0.0 && n * unit < 1e18 => Ok((n * unit) as u64),
        _ => Err("a size such as 2GiB is wanted".into()),
    }
}
