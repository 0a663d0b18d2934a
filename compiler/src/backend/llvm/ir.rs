//! Vectors of `f32` as LLVM's instructions. A number is a vector of one lane.

use inkwell::attributes::AttributeLoc;
use inkwell::builder::{Builder, BuilderError};
use inkwell::context::Context;
use inkwell::intrinsics::Intrinsic;
use inkwell::module::Module;
use inkwell::types::{BasicTypeEnum, VectorType};
use inkwell::values::{
    BasicMetadataValueEnum, BasicValue, BasicValueEnum, FunctionValue, IntValue, PointerValue, VectorValue,
};
use inkwell::{FloatPredicate, IntPredicate};
use std::fmt;

/// Why no code could be made.
#[derive(Debug)]
pub(super) struct Fault(pub String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<BuilderError> for Fault {
    fn from(e: BuilderError) -> Fault {
        Fault(e.to_string())
    }
}

pub(super) type Made<T> = Result<T, Fault>;

/// What the code is made for.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Lanes of a vector, a power of two up to 16.
    pub width: u32,
    pub processor: String,
    pub features: String,
    /// Whether the processor rounds, and multiplies and adds at once.
    pub native: bool,
    /// AVX-512 multiplies by a power of two in one instruction.
    pub scales: bool,
    /// How many vectors a reduction may hold at once.
    pub sums: u32,
}

/// A function of a number or two outside of the module, at an address in this process.
#[derive(Clone, Copy)]
pub(super) enum Outside {
    One(unsafe extern "C" fn(f32) -> f32),
    Two(unsafe extern "C" fn(f32, f32) -> f32),
    Three(unsafe extern "C" fn(f32, f32, f32) -> f32),
}

pub(super) struct Ir<'c> {
    pub context: &'c Context,
    pub module: Module<'c>,
    pub b: Builder<'c>,
    pub target: Target,
    /// Whether the code stays in this process, whose functions it may then call.
    pub here: bool,
}

unsafe extern "C" fn fused(a: f32, b: f32, c: f32) -> f32 {
    a.mul_add(b, c)
}

unsafe extern "C" fn nearest(a: f32) -> f32 {
    a.round_ties_even()
}

unsafe extern "C" fn below(a: f32) -> f32 {
    a.floor()
}

pub(super) fn width(v: VectorValue) -> u32 {
    v.get_type().get_size()
}

impl<'c> Ir<'c> {
    pub fn floats(&self, width: u32) -> VectorType<'c> {
        self.context.f32_type().vec_type(width)
    }

    pub fn ints(&self, width: u32) -> VectorType<'c> {
        self.context.i32_type().vec_type(width)
    }

    pub fn word(&self, n: usize) -> IntValue<'c> {
        self.context.i64_type().const_int(n as u64, false)
    }

    pub fn splat(&self, x: f32, width: u32) -> VectorValue<'c> {
        VectorType::const_vector(&vec![self.context.f32_type().const_float(f64::from(x)); width as usize])
    }

    pub fn splat_int(&self, x: i32, width: u32) -> VectorValue<'c> {
        VectorType::const_vector(&vec![self.context.i32_type().const_int(x as u32 as u64, false); width as usize])
    }

    pub fn truths(&self, of: impl Iterator<Item = bool>) -> VectorValue<'c> {
        let bit = |t: bool| self.context.bool_type().const_int(u64::from(t), false);
        VectorType::const_vector(&of.map(bit).collect::<Vec<_>>())
    }

    /// 0, 1, 2, ... as words.
    pub fn counting(&self, width: u32) -> VectorValue<'c> {
        VectorType::const_vector(&(0..width as usize).map(|i| self.word(i)).collect::<Vec<_>>())
    }

    /// A vector of the lanes with these numbers.
    pub fn lanes(&self, v: VectorValue<'c>, of: impl Iterator<Item = u32>) -> Made<VectorValue<'c>> {
        let index = |i: u32| self.context.i32_type().const_int(u64::from(i), false);
        let mask = VectorType::const_vector(&of.map(index).collect::<Vec<_>>());
        Ok(self.b.build_shuffle_vector(v, v.get_type().get_poison(), mask, "")?)
    }

    /// One lane as many.
    pub fn spread(&self, v: VectorValue<'c>, to: u32) -> Made<VectorValue<'c>> {
        if width(v) == to { Ok(v) } else { self.lanes(v, (0..to).map(|_| 0)) }
    }

    /// A number of words in every lane.
    pub fn spread_word(&self, n: IntValue<'c>, to: u32) -> Made<VectorValue<'c>> {
        let none = self.context.i64_type().vec_type(1).get_poison();
        let one = self.b.build_insert_element(none, n, self.word(0), "")?;
        self.lanes(one, (0..to).map(|_| 0))
    }

    fn vector(&self, v: BasicValueEnum<'c>) -> VectorValue<'c> {
        v.into_vector_value()
    }

    pub fn intrinsic(&self, name: &str, types: &[BasicTypeEnum<'c>]) -> Made<FunctionValue<'c>> {
        let missing = || Fault(format!("this LLVM has no {name}"));
        Intrinsic::find(name).and_then(|i| i.get_declaration(&self.module, types)).ok_or_else(missing)
    }

    pub fn call(&self, f: FunctionValue<'c>, args: &[BasicMetadataValueEnum<'c>]) -> Made<Option<BasicValueEnum<'c>>> {
        Ok(self.b.build_call(f, args, "")?.try_as_basic_value().basic())
    }

    fn of_vectors(&self, name: &str, args: &[VectorValue<'c>]) -> Made<VectorValue<'c>> {
        let f = self.intrinsic(name, &[args[0].get_type().into()])?;
        let args: Vec<BasicMetadataValueEnum> = args.iter().map(|a| (*a).into()).collect();
        let result = self.call(f, &args)?.ok_or_else(|| Fault(format!("{name} gives nothing")))?;
        Ok(self.vector(result))
    }

    /// A function of this process, lane by lane.
    pub fn each(&self, f: Outside, args: &[VectorValue<'c>]) -> Made<VectorValue<'c>> {
        if !self.here {
            return Err(Fault("a function of steer itself".into()));
        }
        let address = match f {
            Outside::One(f) => f as usize,
            Outside::Two(f) => f as usize,
            Outside::Three(f) => f as usize,
        };
        let float = self.context.f32_type();
        let ty = float.fn_type(&vec![float.into(); args.len()], false);
        let pointer = self.word(address).const_to_pointer(self.context.ptr_type(Default::default()));
        let mut out = args[0].get_type().get_poison();
        for lane in 0..width(args[0]) {
            let at = self.context.i32_type().const_int(u64::from(lane), false);
            let mut given: Vec<BasicMetadataValueEnum> = Vec::new();
            for a in args {
                given.push(self.b.build_extract_element(*a, at, "")?.into_float_value().into());
            }
            let call = self.b.build_indirect_call(ty, pointer, &given, "")?;
            let value = call.try_as_basic_value().basic().ok_or_else(|| Fault("a call gives nothing".into()))?;
            out = self.b.build_insert_element(out, value, at, "")?;
        }
        Ok(out)
    }

    pub fn add(&self, a: VectorValue<'c>, b: VectorValue<'c>) -> Made<VectorValue<'c>> {
        Ok(self.b.build_float_add(a, b, "")?)
    }

    pub fn sub(&self, a: VectorValue<'c>, b: VectorValue<'c>) -> Made<VectorValue<'c>> {
        Ok(self.b.build_float_sub(a, b, "")?)
    }

    pub fn mul(&self, a: VectorValue<'c>, b: VectorValue<'c>) -> Made<VectorValue<'c>> {
        Ok(self.b.build_float_mul(a, b, "")?)
    }

    pub fn div(&self, a: VectorValue<'c>, b: VectorValue<'c>) -> Made<VectorValue<'c>> {
        Ok(self.b.build_float_div(a, b, "")?)
    }

    pub fn neg(&self, a: VectorValue<'c>) -> Made<VectorValue<'c>> {
        Ok(self.b.build_float_neg(a, "")?)
    }

    /// `a * b + c`, rounded once.
    pub fn fma(&self, a: VectorValue<'c>, b: VectorValue<'c>, c: VectorValue<'c>) -> Made<VectorValue<'c>> {
        if self.target.native {
            self.of_vectors("llvm.fma", &[a, b, c])
        } else {
            self.each(Outside::Three(fused), &[a, b, c])
        }
    }

    pub fn sqrt(&self, a: VectorValue<'c>) -> Made<VectorValue<'c>> {
        self.of_vectors("llvm.sqrt", &[a])
    }

    pub fn abs(&self, a: VectorValue<'c>) -> Made<VectorValue<'c>> {
        self.of_vectors("llvm.fabs", &[a])
    }

    /// Half to even.
    pub fn round(&self, a: VectorValue<'c>) -> Made<VectorValue<'c>> {
        if self.target.native {
            self.of_vectors("llvm.roundeven", &[a])
        } else {
            self.each(Outside::One(nearest), &[a])
        }
    }

    pub fn floor(&self, a: VectorValue<'c>) -> Made<VectorValue<'c>> {
        if self.target.native { self.of_vectors("llvm.floor", &[a]) } else { self.each(Outside::One(below), &[a]) }
    }

    pub fn compare(&self, p: FloatPredicate, a: VectorValue<'c>, b: VectorValue<'c>) -> Made<VectorValue<'c>> {
        Ok(self.b.build_float_compare(p, a, b, "")?)
    }

    pub fn compare_int(&self, p: IntPredicate, a: VectorValue<'c>, b: VectorValue<'c>) -> Made<VectorValue<'c>> {
        Ok(self.b.build_int_compare(p, a, b, "")?)
    }

    pub fn select(&self, m: VectorValue<'c>, a: VectorValue<'c>, b: VectorValue<'c>) -> Made<VectorValue<'c>> {
        Ok(self.vector(self.b.build_select(m, a, b, "")?))
    }

    /// `a > b ? a : b`
    pub fn above(&self, a: VectorValue<'c>, b: VectorValue<'c>) -> Made<VectorValue<'c>> {
        self.select(self.compare(FloatPredicate::OGT, a, b)?, a, b)
    }

    /// `a < b ? a : b`
    pub fn below(&self, a: VectorValue<'c>, b: VectorValue<'c>) -> Made<VectorValue<'c>> {
        self.select(self.compare(FloatPredicate::OLT, a, b)?, a, b)
    }

    pub fn bits(&self, a: VectorValue<'c>) -> Made<VectorValue<'c>> {
        Ok(self.vector(self.b.build_bit_cast(a, self.ints(width(a)), "")?))
    }

    pub fn of_bits(&self, a: VectorValue<'c>) -> Made<VectorValue<'c>> {
        Ok(self.vector(self.b.build_bit_cast(a, self.floats(width(a)), "")?))
    }

    /// `a * 2^n` for an integral `n` within ±252 and `a` about 1.
    pub fn scale2(&self, a: VectorValue<'c>, n: VectorValue<'c>) -> Made<VectorValue<'c>> {
        let w = width(a);
        if self.target.scales && w == 16 {
            let f = self.intrinsic("llvm.x86.avx512.mask.scalef.ps.512", &[])?;
            let all = self.context.i16_type().const_all_ones();
            let current = self.context.i32_type().const_int(4, false);
            let args = [a.into(), n.into(), self.floats(w).const_zero().into(), all.into(), current.into()];
            let result = self.call(f, &args)?.ok_or_else(|| Fault("scalef gives nothing".into()))?;
            return Ok(self.vector(result));
        }
        // The low bits of n + 1.5 * 2^23 are n; for a NaN they are anything, and `a` is NaN then.
        let shifted = self.bits(self.add(n, self.splat(12_582_912.0, w))?)?;
        let n = self.b.build_int_sub(shifted, self.splat_int(0x4b40_0000, w), "")?;
        let low = self.b.build_right_shift(n, self.splat_int(1, w), true, "")?;
        let high = self.b.build_int_sub(n, low, "")?;
        let a = self.mul(a, self.power2(low)?)?;
        self.mul(a, self.power2(high)?)
    }

    fn power2(&self, n: VectorValue<'c>) -> Made<VectorValue<'c>> {
        let w = width(n);
        let exponent = self.b.build_int_add(n, self.splat_int(127, w), "")?;
        self.of_bits(self.b.build_left_shift(exponent, self.splat_int(23, w), "")?)
    }

    /// A positive normal number as `m * 2^e`, with `m` in [sqrt(1/2), sqrt(2)).
    pub fn split(&self, a: VectorValue<'c>) -> Made<(VectorValue<'c>, VectorValue<'c>)> {
        let w = width(a);
        let base = self.splat_int(0x3f35_04f3, w);
        let a = self.b.build_int_sub(self.bits(a)?, base, "")?;
        let e = self.b.build_right_shift(a, self.splat_int(23, w), true, "")?;
        let e = self.b.build_signed_int_to_float(e, self.floats(w), "")?;
        let m = self.b.build_and(a, self.splat_int(0x7f_ffff, w), "")?;
        Ok((self.of_bits(self.b.build_int_add(m, base, "")?)?, e))
    }

    /// A pointer so many floats further.
    pub fn advanced(&self, at: PointerValue<'c>, by: IntValue<'c>) -> Made<PointerValue<'c>> {
        if by.get_zero_extended_constant() == Some(0) {
            return Ok(at);
        }
        // SAFETY: the kernel was verified: no access leaves what the pointer points to.
        Ok(unsafe { self.b.build_gep(self.context.f32_type(), at, &[by], "")? })
    }

    pub fn load(&self, at: PointerValue<'c>, w: u32, mask: Option<VectorValue<'c>>) -> Made<VectorValue<'c>> {
        let Some(mask) = mask else {
            let value = self.b.build_load(self.floats(w), at, "")?;
            self.unaligned(value.as_instruction_value())?;
            return Ok(self.vector(value));
        };
        let pointer = self.context.ptr_type(Default::default());
        let f = self.intrinsic("llvm.masked.load", &[self.floats(w).into(), pointer.into()])?;
        let align = self.context.i32_type().const_int(4, false);
        let args = [at.into(), align.into(), mask.into(), self.floats(w).const_zero().into()];
        let result = self.call(f, &args)?.ok_or_else(|| Fault("a load gives nothing".into()))?;
        Ok(self.vector(result))
    }

    pub fn store(&self, at: PointerValue<'c>, value: VectorValue<'c>, mask: Option<VectorValue<'c>>) -> Made<()> {
        let Some(mask) = mask else {
            let stored = self.b.build_store(at, value)?;
            return self.unaligned(Some(stored));
        };
        let pointer = self.context.ptr_type(Default::default());
        let f = self.intrinsic("llvm.masked.store", &[value.get_type().into(), pointer.into()])?;
        let align = self.context.i32_type().const_int(4, false);
        self.call(f, &[value.into(), at.into(), align.into(), mask.into()])?;
        Ok(())
    }

    fn unaligned(&self, access: Option<inkwell::values::InstructionValue<'c>>) -> Made<()> {
        match access {
            Some(i) => i.set_alignment(4).map_err(|e| Fault(e.to_string())),
            None => Ok(()),
        }
    }

    /// Addresses of lanes: `at + i * stride` floats.
    pub fn addresses(&self, at: PointerValue<'c>, stride: IntValue<'c>, w: u32) -> Made<VectorValue<'c>> {
        let steps = self.b.build_int_mul(self.counting(w), self.spread_word(stride, w)?, "")?;
        let bytes = self.b.build_int_mul(steps, VectorType::const_vector(&vec![self.word(4); w as usize]), "")?;
        let start = self.b.build_ptr_to_int(at, self.context.i64_type(), "")?;
        let all = self.b.build_int_add(self.spread_word(start, w)?, bytes, "")?;
        Ok(self.b.build_int_to_ptr(all, self.context.ptr_type(Default::default()).vec_type(w), "")?)
    }

    fn every(&self, mask: Option<VectorValue<'c>>, w: u32) -> VectorValue<'c> {
        mask.unwrap_or_else(|| self.truths((0..w).map(|_| true)))
    }

    pub fn gather(
        &self,
        at: PointerValue<'c>,
        stride: IntValue<'c>,
        w: u32,
        mask: Option<VectorValue<'c>>,
    ) -> Made<VectorValue<'c>> {
        if w == 1 {
            return self.load(at, 1, None);
        }
        let pointers = self.addresses(at, stride, w)?;
        let f = self.intrinsic("llvm.masked.gather", &[self.floats(w).into(), pointers.get_type().into()])?;
        let align = self.context.i32_type().const_int(4, false);
        let args = [pointers.into(), align.into(), self.every(mask, w).into(), self.floats(w).const_zero().into()];
        let result = self.call(f, &args)?.ok_or_else(|| Fault("a gather gives nothing".into()))?;
        Ok(self.vector(result))
    }

    pub fn scatter(
        &self,
        at: PointerValue<'c>,
        stride: IntValue<'c>,
        value: VectorValue<'c>,
        mask: Option<VectorValue<'c>>,
    ) -> Made<()> {
        let w = width(value);
        if w == 1 {
            return self.store(at, value, None);
        }
        let pointers = self.addresses(at, stride, w)?;
        let f = self.intrinsic("llvm.masked.scatter", &[value.get_type().into(), pointers.get_type().into()])?;
        let align = self.context.i32_type().const_int(4, false);
        self.call(f, &[value.into(), pointers.into(), align.into(), self.every(mask, w).into()])?;
        Ok(())
    }

    /// A function for the target's processor.
    pub fn function(&self, name: &str, words: usize, external: bool) -> FunctionValue<'c> {
        let word = self.context.i64_type();
        let pointer = self.context.ptr_type(Default::default());
        let ty = match words {
            3 => vec![pointer.into(), word.into(), word.into(), word.into(), pointer.into()],
            _ => vec![pointer.into(), pointer.into(), word.into(), word.into()],
        };
        let linkage = if external { None } else { Some(inkwell::module::Linkage::Internal) };
        let f = self.module.add_function(name, self.context.void_type().fn_type(&ty, false), linkage);
        self.attributes(f);
        f
    }

    pub fn attributes(&self, f: FunctionValue<'c>) {
        let text = |key: &str, value: &str| {
            f.add_attribute(AttributeLoc::Function, self.context.create_string_attribute(key, value));
        };
        text("target-cpu", &self.target.processor);
        text("target-features", &self.target.features);
        let bits = self.target.width * 32;
        text("prefer-vector-width", &bits.to_string());
        text("min-legal-vector-width", &bits.to_string());
        let kind = inkwell::attributes::Attribute::get_named_enum_kind_id("nounwind");
        f.add_attribute(AttributeLoc::Function, self.context.create_enum_attribute(kind, 0));
    }
}
