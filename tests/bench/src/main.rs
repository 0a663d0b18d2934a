//! What steer costs: `cargo run --release -p steer-bench -- models`. Checkpoints of published shapes get random weights,
//! and are deleted after use.

#[cfg(feature = "candle")]
mod candle;
mod format;
mod machine;
mod model;
mod models;
mod numbering;
mod prompt;
mod random;
mod row;
mod serve;
mod shapes;
mod turns;
mod write;

use clap::{Parser, Subcommand};
use serde_json::json;
use std::path::PathBuf;
use steer::engine::Rounding;
use steer_kernels::{Activations, Isa};

#[derive(Parser)]
#[command(about = "What steer costs: models with random weights, plain and with hooks, against the machine's limits")]
struct Cli {
    /// Threads of every side; as many as there are processors where nothing is said
    #[arg(long, global = true)]
    threads: Option<usize>,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// New tokens and prompts of models in several formats, plain and with hooks
    Models(models::Options),
    /// The same of one model beside candle-transformers' own (built with `--features candle`)
    Candle {
        /// Turns that the medians are over
        #[arg(long, default_value_t = 7)]
        turns: usize,
    },
    /// What it costs to find rows that are equal
    Numbering,
    /// What an input takes at the prompt, with a model that is loaded
    Prompt {
        #[arg(default_value = "tiny-llama")]
        model: String,
        /// Turns that the medians are over
        #[arg(long, default_value_t = 20)]
        turns: usize,
    },
    /// One fused kernel by hand, by LLVM (built with `--features llvm`), by Cranelift and interpreted
    Row,
    /// Writes a checkpoint and what hooks load beside it, and says what a new token reads and a prompt takes
    Write {
        /// Such as qwen2.5-0.5b
        shape: String,
        #[arg(value_enum)]
        format: format::Format,
        folder: PathBuf,
        /// A GGUF file in any format
        #[arg(long)]
        gguf: bool,
        /// Layers, where not all of them are wanted
        #[arg(long, value_parser = model::layers)]
        layers: Option<usize>,
        /// Tokens of the prompt
        #[arg(long, default_value_t = 512)]
        prompt: usize,
    },
    /// Answers questions of another program on the standard input (see serve.rs)
    Serve {
        /// A folder or a file
        model: PathBuf,
        /// A script with hooks, of this folder or by its path
        script: String,
        /// A model file
        #[arg(long)]
        arch: Option<PathBuf>,
        /// What products read of rows
        #[arg(long, value_parser = model::activations, default_value = "f32")]
        activations: Activations,
    },
}

fn main() -> Result<(), String> {
    let cli = Cli::parse();
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|n| n.parse().ok());
    let threads = cli.threads.or(asked).unwrap_or(cores).max(1);
    // SAFETY: no other thread runs yet. Both steer and candle ask this variable.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", threads.to_string()) };
    if matches!(cli.what, What::Models(_) | What::Candle { .. }) {
        println!("{}, {threads} thread(s)\n", Isa::detect().name());
    }
    match cli.what {
        What::Models(options) => models::measure(&options, threads),
        #[cfg(feature = "candle")]
        What::Candle { turns } => candle::measure(turns, threads),
        #[cfg(not(feature = "candle"))]
        What::Candle { .. } => Err("this program was built without candle: build it with `--features candle`".into()),
        What::Numbering => numbering::measure(),
        What::Row => row::measure(),
        What::Prompt { model, turns } => prompt::run(&model, turns),
        What::Write { shape, format, folder, gguf, layers, prompt } => {
            let shape = models::shape(&shape, layers)?;
            let path = write::write(&shape, format, &folder, gguf)?;
            let (bytes, operations) = (shape.bytes(format), shape.operations(prompt));
            println!("{}", json!({ "name": shape.name, "path": path, "bytes": bytes, "operations": operations }));
            Ok(())
        }
        What::Serve { model, script, arch, activations } => {
            let rounding = Rounding { activations, ..Rounding::default() };
            serve::serve(model::Source { arch, rounding, ..model::Source::new(&model, &script) }, threads)
        }
    }
}
