//! A phase: runs that one Plan serves, from their edits to the engine that executes them.

use super::warm::Warm;
use crate::checkpoint::Checkpoint;
use crate::engine::{Rounding, Run, RunEdit, TensorSource, WeightSource, Widened};
use crate::error::Error;
use crate::rows::Held;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use steer_compiler::elaborate::{OutputSpec, Place, RunSpec, Script};
use steer_compiler::plan::rules::{self, Changes, OptimizeError};
use steer_compiler::plan::{Edit, EditId, Plan, Tensor};
use steer_compiler::program::{Instr, Program};
use steer_compiler::schedule::{Explain, schedule};
use steer_kernels::Activations;
use steer_lang::{Diagnostic, Diagnostics, codes};

/// What decides how a phase is compiled and executed.
#[derive(Clone, Debug)]
pub struct PhaseOptions {
    /// `llvm`, `cranelift`, `interp` or `candle`.
    pub backend: String,
    pub rules: rules::Options,
    /// Rows that one pass of a prompt takes at most from each run.
    pub chunk: usize,
    /// Off only to test that sharing changes nothing.
    pub share: bool,
    pub seed: Option<u64>,
    /// The bytes that a run may take; what there is where nothing is said.
    pub memory: Option<u64>,
    pub rounding: Rounding,
    /// Whether passes say what their time is spent on.
    pub measure: bool,
    /// What stays in memory from one statement of a session to the next.
    pub warm: Option<Rc<Warm>>,
    /// Whether weights are widened to float32 when they are loaded, and not computed with as they are stored.
    pub widen: bool,
}

impl Default for PhaseOptions {
    fn default() -> Self {
        PhaseOptions {
            backend: steer_compiler::backend::DEFAULT.into(),
            rules: rules::Options::default(),
            chunk: 256,
            share: true,
            seed: None,
            memory: None,
            rounding: Rounding::default(),
            measure: false,
            warm: None,
            widen: false,
        }
    }
}

impl PhaseOptions {
    /// What values depend on, as the command line says it: what is not as it is by itself, a space before each.
    pub fn flags(&self) -> String {
        let (mut out, plain) = (String::new(), PhaseOptions::default());
        if let Some(seed) = self.seed {
            out += &format!(" --seed {seed}");
        }
        if self.rounding.cache != plain.rounding.cache {
            out += &format!(" --cache {}", self.rounding.cache.name());
        }
        if self.rounding.activations != plain.rounding.activations {
            out += &format!(" --activations {}", self.rounding.activations.name());
        }
        if self.backend != plain.backend {
            out += &format!(" --backend {}", self.backend);
        }
        out
    }

    /// The weights of a model as a phase takes them.
    pub fn weights(&self, checkpoint: &Arc<Checkpoint>) -> Arc<dyn WeightSource> {
        match self.widen {
            true => Arc::new(Widened(Arc::clone(checkpoint) as Arc<dyn WeightSource>)),
            false => Arc::clone(checkpoint) as Arc<dyn WeightSource>,
        }
    }
}

/// A compiled phase, before any weight is read.
#[derive(Clone)]
pub struct Prepared {
    pub plan: Arc<Plan>,
    pub program: Arc<Program>,
    pub explain: Arc<Explain>,
    /// What its weights take.
    pub held: Held,
    /// And the most that they would take as their files have them, in bytes.
    pub stored: u64,
    /// What each rule did: name and changes.
    pub rules: Vec<(&'static str, Changes)>,
    pub engine_runs: Vec<Run>,
    /// The sequences, those asked for first, then donors.
    pub runs: Vec<RunSpec>,
    /// What the outputs of the Plan were asked as.
    pub outputs: Rc<[OutputSpec]>,
    /// By run, where each of its `Run::edits` acts.
    pub places: Vec<Vec<Rc<Place>>>,
    pub warnings: Diagnostics,
}

impl Prepared {
    /// The same with some of the runs, in order and numbered anew; donors are among them.
    pub fn part(&self, runs: &[usize]) -> Prepared {
        let renumbered = |run: &usize| {
            let mut run = self.engine_runs[*run].clone();
            for e in &mut run.edits {
                e.donor = e.donor.and_then(|d| runs.binary_search(&d).ok());
            }
            run
        };
        Prepared {
            plan: Arc::clone(&self.plan),
            program: Arc::clone(&self.program),
            explain: Arc::clone(&self.explain),
            held: self.held.clone(),
            stored: self.stored,
            rules: Vec::new(),
            engine_runs: runs.iter().map(renumbered).collect(),
            runs: runs.iter().map(|r| self.runs[*r].clone()).collect(),
            outputs: Rc::clone(&self.outputs),
            places: runs.iter().map(|r| self.places[*r].clone()).collect(),
            warnings: Diagnostics::new(),
        }
    }
}

/// Lays the runs' edits over the model, optimizes and schedules.
pub fn prepare(
    (script, checkpoint): (&Script, &Arc<Checkpoint>),
    wanted: &[RunSpec],
    outputs: &[OutputSpec],
    options: &PhaseOptions,
) -> Result<Prepared, Diagnostics> {
    let mut runs: Vec<RunSpec> = wanted.to_vec();
    let mut known: HashMap<RunSpec, usize> = HashMap::new();
    for (i, run) in runs.iter().enumerate() {
        known.entry(run.clone()).or_insert(i);
    }
    // By run, by use: the run that it takes from.
    let mut donors: Vec<Vec<Option<usize>>> = Vec::new();
    let mut at = 0;
    while at < runs.len() {
        let mut mine = Vec::new();
        for u in runs[at].uses.clone() {
            mine.push(u.place.from.as_ref().map(|from| {
                *known.entry(from.run.clone()).or_insert_with(|| {
                    runs.push(from.run.clone());
                    runs.len() - 1
                })
            }));
        }
        donors.push(mine);
        at += 1;
    }
    let refs: Vec<&RunSpec> = runs.iter().collect();
    let (instances, slots) = script.instances(&refs);
    let built = script.model.build(&instances, outputs, &script.tensor_types, &script.globals).map_err(|d| vec![*d])?;
    let mut plan = built.plan;
    let mut changes: Vec<(&'static str, Changes)> = Vec::new();
    rules::optimize(&mut plan, &options.rules, &mut |rule, _, c| changes.push((rule.name, c.clone())))
        .map_err(|e| vec![rule_error(&e)])?;
    let (program, explain) = schedule(&plan, &options.rules).map_err(|d| vec![d])?;
    changes.extend(scheduled(&program, &options.rules));
    let mut engine_runs = Vec::new();
    let mut places = Vec::new();
    for ((run, slots), donors) in runs.iter().zip(&slots).zip(&donors) {
        let mut edits = Vec::new();
        let mut of = Vec::new();
        for ((u, ids), donor) in run.uses.iter().zip(slots).zip(donors) {
            for &id in ids {
                let edit = EditId(id as u32);
                let own = &script.edits[u.edit].params;
                // The edit's own stand first, then those of the script that it reads.
                let params = plan.edits[id].params.iter().enumerate().map(|(slot, name)| {
                    let given = if slot < own.len() { u.args.get(slot).copied() } else { script.param(name) };
                    given.unwrap_or(0.0) as f32
                });
                edits.push(RunEdit { edit, params: params.collect(), donor: *donor });
                of.push(Rc::clone(&u.place));
            }
        }
        engine_runs.push(Run { edits });
        places.push(of);
    }
    let mut warnings = Diagnostics::new();
    let unread: Vec<EditId> = changes.iter().flat_map(|(_, c)| c.unread_edits.iter().copied()).collect();
    for (e, site) in lost(&plan, &unread) {
        warnings.push(
            Diagnostic::warning(codes::UNREAD_EDIT, format!("nothing reads what `{}` does at {site}", e.name))
                .at(e.span, "its effect is lost")
                .help("read something that comes after it, or edit an earlier site"),
        );
    }
    if options.widen && options.rounding.activations == Activations::Q8 {
        let message = "`--activations q8_0` is of weights as they are stored, which `--weights f32` widens";
        return Err(vec![Diagnostic::error(codes::COMMAND, message).help("leave one of them out")]);
    }
    let held = Held::of(&plan, &program, options.weights(checkpoint).as_ref());
    let stored = match options.widen {
        true => most(&Held::of(&plan, &program, checkpoint.as_ref())),
        false => most(&held),
    };
    if options.rounding.activations == Activations::Q8 && !held.formats.keys().any(|f| f.is_levels()) {
        let message = "no weights are kept in whole numbers, so `--activations q8_0` rounds nothing";
        warnings.push(
            Diagnostic::warning(codes::COMMAND, message)
                .help("Q8_0, Q4_0, Q5_0, Q4_K, Q5_K and Q6_K are, as they are stored"),
        );
    }
    Ok(Prepared {
        held,
        stored,
        plan: Arc::new(plan),
        program: Arc::new(program),
        explain: Arc::new(explain),
        rules: changes,
        engine_runs,
        runs,
        outputs: outputs.into(),
        places,
        warnings,
    })
}

/// What weights take while the largest is read.
pub fn most(held: &Held) -> u64 {
    held.bytes().saturating_add(held.reading)
}

/// Edits that nothing reads, with the place to name: of a route whose parts are all lost the mixture, once.
fn lost<'p>(plan: &'p Plan, unread: &[EditId]) -> Vec<(&'p Edit, &'p str)> {
    let mut out: Vec<(&Edit, &str)> = Vec::new();
    for edit in unread {
        let e = &plan.edits[edit.0 as usize];
        let same = |o: &Edit| o.name == e.name && o.route == e.route;
        let whole = plan.edits.iter().enumerate().all(|(i, o)| !same(o) || unread.contains(&EditId(i as u32)));
        let site = e.route.as_ref().filter(|_| whole).unwrap_or(&e.site);
        if !out.iter().any(|(o, s)| same(o) && *s == site) {
            out.push((e, site));
        }
    }
    out
}

/// What the scheduler's rules did.
fn scheduled(program: &Program, options: &rules::Options) -> Vec<(&'static str, Changes)> {
    let stretches = &program.stretches;
    let narrow = stretches.iter().filter(|s| s.narrow).count();
    let calls = stretches.iter().flat_map(|s| &s.instrs).filter(|i| matches!(i, Instr::Kernel(_))).count();
    let narrowed = format!("{narrow} of {} stretches on the rows that something reads", stretches.len());
    let fused =
        format!("{calls} calls of {} kernels do all that is no product and reads its own row", program.kernels.len());
    let did = [(rules::NARROW, narrow, narrowed), (rules::FUSE, calls, fused)].into_iter();
    let did = did.filter(|(rule, count, _)| options.applies(rule) && *count > 0);
    did.map(|(rule, count, note)| (rule.name, Changes { count, notes: vec![note], ..Changes::default() })).collect()
}

fn rule_error(e: &OptimizeError) -> Diagnostic {
    match e {
        OptimizeError::UnknownRule { nearest, .. } => {
            Diagnostic::error(codes::COMMAND, e.to_string()).help(match nearest {
                Some(n) => format!("did you mean `{n}`?"),
                None => format!("there are {}", rules::RULES.iter().map(|r| r.name).collect::<Vec<_>>().join(", ")),
            })
        }
        OptimizeError::Broken { .. } => Diagnostic::error(codes::BACKEND, e.to_string()).help("this is a bug in steer"),
    }
}

/// Values of tensors by name.
#[derive(Clone, Debug, Default)]
pub struct TensorValues(pub HashMap<String, Arc<[f32]>>);

impl TensorSource for TensorValues {
    fn read(&self, tensor: &Tensor) -> Result<Arc<[f32]>, Error> {
        self.0.get(&tensor.name).cloned().ok_or_else(|| {
            Error::new(codes::BACKEND, format!("the tensor `{}` was not computed", tensor.name))
                .help("this is a bug in steer")
        })
    }
}
