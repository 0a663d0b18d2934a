//! Tensors that are loaded from files.

use super::check::Checker;
use super::scope::{Res, fail};
use super::script::{Directions, Reading, TensorFrom};
use super::value::Value;
use crate::plan::{Axis, Size};
use steer_lang::ast::{Arg, Expr, ExprKind, Ident, TensorDecl, TensorKind};
use steer_lang::{Diagnostic, codes};

/// What the tensors of a control vector are called.
const DIRECTION: &str = "direction.{layer}";

/// A path or key with the number that a layer has in the file.
pub fn numbered(text: &str, layer: u32, shift: i64) -> String {
    text.replace("{layer}", &(i64::from(layer) + shift).to_string())
}

impl Checker<'_> {
    /// Where a declared tensor is in which file, its axes, and the layers that it has.
    pub(super) fn load(&mut self, t: &TensorDecl, args: &[Arg]) -> Res<(TensorFrom, Vec<Axis>, Vec<u32>)> {
        if t.at.is_some() || t.on.is_some() {
            return fail(codes::BAD_ARGUMENTS, "a loaded tensor has no site", t.value.span, "drop `at` and `on`");
        }
        let mut texts = Vec::new();
        let mut shift = 0;
        for a in args {
            if let Some(name) = &a.name {
                shift = self.shift(t, name, &a.value)?;
                continue;
            }
            let kept = match &a.value.kind {
                // `{layer}` stays, for a family.
                ExprKind::Text(s) => Value::text(s),
                _ => self.value(&a.value)?,
            };
            match kept {
                Value::Text(s) => texts.push(s.to_string()),
                other => {
                    return fail(
                        codes::WRONG_KIND,
                        format!("a text is wanted, not {}", other.kind()),
                        a.value.span,
                        "this",
                    );
                }
            }
        }
        let (path, mut key) = match &texts[..] {
            [path] => (path.clone(), None),
            [path, key] => (path.clone(), Some(key.clone())),
            _ => {
                return fail(
                    codes::BAD_ARGUMENTS,
                    "`load` takes a path, and a key where a file has several tensors",
                    t.value.span,
                    "here",
                );
            }
        };
        let axes = match self.declared_axes(t)? {
            Some(axes) => axes,
            None if t.kind == TensorKind::Vector => match self.axes.get("d_model") {
                Some(&size) => vec![Axis { name: "d_model".into(), size }],
                None => {
                    return fail(
                        codes::AXIS_MISMATCH,
                        "this model has no axis `d_model`",
                        t.name.span,
                        "say its axis after `:`",
                    );
                }
            },
            None => {
                return Err(Box::new(
                    Diagnostic::error(codes::AXIS_MISMATCH, "which axes does it have?")
                        .at(t.name.span, "a file holds numbers without names")
                        .help(format!("write `tensor {}: [feature = 512, d_model] = load(...)`", t.name.name)),
                ));
            }
        };
        let mut layers: Vec<u32> = (0..if t.family.is_some() { self.layers } else { 1 }).collect();
        if t.family.is_some() && key.is_none() && !path.contains("{layer}") {
            let found = self.host.directions(&path, t.name.span.file).transpose();
            if let Some(found) = found.map_err(|d| Box::new(d.at(t.value.span, "loaded here")))? {
                key = Some(DIRECTION.to_owned());
                layers = self.directions(t, &path, &found, shift)?;
            }
        }
        for &l in &layers {
            let path = numbered(&path, l, shift);
            let key = key.as_ref().map(|k| numbered(k, l, shift));
            let found = self.host.tensor_shape(&path, key.as_deref(), t.name.span.file);
            let shape = found.map_err(|d| Box::new(d.at(t.value.span, "loaded here")))?;
            let want: Vec<usize> =
                axes.iter().filter_map(|a| if let Size::Fixed(n) = a.size { Some(n) } else { None }).collect();
            if shape != want {
                return Err(Box::new(
                    Diagnostic::error(codes::WEIGHT_SHAPE, format!("{path} holds a tensor of another shape"))
                        .at(t.value.span, format!("it is {shape:?}, and {want:?} is declared"))
                        .help(advice(&shape, &want)),
                ));
            }
        }
        if t.family.is_none() {
            layers = (0..self.layers).collect();
        }
        Ok((TensorFrom::File { path, key, shift }, axes, layers))
    }

    /// The argument `shift`: how much larger the file's numbers are than those of the layers.
    fn shift(&mut self, t: &TensorDecl, name: &Ident, value: &Expr) -> Res<i64> {
        if name.name != "shift" {
            return Err(Box::new(
                Diagnostic::error(codes::BAD_ARGUMENTS, format!("`load` has no argument `{}`", name.name))
                    .at(name.span, "not expected")
                    .help("it takes a path, a key, and `shift` where a file numbers layers otherwise"),
            ));
        }
        if t.family.is_none() {
            let message = "`shift` is for a family of tensors, one a layer";
            return fail(codes::BAD_ARGUMENTS, message, name.span, "this is one tensor");
        }
        let n = self.plain_number(value)?;
        match n.fract() == 0.0 && n.abs() < 1e6 {
            true => Ok(n as i64),
            false => fail(codes::BAD_ARGUMENTS, "`shift` is a whole number", value.span, format!("this is {n}")),
        }
    }

    /// The layers for which a control vector has a direction.
    fn directions(&mut self, t: &TensorDecl, path: &str, found: &Directions, shift: i64) -> Res<Vec<u32>> {
        let mut layers = Vec::new();
        for &number in &found.numbers {
            let layer = i64::from(number) - shift;
            match u32::try_from(layer).ok().filter(|l| *l < self.layers) {
                Some(l) => layers.push(l),
                None => {
                    let message =
                        format!("`{path}` has a direction for block {layer}, and the model has {}", self.layers);
                    let written = found.model.as_ref().map_or(String::new(), |m| format!("it was written for `{m}`; "));
                    return Err(Box::new(
                        Diagnostic::error(codes::OUT_OF_RANGE, message)
                            .at(t.value.span, format!("`direction.{number}`, with a shift of {shift}"))
                            .help(format!("{written}blocks count from 0: is it of another model, or `shift` wrong?")),
                    ));
                }
            }
        }
        layers.sort_unstable();
        let (Some(first), Some(last)) = (layers.first(), layers.last()) else {
            return Err(Box::new(
                Diagnostic::error(codes::MISSING_WEIGHT, format!("`{path}` has no direction"))
                    .at(t.value.span, "loaded here")
                    .help("name the tensor that is meant: `load(\"file.gguf\", \"key\")`"),
            ));
        };
        if let Some(hint) = found.model.as_deref().filter(|h| self.model.is_other(h)) {
            self.diagnostics.push(
                Diagnostic::warning(codes::WRONG_KIND, format!("`{path}` was written for another model"))
                    .at(t.value.span, format!("it says `{hint}`, and this is {}", self.model.arch_name))
                    .help("directions of one model mean nothing in another; were they taken from this one?"),
            );
        }
        let number = match shift {
            0 => "i".to_owned(),
            n => format!("(i {} {})", if n < 0 { '-' } else { '+' }, n.abs()),
        };
        let model = found.model.as_ref().map_or(String::new(), |m| format!(", written for `{m}`"));
        let means = format!(
            "`{}[i]` is `direction.{number}`, added to the output of block i; blocks {first} to {last}{model}",
            t.name.name
        );
        self.readings.push(Reading { of: path.to_owned(), means });
        Ok(layers)
    }
}

/// What to do about a file that has its numbers in another shape.
fn advice(shape: &[usize], want: &[usize]) -> String {
    let long = |s: &[usize]| s.iter().copied().filter(|n| *n != 1).collect::<Vec<_>>();
    let axes = match (shape, want) {
        ([1, n], [m]) if n == m => "[one = 1, d_model]",
        ([n, 1], [m]) if n == m => "[d_model, one = 1]",
        _ if long(shape) == long(want) => "[one = 1, ...]",
        _ => return "declare the axes as the file has them: `[feature = 512, d_model]`".into(),
    };
    format!("name the axis of one entry, too: `tensor v: {axes} = load(...)`, and take `sum(v, one)` for the vector")
}
