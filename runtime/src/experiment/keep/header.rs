//! Which experiment finished pieces are of: everything that decides values, by name, so that what differs can be named.

use crate::checkpoint::{FileHash, sha256};
use crate::error::Error;
use crate::experiment::phase::{PhaseOptions, TensorValues};
use crate::experiment::session::Session;
use crate::experiment::statements::Experiment;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use steer_compiler::elaborate::ParamValue;
use steer_compiler::plan::print;

/// Something that values depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// As messages call it.
    name: String,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Value {
    /// As a person gives it.
    Given(String),
    /// The hash of something long.
    Hash(String),
}

impl Part {
    fn given(name: impl Into<String>, value: impl ToString) -> Self {
        Part { name: name.into(), value: Value::Given(value.to_string()) }
    }

    fn hash(name: impl Into<String>, hash: impl Into<String>) -> Self {
        Part { name: name.into(), value: Value::Hash(hash.into()) }
    }
}

/// Which experiment it is that pieces are of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Everything that decides what is asked: the version of steer, options, parameters, script, data, configuration,
    /// tokenizer. Of parts that differ, later ones may differ because of earlier ones.
    pub experiment: Vec<Part>,
    /// What it is computed from: weights, derived tensors.
    pub data: Vec<Part>,
    /// What the last bits of numbers depend on.
    pub instruction_set: String,
    /// How many units the experiment has.
    pub units: usize,
    /// The number of the shard, from 1 on, and how many there are.
    pub shard: Option<(usize, usize)>,
}

/// Names the script.
pub const SCRIPT: &str = "the script";

/// Names the compiled script, which differs where anything does.
const COMPILED: &str = "the compiled script";

impl Header {
    /// Of a session's experiment on these values.
    pub fn of(
        session: &Session,
        experiment: &Experiment,
        values: &TensorValues,
        options: &PhaseOptions,
    ) -> Result<Self, Error> {
        let seed = options.seed.map_or("the script's".into(), |seed| seed.to_string());
        let mut asked = vec![
            Part::given("the version of steer", env!("CARGO_PKG_VERSION")),
            Part::given("`--seed`", seed),
            Part::given("`--backend`", &options.backend),
            Part::given("`--cache`", options.rounding.cache.name()),
            Part::given("`--activations`", options.rounding.activations.name()),
        ];
        asked.extend(session.script.params.iter().map(|(name, value)| {
            let value = match value {
                ParamValue::Number(n) => n.to_string(),
                ParamValue::Bool(b) => b.to_string(),
                ParamValue::Text(t) => format!("{t:?}"),
            };
            Part::given(format!("the parameter `{name}`"), value)
        }));
        asked.extend(session.read.iter().map(|(name, hash)| Part::hash(name, hash)));
        let of_file = |f: FileHash| {
            let hash = f.sha256.or(f.header_sha256).unwrap_or_default();
            Part::hash(format!("the model's `{}`", f.file), hash)
        };
        asked.extend(session.checkpoint.small_hashes()?.into_iter().map(of_file));
        asked.push(Part::hash(COMPILED, sha256(print(&experiment.prepared.plan).as_bytes())));
        let mut data = vec![Part::hash("the weights", sha256(session.checkpoint.fingerprint().as_bytes()))];
        let mut tensors: Vec<_> = values.0.iter().collect();
        tensors.sort_by_key(|t| t.0);
        data.extend(tensors.into_iter().map(|(name, values)| {
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            Part::hash(format!("the tensor `{name}`"), sha256(&bytes))
        }));
        Ok(Header {
            experiment: asked,
            data,
            instruction_set: options.rounding.instruction_set().into(),
            units: experiment.units.len(),
            shard: None,
        })
    }

    /// How many parts another experiment of the same script has in common with this one, and what differs.
    pub fn compared(&self, other: &Header) -> Option<(usize, String)> {
        let all = |h: &Header| [&h.experiment[..], &h.data[..]].concat();
        let (mine, theirs) = (all(self), all(other));
        let alike = mine.iter().filter(|p| theirs.contains(p)).count();
        let script = mine.iter().find(|p| p.name == SCRIPT)?;
        let differs = match same(&self.experiment, &other.experiment) {
            true => differences(&self.data, &other.data),
            false => differences(&self.experiment, &other.experiment),
        };
        theirs.contains(script).then_some((alike, differs))
    }

    /// A name for the experiment on its data.
    pub fn name(&self) -> String {
        let id = |parts: &[Part]| {
            let values: String = parts.iter().map(|p| format!("{:?}\n", p.value)).collect();
            sha256(values.as_bytes())
        };
        format!("{}-{}", &id(&self.experiment)[..16], &id(&self.data)[..8])
    }
}

/// Whether all values are the same. What files are called does not count.
pub fn same(theirs: &[Part], ours: &[Part]) -> bool {
    theirs.iter().map(|p| &p.value).eq(ours.iter().map(|p| &p.value))
}

/// What differs, as a person reads it; nothing where all is the same.
pub fn differences(theirs: &[Part], ours: &[Part]) -> String {
    // Several parts may have one name, such as files of one name in different folders.
    let named = |parts: &[Part], name: &str| -> Vec<Value> {
        parts.iter().filter(|p| p.name == name).map(|p| p.value.clone()).collect()
    };
    let mut out: Vec<String> = Vec::new();
    let mut seen = HashSet::new();
    for name in theirs.iter().chain(ours).map(|p| p.name.as_str()).filter(|name| seen.insert(*name)) {
        let (there, here) = (named(theirs, name), named(ours, name));
        let text = match (&there[..], &here[..]) {
            _ if there == here => continue,
            // It is made of the others.
            _ if name == COMPILED && !out.is_empty() => continue,
            ([Value::Given(there)], [Value::Given(here)]) => format!("{name} was {there} there and is {here} here"),
            ([], _) => format!("{name} was not there"),
            (_, []) => format!("{name} is not here"),
            _ => format!("{name} is not the same"),
        };
        out.push(text);
    }
    if out.is_empty() && !same(theirs, ours) {
        out.push("its parts stand in another order".into());
    }
    const SHOWN: usize = 4;
    let more = out.len().saturating_sub(SHOWN);
    out.truncate(SHOWN);
    if more > 0 {
        out.push(format!("{more} more"));
    }
    out.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_and_what_follows_from_it_is_not() {
        let of = |cache: &str, script: &str, plan: &str| {
            vec![Part::given("`--cache`", cache), Part::hash(script, "1"), Part::hash(COMPILED, plan)]
        };
        let here = of("f32", "the script `a.steer`", "2");
        assert!(same(&of("f32", "the script `b.steer`", "2"), &here), "a name is no difference");
        assert_eq!(differences(&here, &here), "");
        let there = of("q8_0", "the script `a.steer`", "3");
        assert!(!same(&there, &here));
        assert_eq!(differences(&there, &here), "`--cache` was q8_0 there and is f32 here");
        let plan = of("f32", "the script `a.steer`", "3");
        assert_eq!(differences(&plan, &here), "the compiled script is not the same");
        assert_eq!(differences(&here[1..], &here), "`--cache` was not there");
        let twice =
            |hash: &str| vec![Part::hash("the import `lib.steer`", "1"), Part::hash("the import `lib.steer`", hash)];
        assert_eq!(differences(&twice("2"), &twice("3")), "the import `lib.steer` is not the same");
        let turned: Vec<Part> = here.iter().rev().cloned().collect();
        assert_eq!(differences(&turned, &here), "its parts stand in another order");
        let many: Vec<Part> = (0..9).map(|i| Part::hash(format!("file {i}"), "1")).collect();
        assert_eq!(
            differences(&many, &[]),
            "file 0 is not here; file 1 is not here; file 2 is not here; file 3 is not here; 5 more"
        );
    }
}
