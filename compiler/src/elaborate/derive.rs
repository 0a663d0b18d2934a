//! Derived tensors: arithmetic over means and components of what a model has at a site.

use super::call::Args;
use super::scope::{Eval, Res, fail};
use super::value::Value;
use crate::plan::Axis;
use std::rc::Rc;
use steer_lang::codes;

/// A number for each element of a site, taken from the rows of data sets.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf {
    /// The tensor of the derived Plan that holds it.
    pub tensor: String,
    pub stat: LeafStat,
    /// The data sets' names.
    pub data: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LeafStat {
    /// Over all selected rows.
    Mean,
    /// The sum over the selected rows of a text, on the average of the texts.
    Total,
    /// The principal component of this number: of one data set about its mean; of two, of the
    /// differences of their rows in pairs (Zou et al., 2023), pointing to the first.
    Component(usize),
}

/// What [`Eval`] needs while it evaluates a derived tensor.
#[derive(Clone, Debug)]
pub struct DeriveState {
    /// The axes of the site.
    pub axes: Vec<Axis>,
    pub leaves: Vec<Leaf>,
}

impl Eval<'_> {
    /// `mean(data)`, `total(data)` and `pca(data)` where a derived tensor is evaluated; `None` for other arguments.
    pub fn derived_leaf(&mut self, name: &str, args: &mut Args) -> Res<Option<Value>> {
        let Some((first, at)) = args.get(0, "data") else { return Ok(None) };
        let first = match first {
            Value::Data(first) => first,
            Value::Text(_) | Value::Chat(_) | Value::List(_) if self.derive.is_some() => {
                return Err(Box::new(
                    steer_lang::Diagnostic::error(
                        codes::WRONG_KIND,
                        format!("`{name}` takes a data set here, not {}", first.kind()),
                    )
                    .at(at, "this")
                    .help("declare one: `data texts = [\"...\", \"...\"]`; prompts can stand in it"),
                ));
            }
            _ => return Ok(None),
        };
        let mut data = vec![first.to_string()];
        let stat = if name == "mean" {
            LeafStat::Mean
        } else if name == "total" {
            LeafStat::Total
        } else {
            let second = args.get(1, "negative");
            match second {
                None => {}
                Some((Value::Data(d), _)) => data.push(d.to_string()),
                Some((other, at)) => {
                    return fail(codes::WRONG_KIND, format!("a data set is wanted, not {}", other.kind()), at, "this");
                }
            }
            let k = match args.get(2, "component") {
                None => 0.0,
                Some((v, at)) => self.number(&v, at)?,
            };
            if k < 0.0 || k.fract() != 0.0 {
                return fail(codes::BAD_ARGUMENTS, "components count from 0", at, "here");
            }
            LeafStat::Component(k as usize)
        };
        let Some(state) = self.derive.as_mut() else {
            return Err(Box::new(
                steer_lang::Diagnostic::error(codes::WRONG_KIND, format!("`{name}` over a data set runs the model"))
                    .at(at, "a data set")
                    .help(format!("declare it: `vector v = {name}({first}) at blocks[3].resid.post on prompt[-1]`")),
            ));
        };
        if let Some(leaf) = state.leaves.iter().find(|l| l.stat == stat && l.data == data) {
            let tensor = leaf.tensor.clone();
            return self.leaf_node(&tensor, args).map(Some);
        }
        let tensor = format!("{name}#{}", state.leaves.len());
        state.leaves.push(Leaf { tensor: tensor.clone(), stat, data });
        self.leaf_node(&tensor, args).map(Some)
    }

    fn leaf_node(&mut self, tensor: &str, args: &Args) -> Res<Value> {
        let axes = self.derive.as_ref().map(|d| d.axes.clone()).unwrap_or_default();
        let r = self.b.tensor(tensor, axes);
        Ok(Value::Node(self.typed(r, args.span)?))
    }
}

/// Data sets as values of the script's scope.
pub fn data_value(name: &str) -> Value {
    Value::Data(Rc::from(name))
}
