//! Thousands of random changes to every kind of input: each is read or refused, and nothing panics.

mod common;

use common::{Folder, Random, safetensors};
use std::path::Path;
use steer::checkpoint::{Checkpoint, Config};
use steer::tensors::{Header, parse_npy};
use steer::tokens::Tokens;

const TIMES: usize = 10_000;

/// Calls `f` on changed copies of a seed, and expects that some are still read and some are not.
fn mutated(seed: &[u8], mut f: impl FnMut(Vec<u8>) -> bool) {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let read = (0..TIMES).filter(|_| f(random.mutate(seed))).count();
    assert!(0 < read && read < TIMES, "{read} of {TIMES} were read");
}

const HEADER: &str = r#"{"__metadata__":{"format":"pt"},"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},"c":{"dtype":"F16","shape":[],"data_offsets":[32,34]}}"#;

#[test]
fn safetensors_headers() {
    let folder = Folder::new("mutated-safetensors");
    folder.write("config.json", b"{}");
    let data = [7u8; 34];
    let mut turn = 0;
    // The text of the header alone, so that its length fits, and then the whole file.
    mutated(HEADER.as_bytes(), |header| {
        Header::parse(&safetensors(&String::from_utf8_lossy(&header), &data), Path::new("a")).is_ok()
    });
    mutated(&safetensors(HEADER, &data), |file| {
        let sound = Header::parse(&file, Path::new("a")).is_ok();
        turn += 1;
        if sound && turn % 4 == 0 {
            folder.write("model.safetensors", &file);
            let c = Checkpoint::open(folder.path()).unwrap();
            let names: Vec<String> = c.names().map(str::to_string).collect();
            for name in names {
                let _ = c.read_f32(&name);
            }
        }
        sound
    });
}

#[test]
fn npy_headers() {
    for order in ["False", "True"] {
        let header = format!("{{'descr': '<f4', 'fortran_order': {order}, 'shape': (2, 3), }}");
        let mut seed = b"\x93NUMPY\x01\x00".to_vec();
        seed.extend((header.len() as u16).to_le_bytes());
        seed.extend(header.bytes());
        seed.extend([0u8; 24]);
        mutated(&seed, |file| parse_npy(&file, Path::new("a.npy")).is_ok());
    }
}

#[test]
fn configurations() {
    let seed = br#"{"architectures": ["LlamaForCausalLM"], "vocab_size": 512, "eos_token_id": [1, 2], "rope_scaling": {"factor": 8.0}, "x": Infinity}"#;
    mutated(seed, |bytes| {
        let config = Config::parse(Path::new("config.json"), bytes);
        config.is_ok_and(|c| c.architectures().len() < 3)
    });
}

#[test]
fn tokenizers() {
    let seeds = [
        r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{"id":0,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]},"pre_tokenizer":null,"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{"<s>":{"id":"<s>","ids":[0],"tokens":["<s>"]}}},"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},"model":{"type":"BPE","unk_token":"<s>","fuse_unk":true,"byte_fallback":true,"vocab":{"<s>":0,"▁":1,"a":2,"b":3,"ab":4,"<0x41>":5},"merges":[["a","b"]]}}"#,
        r#"{"version":"1.0","added_tokens":[],"normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},"post_processor":{"type":"ByteLevel","trim_offsets":true},"decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{"a":0,"b":1,"Ġ":2,"ab":3},"merges":["a b"]}}"#,
        r#"{"version":"1.0","padding":{"strategy":{"Fixed":8},"direction":"Right","pad_id":0,"pad_type_id":0,"pad_token":"a"},"truncation":{"direction":"Right","max_length":4,"strategy":"LongestFirst","stride":0},"pre_tokenizer":{"type":"Split","pattern":{"Regex":"\\s+"},"behavior":"Isolated","invert":false},"decoder":{"type":"WordPiece","prefix":"--","cleanup":true},"model":{"type":"WordLevel","unk_token":"u","vocab":{"u":0,"ab":1}}}"#,
    ];
    let mut random = Random(42);
    let (mut read, mut failed) = (0, 0);
    for i in 0..TIMES {
        let bytes = random.mutate(seeds[i % seeds.len()].as_bytes());
        let Ok(tokens) = Tokens::parse(Path::new("tokenizer.json"), &bytes) else {
            failed += 1;
            continue;
        };
        read += 1;
        for text in ["", "ab ba\n é🙂", " a  b"] {
            if let Ok(e) = tokens.encode(text, i % 2 == 0) {
                let _ = tokens.decode(&e.ids);
                assert!(e.offsets.iter().all(|o| text.get(o.clone()).is_some()));
                let _ = tokens.decode_after(&e.ids[..e.ids.len() / 2], &e.ids[e.ids.len() / 2..]);
                e.ids.iter().for_each(|id| drop(tokens.piece(*id)));
            }
            let _ = tokens.single(text);
        }
        let _ = tokens.misfit(4);
    }
    assert!(read > 0 && failed > 0, "{read} read, {failed} refused");
}
