//! Parquet, which pandas, Polars, DuckDB and R read with the types and names of the columns.

use super::{Content, Field, fields};
use crate::frame::{Fault, Frame};
use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use std::sync::Arc;

/// Rows that are held in memory at once by a reader.
const GROUP: usize = 1 << 20;

impl Frame {
    /// The table as a Parquet file, one row a cell. What was not computed is null.
    pub fn to_parquet(&self) -> Result<Vec<u8>, Fault> {
        let fields = fields(self)?;
        self.write(&fields).map_err(|e| Fault::new(format!("`{}` cannot be written as Parquet: {e}", self.name)))
    }

    fn write(&self, fields: &[Field<'_>]) -> Result<Vec<u8>, ParquetError> {
        let types = fields.iter().map(|f| f.describe().map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
        let schema = Arc::new(Type::group_type_builder("schema").with_fields(types).build()?);
        let properties =
            WriterProperties::builder().set_created_by(concat!("steer ", env!("CARGO_PKG_VERSION")).into());
        let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties.build()))?;
        let cells = self.cells();
        for start in (0..cells.max(1)).step_by(GROUP) {
            let range = start..cells.min(start + GROUP);
            let mut group = file.next_row_group()?;
            for field in fields {
                let Some(mut out) = group.next_column()? else { break };
                match field.content {
                    Content::Labels(axis, labels) => {
                        let bytes: Vec<ByteArray> = labels.iter().map(|l| l.as_str().into()).collect();
                        let values: Vec<ByteArray> =
                            range.clone().map(|c| bytes[self.place(axis, c)].clone()).collect();
                        out.typed::<ByteArrayType>().write_batch(&values, None, None)?;
                    }
                    Content::Numbers(axis, numbers) => match whole(numbers) {
                        Some(n) => {
                            let values: Vec<i64> = range.clone().map(|c| n[self.place(axis, c)]).collect();
                            out.typed::<Int64Type>().write_batch(&values, None, None)?;
                        }
                        None => {
                            let values: Vec<f64> = range.clone().map(|c| numbers[self.place(axis, c)]).collect();
                            out.typed::<DoubleType>().write_batch(&values, None, None)?;
                        }
                    },
                    Content::Places(axis, first) => {
                        let values: Vec<i64> = range.clone().map(|c| (first + self.place(axis, c)) as i64).collect();
                        out.typed::<Int64Type>().write_batch(&values, None, None)?;
                    }
                    Content::Values(values) => {
                        let values = &values[range.clone()];
                        let present: Vec<i16> = values.iter().map(|v| i16::from(!v.is_nan())).collect();
                        let values: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
                        out.typed::<DoubleType>().write_batch(&values, Some(&present), None)?;
                    }
                }
                out.close()?;
            }
            group.close()?;
        }
        file.into_inner()
    }
}

impl Field<'_> {
    fn describe(&self) -> Result<Type, ParquetError> {
        let (physical, logical, repetition) = match self.content {
            Content::Labels(..) => (Physical::BYTE_ARRAY, Some(LogicalType::String), Repetition::REQUIRED),
            Content::Numbers(_, n) if whole(n).is_none() => (Physical::DOUBLE, None, Repetition::REQUIRED),
            Content::Numbers(..) | Content::Places(..) => (Physical::INT64, None, Repetition::REQUIRED),
            Content::Values(_) => (Physical::DOUBLE, None, Repetition::OPTIONAL),
        };
        let builder = Type::primitive_type_builder(&self.name, physical).with_repetition(repetition);
        builder.with_logical_type(logical).build()
    }
}

/// Numbers as integers, where they all are.
fn whole(numbers: &[f64]) -> Option<Vec<i64>> {
    numbers.iter().map(|n| (n.fract() == 0.0 && n.abs() < 9e15).then_some(*n as i64)).collect()
}
