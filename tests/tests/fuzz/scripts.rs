//! Scripts, and what they name.

use super::mutated;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use steer::checkpoint::Checkpoint;
use steer::experiment::{PhaseOptions, Session, prepare_all};
use steer::tensors::{Header, parse_dictionary};
use steer::tokens::Tokens;
use steer_compiler::elaborate::{Chat, Dictionary, Encoded, Host, Library, Model, Written, check};
use steer_lang::{Diagnostic, FileId, Severity, Sources};
use steer_tests::cases::{listed, package, read};

/// No files but one sparse autoencoder, and the tokenizer of tiny-llama.
struct Files(Rc<Tokens>, Dictionary);

impl Host for Files {
    fn text(&self, _: &str, _: FileId) -> Result<String, String> {
        Ok("Tom went\nAnna\n".into())
    }

    fn tensor_shape(&self, _: &str, _: Option<&str>, _: FileId) -> Result<Vec<usize>, Box<Diagnostic>> {
        Ok(vec![128])
    }

    fn dictionary(&self, _: &str, _: FileId) -> Result<Dictionary, Box<Diagnostic>> {
        Ok(self.1.clone())
    }

    fn encode(&self, text: &str) -> Option<Result<Encoded, String>> {
        Some(self.0.encode(text, true).map_err(|e| e.to_string()).map(|e| Encoded {
            bos: e.special.iter().take_while(|s| **s).count(),
            tokens: e.ids,
            ranges: e.offsets.into_iter().map(|r| (r.start, r.end)).collect(),
            turns: None,
        }))
    }

    fn piece(&self, token: u32) -> String {
        self.0.piece(token)
    }

    fn chat(&self, chat: &Chat) -> Option<Result<Written, Box<Diagnostic>>> {
        Some(self.0.chat(chat).map_err(|e| e.0))
    }

    fn single_token(&self, text: &str) -> Option<Result<u32, Vec<String>>> {
        Some(self.0.single(text).map_err(|seen| seen.0.into_iter().map(|(_, p)| p).collect()))
    }
}

const WORDS: &[&str] = &[
    "h",
    "h0",
    "0",
    "-1",
    "3",
    "7",
    "8",
    "1e9",
    "1e300",
    "-0.5",
    "layer",
    "head",
    "d_head",
    "key",
    "neuron",
    "d_model",
    "kv_head",
    "dot",
    "norm",
    "unit",
    "sum",
    "max",
    "mean",
    "argmax",
    "softmax",
    "top_k",
    "clamp",
    "select",
    "concat",
    "rename",
    "size",
    "index",
    "mean_diff",
    "pca",
    "position",
    "token",
    "glad",
    "mood",
    "clean",
    "a",
    "prompt",
    "generated",
    "seq",
    "bos",
    "all",
    "blocks",
    "resid.post",
    "attn.pattern",
    "attn.z",
    "embed",
    "logits",
    "logit",
    "kl",
    "rank",
    "prob",
    "cross_entropy",
    "true",
    "none",
    "on",
    "at",
    "with",
    "when",
    "let",
    "if",
    "else",
    "maybe",
    "role(user)",
    "chat",
    "user",
    "assistant",
    "open",
    "fn",
    "before",
    "\"\"",
    "\"Tom\"",
    "sae",
    "lens",
    "lens.site",
    "encode",
    "splice",
    "route",
    "mask",
    "drop",
    "mute",
    "force",
    "bias",
    "by",
    "gates",
    "scores",
    "expert",
    "moe",
    "top(2, mood)",
    "random(2, mood, seed = 1)",
    "[[1, 2]]",
    "site(\"model.layers.1.mlp\")",
    "site(\"blocks.2.hook_resid_pre\")",
];

/// Every script that is shipped and every case.
fn scripts() -> Vec<Vec<u8>> {
    let mut paths = listed(&package("../examples"), "steer");
    for folder in ["cases/check", "cases/run", "cases/plan"] {
        paths.extend(listed(&package(folder), "steer"));
    }
    let mut out: Vec<Vec<u8>> = paths.iter().map(|p| read(p)).collect();
    out.iter_mut().for_each(|text| {
        let end = text.windows(5).position(|w| w == b"# ---").unwrap_or(text.len());
        text.truncate(end);
    });
    out.retain(|t| t.len() < 4000);
    out
}

#[test]
fn scripts_are_checked_or_refused() {
    let checkpoint = Arc::new(Checkpoint::open(&package("models/tiny-llama")).unwrap());
    let tokens = Rc::new(Tokens::open(checkpoint.folder()).unwrap().unwrap());
    let files = Files(Rc::clone(&tokens), dictionary(&read(&package("cases/data/sae/cfg.json"))).unwrap());
    let mut sources = Sources::default();
    let library = Library::standard(&mut sources).unwrap();
    let mut compiled = 0;
    mutated("script", &scripts(), WORDS, |i, text| {
        let text = String::from_utf8_lossy(&text).into_owned();
        let mut sources = sources.clone();
        let file = sources.add("a.steer", text.as_str());
        let (tree, found) = steer_lang::parse(file, &text);
        assert!(found.iter().all(|d| d.labels.iter().all(|l| l.span.end as usize <= text.len())));
        if !found.is_empty() {
            return false;
        }
        if i % 10 == 0 {
            let again = steer_lang::format(&text).expect("it parses");
            assert_eq!(steer_lang::format(&again).as_deref(), Ok(again.as_str()), "formatting twice");
        }
        let mut library = library.clone();
        if library.add_script(&tree.items).is_err() {
            return false;
        }
        let model = Rc::new(Model::new(library, checkpoint.config().value.clone()).unwrap());
        let (script, found) = check(&tree.items, model, &files, &sources, &[]);
        let errors = found.iter().any(|d| d.severity == Severity::Error);
        assert_eq!(script.is_none(), errors, "a script and errors exclude each other");
        let drawn = steer::report::render(&found, &sources, false);
        assert!(!drawn.contains("bug in steer"), "{drawn}");
        let Some(script) = script else { return false };
        // Compiling takes longest, so some of them have to do.
        if compiled < 60 {
            compiled += 1;
            let session = Session {
                script,
                checkpoint: Arc::clone(&checkpoint),
                tokens: Some(Rc::clone(&tokens)),
                folder: ".".into(),
                folders: Vec::new(),
                arch_file: String::new(),
                inputs: Vec::new(),
                model_name: "tiny-llama".into(),
                text,
                file: FileId::default(),
                warnings: found,
                read: Vec::new(),
                keys: Default::default(),
            };
            if let Err(found) = prepare_all(&session, &PhaseOptions::default()) {
                panic!("{}", steer::report::render(&found, &sources, false));
            }
        }
        true
    });
}

/// The sparse autoencoder of the cases with another configuration.
fn dictionary(config: &[u8]) -> Option<Dictionary> {
    let path = package("cases/data/sae/sae_weights.safetensors");
    let header = Header::parse(&read(&path), &path).unwrap();
    parse_dictionary(config, Path::new("cfg.json"), &header).ok()
}

#[test]
fn configurations_of_autoencoders_are_followed_or_refused() {
    let checkpoint = Checkpoint::open(&package("models/tiny-llama")).unwrap();
    let tokens = Rc::new(Tokens::open(checkpoint.folder()).unwrap().unwrap());
    let text = "sae lens = \"a\"\nhook loud at lens.site {\nlet f = encode(lens, h)\nf[feature = 3] = 1\nh = splice(lens, h, f)\n}\n\
                metric all = decode(lens, encode(lens, lens.site), lens.site) at [1]\n\
                measure all on \"Tom went\" with loud\n";
    let mut sources = Sources::default();
    let mut library = Library::standard(&mut sources).unwrap();
    let file = sources.add("a.steer", text);
    let (tree, found) = steer_lang::parse(file, text);
    assert!(found.is_empty(), "{found:?}");
    library.add_script(&tree.items).unwrap();
    let model = Rc::new(Model::new(library, checkpoint.config().value.clone()).unwrap());
    let mut seeds = vec![read(&package("cases/data/sae/cfg.json"))];
    seeds.extend(["layer_norm", "topk_rescaled", "gated", "older_topk"].map(|n| {
        let text = String::from_utf8(read(&package("files/saes").join(n).join("cfg.json"))).unwrap();
        text.replace("blocks.2.ln2.hook_normalized", "blocks.1.hook_resid_post").into_bytes()
    }));
    let words = [
        "0",
        "-1",
        "2.5",
        "1e300",
        "null",
        "true",
        "[]",
        "{}",
        "\"topk\"",
        "\"jumprelu\"",
        "\"layer_norm\"",
        "\"blocks.2.hook_mlp_out\"",
        "\"model.layers.1\"",
        "k",
        "architecture",
        "hook_name",
        "\"blocks.1.attn.hook_z\"",
    ];
    mutated("autoencoder", &seeds, &words, |i, config| {
        let Some(found) = dictionary(&config) else { return false };
        // Each check builds the model.
        if i % 4 > 0 {
            return true;
        }
        let files = Files(Rc::clone(&tokens), found);
        let (script, found) = check(&tree.items, Rc::clone(&model), &files, &sources, &[]);
        let drawn = steer::report::render(&found, &sources, false);
        assert!(!drawn.contains("bug in steer"), "{drawn}");
        script.is_some()
    });
}
