//! Conversations: what a script says of one, and what a model's chat template made of it.

use super::check::Checker;
use super::data::{MESSAGES, PROMPT, Record, field_prompt};
use super::positions::{Misfit, Sequence};
use super::runs::short;
use super::scope::{Eval, Res, fail};
use super::script::Encoded;
use super::value::Value;
use serde_json::{Value as Json, json};
use std::rc::Rc;
use steer_lang::ast::Arg;
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, Span, codes};

/// Whose words are generated.
pub const ASSISTANT: &str = "assistant";

/// The argument of `chat` that is no message, and its field in JSON.
const OPEN: &str = "open";

/// What a run begins with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Prompt {
    /// A text as it stands.
    Text(Rc<str>),
    /// A conversation, of which the model's chat template makes a text.
    Chat(Rc<Chat>),
}

/// `chat(system = "Be brief.", user = "How do I make a cake?")`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chat {
    pub messages: Vec<Message>,
    /// Whether the text ends in the assistant's turn, so that what follows are its words.
    pub open: bool,
    /// Where the script has it.
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

impl Prompt {
    /// A text, or a conversation in the form of JSON; `None` of anything else.
    pub fn of_json(json: &Json, span: Span) -> Res<Option<Prompt>> {
        match json {
            Json::String(text) => Ok(Some(Prompt::Text(text.as_str().into()))),
            _ => Ok(Chat::of_json(json, span)?.map(|chat| Prompt::Chat(Rc::new(chat)))),
        }
    }

    /// The same as a field of an example.
    pub fn to_json(&self) -> Json {
        match self {
            Prompt::Text(text) => Json::from(&**text),
            Prompt::Chat(chat) => {
                let message = |m: &Message| json!({ "role": &*m.role, "content": &*m.content });
                let messages: Vec<Json> = chat.messages.iter().map(message).collect();
                json!({ MESSAGES: messages, OPEN: chat.open })
            }
        }
    }

    /// What tells it from others: of a conversation what the user, or else somebody, says last.
    pub fn words(&self) -> &str {
        match self {
            Prompt::Text(text) => text,
            Prompt::Chat(chat) => {
                let users = chat.messages.iter().rfind(|m| &*m.role == "user");
                users.or(chat.messages.last()).map_or("", |m| &m.content)
            }
        }
    }
}

impl Chat {
    /// The default of `open`: where somebody else has spoken last, it is the assistant's turn.
    fn opens(messages: &[Message]) -> bool {
        messages.last().is_some_and(|m| &*m.role != ASSISTANT)
    }

    /// `[{"role": "user", "content": "..."}, ...]`, also as `messages` of an object beside `open`.
    fn of_json(json: &Json, span: Span) -> Res<Option<Chat>> {
        let (list, open) = match json {
            Json::Object(map) => (map.get(MESSAGES), map.get(OPEN).and_then(Json::as_bool)),
            other => (Some(other), None),
        };
        let Some(Json::Array(list)) = list else { return Ok(None) };
        let part = |m: &Json, key: &str| m.get(key).and_then(Json::as_str).map(Rc::from);
        let message = |m: &Json| Some(Message { role: part(m, "role")?, content: part(m, "content")? });
        let messages: Option<Vec<Message>> = list.iter().map(message).collect();
        match messages {
            Some(messages) if !messages.is_empty() => {
                let open = open.unwrap_or_else(|| Self::opens(&messages));
                Ok(Some(Chat { messages, open, span }))
            }
            _ => Err(Box::new(
                Diagnostic::error(codes::WRONG_KIND, "a field of an example is neither a text nor a conversation")
                    .at(span, "asked for here")
                    .help("a conversation is a list of objects, each with a `role` and a `content` that are texts"),
            )),
        }
    }
}

/// A message of a call of `chat`.
pub(super) struct Said {
    pub role: Rc<str>,
    pub value: Value,
    pub span: Span,
}

/// The arguments of a call of `chat`.
pub(super) struct Call {
    pub said: Vec<Said>,
    pub open: Option<bool>,
    pub span: Span,
}

impl Call {
    /// The conversation with these texts in the places of its messages.
    pub fn chat(&self, texts: impl Iterator<Item = Rc<str>>) -> Res<Chat> {
        let messages = self.said.iter().zip(texts).map(|(s, content)| Message { role: Rc::clone(&s.role), content });
        let messages: Vec<Message> = messages.collect();
        let open = self.open.unwrap_or_else(|| Chat::opens(&messages));
        if let (Some(said), Some(last)) = (self.said.last(), messages.last())
            && open
            && !Chat::opens(&messages)
            && last.content.trim().is_empty()
        {
            return Err(Box::new(
                Diagnostic::error(codes::BAD_ARGUMENTS, "there are no words here that the assistant could go on from")
                    .at(said.span, "empty")
                    .help("leave this message out: its turn is opened all the same"),
            ));
        }
        Ok(Chat { messages, open, span: self.span })
    }
}

impl Eval<'_> {
    /// `chat(ROLE = text, ..., open = bool)`
    pub fn chat(&mut self, args: &[Arg], span: Span) -> Res<Value> {
        let call = self.chat_call(args, span)?;
        let mut texts = Vec::new();
        for said in &call.said {
            match &said.value {
                Value::Text(t) => texts.push(Rc::clone(t)),
                other => {
                    return Err(Box::new(
                        Diagnostic::error(codes::WRONG_KIND, format!("a message is a text, not {}", other.kind()))
                            .at(said.span, "this")
                            .help(match other {
                                Value::List(_) | Value::Data(_) => {
                                    "one conversation for each text is a data set: `data d = chat(user = texts)`"
                                }
                                _ => "write `chat(user = \"...\")`",
                            }),
                    ));
                }
            }
        }
        Ok(Value::Chat(Rc::new(call.chat(texts.into_iter())?)))
    }

    /// The arguments as they stand.
    pub(super) fn chat_call(&mut self, args: &[Arg], span: Span) -> Res<Call> {
        let mut call = Call { said: Vec::new(), open: None, span };
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
                Some(name) if name.name == OPEN => {
                    let Value::Bool(yes) = value else {
                        let what = format!("`open` is true or false, not {}", value.kind());
                        return Err(Box::new(
                            Diagnostic::error(codes::WRONG_KIND, what)
                                .at(at, "this")
                                .help("it says whether the text ends in the assistant's turn; other names are roles"),
                        ));
                    };
                    if call.open.replace(yes).is_some() {
                        return fail(codes::BAD_ARGUMENTS, "`open` is given twice", at, "again here");
                    }
                }
                Some(name) => call.said.push(Said { role: name.name.as_str().into(), value, span: at }),
            }
        }
        if call.said.is_empty() {
            return Err(Box::new(
                Diagnostic::error(codes::BAD_ARGUMENTS, "a conversation has at least one message")
                    .at(span, "nobody says anything here")
                    .help("write `chat(user = \"...\")`"),
            ));
        }
        Ok(call)
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
                        .help(self.host.without_tokenizer()),
                )),
            },
        }
    }

    /// The examples of `data name = chat(...)`: a conversation for each entry of the lists or data sets among its
    /// messages, beside the other fields of the data set's example.
    pub(super) fn chats(&mut self, args: &[Arg], span: Span) -> Res<Vec<Record>> {
        let call = self.evaluator().chat_call(args, span)?;
        let mut columns: Vec<(Vec<Rc<str>>, &Said)> = Vec::new();
        let mut records: Option<Vec<Record>> = None;
        for said in &call.said {
            let texts: Vec<Rc<str>> = match &said.value {
                Value::Data(name) => {
                    let of = self.data_prompts(name, said.span)?;
                    records.get_or_insert_with(|| of.iter().map(|(_, r)| Rc::clone(r)).collect());
                    let values: Vec<Value> = of.iter().map(|(p, _)| Value::from(p)).collect();
                    texts(&values, said.span)?
                }
                Value::List(items) => texts(items, said.span)?,
                one => texts(std::slice::from_ref(one), said.span)?,
            };
            columns.push((texts, said));
        }
        let several = |said: &Said| matches!(said.value, Value::Data(_) | Value::List(_));
        let mut lists = columns.iter().filter(|(_, said)| several(said));
        let Some((first, first_said)) = lists.next() else {
            return Err(Box::new(
                Diagnostic::error(codes::WRONG_KIND, "a data set is a list of texts or conversations")
                    .at(span, "this is one conversation")
                    .help("write `[chat(...), chat(...)]`, or give it a list or a data set: `chat(user = texts)`"),
            ));
        };
        if let Some((other, said)) = lists.find(|(texts, _)| texts.len() != first.len()) {
            let count = |n: usize| if n == 1 { "one text".to_owned() } else { format!("{n} texts") };
            return Err(Box::new(
                Diagnostic::error(codes::BAD_ARGUMENTS, "these lists are not of one length")
                    .at(said.span, count(other.len()))
                    .at(first_said.span, count(first.len()))
                    .help("there is one conversation for each entry, so every list has as many"),
            ));
        }
        let mut out = Vec::with_capacity(first.len());
        for i in 0..first.len() {
            let text = |(texts, said): &(Vec<Rc<str>>, &Said)| {
                texts.get(if several(said) { i } else { 0 }).cloned().unwrap_or_default()
            };
            let prompt = Prompt::Chat(Rc::new(call.chat(columns.iter().map(text))?));
            self.written(&prompt, span)?;
            let mut map = records.as_ref().and_then(|r| r.get(i)).map(|r| (**r).clone()).unwrap_or_default();
            map.insert(PROMPT.to_owned(), prompt.to_json());
            out.push(Rc::new(map));
        }
        Ok(out)
    }
}

fn texts(values: &[Value], span: Span) -> Res<Vec<Rc<str>>> {
    let text = |v: &Value| match v {
        Value::Text(t) => Ok(Rc::clone(t)),
        other => fail(codes::WRONG_KIND, format!("a message is a text, not {}", other.kind()), span, "this"),
    };
    values.iter().map(text).collect()
}

impl From<&Prompt> for Value {
    fn from(prompt: &Prompt) -> Value {
        match prompt {
            Prompt::Text(t) => Value::Text(Rc::clone(t)),
            Prompt::Chat(c) => Value::Chat(Rc::clone(c)),
        }
    }
}

/// What stands in the place of a text; `None` of values that cannot.
pub(super) fn as_prompt(value: &Value, span: Span) -> Res<Option<Prompt>> {
    Ok(match value {
        Value::Text(t) => Some(Prompt::Text(Rc::clone(t))),
        Value::Chat(c) => Some(Prompt::Chat(Rc::clone(c))),
        Value::Object(record, _) => Some(field_prompt(record, PROMPT, span)?),
        // A field with the messages of a conversation.
        Value::List(items) => {
            let object = |v: &Value| if let Value::Object(m, _) = v { Some(Json::Object((**m).clone())) } else { None };
            let messages: Option<Vec<Json>> = items.iter().map(object).collect();
            match messages {
                Some(messages) => Prompt::of_json(&Json::Array(messages), span)?,
                None => None,
            }
        }
        _ => None,
    })
}

/// The error for a role whose words a sequence does not have.
pub(super) fn role_misfit(misfit: &Misfit, text: &str, seq: &Sequence, span: Span) -> Diagnostic {
    let error = |message: String| Diagnostic::error(codes::NO_ROLES, message);
    match misfit {
        Misfit::Changed(role) => error(format!(
            "the words of `{role}` cannot be found: the chat template changes them"
        ))
        .at(span, format!("not as they were in {:?}", short(text)))
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
            error(format!("the conversation has no message of `{role}`"))
                .at(span, format!("{:?} has {listed}", short(text)))
                .help(match nearest(role, roles) {
                    Some(n) => format!("did you mean `role({n})`?"),
                    None => "write `on maybe ...` where it may be absent".into(),
                })
        }
        _ => error("a plain text has no roles".into())
            .at(span, format!("{:?} is not a conversation", short(text)))
            .help("make it one: `chat(user = \"...\")`; or select by what it says: `after \"...\"`"),
    }
}
