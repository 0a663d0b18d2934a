//! Conversations: what a script says of one, and what a model's chat template made of it.

use super::check::Checker;
use super::positions::{Misfit, Sequence};
use super::runs::short;
use super::scope::{Eval, Res};
use super::script::Encoded;
use super::value::Value;
use std::rc::Rc;
use steer_lang::ast::Arg;
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, Span, codes};

/// Whose words are generated.
pub const ASSISTANT: &str = "assistant";

/// What a run begins with.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// A text as it stands.
    Text(Rc<str>),
    /// A conversation, of which the model's chat template makes a text.
    Chat(Rc<Chat>),
}

/// `chat(system = "Be brief.", user = "How do I make a cake?")`
#[derive(Clone, Debug, PartialEq)]
pub struct Chat {
    pub messages: Vec<Message>,
    /// Whether the text ends in the assistant's turn, so that what follows are its words.
    pub open: bool,
    /// Where the script has it.
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub role: Rc<str>,
    pub content: Rc<str>,
}

/// A conversation as the model reads it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    pub text: String,
    pub encoded: Encoded,
}

/// A message in the text of its conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    pub role: Rc<str>,
    pub content: Content,
}

/// Where the words of a message stand.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Byte ranges of the text: mostly one, several where the template repeats the words.
    At(Vec<(usize, usize)>),
    /// The template does not write them.
    LeftOut,
    /// The template writes them otherwise, so that nobody can say where they are.
    Changed,
}

impl Eval<'_> {
    /// `chat(ROLE = text, ..., open = bool)`; a list of conversations where a text is a list or a data set.
    pub fn chat(&mut self, args: &[Arg], span: Span) -> Res<Value> {
        let mut open: Option<(bool, Span)> = None;
        let mut said: Vec<Said> = Vec::new();
        for a in args {
            let value = self.expr(&a.value)?;
            let at = a.value.span;
            match &a.name {
                None => {
                    return Err(Box::new(
                        Diagnostic::error(codes::BAD_ARGUMENTS, "a message of a conversation needs its role")
                            .at(at, "whose words are these?")
                            .help("write `chat(user = ...)`"),
                    ));
                }
                Some(name) if name.name == "open" => {
                    let Value::Bool(yes) = value else {
                        let what = format!("`open` is true or false, not {}", value.kind());
                        return Err(Box::new(Diagnostic::error(codes::WRONG_KIND, what).at(at, "this").help(
                            "it says whether the text ends in the assistant's turn; other names are roles",
                        )));
                    };
                    if let Some((_, first)) = open.replace((yes, at)) {
                        return Err(Box::new(
                            Diagnostic::error(codes::BAD_ARGUMENTS, "`open` is given twice")
                                .at(at, "again here")
                                .at(first, "first here"),
                        ));
                    }
                }
                Some(name) => {
                    let each = !matches!(value, Value::Text(_));
                    said.push(Said { role: name.name.as_str().into(), texts: contents(&value, at)?, each, span: at });
                }
            }
        }
        let Some(last) = said.last() else {
            return Err(Box::new(
                Diagnostic::error(codes::BAD_ARGUMENTS, "a conversation has at least one message")
                    .at(span, "nobody says anything here")
                    .help("write `chat(user = \"...\")`"),
            ));
        };
        let answered = &*last.role == ASSISTANT;
        let open = open.map_or(!answered, |(yes, _)| yes);
        if answered && open && last.texts.iter().any(|t| t.trim().is_empty()) {
            return Err(Box::new(
                Diagnostic::error(codes::BAD_ARGUMENTS, "there are no words here that the assistant could go on from")
                    .at(last.span, "empty")
                    .help("leave this message out: its turn is opened all the same"),
            ));
        }
        // The conversation of this number among those that lists make.
        let conversation = |i: usize| {
            let messages = said.iter().map(|s| s.message(i)).collect();
            Value::Chat(Rc::new(Chat { messages, open, span }))
        };
        let mut lists = said.iter().filter(|s| s.each);
        let Some(first) = lists.next() else { return Ok(conversation(0)) };
        if let Some(other) = lists.find(|s| s.texts.len() != first.texts.len()) {
            return Err(Box::new(
                Diagnostic::error(codes::BAD_ARGUMENTS, "these lists are not of one length")
                    .at(other.span, format!("{} texts", other.texts.len()))
                    .at(first.span, format!("{} texts", first.texts.len()))
                    .help("there is one conversation for each entry, so every list has as many"),
            ));
        }
        Ok(Value::List(Rc::new((0..first.texts.len()).map(conversation).collect())))
    }
}

/// An argument that is a message.
struct Said {
    role: Rc<str>,
    /// One, or those of a list.
    texts: Vec<Rc<str>>,
    /// Whether it is a list, with a text for each conversation.
    each: bool,
    span: Span,
}

impl Said {
    fn message(&self, i: usize) -> Message {
        let text = self.texts.get(if self.each { i } else { 0 });
        Message { role: Rc::clone(&self.role), content: text.cloned().unwrap_or_default() }
    }
}

/// The texts that a message may be.
fn contents(value: &Value, span: Span) -> Res<Vec<Rc<str>>> {
    let text = |v: &Value| match v {
        Value::Text(t) => Ok(Rc::clone(t)),
        other => Err(Box::new(
            Diagnostic::error(codes::WRONG_KIND, format!("a message is a text, not {}", other.kind()))
                .at(span, "this")
                .help("write `chat(user = \"...\")`; a list of texts or a data set makes a conversation for each"),
        )),
    };
    match value {
        Value::List(items) => items.iter().map(text).collect(),
        Value::Data(set) => set.items.iter().map(|p| text(&Value::from(p))).collect(),
        one => Ok(vec![text(one)?]),
    }
}

impl Checker<'_> {
    /// What is run of a prompt; `None` where there is no tokenizer.
    pub(super) fn written(&self, prompt: &Prompt, span: Span) -> Res<Option<Written>> {
        match prompt {
            Prompt::Text(text) => {
                let encoded = self.host.encode(text).transpose().map_err(|message| {
                    let message = format!("the tokenizer refuses this text: {message}");
                    Box::new(Diagnostic::error(codes::BAD_TOKENIZER, message).at(span, "here"))
                })?;
                Ok(encoded.map(|encoded| Written { text: text.to_string(), encoded }))
            }
            Prompt::Chat(chat) => self.host.chat(chat).transpose().map_err(|mut d| {
                if d.labels.is_empty() {
                    *d = d.clone().at(chat.span, "this conversation");
                }
                d
            }),
        }
    }

    /// The text of a prompt, as it is printed.
    pub(super) fn prompt_text(&self, prompt: &Prompt) -> Res<String> {
        match prompt {
            Prompt::Text(t) => Ok(t.to_string()),
            Prompt::Chat(chat) => match self.written(prompt, chat.span)? {
                Some(written) => Ok(written.text),
                None => Err(Box::new(
                    Diagnostic::error(codes::BAD_TOKENIZER, "conversations cannot be written without a tokenizer")
                        .at(chat.span, "this conversation")
                        .help("put the model's tokenizer.json beside config.json"),
                )),
            },
        }
    }

    /// What stands in the place of a text; `None` of values that cannot.
    pub(super) fn as_prompt(value: &Value) -> Option<Prompt> {
        match value {
            Value::Text(t) => Some(Prompt::Text(Rc::clone(t))),
            Value::Chat(c) => Some(Prompt::Chat(Rc::clone(c))),
            _ => None,
        }
    }

    /// All of a list or data set, or the one there is.
    pub(super) fn as_prompts(value: &Value) -> Option<Vec<Prompt>> {
        match value {
            Value::List(items) => items.iter().map(Self::as_prompt).collect(),
            Value::Data(set) => Some(set.items.clone()),
            one => Self::as_prompt(one).map(|p| vec![p]),
        }
    }
}

impl From<&Prompt> for Value {
    fn from(prompt: &Prompt) -> Value {
        match prompt {
            Prompt::Text(t) => Value::Text(Rc::clone(t)),
            Prompt::Chat(c) => Value::Chat(Rc::clone(c)),
        }
    }
}

/// The error for a role whose words a sequence does not have.
pub(super) fn role_misfit(misfit: &Misfit, text: &str, seq: &Sequence, span: Span) -> Diagnostic {
    let error = |message: String| Diagnostic::error(codes::NO_ROLES, message);
    match misfit {
        Misfit::Changed(role) => error(format!("nobody can say where the words of `{role}` are"))
            .at(span, format!("the chat template writes them otherwise: {:?}", short(text)))
            .help("select by what the text says instead: `matching \"...\"`, `after \"...\"`; `print` shows all of it"),
        Misfit::LeftOut(role) => error(format!("the chat template does not write the words of `{role}`"))
            .at(span, format!("not in {:?}", short(text)))
            .help("say it in a message that is written; `print` shows what becomes of a conversation"),
        Misfit::NoMessage(role) => {
            let mut roles: Vec<&str> = Vec::new();
            for turn in seq.turns.into_iter().flatten() {
                if !roles.contains(&&*turn.role) {
                    roles.push(&turn.role);
                }
            }
            let listed = roles.iter().map(|r| format!("`{r}`")).collect::<Vec<_>>().join(", ");
            error(format!("the conversation has no message of `{role}`")).at(span, format!("it has {listed}")).help(
                match nearest(role, roles) {
                    Some(n) => format!("did you mean `role({n})`?"),
                    None => "write `on maybe ...` where it may be absent".into(),
                },
            )
        }
        _ => error("a plain text has no roles".into())
            .at(span, format!("{:?} is not a conversation", short(text)))
            .help("make it one: `chat(user = \"...\")`; or select by what it says: `after \"...\"`"),
    }
}
