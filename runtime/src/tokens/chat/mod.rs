//! Conversations as a model reads them: written by its own chat template, with the place of every message.

mod date;
mod find;
mod places;
mod python;
mod template;

pub use find::ChatFiles;

use super::Tokens;
use crate::error::Error;
use places::place;
use std::path::Path;
use steer_compiler::elaborate::{ASSISTANT, Chat, Content, Encoded, Turn, Written};
use steer_lang::codes;
use template::{ChatTemplate, Failure};

/// A template and the name of the file that it is from, for errors.
pub(super) struct Named {
    template: ChatTemplate,
    file: String,
}

impl Named {
    pub fn new(source: &str, file: &Path, specials: Vec<(String, String)>) -> Result<Self, Error> {
        let file = file.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        match ChatTemplate::new(source, specials, date::now()) {
            Ok(template) => Ok(Named { template, file }),
            Err(e) => Err(failed(e, &file)),
        }
    }
}

impl Tokens {
    /// A conversation as the model's chat template writes it. The template says which special tokens there are: none is added.
    pub fn chat(&self, chat: &Chat) -> Result<Written, Error> {
        let found = self.template.get_or_init(|| {
            let found = self.chat_files.find()?;
            found.map(|f| Named::new(&f.source, &f.path, self.settings.specials.clone())).transpose()
        });
        let Named { template, file } = match found {
            Ok(Some(named)) => named,
            Ok(None) => return Err(no_template(&self.path)),
            Err(e) => return Err(e.clone()),
        };
        let answered = chat.messages.last().is_some_and(|m| &*m.role == ASSISTANT);
        let mut text = template.render(chat, chat.open && !answered).map_err(|e| failed(e, file))?;
        let mut contents = place(template, chat, chat.open && !answered, &text);
        if let (true, true, Some(last)) = (chat.open, answered, contents.last()) {
            // Whatever closes the message is cut off.
            let end = match last {
                Content::At(places) => places.iter().map(|p| p.1).max(),
                _ => None,
            };
            let Some(end) = end else { return Err(cannot_go_on(file)) };
            text.truncate(end);
            for content in &mut contents {
                if let Content::At(places) = content {
                    places.retain(|p| p.1 <= end);
                }
            }
        }
        let encoding = self.encode(&text, false)?;
        let bos = encoding.ids.iter().take_while(|id| Some(**id) == self.bos()).count();
        let turns = chat.messages.iter().zip(contents).map(|(m, content)| Turn { role: m.role.clone(), content });
        let encoded = Encoded {
            tokens: encoding.ids,
            ranges: encoding.offsets.into_iter().map(|r| (r.start, r.end)).collect(),
            bos,
            turns: Some(turns.collect()),
        };
        Ok(Written { text, encoded })
    }
}

fn no_template(tokenizer: &Path) -> Error {
    let folder = tokenizer.parent().unwrap_or(Path::new("."));
    let message = format!("the model in `{}` has no chat template, so it reads no conversations", folder.display());
    Error::new(codes::CHAT_TEMPLATE, message).help(
        "use a model that was trained on conversations, put its chat_template.jinja beside tokenizer.json, \
         or write the prompt as a plain text",
    )
}

fn cannot_go_on(file: &str) -> Error {
    let message = format!("the chat template ({file}) changes the last message, so nothing can go on from it");
    Error::new(codes::CHAT_TEMPLATE, message).help("leave `open = true` out, or write the whole prompt as a plain text")
}

fn failed(failure: Failure, file: &str) -> Error {
    let (message, help) = match failure {
        Failure::Raised(what) => (
            format!("the chat template refuses this conversation: {what}"),
            format!("the model's {file} says which roles there are, and in which order"),
        ),
        Failure::Endless => (
            "the chat template does not come to an end".to_owned(),
            format!("the model's {file} is damaged, or meant for shorter conversations"),
        ),
        Failure::Broken(what) => (
            format!("the chat template ({file}) fails: {what}"),
            "download it again, or write the prompt as a plain text".to_owned(),
        ),
    };
    Error::new(codes::CHAT_TEMPLATE, message).help(help)
}
