//! candle-transformers' own model.

use crate::checkpoint::config;
use crate::steer_model::Model;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::starcoder2;
use std::path::Path;

/// StarCoder2 with its cache.
pub struct Candle {
    model: starcoder2::Model,
    len: usize,
}

impl Candle {
    pub fn open(folder: &Path) -> candle_core::Result<Self> {
        let weights = std::fs::read(folder.join("model.safetensors"))?;
        let builder = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)?;
        let config: starcoder2::Config = serde_json::from_value(config()).map_err(candle_core::Error::wrap)?;
        Ok(Candle { model: starcoder2::Model::new(&config, builder)?, len: 0 })
    }

    fn forward(&mut self, tokens: &[u32]) -> candle_core::Result<Vec<f32>> {
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        let logits = self.model.forward(&input, self.len)?;
        self.len += tokens.len();
        logits.flatten_all()?.to_vec1()
    }
}

impl Model for Candle {
    fn begin(&mut self) {
        self.model.clear_kv_cache();
        self.len = 0;
    }

    fn extend(&mut self, tokens: &[u32]) -> Vec<f32> {
        self.forward(tokens).expect("candle runs its model")
    }
}
