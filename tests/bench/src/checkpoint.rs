//! A checkpoint of the GPT-2-small shape with random weights, as Hugging Face lays one out.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use steer::error::Error;
use steer::tensors::{Named, write_npy, write_safetensors};

pub const LAYERS: usize = 12;
pub const D_MODEL: usize = 768;
pub const HEADS: usize = 12;
pub const NEURONS: usize = 3072;
pub const VOCAB: usize = 50257;
pub const POSITIONS: usize = 1024;

/// Bytes of weights that each new token has to read.
pub fn weight_bytes() -> f64 {
    4.0 * (VOCAB * D_MODEL + LAYERS * (4 * D_MODEL * D_MODEL + 2 * D_MODEL * NEURONS)) as f64
}

/// Multiplications and additions of a prompt: the products with weights, and attention.
pub fn operations(rows: usize) -> f64 {
    let products = LAYERS * (4 * D_MODEL * D_MODEL + 2 * D_MODEL * NEURONS) * rows + VOCAB * D_MODEL;
    let attention = LAYERS * D_MODEL * rows * (rows + 1);
    2.0 * (products + attention) as f64
}

pub fn config() -> Value {
    json!({
        "architectures": ["Starcoder2ForCausalLM"],
        "vocab_size": VOCAB,
        "hidden_size": D_MODEL,
        "intermediate_size": NEURONS,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "hidden_act": "gelu_pytorch_tanh",
        "max_position_embeddings": POSITIONS,
        "norm_epsilon": 1e-5,
        "rope_theta": 10000.0,
        "use_bias": true,
    })
}

/// Writes `config.json`, `model.safetensors` and `v.npy`, a direction for the hooks.
pub fn write(folder: &Path) -> Result<(), Error> {
    let mut random = Random(1);
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    let mut add = |name: String, shape: &[usize], scale: f32, middle: f32| {
        let n = shape.iter().product();
        let data = (0..n).map(|_| middle + scale * random.next()).collect();
        tensors.push((name, shape.to_vec(), data));
    };
    add("model.embed_tokens.weight".into(), &[VOCAB, D_MODEL], 0.1, 0.0);
    for layer in 0..LAYERS {
        let under = format!("model.layers.{layer}.");
        for (name, outputs, inputs) in [
            ("self_attn.q_proj", D_MODEL, D_MODEL),
            ("self_attn.k_proj", D_MODEL, D_MODEL),
            ("self_attn.v_proj", D_MODEL, D_MODEL),
            ("self_attn.o_proj", D_MODEL, D_MODEL),
            ("mlp.c_fc", NEURONS, D_MODEL),
            ("mlp.c_proj", D_MODEL, NEURONS),
        ] {
            add(format!("{under}{name}.weight"), &[outputs, inputs], 0.05, 0.0);
            add(format!("{under}{name}.bias"), &[outputs], 0.05, 0.0);
        }
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            add(format!("{under}{norm}.weight"), &[D_MODEL], 0.1, 1.0);
            add(format!("{under}{norm}.bias"), &[D_MODEL], 0.1, 0.0);
        }
    }
    add("model.norm.weight".into(), &[D_MODEL], 0.1, 1.0);
    add("model.norm.bias".into(), &[D_MODEL], 0.1, 0.0);
    let named: Vec<Named<'_>> = tensors.iter().map(|(name, shape, data)| Named { name, shape, data }).collect();
    write_safetensors(&folder.join("model.safetensors"), &named, &BTreeMap::new())?;
    steer::files::write_atomic(&folder.join("config.json"), |out| out.write_all(config().to_string().as_bytes()))?;
    write_npy(&folder.join("v.npy"), &[D_MODEL], &(0..D_MODEL).map(|_| random.next()).collect::<Vec<_>>())
}

/// Numbers in -1..1, the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> f32 {
        self.bits() as f32 / (1u32 << 23) as f32 - 1.0
    }

    pub fn token(&mut self) -> u32 {
        self.bits() % VOCAB as u32
    }

    /// 24 of them (splitmix64).
    fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as u32
    }
}
