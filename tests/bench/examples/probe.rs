use candle_core::{DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap};
use candle_transformers::models::bigcode::{Config, GPTBigCode};
fn main() {
    for multi_query in [true, false] {
        let vars = VarMap::new();
        let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
        let c = Config { vocab_size: 50, max_position_embeddings: 32, num_hidden_layers: 2, hidden_size: 48, layer_norm_epsilon: 1e-5, n_inner: None, num_attention_heads: 4, multi_query, use_cache: true };
        let mut m = GPTBigCode::load(vb, c).unwrap();
        let t = Tensor::new(&[1u32, 2, 3], &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        println!("{multi_query}: {:?}", m.forward(&t, 0).map(|t| t.dims().to_vec()).map_err(|e| e.to_string()));
    }
}
