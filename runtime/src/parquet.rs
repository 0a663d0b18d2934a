//! Parquet files as the examples of a data set: texts, numbers, and lists and records of them.

use crate::error::Error;
use crate::guard;
use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Map, Value};
use std::path::Path;
use steer_lang::codes;

/// A data set has no more examples.
const ROWS: usize = 1 << 22;

/// The rows of a file, each a record of its columns; `path` is named in errors.
///
/// # Errors
/// A damaged file, and one that is compressed by something else than Snappy or gzip.
pub fn parse_parquet(bytes: Vec<u8>, path: &Path) -> Result<Vec<Map<String, Value>>, Error> {
    let bad = |what: String| {
        let help = match what.contains("feature") {
            true => "write it again with `compression=\"snappy\"`",
            false => "copy or download it again",
        };
        Error::new(codes::FILE, format!("`{}` is no Parquet file that can be read: {what}", path.display())).help(help)
    };
    // The reader trusts what pages say of themselves.
    guard::caught(|| rows(bytes)).and_then(|rows| rows).map_err(bad)
}

fn rows(bytes: Vec<u8>) -> Result<Vec<Map<String, Value>>, String> {
    let reader = SerializedFileReader::new(Bytes::from(bytes)).map_err(|e| e.to_string())?;
    let mut out = Vec::new();
    for row in reader.get_row_iter(None).map_err(|e| e.to_string())? {
        out.push(record(&row.map_err(|e| e.to_string())?));
        if out.len() > ROWS {
            return Err(format!("it has more than {ROWS} rows"));
        }
    }
    Ok(out)
}

fn record(row: &Row) -> Map<String, Value> {
    row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect()
}

fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(b) => (*b).into(),
        Field::Byte(n) => (*n).into(),
        Field::Short(n) => (*n).into(),
        Field::Int(n) => (*n).into(),
        Field::Long(n) => (*n).into(),
        Field::UByte(n) => (*n).into(),
        Field::UShort(n) => (*n).into(),
        Field::UInt(n) => (*n).into(),
        Field::ULong(n) => (*n).into(),
        Field::Float(x) => (*x).into(),
        Field::Double(x) => (*x).into(),
        Field::Str(s) => s.as_str().into(),
        Field::Group(row) => Value::Object(record(row)),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        // Dates, decimals and bytes, as they are shown.
        other => other.to_string().into(),
    }
}
