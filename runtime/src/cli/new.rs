//! `steer new NAME`

use super::Failure;
use crate::error::Error;
use crate::experiment::ModelSession;
use crate::hub::Hub;
use crate::{files, report};
use clap::Args;
use std::path::{Path, PathBuf};
use steer_lang::{Diagnostics, Sources, codes};

#[derive(Args, Clone, Debug)]
pub struct NewArgs {
    /// The script to write; `.steer` is added where it is missing
    pub name: PathBuf,
    /// The model that the script names: a Hugging Face folder, a GGUF file, a shipped model's name, or an id of the hub
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
}

/// The script that is written, for the small model that it names and layers that this one has.
const STARTER: &str = include_str!("starter.steer");
const MODEL: &str = "\"MODEL\"";
const LAYERS: &str = "1..3";
const SMALL: &str = "tiny-llama";

/// Writes a script to begin with, and says what to do next.
pub fn run(args: &NewArgs) -> Result<(), Failure> {
    let path = path_of(&args.name)?;
    // A link that leads nowhere is there, too.
    if path.symlink_metadata().is_ok() {
        let message = format!("`{}` is there already", path.display());
        return Err(Error::new(codes::FILE, message).help("choose another name; nothing was written").into());
    }
    files::check_target(&path)?;
    let text = match &args.model {
        None => script(SMALL, None),
        Some(model) => {
            let mut sources = Sources::default();
            let layers = layers(model, &mut sources).map_err(|diagnostics| Failure { diagnostics, sources })?;
            script(model, Some(layers))
        }
    };
    files::write_atomic(&path, |out| out.write_all(text.as_bytes()))?;
    let name = quoted(&path);
    Ok(report::print(&format!(
        "steer check {name}    looks for mistakes, without reading weights\nsteer run {name}      runs it\n"
    ))?)
}

/// The path with its ending.
fn path_of(name: &Path) -> Result<PathBuf, Error> {
    let text = name.as_os_str();
    let named = name.file_name().is_some_and(|n| n != ".steer") && !text.to_string_lossy().ends_with(['/', '\\']);
    if !named {
        return Err(Error::new(codes::COMMAND, format!("`{}` names no file", name.display()))
            .help("name the script: `steer new first` writes first.steer"));
    }
    if name.extension().is_some_and(|e| e == "steer") {
        return Ok(name.to_path_buf());
    }
    let mut with = text.to_owned();
    with.push(".steer");
    Ok(with.into())
}

/// Two layers in the middle of a model that can be continued.
fn layers(model: &str, sources: &mut Sources) -> Result<(u32, u32), Diagnostics> {
    let session = ModelSession::open(model, &[], &Hub::from_env(), sources)?;
    super::show(&session.warnings, sources, report::errors_in_color());
    let built = session.model.build(&[], &[], &Default::default(), &Default::default()).map_err(|d| vec![*d])?;
    if built.plan.is_whole() {
        let message = format!("the script to begin with continues texts, which {} does not", session.model.arch_name);
        let e = Error::new(codes::WHOLE_TEXT, message);
        return Err(vec![*e.help("`steer doc encoders` says what can be asked of such a model").0]);
    }
    let count = built.plan.sites.iter().filter_map(|s| s.layer).max().map_or(1, |l| l + 1);
    let from = (count / 2).saturating_sub(1);
    Ok((from, (from + 2).min(count)))
}

fn script(model: &str, layers: Option<(u32, u32)>) -> String {
    let layers = layers.map_or(LAYERS.to_owned(), |(from, to)| format!("{from}..{to}"));
    let at = |layers: &str| format!("at blocks[{layers}].resid.post");
    let model = model.replace('\\', "\\\\").replace('"', "\\\"");
    let model = model.chars().map(|c| if c.is_control() { format!("\\u{{{:X}}}", c as u32) } else { c.to_string() });
    STARTER.replacen(MODEL, &format!("\"{}\"", model.collect::<String>()), 1).replacen(&at(LAYERS), &at(&layers), 1)
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | '\\' | ':');
    match text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_is_added_once() {
        for (name, path) in [("a", "a.steer"), ("a.steer", "a.steer"), ("b/a.b", "b/a.b.steer"), ("a.", "a..steer")] {
            assert_eq!(path_of(Path::new(name)).unwrap(), PathBuf::from(path));
        }
        for name in ["", "a/", "..", ".steer", "/"] {
            assert!(path_of(Path::new(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn the_model_and_its_layers_are_filled_in() {
        let text = script("a \"b\"\\c", Some((5, 7)));
        assert!(
            text.contains("\nmodel \"a \\\"b\\\"\\\\c\"\n") && text.contains("at blocks[5..7].resid.post"),
            "{text}"
        );
        assert!(!text.contains("MODEL") && steer_lang::parse(steer_lang::FileId(0), &text).1.is_empty());
        assert!(text.lines().count() < 40);
        assert_eq!(steer_lang::format(&text).as_ref(), Ok(&text));
    }

    #[test]
    fn names_are_quoted_for_a_shell() {
        assert_eq!(quoted(Path::new("a/b-c.steer")), "a/b-c.steer");
        assert_eq!(quoted(Path::new("it's.steer")), "'it'\\''s.steer'");
    }
}
