//! Habits from other languages and slips of the pen, and what to do about them.

use super::Rule;
use super::scene::Scene;
use super::words::{self, DECLARATIONS, RESERVED, STATEMENTS};
use crate::diagnostic::nearest;
use crate::lex::TokenKind;

/// Habits from other languages, with a message of their own.
pub(super) fn slip(scene: &Scene) -> Option<(String, String)> {
    let say = |message: &str, help: &str| Some((message.to_owned(), help.to_owned()));
    match (scene.before(), scene.found(), scene.after()) {
        (_, "/", "/") | ("/", "/", _) => say("`//` does not begin a comment", "a comment begins with `#`"),
        (_, "'", _) => say("texts do not take single quotes", "write it with double quotes: `\"...\"`"),
        (_, ";", _) => say("statements do not end with `;`", "end the line instead"),
        (_, "=", _) if scene.expects(Rule::colon) => say("an option is set with `:`, not `=`", "write `{ max: 60 }`"),
        ("[" | ",", ":", "," | "]") => say("an index has no `:`", "name the axis: `h[head = 2]`; the others are whole"),
        (_, text, _) if text.starts_with('"') && scene.expects_positions() => {
            say("a text is no position", &format!("write `matching {text}`"))
        }
        (_, "-", n) if scene.expects_positions() => {
            say("a number is no position", &format!("write `prompt[-{n}]`, or `[-{n}]` to count in the whole sequence"))
        }
        (_, ":", _) if scene.expects(Rule::range) => {
            say("a range is not written with `:`", "write `1..3` for 1 and 2, `1..=3` for 1, 2 and 3")
        }
        (_, ":", _) if scene.expects(Rule::eq) || scene.expects(Rule::assign_op) => {
            say("`:` does not set a value here", "write `=`")
        }
        (axis, "=", _) if scene.expects(Rule::rbracket) => say(
            "a site is named as a whole",
            &format!(
                "take a part of it in the body of a hook: `h[{axis} = 0] = 0`, `h[{axis} = 0] = donor[{axis} = 0]`"
            ),
        ),
        (_, "=", _) if scene.expects(Rule::block) || scene.expects(Rule::lbrace) || scene.expects(Rule::rparen) => {
            say("`=` sets a value; it does not compare", "to compare, write `==`")
        }
        (_, "and", _) => say("there is no operator `and`", "write `&&` between conditions, `&` between positions"),
        (_, "or", _) => say("there is no operator `or`", "write `||` between conditions, `|` between positions"),
        ("not", _, _) | (_, "not", _) => say("there is no operator `not`", "negation is written `!`"),
        _ if scene.line_has(&["elif", "elsif"]) => {
            say("there is no `elif`", "write `else if`, or `else when` where it is decided per row")
        }
        ("|", "|", _) if scene.expects(Rule::pos_not) || scene.expects(Rule::pos_and) => {
            say("positions are joined with a single `|`", "write `prompt[-1] | generated`")
        }
        ("&", "&", _) => say("positions are joined with a single `&`", "write `prompt & !bos`"),
        (_, ",", _) if scene.expects(Rule::amp) => {
            say("positions are not joined with `,`", "write `|` for either, `&` for both")
        }
        ("=", ">", _) | (_, "=>", _) | ("-", ">", _) => say("there are no arrows", "write `=` to set a value"),
        (".", ".", "=") if scene.expects(Rule::field_name) => {
            say("bounds include both ends", "write `..` between them")
        }
        (".", number, _) if number.starts_with(|c: char| c.is_ascii_digit()) && scene.dotted().contains("hook_") => {
            say(
                "a name of another program is written as a text",
                &format!("write `site(\"{}\")`; `steer check` says which site that is here", scene.dotted()),
            )
        }
        (".", number, _) if number.starts_with(|c: char| c.is_ascii_digit()) => {
            say("a number cannot follow `.`", "an index stands in brackets: `blocks[2]`")
        }
        (_, "?", _) => say("there is no operator `?`", "a choice is written `if cond { a } else { b }`"),
        (_, "then", _) => say("there is no `then`", "the body stands in braces: `{ ... }`"),
        _ if scene.line_has(&["for", "while", "loop"]) => say(
            "a body has no loops",
            "a hook is applied at every row and layer it names; in a model file, `blocks` repeats",
        ),
        ("*", "*", _) => say("there is no operator `**`", "a power is written `^`"),
        _ => None,
    }
}

/// What to do, where the message is an ordinary one.
pub(super) fn advice(scene: &Scene) -> Option<String> {
    let found = scene.found();
    if scene.is_word() {
        if RESERVED.contains(&found) && scene.expects(Rule::name) {
            return Some(format!("`{found}` is a word of the language and cannot be a name"));
        }
        if scene.expects(Rule::string) && !scene.expects(Rule::number) {
            return Some(format!("write it in double quotes: `\"{}\"`", scene.touching()));
        }
        if found == "on" && scene.expects(Rule::kw_at) {
            return Some("`at` and its sites come first, then `on`".to_owned());
        }
        let mut expected: Vec<&str> = scene.expected.iter().filter_map(|r| words::keyword(*r)).collect();
        if scene.expects(Rule::param_type) {
            expected.extend(["number", "int", "bool", "text"]);
        }
        if scene.expects_positions() {
            expected.extend(["all", "prompt", "generated", "seq", "bos", "after", "matching", "role", "mask", "maybe"]);
        }
        if let Some(near) =
            nearest(found, expected).filter(|n| *n != found && found.len() > 1 && !words::is_known(found))
        {
            return Some(format!("did you mean `{near}`?"));
        }
        if DECLARATIONS.contains(&found) {
            return Some("begin a declaration on a line of its own".to_owned());
        }
    }
    let number = scene.tokens.get(scene.at).is_some_and(|t| t.kind == TokenKind::Number);
    if number && found.contains(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return Some("a name does not begin with a digit".to_owned());
    }
    let first = scene.line_word();
    let is_first = scene.tokens.get(scene.at).is_some_and(|t| t.first);
    if !is_first
        && first.len() > 2
        && !words::is_known(first)
        && let Some(near) = nearest(first, STATEMENTS.iter().copied())
    {
        return Some(format!("did you mean `{near}` instead of `{first}`?"));
    }
    if found == "." && scene.after() != "." {
        return Some("no space stands before or after the `.` of a name".to_owned());
    }
    if matches!(found, "(" | "[") && scene.expects(Rule::infix) {
        return Some(format!("`{found}` of a call or an index directly follows the name, without a space"));
    }
    None
}
