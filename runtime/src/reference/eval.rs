//! One run under a Plan, all of its rows at once, op by op.

use super::ops::{self, Product};
use crate::engine::Rounding;
use crate::error::Error;
use candle_core::{DType, Device, Tensor};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use steer_compiler::plan::{Axis, EditId, KEY, MAIN, NodeId, Op, Plan, RegionId, Size, Type};
use steer_kernels::{Activations, Format};
use steer_lang::codes;

/// A failure of candle, which is a mistake of this engine or a lack of memory.
pub(super) fn failed(e: candle_core::Error) -> Error {
    Error::new(codes::BACKEND, format!("the reference engine failed: {e}"))
}

/// What a run gives to the evaluation of its rows.
#[derive(Default)]
pub(super) struct Inputs {
    pub tokens: Vec<u32>,
    pub edits: HashMap<EditId, EditInputs>,
}

#[derive(Default)]
pub(super) struct EditInputs {
    pub params: Vec<f32>,
    pub active: Vec<bool>,
    /// `[rows, ..]`
    pub donor: Option<Tensor>,
}

/// Values that no row changes, and the weights of products as matrices.
#[derive(Default)]
pub(super) struct Constants {
    pub values: HashMap<NodeId, Tensor>,
    matrices: RefCell<HashMap<NodeId, Tensor>>,
    /// By product: how the weight that it multiplies with is stored.
    pub formats: HashMap<NodeId, Format>,
}

pub(super) struct Eval<'a> {
    pub plan: &'a Plan,
    constants: &'a Constants,
    inputs: &'a Inputs,
    pub rounding: Rounding,
    pub values: HashMap<NodeId, Tensor>,
}

/// Where a node is evaluated.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// Only this row; else all of them.
    pub row: Option<usize>,
    /// `[rows, keys]`, inside of an attention: which rows are keys of which.
    pub keys: Option<&'a Tensor>,
}

/// What depends on no row, once.
pub(super) fn constants(
    plan: &Plan,
    mut leaf: impl FnMut(&Op) -> Result<Option<Tensor>, Error>,
) -> Result<Constants, Error> {
    let mut constants = Constants::default();
    let inputs = Inputs::default();
    for region in 0..plan.regions.len() as u32 {
        for &n in &plan.region(RegionId(region)).order {
            let node = plan.node(n);
            if node.ty.per_row || constants.values.contains_key(&n) {
                continue;
            }
            let value = match leaf(&node.op)? {
                Some(value) => value,
                None => {
                    let rounding = Rounding::default();
                    let eval = Eval { plan, constants: &constants, inputs: &inputs, rounding, values: HashMap::new() };
                    eval.node(n, Place { row: None, keys: None }, &HashMap::new())?
                }
            };
            constants.values.insert(n, value);
        }
    }
    Ok(constants)
}

/// The values of these nodes, `[rows or 1, ..]`.
pub(super) fn evaluate(
    plan: &Plan,
    constants: &Constants,
    inputs: &Inputs,
    rounding: Rounding,
    wanted: &HashSet<NodeId>,
) -> Result<HashMap<NodeId, Tensor>, Error> {
    let needed = needed(plan, inputs, wanted);
    let mut eval = Eval { plan, constants, inputs, rounding, values: HashMap::new() };
    for &n in &plan.region(MAIN).order {
        if needed.contains(&n) && plan.ty(n).per_row {
            match plan.node(n).op {
                Op::Attention { .. } => eval.attention(n, &needed)?,
                Op::Scan { body } => eval.scan(n, body, &needed)?,
                _ => {
                    let value = eval.node(n, Place { row: None, keys: None }, &HashMap::new())?;
                    eval.values.insert(n, value);
                }
            }
        }
    }
    let mut found = HashMap::new();
    for &n in wanted {
        found.insert(n, eval.value(n, None, &HashMap::new())?);
    }
    Ok(found)
}

/// What the wanted nodes depend on in a run with these edits: of an edit that it does not have, only
/// the base.
fn needed(plan: &Plan, inputs: &Inputs, wanted: &HashSet<NodeId>) -> HashSet<NodeId> {
    let mut owner = HashMap::new();
    for (i, node) in plan.nodes.iter().enumerate() {
        if let Some(body) = node.op.body() {
            for &n in &plan.region(body).order {
                owner.insert(n, NodeId(i as u32));
            }
        }
    }
    let mut needed = HashSet::new();
    let mut todo: Vec<NodeId> = wanted.iter().copied().collect();
    while let Some(n) = todo.pop() {
        if !needed.insert(n) {
            continue;
        }
        todo.extend(owner.get(&n));
        match &plan.node(n).op {
            Op::Overlay { edit, base, .. } if !inputs.edits.contains_key(edit) => todo.push(*base),
            op => {
                op.for_each_input(&mut |x| todo.push(x));
                if let Some(body) = op.body() {
                    todo.extend(&plan.region(body).args);
                    todo.extend(&plan.region(body).results);
                }
            }
        }
    }
    needed
}

impl Eval<'_> {
    pub fn rows(&self) -> usize {
        self.inputs.tokens.len()
    }

    /// A value that is known, cut to one row if there is one.
    pub fn value(&self, id: NodeId, row: Option<usize>, local: &HashMap<NodeId, Tensor>) -> Result<Tensor, Error> {
        if let Some(value) = local.get(&id).or_else(|| self.constants.values.get(&id)) {
            return Ok(value.clone());
        }
        let value = self
            .values
            .get(&id)
            .ok_or_else(|| Error::new(codes::BACKEND, format!("n{} is read before it is computed", id.0)))?;
        match row {
            Some(row) if value.dims()[0] > 1 => value.narrow(0, row, 1).map_err(failed),
            _ => Ok(value.clone()),
        }
    }

    pub fn node(&self, id: NodeId, place: Place, local: &HashMap<NodeId, Tensor>) -> Result<Tensor, Error> {
        self.compute(id, place, local).map_err(|e| match e {
            Failure::Candle(e) => failed(e),
            Failure::Told(e) => e,
        })
    }

    fn compute(&self, id: NodeId, place: Place, local: &HashMap<NodeId, Tensor>) -> Result<Tensor, Failure> {
        let (plan, cpu) = (self.plan, &Device::Cpu);
        let node = plan.node(id);
        let ty = |n: NodeId| plan.ty(n);
        let get = |n: NodeId| self.value(n, place.row, local);
        let aligned = |n: NodeId| -> Result<Tensor, Failure> { Ok(ops::align(&get(n)?, &ty(n).axes, &node.ty.axes)?) };
        // Rows of the run as a value `[rows]`.
        let by_row = |f: &dyn Fn(usize) -> f32| -> Result<Tensor, Failure> {
            let values: Vec<f32> = match place.row {
                Some(row) => vec![f(row)],
                None => (0..self.rows()).map(f).collect(),
            };
            Ok(Tensor::from_vec(values.clone(), values.len(), cpu)?)
        };
        let dims = |ty: &Type| -> Vec<usize> {
            let size = |a: &Axis| if let Size::Fixed(n) = a.size { n } else { self.rows() };
            [1].into_iter().chain(ty.axes.iter().map(size)).collect()
        };
        Ok(match &node.op {
            Op::Token => by_row(&|r| self.inputs.tokens[r] as f32)?,
            Op::Position => by_row(&|r| r as f32)?,
            Op::Layer => Tensor::new(&[node.layer.unwrap_or(0) as f32], cpu)?,
            Op::Number(x) => Tensor::new(&[*x], cpu)?,
            Op::Table(values) => Tensor::from_slice(values, dims(&node.ty), cpu)?,
            Op::Iota => {
                let n = dims(&node.ty)[1];
                Tensor::arange(0u32, n as u32, cpu)?.to_dtype(DType::F32)?.reshape((1, n))?
            }
            Op::Param { edit, slot } => {
                let value = self.inputs.edits.get(edit).and_then(|e| e.params.get(*slot as usize));
                Tensor::new(&[value.copied().unwrap_or(0.0)], cpu)?
            }
            Op::Donor(edit) => match self.inputs.edits.get(edit).and_then(|e| e.donor.as_ref()) {
                Some(donor) => match place.row {
                    Some(row) => donor.narrow(0, row, 1)?,
                    None => donor.clone(),
                },
                None => Tensor::zeros(dims(&node.ty), DType::F32, cpu)?,
            },
            Op::Unary(op, a) => ops::unary(*op, &get(*a)?)?,
            Op::Binary(op, a, b) => ops::binary(*op, &aligned(*a)?, &aligned(*b)?)?,
            Op::Select(c, a, b) => ops::select(&aligned(*c)?, &aligned(*a)?, &aligned(*b)?)?,
            Op::Reduce(op, a, over) => {
                let mut x = get(*a)?;
                if over.iter().any(|o| &**o == KEY) {
                    x = self.mask(&x, ty(*a), place, ops::neutral(*op))?;
                }
                ops::reduce(*op, &x, ty(*a), over)?
            }
            Op::TopK { of, axis, k } => {
                let at = ty(*of).position_of(axis).unwrap_or(0) + 1;
                let mask = if &**axis == KEY { self.key_mask(ty(*of), place)? } else { None };
                ops::top_k(&get(*of)?, at, &get(*k)?, mask.as_ref())?
            }
            Op::Slice { of, axis, start, len } => {
                get(*of)?.narrow(ty(*of).position_of(axis).unwrap_or(0) + 1, *start, *len)?.contiguous()?
            }
            Op::At { of, axis, index } => {
                let at = ty(*of).position_of(axis).unwrap_or(0) + 1;
                get(*of)?.narrow(at, *index, 1)?.squeeze(at)?.contiguous()?
            }
            Op::Pick { of, axis, entries } => {
                let entries = Tensor::from_slice(entries, entries.len(), cpu)?;
                get(*of)?.index_select(&entries, ty(*of).position_of(axis).unwrap_or(0) + 1)?
            }
            Op::Reshape(a) => {
                let x = get(*a)?;
                let mut shape = dims(&node.ty);
                shape[0] = x.dims()[0];
                x.contiguous()?.reshape(shape)?
            }
            Op::Permute(a) => aligned(*a)?,
            Op::Concat(a, b, axis) => {
                let (a, b) = (get(*a)?, get(*b)?);
                let rows = a.dims()[0].max(b.dims()[0]);
                let spread = |x: &Tensor| {
                    let mut shape = x.dims().to_vec();
                    shape[0] = rows;
                    x.broadcast_as(shape)?.contiguous()
                };
                Tensor::cat(&[spread(&a)?, spread(&b)?], node.ty.position_of(axis).unwrap_or(0) + 1)?
            }
            Op::Linear { x, w, over, active } => {
                let product = Product { x: ty(*x), w: ty(*w), result: &node.ty, over };
                let known = self.constants.matrices.borrow().get(&id).cloned();
                let matrix = match known {
                    Some(matrix) => matrix,
                    None => {
                        let matrix = product.weight(&get(*w)?)?;
                        self.constants.matrices.borrow_mut().insert(id, matrix.clone());
                        matrix
                    }
                };
                let format = self.constants.formats.get(&id).copied().unwrap_or_default();
                let activations = self.rounding.activations;
                let round = |row: &mut [f32]| activations.rounded(format, row);
                let rounds = activations != Activations::default();
                let y = product.apply(&get(*x)?, &matrix, rounds.then_some(&round))?;
                match active {
                    Some(active) => ops::masked(&y, &aligned(*active)?, 0.0)?,
                    None => y,
                }
            }
            Op::Lookup { table, index } => {
                let table = get(*table)?.squeeze(0)?;
                let size = table.dims()[0];
                let wanted: Vec<f32> = get(*index)?.to_vec1()?;
                if let Some(bad) = wanted.iter().find(|&&i| !(i >= 0.0 && i < size as f32 && i.fract() == 0.0)) {
                    let message = format!("there is no entry {bad} in a table of {size}");
                    return Err(Failure::Told(Error::new(codes::OUT_OF_RANGE, message)));
                }
                let wanted: Vec<u32> = wanted.iter().map(|&i| i as u32).collect();
                table.index_select(&Tensor::from_vec(wanted.clone(), wanted.len(), cpu)?, 0)?
            }
            Op::Conv1d { x, w } => self.conv1d(&get(*x)?, &get(*w)?)?,
            Op::Overlay { edit, base, value } => match self.inputs.edits.get(edit) {
                Some(e) => {
                    let guard = by_row(&|r| f32::from(u8::from(e.active[r])))?;
                    let guard = ops::align(&guard, &[], &node.ty.axes)?;
                    ops::select(&guard, &get(*value)?, &get(*base)?)?
                }
                None => get(*base)?,
            },
            Op::Receipt { value, .. } => get(*value)?,
            Op::Weight(_) | Op::Tensor(_) | Op::Arg(_) | Op::Attention { .. } | Op::Scan { .. } => {
                return Err(Failure::Told(Error::new(codes::BACKEND, format!("n{} is out of place", id.0))));
            }
        })
    }

    /// The keys of each row, aligned with a type that has the axis `key`.
    fn key_mask(&self, ty: &Type, place: Place) -> Result<Option<Tensor>, Failure> {
        Ok(match place.keys {
            Some(keys) => Some(ops::align(keys, &[Axis::key()], &ty.axes)?),
            None => None,
        })
    }

    fn mask(&self, x: &Tensor, ty: &Type, place: Place, fill: f32) -> Result<Tensor, Failure> {
        Ok(match self.key_mask(ty, place)? {
            Some(mask) => ops::masked(x, &mask, fill)?,
            None => x.clone(),
        })
    }
}

/// What went wrong in an op: something of candle's, or something to tell the user.
pub(super) enum Failure {
    Candle(candle_core::Error),
    Told(Error),
}

impl From<candle_core::Error> for Failure {
    fn from(e: candle_core::Error) -> Self {
        Failure::Candle(e)
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure::Told(e)
    }
}
