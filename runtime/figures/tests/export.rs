//! Tables as files, read back.

mod common;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use steer_figures::{Frame, FrameAxis, FrameColumn};

fn small() -> Frame {
    Frame {
        name: "f".into(),
        axes: vec![
            FrameAxis {
                name: "token".into(),
                labels: vec![" a".into(), "b,\"c\"\n".into()],
                numbers: Some(vec![4.0, 7.0]),
                first: 3,
            },
            FrameAxis::of_numbers("alpha", [0.5, 1.0]),
        ],
        columns: vec![
            FrameColumn { name: "ld".into(), values: vec![1.0, -0.1, f64::NAN, 1e300], errors: Some(vec![0.5; 4]) },
            FrameColumn::new("token", vec![f64::INFINITY, 0.0, 1e-7, 3.0]),
        ],
    }
}

#[test]
fn csv_is_one_row_a_cell() {
    let expected = "token,token_number,token_index,alpha,alpha_index,ld,ld_error,token_2\n\
        \" a\",4,3,0.5,0,1,0.5,inf\n\
        \" a\",4,3,1,1,-0.1,0.5,0\n\
        \"b,\"\"c\"\"\n\",7,4,0.5,0,,0.5,1e-7\n\
        \"b,\"\"c\"\"\n\",7,4,1,1,1e300,0.5,3\n";
    assert_eq!(small().to_csv().unwrap(), expected);
    let none = Frame { columns: vec![FrameColumn::new("m", vec![2.5])], ..Frame::default() };
    assert_eq!(none.to_csv().unwrap(), "m\n2.5\n");
}

#[test]
fn parquet_has_types_names_and_nulls() {
    let bytes = small().to_parquet().unwrap();
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
    let rows: Vec<Vec<(String, Field)>> = reader
        .get_row_iter(None)
        .unwrap()
        .map(|row| row.unwrap().get_column_iter().map(|(n, f)| (n.clone(), f.clone())).collect())
        .collect();
    assert_eq!(rows.len(), 4);
    let row = |fields: [Field; 8]| -> Vec<(String, Field)> {
        let names = ["token", "token_number", "token_index", "alpha", "alpha_index", "ld", "ld_error", "token_2"];
        names.iter().map(|n| n.to_string()).zip(fields).collect()
    };
    use Field::{Double, Long, Null, Str};
    assert_eq!(
        rows[1],
        row([Str(" a".into()), Long(4), Long(3), Double(1.0), Long(1), Double(-0.1), Double(0.5), Double(0.0)])
    );
    let label = Str("b,\"c\"\n".into());
    assert_eq!(rows[2], row([label, Long(7), Long(4), Double(0.5), Long(0), Null, Double(0.5), Double(1e-7)]));
}

#[test]
fn a_large_table_is_written_and_compact() {
    let frame = common::long(100, 2000);
    let bytes = frame.to_parquet().unwrap();
    assert!(bytes.len() < 3_000_000, "{}", bytes.len());
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
    assert_eq!(reader.metadata().file_metadata().num_rows(), 200_000);
}

#[test]
fn npy_has_the_shape_and_bits_of_a_metric() {
    let bytes = small().to_npy("ld").unwrap();
    let header = std::str::from_utf8(&bytes[10..128]).unwrap();
    assert!(header.contains("'<f8'") && header.contains("(2, 2)"), "{header}");
    assert_eq!(bytes.len(), 128 + 4 * 8);
    assert_eq!(bytes[128..136], 1f64.to_le_bytes());
    assert_eq!(bytes[136..144], (-0.1f64).to_le_bytes());
    assert!(small().to_npy("l").unwrap_err().help.unwrap().contains("`ld`, `token`"));
}

#[test]
fn json_has_axes_and_nulls() {
    let value: serde_json::Value = serde_json::from_str(&small().to_json()).unwrap();
    assert_eq!(value["columns"][0]["values"], serde_json::json!([1.0, -0.1, null, 1e300]));
    assert_eq!(value["axes"][0]["labels"][0], " a");
}

#[test]
fn tables_that_do_not_fit_are_refused() {
    let mut frame = small();
    frame.columns[0].values.pop();
    let fault = frame.to_csv().unwrap_err();
    assert_eq!(fault.message, "the column `ld` of `f` has 3 entries for 4 cells");
    assert!(frame.to_parquet().is_err() && frame.to_npy("ld").is_err());
    assert!(steer_figures::Plot::default().of(&frame).is_err());
}
