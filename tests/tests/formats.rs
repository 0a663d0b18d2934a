//! Weights computed with as they are stored: the bits are those of the same weights as float32, for a prompt and token by token.

use std::sync::Arc;
use steer::checkpoint::Checkpoint;
use steer::engine::{Engine, Extend, Order, Piece, Run, WeightSource, Widened, WorkKind};
use steer::error::Error;
use steer::experiment::ModelSession;
use steer::rows::{Held, RowsEngine};
use steer::tensors::{Dtype, gguf::Blocks, widen};
use steer_compiler::backend::{DEFAULT, row_backend};
use steer_compiler::plan::rules::Options;
use steer_compiler::plan::{Size, Weight};
use steer_kernels::Format;
use steer_tests::fixture::{ENCODERS, checkpoints, folder, model, stored};
use steer_tests::run::{Compiled, Feed, all, compile_sites, feed, no_tensors};

/// The bits of all logits, all tokens in one pass or one by one.
fn logits(compiled: &Compiled, weights: Arc<dyn WeightSource>, tokens: &[u32], cuts: &[usize]) -> Vec<u32> {
    let backend = row_backend(DEFAULT).expect("a backend");
    let (plan, program) = (Arc::clone(&compiled.plan), Arc::clone(&compiled.program));
    let mut engine =
        RowsEngine::new(plan, program, backend, weights, no_tensors().as_ref()).unwrap_or_else(|e| panic!("{e}"));
    let outcome = feed(&mut engine, &[Feed::plain(tokens)], cuts, 1, &all).unwrap_or_else(|e| panic!("{e}"));
    (0..tokens.len()).flat_map(|p| outcome.value(0, 0, p).iter().map(|x| x.to_bits()).collect::<Vec<_>>()).collect()
}

/// Compares both ways to load, and says in which formats the matrices are and what they take.
fn both_ways(name: &str, session: &ModelSession, weights: Arc<dyn WeightSource>, tokens: &[u32]) -> Held {
    let whole = ENCODERS.iter().any(|e| name.starts_with(e));
    let compiled = compile_sites(&session.model, &["logits".into()], &Options::default());
    let widened: Arc<dyn WeightSource> = Arc::new(Widened(Arc::clone(&weights)));
    let expected = logits(&compiled, Arc::clone(&widened), tokens, &[]);
    assert!(expected.iter().all(|x| f32::from_bits(*x).is_finite()) && expected[0] != expected[1], "{name}");
    let one_by_one: Vec<usize> = (1..tokens.len()).collect();
    for cuts in [&[][..], if whole { &[] } else { &one_by_one }] {
        let have = logits(&compiled, Arc::clone(&weights), tokens, cuts);
        assert!(have == expected, "{name}: other bits in passes that end at {cuts:?}");
    }
    let held = Held::of(&compiled.plan, &compiled.program, weights.as_ref());
    let wide = Held::of(&compiled.plan, &compiled.program, widened.as_ref());
    assert!(held.bytes() <= wide.bytes() && held.reading <= wide.reading, "{name}: {held:?}, {wide:?}");
    held
}

#[test]
fn models_of_16_bits_have_the_bits_of_float32() {
    let mut seen = [0, 0];
    for name in checkpoints() {
        let at = folder("parity").join(&name);
        let session = model(&at);
        let tokens = stored(&at.join("expected.safetensors")).tokens;
        let compiled = compile_sites(&session.model, &["logits".into()], &Options::default());
        let formats = Held::of(&compiled.plan, &compiled.program, session.checkpoint.as_ref()).formats;
        let Some(which) = [Format::F16, Format::Bf16].iter().position(|f| formats.contains_key(f)) else { continue };
        both_ways(&name, &session, Arc::clone(&session.checkpoint) as _, &tokens);
        seen[which] += 1;
    }
    assert!(seen[0] >= 3 && seen[1] >= 10, "{seen:?}");
}

#[test]
fn files_of_blocks_have_the_bits_of_float32() {
    let mut formats = std::collections::BTreeSet::new();
    for name in ["quantized", "stored", "mixtral-top2", "gpt2-inner", "neox-parallel", "phi3-long"] {
        let path = folder("gguf").join(format!("{name}.gguf"));
        let session = model(&path);
        let tokens = stored(&path.with_extension("safetensors")).tokens;
        let held = both_ways(name, &session, Arc::clone(&session.checkpoint) as _, &tokens);
        formats.extend(held.formats.into_keys());
    }
    assert_eq!(formats.into_iter().collect::<Vec<_>>(), Format::ALL);
}

/// What `--time` says of products and experts: the formats of their weights, unless all are float32.
#[test]
fn time_is_told_by_format() {
    let lines = |name: &str, widened: bool| -> Vec<String> {
        let session = model(&folder(name));
        let compiled = compile_sites(&session.model, &["logits".into()], &Options::default());
        let mut weights = Arc::clone(&session.checkpoint) as Arc<dyn WeightSource>;
        if widened {
            weights = Arc::new(Widened(weights));
        }
        let backend = row_backend("cranelift").expect("a backend");
        let (plan, program) = (Arc::clone(&compiled.plan), Arc::clone(&compiled.program));
        let engine = RowsEngine::new(plan, program, backend, weights, no_tensors().as_ref());
        let mut engine = engine.unwrap_or_else(|e| panic!("{e}"));
        engine.measure();
        engine.begin(vec![Run { edits: Vec::new() }]).unwrap_or_else(|e| panic!("{e}"));
        let work = Extend { tokens: vec![1, 2, 3], reads: vec![vec![2]], ..Extend::default() };
        let spent = engine.extend(&[work]).unwrap_or_else(|e| panic!("{e}")).spent;
        let products = spent.iter().filter(|s| matches!(s.kind, WorkKind::Product | WorkKind::Experts));
        products.map(|s| s.name.to_string()).collect()
    };
    let mut seen = std::collections::BTreeSet::new();
    for name in ["gguf/quantized.gguf", "gguf/stored.gguf", "parity/olmoe-normed"] {
        for line in lines(name, false) {
            let (_, formats) = line.rsplit_once("], ").unwrap_or_else(|| panic!("{name}: no format in {line}"));
            let of = |f: &str| Format::ALL.into_iter().find(|known| known.name() == f);
            seen.extend(formats.split(' ').map(|f| of(f).unwrap_or_else(|| panic!("{name}: {line}"))));
        }
        for line in lines(name, true) {
            assert!(line.ends_with(']'), "{name}: {line}");
        }
    }
    assert!(seen.contains(&Format::F32) && seen.len() > 4, "{seen:?}");
}

/// A model's own vectors, and matrices of random blocks where rows are whole ones.
struct Random {
    checkpoint: Arc<Checkpoint>,
    blocks: Blocks,
    /// By weight, as a file has them.
    bytes: Vec<(String, Vec<u8>)>,
}

impl Random {
    fn new(checkpoint: Arc<Checkpoint>, compiled: &Compiled, blocks: Blocks) -> Self {
        let (block, size) = blocks.size();
        let mut state = 1u32;
        let mut next = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let mut bytes = Vec::new();
        for weight in &compiled.plan.weights {
            let lengths: Vec<usize> = weight.dims.iter().map(|d| length(d)).collect();
            if let [rows, columns] = lengths[..]
                && columns.is_multiple_of(block)
            {
                let mut data: Vec<u8> = (0..rows * columns / block * size).map(|_| next()).collect();
                for b in data.chunks_exact_mut(size) {
                    // Scales by which elements are about a tenth.
                    let (places, exponent) = match blocks {
                        Blocks::Q6K => (&[208][..], 0x04),
                        Blocks::Q4K | Blocks::Q5K => (&[0, 2][..], 0x04),
                        Blocks::Q8_0 => (&[0][..], 0x10),
                        _ => (&[0][..], 0x20),
                    };
                    places.iter().for_each(|i| b[i + 1] = b[i + 1] & 0x83 | exponent);
                }
                bytes.push((weight.name.clone(), data));
            }
        }
        Random { checkpoint, blocks, bytes }
    }

    fn of(&self, weight: &Weight) -> Option<&[u8]> {
        self.bytes.iter().find(|(name, _)| *name == weight.name).map(|(_, b)| b.as_slice())
    }
}

fn length(axes: &[steer_compiler::plan::Axis]) -> usize {
    axes.iter().map(|a| if let Size::Fixed(n) = a.size { n } else { 0 }).product()
}

impl WeightSource for Random {
    fn read(&self, weight: &Weight) -> Result<Vec<f32>, Error> {
        match self.of(weight) {
            Some(bytes) => Ok(widen(Dtype::Blocks(self.blocks), bytes)?.expect("blocks are read")),
            None => self.checkpoint.read(weight),
        }
    }

    fn elements(&self, weight: &Weight) -> Option<usize> {
        self.checkpoint.elements(weight)
    }

    fn piece(&self, weight: &Weight, _: usize) -> Option<Piece<'_>> {
        let format = Dtype::Blocks(self.blocks).format()?;
        Some(Piece { format, bytes: self.of(weight)?, order: Order::Same })
    }
}

/// Every matrix in one format, tables among them.
#[test]
fn each_format_has_the_bits_of_float32() {
    for blocks in [Blocks::Q8_0, Blocks::Q4_0, Blocks::Q5_0, Blocks::Q4K, Blocks::Q5K, Blocks::Q6K] {
        let path = folder("gguf").join("quantized.gguf");
        let session = model(&path);
        let compiled = compile_sites(&session.model, &["logits".into()], &Options::default());
        let random: Arc<dyn WeightSource> = Arc::new(Random::new(Arc::clone(&session.checkpoint), &compiled, blocks));
        // More rows than any kernel for few takes.
        let tokens: Vec<u32> = (0..31).map(|i| i * 7 % 40).collect();
        let held = both_ways(blocks.name(), &session, random, &tokens);
        let format = Dtype::Blocks(blocks).format().expect("one that is stored");
        assert!(held.formats.keys().all(|f| [Format::F32, format].contains(f)), "{held:?}");
        assert!(held.formats[&format] > held.formats[&Format::F32], "{held:?}");
    }
}

/// What the kernels decode is what a tensor that is read is: every block of a file with all kinds.
#[test]
fn decoded_blocks_are_those_that_are_read() {
    let bytes = std::fs::read(folder("gguf/blocks.gguf")).expect("a fixture");
    let gguf = steer::tensors::gguf::Gguf::parse(&bytes).expect("a sound file");
    let mut seen = 0;
    for t in &gguf.tensors {
        let Some(format) = t.dtype().format() else { continue };
        let want = t.info().read(&bytes).expect("is read").expect("blocks are read");
        let [rows, columns] = t.shape[..] else { panic!("{:?}", t.shape) };
        let packed = steer_kernels::Packed::from_blocks(format, rows, columns, &bytes[t.bytes.clone()]);
        let mut row = vec![0.0; columns];
        for (o, want) in want.chunks(columns).enumerate() {
            packed.copy_row(o, &mut row);
            // A level at its middle is 0 whatever the sign of its scale, which no sum tells from the other zero.
            let bits = |x: f32| (x + 0.0).to_bits();
            let differs = |k: &usize| bits(row[*k]) != bits(want[*k]) || bits(packed.get(o, *k)) != bits(want[*k]);
            let apart = (0..columns).find(differs);
            assert_eq!(apart, None, "{} of {}", o, t.name);
        }
        seen += 1;
    }
    assert_eq!(seen, 6);
}
