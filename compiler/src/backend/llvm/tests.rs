use super::group::{Home, group};
use crate::backend::{RowKernels, row_backend};
use crate::kernel::{self, Kernel, ParamKind};
use crate::program::KernelId;
use crate::schedule::tests::Random;
use steer_kernels::{Binary, Isa, Reduce, Unary};

const ROWS: usize = 2;

/// What the memory of a kernel's parameters holds after all rows, NaNs as one.
fn after(kernels: &dyn RowKernels, id: usize, keys: usize, memory: &[Vec<f32>]) -> Vec<Vec<u32>> {
    let mut memory = memory.to_vec();
    let args: Vec<*mut f32> = memory.iter_mut().map(|m| m.as_mut_ptr()).collect();
    let id = KernelId(id as u32);
    let mut scratch = vec![f32::NAN; kernels.scratch_len(id, keys)];
    // SAFETY: every parameter has `ROWS` rows of its length.
    unsafe { kernels.call(id, &args, 0..ROWS, keys, &mut scratch) };
    let bits = |x: &f32| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() };
    memory.iter().map(|m| m.iter().map(bits).collect()).collect()
}

fn memory(kernel: &Kernel, keys: usize, mut number: impl FnMut(ParamKind) -> f32) -> Vec<Vec<f32>> {
    let param = |p: &kernel::Param| {
        let rows = if p.kind.per_row() { ROWS } else { 1 };
        (0..rows * p.len.at(keys)).map(|_| number(p.kind)).collect()
    };
    kernel.params.iter().map(param).collect()
}

fn parsed(text: &str) -> Kernel {
    let kernel = kernel::parse(text).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    kernel::verify(&kernel).unwrap_or_else(|e| panic!("{e}\n{text}"));
    kernel
}

/// Compares kernels with the interpreter on every instruction set.
fn same_bits(kernels: &[Kernel], keys: &[usize], number: &mut dyn FnMut(ParamKind) -> f32) {
    let interp = row_backend("interp").unwrap().compile(kernels, Isa::Portable).unwrap();
    for isa in Isa::supported() {
        let llvm = row_backend("llvm").unwrap().compile(kernels, isa).unwrap();
        for (id, kernel) in kernels.iter().enumerate() {
            for &keys in keys {
                let memory = memory(kernel, keys, &mut *number);
                let (got, expected) = (after(&*llvm, id, keys, &memory), after(&*interp, id, keys, &memory));
                for (p, (g, e)) in got.iter().zip(&expected).enumerate() {
                    let off = g.iter().zip(e).position(|(g, e)| g != e);
                    let Some(i) = off else { continue };
                    let (g, e) = (f32::from_bits(g[i]), f32::from_bits(e[i]));
                    panic!("{} with {keys} keys: p{p}[{i}] is {g:e}, not {e:e}\n{kernel}", isa.name());
                }
            }
        }
    }
}

/// Any bits, and often numbers of a usual size, zeros, infinities and NaNs.
fn any(random: &mut Random) -> f32 {
    match random.below(12) {
        0 => f32::from_bits((random.below(1 << 16) << 16 | random.below(1 << 16)) as u32),
        1 => [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1.0, -1.0, 1e-40, 88.0, -104.5][random.below(10)],
        2 | 3 => random.number() * 30.0,
        4 => random.number() * 1e-3,
        _ => random.number() * 4.0,
    }
}

#[test]
fn every_operation_has_the_bits_of_the_primitives() {
    let mut kernels = Vec::new();
    for n in [3000, 5] {
        for op in Unary::ALL {
            kernels.push(parsed(&format!(
                "kernel(p0: rows[{n}], p1: out rows[{n}]) temps() {{\n  p1<1> = {}[{n}] p0<1>\n}}",
                op.name()
            )));
        }
        for op in Binary::ALL {
            kernels.push(parsed(&format!(
                "kernel(p0: rows[{n}], p1: rows[{n}], p2: out rows[{n}]) temps() {{\n  p2<1> = {}[{n}] p0<1>, p1<1>\n}}",
                op.name()
            )));
        }
    }
    let random = &mut Random(5);
    same_bits(&kernels, &[1], &mut |_| any(random));
}

#[test]
fn reductions_of_any_length_keep_the_order() {
    let mut kernels = Vec::new();
    for n in [1, 7, 16, 33, 64, 100, 129, 511, 2500] {
        for op in Reduce::ALL {
            let op = op.name();
            kernels.push(parsed(&format!(
                "kernel(p0: rows[{n}], p1: out rows[3], p2: const[{}]) temps(t0: [1]) {{
  t0<0> = reduce.{op}[{n}] p0<1>
  p1 = copy[] t0
  p1@1<0> = reduce.{op}[{n}] p2<3>
  p1@2<0> = dot[{n}] p0<1>, p2<1>
}}",
                3 * n
            )));
        }
    }
    for op in Reduce::ALL {
        let op = op.name();
        kernels.push(parsed(&format!(
            "kernel(p0: body[2K], p1: out result[2], p2: out result[2K]) temps(t0: [2]) {{
  t0<1, 0> = reduce.{op}[2, K] p0<K, 1>
  p1<1> = copy[2] t0<1>
  p2<K, 1> = add[2, K] p0<K, 1>, t0<1, 0>
}}"
        )));
    }
    let random = &mut Random(6);
    let keys: Vec<usize> = (1..70).step_by(3).chain([128, 2100]).collect();
    same_bits(&kernels, &keys[..], &mut |_| if random.below(40) == 0 { any(random) } else { random.number() });
}

#[test]
fn the_greatest_of_a_row_are_found() {
    let of = |n: usize, k: &str| {
        parsed(&format!(
            "kernel(p0: rows[{n}], p1: out rows[{n}], p2: numbers[1]) temps() {{\n  p1<1> = top_k[{n}] p0<1>, {k}\n}}"
        ))
    };
    let mut kernels = Vec::new();
    for n in [1, 2, 7, 16, 19, 64, 300] {
        for k in ["0.0", "1.0", "3.0", "20.0", "-2.0", "1000.0", "p2<0>"] {
            kernels.push(of(n, k));
        }
    }
    let random = &mut Random(7);
    same_bits(&kernels, &[1], &mut |kind| match kind {
        ParamKind::Numbers => random.below(9) as f32,
        _ if random.below(3) == 0 => any(random),
        _ => random.below(4) as f32 - 1.5,
    });
}

/// Statements that overlap, alternate and depend on one another in every way: grouping keeps what they compute.
#[test]
fn random_statements_are_grouped_without_a_difference() {
    let random = &mut Random(8);
    let mut kernels = Vec::new();
    while kernels.len() < 50 {
        let text = random_kernel(random);
        let kernel = kernel::parse(&text).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
        if kernel::verify(&kernel).is_ok() {
            kernels.push(kernel);
        }
    }
    same_bits(&kernels, &[1, 9], &mut |kind| match kind {
        ParamKind::Guard => random.below(2) as f32,
        _ => random.number(),
    });
}

/// A kernel over six temporaries and three outputs of 48 numbers, each written in full before anything else.
fn random_kernel(random: &mut Random) -> String {
    let mut out = "kernel(p0: rows[48], p1: out rows[48], p2: out rows[48], p3: guard[1], p4: const[48], p5: guard[1]) temps(t0: [48], t1: [48], t2: [48], t3: [1], t4: [1], t5: [48]) {\n".to_string();
    for (i, name) in ["t0", "t1", "t2", "t5", "p1", "p2"].iter().enumerate() {
        let from = if i % 2 == 0 { "p0" } else { "p4" };
        out += &format!("  {name}<1> = axpy[48] {from}<1>, {}.0, p4<1>\n", i + 1);
    }
    out += "  t3<0> = reduce.sum[48] p0<1>\n  t4<0> = dot[48] p0<1>, p4<1>\n";
    let mut open = false;
    for _ in 0..3 + random.below(12) {
        if random.below(5) == 0 {
            out += if open { "  }\n" } else { ["  if p3 {\n", "  if p3 | p5 {\n"][random.below(2)] };
            open = !open;
        }
        // Loops, and strides that fit them in 48 numbers at several offsets.
        let (loops, ways): (&str, &[&str]) = match random.below(5) {
            0 => ("48", &["<1>"]),
            1 => ("24", &["<1>", "@24<1>", "<2>", "@1<2>", "@12<1>"]),
            2 => ("3, 8", &["<16, 1>", "@8<16, 1>", "<8, 1>", "@24<8, 1>", "@4<16, 1>", "<1, 3>", "<8, 0>", "<0, 1>"]),
            3 => ("5", &["<1>", "@7<3>", "@20<0>"]),
            _ => ("", &["", "@5", "@47"]),
        };
        let vectors = ["t0", "t1", "t2", "t5", "p1", "p2"];
        let source = |random: &mut Random| match random.below(9) {
            0 => "0.5".to_string(),
            1 => {
                let zeros = loops.split(", ").filter(|l| !l.is_empty()).map(|_| "0").collect::<Vec<_>>().join(", ");
                let zeros = if zeros.is_empty() { zeros } else { format!("<{zeros}>") };
                format!("{}{zeros}", ["t3", "t4"][random.below(2)])
            }
            2 => format!("p0{}", ways[random.below(ways.len())]),
            _ => format!("{}{}", vectors[random.below(vectors.len())], ways[random.below(ways.len())]),
        };
        let (a, b, c) = (source(random), source(random), source(random));
        let dst = vectors[random.below(vectors.len())];
        let way = ways[random.below(ways.len())];
        let indent = if open { "    " } else { "  " };
        let line = match random.below(8) {
            0 => format!("{dst}{way} = copy[{loops}] {a}"),
            1 => format!("{dst}{way} = axpy[{loops}] {a}, {b}, {c}"),
            2 => format!("{dst}{way} = select[{loops}] {a}, {b}, {c}"),
            3 if loops == "48" || loops == "24" => {
                format!(
                    "{}<0> = reduce.{}[{loops}] {dst}{way}",
                    ["t3", "t4"][random.below(2)],
                    ["sum", "max", "argmax"][random.below(3)]
                )
            }
            4 if loops == "3, 8" => format!(
                "{dst}@{}<1, 0> = reduce.sum_sq[3, 8] {}<16, 1>",
                random.below(40),
                ["t0", "p1"][random.below(2)]
            ),
            5 => format!("{dst}{way} = mul[{loops}] {a}, {b}"),
            _ => format!("{dst}{way} = sub[{loops}] {a}, {b}"),
        };
        // What an operation makes of a destination that overlaps its own source is not defined.
        let name = |s: &str| s.trim_start_matches(' ').split(['<', '@']).next().unwrap_or("").to_string();
        let (left, right) = line.split_once(" = ").unwrap_or((&line, ""));
        let right = right.split_once("] ").map_or("", |r| r.1);
        if right.split("> , ").flat_map(|r| r.split(", ")).any(|s| name(s) == name(left) && s != left) {
            continue;
        }
        out += &format!("{indent}{line}\n");
    }
    if open {
        out += "  }\n";
    }
    out + "}"
}

#[test]
fn what_works_on_the_same_elements_is_one_loop() {
    let kernel = parsed(
        "kernel(p0: out rows[128], p1: const[128], p2: const[128]) temps(t0: [128], t1: [1], t2: [1], t3: [128], t4: [1], t5: [128]) {
  t0<1> = axpy[128] p0<1>, 2.0, p1<1>
  t1<0> = dot[128] t0<1>, p2<1>
  t2 = neg[] t1
  t3<1> = axpy[128] t0<1>, t2<0>, p2<1>
  t4<0> = reduce.sum_sq[128] p0<1>
  t5<1> = mul[128] t3<1>, t4<0>
  p0<1> = copy[128] t5<1>
}",
    );
    let grouped = group(&kernel, 4);
    let steps: Vec<usize> = grouped.regions[0].groups.iter().map(|g| g.steps.len()).collect();
    // The sum of squares joins the first loop; what follows the dot product is one loop.
    assert_eq!(steps, [3, 1, 3]);
    let memory = |home: &Home| matches!(home, Home::Memory(_));
    assert_eq!(grouped.homes.iter().filter(|h| memory(h)).count(), 1, "{:?}", grouped.homes);
    assert_eq!(grouped.homes[3], Home::Pass);
    assert_eq!(grouped.homes[1], Home::Number);
    same_bits(&[kernel], &[1], &mut |_| 0.25);
}

#[test]
fn the_intermediate_language_calls_nothing_for_what_vectors_can_do() {
    let kernel = parsed(
        "kernel(p0: rows[128], p1: out rows[128]) temps(t0: [128]) {
  t0<1> = gelu[128] p0<1>
  p1<1> = mul[128] t0<1>, p0<1>
}",
    );
    let text = super::llvm_ir(&[kernel]).unwrap();
    let calls = text.lines().filter(|l| l.contains("call ") && !l.contains("@llvm."));
    assert_eq!(calls.count(), 0, "{text}");
}
