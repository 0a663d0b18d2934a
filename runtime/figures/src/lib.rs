//! Tables with labelled axes, and what is made of them: plots for terminals and papers, pages, and files for other
//! programs.
//!
//! Pure: values go in, texts and bytes come out. Nothing here knows the language or a model, or touches a file.

mod color;
mod draw;
mod export;
mod figure;
mod frame;
mod page;
mod plot;
mod scale;
mod side;
mod terminal;
pub mod text;

pub use color::Color;
pub use export::npy_header;
pub use figure::Figure;
pub use frame::{Fault, Frame, FrameAxis, FrameColumn};
pub use page::{Block, Page, Script, Section};
pub use plot::{Kind, Plot};
pub use terminal::Terminal;
