//! Ten thousand random changes to each kind of input: each is read or refused, soon, and nothing panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use steer::checkpoint::{Checkpoint, Config};
use steer::experiment::{PhaseOptions, Session, prepare_all};
use steer::parquet::parse_parquet;
use steer::tensors::gguf::Gguf;
use steer::tensors::{Header, parse_dictionary, parse_directions, parse_npy, parse_npz, torch_header};
use steer::tokens::Tokens;
use steer_compiler::elaborate::{
    Chat, Content, Dictionary, Encoded, Host, Library, Message, Model, Scope, Written, check,
};
use steer_lang::{Diagnostic, FileId, Severity, Sources, Span};
use steer_tests::cases::{listed, package, read};

const TIMES: usize = 10_000;

/// On a busy machine; alone, none takes half of it.
const LIMIT: Duration = Duration::from_secs(40);

/// Numbers that look random and are the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n.max(1)
    }

    /// One change or two: a word replaced by another, or bytes changed, removed, inserted, repeated.
    fn mutate(&mut self, seed: &[u8], words: &[&str]) -> Vec<u8> {
        let mut out = seed.to_vec();
        for _ in 0..1 + self.below(2) {
            let at = self.below(out.len() + 1);
            let end = (at + 1 + self.below(12)).min(out.len());
            match self.below(12) {
                0 if at < out.len() => out[at] = self.below(256) as u8,
                1 if at < end => drop(out.drain(at..end)),
                2 => out.insert(at, b"0123456789-{}[]()\",:.=+*|&!#\n"[self.below(29)]),
                3 if at < end => {
                    let part = out[at..end].to_vec();
                    let to = self.below(out.len());
                    out.splice(to..to, part);
                }
                4 => out.truncate(at.max(1)),
                _ => {
                    // A whole word, so that many texts still parse.
                    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.';
                    let from = out[..at].iter().rposition(|b| !is_word(*b)).map_or(0, |p| p + 1);
                    let to = out[at..].iter().position(|b| !is_word(*b)).map_or(out.len(), |p| at + p);
                    let word = words[self.below(words.len())];
                    out.splice(from..to, word.bytes());
                }
            }
        }
        out
    }
}

/// Feeds changed copies of the seeds to `f`, which says whether it was taken. Some must be, and some not.
fn mutated(seeds: &[Vec<u8>], words: &[&str], mut f: impl FnMut(usize, Vec<u8>) -> bool) {
    let clock = Instant::now();
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut taken = 0;
    for i in 0..TIMES {
        let text = random.mutate(&seeds[i % seeds.len()], words);
        let each = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| f(i, text.clone())));
        match result {
            Ok(yes) => taken += usize::from(yes),
            Err(_) => panic!("number {i} panics:\n{}", String::from_utf8_lossy(&text)),
        }
        let took = each.elapsed();
        assert!(took < Duration::from_secs(3), "number {i} took {took:?}:\n{}", String::from_utf8_lossy(&text));
        assert!(clock.elapsed() < LIMIT, "only {i} in {LIMIT:?}");
    }
    println!("{taken} of {TIMES} were taken, in {:.1} s", clock.elapsed().as_secs_f64());
    assert!(0 < taken && taken < TIMES, "{taken} of {TIMES} were taken");
}

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
    mutated(&scripts(), WORDS, |i, text| {
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
    mutated(&seeds, &words, |i, config| {
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

#[test]
fn files_of_tensors_are_read_or_refused() {
    let seeds = |names: &[&str]| -> Vec<Vec<u8>> { names.iter().map(|n| read(&package("files").join(n))).collect() };
    let path = Path::new("a");
    // Texts of the formats, and numbers that are lengths and opcodes.
    let words = [
        "data/0",
        "storage",
        "torch",
        "FloatStorage",
        "direction.1",
        "\u{1}",
        "\u{0}\u{0}",
        "}",
        "]",
        "R",
        "Q",
        "h\u{0}",
        "(",
        "t",
        ".",
    ];
    let torch = seeds(&["nested.pt", "legacy.pt", "one.pth", "unsafe.pt"]);
    mutated(&torch, &words, |_, bytes| {
        let Ok(header) = torch_header(&bytes, path) else { return false };
        header.tensors.values().all(|info| info.read(&bytes).is_ok())
    });
    mutated(&seeds(&["repeng.gguf", "generator.gguf", "with_zero.gguf"]), &words, |_, bytes| {
        let Ok(file) = Gguf::parse(&bytes) else { return false };
        assert!(file.tensors.iter().all(|t| bytes.get(t.bytes.clone()).is_some()));
        let _ = parse_directions(&bytes, path);
        true
    });
    mutated(&seeds(&["plain.npz", "packed.npz"]), &words, |i, bytes| {
        parse_npz(&bytes, path, Some(["a", "b"][i / 2 % 2])).is_ok()
    });
    mutated(&[read(&package("cases/data/names.parquet"))], &words, |_, bytes| parse_parquet(bytes, path).is_ok());
    mutated(&[read(&package("cases/data/right.npy"))], &["<f4", "<f8", "(", ",", "True", "9"], |_, bytes| {
        parse_npy(&bytes, path).is_ok()
    });
}

#[test]
fn configurations_are_built_or_refused() {
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for folder in ["models", "parity"] {
        for entry in std::fs::read_dir(package(folder)).unwrap().flatten() {
            let path = entry.path().join("config.json");
            if path.is_file() {
                seeds.push(read(&path));
            }
        }
    }
    seeds.push(read(&package("cases/configs/llama-70b.json")));
    seeds.sort();
    let words = [
        "0",
        "1",
        "-1",
        "2.5",
        "1e12",
        "1e300",
        "99999999999999999999",
        "null",
        "true",
        "[]",
        "{}",
        "\"x\"",
        "4096",
        "NaN",
    ];
    let library = Library::standard(&mut Sources::default()).unwrap();
    mutated(&seeds, &words, |_, bytes| {
        let Ok(config) = Config::parse(Path::new("config.json"), bytes) else { return false };
        let Ok(model) = Model::new(library.clone(), config.value) else { return false };
        match model.build(&[], &[], &Default::default(), &Scope::new()) {
            Ok(built) => {
                let lengths = built.plan.nodes.iter().filter_map(|n| n.ty.len());
                lengths.max().is_some()
            }
            Err(d) => {
                assert!(d.help.as_deref().is_none_or(|h| !h.contains("bug in steer")), "{d:?}");
                false
            }
        }
    });
}

#[test]
fn tokenizers_are_read_or_refused() {
    // One of the shipped kind with a small vocabulary, so that changes meet all of its parts, and one as it is.
    let whole = read(&package("models/tiny-llama/tokenizer.json"));
    let small = |vocab: usize| {
        let mut value: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        let map = value["model"]["vocab"].as_object().unwrap().clone();
        let kept: serde_json::Map<String, serde_json::Value> = map.into_iter().take(vocab).collect();
        let known = |pair: &serde_json::Value| {
            let parts: Vec<String> = match pair {
                serde_json::Value::String(s) => s.split(' ').map(str::to_string).collect(),
                other => other.as_array().unwrap().iter().map(|p| p.as_str().unwrap().to_string()).collect(),
            };
            parts.iter().all(|p| kept.contains_key(p)) && kept.contains_key(&parts.concat())
        };
        let merges: Vec<serde_json::Value> =
            value["model"]["merges"].as_array().unwrap().iter().filter(|m| known(m)).cloned().collect();
        value["model"]["merges"] = merges.into();
        value["model"]["vocab"] = kept.into();
        value.to_string().into_bytes()
    };
    let seeds = vec![small(40), small(300)];
    let words = ["0", "-1", "99999", "null", "true", "\"\"", "\"BPE\"", "ByteLevel", "[]", "{}"];
    mutated(&seeds, &words, |i, bytes| {
        let Ok(tokens) = Tokens::parse(Path::new("tokenizer.json"), &bytes) else { return false };
        for text in ["", "Tom went to the park.\n é🙂", " a  b"] {
            if let Ok(e) = tokens.encode(text, i % 2 == 0) {
                assert!(e.offsets.iter().all(|o| text.get(o.clone()).is_some()));
                let _ = tokens.decode(&e.ids);
                e.ids.iter().for_each(|id| drop(tokens.piece(*id)));
            }
            let _ = tokens.single(text);
        }
        let _ = tokens.check_fits(4);
        true
    });
}

#[test]
fn chat_templates_are_followed_or_refused() {
    let names = ["headers", "turns", "brackets", "thoughts"];
    let mut seeds: Vec<Vec<u8>> = names.iter().map(|n| read(&package("chat").join(format!("{n}.jinja")))).collect();
    let config: serde_json::Value =
        serde_json::from_slice(&read(&package("models/tiny-llama/tokenizer_config.json"))).unwrap();
    seeds.push(config["chat_template"].as_str().unwrap().into());
    // Some of these take time and room without end.
    seeds.push(
        b"{% macro f(x) %}{{ f(x + 'a') }}{% endmacro %}{% for m in messages %}{{ m.content[:1] }}{% endfor %}".into(),
    );
    seeds.push(
        b"{% for i in range(9999) %}{% for j in range(3) %}{{ i * j }}{% endfor %}{% endfor %}{{ 'a' * 9 }}".into(),
    );
    let words = [
        "messages",
        "message",
        "content",
        "role",
        "loop.last",
        "loop.index0",
        "bos_token",
        "none",
        "true",
        "0",
        "-1",
        "99999",
        "99999999999",
        "range",
        "namespace",
        "trim",
        "tojson",
        "length",
        "reverse",
        "upper",
        "for",
        "if",
        "endif",
        "set",
        "macro",
        "raise_exception",
        "split",
        "strip",
        "replace",
        "{{",
        "}}",
        "{%",
        "%}",
        "+",
        "*",
        "[::-1]",
        "generation",
    ];
    let mut tokens = Tokens::open(&package("chat/bytes")).unwrap().unwrap();
    let span = Span { file: FileId(0), start: 0, end: 0 };
    let said =
        [("system", "Be brief."), ("user", " Why? "), ("assistant", "So, "), ("user", "é🙂"), ("assistant", "Yes")];
    let message = |(role, content): &(&str, &str)| Message { role: (*role).into(), content: (*content).into() };
    let messages: Vec<Message> = said.iter().map(message).collect();
    mutated(&seeds, &words, |i, text| {
        let text = String::from_utf8_lossy(&text).into_owned();
        if tokens.set_chat_template(Path::new("chat_template.jinja"), &text).is_err() {
            return false;
        }
        let chat = Chat { messages: messages[i % 2..3 + i % 3].to_vec(), open: i % 5 < 3, span };
        let Ok(written) = tokens.chat(&chat) else { return false };
        let fits = |r: &(usize, usize)| written.text.get(r.0..r.1).is_some();
        assert!(written.encoded.ranges.iter().all(fits));
        let turns = written.encoded.turns.as_deref().unwrap_or_default();
        let places = turns.iter().flat_map(|t| match &t.content {
            Content::At(places) => places.as_slice(),
            _ => &[],
        });
        assert!(places.into_iter().all(fits));
        true
    });
}

#[test]
fn headers_of_weights_are_read_or_refused() {
    let text = r#"{"__metadata__":{"format":"pt"},"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}}"#;
    let file = |text: &[u8]| {
        let mut out = (text.len() as u64).to_le_bytes().to_vec();
        out.extend_from_slice(text);
        out.extend([7u8; 32]);
        out
    };
    let words =
        ["0", "-1", "18446744073709551615", "4", "null", "\"F16\"", "\"F4\"", "[]", "{}", "9223372036854775807"];
    // First the text alone, so that its length fits; then all of the file.
    mutated(&[text.as_bytes().to_vec()], &words, |_, text| Header::parse(&file(&text), Path::new("a")).is_ok());
    mutated(&[file(text.as_bytes())], &words, |_, bytes| Header::parse(&bytes, Path::new("a")).is_ok());
}
