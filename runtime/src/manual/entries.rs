//! What the manual takes from the program itself: the language's own functions, subcommands, and the pages of codes.

use super::markdown::{Block, Inline, Row, Table, line, parse};
use super::reference::{anchor, first_sentence};
use super::{Entry, Kind};
use clap::{Arg, Command};
use steer_compiler::elaborate::FUNCTIONS;
use steer_lang::codes;

/// The language's own functions.
pub(super) fn functions() -> Vec<Entry> {
    let one = |f: &steer_compiler::elaborate::Function| Entry {
        kind: Kind::Builtin,
        name: f.name.into(),
        also: Vec::new(),
        place: f.group.title().into(),
        summary: first_sentence(f.about),
        blocks: vec![Block::script(f.forms.join("\n")), Block::paragraph(line(f.about))],
        id: anchor("fn", f.name),
    };
    FUNCTIONS.iter().map(one).collect()
}

/// The pages of diagnostics; their first line is their name.
pub(super) fn codes() -> Vec<Entry> {
    let one = |(code, page): &(codes::Code, &str)| {
        let (title, text) = page.split_once('\n').unwrap_or((page, ""));
        let title = title.trim_start_matches("# ").split_once(": ").map_or("", |(_, t)| t);
        let title = title.replace('`', "");
        let mut blocks = vec![Block::paragraph(vec![Inline { text: title.clone(), style: strong(), link: None }])];
        blocks.extend(parse(text));
        Entry {
            kind: Kind::Code,
            name: code.0.into(),
            also: Vec::new(),
            place: "Diagnostics".into(),
            summary: title,
            blocks,
            id: anchor("code", code.0),
        }
    };
    codes::PAGES.iter().map(one).collect()
}

fn strong() -> super::markdown::Style {
    super::markdown::Style { strong: true, ..Default::default() }
}

/// The subcommands, as `--help` has them.
pub(super) fn commands() -> Vec<Entry> {
    let mut all = crate::cli::command();
    all.build();
    let commands = all.get_subcommands().filter(|c| c.get_name() != "help");
    commands.map(|c| command(c.clone())).collect()
}

fn command(mut c: Command) -> Entry {
    let name = c.get_name().to_owned();
    let usage = c.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let about = c.get_about().map(ToString::to_string).unwrap_or_default();
    let mut rows: Vec<Row> = c.get_positionals().map(|a| row(a, false)).collect();
    rows.extend(
        c.get_arguments()
            .filter(|a| !a.is_positional() && !a.is_hide_set() && a.get_id() != "help")
            .map(|a| row(a, true)),
    );
    let head = vec![Vec::new(), Vec::new()];
    Entry {
        kind: Kind::Command,
        also: vec![format!("steer {name}")],
        place: "The command line".into(),
        summary: about.clone(),
        blocks: vec![
            Block::Code { tag: String::new(), text: usage },
            Block::paragraph(line(&format!("{about}."))),
            Block::Table(Table { number: usize::MAX, head, rows }),
        ],
        id: anchor("command", &name),
        name,
    }
}

/// An argument with what it is.
fn row(arg: &Arg, option: bool) -> Row {
    let values = arg.get_value_names().unwrap_or_default();
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    let takes = option && arg.get_action().takes_values();
    let name = match (arg.get_short(), arg.get_long()) {
        (Some(s), Some(l)) => format!("-{s}, --{l}"),
        (None, Some(l)) => format!("--{l}"),
        (Some(s), None) => format!("-{s}"),
        (None, None) => values.join(" "),
    };
    let name = if takes && !values.is_empty() { format!("{name} {}", values.join(" ")) } else { name };
    let mut what = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let possible: Vec<String> = arg.get_possible_values().iter().map(|p| p.get_name().to_owned()).collect();
    if takes && !possible.is_empty() {
        what.push_str(&format!(": {}", possible.join(", ")));
    }
    Row { cells: vec![vec![Inline::code(name)], line(&what)], id: None }
}
