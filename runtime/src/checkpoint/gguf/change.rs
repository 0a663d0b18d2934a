//! How a tensor lies otherwise in a GGUF file than in the checkpoint that it was made of.

use crate::engine::Order;
use crate::error::Error;
use crate::memory;

/// What was done when the file was written; it is undone when the tensor is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Of the rows of each of so many heads, i and i + n / 2 became neighbours.
    Pairs(usize),
    /// Rows of queries, keys and values of each of so many heads became all queries, then all keys, then all values.
    Parts(usize),
    Transposed,
    /// One was added.
    PlusOne,
    /// The negative exponential was taken.
    MinusExp,
}

impl Change {
    /// A change by its name, with what the number of heads is for a key of metadata.
    pub fn parse(text: &str, heads: impl Fn(&str) -> Option<usize>) -> Option<Self> {
        Some(match text.split_once(' ').unwrap_or((text, "")) {
            ("pairs", key) => Change::Pairs(heads(key)?),
            ("parts", key) => Change::Parts(heads(key)?),
            ("transposed", _) => Change::Transposed,
            ("plus_one", _) => Change::PlusOne,
            ("minus_exp", _) => Change::MinusExp,
            _ => return None,
        })
    }

    /// The shape in the checkpoint of what has this one in the file; `None` where it cannot have been changed so.
    pub fn shape(self, shape: &[usize]) -> Option<Vec<usize>> {
        let rows = shape.first().copied().unwrap_or(1);
        let fits = |parts: usize| parts > 0 && rows.is_multiple_of(parts);
        let sound = match self {
            Change::Pairs(heads) => heads.checked_mul(2).is_some_and(fits),
            Change::Parts(heads) => heads.checked_mul(3).is_some_and(fits),
            _ => true,
        };
        match self {
            // A vector is its own transpose, as the bias beside a matrix.
            Change::Transposed => Some(shape.iter().rev().copied().collect()),
            _ => sound.then(|| shape.to_vec()),
        }
    }

    /// The elements as they are in the checkpoint, where they have this shape.
    pub fn undo(self, mut data: Vec<f32>, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let rows = shape.first().copied().unwrap_or(1);
        let len = data.len() / rows.max(1);
        Ok(match self {
            Change::PlusOne => {
                data.iter_mut().for_each(|x| *x -= 1.0);
                data
            }
            Change::MinusExp => {
                data.iter_mut().for_each(|x| *x = (-*x).ln());
                data
            }
            Change::Transposed if shape.len() < 2 => data,
            Change::Transposed => gathered(&data, 1, data.len(), |i| i % len * rows + i / len)?,
            Change::Pairs(_) | Change::Parts(_) => gathered(&data, len, rows, |r| self.row(r, rows))?,
        })
    }

    /// The file's row that is a row of the checkpoint.
    fn row(self, r: usize, rows: usize) -> usize {
        match self {
            Change::Pairs(heads) => {
                let n = rows / heads;
                let (head, i) = (r / n, r % n);
                head * n + i % (n / 2) * 2 + i / (n / 2)
            }
            Change::Parts(heads) => {
                let n = rows / heads / 3;
                let (head, part, i) = (r / (3 * n), r / n % 3, r % n);
                (part * heads + head) * n + i
            }
            _ => r,
        }
    }

    /// How elements lie in the file where the checkpoint has them in this shape; `None` where they are others.
    pub fn order(self, shape: &[usize]) -> Option<Order> {
        let rows = shape.first().copied().unwrap_or(1);
        let columns = shape.iter().skip(1).product();
        match self {
            Change::PlusOne | Change::MinusExp => None,
            Change::Transposed if shape.len() < 2 => Some(Order::Same),
            Change::Transposed => Some(Order::Turned(rows, columns)),
            Change::Pairs(_) | Change::Parts(_) => {
                Some(Order::Rows((0..rows).map(|r| self.row(r, rows)).collect(), columns))
            }
        }
    }
}

/// As many pieces of a length, each from where it says.
fn gathered(data: &[f32], len: usize, count: usize, from: impl Fn(usize) -> usize) -> Result<Vec<f32>, Error> {
    let mut out = memory::room(data.len(), "one tensor")?;
    (0..count).for_each(|i| out.extend_from_slice(&data[from(i) * len..(from(i) + 1) * len]));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undo(change: Change, data: &[f32], shape: &[usize]) -> Vec<f32> {
        change.undo(data.to_vec(), shape).unwrap()
    }

    #[test]
    fn rows_are_where_they_were() {
        // Two heads of four rows: 0 2 1 3 is how the file has 0 1 2 3.
        let file = [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0];
        assert_eq!(undo(Change::Pairs(2), &file, &[8]), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        // Queries, keys and values of two heads of one row.
        let file = [1.0, 1.5, 4.0, 4.5, 2.0, 2.5, 5.0, 5.5, 3.0, 3.5, 6.0, 6.5];
        let own = [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5];
        assert_eq!(undo(Change::Parts(2), &file, &[6, 2]), own);
        assert_eq!(undo(Change::Transposed, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[3, 2]), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(undo(Change::PlusOne, &[1.5], &[1]), [0.5]);
        assert_eq!(undo(Change::MinusExp, &[-1.0], &[1]), [0.0]);
    }

    /// What is undone after reading is where the order says before.
    #[test]
    fn orders_are_those_of_what_is_undone() {
        let data: Vec<f32> = (0..48).map(|i| i as f32).collect();
        for (change, shape) in [
            (Change::Pairs(2), [8, 6]),
            (Change::Parts(2), [12, 4]),
            (Change::Parts(4), [12, 4]),
            (Change::Transposed, [8, 6]),
        ] {
            let (rows, columns) = (shape[0], shape[1]);
            let plain = undo(change, &data, &shape);
            let order = change.order(&shape).unwrap();
            // By rows and, as GPT-2 computes, by columns.
            for (outs, ins) in [
                ((0..rows).map(|r| r * columns).collect::<Vec<_>>(), (0..columns).collect::<Vec<_>>()),
                ((0..columns).collect(), (0..rows).map(|r| r * columns).collect()),
            ] {
                let found = order.offsets(outs.clone(), ins.clone());
                if let Order::Rows(..) = order
                    && ins[1] != 1
                {
                    assert_eq!(found, None);
                    continue;
                }
                let (to_outs, to_ins) = found.unwrap();
                for (o, to_o) in outs.iter().zip(&to_outs) {
                    for (k, to_k) in ins.iter().zip(&to_ins) {
                        assert_eq!(plain[o + k], data[to_o + to_k], "{change:?}");
                    }
                }
            }
        }
        assert_eq!(Change::PlusOne.order(&[4]), None);
    }

    #[test]
    fn what_cannot_be_is_seen_by_the_shape() {
        assert_eq!(Change::Pairs(3).shape(&[8, 2]), None);
        assert_eq!(Change::Pairs(0).shape(&[8, 2]), None);
        assert_eq!(Change::Parts(usize::MAX).shape(&[8, 2]), None);
        assert_eq!(Change::Transposed.shape(&[8, 2]), Some(vec![2, 8]));
    }
}
