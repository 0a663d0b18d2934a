//! Sparse autoencoders in a folder, as SAELens saves them: what their configuration and the header of their tensors say.

use super::{Header, list_safetensors};
use crate::error::Error;
use crate::files;
use std::path::Path;
use steer_compiler::elaborate::Dictionary;
use steer_lang::codes;

/// The names of the two files.
pub const SAE_CONFIG: &str = "cfg.json";
pub const SAE_WEIGHTS: &str = "sae_weights.safetensors";

/// Reads both without reading data; `file` of the result is left open.
///
/// # Errors
/// A missing file, a configuration that is no JSON object, a damaged header.
pub fn read_dictionary(config: &Path, weights: &Path) -> Result<Dictionary, Error> {
    let text = files::read(config).map_err(|e| match config.exists() {
        true => e,
        false => e.help(format!("an SAE is a folder with {SAE_CONFIG} and {SAE_WEIGHTS}, as SAELens saves it")),
    })?;
    parse_dictionary(&text, config, &list_safetensors(weights)?)
}

/// The same of the configuration's text; `path` is named in errors.
pub fn parse_dictionary(config: &[u8], path: &Path, header: &Header) -> Result<Dictionary, Error> {
    let bad = |what: String| {
        let message = format!("`{}` is no configuration of an SAE: {what}", path.display());
        Error::new(codes::BAD_CONFIG, message).help("save the SAE again with SAELens")
    };
    let config: serde_json::Value = serde_json::from_slice(config).map_err(|e| bad(format!("it is not JSON: {e}")))?;
    if !config.is_object() {
        return Err(bad("it is JSON but not an object".into()));
    }
    for (key, at) in [("d_in", 0), ("d_sae", 1)] {
        let said = config.get(key).and_then(serde_json::Value::as_u64);
        let shape = header.tensors.get("W_enc").map(|info| &info.shape[..]);
        if let (Some(said), Some([rows, columns])) = (said, shape)
            && said != [*rows, *columns][at] as u64
        {
            return Err(bad(format!("it says that {key} is {said}, and `W_enc` is [{rows}, {columns}]")));
        }
    }
    let tensors = header.tensors.iter().map(|(name, info)| (name.clone(), info.shape.clone())).collect();
    Ok(Dictionary { config, file: String::new(), tensors })
}
