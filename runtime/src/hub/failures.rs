//! What can go wrong with a hub, and what to do then.

use super::{Id, Need};
use crate::error::Error;
use std::path::Path;
use steer_lang::codes;

/// Works without a hub, whatever is wrong with it.
const OTHERWISE: &str = "or name a folder that has the model";

fn error(message: String) -> Error {
    Error::new(codes::HUB, message)
}

pub(super) fn no_cache(id: &Id) -> Error {
    error(format!("there is no folder `{id}`, and none to keep a model of the hub in"))
        .help("set HF_HOME to a folder for models")
}

pub(super) fn offline(id: &Id, need: Need, variable: &str, cache: &Path) -> Error {
    let what = match need {
        Need::Description => "a model of that name",
        Need::Weights => "that model's weights",
    };
    error(format!(
        "there is no folder `{id}`, the cache `{}` does not have {what}, and {variable} forbids to download",
        cache.display()
    ))
    .help(format!("unset {variable}, {OTHERWISE}"))
}

/// A status in answer to a request: 4xx.
pub(super) fn refused(id: &Id, endpoint: &str, status: u16, code: &str, known: bool) -> Error {
    let page = format!("{endpoint}/{}", id.name);
    let login = "log in with `hf auth login`, or set HF_TOKEN";
    match (status, code) {
        (401 | 403, "GatedRepo") if known => {
            error(format!("the hub does not give `{id}` to you: its terms are not accepted, or not answered yet"))
                .help(format!("ask for access at {page}, with the account that the token belongs to"))
        }
        (401 | 403, "GatedRepo") => error(format!("the hub gives `{id}` only to those who have accepted its terms"))
            .help(format!("ask for access at {page}, then {login}")),
        (_, "RevisionNotFound") => {
            error(format!("the model `{}` of the hub has no revision `{}`", id.name, id.revision))
                .help(format!("its branches and tags are at {page}/tree/main"))
        }
        (401, _) if known => error(format!("the hub knows no model `{id}`, or does not accept the token"))
            .help(format!("check the name at {page}; for a model of your own, {login}")),
        (401, _) => {
            error(format!("there is no folder `{id}`, and no model of that name that the hub shows to everybody"))
                .help(format!("check the name at {page}; for a private model, {login}"))
        }
        (403, _) => error(format!("the hub forbids to download `{id}`"))
            .help(format!("see {page}, and check what the token in HF_TOKEN may read")),
        (404, _) => error(format!("there is no folder `{id}`, and the hub has no model of that name"))
            .help(format!("check the name at {page}")),
        _ => error(format!("the hub {endpoint} answers {status} when it is asked for `{id}`"))
            .help(format!("try again later, {OTHERWISE}")),
    }
}

pub(super) fn unreachable(id: &Id, endpoint: &str, what: &str) -> Error {
    error(format!("there is no folder `{id}`, and it cannot be downloaded from {endpoint}: {what}")).help(format!(
        "check the connection (HF_ENDPOINT and HTTPS_PROXY say which way it goes) and run it again, which goes on with what has come; {OTHERWISE}"
    ))
}

pub(super) fn no_hub(endpoint: &str, what: &str) -> Error {
    error(format!("{endpoint} is no hub of models as it should be: it {what}"))
        .help(format!("check HF_ENDPOINT and proxies, {OTHERWISE}"))
}

pub(super) fn bad_endpoint(endpoint: &str) -> Error {
    error(format!("`{endpoint}` is no address of a hub"))
        .help("set HF_ENDPOINT to one such as https://huggingface.co, or unset it")
}

pub(super) fn no_config(id: &Id, files: &[String]) -> Error {
    let e = error(format!("`{id}` on the hub has no config.json, so it is no model that transformers can load"));
    match files.iter().find(|f| f.ends_with(".gguf") || f.contains("adapter")) {
        Some(name) => e.help(format!("it has `{name}`: name the model that this was made from")),
        None => e.help("name a repository with config.json, tokenizer.json and safetensors"),
    }
}

pub(super) fn bad_index(id: &Id, name: &str, what: &str) -> Error {
    error(format!("`{name}` of `{id}` on the hub {what}"))
        .help(format!("tell those who have made the model, {OTHERWISE}"))
}

pub(super) fn damaged(id: &Id, name: &str) -> Error {
    error(format!("`{name}` of `{id}` came damaged: its checksum is not the one that the hub says"))
        .help("run it again, which downloads it anew; check the proxy if it stays so")
}

pub(super) fn stopped() -> Error {
    Error::new(codes::STOPPED, "stopped by ctrl-C")
        .help("what was downloaded is kept: the same command goes on from there")
}
