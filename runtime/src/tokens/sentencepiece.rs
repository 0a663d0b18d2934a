//! The files of SentencePiece: a protobuf of pieces with scores, and how texts are normalized.
//!
//! Only the few fields that matter are read, and any others skipped.

/// What is wrong with a file.
pub(super) type Bad = &'static str;

/// More pieces than any vocabulary has.
const MOST: usize = 1 << 22;

/// Kinds of pieces, as the file numbers them; a file of GGUF numbers them so, too.
pub(super) const NORMAL: u64 = 1;
pub(super) const UNKNOWN: u64 = 2;
pub(super) const CONTROL: u64 = 3;
pub(super) const USER: u64 = 4;

/// One piece.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece<'a> {
    pub text: &'a str,
    pub score: f32,
    pub kind: u64,
}

/// A model.
#[derive(Debug)]
pub(super) struct SentencePiece<'a> {
    pub pieces: Vec<Piece<'a>>,
    /// 1: unigram, 2: merges.
    pub kind: u64,
    pub byte_fallback: bool,
    /// Spaces stand at the ends of words.
    pub suffix: bool,
    /// The table of characters.
    pub characters: &'a [u8],
    /// Whether a space is put before each text.
    pub space: bool,
    /// Spaces at both ends are left out, and several are one.
    pub squeeze: bool,
    /// Whether spaces are written as `▁`.
    pub escapes: bool,
}

impl<'a> SentencePiece<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Bad> {
        let mut out = SentencePiece {
            pieces: Vec::new(),
            kind: 1,
            byte_fallback: false,
            suffix: false,
            characters: &[],
            space: true,
            squeeze: true,
            escapes: true,
        };
        for field in Fields(bytes) {
            match field? {
                (1, Field::Bytes(piece)) if out.pieces.len() < MOST => out.pieces.push(Piece::parse(piece)?),
                (1, Field::Bytes(_)) => return Err("it has too many pieces"),
                (2, Field::Bytes(trainer)) => {
                    for field in Fields(trainer) {
                        match field? {
                            (3, Field::Number(kind)) => out.kind = kind,
                            (24, Field::Number(n)) => out.suffix = n != 0,
                            (35, Field::Number(n)) => out.byte_fallback = n != 0,
                            _ => {}
                        }
                    }
                }
                (3, Field::Bytes(normalizer)) => {
                    for field in Fields(normalizer) {
                        match field? {
                            (2, Field::Bytes(table)) => out.characters = table,
                            (3, Field::Number(n)) => out.space = n != 0,
                            (4, Field::Number(n)) => out.squeeze = n != 0,
                            (5, Field::Number(n)) => out.escapes = n != 0,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        match out.pieces.is_empty() {
            true => Err("it has no pieces"),
            false => Ok(out),
        }
    }
}

impl<'a> Piece<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Bad> {
        let mut out = Piece { text: "", score: 0.0, kind: NORMAL };
        for field in Fields(bytes) {
            match field? {
                (1, Field::Bytes(text)) => out.text = str::from_utf8(text).map_err(|_| "a piece of it is no text")?,
                (2, Field::Four(bits)) => out.score = f32::from_le_bytes(bits),
                (3, Field::Number(kind)) => out.kind = kind,
                _ => {}
            }
        }
        match out.score.is_finite() && !out.text.is_empty() {
            true => Ok(out),
            false => Err("a piece of it has no text or no score"),
        }
    }
}

/// A field of a message, as it is written.
enum Field<'a> {
    Number(u64),
    Four([u8; 4]),
    Bytes(&'a [u8]),
    Eight,
}

/// The fields of a message, in order.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Field<'a>), Bad>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or("it is cut off, or no protobuf"))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let head = self.number()?;
        let field = match head & 7 {
            0 => Field::Number(self.number()?),
            1 => self.take(8).map(|_| Field::Eight)?,
            2 => {
                let len = usize::try_from(self.number()?).ok()?;
                Field::Bytes(self.take(len)?)
            }
            5 => Field::Four(self.take(4)?.try_into().ok()?),
            _ => return None,
        };
        (head >> 3 != 0).then_some((head >> 3, field))
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// Seven bits a byte, the lowest first.
    fn number(&mut self) -> Option<u64> {
        let mut out = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take(1)? else { return None };
            out |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(out);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_others_skipped() {
        // A piece "ab" of the score 1.5 and kind 6; an unknown field of eight bytes; merges; no space before texts.
        let file = [
            &[0x0A, 11, 0x0A, 2, b'a', b'b', 0x15, 0, 0, 0xC0, 0x3F, 0x18, 6][..],
            &[0x31, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x12, 5, 0x18, 2, 0x98, 0x02, 1],
            &[0x1A, 2, 0x18, 0],
        ]
        .concat();
        let model = SentencePiece::parse(&file).unwrap();
        assert_eq!(model.pieces, [Piece { text: "ab", score: 1.5, kind: 6 }]);
        assert_eq!((model.kind, model.byte_fallback, model.space, model.squeeze), (2, true, false, true));
        for cut in [1, 5, 12, 16, 25] {
            assert!(SentencePiece::parse(&file[..cut]).is_err(), "{cut}");
        }
        assert!(SentencePiece::parse(&[]).is_err());
        assert!(SentencePiece::parse(b"IQ== 0\nIg== 1\n").is_err());
    }
}
