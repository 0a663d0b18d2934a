use super::super::{ROW_BACKENDS, RowKernels, row_backend};
use super::clif;
use crate::kernel::{self, Kernel, ParamKind};
use crate::plan::generate;
use crate::plan::rules::Options;
use crate::program::{KernelId, Program};
use crate::schedule::schedule;
use crate::schedule::tests::Random;
use std::time::Instant;
use steer_kernels::Isa;

const ROWS: usize = 3;

/// Random memory for each parameter of a kernel.
fn memory(kernel: &Kernel, keys: usize, random: &mut Random) -> Vec<Vec<f32>> {
    let param = |p: &kernel::Param| {
        let rows = if p.kind.per_row() { ROWS } else { 1 };
        let mut number = || match p.kind {
            ParamKind::Guard => random.below(2) as f32,
            ParamKind::Token | ParamKind::Position | ParamKind::FirstKey => random.below(9) as f32,
            _ => random.number(),
        };
        (0..rows * p.len.at(keys)).map(|_| number()).collect()
    };
    kernel.params.iter().map(param).collect()
}

/// What the memory holds after rows 1 and 2.
fn after(kernels: &dyn RowKernels, id: usize, keys: usize, memory: &[Vec<f32>]) -> Vec<Vec<u32>> {
    let mut memory = memory.to_vec();
    let args: Vec<*mut f32> = memory.iter_mut().map(|m| m.as_mut_ptr()).collect();
    let id = KernelId(id as u32);
    let mut scratch = vec![f32::NAN; kernels.scratch_len(id, keys)];
    // SAFETY: every parameter has `ROWS` rows of its length.
    unsafe { kernels.call(id, &args, 1..ROWS, keys, &mut scratch) };
    let bits = |x: &f32| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() };
    memory.iter().map(|m| m.iter().map(bits).collect()).collect()
}

/// A random program.
fn program(seed: u64) -> Program {
    schedule(&generate::plan(seed).unwrap(), &Options::default())
        .unwrap_or_else(|e| panic!("seed {seed}: {}", e.message))
        .0
}

/// Kernels with bodies, keys and scans: one set of bits for all backends and instruction sets.
#[test]
fn backends_agree_bit_for_bit() {
    let random = &mut Random(1);
    for seed in 0..150 {
        let program = program(seed);
        let mut compiled = Vec::new();
        for backend in ROW_BACKENDS {
            for isa in Isa::supported() {
                compiled.push((backend.name(), isa, backend.compile(&program.kernels, isa).unwrap()));
            }
        }
        for (id, kernel) in program.kernels.iter().enumerate() {
            assert_eq!(kernel::parse(&kernel.to_string()).as_ref(), Ok(kernel));
            let keys = 1 + random.below(40);
            let memory = memory(kernel, keys, random);
            let expected = after(&*compiled[0].2, id, keys, &memory);
            for (name, isa, kernels) in &compiled[1..] {
                let got = after(&**kernels, id, keys, &memory);
                assert_eq!(got, expected, "seed {seed}: {name} {}\n{kernel}", isa.name());
            }
        }
    }
}

#[test]
fn a_kernel_calls_primitives_by_name_and_branches_on_guards() {
    let text = "kernel(p0: rows[64], p1: guard[1], p2: out rows[64], p3: const[64]) temps(t0: [1]) {
  p2<1> = copy[64] p0<1>
  if p1 {
    t0<0> = dot[64] p0<1>, p3<1>
    p2<1> = axpy[64] p0<1>, t0<0>, p3<1>
  }
}";
    let kernel = kernel::parse(text).unwrap();
    kernel::verify(&kernel).unwrap();
    let clif = clif(&kernel).unwrap();
    for name in ["%row.copy", "%reduce.dot", "%row.axpy", "brif"] {
        assert!(clif.contains(name), "{name} in {clif}");
    }
    let kernels = row_backend("cranelift").unwrap().compile(&[kernel], Isa::detect()).unwrap();
    let ones = vec![1.0f32; 64 * 2];
    let mut args = [ones.clone(), vec![0.0, 1.0], vec![0.0; 128], vec![2.0; 64]];
    let pointers: Vec<*mut f32> = args.iter_mut().map(|a| a.as_mut_ptr()).collect();
    let mut scratch = vec![0.0; kernels.scratch_len(KernelId(0), 1)];
    // SAFETY: two rows of each parameter.
    unsafe { kernels.call(KernelId(0), &pointers, 0..2, 1, &mut scratch) };
    assert_eq!(args[2][..64], ones[..64]);
    assert_eq!(args[2][64..], [257.0; 64]);
}

#[test]
fn a_sum_joins_what_it_sums_and_a_selection_of_rows_is_a_branch() {
    let text = "kernel(p0: rows[80], p1: const[80], p2: out rows[80], p3: out rows[1], p4: guard[1]) \
                temps(t0: [80], t1: [1], t2: [1], t3: [80], t4: [80], t5: [1], t6: [1]) {
  t0<1> = axpy[80] p0<1>, 0.5, p1<1>
  t1<0> = dot[80] p1<1>, t0<1>
  t2 = gt[] t1, 0.0
  t5 = copy[] 0.0
  if p4 {
    t5 = neg[] t1
  }
  t3<1> = axpy[80] t0<1>, t5<0>, p1<1>
  t4<1> = select[80] t2<0>, t3<1>, t0<1>
  t6<0> = reduce.sum_sq[80] t4<1>
  p3 = copy[] t6
  p2<1> = mul[80] t4<1>, t6<0>
}";
    let kernel = kernel::parse(text).unwrap();
    kernel::verify(&kernel).unwrap();
    let clif = clif(&kernel).unwrap();
    for (name, calls) in
        [("%row.axpy.dot", true), ("%row.axpy.sum_sq", true), ("%row.select", false), ("%row.copy", false)]
    {
        assert_eq!(clif.contains(name), calls, "{name} in {clif}");
    }
    // One row of scratch memory and the numbers, each in a line of its own.
    let compiled =
        |name: &str| row_backend(name).unwrap().compile(std::slice::from_ref(&kernel), Isa::detect()).unwrap();
    let (cranelift, interp) = (compiled("cranelift"), compiled("interp"));
    assert_eq!(cranelift.scratch_len(KernelId(0), 1), 80 + 3 * 16);
    let random = &mut Random(1);
    for _ in 0..20 {
        let memory = memory(&kernel, 1, random);
        assert_eq!(after(&*cranelift, 0, 1, &memory), after(&*interp, 0, 1, &memory));
    }
}

#[test]
fn compiling_takes_no_longer_than_a_step() {
    let mut kernels: Vec<Kernel> = Vec::new();
    for seed in 0..40 {
        kernels.extend(program(seed).kernels);
    }
    let start = Instant::now();
    super::compile(&kernels, Isa::detect()).unwrap();
    let each = start.elapsed().as_secs_f64() / kernels.len() as f64;
    let statements: usize = kernels.iter().map(|k| k.to_string().matches(" = ").count()).sum();
    eprintln!("{statements} statements");
    eprintln!("{} kernels, {:.0} us each", kernels.len(), each * 1e6);
    // Some 0.2 ms where nothing else is done; a hundred times as long where much is.
    assert!(each < 0.02, "{each} s a kernel");
}
