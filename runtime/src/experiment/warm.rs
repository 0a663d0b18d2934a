//! What a session keeps of one model in memory from one statement to the next: packed weights, engines, derived tensors, and
//! what was read of runs. Nothing of it changes a result: it is found by all that a value depends on.

use super::keys::{Keys, key_of};
use super::live::Ask;
use super::phase::{PhaseOptions, Prepared};
use super::session::Session;
use crate::engine::{Did, Engine, RowReceipt};
use crate::rows::PackedWeights;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use steer_compiler::elaborate::{OutputSpec, RowRead};
use steer_compiler::plan::{Plan, print};
use steer_lang::Span;

/// As many engines wait for another statement that they can execute.
const ENGINES: usize = 3;
/// Values of runs that are kept, in bytes; those that were read longest ago go first.
const VALUES: usize = 512 << 20;

/// See the module.
#[derive(Default)]
pub struct Warm {
    packed: RefCell<PackedWeights>,
    engines: RefCell<VecDeque<Waiting>>,
    tensors: RefCell<Tensors>,
    runs: RefCell<Runs>,
}

impl std::fmt::Debug for Warm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Warm({} engines)", self.engines.borrow().len())
    }
}

/// Tensors by the key of their definition and their own name.
type Tensors = HashMap<(u64, String), Arc<[f32]>>;

/// An engine with what it is for.
type Waiting = (EngineUse, Box<dyn Engine>);

/// What was read of runs, by the key of the run.
#[derive(Default)]
struct Runs {
    kept: HashMap<u64, KeptRun>,
    /// The one that was read last stands last.
    order: VecDeque<u64>,
    bytes: usize,
}

#[derive(Default)]
struct KeptRun {
    /// By output and position.
    values: HashMap<(u64, usize), Arc<[f32]>>,
    /// By what was asked: what its edits did, with their number among the run's and the position.
    did: HashMap<u64, Vec<(usize, usize, Did)>>,
}

/// What is known of the runs of a phase before it begins.
#[derive(Default)]
pub struct Recalled {
    /// By run, output and position.
    pub values: HashMap<(usize, usize, usize), Arc<[f32]>>,
    pub receipts: Vec<RowReceipt>,
}

impl Warm {
    /// The matrices that engines have packed so far.
    pub fn packed(&self) -> PackedWeights {
        self.packed.borrow().clone()
    }

    pub fn keep_packed(&self, packed: &PackedWeights) {
        let new = packed.iter().map(|(key, m)| (key.clone(), Arc::clone(m)));
        self.packed.borrow_mut().extend(new);
    }

    /// The memory that packed matrices take.
    pub fn bytes(&self) -> u64 {
        self.packed.borrow().values().map(|m| (m.bytes_of_each() * m.count_read()) as u64).sum()
    }

    /// An engine for this use, if one waits.
    pub fn engine(&self, of: &EngineUse) -> Option<Box<dyn Engine>> {
        let mut engines = self.engines.borrow_mut();
        let at = engines.iter().position(|(known, _)| known.is(of))?;
        engines.remove(at).map(|(_, engine)| engine)
    }

    /// Lets an engine wait, without its caches.
    pub fn keep_engine(&self, of: EngineUse, mut engine: Box<dyn Engine>) {
        if engine.begin(Vec::new()).is_ok() {
            let mut engines = self.engines.borrow_mut();
            engines.push_back((of, engine));
            if engines.len() > ENGINES {
                engines.pop_front();
            }
        }
    }

    /// A derived tensor by its own name.
    pub fn tensor(&self, keys: &Keys, name: &str) -> Option<Arc<[f32]>> {
        self.tensors.borrow().get(&tensor_key(keys, name)?).cloned()
    }

    pub fn keep_tensor(&self, keys: &Keys, name: &str, value: &Arc<[f32]>) {
        if let Some(key) = tensor_key(keys, name) {
            let mut tensors = self.tensors.borrow_mut();
            let bytes: usize = tensors.values().map(|v| v.len() * size_of::<f32>()).sum();
            if bytes > VALUES {
                // Most are of definitions that are others by now.
                tensors.clear();
            }
            tensors.insert(key, Arc::clone(value));
        }
    }

    /// Takes the values that are known out of what is asked of runs that do not grow. A run with edits is known where just
    /// that was asked of it before: what its edits did to which rows depends on what is read.
    pub fn recall(&self, session: &Session, prepared: &Prepared, asks: &mut [Ask]) -> Recalled {
        let (mut out, mut runs) = (Recalled::default(), self.runs.borrow_mut());
        let outputs = output_keys(prepared, &session.keys);
        let mut known = RunKeys::new(session, prepared);
        for (run, ask) in asks.iter_mut().enumerate() {
            if !may_be_known(prepared, run, ask) {
                continue;
            }
            let Some(kept) = known.of(run).and_then(|key| runs.read(key)) else { continue };
            let wanted = || {
                let reads = ask.reads.iter().enumerate();
                reads.flat_map(|(output, rows)| rows.iter().map(move |p| (output, *p)))
            };
            let value = |(output, p): (usize, usize)| {
                let value = kept.values.get(&(outputs[output]?, p))?;
                Some(((run, output, p), Arc::clone(value)))
            };
            let Some(values) = wanted().map(value).collect::<Option<Vec<_>>>() else { continue };
            let edits = &prepared.engine_runs[run].edits;
            if !edits.is_empty() {
                let Some(did) = asked_key(&outputs, ask).and_then(|asked| kept.did.get(&asked)) else { continue };
                out.receipts.extend(did.iter().filter_map(|(edit, position, did)| {
                    Some(RowReceipt { run, edit: edits.get(*edit)?.edit, position: *position, did: *did })
                }));
            }
            out.values.extend(values);
            ask.reads.iter_mut().for_each(Vec::clear);
        }
        out
    }

    /// Keeps what was read of runs that do not grow.
    pub fn keep_runs(
        &self,
        session: &Session,
        prepared: &Prepared,
        asks: &[Ask],
        values: &HashMap<(usize, usize, usize), Arc<[f32]>>,
        receipts: &[RowReceipt],
    ) {
        let mut runs = self.runs.borrow_mut();
        let outputs = output_keys(prepared, &session.keys);
        let mut known = RunKeys::new(session, prepared);
        let keys: Vec<Option<u64>> =
            (0..asks.len()).map(|run| known.of(run).filter(|_| may_be_known(prepared, run, &asks[run]))).collect();
        for (&(run, output, position), value) in values {
            if let (Some(Some(key)), Some(output)) = (keys.get(run), outputs[output]) {
                runs.keep(*key, (output, position), value);
            }
        }
        for (run, ask) in asks.iter().enumerate() {
            let (Some(key), Some(asked)) = (keys[run], asked_key(&outputs, ask)) else { continue };
            let edit = |r: &RowReceipt| prepared.engine_runs[run].edits.iter().position(|e| e.edit == r.edit);
            let own = receipts.iter().filter(|r| r.run == run);
            let did = own.filter_map(|r| Some((edit(r)?, r.position, r.did))).collect();
            runs.kept.entry(key).or_default().did.insert(asked, did);
        }
        runs.forget();
    }
}

/// Whether a run that does not grow is one that can be known: the receipts of a donor's edits are not its own.
fn may_be_known(prepared: &Prepared, run: usize, ask: &Ask) -> bool {
    let donors = prepared.engine_runs[run].edits.iter().filter_map(|e| e.donor);
    let bare = |donor: usize| prepared.engine_runs[donor].edits.is_empty();
    ask.grow.is_none() && ask.reads.iter().any(|r| !r.is_empty()) && donors.into_iter().all(bare)
}

/// All that is asked of a run.
fn asked_key(outputs: &[Option<u64>], ask: &Ask) -> Option<u64> {
    let reads = ask.reads.iter().zip(outputs).filter(|(rows, _)| !rows.is_empty());
    let mut reads: Vec<(u64, &[usize])> = reads.map(|(rows, key)| Some(((*key)?, &rows[..]))).collect::<Option<_>>()?;
    reads.sort_unstable();
    Some(key_of(reads))
}

impl Runs {
    /// What is known of a run, which is used now.
    fn read(&mut self, key: u64) -> Option<&KeptRun> {
        let kept = self.kept.get(&key)?;
        self.order.retain(|k| *k != key);
        self.order.push_back(key);
        Some(kept)
    }

    fn keep(&mut self, key: u64, at: (u64, usize), value: &Arc<[f32]>) {
        let kept = self.kept.entry(key).or_insert_with(|| {
            self.order.push_back(key);
            KeptRun::default()
        });
        if kept.values.insert(at, Arc::clone(value)).is_none() {
            self.bytes += value.len() * size_of::<f32>();
        }
    }

    /// Forgets what was used longest ago, where it is too much.
    fn forget(&mut self) {
        while self.bytes > VALUES
            && let Some(oldest) = self.order.pop_front()
        {
            let gone = self.kept.remove(&oldest).unwrap_or_default();
            self.bytes -= gone.values.values().map(|v| v.len() * size_of::<f32>()).sum::<usize>();
        }
    }
}

fn tensor_key(keys: &Keys, name: &str) -> Option<(u64, String)> {
    let own = name.split('[').next().unwrap_or(name);
    Some((keys.name(own)?, name.to_owned()))
}

/// What an engine is found by: its Plan without places in texts, how it computes, and its tensors.
pub struct EngineUse {
    key: u64,
    tensors: Vec<Arc<[f32]>>,
}

impl EngineUse {
    pub fn of(plan: &Plan, tensors: &HashMap<String, Arc<[f32]>>, options: &PhaseOptions) -> Self {
        let mut plan = plan.clone();
        plan.weights.iter_mut().for_each(|w| w.span = Span::default());
        plan.edits.iter_mut().for_each(|e| e.span = Span::default());
        plan.nodes.iter_mut().for_each(|n| n.span = Span::default());
        let how = (&options.backend, options.rounding, options.share, options.measure, options.widen);
        let tensors = plan.tensors.iter().filter_map(|t| tensors.get(&t.name)).map(Arc::clone).collect();
        EngineUse { key: key_of((print(&plan), how)), tensors }
    }

    fn is(&self, other: &EngineUse) -> bool {
        let bits =
            |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
        let same = |(a, b): (&Arc<[f32]>, &Arc<[f32]>)| Arc::ptr_eq(a, b) || bits(a, b);
        self.key == other.key
            && self.tensors.len() == other.tensors.len()
            && self.tensors.iter().zip(&other.tensors).all(same)
    }
}

/// By output: what is read there; `None` where that is not known by a key.
fn output_keys(prepared: &Prepared, keys: &Keys) -> Vec<Option<u64>> {
    let key = |spec: &OutputSpec| match spec {
        OutputSpec::Site { name, before } => Some(key_of(("site", name, before))),
        OutputSpec::Logit(token) => Some(key_of(("logit", token))),
        OutputSpec::Row(read) => Some(key_of(("row", read_key(keys, read)?))),
        OutputSpec::Lens(lens) => Some(key_of(("lens", read_key(keys, &lens.read)?, lens.norm))),
        OutputSpec::LensLogit(lens, token) => Some(key_of(("lens", read_key(keys, &lens.read)?, lens.norm, token))),
    };
    prepared.outputs.iter().map(key).collect()
}

/// What a metric reads: its place, with what names stand for there.
fn read_key(keys: &Keys, read: &RowRead) -> Option<u64> {
    Some(key_of((keys.place(read.span)?, format!("{:?}", read.names))))
}

/// Keys of runs: equal where their values are.
struct RunKeys<'a> {
    session: &'a Session,
    prepared: &'a Prepared,
    /// `None` inside: not to be known.
    known: HashMap<usize, Option<u64>>,
}

impl<'a> RunKeys<'a> {
    fn new(session: &'a Session, prepared: &'a Prepared) -> Self {
        RunKeys { session, prepared, known: HashMap::new() }
    }

    fn of(&mut self, run: usize) -> Option<u64> {
        if let Some(known) = self.known.get(&run) {
            return *known;
        }
        let key = self.find(run);
        self.known.insert(run, key);
        key
    }

    fn find(&mut self, run: usize) -> Option<u64> {
        let (keys, prepared) = (&self.session.keys, self.prepared);
        let spec = &prepared.runs[run];
        let sequence = spec.sequence();
        let mut parts = Vec::new();
        for u in &spec.uses {
            let edit = self.session.script.edits.get(u.edit)?;
            // What its name means, and what stands at its place: that of one without a name.
            let own = (keys.name(&edit.name), keys.place(edit.span)?);
            let args: Vec<u64> = u.args.iter().map(|a| a.to_bits()).collect();
            parts.push(key_of((own, format!("{:?} {:?}", edit.sites, edit.bound), args)));
        }
        for (edit, place) in prepared.engine_runs[run].edits.iter().zip(&prepared.places[run]) {
            let params: Vec<u32> = edit.params.iter().map(|p| p.to_bits()).collect();
            let donor = match edit.donor {
                Some(donor) => Some(self.of(donor)?),
                None => None,
            };
            let by = place.from.as_ref().map(|from| format!("{:?}", from.by));
            parts.push(key_of((params, donor, by, place.on.rows(&sequence))));
        }
        Some(key_of((&spec.encoded.tokens, parts)))
    }
}
