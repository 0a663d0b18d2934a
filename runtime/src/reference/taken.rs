//! What patches take of their donors' values.

use super::eval::failed;
use crate::error::Error;
use candle_core::{Device, Tensor};
use steer_compiler::plan::{Sight, Size, Type};
use steer_lang::codes;

/// Which row of a donor each row of a run takes.
pub(super) struct Taken<'a> {
    /// By row of the run: the donor's position, and whether it is taken.
    pub positions: &'a [usize],
    pub active: &'a [bool],
    /// How many rows the donor has.
    pub rows: usize,
}

impl Taken<'_> {
    /// The rows that are taken, with the positions that they are taken from.
    fn pairs(&self) -> Result<Vec<(usize, usize)>, Error> {
        let pairs = self.positions.iter().zip(self.active).enumerate().filter(|(_, (_, active))| **active);
        let checked = pairs.map(|(row, (&position, _))| {
            if position < self.rows {
                return Ok((row, position));
            }
            let message = format!("a patch takes position {position} of a run that has {}", self.rows);
            Err(Error::new(codes::POSITION_RANGE, message))
        });
        checked.collect()
    }

    /// The donor's rows at these positions; where nothing is taken, any row.
    pub fn rows_of(&self, value: &Tensor) -> Result<Tensor, Error> {
        let mut wanted = vec![0u32; self.positions.len()];
        for (row, position) in self.pairs()? {
            if value.dims()[0] > 1 {
                wanted[row] = position as u32;
            }
        }
        let len = wanted.len();
        Tensor::from_vec(wanted, len, &Device::Cpu).and_then(|wanted| value.index_select(&wanted, 0)).map_err(failed)
    }

    /// The same of a value with the axis `key`: entry by entry of a row's own keys, of which there must be
    /// as many. `edit` is what takes them and where.
    pub fn keys_of(
        &self,
        value: &Tensor,
        ty: &Type,
        sight: Sight,
        (edit, site): (&str, &str),
    ) -> Result<Tensor, Error> {
        let rows = self.positions.len();
        let axis = ty.axes.iter().position(|a| a.size == Size::Keys).unwrap_or(0) + 1;
        let dims = value.dims().to_vec();
        let (outer, inner): (usize, usize) = (dims[1..axis].iter().product(), dims[axis + 1..].iter().product());
        let data: Vec<f32> = value.flatten_all().and_then(|v| v.to_vec1()).map_err(failed)?;
        let mut out = vec![0.0; rows * outer * rows * inner];
        for (row, position) in self.pairs()? {
            let (to, from) = (sight.of(row, rows), sight.of(position, self.rows));
            if to.len() != from.len() {
                let message = format!(
                    "`{edit}` takes {site} of position {position}, which has {} keys, for position {row}, which has {}",
                    from.len(),
                    to.len()
                );
                let help = "patch rows that have as many keys as those they take from";
                return Err(Error::new(codes::AXIS_MISMATCH, message).help(help));
            }
            let donor = if dims[0] > 1 { position } else { 0 };
            for o in 0..outer {
                let at = ((donor * outer + o) * dims[axis] + from.start) * inner;
                let into = ((row * outer + o) * rows + to.start) * inner;
                out[into..into + to.len() * inner].copy_from_slice(&data[at..at + to.len() * inner]);
            }
        }
        let mut shape = dims;
        (shape[0], shape[axis]) = (rows, rows);
        Tensor::from_vec(out, shape, &Device::Cpu).map_err(failed)
    }
}
