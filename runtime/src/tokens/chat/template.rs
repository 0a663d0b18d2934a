//! A chat template, executed as transformers does.

use super::python;
use crate::guard::caught;
use minijinja::{Environment, ErrorKind, Value};
use steer_compiler::elaborate::Chat;

/// Steps that one rendering may take, and pieces of 64 bytes that it may make: hundreds of times what conversations need.
const FUEL: u64 = 1_000_000;

/// How deep blocks and macros may nest.
const DEPTH: usize = 200;

/// A compiled template.
pub struct ChatTemplate {
    env: Environment<'static>,
    /// `bos_token` and the like, with their texts.
    specials: Vec<(String, String)>,
}

/// Why a template gives no text.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// It calls `raise_exception` with this message.
    Raised(String),
    /// It takes too many steps, or writes too much.
    Endless,
    /// It is no template, or does what cannot be done.
    Broken(String),
}

impl ChatTemplate {
    /// `specials` are the names and texts of special tokens, `now` the seconds since 1970 that templates take the date from.
    pub fn new(source: &str, specials: Vec<(String, String)>, now: u64) -> Result<Self, Failure> {
        let source = python::without_generation_tags(source);
        let compiled = caught(|| {
            let mut env = python::environment(now);
            env.set_fuel(Some(FUEL));
            env.set_recursion_limit(DEPTH);
            env.add_template_owned("template", source)?;
            Ok(env)
        });
        let env = compiled.map_err(Failure::Broken)?.map_err(|e: minijinja::Error| failure(&e))?;
        Ok(ChatTemplate { env, specials })
    }

    /// The text of a conversation; `prompt`: with what begins the assistant's turn.
    pub fn render(&self, chat: &Chat, prompt: bool) -> Result<String, Failure> {
        let messages = chat.messages.iter().map(|m| (&*m.role, &*m.content));
        self.render_messages(messages, prompt)
    }

    pub(super) fn render_messages<'m>(
        &self,
        messages: impl Iterator<Item = (&'m str, &'m str)>,
        prompt: bool,
    ) -> Result<String, Failure> {
        let one = |(role, content): (&str, &str)| {
            Value::from_pairs([("role", Value::from(role)), ("content", Value::from(content))])
        };
        let messages: Vec<Value> = messages.map(one).collect();
        let mut context = vec![
            ("messages", Value::from(messages)),
            ("add_generation_prompt", Value::from(prompt)),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
        ];
        context.extend(self.specials.iter().map(|(name, text)| (name.as_str(), Value::from(text.as_str()))));
        let context = Value::from_pairs(context);
        let rendered = caught(|| self.env.get_template("template")?.render(context));
        rendered.map_err(Failure::Broken)?.map_err(|e| failure(&e))
    }
}

fn failure(error: &minijinja::Error) -> Failure {
    let mut at: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = at {
        if let Some(python::Raised(message)) = e.downcast_ref() {
            return Failure::Raised(shortened(message));
        }
        if e.downcast_ref::<minijinja::Error>().is_some_and(|e| e.kind() == ErrorKind::OutOfFuel) {
            return Failure::Endless;
        }
        at = e.source();
    }
    let what = error.detail().map_or_else(|| error.kind().to_string(), |d| format!("{}: {d}", error.kind()));
    let what = shortened(&what);
    Failure::Broken(match error.line() {
        Some(line) if line > 0 => format!("{what}, in line {line}"),
        _ => what,
    })
}

/// A message of a template in one line, as long as a person reads.
fn shortened(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(200) {
        Some((at, _)) => format!("{}...", &line[..at]),
        None => line,
    }
}
