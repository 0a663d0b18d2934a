//! The hooks of a script as functions that other programs call: kernels, constants, an object file and its header.

use super::derive::tensors;
use super::phase::PhaseOptions;
use super::session::{Session, one};
use super::statements::{Experiment, broken, prepare_all};
use crate::engine::WeightSource;
use crate::error::Error;
use crate::rows::{Constants, PackedWeights};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;
use steer_compiler::backend::llvm::{ObjectArg, ObjectHook, ObjectLayer, object, outside};
use steer_compiler::backend::row_backend;
use steer_compiler::elaborate::{EditDecl, Script};
use steer_compiler::plan::{Edit, EditId};
use steer_compiler::program::KernelArg;
use steer_compiler::schedule::{HookKernel, hook_kernel};
use steer_kernels::Isa;
use steer_lang::{Diagnostic, Diagnostics, Span, codes};

/// An object file, and the header that declares what is in it.
pub struct Library {
    pub object: Vec<u8>,
    pub header: String,
    /// The functions, each with what it is.
    pub functions: Vec<(String, String)>,
}

/// A function: a hook at one kind of site, with its layers.
struct Function {
    name: String,
    hook: String,
    /// Where the hook is declared. Those in sweeps may share a name.
    span: Span,
    /// The site with `layer` for the number of the layer.
    site: String,
    about: String,
    axes: Vec<(String, usize)>,
    params: Vec<(String, f32)>,
    /// One a layer, in the order of `layers`.
    edits: Vec<EditId>,
    layers: Vec<ObjectLayer>,
    position: bool,
}

/// Compiles the hooks that the statements of a script use, with what they read of the model and its runs. `name` is that of
/// the files, as an identifier of C.
pub fn library(session: &Session, options: &PhaseOptions, isa: Isa, name: &str) -> Result<Library, Diagnostics> {
    let experiment = prepare_all(session, options)?;
    let plan = &experiment.prepared.plan;
    if plan.edits.is_empty() {
        let e = Diagnostic::error(codes::BACKEND, "the script has no hook that a statement uses");
        return Err(vec![e.help("use the hook in a statement, such as `generate \"...\" with NAME`")]);
    }
    let kernels: Vec<HookKernel> = (0..plan.edits.len() as u32)
        .map(|e| hook_kernel(plan, EditId(e)))
        .collect::<Result<_, _>>()
        .map_err(|d: Diagnostic| vec![d])?;
    for (edit, kernel) in plan.edits.iter().zip(&kernels) {
        if let Some(op) = outside(&kernel.kernel) {
            let e = format!("the hook `{}` computes `{op}`, which an object file has no code for", edit.name);
            return Err(vec![Diagnostic::error(codes::BACKEND, e).at(edit.span, "this hook cannot be built")]);
        }
    }
    let mut functions = functions(session, &experiment, &kernels).map_err(|d| vec![d])?;
    name_all(&mut functions).map_err(|d| vec![d])?;
    let wanted: BTreeSet<String> = plan.tensors.iter().map(|t| t.name.clone()).collect();
    let values = tensors(session, &wanted, options)?;
    let weights: Arc<dyn WeightSource> = Arc::clone(&session.checkpoint) as _;
    let Some(backend) = row_backend(&options.backend) else { return Err(one(broken("no row backend"))) };
    for f in &mut functions {
        for &edit in &f.edits {
            let Some(kernel) = kernels.get(edit.0 as usize) else {
                return Err(one(broken("an edit without a kernel")));
            };
            let compiled = backend.compile(&kernel.program.kernels, Isa::detect()).map_err(|d| vec![d])?;
            let constants = Constants::load(
                &kernel.plan,
                &kernel.program,
                &*compiled,
                &weights,
                &values,
                &PackedWeights::default(),
            );
            let constants = constants.map_err(one)?;
            f.layers.push(layer(kernel, edit, constants.of(kernel.at).args.as_slice()).map_err(one)?);
        }
        f.position = f.layers.iter().any(|l| l.args.contains(&ObjectArg::Position));
    }
    let hooks: Vec<ObjectHook> = functions.iter_mut().map(Function::object).collect();
    let object = object(&hooks, isa).map_err(|d| vec![d])?;
    let header = header(session, &functions, &hooks, isa, name);
    let about = |f: &Function| format!("{} at {}", f.hook, f.site);
    Ok(Library { object, header, functions: functions.iter().map(|f| (f.name.clone(), about(f))).collect() })
}

/// The arguments of a kernel where it is called from outside.
fn layer(kernel: &HookKernel, edit: EditId, fixed: &[Option<Arc<Vec<f32>>>]) -> Result<ObjectLayer, Error> {
    let mut args = Vec::new();
    for (i, arg) in kernel.args.iter().enumerate() {
        let constant = || fixed.get(i).cloned().flatten().ok_or_else(|| broken("a constant was not loaded"));
        args.push(match arg {
            _ if i == kernel.rows => ObjectArg::Rows,
            None => ObjectArg::Unused,
            Some(KernelArg::Guard(_)) => ObjectArg::Active,
            Some(KernelArg::Params(_)) => ObjectArg::Params,
            Some(KernelArg::Position) => ObjectArg::Position,
            Some(KernelArg::Table(t)) => ObjectArg::Data(Arc::new(t.to_vec())),
            Some(KernelArg::Numbers(n)) => ObjectArg::Data(Arc::new(n.clone())),
            Some(_) => ObjectArg::Data(constant()?),
        });
    }
    let number = kernel.plan.edits.get(edit.0 as usize).and_then(|e| e.layer).unwrap_or(0);
    Ok(ObjectLayer { layer: number.into(), kernel: kernel.kernel.clone(), args })
}

/// `blocks[3].resid.post` as `blocks[layer].resid.post`.
fn pattern(edit: &Edit) -> String {
    match edit.layer {
        Some(layer) => edit.site.replacen(&format!("[{layer}]"), "[layer]", 1),
        None => edit.site.clone(),
    }
}

/// The functions for the edits of the Plan, without their layers' kernels.
fn functions(session: &Session, experiment: &Experiment, kernels: &[HookKernel]) -> Result<Vec<Function>, Diagnostic> {
    let (plan, script) = (&experiment.prepared.plan, &session.script);
    let declared = declared(script, experiment);
    let mut functions: Vec<Function> = Vec::new();
    for (i, (edit, kernel)) in plan.edits.iter().zip(kernels).enumerate() {
        let id = EditId(i as u32);
        let site = pattern(edit);
        let known = functions.iter_mut().find(|f| (&f.hook, f.span, &f.site) == (&edit.name, edit.span, &site));
        if let Some(known) = known {
            let there = known.edits.iter().find(|e| plan.edits[e.0 as usize].layer == edit.layer);
            match there.map(|e| differing(declared.get(e), declared.get(&id))) {
                None => known.edits.push(id),
                // The same again, in another place among the edits of a run.
                Some(names) if names.is_empty() => {}
                Some(names) => return Err(several(edit, &names)),
            }
            continue;
        }
        let own = declared.get(&id);
        let used = experiment.prepared.engine_runs.iter().flat_map(|r| &r.edits).find(|e| e.edit == id);
        let param = |(slot, name): (usize, &String)| {
            let default = own.and_then(|d| d.params.iter().find(|p| p.name == *name)).and_then(|p| p.default);
            let first = || used.and_then(|u| u.params.get(slot)).copied().unwrap_or(0.0);
            (name.clone(), default.map_or_else(first, |x| x as f32))
        };
        functions.push(Function {
            name: String::new(),
            hook: edit.name.clone(),
            span: edit.span,
            about: plan.sites.iter().find(|s| s.name == edit.site).map(|s| s.contract.to_string()).unwrap_or_default(),
            site,
            axes: kernel.axes.clone(),
            params: edit.params.iter().enumerate().map(param).collect(),
            edits: vec![id],
            layers: Vec::new(),
            position: false,
        });
    }
    Ok(functions)
}

/// By edit of the Plan what it is in the script: in a sweep, a hook is one for each set of values that it is compiled with.
fn declared<'s>(script: &'s Script, experiment: &Experiment) -> BTreeMap<EditId, &'s EditDecl> {
    let mut out = BTreeMap::new();
    for (run, laid) in experiment.prepared.runs.iter().zip(&experiment.prepared.engine_runs) {
        // A use is an edit for each of its sites.
        let uses = run.uses.iter().map(|u| &script.edits[u.edit]).flat_map(|d| std::iter::repeat_n(d, d.sites.len()));
        out.extend(laid.edits.iter().map(|e| e.edit).zip(uses));
    }
    out
}

/// The names of sweeps that one hook is compiled with other values of.
fn differing<'s>(a: Option<&&'s EditDecl>, b: Option<&&'s EditDecl>) -> Vec<&'s str> {
    let value = |d: &EditDecl, name: &str| format!("{:?}", d.bound.get(name));
    let (Some(a), Some(b)) = (a, b) else { return Vec::new() };
    let names: BTreeSet<&str> = a.bound.keys().chain(b.bound.keys()).map(String::as_str).collect();
    names.into_iter().filter(|name| value(a, name) != value(b, name)).collect()
}

fn several(edit: &Edit, names: &[&str]) -> Diagnostic {
    let names: Vec<String> = names.iter().map(|n| format!("`{n}`")).collect();
    let names = names.join(" and ");
    let message =
        format!("the hook `{}` at {} is another one for each value of {names}, under one name", edit.name, edit.site);
    Diagnostic::error(codes::BACKEND, message).at(edit.span, "this hook cannot be built").help(format!(
        "build a script in which {names} has one value, or declare a hook for each, with a name of its own"
    ))
}

/// `steer_HOOK`, with the site behind it where a hook is at several kinds of sites.
fn name_all(functions: &mut [Function]) -> Result<(), Diagnostic> {
    let hooks: Vec<String> = functions.iter().map(|f| f.hook.clone()).collect();
    for f in &mut *functions {
        f.name = format!("steer_{}", f.hook);
        if hooks.iter().filter(|h| **h == f.hook).count() > 1 {
            let site = f.site.replace("blocks[layer].", "");
            f.name.push('_');
            f.name.extend(site.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
        }
    }
    for (i, b) in functions.iter().enumerate() {
        // Macros have the names in capitals.
        if let Some(a) = functions[..i].iter().find(|a| a.name.eq_ignore_ascii_case(&b.name)) {
            let shared =
                if a.name == b.name { format!("function `{}`", a.name) } else { format!("macro `{}`", a.macros()[0]) };
            let [first, second] = [a, b].map(|f| format!("`{}` at {}", f.hook, f.site));
            let e = format!("the hooks {first} and {second} would both have the {shared}");
            let e = Diagnostic::error(codes::BACKEND, e).at(a.span, "one is here");
            let e = if a.span == b.span { e } else { e.at(b.span, "the other is here") };
            return Err(e.help("give one of them another name"));
        }
    }
    Ok(())
}

impl Function {
    /// The macros of its header: how long a row is, and how many parameters there are.
    fn macros(&self) -> [String; 2] {
        ["LEN", "PARAMS"].map(|what| format!("{}_{what}", self.name.to_ascii_uppercase()))
    }

    /// The part that the compiler wants; the layers move there.
    fn object(&mut self) -> ObjectHook {
        ObjectHook {
            name: self.name.clone(),
            layers: std::mem::take(&mut self.layers),
            params: self.params.iter().map(|p| p.1).collect(),
            position: self.position,
        }
    }
}

fn header(session: &Session, functions: &[Function], hooks: &[ObjectHook], isa: Isa, name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    let mut out = format!(
        "/* Hooks on {}, by steer {}, for processors with {}.\n *\n{}",
        session.model_name.replace("*/", "* /"),
        env!("CARGO_PKG_VERSION"),
        isa.name(),
        CONTRACT,
    );
    let _ =
        write!(out, "#ifndef STEER_{upper}_H\n#define STEER_{upper}_H\n\n#include <stddef.h>\n#include <stdint.h>\n\n");
    out.push_str("#ifdef __cplusplus\nextern \"C\" {\n#endif\n");
    for (f, hook) in functions.iter().zip(hooks) {
        let [rows, params] = f.macros();
        let len: usize = f.axes.iter().map(|a| a.1).product();
        let axes: Vec<String> = f.axes.iter().map(|(name, n)| format!("{name} {n}")).collect();
        let layers: Vec<String> = hook.layers.iter().map(|l| l.layer.to_string()).collect();
        let _ = write!(out, "\n/* The hook {} at {}: {}\n", f.hook, f.site, f.about.replace("*/", "* /"));
        let _ = writeln!(out, " * Layers: {}. A row: [{}], {len} floats.", layers.join(", "), axes.join(", "));
        for (slot, (name, default)) in f.params.iter().enumerate() {
            let _ = writeln!(out, " * params[{slot}]: {name}, {default} where params is NULL.");
        }
        let reads =
            if f.position { "It reads position, which must not be NULL." } else { "It does not read position." };
        let _ = writeln!(out, " * {reads} */");
        let _ = writeln!(out, "#define {rows} {len}\n#define {params} {}", f.params.len());
        let _ = writeln!(
            out,
            "int {}(int64_t layer, float *rows, size_t count, size_t stride, const int64_t *position,\n    \
             const uint8_t *active, const float *params);",
            f.name
        );
    }
    out.push_str("\n#ifdef __cplusplus\n}\n#endif\n#endif\n");
    out
}

const CONTRACT: &str = " * Each function edits rows of float32 in place:
 *   layer     the layer that the rows are of, counted from 0
 *   rows      row i begins at rows + i * stride, its axes row-major, as the site has them in the model
 *   count     how many rows there are
 *   stride    floats from one row to the next
 *   position  of each row its position in the sequence, counted from 0; NULL where the hook does not read it
 *   active    of each row whether it is edited; NULL: every row is
 *   params    the parameters of the hook; NULL: as the script has them
 * They return 0; 1 where the hook is not at that layer; 2 without memory; 3 without positions that are needed. Then no
 * row is changed. They may be called from any number of threads at once, on different rows.
 */
";
