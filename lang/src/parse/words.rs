//! The words of the language, and what the rules of the grammar are called when talking to people.

use super::Rule;

/// Words that begin an item.
pub const DECLARATIONS: &[&str] = &[
    "model", "import", "param", "data", "prompt", "vector", "tensor", "sae", "fn", "hook", "patch", "route", "run",
    "metric", "measure", "capture", "generate", "print", "sweep", "top", "plot", "save", "report", "arch",
];

/// Words that begin a statement of a body.
pub const STATEMENTS: &[&str] = &["let", "when", "if", "site", "write", "axis", "blocks", "require"];

/// Words that cannot name a value.
pub const RESERVED: &[&str] = &[
    "let", "when", "if", "else", "site", "write", "axis", "blocks", "require", "true", "false", "none", "at", "on",
    "with", "in",
];

/// Words that join the parts of an item.
pub const JOINING: &[&str] =
    &["at", "on", "over", "with", "from", "of", "to", "in", "under", "by", "as", "normalized", "else"];

/// Words that select rows and want more behind them.
pub const SELECTING: &[&str] = &["maybe", "after", "matching"];

/// A line that begins with one of these goes on with the item above it.
pub(crate) fn continues(word: &str) -> bool {
    JOINING.contains(&word)
}

/// Nothing ends after one of these.
pub fn wants_more(word: &str) -> bool {
    continues(word)
        || SELECTING.contains(&word)
        || matches!(word, "let" | "when" | "if" | "axis" | "require")
        || DECLARATIONS.contains(&word) && !matches!(word, "prompt" | "data" | "run" | "model" | "sae")
}

/// The word that a keyword rule stands for.
pub(crate) fn keyword(rule: Rule) -> Option<&'static str> {
    Some(match rule {
        Rule::kw_model => "model",
        Rule::kw_import => "import",
        Rule::kw_param => "param",
        Rule::kw_data => "data",
        Rule::kw_prompt => "prompt",
        Rule::kw_vector => "vector",
        Rule::kw_tensor => "tensor",
        Rule::kw_sae => "sae",
        Rule::kw_fn => "fn",
        Rule::kw_hook => "hook",
        Rule::kw_patch => "patch",
        Rule::kw_route => "route",
        Rule::kw_run => "run",
        Rule::kw_metric => "metric",
        Rule::kw_measure => "measure",
        Rule::kw_capture => "capture",
        Rule::kw_generate => "generate",
        Rule::kw_print => "print",
        Rule::kw_arch => "arch",
        Rule::kw_sweep => "sweep",
        Rule::kw_top => "top",
        Rule::kw_plot => "plot",
        Rule::kw_save => "save",
        Rule::kw_report => "report",
        Rule::kw_at | Rule::at_rows => "at",
        Rule::kw_on | Rule::on_rows => "on",
        Rule::kw_over => "over",
        Rule::kw_with | Rule::with_list => "with",
        Rule::kw_from | Rule::donor => "from",
        Rule::kw_by => "by",
        Rule::kw_as => "as",
        Rule::kw_normalized | Rule::normalized => "normalized",
        Rule::kw_of => "of",
        Rule::kw_to => "to",
        Rule::kw_in => "in",
        Rule::kw_under => "under",
        Rule::kw_let => "let",
        Rule::kw_when => "when",
        Rule::kw_if => "if",
        Rule::kw_else | Rule::else_branch | Rule::last_else | Rule::route_else | Rule::route_last => "else",
        Rule::kw_site => "site",
        Rule::kw_write => "write",
        Rule::kw_axis => "axis",
        Rule::kw_blocks => "blocks",
        Rule::kw_require => "require",
        _ => return None,
    })
}

/// What a rule is called in "expected ...", and how early it is named: what a reader most likely
/// meant comes first. `None`: not worth naming.
pub(crate) fn friendly(rule: Rule) -> Option<(u8, String)> {
    if let Some(word) = keyword(rule) {
        return Some((1, format!("`{word}`")));
    }
    let (order, name) = match rule {
        Rule::name => (0, "a name"),
        Rule::field_name => (0, "a name"),
        Rule::string => (0, "a text such as `\"Mary\"`"),
        Rule::number => (0, "a number"),
        Rule::expr | Rule::range_or_expr | Rule::exprs | Rule::run_expr | Rule::arg | Rule::paren => (0, "a value"),
        Rule::axis_size => (0, "a size such as `512`"),
        Rule::list => (0, "a list such as `[d_model]`"),
        Rule::site | Rule::sites | Rule::site_head => (0, "a site such as `blocks[3].resid.post`"),
        Rule::site_name => (0, "a site name such as `attn.q`"),
        Rule::positions | Rule::selection | Rule::pos_and | Rule::pos_not => (0, "a position such as `prompt[-1]`"),
        Rule::edit_use => (0, "the name of a hook, patch or route"),
        Rule::stmt | Rule::route_stmt => (3, "a statement"),
        Rule::experts_verb | Rule::experts_stmt => (1, "`mask`, `drop`, `mute`, `force` or `bias`"),
        Rule::experts => (0, "experts such as `3, 5`"),
        Rule::param => (0, "a parameter such as `alpha = 6.0`"),
        Rule::param_type => (0, "a type: `number`, `int`, `bool` or `text`"),
        Rule::index_arg | Rule::open_range | Rule::star => (0, "an index such as `3`, `2..4` or `*`"),
        Rule::axis_part => (0, "an axis"),
        Rule::option => (0, "an option such as `max: 60`"),
        Rule::sweep_axis => (0, "an axis such as `b in blocks`"),
        Rule::sweep_over => (1, "`over`"),
        Rule::alignment => (0, "`index`, `end`, `token` or a list of positions"),
        Rule::eq => (1, "`=`"),
        Rule::assign_op => (1, "`=`"),
        Rule::colon => (1, "`:`"),
        Rule::comma => (2, "`,`"),
        Rule::lparen | Rule::params => (2, "`(`"),
        Rule::rparen => (2, "`)`"),
        Rule::lbracket => (2, "`[`"),
        Rule::rbracket => (2, "`]`"),
        Rule::lbrace | Rule::block | Rule::route_body => (2, "`{`"),
        Rule::rbrace => (2, "`}`"),
        Rule::range | Rule::to_bound => (2, "`..`"),
        Rule::bar => (3, "`|`"),
        Rule::amp => (3, "`&`"),
        Rule::infix => (4, "an operator"),
        Rule::EOI => (5, "the end of the declaration"),
        _ => return None,
    };
    Some((order, name.to_owned()))
}

/// Punctuation and keywords, which a builder skips.
pub(crate) fn is_mark(rule: Rule) -> bool {
    keyword(rule).is_some_and(|_| {
        !matches!(
            rule,
            Rule::at_rows
                | Rule::on_rows
                | Rule::with_list
                | Rule::else_branch
                | Rule::last_else
                | Rule::route_else
                | Rule::route_last
                | Rule::donor
                | Rule::normalized
        )
    }) || matches!(
        rule,
        Rule::comma
            | Rule::colon
            | Rule::eq
            | Rule::lparen
            | Rule::rparen
            | Rule::call_open
            | Rule::index_open
            | Rule::lbracket
            | Rule::rbracket
            | Rule::lbrace
            | Rule::rbrace
            | Rule::bar
            | Rule::amp
            | Rule::to_bound
            | Rule::kw_after
            | Rule::kw_matching
            | Rule::kw_role
            | Rule::kw_mask
            | Rule::EOI
    )
}

/// A rule with which a value begins.
pub(crate) fn begins_value(rule: Rule) -> bool {
    matches!(
        rule,
        Rule::name
            | Rule::number
            | Rule::string
            | Rule::constant
            | Rule::prefix
            | Rule::paren
            | Rule::list
            | Rule::axes
            | Rule::if_expr
            | Rule::lambda
            | Rule::kw_if
            | Rule::bar
            | Rule::lparen
            | Rule::lbracket
    )
}

/// A word of the language.
pub(crate) fn is_known(word: &str) -> bool {
    DECLARATIONS.contains(&word) || STATEMENTS.contains(&word) || RESERVED.contains(&word) || continues(word)
}
