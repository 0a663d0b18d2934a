//! Elements that do not lie in row-major order.

use super::count;
use crate::error::Error;
use crate::memory;

/// Elements in row-major order, of which those of dimension `d` lie `strides[d]` apart. The last one is among `values`.
pub fn row_major(values: &[f32], shape: &[usize], strides: &[usize]) -> Result<Vec<f32>, Error> {
    let n = count(shape).unwrap_or(0);
    let mut out = memory::room(n, "one tensor")?;
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    for _ in 0..n {
        out.push(values[at]);
        for d in (0..shape.len()).rev() {
            index[d] += 1;
            at += strides[d];
            if index[d] < shape[d] {
                break;
            }
            at -= strides[d] * shape[d];
            index[d] = 0;
        }
    }
    Ok(out)
}
