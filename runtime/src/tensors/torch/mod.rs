//! Files of torch.save, in the zip format and the one before it. Their pickles are read, not executed.
//!
//! A pickle is a program that builds objects. Here it builds lists, dictionaries, numbers, texts and places of tensors, and
//! stops with an error at the first name of anything else.

mod file;
mod pickle;

pub use file::torch_header;

#[cfg(test)]
mod tests;
