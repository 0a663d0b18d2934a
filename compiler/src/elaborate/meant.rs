//! Names that are something else than what is looked for.

use super::check::name_of;
use super::order::word;
use steer_lang::ast::{Item, ItemKind};
use steer_lang::{Diagnostic, Sources, codes, keywords};

/// What an error says of a place where nothing of the kind is known that is looked for.
const LABELS: &[&str] = &["not declared", "no sweep above has this name"];

/// An error about a name that the script, or the language, has for something else says what that is, and how it is used.
pub(super) fn elsewhere(d: &mut Diagnostic, items: &[Item], sources: &Sources) {
    let Some(label) = d.labels.first().filter(|l| d.code == codes::UNKNOWN_NAME && LABELS.contains(&l.text.as_str()))
    else {
        return;
    };
    let name = sources.text(label.span).trim().to_owned();
    // Where it is known what was meant, that is said.
    if name.is_empty()
        || d.help.as_deref().is_some_and(|h| h.starts_with(&format!("`{name}` is")) || h.contains("`let "))
    {
        return;
    }
    // A table is named above its declaration.
    let early = |item: &Item| matches!(item.kind, ItemKind::Sweep(_) | ItemKind::Top(_)) && label.text != LABELS[0];
    let known = items.iter().filter(|item| !early(item)).find_map(|item| {
        let name = name_of(item).filter(|n| n.name == name)?;
        Some((format!("a {}", word(item)), use_of(item, &name.name)?))
    });
    let (what, help) = match known {
        Some(found) => found,
        None if keywords::is_keyword(&name) => {
            ("a word of the language".to_owned(), format!("`steer doc {name}` says what it is for"))
        }
        None => return,
    };
    d.message = format!("`{name}` is {what}, and cannot stand here");
    d.labels.iter_mut().take(1).for_each(|l| l.text.clone_from(&what));
    d.help = Some(help);
}

/// How what an item declares is used.
fn use_of(item: &Item, name: &str) -> Option<String> {
    Some(match &item.kind {
        ItemKind::Metric(_) => format!("`measure {name} on ...` takes it; other metrics can read it"),
        ItemKind::Sweep(_) | ItemKind::Top(_) => {
            format!("`plot {name}` and `save {name} to \"{name}.csv\"` show it")
        }
        ItemKind::Hook(_) | ItemKind::Patch(_) | ItemKind::Route(_) => {
            format!("it stands behind `with`: `measure ... on ... with {name}`")
        }
        ItemKind::Run(_) | ItemKind::Prompt(_) | ItemKind::Data(_) => {
            format!("it is run: `measure ... on {name}`, `generate {name}`")
        }
        ItemKind::Tensor(_) => format!("hooks and metrics compute with it, and `print {name}` shows it"),
        _ => return None,
    })
}
