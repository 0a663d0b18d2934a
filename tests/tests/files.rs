//! Files as PyTorch, NumPy, repeng and llama.cpp write them; `files/make.py` says what is in them.

use steer::checkpoint::Checkpoint;
use steer::engine::WeightSource;
use steer::tensors::{load, read_directions, torch_header};
use steer_compiler::plan::{Axis, Weight};
use steer_lang::Span;
use steer_tests::fixture::{folder, stored};

#[test]
fn every_tensor_is_what_was_written() {
    let expected = stored(&folder("files/expected.safetensors"));
    for (name, want) in &expected.tensors {
        let (file, key) = name.split_once(':').expect("a file and a key");
        let path = folder("files").join(file);
        let key = Some(key).filter(|k| !k.is_empty());
        if path.is_dir() {
            let read = Checkpoint::open(&path).and_then(|c| c.read_f32(key.unwrap_or_default()));
            assert_eq!(read.unwrap_or_else(|e| panic!("{name}: {e}")), want.data, "{name}");
            continue;
        }
        let got = load(&path, key).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(got, *want, "{name}");
    }
    assert!(expected.tensors.len() > 40);
}

/// 8-bit floats in blocks and rows, 4-bit floats in groups: bit for bit what transformers unpacks.
#[test]
fn packed_weights_are_unpacked_as_transformers_does() {
    let checkpoint = Checkpoint::open(&folder("files/packed")).unwrap();
    let expected = stored(&folder("files/packed/expected.safetensors"));
    assert_eq!(expected.tensors.len(), 4);
    let e = checkpoint.read_f32("e").unwrap_err();
    assert!(e.0.message.contains("`e` has 8-bit floats without scales"), "{e}");
    for (name, want) in &expected.tensors {
        let have = checkpoint.read_f32(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let apart = have.iter().zip(&want.data).position(|(a, b)| a.to_bits() != b.to_bits());
        assert_eq!((have.len(), apart), (want.data.len(), None), "{name}");
        assert_eq!(checkpoint.tensor_info(name).unwrap().shape, want.shape, "{name}");
        // Parts are those of the whole, wherever they are cut.
        let dims = want.shape.iter().enumerate().map(|(i, n)| vec![Axis::new(&format!("d{i}"), *n)]).collect();
        let weight = Weight { name: name.clone(), dims, span: Span::default() };
        let (n, step) = (want.data.len(), want.data.len() / 7 + 1);
        for start in (0..n).step_by(step) {
            for range in [start..n, 0..start, start..(start + step).min(n)] {
                let part = checkpoint.read_range(&weight, range.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
                assert_eq!(part, want.data[range.clone()], "{name} {range:?}");
            }
        }
    }
}

#[test]
fn a_pickle_that_would_run_something_is_refused_by_name() {
    let e = load(&folder("files/unsafe.pt"), Some("weights")).unwrap_err();
    assert!(e.0.message.contains("asks for `builtins.print`") || e.0.message.contains("__builtin__.print"), "{e}");
    assert!(e.0.help.unwrap().contains("nothing in the file is executed"));
    let e = load(&folder("files/nested.pt"), Some("inner.vectors.2")).unwrap_err();
    assert_eq!(e.0.help.as_deref(), Some("did you mean `inner.vectors.0`?"));
    let e = load(&folder("files/nested.pt"), None).unwrap_err();
    assert!(e.0.message.contains("holds 13 tensors, so one has to be named"), "{e}");
}

/// Safetensors count where a folder has both.
#[test]
fn safetensors_come_first() {
    let path = std::env::temp_dir().join(format!("steer-both-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    for file in ["config.json", "pytorch_model.bin"] {
        std::fs::copy(folder("files/whole").join(file), path.join(file)).unwrap();
    }
    assert!(Checkpoint::open(&path).unwrap().tensor_info("embed.weight").is_some());
    std::fs::copy(folder("files/expected.safetensors"), path.join("model.safetensors")).unwrap();
    assert!(Checkpoint::open(&path).unwrap().tensor_info("embed.weight").is_none());
    std::fs::remove_dir_all(&path).unwrap();
}

#[test]
fn tied_weights_share_their_storage() {
    let path = folder("files/whole/pytorch_model.bin");
    let header = torch_header(&std::fs::read(&path).unwrap(), &path).unwrap();
    assert_eq!(header.tensors["embed.weight"].bytes, header.tensors["head.weight"].bytes);
}

#[test]
fn control_vectors_say_which_directions_they_have() {
    let read = |name: &str| read_directions(&folder("files").join(name)).unwrap();
    assert_eq!(read("repeng.gguf").numbers, [1, 2, 3]);
    assert_eq!(read("generator.gguf").numbers, [1, 2, 3]);
    assert_eq!(read("with_zero.gguf").numbers, [0, 2]);
    assert_eq!(read("another.gguf").model.as_deref(), Some("gemma"));
}
