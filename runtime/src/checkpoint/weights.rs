//! A Plan's weights in the files: checked by name and shape, and read.

use super::Checkpoint;
use super::names::names;
use crate::engine::{Piece, WeightSource};
use crate::error::Error;
use crate::memory;
use crate::tensors::check_finite;
use std::collections::BTreeSet;
use std::ops::Range;
use steer_compiler::plan::{Axis, Size, Weight};
use steer_lang::codes;
use steer_lang::{Diagnostic, Diagnostics, Span};

/// How many declarations that do not fit are shown one by one.
const SHOWN: usize = 3;

/// One declaration names at most this many tensors.
const SPREAD: usize = 1 << 16;

impl WeightSource for Checkpoint {
    fn read(&self, weight: &Weight) -> Result<Vec<f32>, Error> {
        let (names, shape) = spread(weight)?;
        self.read_range(weight, 0..names.len().saturating_mul(shape.iter().product()))
    }

    fn read_range(&self, weight: &Weight, range: Range<usize>) -> Result<Vec<f32>, Error> {
        let (names, shape) = spread(weight)?;
        let each = shape.iter().product::<usize>();
        let mut out = Vec::new();
        for (i, name) in names.iter().enumerate() {
            // Its elements among those that are wanted.
            let part = range.start.max(i * each)..range.end.min((i + 1) * each);
            if part.is_empty() {
                continue;
            }
            let found = self
                .resolve(name)
                .ok_or_else(|| Error(Box::new(self.missing(name).0.at(weight.span, "asked for here"))))?;
            if let Some(d) = self.misfit(found, &shape, weight.span) {
                return Err(d.into());
            }
            let data = match part.len() == each {
                true => self.read_f32(found)?,
                false => self.read_some(found, Some(part.start - i * each..part.end - i * each))?,
            };
            let shape = if part.len() == each { &shape[..] } else { &[data.len()] };
            check_finite(&format!("the weight {}", self.called(found)), shape, &data)?;
            match data.len() == range.len() {
                true => out = data,
                false => {
                    if out.is_empty() {
                        out = memory::room(range.len(), "one weight")?;
                    }
                    out.extend_from_slice(&data);
                }
            }
        }
        Ok(out)
    }

    fn elements(&self, weight: &Weight) -> Option<usize> {
        Some(spread(weight).ok()?.1.iter().product())
    }

    fn piece(&self, weight: &Weight, index: usize) -> Option<Piece<'_>> {
        let (names, shape) = spread(weight).ok()?;
        let found = self.resolve(names.get(index)?)?;
        let (shard, _) = self.place(found)?;
        let sound = self.packing(found).is_none() && self.misfit(found, &shape, weight.span).is_none();
        sound.then(|| shard.piece(found)).flatten()
    }

    fn let_go(&self, weight: &Weight, pieces: Range<usize>) {
        let names = spread(weight).map(|s| s.0).unwrap_or_default();
        for name in names.into_iter().take(pieces.end).skip(pieces.start) {
            if let Some(found) = self.resolve(&name)
                && let Some((shard, _)) = self.place(found)
            {
                shard.let_go(found);
            }
        }
    }
}

impl Checkpoint {
    /// Every weight that the files lack or have in another shape, without reading any. One diagnostic
    /// speaks for all the weights of one declaration. Nothing, where there are no files.
    pub fn validate(&self, weights: &[Weight]) -> Diagnostics {
        if !self.has_weights() {
            return Vec::new();
        }
        let mut out: Vec<(Diagnostic, usize)> = Vec::new();
        for weight in weights {
            let (names, shape) = match spread(weight) {
                Ok(found) => found,
                Err(e) => {
                    out.push((*e.0, 0));
                    continue;
                }
            };
            for name in names {
                let d = match self.resolve(&name) {
                    Some(found) => self.misfit(found, &shape, weight.span),
                    None => Some(self.missing(&name).0.at(weight.span, "asked for here")),
                };
                let Some(d) = d else { continue };
                // Nothing else fits either.
                if let Some(e) = self.quantized_otherwise(&name) {
                    return vec![e.0.at(weight.span, "asked for here")];
                }
                match out.iter_mut().find(|(o, _)| o.code == d.code && o.labels == d.labels) {
                    Some((_, more)) => *more += 1,
                    None => out.push((d, 0)),
                }
            }
        }
        // What comes after the first few has the same cause and hides it.
        let rest = out.len().saturating_sub(SHOWN);
        out.truncate(SHOWN);
        let mut out: Diagnostics = out
            .into_iter()
            .map(|(mut d, more)| {
                if more > 0 {
                    d.message += &format!(" (and so for {more} more of this declaration)");
                }
                d
            })
            .collect();
        if let Some(last) = out.last_mut().filter(|_| rest > 0) {
            last.message += &format!("; {rest} further declarations do not fit either");
        }
        out
    }

    /// A warning where the files have tensors that no declaration reads, but for what is computed from the
    /// configuration (masks, tables of frequencies) and copies of what is read.
    pub fn unread_tensors(&self, weights: &[Weight]) -> Option<Diagnostic> {
        let mut read: BTreeSet<&str> = BTreeSet::new();
        for weight in weights {
            let (names, _) = spread(weight).ok()?;
            for found in names.iter().filter_map(|n| self.resolve(n)) {
                read.insert(found);
                let scales = self.packing(found);
                read.extend(scales.and_then(|p| self.tensors.get_key_value(p.scales())).map(|(n, _)| n.as_str()));
            }
        }
        let left: Vec<&str> = self.names().filter(|n| !read.contains(n) && !self.is_buffer(n)).collect();
        let left: Vec<&str> = left.into_iter().filter(|n| !read.iter().any(|r| self.equal(n, r))).collect();
        let first = left.first()?;
        let message = match left.len() {
            1 => format!("nothing reads the tensor {} of `{}`", self.called(first), self.path().display()),
            n => format!("nothing reads {n} tensors of `{}`, such as {}", self.path().display(), self.called(first)),
        };
        let help = "does the model file leave something out, or config.json belong to another model?";
        Some(Diagnostic::warning(codes::MISSING_WEIGHT, message).help(help))
    }

    /// A warning where a GGUF file says of its model what is not taken into account.
    pub fn unread_metadata(&self) -> Option<Diagnostic> {
        let unread = &self.origin.as_ref()?.unread;
        let first = unread.first()?;
        let message = match unread.len() {
            1 => format!("nothing reads `{first}` of the metadata of `{}`", self.path().display()),
            n => format!("nothing reads {n} keys of the metadata of `{}`, such as `{first}`", self.path().display()),
        };
        let help = "values may differ from what other programs compute with this file";
        Some(Diagnostic::warning(codes::MISSING_WEIGHT, message).help(help))
    }

    /// Whether a tensor is no weight of what reads text: a flag, a causal mask, frequencies of a rotary embedding, or of
    /// a part beside it.
    fn is_buffer(&self, name: &str) -> bool {
        if names().beside.iter().any(|part| name.starts_with(part) || name.contains(&format!(".{part}"))) {
            return true;
        }
        if self.is_beyond(name) {
            return true;
        }
        let Some((_, place)) = self.place(name) else { return false };
        let mask = matches!(place.shape[..], [1, 1, a, b] if a == b);
        place.shape.is_empty() || mask || name.ends_with("inv_freq")
    }

    /// Whether a tensor is of a layer behind the model's own, as the configuration counts them: what predicts further tokens.
    fn is_beyond(&self, name: &str) -> bool {
        names().further.iter().any(|f| {
            let count = |key: &str| self.config.value.get(key).and_then(serde_json::Value::as_u64);
            let (Some(layers), Some(more)) = (count(&f.behind), count(&f.count)) else { return false };
            let number = name.strip_prefix(f.under.as_str()).and_then(|r| r.split('.').next()?.parse::<u64>().ok());
            number.is_some_and(|n| n >= layers && n - layers < more)
        })
    }

    /// Whether two tensors are alike, by their shapes and the ends of their data.
    fn equal(&self, a: &str, b: &str) -> bool {
        let (Some((of_a, a)), Some((of_b, b))) = (self.place(a), self.place(b)) else { return false };
        if a.dtype != b.dtype || a.shape != b.shape {
            return false;
        }
        let (a, b) = (&of_a.bytes()[a.bytes.clone()], &of_b.bytes()[b.bytes.clone()]);
        let n = a.len().min(4096);
        a[..n] == b[..n] && a[a.len() - n..] == b[b.len() - n..]
    }

    /// Why the tensor `found` cannot be this weight.
    fn misfit(&self, found: &str, shape: &[usize], span: Span) -> Option<Diagnostic> {
        let (shard, place) = self.place(found)?;
        let bad = |what: String| Diagnostic::error(codes::WEIGHT_SHAPE, what).at(span, "declared here");
        let packing = self.packing(found);
        let stored = match &packing {
            None => place.shape.clone(),
            Some(packing) => match self.unpacked_shape(found, packing) {
                Ok(shape) => shape,
                Err(what) => return Some(bad(what).help("correct or download the file that has the scales")),
            },
        };
        // Dimensions of one entry say nothing about the order of the elements.
        let long = |s: &[usize]| s.iter().copied().filter(|d| *d != 1).collect::<Vec<_>>();
        if long(&stored) != long(shape) {
            let mut d = bad(format!(
                "{} is {stored:?} in `{}`, and the model file says {shape:?}",
                self.called(found),
                shard.path.display()
            ));
            let mut turned = long(shape);
            turned.reverse();
            d.help = Some(match turned == long(&stored) {
                true => "it is transposed: give the dimensions in the other order".into(),
                false => {
                    "correct the axes in the model file, or check that config.json belongs to these weights".to_string()
                }
            });
            return Some(d);
        }
        if packing.is_some() {
            return None;
        }
        Some(self.unread(found)?.0.at(span, "declared here"))
    }
}

/// The tensors that a weight stands for, in order, and the shape of each in the file.
fn spread(weight: &Weight) -> Result<(Vec<String>, Vec<usize>), Error> {
    let mut names = vec![weight.name.clone()];
    for axis in weight.spread() {
        let pattern = format!("{{{}}}", axis.name);
        let n = fixed(weight, axis)?;
        if names.len().saturating_mul(n) > SPREAD {
            let message = format!("the weight `{}` would be spread over more than {SPREAD} tensors", weight.name);
            return Err(Diagnostic::error(codes::WEIGHT_SHAPE, message)
                .at(weight.span, "declared here")
                .help("check the sizes in config.json")
                .into());
        }
        names = names.iter().flat_map(|name| (0..n).map(|i| name.replace(&pattern, &i.to_string()))).collect();
    }
    let of_file = weight.dims.iter().filter(|d| !weight.spread().any(|a| d.len() == 1 && d[0].name == a.name));
    let shape = of_file
        .map(|group| group.iter().try_fold(1usize, |n, axis| Ok(n.saturating_mul(fixed(weight, axis)?))))
        .collect::<Result<_, Error>>()?;
    Ok((names, shape))
}

/// The entries of an axis of a weight, which cannot be the keys of a row.
fn fixed(weight: &Weight, axis: &Axis) -> Result<usize, Error> {
    match axis.size {
        Size::Fixed(n) => Ok(n),
        Size::Keys => {
            let message =
                format!("the weight `{}` has the axis `{}`, whose size no file can know", weight.name, axis.name);
            Err(Diagnostic::error(codes::AXIS_MISMATCH, message).at(weight.span, "declared here").into())
        }
    }
}
