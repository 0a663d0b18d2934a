//! Finished pieces of long experiments, kept on disk: to go on after an interruption, and to spread an experiment
//! over machines.

mod header;
mod journal;
mod writer;

pub use header::{Header, SCRIPT};
pub use journal::held;

use super::results::{Finished, Results};
use super::session::one;
use super::statements::Experiment;
use crate::error::Error;
use crate::files;
use header::{differences, same};
use journal::{Held, Journal};
use std::path::{Path, PathBuf};
use steer_lang::{Diagnostic, Diagnostics, codes};
use writer::Writer;

/// A part of an experiment, of which there are `of`; the first has the number 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    pub number: usize,
    pub of: usize,
}

/// What is to be kept of a run, and where.
#[derive(Clone, Debug, Default)]
pub struct Keeping {
    pub place: Place,
    /// Goes on with what is kept.
    pub resume: bool,
    /// Computes a part only, for `merge`.
    pub shard: Option<Shard>,
}

#[derive(Clone, Debug, Default)]
pub enum Place {
    /// Nothing is kept.
    #[default]
    Nowhere,
    /// In this folder under the experiment's own name, until the run is complete.
    Folder(PathBuf),
    File(PathBuf),
}

/// Blocks of neighbouring units that each shard has: neighbours share rows, and the parts of an experiment
/// differ in what they take.
const BLOCKS: usize = 8;

impl Shard {
    /// Its units, of so many.
    pub fn units(self, all: usize) -> Vec<usize> {
        let block = all.div_ceil(self.of.max(1) * BLOCKS).max(1);
        (0..all).filter(|u| u / block % self.of.max(1) + 1 == self.number).collect()
    }
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((number, of)) if 1 <= number && number <= of => Ok(Shard { number, of }),
            _ => Err("a shard is written as 2/8: the second of eight".into()),
        }
    }
}

/// The name of the file that a shard of a script is kept in where no other is named.
pub fn shard_file(script: &Path, shard: Shard) -> PathBuf {
    let stem = script.file_stem().map_or("script".into(), |s| s.to_string_lossy().into_owned());
    PathBuf::from(format!("{stem}.{}-of-{}.kept", shard.number, shard.of))
}

/// The file of a run, and what it began with.
pub struct Kept {
    writer: Writer,
    /// Whether the file is removed when the run is complete.
    passing: bool,
    pub warnings: Diagnostics,
}

impl Kept {
    /// Opens the file of a run and takes over what is in it. Without a place there is none.
    pub fn open(
        keeping: &Keeping,
        mut header: Header,
        experiment: &Experiment,
        results: &mut Results,
    ) -> Result<Option<Self>, Diagnostics> {
        header.shard = keeping.shard.map(|s| (s.number, s.of));
        let (path, passing) = match &keeping.place {
            Place::Nowhere => return Ok(None),
            Place::File(path) => (path.clone(), false),
            Place::Folder(folder) => {
                if let Err(e) = std::fs::create_dir_all(folder) {
                    let e = files::failed("make", folder, &e);
                    return if keeping.resume { Err(one(e)) } else { Ok(None) };
                }
                (folder.join(format!("{}.kept", header.name())), true)
            }
        };
        let there = path.is_file() && !journal::is_blank(&path);
        if keeping.resume && there {
            let held = held(&path).map_err(one)?;
            let warnings = belongs(&held, &header, &path)?;
            if held.header.shard != header.shard {
                let message = format!("`{}` holds another part of the experiment", path.display());
                let part = |s: Option<(usize, usize)>| match s {
                    Some((number, of)) => format!("shard {number}/{of}"),
                    None => "the whole".to_string(),
                };
                let help = format!("it is {}, and {} is wanted here", part(held.header.shard), part(header.shard));
                return Err(one(Error::new(codes::KEPT, message).help(help)));
            }
            let journal = Journal::go_on(&path, &held).map_err(one)?;
            take(held, experiment, results, &path)?;
            return Ok(Some(Kept { writer: Writer::new(journal), passing, warnings }));
        }
        let mut warnings = Diagnostics::new();
        if keeping.resume {
            let near = if passing { path.parent().and_then(|folder| nearest(folder, &header)) } else { None };
            let help = near.unwrap_or_else(|| {
                "parameters, the seed, --backend, --cache and --activations must be those that it was begun with".into()
            });
            let message = "nothing is kept of this experiment, which begins anew";
            warnings.push(Diagnostic::warning(codes::KEPT, message).help(help));
        }
        if there && passing {
            // Nothing that was computed is thrown away because an option was forgotten.
            let aside = path.with_extension("kept.old");
            std::fs::rename(&path, &aside).map_err(|e| one(files::failed("rename", &path, &e)))?;
            let message = "an interrupted run of this experiment was kept, and is begun anew";
            let help = format!(
                "to go on with it instead, stop, rename `{}` to `{}` and add --resume",
                aside.display(),
                path.display()
            );
            warnings.push(Diagnostic::warning(codes::KEPT, message).help(help));
        } else if there {
            let message = format!("`{}` exists", path.display());
            let help = "go on with it by --resume, or remove it to begin anew";
            return Err(one(Error::new(codes::KEPT, message).help(help)));
        }
        match Journal::begin(&path, &header) {
            Ok(journal) => Ok(Some(Kept { writer: Writer::new(journal), passing, warnings })),
            // What nobody asked for must not stop a run.
            Err(_) if passing => Ok(None),
            Err(e) => Err(one(e)),
        }
    }

    pub fn path(&self) -> &Path {
        self.writer.path()
    }

    pub fn append(&mut self, piece: Finished) -> Result<(), Error> {
        self.writer.append(piece)
    }

    /// Waits until all pieces are on the disk.
    pub fn end(&mut self) -> Result<(), Error> {
        self.writer.end()
    }

    /// The file that is left of a run that failed, when it has ended; one without a piece goes away.
    pub fn left(&self) -> Option<&Path> {
        if self.writer.holds_any() {
            return Some(self.path());
        }
        if !files::is_passage(self.path()) {
            let _ = std::fs::remove_file(self.path());
        }
        None
    }

    /// The file to remove once the run is complete and its results are out.
    pub fn spent(self) -> Option<PathBuf> {
        self.passing.then(|| self.writer.leave())
    }

    /// Whether it is of use when the run is complete.
    pub fn lasts(&self) -> bool {
        !self.passing
    }
}

/// Takes over what a file holds.
fn take(held: Held, experiment: &Experiment, results: &mut Results, path: &Path) -> Result<(), Diagnostics> {
    for piece in held.pieces {
        if !results.take_kept(experiment, piece) {
            let message = format!("`{}` holds cells that this experiment does not have", path.display());
            return Err(one(Error::new(codes::KEPT, message).help("this is a bug in steer")));
        }
    }
    Ok(())
}

/// What differs of the experiment in a folder that has most in common with this one, of the same script.
fn nearest(folder: &Path, header: &Header) -> Option<String> {
    let paths = std::fs::read_dir(folder).ok()?.flatten().map(|e| e.path());
    let kept = paths.filter(|p| p.extension().is_some_and(|e| e == "kept"));
    let near = kept.filter_map(|path| {
        let (alike, what) = journal::begun(&path)?.compared(header)?;
        Some((alike, format!("`{}` is kept of this script: {what}", path.display())))
    });
    near.max().map(|(_, what)| what)
}

/// Whether a file is of this experiment; otherwise an error.
fn belongs(held: &Held, header: &Header, path: &Path) -> Result<Diagnostics, Diagnostics> {
    let refuse = |what: &str, help: &str| {
        let message = format!("`{}` was computed {what}", path.display());
        Err(one(Error::new(codes::KEPT, message).help(help)))
    };
    let theirs = &held.header;
    if !same(&theirs.experiment, &header.experiment) || theirs.units != header.units {
        let what = format!("for another experiment: {}", differences(&theirs.experiment, &header.experiment));
        return refuse(
            &what,
            "script, data, model, parameters, seed, backend, cache, activations and version must be the same",
        );
    }
    if theirs.instruction_set != header.instruction_set {
        let message = format!("`{}` was computed with {}", path.display(), theirs.instruction_set);
        let help = format!("here it is {}: the last digits of numbers may differ", header.instruction_set);
        return Ok(vec![Diagnostic::warning(codes::KEPT, message).help(help)]);
    }
    if !same(&theirs.data, &header.data) {
        let what = format!("from other values: {}", differences(&theirs.data, &header.data));
        return refuse(&what, "use the same files for all of an experiment");
    }
    Ok(Diagnostics::new())
}

/// Takes over all that the files of an experiment's shards hold. What they were computed from is compared with the
/// first of them.
pub fn join(
    files: &[PathBuf],
    mut header: Header,
    experiment: &Experiment,
    results: &mut Results,
) -> Result<Diagnostics, Diagnostics> {
    let mut warnings = Diagnostics::new();
    let mut shards: Vec<(usize, usize)> = Vec::new();
    for (i, path) in files.iter().enumerate() {
        let held = held(path).map_err(one)?;
        if i == 0 {
            header.data.clone_from(&held.header.data);
            header.instruction_set.clone_from(&held.header.instruction_set);
        }
        warnings.extend(belongs(&held, &header, path)?);
        shards.extend(held.header.shard);
        take(held, experiment, results, path)?;
    }
    let missing = experiment.units.len() - results.finished.len();
    if missing == 0 {
        return Ok(warnings);
    }
    let of = shards.iter().map(|s| s.1).max().unwrap_or(1);
    let absent = |number: usize| {
        let units = Shard { number, of }.units(experiment.units.len());
        units.iter().any(|u| !results.finished.contains(u))
    };
    let absent: Vec<usize> = (1..=of).filter(|n| absent(*n)).collect();
    let given = |n: &usize| shards.contains(&(*n, of));
    let mut help: Vec<String> = Vec::new();
    for (what, wanted) in [("is not complete: go on with --resume", true), ("is missing", false)] {
        let which: Vec<String> = absent.iter().filter(|n| given(n) == wanted).map(|n| format!("{n}/{of}")).collect();
        if !which.is_empty() {
            help.push(format!("{} {what}", which.join(", ")));
        }
    }
    let message = format!("{missing} of {} cells and texts are not there", experiment.units.len());
    Err(one(Error::new(codes::KEPT, message).help(help.join("; "))))
}

#[cfg(test)]
mod tests {
    use super::Shard;

    #[test]
    fn shards_have_every_unit_once() {
        for (all, of) in [(0, 3), (1, 4), (7, 2), (180, 8), (1000, 7)] {
            let mut units: Vec<usize> = (1..=of).flat_map(|number| Shard { number, of }.units(all)).collect();
            units.sort_unstable();
            assert_eq!(units, (0..all).collect::<Vec<_>>());
            let sizes: Vec<usize> = (1..=of).map(|number| Shard { number, of }.units(all).len()).collect();
            let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            assert!(most - least <= all.div_ceil(of * 8), "{sizes:?}");
        }
        assert!("0/3".parse::<Shard>().is_err() && "4/3".parse::<Shard>().is_err() && "x".parse::<Shard>().is_err());
    }
}
