//! Too little memory is said before a weight is read, and is not the end of the process.

mod common;

use common::Folder;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use steer::engine::WeightSource;
use steer::experiment::{Needs, PhaseOptions, Session, SessionOptions, prepare_all};
use steer::rows::Sizes;
use steer_compiler::plan::{Axis, Size, Weight};
use steer_kernels::attention::CacheFormat;
use steer_lang::Sources;

fn open(text: &str, model: &str) -> Session {
    let options = SessionOptions { model: Some(model.into()), ..SessionOptions::default() };
    Session::open_text(Path::new("a.steer"), text.into(), &options, &mut Sources::default())
        .unwrap_or_else(|d| panic!("{d:#?}"))
}

fn needs(text: &str, options: &PhaseOptions) -> Needs {
    prepare_all(&open(text, "tiny-llama"), options).unwrap().needs(options).unwrap()
}

/// The elements of some axes of a weight.
fn entries(axes: &[Axis]) -> usize {
    axes.iter().map(|a| if let Size::Fixed(n) = a.size { n } else { 0 }).product()
}

/// Runs `steer` under limits of the shell.
fn limited(limits: &str, args: &str) -> Output {
    let command = format!("{limits}; exec {} {args}", env!("CARGO_BIN_EXE_steer"));
    Command::new("sh").args(["-c", &command]).output().unwrap()
}

/// One error, with this code, and its text in one line.
fn refused(out: &Output, code: &str) -> String {
    let text = String::from_utf8(out.stderr.clone()).unwrap();
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(text.lines().any(|line| line == code) && text.matches("  × ").count() == 1, "{text}");
    assert!(out.stdout.is_empty());
    text.split_whitespace().filter(|w| *w != "│").collect::<Vec<_>>().join(" ")
}

#[test]
fn weights_are_counted_as_they_are_packed() {
    let session = open("print 1\ngenerate \"Tom went to the park.\" { max: 2 }\n", "tiny-llama");
    let experiment = prepare_all(&session, &PhaseOptions::default()).unwrap();
    let plan = &experiment.prepared.plan;
    let sizes = Sizes::of(plan, &experiment.prepared.program, CacheFormat::F32);
    let held = &experiment.prepared.held;
    // Matrices are padded to a multiple of 16 outputs.
    let bytes = |w: &Weight| match w.dims.iter().map(|d| entries(d)).collect::<Vec<_>>()[..] {
        [out, inner] => out.next_multiple_of(16) * inner * 4,
        [n] => n * 4,
        _ => panic!("{w:?}"),
    };
    let bytes = plan.weights.iter().map(bytes).sum::<usize>() as u64;
    assert_eq!(held.bytes(), bytes);
    // Only norms are read before they are packed.
    let width = session.checkpoint.config().value["hidden_size"].as_u64().unwrap();
    assert_eq!(held.reading, width * 4);
    let widened =
        prepare_all(&session, &PhaseOptions { widen: true, ..PhaseOptions::default() }).unwrap().prepared.held;
    let table = plan.weights.iter().find(|w| w.name.contains("embed_tokens")).unwrap();
    assert_eq!((widened.bytes(), widened.reading), (bytes, entries(&table.axes()) as u64 * 4));
    // Keys and values.
    let config = &session.checkpoint.config().value;
    let of = |key: &str| config[key].as_u64().unwrap();
    let per_row = of("num_hidden_layers") * of("num_key_value_heads") * (of("hidden_size") / of("num_attention_heads"));
    assert_eq!(sizes.cached(), 2 * 4 * per_row);
    // Heads of 16 numbers: half of it, or 16 bytes with a scale of two in whole words.
    let in_format = |format| Sizes::of(plan, &experiment.prepared.program, format).cached();
    assert_eq!(in_format(CacheFormat::F16), 2 * 2 * per_row);
    assert_eq!(in_format(CacheFormat::Q8), 2 * per_row * 20 / 16);
    assert_eq!(sizes.states(), 0);
    assert!(sizes.row() > 4 * (of("intermediate_size") + of("hidden_size")));
}

#[test]
fn experts_are_counted_as_far_as_rows_choose_them() {
    let sizes = |text: &str| {
        let session = open(&format!("metric m = logit(\" the\")\n{text}\n"), "tiny-mixtral");
        // Of what is stored as it is computed with nothing is read apart.
        prepare_all(&session, &PhaseOptions { widen: true, ..PhaseOptions::default() }).unwrap().prepared.held
    };
    let plain = sizes("measure m on \"Tom went\"");
    let layers = plain.chosen.len() / 3;
    assert!(layers > 1 && plain.chosen.iter().all(|c| (c.count, c.by_row) == (8, 2)), "{:?}", plain.chosen);
    // One row chooses a quarter of the experts, four rows all of them.
    let experts = plain.weights(u64::MAX) - plain.weights(0);
    assert_eq!([1, 2, 4, 100].map(|rows| 4 * (plain.weights(rows) - plain.weights(0)) / experts), [1, 2, 4, 4]);
    assert!(plain.chosen.iter().all(|c| c.reading <= plain.reading), "one matrix of them is read at a time");
    let by_row = |text: &str| sizes(text).chosen[0].by_row;
    let routed = |body: &str| format!("route r at blocks[0].moe {{ {body} }}\nmeasure m on \"Tom went\" with r");
    assert_eq!(by_row(&routed("mask 3")), 2);
    assert_eq!(by_row(&routed("top_k = 5")), 5);
    // What an edit makes of the gates is not known before.
    assert_eq!(by_row(&routed("gates = gates + 0.1")), 8);
}

#[test]
fn rows_are_counted_once_and_pass_by_pass() {
    let whole = PhaseOptions::default();
    let story = "\"Tom went to the park. He found a dog and it was glad.\"";
    let other = "\"Lily was so happy that she sang to the cat and the dog all day.\"";
    let metric = "metric loss = cross_entropy()\n";
    let one = needs(&format!("{metric}measure loss on {story}\n"), &whole);
    let twice = needs(&format!("{metric}measure loss on {story}\nmeasure loss on {story}\n"), &whole);
    assert_eq!(one, twice);
    let two = needs(&format!("{metric}measure loss on {story}\nmeasure loss on {other}\n"), &whole);
    assert_eq!(two.weights, one.weights);
    assert!(two.rows > one.rows && two.caches > one.caches && two.buffers > one.buffers && two.outputs > one.outputs);
    let small = PhaseOptions { chunk: 4, ..PhaseOptions::default() };
    let cut = needs(&format!("{metric}measure loss on {story}\n"), &small);
    // What grows from pass to pass grows by half.
    assert_eq!((cut.rows, cut.caches, cut.outputs), (one.rows, one.caches * 3 / 2, one.outputs));
    assert!(cut.pass_rows == 4 && cut.buffers < one.buffers);
    let grown = needs(&format!("generate {story} {{ max: 100 }}\n"), &whole);
    assert!(grown.rows > one.rows + 90 && grown.caches > 4 * one.caches, "{grown:?}");
    let site = |name: &str| needs(&format!("capture {name} of {story} to \"a.safetensors\"\n"), &whole).outputs;
    assert!(site("blocks[*].resid.post") == 4 * site("blocks[0].resid.post"));
    assert_eq!(needs("print 1\n", &whole), Needs::default());
}

#[test]
fn inputs_of_convolutions_are_forgotten() {
    let caches = |max: usize| {
        let session = open(&format!("generate \"Tom went to the park.\" {{ max: {max} }}\n"), "tiny-mamba");
        prepare_all(&session, &PhaseOptions::default()).unwrap().needs(&PhaseOptions::default()).unwrap().caches
    };
    assert_eq!(caches(10), caches(1000));
}

#[test]
fn what_is_let_go_is_read_again() {
    for model in ["tiny-llama", "tiny-mixtral"] {
        let session = open("print 1\n", model);
        for weight in &session.script.plan.weights {
            let read = session.checkpoint.read(weight).unwrap();
            session.checkpoint.let_go(weight, 1..2);
            session.checkpoint.let_go(weight, 0..usize::MAX);
            assert_eq!(session.checkpoint.read(weight).unwrap(), read, "{}", weight.name);
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_limit_on_the_address_space_is_said_at_once() {
    let folder = Folder::new("memory");
    let few = folder.write("few.steer", b"model \"tiny-llama\"\ngenerate \"Tom went to the park.\" { max: 4 }\n");
    // One text, which cannot be cut into pieces.
    let many = b"model \"tiny-llama\"\ngenerate \"Tom went to the park.\" { max: 1000000, stop: false }\n";
    let many = folder.write("many.steer", many);
    let run = |script: &Path| limited("ulimit -v 1000000", &format!("run {} --threads 2", script.display()));
    let out = run(&few);
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    let clock = Instant::now();
    let text = refused(&run(&many), "E0702");
    assert!(clock.elapsed() < Duration::from_secs(20), "{:?}", clock.elapsed());
    for part in [
        "the run needs",
        "GB of memory, and the limit on the address space (`ulimit -v`) leaves",
        "GB for what later tokens read of 1000",
        "store what later tokens read with `--cache f16` or `--cache q8_0`, use shorter or fewer texts, generate fewer tokens, or raise the limit",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

/// Many texts in one cell, whose rows stand in one pass.
#[cfg(unix)]
#[test]
fn rows_of_a_pass_can_be_fewer() {
    let folder = Folder::new("passes");
    let names = ["Tom", "Lily", "Ben", "Mary", "Anna", "John", "Sam", "Max"];
    let verbs = ["saw", "met", "liked", "found", "heard", "helped", "asked", "told", "thanked", "hugged"];
    let texts =
        names.iter().flat_map(|a| verbs.iter().map(move |v| format!("\"{a} {v} a dog and a cat in the park\"")));
    let texts: Vec<String> = texts.collect();
    let script = format!("model \"tiny-llama\"\ndata d = [{}]\nmeasure mean logit(1000) over d\n", texts.join(", "));
    let script = folder.write("a.steer", script.as_bytes());
    let run = |chunk: usize| {
        refused(&limited("true", &format!("run {} --memory 10kB --chunk {chunk}", script.display())), "E0702")
    };
    let (many, few) = (run(4096), run(1));
    assert!(
        many.contains("rows in one pass") && many.contains("; take fewer rows in one pass with `--chunk`, use"),
        "{many}"
    );
    assert!(!few.contains("--chunk"), "{few}");
}

/// A checkpoint of the shape of a large model, with headers that are right and no data on the disk.
#[cfg(target_os = "linux")]
fn hollow(config: &Path, folder: &Folder) -> u64 {
    let copy = |from: &Path| folder.write(from.file_name().unwrap().to_str().unwrap(), &std::fs::read(from).unwrap());
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models/tiny-llama");
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        copy(&models.join(name));
    }
    folder.write("config.json", &std::fs::read(config).unwrap());
    let session = open("generate \"Tom went\" { max: 1 }\n", folder.path().to_str().unwrap());
    let mut header = serde_json::Map::new();
    let mut at = 0u64;
    for w in &session.script.plan.weights {
        let shape: Vec<usize> = w.dims.iter().map(|d| entries(d)).collect();
        let end = at + shape.iter().product::<usize>() as u64 * 2;
        header
            .insert(w.name.clone(), serde_json::json!({ "dtype": "BF16", "shape": shape, "data_offsets": [at, end] }));
        at = end;
    }
    let header = serde_json::Value::Object(header).to_string();
    let path = folder.write("model.safetensors", &common::safetensors(&header, &[]));
    let length = 8 + header.len() as u64 + at;
    std::fs::File::options().write(true).open(path).unwrap().set_len(length).unwrap();
    length
}

#[cfg(target_os = "linux")]
#[test]
fn a_model_that_cannot_fit_is_refused_without_reading_it() {
    let folder = Folder::new("hollow");
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/configs/llama-70b.json");
    let length = hollow(&config, &folder);
    assert!(length > 140_000_000_000, "{length}");
    let script = folder.write("a.steer", b"generate \"Tom went to the park.\" { max: 20 }\n");
    let args = format!("run {} --model {}", script.display(), folder.path().display());
    // A limit, in case that the machine has so much. The best of several: other tests run beside this one.
    let once = || {
        let clock = Instant::now();
        let text = refused(&limited("ulimit -d 8000000", &args), "E0702");
        (clock.elapsed(), text)
    };
    let (took, text) = (0..3).map(|_| once()).min().unwrap();
    for part in ["the run needs 142 GB of memory", "141 GB for the weights", "use a smaller model or one in fewer bits"]
    {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    println!("refused in {:.0} ms", took.as_secs_f64() * 1e3);
    // Its weights are bf16, which an option can widen.
    let leave = "leave out `--weights f32`, ";
    let wide = refused(&limited("ulimit -d 8000000", &format!("{args} --weights f32")), "E0702");
    assert!(wide.contains(&format!("; {leave}use a smaller model")) && !text.contains(leave), "{wide}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}
