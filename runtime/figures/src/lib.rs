//! Tables with labelled axes, and what is made of them: plots for terminals and papers, pages, and files for other
//! programs.
//!
//! Pure: values go in, texts and bytes come out. Nothing here knows the language or a model, or touches a file.

mod frame;
mod plot;

pub use frame::{Fault, Frame, FrameAxis, FrameColumn};
pub use plot::{Kind, Plot};
