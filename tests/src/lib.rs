//! What the tests share: fixtures, engines over them, scripts without a tokenizer, comparisons.

pub mod cases;
pub mod fixture;
pub mod random;
pub mod run;
pub mod script;
