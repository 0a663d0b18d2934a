//! `steer build FILE`

use super::{Failure, ModelArgs, Setting};
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Clone, Debug)]
pub struct BuildArgs {
    /// The script
    pub file: PathBuf,
    #[command(flatten)]
    pub model: ModelArgs,
    /// A parameter of the script; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<Setting>,
    /// The folder that the object file, the header and the library are written to
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// The instruction set to build for: avx2 or avx512 on x86-64, neon on aarch64 (default: the best that this processor has)
    #[arg(long, value_name = "ISA")]
    pub isa: Option<String>,
}

#[cfg(not(feature = "llvm"))]
pub fn run(_: &BuildArgs) -> Result<(), Failure> {
    Err(super::options::without_llvm("build the hooks of a script").into())
}

#[cfg(feature = "llvm")]
pub use with_llvm::run;

#[cfg(feature = "llvm")]
mod with_llvm {
    use super::{BuildArgs, Failure};
    use crate::error::Error;
    use crate::experiment::{PhaseOptions, Session, SessionOptions, library};
    use crate::progress::{Bar, Unit};
    use crate::{files, report};
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use steer_kernels::Isa;
    use steer_lang::{Diagnostics, Sources, codes};

    /// Builds the hooks of a script for other programs.
    pub fn run(args: &BuildArgs) -> Result<(), Failure> {
        crate::cli::start_threads(None)?;
        let mut sources = Sources::default();
        match build(args, &mut sources) {
            Ok(()) => Ok(()),
            Err(diagnostics) => Err(Failure { diagnostics, sources }),
        }
    }

    fn build(args: &BuildArgs, sources: &mut Sources) -> Result<(), Diagnostics> {
        let one = |e: Error| vec![*e.0];
        let isa = isa(args.isa.as_deref()).map_err(one)?;
        let name = identifier(&args.file);
        std::fs::create_dir_all(&args.output).map_err(|e| one(files::failed("make the folder", &args.output, &e)))?;
        let [object, header, shared] =
            [format!("{name}.o"), format!("{name}.h"), format!("lib{name}.so")].map(|f| args.output.join(f));
        for path in [&object, &header, &shared] {
            files::check_target(path).map_err(one)?;
        }
        let bar = Bar::new("checking", Unit::Unknown);
        let options = SessionOptions { weights: true, ..crate::cli::session_options(&args.model, &args.set) };
        let session = Session::open(&args.file, &options, sources)?;
        drop(bar);
        crate::cli::show(&session.warnings, sources, report::errors_in_color());
        let built = library(&session, &PhaseOptions::default(), isa, &name)?;
        files::write_atomic(&object, |w| w.write_all(&built.object)).map_err(one)?;
        files::write_atomic(&header, |w| w.write_all(built.header.as_bytes())).map_err(one)?;
        for (function, about) in &built.functions {
            report::print(&format!("{function}: {about}\n")).map_err(one)?;
        }
        link(&object, &shared).map_err(one)?;
        report::print(&format!("{}, {}, {}\n", header.display(), object.display(), shared.display())).map_err(one)
    }

    fn isa(name: Option<&str>) -> Result<Isa, Error> {
        let isa = name.map_or_else(|| Some(Isa::detect()), Isa::from_name);
        isa.filter(|isa| isa.is_buildable()).ok_or_else(|| {
            let name = name.unwrap_or(Isa::detect().name());
            let known: Vec<&str> = Isa::buildable().map(Isa::name).collect();
            Error::new(codes::COMMAND, format!("`{name}` is no instruction set to build for")).help(match &known[..] {
                [] => "there are some on x86-64 and on aarch64".into(),
                _ => format!("on this architecture there are: {}", known.join(", ")),
            })
        })
    }

    /// The name of the script's file as an identifier of C.
    fn identifier(file: &Path) -> String {
        let stem = file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let plain: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        if plain.starts_with(|c: char| c.is_ascii_alphabetic()) { plain } else { format!("hooks_{plain}") }
    }

    /// Links a shared library by the system's C compiler; it is there completely or not at all.
    fn link(object: &Path, shared: &Path) -> Result<(), Error> {
        let part: PathBuf = shared.with_file_name(format!(".steer-{}-link.part", std::process::id()));
        let result = Command::new("cc").arg("-shared").arg("-o").arg(&part).arg(object).output();
        let linked = match result {
            Ok(out) if out.status.success() => std::fs::read(&part).map_err(|e| files::failed("read", &part, &e)),
            Ok(out) => {
                Err(String::from_utf8_lossy(&out.stderr).trim().to_string()).map_err(|why| failed(object, shared, &why))
            }
            Err(e) => Err(failed(object, shared, &format!("`cc` cannot be started: {e}"))),
        };
        let _ = std::fs::remove_file(&part);
        let bytes = linked?;
        files::write_atomic(shared, |w| w.write_all(&bytes))
    }

    fn failed(object: &Path, shared: &Path, why: &str) -> Error {
        Error::new(codes::BACKEND, format!("cannot link `{}`: {why}", shared.display())).help(format!(
            "the header and the object file are written: install a C compiler, or link `{}` into your program",
            object.display()
        ))
    }
}
