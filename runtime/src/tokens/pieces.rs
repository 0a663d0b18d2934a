//! How a vocabulary spells spaces and bytes.

use serde::Deserialize;
use serde_json::Value;

/// The parts of a `tokenizer.json` that say how its vocabulary is spelled.
#[derive(Deserialize)]
struct Parts {
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    decoder: Option<Value>,
    model: Option<Model>,
}

#[derive(Deserialize)]
struct Model {
    /// A token in most models, its index in some.
    unk_token: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// GPT-2's: every byte is a printable character, a space is `Ġ`.
    Bytes,
    /// SentencePiece's: a space is `▁`, a byte without a token is `<0x0A>`.
    Pieces,
    Plain,
}

/// From texts to the spelling of a vocabulary, and back.
#[derive(Clone, Debug)]
pub(super) struct Spelling {
    kind: Kind,
    /// The token that stands for everything unknown.
    pub unknown: Option<String>,
}

impl Spelling {
    pub fn of(tokenizer: &[u8]) -> Result<Self, serde_json::Error> {
        let parts: Parts = serde_json::from_slice(tokenizer)?;
        let all = [&parts.decoder, &parts.pre_tokenizer, &parts.normalizer];
        let any = |test: &dyn Fn(&Value) -> bool| all.into_iter().flatten().any(|v| holds(v, test));
        let is = |v: &Value, kind: &str| v.get("type").and_then(Value::as_str) == Some(kind);
        let kind = match () {
            () if any(&|v| is(v, "ByteLevel")) => Kind::Bytes,
            () if any(&|v| is(v, "Metaspace")) => Kind::Pieces,
            () if any(&|v| is(v, "Replace") && v.to_string().contains('▁')) => Kind::Pieces,
            () => Kind::Plain,
        };
        let unknown = parts.model.and_then(|m| m.unk_token?.as_str().map(str::to_string));
        Ok(Spelling { kind, unknown })
    }

    /// How a text would stand in the vocabulary if it is one token, the likeliest first.
    pub fn spell(&self, text: &str) -> Vec<String> {
        match self.kind {
            Kind::Bytes => vec![text.bytes().map(byte_to_char).collect(), text.to_string()],
            Kind::Pieces => {
                let mut out = vec![text.replace(' ', "▁")];
                if let [byte] = text.as_bytes() {
                    out.push(format!("<0x{byte:02X}>"));
                }
                out
            }
            Kind::Plain => vec![text.to_string()],
        }
    }

    /// The text of a token; what is only a part of a character is shown as the replacement character.
    pub fn text(&self, token: &str) -> String {
        match self.kind {
            Kind::Bytes => {
                let bytes: Option<Vec<u8>> = token.chars().map(char_to_byte).collect();
                bytes.map_or_else(|| token.to_string(), |b| String::from_utf8_lossy(&b).into_owned())
            }
            Kind::Pieces => match hex_byte(token) {
                Some(b) if b.is_ascii() => char::from(b).to_string(),
                Some(_) => token.to_string(),
                None => token.replace('▁', " "),
            },
            Kind::Plain => token.to_string(),
        }
    }
}

/// Whether a part or one inside of it passes the test.
fn holds(value: &Value, test: &dyn Fn(&Value) -> bool) -> bool {
    match value {
        Value::Object(map) => test(value) || map.values().any(|v| holds(v, test)),
        Value::Array(list) => list.iter().any(|v| holds(v, test)),
        _ => false,
    }
}

/// `<0x0A>`
fn hex_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok()
}

/// Whether GPT-2's alphabet leaves a byte as it is.
fn is_kept(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// GPT-2's alphabet: bytes that do not print follow one another from U+0100.
pub(super) fn byte_to_char(byte: u8) -> char {
    match is_kept(byte) {
        true => char::from(byte),
        false => {
            let n = (0..byte).filter(|b| !is_kept(*b)).count() as u32;
            char::from_u32(0x100 + n).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
    }
}

fn char_to_byte(c: char) -> Option<u8> {
    (0..=255).find(|b| byte_to_char(*b) == c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_alphabet_is_gpt2s() {
        assert_eq!(byte_to_char(b' '), 'Ġ');
        assert_eq!(byte_to_char(b'\n'), 'Ċ');
        assert_eq!(byte_to_char(0xAD), 'Ń');
        assert!((0..=255).all(|b| char_to_byte(byte_to_char(b)) == Some(b)));
        assert_eq!(char_to_byte('▁'), None);
    }

    #[test]
    fn each_kind_spells_and_reads_its_own() {
        let of = |json: &str| Spelling::of(json.as_bytes()).unwrap();
        let bytes = of(
            r#"{"decoder": {"type": "Sequence", "decoders": [{"type": "ByteLevel"}]}, "model": {"unk_token": null}}"#,
        );
        assert_eq!(bytes.spell(" Zoë")[0], "ĠZoÃ«");
        assert_eq!(bytes.text("ĠZoÃ«"), " Zoë");
        let pieces = of(
            r#"{"normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, "model": {"unk_token": "<unk>"}}"#,
        );
        assert_eq!((pieces.spell("\n"), pieces.text("<0x0A>")), (vec!["\n".into(), "<0x0A>".into()], "\n".into()));
        assert_eq!(pieces.text("▁Mary"), " Mary");
        assert_eq!(pieces.unknown.as_deref(), Some("<unk>"));
        assert_eq!(of("{}").text("▁x"), "▁x");
    }
}
