//! Keys of a model's configuration that a script sets: `model "name" { group_mask: "zero" }`.

use serde_json::Value;
use steer_compiler::elaborate::Model;
use steer_lang::ast::{Expr, ExprKind, Ident, Item, ItemKind, UnaryOp};
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, Diagnostics, FileId, codes};

/// A key with its value.
pub struct Setting {
    pub key: Ident,
    pub value: Value,
}

/// Those of a script; imported files set none.
pub fn of(items: &[Item], script: FileId) -> Result<Vec<Setting>, Diagnostics> {
    let mut out: Vec<Setting> = Vec::new();
    for item in items {
        let ItemKind::Model(_, options) = &item.kind else { continue };
        for (key, value) in options {
            if item.span.file != script {
                return Err(vec![
                    Diagnostic::error(codes::DUPLICATE_NAME, "only the script itself sets keys of the configuration")
                        .at(key.span, "in an imported file")
                        .help("move it to the `model` line of the script"),
                ]);
            }
            if let Some(before) = out.iter().find(|s| s.key.name == key.name) {
                return Err(vec![
                    Diagnostic::error(codes::DUPLICATE_NAME, format!("`{}` is given twice", key.name))
                        .at(key.span, "again here")
                        .at(before.key.span, "given here")
                        .help("leave one of them out"),
                ]);
            }
            let value = literal(value).ok_or_else(|| {
                vec![
                    Diagnostic::error(
                        codes::BAD_PARAMETER,
                        "a key of the configuration is set to a value as JSON has it",
                    )
                    .at(value.span, "no such value")
                    .help("write a number, a text, `true`, `false`, `none`, or a list of them"),
                ]
            })?;
            out.push(Setting { key: key.clone(), value });
        }
    }
    Ok(out)
}

fn literal(e: &Expr) -> Option<Value> {
    let number = |n: f64| match n.fract() == 0.0 && n.abs() < 9e15 {
        true => Value::from(n as i64),
        false => Value::from(n),
    };
    Some(match &e.kind {
        ExprKind::Number(n) => number(*n),
        ExprKind::Unary(UnaryOp::Neg, of) => match of.kind {
            ExprKind::Number(n) => number(-n),
            _ => return None,
        },
        ExprKind::Text(t) => Value::from(t.as_str()),
        ExprKind::Bool(b) => Value::from(*b),
        ExprKind::None => Value::Null,
        ExprKind::List(items) => Value::Array(items.iter().map(literal).collect::<Option<_>>()?),
        _ => return None,
    })
}

/// An error where the model file does not ask for a key: setting it would do nothing.
pub fn check(settings: &[Setting], model: &Model) -> Result<(), Diagnostics> {
    if settings.is_empty() {
        return Ok(());
    }
    let asked = model.configured().map_err(|d| vec![*d])?;
    let Some(s) = settings.iter().find(|s| !asked.contains(&s.key.name)) else { return Ok(()) };
    let near = nearest(&s.key.name, asked.iter().map(String::as_str));
    Err(vec![
        Diagnostic::error(codes::BAD_PARAMETER, format!("the model file does not read `{}`", s.key.name))
            .at(s.key.span, "setting it would do nothing")
            .help(match near {
                Some(n) => format!("did you mean `{n}`?"),
                None => format!("it reads {}", asked.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
            }),
    ])
}
