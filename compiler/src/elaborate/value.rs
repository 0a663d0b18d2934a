//! Values of the language while the compiler runs a script or a model file.

use super::chat::Chat;
use crate::plan::{Axis, NodeId, Size};
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use steer_lang::ast::{Block, Ident};

#[derive(Clone, Debug)]
pub enum Value {
    Number(f64),
    Text(Rc<str>),
    Bool(bool),
    List(Rc<Vec<Value>>),
    /// `none`.
    None,
    /// A key that the configuration lacks, with its path.
    Absent(Rc<str>),
    /// An object of the configuration, with its path.
    Object(Rc<serde_json::Map<String, Json>>, Rc<str>),
    /// Axes laid out as one dimension; often just one axis.
    Axes(Rc<Vec<Axis>>),
    /// A value of the Plan.
    Node(NodeId),
    /// The layer: a number where the compiler needs one, an argument of kernels in row code.
    Layer(u32),
    /// A block of the model, named by a sweep.
    Block(u32),
    /// A parameter of the script, with its value.
    Param(Rc<str>, f64),
    Closure(Rc<Closure>),
    /// A tensor of the script by its name; `Some` layer where it is one of a family.
    Tensor(Rc<str>),
    /// A data set by its name, or a field of its examples.
    Data(Rc<str>),
    /// A conversation.
    Chat(Rc<Chat>),
    /// Named values, such as a sparse autoencoder, by the name that it has.
    Record(Rc<BTreeMap<String, Value>>, Rc<str>),
    /// Declared with an error that is already reported.
    Broken,
}

#[derive(Debug)]
pub struct Closure {
    pub params: Vec<Ident>,
    pub body: Block,
    pub scopes: Vec<Scope>,
}

/// The names of one level.
pub type Scope = HashMap<String, Value>;

impl Value {
    pub fn text(s: &str) -> Value {
        Value::Text(s.into())
    }

    pub fn axis(axis: Axis) -> Value {
        Value::Axes(Rc::new(vec![axis]))
    }

    /// The number that the compiler can compute with, if it is one.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Value::Number(n) => Some(*n),
            Value::Layer(l) | Value::Block(l) => Some(f64::from(*l)),
            Value::Param(_, v) => Some(*v),
            Value::Axes(a) => {
                a.iter().map(|a| if let Size::Fixed(n) = a.size { Some(n as f64) } else { None }).product()
            }
            _ => None,
        }
    }

    /// What a diagnostic calls it.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::Bool(_) => "true or false",
            Value::List(_) => "a list",
            Value::None => "none",
            Value::Absent(_) => "a key that the configuration lacks",
            Value::Object(..) => "an object of the configuration",
            Value::Axes(_) => "an axis",
            Value::Node(_) => "a value of the model",
            Value::Layer(_) => "the layer",
            Value::Block(_) => "a block",
            Value::Param(..) => "a parameter",
            Value::Closure(_) => "a function",
            Value::Tensor(_) => "a tensor of the script",
            Value::Data(_) => "a data set",
            Value::Chat(_) => "a conversation",
            Value::Record(..) => "a sparse autoencoder",
            Value::Broken => "declared with an error",
        }
    }
}

/// A value of `config.json`.
pub fn from_json(json: &Json, path: &str) -> Value {
    match json {
        Json::Null => Value::None,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => Value::Number(n.as_f64().unwrap_or(f64::NAN)),
        Json::String(s) => Value::text(s),
        Json::Array(items) => {
            Value::List(Rc::new(items.iter().enumerate().map(|(i, v)| from_json(v, &format!("{path}[{i}]"))).collect()))
        }
        Json::Object(map) => Value::Object(Rc::new(map.clone()), path.into()),
    }
}
