//! The stable codes of diagnostics, and a page on each.

/// A stable code such as `E0201`. Its page is `lang/codes/E0201.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code(pub &'static str);

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal;)*) => {
        $($(#[doc = $doc])* pub const $name: Code = Code($code);)*

        /// Every code with its page, in order.
        pub const PAGES: &[(Code, &str)] = &[
            $((Code($code), include_str!(concat!("../codes/", $code, ".md"))),)*
        ];
    };
}

codes! {
    /// The text is not a declaration of the language.
    SYNTAX = "E0101";
    /// A string, bracket or comment is not closed.
    UNCLOSED = "E0102";
    /// A name that nothing declares.
    UNKNOWN_NAME = "E0201";
    /// A name that is declared twice.
    DUPLICATE_NAME = "E0202";
    /// A site that the model does not have.
    UNKNOWN_SITE = "E0203";
    /// A function that does not exist, or is not available at this stage.
    UNKNOWN_FUNCTION = "E0204";
    /// Arguments that do not fit a function, hook or metric.
    BAD_ARGUMENTS = "E0205";
    /// A parameter outside its bounds or of another type.
    BAD_PARAMETER = "E0206";
    /// A layer, head or other index beyond what the model has.
    OUT_OF_RANGE = "E0207";
    /// Values whose axes do not fit together.
    AXIS_MISMATCH = "E0301";
    /// An axis that the value does not have.
    UNKNOWN_AXIS = "E0302";
    /// A value of the wrong kind or stage, such as a tensor where the compiler needs a number.
    WRONG_KIND = "E0303";
    /// An assignment to something that a hook cannot change.
    BAD_TARGET = "E0304";
    /// A selection of rows that is empty.
    EMPTY_SELECTION = "E0401";
    /// A text that is not exactly one token.
    NOT_ONE_TOKEN = "E0402";
    /// A text that occurs nowhere in the prompt.
    NO_OCCURRENCE = "E0403";
    /// A position beyond the sequence.
    POSITION_RANGE = "E0404";
    /// An edit whose effect nothing reads.
    UNREAD_EDIT = "E0405";
    /// A role whose words a prompt does not have.
    NO_ROLES = "E0406";
    /// Something causal, asked of a model whose rows see the rows behind them.
    WHOLE_TEXT = "E0407";
    /// No model is named, or none is found.
    NO_MODEL = "E0501";
    /// The configuration is not valid JSON or not a configuration.
    BAD_CONFIG = "E0502";
    /// An architecture for which there is no model file.
    UNKNOWN_ARCH = "E0503";
    /// A configuration that the model file refuses.
    REFUSED_CONFIG = "E0504";
    /// A key that the model file needs and the configuration lacks.
    MISSING_KEY = "E0505";
    /// The tokenizer is missing, unreadable or does not fit the model.
    BAD_TOKENIZER = "E0506";
    /// A conversation that the model's chat template does not write.
    CHAT_TEMPLATE = "E0507";
    /// A model of the Hugging Face hub that cannot be had.
    HUB = "E0508";
    /// A file that cannot be read or written.
    FILE = "E0601";
    /// A weight file that is damaged.
    BAD_WEIGHTS = "E0602";
    /// A tensor that the weight files lack.
    MISSING_WEIGHT = "E0603";
    /// A tensor of another shape or element type than the model file says.
    WEIGHT_SHAPE = "E0604";
    /// A value that is not finite.
    NOT_FINITE = "E0701";
    /// Not enough memory.
    MEMORY = "E0702";
    /// A device or backend that is not available.
    BACKEND = "E0703";
    /// The computation was stopped.
    STOPPED = "E0704";
    /// Finished cells that are kept in a file and do not fit.
    KEPT = "E0705";
    /// An option or value on the command line.
    COMMAND = "E0801";
}

/// The page of a code, if there is such a code. Case does not matter.
pub fn page(code: &str) -> Option<&'static str> {
    PAGES.iter().find(|(c, _)| c.0.eq_ignore_ascii_case(code)).map(|(_, text)| *text)
}
