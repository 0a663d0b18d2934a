//! Data sets: lists of examples, each a record of fields, of which `prompt` is the text that is run.

use super::chat::{Chat, Prompt, as_prompt};
use super::check::Checker;
use super::scope::{Res, fail};
use super::slotted::{field, fill};
use super::value::{Value, from_json};
use serde_json::{Map, Value as Json};
use std::rc::Rc;
use steer_lang::ast::{Arg, Binding, Expr, ExprKind};
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, Span, codes};

/// The fields of one example.
pub type Record = Rc<Map<String, Json>>;

/// The field that is run where none is named.
pub const PROMPT: &str = "prompt";

/// The field that is run where there is no `prompt`: the messages of a conversation.
pub const MESSAGES: &str = "messages";

/// A record as a value of the language.
pub fn record_value(record: &Record) -> Value {
    Value::Object(Rc::clone(record), "the example".into())
}

impl Checker<'_> {
    pub(super) fn data(&mut self, b: &Binding) -> Res<()> {
        let name = b.name.name.clone();
        if let ExprKind::Call(f, args) = &b.value.kind
            && let ExprKind::Name(function) = &f.kind
            && matches!(function.as_str(), "lines" | "jsonl" | "csv" | "parquet" | "template" | "chat")
            && self.model.library.function(function, f.span).is_none()
        {
            let records = match function.as_str() {
                "template" => self.template(args, b.value.span)?,
                "chat" => self.chats(args, b.value.span)?,
                _ => self.read_data(function, args, b.value.span)?,
            };
            return self.add_data(name, records, b.value.span);
        }
        let value = self.value(&b.value)?;
        let Value::List(items) = value else {
            return Err(Box::new(
                Diagnostic::error(codes::WRONG_KIND, "a data set is a list of texts")
                    .at(b.value.span, format!("this is {}", value.kind()))
                    .help("write `[\"...\", \"...\"]`, `lines(\"file.txt\")`, `jsonl(\"file.jsonl\")`, `csv(\"file.csv\")` or `parquet(\"file.parquet\")`"),
            ));
        };
        if !items.is_empty() && items.iter().all(|i| matches!(i, Value::Number(_) | Value::Bool(_))) {
            let number = |i: &Value| match i {
                Value::Bool(b) => f64::from(u8::from(*b)),
                i => i.as_number().unwrap_or(0.0),
            };
            self.lists.insert(name.clone(), items.iter().map(number).collect());
            self.globals.insert(name, Value::List(items));
            return Ok(());
        }
        let mut records = Vec::new();
        for i in items.iter() {
            let Some(prompt) = as_prompt(i, b.value.span)? else {
                return fail(
                    codes::WRONG_KIND,
                    format!("a data set is a list of texts, not of {}", i.kind()),
                    b.value.span,
                    "in this list",
                );
            };
            if let Prompt::Chat(_) = &prompt {
                self.written(&prompt, b.value.span)?;
            }
            records.push(only_prompt(prompt.to_json()));
        }
        self.add_data(name, records, b.value.span)
    }

    fn read_data(&mut self, function: &str, args: &[Arg], span: Span) -> Res<Vec<Record>> {
        let [arg] = args else {
            return fail(codes::BAD_ARGUMENTS, format!("`{function}` takes the path of a file"), span, "here");
        };
        let Value::Text(path) = self.value(&arg.value)? else {
            return fail(
                codes::WRONG_KIND,
                format!("`{function}` takes the path of a file"),
                arg.value.span,
                "this is none",
            );
        };
        if function == "parquet" {
            let rows = self.host.rows(&path, span.file).map_err(|d| Box::new(d.at(arg.value.span, "named here")))?;
            return Ok(rows.into_iter().map(Rc::new).collect());
        }
        let text = self.host.text(&path, span.file).map_err(|e| {
            Box::new(
                Diagnostic::error(codes::FILE, e)
                    .at(arg.value.span, "named here")
                    .help("paths are relative to the file that names them"),
            )
        })?;
        let bad = |line: usize, what: String, help: &str| {
            Box::new(
                Diagnostic::error(codes::FILE, format!("{path}, line {line}: {what}"))
                    .at(arg.value.span, "read here")
                    .help(help.to_owned()),
            )
        };
        match function {
            "lines" => Ok(text.lines().filter(|l| !l.trim().is_empty()).map(|l| only_prompt(l.into())).collect()),
            "jsonl" => {
                let lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty());
                let one = |(i, line): (usize, &str)| match serde_json::from_str::<Json>(line) {
                    Ok(Json::Object(map)) => Ok(Rc::new(map)),
                    Ok(_) => Err(bad(
                        i + 1,
                        "this is no object".into(),
                        "each line is an object, as `{\"prompt\": \"...\"}`",
                    )),
                    Err(e) => Err(bad(i + 1, format!("this is no JSON: {e}"), "each line is an object of its own")),
                };
                lines.map(one).collect()
            }
            _ => {
                let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
                let names =
                    reader.headers().cloned().map_err(|e| bad(1, e.to_string(), "the first line names the fields"))?;
                let mut records = Vec::new();
                for row in reader.records() {
                    let row = row.map_err(|e| {
                        let line = e.position().map_or(0, |p| p.line() as usize);
                        bad(line, e.to_string(), "every line has as many fields as the first one has names")
                    })?;
                    let fields = names.iter().zip(row.iter()).map(|(n, v)| (n.to_owned(), Json::from(v)));
                    records.push(Rc::new(fields.collect::<Map<_, _>>()));
                }
                Ok(records)
            }
        }
    }

    /// `template("When {a} and {b}", pairs)`: a field of each example from its other fields; a named text
    /// makes a field of that name.
    fn template(&mut self, args: &[Arg], span: Span) -> Res<Vec<Record>> {
        let mut texts: Vec<(&str, &str, Span)> = Vec::new();
        let mut of: Option<Vec<Record>> = None;
        for a in args {
            match (&a.value.kind, &a.name) {
                (ExprKind::Text(t), name) => {
                    texts.push((name.as_ref().map_or(PROMPT, |n| n.name.as_str()), t, a.value.span));
                }
                (_, None) if of.is_none() => of = Some(self.examples(&a.value)?),
                _ => {
                    return fail(
                        codes::BAD_ARGUMENTS,
                        "a text with slots or a data set is wanted",
                        a.value.span,
                        "this",
                    );
                }
            }
        }
        let Some(of) = of.filter(|_| !texts.is_empty()) else {
            return Err(Box::new(
                Diagnostic::error(
                    codes::BAD_ARGUMENTS,
                    "`template` takes a text with slots, and the data set that fills them",
                )
                .at(span, "here")
                .help("write `template(\"When {a} and {b} went\", pairs)`"),
            ));
        };
        let mut out = Vec::with_capacity(of.len());
        for (i, record) in of.into_iter().enumerate() {
            let mut map = (*record).clone();
            for (field, text, at) in &texts {
                let filled = filled(text, &record).map_err(|slot| {
                    Box::new(
                        Diagnostic::error(codes::UNKNOWN_NAME, format!("example {i} has no field `{slot}`"))
                            .at(*at, "a slot of this text")
                            .help(fields_help(&slot, &record)),
                    )
                })?;
                map.insert((*field).to_owned(), filled.into());
            }
            out.push(Rc::new(map));
        }
        Ok(out)
    }

    /// The examples of a data set that an expression names.
    pub(super) fn examples(&mut self, e: &Expr) -> Res<Vec<Record>> {
        if let ExprKind::Name(n) = &e.kind
            && let Some(records) = self.data.get(n)
        {
            return Ok(records.clone());
        }
        match self.value(e)? {
            Value::Data(name) if self.data.contains_key(&*name) => Ok(self.data[&*name].clone()),
            other => fail(codes::WRONG_KIND, format!("a data set is wanted, not {}", other.kind()), e.span, "this"),
        }
    }

    fn add_data(&mut self, name: String, records: Vec<Record>, span: Span) -> Res<()> {
        if records.is_empty() {
            return fail(codes::EMPTY_SELECTION, format!("the data set `{name}` is empty"), span, "no texts");
        }
        self.globals.insert(name.clone(), super::derive::data_value(&name));
        self.data.insert(name, records);
        Ok(())
    }

    /// The examples of a set, each with what is run where it is named, if there is something.
    pub(super) fn prompts_if_any(&self, set: &str, span: Span) -> Vec<(Option<Prompt>, Record)> {
        let records = self.data.get(set).map(Vec::as_slice).unwrap_or_default();
        records.iter().map(|r| (field_prompt(r, PROMPT, span).ok(), Rc::clone(r))).collect()
    }

    /// A field of each example of `name` or `name.field`, as what is run.
    pub(super) fn data_prompts(&self, name: &str, span: Span) -> Res<Vec<(Prompt, Record)>> {
        let (set, field) = name.split_once('.').unwrap_or((name, PROMPT));
        let records = self.data.get(set).map(Vec::as_slice).unwrap_or_default();
        let numbered = |i: usize| {
            move |mut d: Box<Diagnostic>| {
                d.message = d.message.replacen("an example", &format!("example {i} of `{set}`"), 1);
                d
            }
        };
        let one = |(i, r): (usize, &Record)| Ok((field_prompt(r, field, span).map_err(numbered(i))?, Rc::clone(r)));
        records.iter().enumerate().map(one).collect()
    }
}

/// A field of an example, as a text or conversation that can be run.
pub fn field_prompt(record: &Record, field: &str, span: Span) -> Res<Prompt> {
    let field =
        if field == PROMPT && !record.contains_key(PROMPT) && record.contains_key(MESSAGES) { MESSAGES } else { field };
    let Some(value) = record.get(field) else {
        return Err(Box::new(
            Diagnostic::error(codes::UNKNOWN_NAME, format!("an example has no field `{field}`"))
                .at(span, "asked for here")
                .help(fields_help(field, record)),
        ));
    };
    match Prompt::of_json(value, span)? {
        Some(Prompt::Chat(chat)) if field == MESSAGES => match record.get("open").and_then(Json::as_bool) {
            // Beside its messages an example may say whether it is the assistant's turn.
            Some(open) => Ok(Prompt::Chat(Rc::new(Chat { open, ..(*chat).clone() }))),
            None => Ok(Prompt::Chat(chat)),
        },
        Some(prompt) => Ok(prompt),
        None => {
            let kind = from_json(value, field).kind();
            fail(codes::WRONG_KIND, format!("the field `{field}` of an example is {kind}"), span, "a text is wanted")
        }
    }
}

fn fields_help(wanted: &str, record: &Record) -> String {
    match nearest(wanted, record.keys().map(String::as_str)) {
        Some(n) => format!("did you mean `{n}`?"),
        None => format!("it has {}", record.keys().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")),
    }
}

fn only_prompt(prompt: Json) -> Record {
    Rc::new(Map::from_iter([(PROMPT.to_owned(), prompt)]))
}

/// The text with the record's fields in its slots; the error is the name of a field that it lacks.
fn filled(text: &str, record: &Record) -> Result<String, String> {
    let mut lacks = None;
    let out = fill(text, |name| {
        let found = field(record, name);
        if found.is_none() {
            lacks.get_or_insert_with(|| name.to_owned());
        }
        found
    });
    lacks.map_or(Ok(out), Err)
}
