//! Tables, tensors, plots and pages as files. The end of a file's name says what it is to be.

use crate::error::Error;
use crate::tensors::{Named, ending, write_directions, write_npy, write_safetensors};
use crate::{files, memory};
use std::collections::BTreeMap;
use std::path::Path;
use steer_figures::{Fault, Figure, Frame, Page};
use steer_lang::codes;

/// The pixels of a PNG for each unit of the SVG: about 290 to an inch.
const SCALE: f64 = 3.0;

/// A file of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFile {
    Csv,
    Json,
    Npy,
    Parquet,
}

/// A file of a plot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlotFile {
    Png,
    Svg,
}

impl TableFile {
    /// The kind of file that a name asks for.
    pub fn of(path: &Path) -> Result<TableFile, Error> {
        match ending(path).as_str() {
            "csv" => Ok(TableFile::Csv),
            "json" => Ok(TableFile::Json),
            "npy" => Ok(TableFile::Npy),
            "parquet" => Ok(TableFile::Parquet),
            _ => Err(unknown(path, "a table", ".csv, .parquet, .npy or .json")),
        }
    }

    /// The table as such a file. An `.npy` holds one metric, which has to be named where the table has several; of the
    /// others a metric that is named is the only one.
    pub fn bytes(self, frame: &Frame, column: Option<&str>) -> Result<Vec<u8>, Error> {
        let only;
        let frame = match column {
            None => frame,
            Some(name) => {
                let at = frame.column(name)?;
                only = Frame { columns: vec![frame.columns[at].clone()], ..frame.clone() };
                &only
            }
        };
        match self {
            TableFile::Csv => Ok(frame.to_csv()?.into_bytes()),
            TableFile::Json => Ok(frame.to_json().into_bytes()),
            TableFile::Parquet => Ok(frame.to_parquet()?),
            TableFile::Npy => match frame.columns.as_slice() {
                [one] => Ok(frame.to_npy(&one.name)?),
                several => {
                    let names: Vec<String> = several.iter().map(|c| format!("`{}`", c.name)).collect();
                    let message = format!("`{}` has {} metrics, and an .npy file holds one", frame.name, names.len());
                    Err(Error::new(codes::BAD_ARGUMENTS, message).help(format!("name one of {}", names.join(", "))))
                }
            },
        }
    }
}

impl PlotFile {
    /// The kind of file that a name asks for.
    pub fn of(path: &Path) -> Result<PlotFile, Error> {
        match ending(path).as_str() {
            "png" => Ok(PlotFile::Png),
            "svg" => Ok(PlotFile::Svg),
            _ => Err(unknown(path, "a plot", ".svg or .png")),
        }
    }

    /// The plot as such a file.
    pub fn bytes(self, figure: &Figure) -> Result<Vec<u8>, Error> {
        match self {
            PlotFile::Png => Ok(figure.png(SCALE)?),
            PlotFile::Svg => Ok(figure.svg().into_bytes()),
        }
    }
}

/// Writes a table, completely or not at all.
pub fn save_table(path: &Path, frame: &Frame, column: Option<&str>) -> Result<(), Error> {
    let bytes = TableFile::of(path)?.bytes(frame, column)?;
    files::write_atomic(path, |out| out.write_all(&bytes))
}

/// Writes a plot, completely or not at all.
pub fn save_plot(path: &Path, figure: &Figure) -> Result<(), Error> {
    let bytes = PlotFile::of(path)?.bytes(figure)?;
    files::write_atomic(path, |out| out.write_all(&bytes))
}

/// Writes a page, completely or not at all.
pub fn save_page(path: &Path, page: &Page) -> Result<(), Error> {
    page_file(path)?;
    files::write_atomic(path, |out| out.write_all(page.html().as_bytes()))
}

/// An error where a name is not that of a page.
pub fn page_file(path: &Path) -> Result<(), Error> {
    match ending(path).as_str() {
        "html" | "htm" => Ok(()),
        _ => Err(unknown(path, "a report", ".html")),
    }
}

/// An error where a name is not that of what `capture` writes.
pub fn capture_file(path: &Path) -> Result<(), Error> {
    match ending(path).as_str() {
        "safetensors" => Ok(()),
        _ => Err(unknown(path, "tensors", ".safetensors")),
    }
}

/// An error where a name is not that of a file of declared tensors.
pub fn tensor_file(path: &Path) -> Result<(), Error> {
    match ending(path).as_str() {
        "safetensors" | "npy" | "gguf" => Ok(()),
        _ => Err(unknown(path, "tensors", ".safetensors, .npy or .gguf")),
    }
}

/// Writes tensors of one shape, completely or not at all: by their names in .safetensors, one behind the other in .npy, and as a
/// control vector in .gguf, each for the output of its one of `blocks` in a model of the kind `model`.
pub fn save_tensors(path: &Path, named: &[Named<'_>], blocks: Option<&[u32]>, model: &str) -> Result<(), Error> {
    tensor_file(path)?;
    match (ending(path).as_str(), named) {
        ("gguf", _) => {
            let directions: Vec<(u32, Named)> =
                blocks.unwrap_or_default().iter().copied().zip(named.iter().copied()).collect();
            write_directions(path, &directions, model)
        }
        ("npy", [one]) => write_npy(path, one.shape, one.data),
        ("npy", many) => {
            let mut shape = vec![many.len()];
            shape.extend(many.first().map_or(&[][..], |t| t.shape));
            let mut data = memory::room(shape.iter().product(), "what is saved")?;
            many.iter().for_each(|t| data.extend_from_slice(t.data));
            write_npy(path, &shape, &data)
        }
        _ => write_safetensors(path, named, &producer()),
    }
}

/// What files of tensors say of where they come from.
pub fn producer() -> BTreeMap<String, String> {
    BTreeMap::from([("producer".to_owned(), format!("steer {}", env!("CARGO_PKG_VERSION")))])
}

fn unknown(path: &Path, what: &str, endings: &str) -> Error {
    let message = format!("`{}` does not say what file of {what} it is to be", path.display());
    Error::new(codes::FILE, message).help(format!("end its name in {endings}"))
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let error = Error::new(codes::BAD_ARGUMENTS, fault.message);
        match fault.help {
            Some(help) => error.help(help),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::parse_npy;
    use steer_figures::{FrameAxis, FrameColumn, Plot};

    fn frame() -> Frame {
        Frame {
            name: "f".into(),
            axes: vec![FrameAxis::of_numbers("layer", [0.0, 1.0]), FrameAxis::new("token", [" a", " b", " a"])],
            columns: vec![
                FrameColumn::new("ld", vec![0.5, -1.0, f64::NAN, 2.0, 1e-3, 4.0]),
                FrameColumn::new("kl", vec![0.0; 6]),
            ],
        }
    }

    #[test]
    fn each_ending_gives_its_file() {
        let folder = std::env::temp_dir().join(format!("steer-save-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
        for (name, begins) in [("a.csv", "layer,"), ("a.PARQUET", "PAR1"), ("a.json", "{\"name\"")] {
            save_table(&folder.join(name), &frame(), None).unwrap();
            assert!(read(name).starts_with(begins.as_bytes()), "{name}");
        }
        let figure = Plot::default().of(&frame()).unwrap();
        for (name, begins) in [("a.svg", b"<svg " as &[u8]), ("a.png", b"\x89PNG")] {
            save_plot(&folder.join(name), &figure).unwrap();
            assert!(read(name).starts_with(begins), "{name}");
        }
        save_page(&folder.join("a.html"), &Page::default()).unwrap();
        assert!(read("a.html").starts_with(b"<!doctype html>"));

        save_table(&folder.join("a.npy"), &frame(), Some("ld")).unwrap();
        let array = parse_npy(&read("a.npy"), Path::new("a.npy")).unwrap();
        assert_eq!(array.shape, [2, 3]);
        assert_eq!(array.data[..2], [0.5, -1.0]);
        assert!(array.data[2].is_nan());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let said = |e: Error| format!("{e} {}", e.0.help.clone().unwrap_or_default());
        let cases = [
            (save_table(Path::new("a.xlsx"), &frame(), None), ".parquet"),
            (save_table(Path::new("a.npy"), &frame(), None), "`ld`, `kl`"),
            (save_table(Path::new("a.csv"), &frame(), Some("lld")), "no metric `lld`"),
            (save_plot(Path::new("a"), &Plot::default().of(&frame()).unwrap()), ".svg or .png"),
            (save_page(Path::new("a.pdf"), &Page::default()), ".html"),
        ];
        for (result, part) in cases {
            let text = said(result.unwrap_err());
            assert!(text.contains(part), "{text}");
        }
    }
}
