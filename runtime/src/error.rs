//! Errors of the runtime: a diagnostic, with or without a place in a source text.

use steer_lang::Diagnostic;
use steer_lang::codes::Code;

/// Why the runtime stopped; printed like every other diagnostic.
#[derive(Clone, Debug)]
pub struct Error(pub Box<Diagnostic>);

impl Error {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error(Box::new(Diagnostic::error(code, message)))
    }

    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.0.help = Some(text.into());
        self
    }
}

impl From<Diagnostic> for Error {
    fn from(d: Diagnostic) -> Self {
        Error(Box::new(d))
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} [{}]", self.0.message, self.0.code)
    }
}

impl std::error::Error for Error {}
