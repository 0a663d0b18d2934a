//! `steer tokens --model M TEXT`

use super::Failure;
use crate::checkpoint::find_model;
use crate::error::Error;
use crate::hub::Hub;
use crate::report::{self, Align, Table};
use crate::tokens::{Tokens, remedy};
use clap::Args;
use serde::Serialize;
use steer_lang::codes;

#[derive(Args, Clone, Debug)]
pub struct TokensArgs {
    /// The text, as a prompt has it
    pub text: String,
    /// The model: a Hugging Face folder, a shipped model's name, or an id of the hub
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// Print JSON, one entry a token
    #[arg(long)]
    pub json: bool,
}

/// A token of a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenRow {
    pub position: usize,
    pub id: u32,
    pub text: String,
}

/// Prints the tokens that a prompt of this text has.
pub fn run(args: &TokensArgs) -> Result<(), Failure> {
    let rows = rows(&args.model, &args.text, &Hub::from_env())?;
    if args.json {
        let mut text = serde_json::to_string_pretty(&rows).unwrap_or_default();
        text.push('\n');
        return Ok(report::print(&text)?);
    }
    Ok(report::print(&table(&rows))?)
}

/// The tokens of a text, those included that the tokenizer adds.
pub fn rows(model: &str, text: &str, hub: &Hub) -> Result<Vec<TokenRow>, Error> {
    let folder = find_model(model, None, hub)?.path;
    let Some(tokens) = Tokens::open(&folder)? else {
        let message = format!("`{}` has no tokenizer", folder.display());
        return Err(Error::new(codes::BAD_TOKENIZER, message).help(remedy(&folder)));
    };
    let ids = tokens.encode(text, true)?.ids;
    let row = |(position, id)| TokenRow { position, id, text: tokens.piece(id) };
    Ok(ids.into_iter().enumerate().map(row).collect())
}

/// The same for a person; spaces are seen because of the quotes.
pub fn table(rows: &[TokenRow]) -> String {
    let mut out = Table::new(&[("position", Align::Right), ("id", Align::Right), ("token", Align::Left)]);
    for row in rows {
        out.row([row.position.to_string(), row.id.to_string(), format!("{:?}", row.text)]);
    }
    out.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_its_tokens_with_their_positions() {
        let rows = rows("tiny-llama", "Tom went", &Hub::default()).unwrap();
        let pieces: Vec<&str> = rows.iter().map(|r| r.text.as_str()).collect();
        assert_eq!(pieces, ["<|bos|>", "Tom", " went"]);
        assert_eq!(table(&rows).lines().nth(3).map(str::trim_end), Some("       1  919  \"Tom\""));
        assert!(super::rows("no-such-model", "a", &Hub::default()).is_err());
    }
}
