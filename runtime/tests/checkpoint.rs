//! Model folders: one file or shards, names with and without prefixes, and what is said of bad ones.

mod common;

use common::{Folder, safetensors, stories260k};
use std::sync::Arc;
use steer::checkpoint::{Checkpoint, find_model};
use steer::engine::WeightSource;
use steer::hub::Hub;
use steer::tokens::Tokens;
use steer_compiler::plan::{Axis, Weight};
use steer_lang::Span;

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// A file of tensors of two numbers each: 0 and 1, 2 and 3, ...
fn pairs(names: &[&str]) -> Vec<u8> {
    let entry = |(i, n): (usize, &&str)| {
        format!(r#""{n}":{{"dtype":"F32","shape":[2],"data_offsets":[{},{}]}}"#, i * 8, i * 8 + 8)
    };
    let header: Vec<String> = names.iter().enumerate().map(entry).collect();
    let data: Vec<f32> = (0..names.len() * 2).map(|x| x as f32).collect();
    safetensors(&format!("{{{}}}", header.join(",")), &floats(&data))
}

fn model(name: &str, weights: Option<&[u8]>) -> Folder {
    let folder = Folder::new(name);
    folder.write("config.json", br#"{"architectures": ["X"]}"#);
    if let Some(bytes) = weights {
        folder.write("model.safetensors", bytes);
    }
    folder
}

fn weight(name: &str, dims: &[&[(&str, usize)]]) -> Weight {
    let dims = dims.iter().map(|d| d.iter().map(|(n, s)| Axis::new(n, *s)).collect()).collect();
    Weight { name: name.into(), dims, span: Span::default() }
}

#[test]
fn a_folder_without_weights_can_be_checked() {
    let folder = model("config-only", None);
    let c = Checkpoint::open(folder.path()).unwrap();
    assert!(!c.has_weights());
    assert_eq!(c.config().architectures(), ["X"]);
    assert!(c.validate(&[weight("w", &[&[("d", 2)]])]).is_empty());
    let e = c.read_f32("w").unwrap_err();
    assert!(e.0.message.contains("has no weights"), "{e}");
    folder.write("adapter.bin", b"PK");
    let e = Checkpoint::open(folder.path()).unwrap().read_f32("w").unwrap_err();
    assert!(e.0.message.contains("nor pytorch_model.bin; `adapter.bin` would have to"), "{e}");
    folder.write("pytorch_model.bin", b"PK");
    let e = Checkpoint::open(folder.path()).unwrap_err();
    assert!(e.0.message.contains("not a sound zip archive"), "{e}");
}

#[test]
fn names_are_resolved_with_and_without_a_prefix() {
    let bare = model("bare", Some(&pairs(&["wte.weight", "h.0.ln_1.weight"])));
    let c = Checkpoint::open(bare.path()).unwrap();
    assert_eq!(c.resolve("transformer.wte.weight"), Some("wte.weight"));
    assert_eq!(c.resolve("wte.weight"), Some("wte.weight"));
    assert_eq!(c.read_f32("transformer.h.0.ln_1.weight").unwrap(), [2.0, 3.0]);
    let full = model("full", Some(&pairs(&["model.a", "model.b", "lm_head.weight"])));
    let c = Checkpoint::open(full.path()).unwrap();
    assert_eq!(
        (c.resolve("a"), c.resolve("model.b"), c.resolve("lm_head.weight")),
        (Some("model.a"), Some("model.b"), Some("lm_head.weight"))
    );
    assert_eq!(c.tensor_info("a").unwrap().shape, [2]);
    let mixed = model("mixed", Some(&pairs(&["model.a", "b"])));
    let c = Checkpoint::open(mixed.path()).unwrap();
    assert_eq!((c.resolve("a"), c.resolve("model.b")), (None, None), "a file with both is taken as it stands");
}

#[test]
fn weights_are_read_by_the_plans_shapes() {
    let folder = model("plan", Some(&pairs(&["e.0.w", "e.1.w", "e.2.w"])));
    let c = Checkpoint::open(folder.path()).unwrap();
    let experts = weight("e.{expert}.w", &[&[("expert", 3)], &[("a", 1), ("b", 2)]]);
    assert_eq!(c.read(&experts).unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert!(c.validate(std::slice::from_ref(&experts)).is_empty());
    assert_eq!(
        c.read(&weight("e.1.w", &[&[("x", 2)], &[("one", 1)]])).unwrap(),
        [2.0, 3.0],
        "a dimension of one entry is none"
    );

    let e = c.read(&weight("e.1.w", &[&[("x", 3)]])).unwrap_err();
    assert!(e.0.message.contains("`e.1.w` is [2] in") && e.0.message.ends_with("the model file says [3]"), "{e}");
    assert_eq!(e.0.code.0, "E0604");
    let too_many = weight("e.{expert}.w", &[&[("expert", 9)], &[("b", 2)]]);
    let found = c.validate(&[too_many, weight("e.2.ww", &[&[("b", 2)]])]);
    assert_eq!(found.len(), 1, "one declaration, one diagnostic");
    assert!(found[0].message.contains("no tensor `e.3.w` (and so for 6 more"), "{}", found[0].message);
    assert!(found[0].help.as_deref().unwrap().starts_with("the nearest name there is `e."));
}

#[test]
fn bad_values_and_types_name_the_tensor() {
    let header = r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"q":{"dtype":"I8","shape":[8],"data_offsets":[8,16]}}"#;
    let mut data = floats(&[1.0, f32::NAN]);
    data.extend([0; 8]);
    let folder = model("nan-weight", Some(&safetensors(header, &data)));
    let c = Checkpoint::open(folder.path()).unwrap();
    let e = c.read(&weight("w", &[&[("x", 2)]])).unwrap_err();
    assert!(e.0.message.starts_with("the weight `w` is not finite: NaN at [1]"), "{e}");
    let e = c.read_f32("q").unwrap_err();
    assert!(e.0.message.contains("`q` in") && e.0.message.contains("the element type I8"), "{e}");
    assert_eq!(c.validate(&[weight("q", &[&[("x", 8)]])])[0].code.0, "E0604");
}

#[test]
fn shards_are_found_by_their_index() {
    let folder = model("shards", None);
    folder.write("one.safetensors", &pairs(&["a", "unlisted"]));
    folder.write("two.safetensors", &pairs(&["b"]));
    let index = |text: &str| folder.write("model.safetensors.index.json", text.as_bytes());
    index(r#"{"metadata": {}, "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}"#);
    let c = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(c.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(c.read_f32("b").unwrap(), [0.0, 1.0]);
    assert_eq!(c.hashes().unwrap().len(), 3);

    let cases = [
        ("{", "is not JSON"),
        ("{}", "has no object `weight_map`"),
        (r#"{"weight_map": {}}"#, "names no tensor"),
        (r#"{"weight_map": {"a": 1}}"#, "gives no file name for `a`"),
        (r#"{"weight_map": {"a": "../one.safetensors"}}"#, "which is not in its folder"),
        (r#"{"weight_map": {"a": "/etc/passwd"}}"#, "which is not in its folder"),
        (r#"{"weight_map": {"a": ""}}"#, "which is not in its folder"),
        (
            r#"{"weight_map": {"a": "one.safetensors", "b": "x", "c": "y"}}"#,
            "names 3 files, but `x` and 1 more is not there",
        ),
        (r#"{"weight_map": {"b": "one.safetensors"}}"#, "says that `b` is in `one.safetensors`, and it is not"),
    ];
    for (text, what) in cases {
        index(text);
        let e = Checkpoint::open(folder.path()).unwrap_err();
        assert!(e.0.message.contains(what) && e.0.message.contains("index.json"), "{e}, wanted {what}");
    }
}

#[test]
fn what_is_no_model_folder_says_what_it_is() {
    let folder = model("no-model", Some(&pairs(&["w"])));
    let open = |name: &str| Checkpoint::open(&folder.path().join(name)).unwrap_err();
    assert!(open("nowhere").0.message.contains("there is no model folder"));
    assert!(open("model.safetensors").0.message.contains("is a file, and a model is a folder"));
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    assert!(open("empty").0.message.contains("has no config.json"));
    std::fs::create_dir_all(folder.path().join("odd/model.safetensors")).unwrap();
    folder.write("odd/config.json", b"{}");
    assert!(open("odd").0.message.contains("it is a folder"));
    folder.write("config.json", b"{\"a\": 1,}");
    assert_eq!(Checkpoint::open(folder.path()).unwrap_err().0.code.0, "E0502");
}

#[test]
fn a_trained_model_opens() {
    let Some(folder) = stories260k() else { return };
    let c: Arc<dyn WeightSource> = Arc::new(Checkpoint::open(&folder).unwrap());
    let w = c.read(&weight("model.embed_tokens.weight", &[&[("vocab", 512)], &[("d_model", 64)]])).unwrap();
    assert_eq!(w.len(), 512 * 64);
}

#[test]
fn shipped_models_are_found_by_name_and_fit_their_tokenizers() {
    let shelf = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models");
    for entry in std::fs::read_dir(shelf).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.starts_with("tiny-") {
            continue;
        }
        let folder = find_model(&name, None, &Hub::default()).unwrap().path;
        let c = Checkpoint::open(&folder).unwrap();
        let tokens = Tokens::open(&folder).unwrap().unwrap();
        let vocab = c.config().value["vocab_size"].as_u64().unwrap();
        assert!(tokens.misfit(vocab as usize).is_none());
        let text = "When Mary and John went to the shop, Mary gave a drink to";
        let ids = tokens.encode(text, true).unwrap().ids;
        assert_eq!(tokens.decode(&ids).unwrap(), text, "{name}");
        let mary = tokens.single(" Mary").unwrap();
        assert_eq!((tokens.piece(mary).as_str(), ids.contains(&mary)), (" Mary", true), "{name}");
        assert_eq!(tokens.decode_after(&ids[..ids.len() - 1], &ids[ids.len() - 1..]).unwrap(), " to");
    }
    let e = find_model("tiny-lama", None, &Hub::default()).unwrap_err();
    assert_eq!(e.0.help.as_deref(), Some("did you mean the shipped model `tiny-llama`?"));
}

/// Tensors with their types, shapes and bytes.
fn file(tensors: &[(&str, &str, &[usize], &[u8])]) -> Vec<u8> {
    let (mut header, mut data) = (Vec::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let (at, end) = (data.len(), data.len() + bytes.len());
        header.push(format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{at},{end}]}}"#));
        data.extend_from_slice(bytes);
    }
    safetensors(&format!("{{{}}}", header.join(",")), &data)
}

#[test]
fn weights_of_few_bits_are_read_with_their_scales() {
    // 1, -2, 0.5; rows beyond the first 128 have another scale, as the format says where the configuration does not.
    let ones = vec![0x38; 130];
    let halves = floats(&[2.0, 3.0]);
    let blocks = [0x12, 0xf7].repeat(8);
    let folder = model(
        "packed",
        Some(&file(&[
            ("a.weight", "F8_E4M3", &[130, 1], &ones),
            ("a.weight_scale_inv", "F32", &[2, 1], &halves),
            ("b", "F8_E4M3", &[3], &[0x38, 0xc0, 0x30]),
            ("g.weight", "F8_E4M3", &[2, 2], &[0x38; 4]),
            ("g.weight_scale", "F32", &[2, 1], &halves),
            ("h.weight", "F8_E4M3", &[2, 2], &[0x38; 4]),
            ("h.weight_scale", "F32", &[1], &floats(&[5.0])),
            ("e_blocks", "U8", &[1, 1, 1, 16], &blocks),
            ("e_scales", "U8", &[1, 1, 1], &[128]),
            ("f_blocks", "U8", &[1, 2, 16], &[0; 32]),
        ])),
    );
    let c = Checkpoint::open(folder.path()).unwrap();
    let a = c.read_f32("a.weight").unwrap();
    assert!(a[..128].iter().all(|x| *x == 2.0) && a[128..] == [3.0, 3.0]);
    assert_eq!(c.read_f32("g.weight").unwrap(), [2.0, 2.0, 3.0, 3.0]);
    assert_eq!(c.read_f32("h.weight").unwrap(), [5.0; 4]);
    // Without its scales a weight is not what it says.
    let b = c.validate(&[weight("b", &[&[("d", 3)]])]).remove(0);
    assert!(b.message.ends_with("has neither `b_scale_inv` nor `b_scale`"), "{b:?}");
    assert_eq!(c.read_f32("b").unwrap_err().0.message, b.message);
    assert_eq!(c.read_f32("e_blocks").unwrap(), [2.0, 1.0, 12.0, -12.0].repeat(8));
    let fits = |w: Weight| c.validate(&[w]);
    assert!(fits(weight("e_blocks", &[&[("expert", 1)], &[("d", 1)], &[("n", 32)]])).is_empty());
    let wrong = fits(weight("e_blocks", &[&[("expert", 1)], &[("d", 1)], &[("n", 16)]]));
    assert!(wrong[0].message.contains("`e_blocks` is [1, 1, 32] in"), "{wrong:?}");
    // Bytes alone are no weight.
    assert!(fits(weight("f_blocks", &[&[("a", 2)], &[("n", 16)]]))[0].message.contains("the element type U8"));
    // What is read takes its scales along.
    let square: &[&[(&str, usize)]] = &[&[("d", 2)], &[("e", 2)]];
    let all = [
        weight("a.weight", &[&[("d", 130)]]),
        weight("b", &[&[("d", 3)]]),
        weight("e_blocks", &[&[("n", 32)]]),
        weight("g.weight", square),
        weight("h.weight", square),
    ];
    let left = c.unread_tensors(&all).unwrap();
    assert!(left.message.contains("nothing reads the tensor `f_blocks`"), "{left:?}");
}

#[test]
fn quantized_in_ways_that_are_not_read_is_one_error_with_the_method() {
    let said = |method: &str, tensors: &[(&str, &str, &[usize], &[u8])]| {
        let folder = model("methods", Some(&file(tensors)));
        let quantized = format!(r#"{{"architectures": ["X"], "quantization_config": {{{method}}}}}"#);
        folder.write("config.json", quantized.as_bytes());
        let c = Checkpoint::open(folder.path()).unwrap();
        let d = c.validate(&[weight("q.weight", &[&[("x", 2)], &[("y", 4)]]), weight("n.weight", &[&[("x", 2)]])]);
        (d.len(), d.into_iter().map(|d| d.message).collect::<Vec<_>>().join("; "))
    };
    let norm = ("n.weight", "F32", &[2][..], &[0u8; 8][..]);
    let words = ("q.qweight", "I32", &[1, 2][..], &[0u8; 8][..]);
    for (method, by) in [(r#""quant_method": "gptq""#, "by the method `gptq`"), ("", "in a way that config.json")] {
        let (n, text) = said(method, &[words, ("q.qzeros", "I32", &[1], &[0; 4]), norm]);
        assert!(n == 1 && text.contains(by) && text.contains("`q.qweight` in place of `q.weight`"), "{text}");
    }
    let nibbles = ("q.weight", "U8", &[4, 1][..], &[0u8; 4][..]);
    let (n, text) =
        said(r#""quant_method": "bitsandbytes""#, &[nibbles, ("q.weight.absmax", "F32", &[1], &[0; 4]), norm]);
    assert!(n == 1 && text.contains("by the method `bitsandbytes`"), "{text}");
    let codes = ("q.codebooks", "F16", &[2][..], &[0u8; 4][..]);
    assert!(said(r#""quant_method": "aqlm""#, &[codes, norm]).1.contains("`q.codebooks`"));
    // A method does not hide what is merely not there, or of another shape.
    assert!(said(r#""quant_method": "gptq""#, &[norm]).1.contains("no tensor `q.weight`"));
    let (_, text) = said(r#""quant_method": "gptq""#, &[("q.weight", "F32", &[2, 2], &[0; 16]), norm]);
    assert!(text.contains("the model file says [2, 4]"), "{text}");
}

#[test]
fn scales_of_another_shape_are_refused() {
    let folder = model(
        "scales",
        Some(&file(&[
            ("a", "F8_E4M3", &[4, 4], &[0; 16]),
            ("a_scale_inv", "F32", &[2, 1], &[0; 8]),
            ("b_blocks", "U8", &[2, 2, 16], &[0; 64]),
            ("b_scales", "U8", &[2, 3], &[0; 6]),
            ("c", "F8_E4M3", &[2, 2], &[0x38; 4]),
            ("c_scale_inv", "BF16", &[], &[0, 0x40]),
            ("d", "F8_E4M3", &[2, 2], &[0x38; 4]),
            ("d_scale_inv", "I32", &[1, 1], &[0; 4]),
        ])),
    );
    let c = Checkpoint::open(folder.path()).unwrap();
    let said = |name: &str, dims: &[&[(&str, usize)]]| {
        let d = c.validate(&[weight(name, dims)]);
        assert_eq!(c.read_f32(name).unwrap_err().0.message, d[0].message);
        d[0].message.clone()
    };
    let a = said("a", &[&[("x", 4)], &[("y", 4)]]);
    assert_eq!(a, "`a_scale_inv` is [2, 1], and `a`, which is [4, 4], has [1, 1] blocks of [128, 128]");
    let b = said("b_blocks", &[&[("x", 2)], &[("y", 64)]]);
    assert_eq!(b, "`b_scales` is [2, 3], and `b_blocks` is [2, 2, 16]: there is no scale for each group");
    assert!(said("d", &[&[("x", 2)], &[("y", 2)]]).contains("`d_scale_inv` has the element type I32"));
    // One scale is of the whole tensor.
    assert_eq!(c.read_f32("c").unwrap(), [2.0; 4]);
}

#[test]
fn layers_that_predict_further_tokens_are_left_unread() {
    let names = ["model.layers.0.w", "model.layers.2.w", "model.layers.3.w", "model.norm.weight"];
    let bytes = [[0u8], [1], [2], [3]];
    let tensors: Vec<(&str, &str, &[usize], &[u8])> =
        names.iter().zip(&bytes).map(|(n, b)| (*n, "U8", &[1][..], &b[..])).collect();
    let folder = model("further", Some(&file(&tensors)));
    let config = |more: u32| {
        let text = format!(r#"{{"architectures": ["X"], "num_hidden_layers": 2, "num_nextn_predict_layers": {more}}}"#);
        folder.write("config.json", text.as_bytes());
        let c = Checkpoint::open(folder.path()).unwrap();
        c.unread_tensors(&[weight("model.norm.weight", &[&[("d", 1)]]), weight("model.layers.0.w", &[&[("d", 1)]])])
    };
    assert!(config(2).is_none());
    assert!(config(1).unwrap().message.contains("`model.layers.3.w`"));
}

#[test]
fn configurations_that_name_no_architecture_are_known_by_their_keys() {
    let name = |text: &str| {
        let folder = Folder::new("unnamed");
        folder.write("config.json", text.as_bytes());
        let c = Checkpoint::open(folder.path()).unwrap();
        c.config().architectures().first().map(|a| (*a).to_owned())
    };
    let original = |more: &str| name(&format!(r#"{{"d_model": 8, "n_layer": 2, "ssm_cfg": {{{more}}}}}"#)).unwrap();
    assert_eq!(original(""), "MambaLMHeadModel");
    assert_eq!(original(r#""layer": "Mamba2""#), "Mamba2LMHeadModel");
    assert_eq!(name(r#"{"d_model": 8, "n_layer": 2, "ssm_cfg": {}, "architectures": ["Y"]}"#).unwrap(), "Y");
    assert_eq!(name(r#"{"d_model": 8, "n_layer": 2}"#), None);
}
