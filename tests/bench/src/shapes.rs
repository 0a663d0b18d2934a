//! Models of published shapes: their configuration as a folder has it and as a GGUF file has it, and their tensors.

use crate::format::{Format, Kind};
use crate::random::Random;
use serde_json::{Value, json};

/// Features of the sparse autoencoder that a hook reads.
const FEATURES: usize = 16384;

/// A model of some shape, with random weights.
pub struct Shape {
    pub name: &'static str,
    pub layers: usize,
    pub d_model: usize,
    pub vocab: usize,
    /// Of the sparse autoencoder beside it.
    pub features: usize,
    /// Width of all queries of a row together, 0 without attention.
    pub queries: usize,
    pub config: Value,
    /// What GGUF calls the family and says of the model, below the family's name; none where it does not know it.
    pub file: Option<File>,
    pub tensors: Vec<Tensor>,
}

pub struct File {
    pub family: &'static str,
    pub metadata: Vec<(&'static str, Meta)>,
    /// How texts are split before the merges of its vocabulary.
    pub pre: &'static str,
}

#[derive(Clone, Copy)]
pub enum Meta {
    Count(usize),
    Number(f32),
}

/// A matrix from `inputs` to `outputs`; a vector has one output.
pub struct Tensor {
    /// Its name in a folder, and in a GGUF file; without the latter it is in folders alone, and the other way round.
    pub folder: String,
    pub file: String,
    pub outputs: usize,
    pub inputs: usize,
    pub fill: Fill,
    pub turn: Turn,
    pub part: Part,
}

/// What its elements are.
#[derive(Clone, Copy)]
pub enum Fill {
    /// Random with a mean and a deviation.
    Around(f32, f32),
    /// The logarithm of the number of the input, counted from 1.
    Logarithms,
    /// What Llama 3 divides the frequencies of so wide a head by.
    Factors(usize),
}

/// How it lies in either kind of file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    None,
    /// In a GGUF file, rows i and i + n / 2 of each of so many heads are neighbours.
    Pairs(usize),
    /// A folder has inputs before outputs.
    Transposed,
    /// A GGUF file has the negative exponential.
    MinusExp,
    /// A folder has an axis of length 1 between.
    Taps,
}

/// What it is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A product of each row.
    Product,
    /// The embedding and, for rows whose logits are read, the product of the unembedding.
    Tied,
    /// A row of it is read for each row.
    Table,
    /// Small: biases, norms and the like, which stay in float32 in a GGUF file.
    Small,
    /// The same with a product of each row.
    SmallProduct,
}

impl Tensor {
    pub fn kind(&self, format: Format) -> Kind {
        match self.part {
            Part::Product | Part::Tied => format.of_matrix(self.inputs),
            _ => Kind::F32,
        }
    }

    /// The element from input `k` to output `o`.
    pub fn value(&self, random: Random, o: usize, k: usize) -> f32 {
        match self.fill {
            Fill::Around(mean, deviation) => mean + deviation * random.at(o * self.inputs + k),
            Fill::Logarithms => ((k + 1) as f32).ln(),
            Fill::Factors(width) => factor(width, k),
        }
    }

    pub fn elements(&self) -> usize {
        self.outputs * self.inputs
    }

    fn is_product(&self) -> bool {
        matches!(self.part, Part::Product | Part::SmallProduct)
    }
}

impl Shape {
    /// A shape by its name; with other layers and tokens where it is said.
    pub fn named(name: &str, cut: Cut) -> Option<Shape> {
        SHAPES.iter().find(|(n, _)| *n == name).map(|(_, make)| make(cut))
    }

    pub fn names() -> impl Iterator<Item = &'static str> {
        SHAPES.iter().map(|(n, _)| *n)
    }

    /// The layer of hooks that are at one.
    pub fn middle(&self) -> usize {
        self.layers / 2
    }

    /// Bytes of weights that each new token has to read.
    pub fn bytes(&self, format: Format) -> f64 {
        let all = self.tensors.iter().filter(|t| t.part != Part::Table);
        all.map(|t| t.kind(format).bytes(t.elements()) as f64).sum()
    }

    /// Multiplications and additions of a prompt of which the last row is read: products with weights, and attention.
    pub fn operations(&self, rows: usize) -> f64 {
        let products: usize = self.tensors.iter().filter(|t| t.is_product()).map(Tensor::elements).sum();
        let attention = self.layers * self.queries * rows * (rows + 1);
        2.0 * (products * rows + self.vocab * self.d_model + attention) as f64
    }

    /// The same of a hook at a sparse autoencoder: bytes of a new token, operations of a row. It encodes and decodes once.
    pub fn dictionary(&self) -> (f64, f64) {
        let elements = (2 * self.features * self.d_model) as f64;
        (4.0 * elements, 2.0 * elements)
    }
}

/// What is not as in the published model.
#[derive(Clone, Copy, Default)]
pub struct Cut {
    pub layers: Option<usize>,
    pub vocab: Option<usize>,
}

impl Cut {
    fn or(self, layers: usize, vocab: usize) -> (usize, usize) {
        (self.layers.unwrap_or(layers), self.vocab.unwrap_or(vocab))
    }
}

type Make = fn(Cut) -> Shape;

const SHAPES: &[(&str, Make)] = &[
    ("qwen2.5-0.5b", qwen),
    ("gpt2", gpt2),
    ("llama-3.2-1b", llama),
    ("mamba-130m", mamba),
    ("starcoder2", starcoder2),
];

/// Tensors are listed with their names in both kinds of files, a layer's without what stands before them.
struct List {
    tensors: Vec<Tensor>,
    folder: String,
    file: String,
}

impl List {
    fn new() -> Self {
        List { tensors: Vec::new(), folder: String::new(), file: String::new() }
    }

    /// What is listed next is of a layer.
    fn layer(&mut self, folder: &str, layer: usize) {
        self.folder = format!("{folder}.{layer}.");
        self.file = format!("blk.{layer}.");
    }

    fn whole(&mut self) {
        (self.folder, self.file) = (String::new(), String::new());
    }

    fn add(&mut self, names: [&str; 2], outputs: usize, inputs: usize, fill: Fill, part: Part) -> &mut Tensor {
        let of = |before: &str, name: &str| if name.is_empty() { String::new() } else { format!("{before}{name}") };
        let (folder, file) = (of(&self.folder, names[0]), of(&self.file, names[1]));
        self.tensors.push(Tensor { folder, file, outputs, inputs, fill, turn: Turn::None, part });
        let last = self.tensors.len() - 1;
        &mut self.tensors[last]
    }

    /// The weight of a product, which keeps the size of what it reads.
    fn product(&mut self, names: [&str; 2], outputs: usize, inputs: usize) -> &mut Tensor {
        let names = names.map(|n| format!("{n}.weight"));
        let fill = Fill::Around(0.0, (inputs as f32).powf(-0.5));
        self.add([&names[0], &names[1]], outputs, inputs, fill, Part::Product)
    }

    fn bias(&mut self, names: [&str; 2], n: usize) -> &mut Tensor {
        let names = names.map(|n| format!("{n}.bias"));
        self.add([&names[0], &names[1]], 1, n, Fill::Around(0.0, 0.1), Part::Small)
    }

    fn norm(&mut self, names: [&str; 2], n: usize) {
        let names = names.map(|n| format!("{n}.weight"));
        self.add([&names[0], &names[1]], 1, n, Fill::Around(1.0, 0.1), Part::Small);
    }

    fn embedding(&mut self, folder: &str, vocab: usize, d_model: usize) {
        let names = [&format!("{folder}.weight")[..], "token_embd.weight"];
        self.add(names, vocab, d_model, Fill::Around(0.0, 0.05), Part::Tied);
    }
}

/// Attention and MLP as Llama and what is like it have them.
struct Gated {
    d: usize,
    heads: [usize; 2],
    d_head: usize,
    neurons: usize,
    layers: usize,
    vocab: usize,
    bias: bool,
    pairs: bool,
}

impl Gated {
    fn tensors(&self) -> List {
        let Gated { d, heads, d_head, neurons, .. } = *self;
        let mut t = List::new();
        t.embedding("model.embed_tokens", self.vocab, d);
        for layer in 0..self.layers {
            t.layer("model.layers", layer);
            t.norm(["input_layernorm", "attn_norm"], d);
            for (name, own, heads) in [("q", "attn_q", heads[0]), ("k", "attn_k", heads[1]), ("v", "attn_v", heads[1])]
            {
                let turn = if self.pairs && name != "v" { Turn::Pairs(heads) } else { Turn::None };
                let names = [&format!("self_attn.{name}_proj")[..], own];
                t.product(names, heads * d_head, d).turn = turn;
                if self.bias {
                    t.bias(names, heads * d_head);
                }
            }
            t.product(["self_attn.o_proj", "attn_output"], d, heads[0] * d_head);
            t.norm(["post_attention_layernorm", "ffn_norm"], d);
            t.product(["mlp.gate_proj", "ffn_gate"], neurons, d);
            t.product(["mlp.up_proj", "ffn_up"], neurons, d);
            t.product(["mlp.down_proj", "ffn_down"], d, neurons);
        }
        t.whole();
        t.norm(["model.norm", "output_norm"], d);
        t
    }
}

fn qwen(cut: Cut) -> Shape {
    let (layers, vocab) = cut.or(24, 151_936);
    let (d, neurons) = (896, 4864);
    let gated = Gated { d, heads: [14, 2], d_head: 64, neurons, layers, vocab, bias: true, pairs: false };
    Shape {
        name: "Qwen2.5-0.5B",
        layers,
        d_model: d,
        vocab,
        features: FEATURES,
        queries: d,
        config: json!({
            "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu", "hidden_size": d,
            "intermediate_size": neurons, "num_hidden_layers": layers, "num_attention_heads": 14,
            "num_key_value_heads": 2, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1_000_000.0,
            "tie_word_embeddings": true, "use_sliding_window": false, "vocab_size": vocab,
        }),
        file: Some(File {
            family: "qwen2",
            metadata: vec![
                ("context_length", Meta::Count(32768)),
                ("embedding_length", Meta::Count(d)),
                ("block_count", Meta::Count(layers)),
                ("feed_forward_length", Meta::Count(neurons)),
                ("attention.head_count", Meta::Count(14)),
                ("attention.head_count_kv", Meta::Count(2)),
                ("attention.layer_norm_rms_epsilon", Meta::Number(1e-6)),
                ("rope.freq_base", Meta::Number(1_000_000.0)),
            ],
            pre: "qwen2",
        }),
        tensors: gated.tensors().tensors,
    }
}

fn llama(cut: Cut) -> Shape {
    let (layers, vocab) = cut.or(16, 128_256);
    let (d, neurons) = (2048, 8192);
    let gated = Gated { d, heads: [32, 8], d_head: 64, neurons, layers, vocab, bias: false, pairs: true };
    let mut t = gated.tensors();
    t.add(["", "rope_freqs.weight"], 1, 32, Fill::Factors(64), Part::Small);
    Shape {
        name: "Llama-3.2-1B",
        layers,
        d_model: d,
        vocab,
        features: FEATURES,
        queries: d,
        config: json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": d,
            "intermediate_size": neurons, "num_hidden_layers": layers, "num_attention_heads": 32,
            "num_key_value_heads": 8, "head_dim": 64, "max_position_embeddings": 131_072, "rms_norm_eps": 1e-5,
            "rope_theta": 500_000.0, "tie_word_embeddings": true, "attention_bias": false, "mlp_bias": false,
            "vocab_size": vocab,
            "rope_scaling": {
                "rope_type": "llama3", "factor": FACTOR, "low_freq_factor": LOW, "high_freq_factor": HIGH,
                "original_max_position_embeddings": TRAINED as u32,
            },
        }),
        file: Some(File {
            family: "llama",
            metadata: vec![
                ("context_length", Meta::Count(131_072)),
                ("embedding_length", Meta::Count(d)),
                ("block_count", Meta::Count(layers)),
                ("feed_forward_length", Meta::Count(neurons)),
                ("attention.head_count", Meta::Count(32)),
                ("attention.head_count_kv", Meta::Count(8)),
                ("attention.key_length", Meta::Count(64)),
                ("attention.value_length", Meta::Count(64)),
                ("attention.layer_norm_rms_epsilon", Meta::Number(1e-5)),
                ("rope.freq_base", Meta::Number(500_000.0)),
                ("rope.dimension_count", Meta::Count(64)),
                ("vocab_size", Meta::Count(vocab)),
            ],
            pre: "llama-bpe",
        }),
        tensors: t.tensors,
    }
}

/// The scaling of Llama 3.2's rotary frequencies.
const FACTOR: f64 = 32.0;
const LOW: f64 = 1.0;
const HIGH: f64 = 4.0;
const TRAINED: f64 = 8192.0;

fn factor(width: usize, k: usize) -> f32 {
    let turn = 500_000f64.powf(-2.0 * k as f64 / width as f64);
    let length = 2.0 * std::f64::consts::PI / turn;
    let share = ((TRAINED / length - LOW) / (HIGH - LOW)).clamp(0.0, 1.0);
    (1.0 / ((1.0 - share) / FACTOR + share)) as f32
}

fn gpt2(cut: Cut) -> Shape {
    let (layers, vocab) = cut.or(12, 50257);
    let (d, neurons, positions) = (768, 3072, 1024);
    let mut t = List::new();
    t.embedding("transformer.wte", vocab, d);
    let names = ["transformer.wpe.weight", "position_embd.weight"];
    t.add(names, positions, d, Fill::Around(0.0, 0.02), Part::Table);
    for layer in 0..layers {
        t.layer("transformer.h", layer);
        for (names, norm, outputs, inputs) in [
            (["attn.c_attn", "attn_qkv"], Some(["ln_1", "attn_norm"]), 3 * d, d),
            (["attn.c_proj", "attn_output"], None, d, d),
            (["mlp.c_fc", "ffn_up"], Some(["ln_2", "ffn_norm"]), neurons, d),
            (["mlp.c_proj", "ffn_down"], None, d, neurons),
        ] {
            if let Some(norm) = norm {
                t.norm(norm, d);
                t.bias(norm, d);
            }
            t.product(names, outputs, inputs).turn = Turn::Transposed;
            t.bias(names, outputs);
        }
    }
    t.whole();
    t.norm(["transformer.ln_f", "output_norm"], d);
    t.bias(["transformer.ln_f", "output_norm"], d);
    Shape {
        name: "GPT-2-small",
        layers,
        d_model: d,
        vocab,
        features: FEATURES,
        queries: d,
        config: json!({
            "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new", "n_embd": d,
            "n_layer": layers, "n_head": 12, "n_inner": neurons, "n_positions": positions, "n_ctx": positions,
            "layer_norm_epsilon": 1e-5, "vocab_size": vocab,
        }),
        file: Some(File {
            family: "gpt2",
            metadata: vec![
                ("context_length", Meta::Count(positions)),
                ("embedding_length", Meta::Count(d)),
                ("block_count", Meta::Count(layers)),
                ("feed_forward_length", Meta::Count(neurons)),
                ("attention.head_count", Meta::Count(12)),
                ("attention.layer_norm_epsilon", Meta::Number(1e-5)),
            ],
            pre: "gpt-2",
        }),
        tensors: t.tensors,
    }
}

fn mamba(cut: Cut) -> Shape {
    let (layers, vocab) = cut.or(24, 50280);
    let (d, inner, states, taps, rank) = (768, 1536, 16, 4, 48);
    let mut t = List::new();
    t.embedding("backbone.embeddings", vocab, d);
    for layer in 0..layers {
        t.layer("backbone.layers", layer);
        t.norm(["norm", "attn_norm"], d);
        t.product(["mixer.in_proj", "ssm_in"], 2 * inner, d);
        let names = ["mixer.conv1d.weight", "ssm_conv1d.weight"];
        t.add(names, inner, taps, Fill::Around(0.0, 0.5), Part::Small).turn = Turn::Taps;
        t.bias(["mixer.conv1d", "ssm_conv1d"], inner);
        // llama.cpp leaves these two in float32.
        t.product(["mixer.x_proj", "ssm_x"], rank + 2 * states, inner).part = Part::SmallProduct;
        t.product(["mixer.dt_proj", "ssm_dt"], inner, rank).part = Part::SmallProduct;
        t.bias(["mixer.dt_proj", "ssm_dt"], inner).fill = Fill::Around(-4.0, 0.5);
        t.add(["mixer.A_log", "ssm_a"], inner, states, Fill::Logarithms, Part::Small).turn = Turn::MinusExp;
        t.add(["mixer.D", "ssm_d"], 1, inner, Fill::Around(1.0, 0.1), Part::Small);
        t.product(["mixer.out_proj", "ssm_out"], d, inner);
    }
    t.whole();
    t.norm(["backbone.norm_f", "output_norm"], d);
    Shape {
        name: "Mamba-130m",
        layers,
        d_model: d,
        vocab,
        features: FEATURES,
        queries: 0,
        config: json!({
            "architectures": ["MambaForCausalLM"], "model_type": "mamba", "hidden_act": "silu", "hidden_size": d,
            "num_hidden_layers": layers, "intermediate_size": inner, "expand": 2, "state_size": states,
            "conv_kernel": taps, "time_step_rank": rank, "use_bias": false, "use_conv_bias": true,
            "layer_norm_epsilon": 1e-5, "residual_in_fp32": true, "tie_word_embeddings": true, "vocab_size": vocab,
        }),
        file: Some(File {
            family: "mamba",
            metadata: vec![
                ("context_length", Meta::Count(1 << 20)),
                ("embedding_length", Meta::Count(d)),
                ("block_count", Meta::Count(layers)),
                ("feed_forward_length", Meta::Count(0)),
                ("attention.head_count", Meta::Count(0)),
                ("attention.layer_norm_rms_epsilon", Meta::Number(1e-5)),
                ("ssm.conv_kernel", Meta::Count(taps)),
                ("ssm.inner_size", Meta::Count(inner)),
                ("ssm.state_size", Meta::Count(states)),
                ("ssm.time_step_rank", Meta::Count(rank)),
            ],
            pre: "mpt",
        }),
        tensors: t.tensors,
    }
}

/// GPT-2's widths, norms, biases and MLP with rotary positions, which candle-transformers has, too.
fn starcoder2(cut: Cut) -> Shape {
    let (layers, vocab) = cut.or(12, 50257);
    let (d, neurons) = (768, 3072);
    let mut t = List::new();
    t.embedding("model.embed_tokens", vocab, d);
    for layer in 0..layers {
        t.layer("model.layers", layer);
        for (name, norm, outputs, inputs) in [
            ("self_attn.q_proj", Some("input_layernorm"), d, d),
            ("self_attn.k_proj", None, d, d),
            ("self_attn.v_proj", None, d, d),
            ("self_attn.o_proj", None, d, d),
            ("mlp.c_fc", Some("post_attention_layernorm"), neurons, d),
            ("mlp.c_proj", None, d, neurons),
        ] {
            if let Some(norm) = norm {
                t.norm([norm, norm], d);
                t.bias([norm, norm], d);
            }
            t.product([name, name], outputs, inputs);
            t.bias([name, name], outputs);
        }
    }
    t.whole();
    t.norm(["model.norm", "model.norm"], d);
    t.bias(["model.norm", "model.norm"], d);
    Shape {
        name: "StarCoder2, as wide as GPT-2-small",
        layers,
        d_model: d,
        vocab,
        features: FEATURES,
        queries: d,
        config: json!({
            "architectures": ["Starcoder2ForCausalLM"], "vocab_size": vocab, "hidden_size": d,
            "intermediate_size": neurons, "num_hidden_layers": layers, "num_attention_heads": 12,
            "num_key_value_heads": 12, "hidden_act": "gelu_pytorch_tanh", "max_position_embeddings": 1024,
            "norm_epsilon": 1e-5, "rope_theta": 10000.0, "use_bias": true,
        }),
        file: None,
        tensors: t.tensors,
    }
}
