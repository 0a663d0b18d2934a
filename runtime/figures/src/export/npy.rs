//! One metric as NumPy's `.npy`.

use crate::frame::{Fault, Frame};

impl Frame {
    /// The values of a metric as an array of float64 with the table's axes, row-major. NaN is what was not computed.
    pub fn to_npy(&self, column: &str) -> Result<Vec<u8>, Fault> {
        self.check()?;
        let at = self.column(column)?;
        let shape: Vec<usize> = self.axes.iter().map(|a| a.len()).collect();
        let mut out = npy_header("<f8", &shape);
        out.extend(self.columns[at].values.iter().flat_map(|v| v.to_le_bytes()));
        Ok(out)
    }
}

/// What stands before the numbers of an `.npy` file in C order; `descr` is their type, such as `<f4`.
pub fn npy_header(descr: &str, shape: &[usize]) -> Vec<u8> {
    let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}{comma}), }}", dims.join(", "));
    // The data begins at a multiple of 64, and a line end closes the header.
    let pad = (10 + header.len() + 1).next_multiple_of(64) - (10 + header.len() + 1);
    header.extend(std::iter::repeat_n(' ', pad));
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out
}
