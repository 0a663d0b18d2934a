//! The vocabulary of row operations, and what each one means.
//!
//! `apply` is the meaning: the vector kernels of every instruction set return its bits (only the
//! payload of a NaN is unspecified).

use crate::math;

macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$item_doc])* $item,)*
        }

        impl $name {
            /// Every operation, in the order of declaration.
            pub const ALL: [$name; [$($text),*].len()] = [$($name::$item),*];

            /// The operation's name in printed programs.
            pub const fn name(self) -> &'static str {
                match self {
                    $($name::$item => $text,)*
                }
            }

            /// The operation of that name.
            pub fn from_name(name: &str) -> Option<$name> {
                match name {
                    $($text => Some($name::$item),)*
                    _ => None,
                }
            }
        }
    };
}

vocabulary! {
    /// A function of one number. Every one of them passes a NaN on, except `Not` and `IsFinite`.
    ///
    /// The transcendental ones are within 4e-7 of the exact value, relative to it, or in the far
    /// tails within the least subnormal number times the argument.
    Unary {
        /// `-x`.
        Neg "neg",
        /// `|x|`.
        Abs "abs",
        /// 1 above zero, -1 below, and zeros as they are.
        Sign "sign",
        /// `e^x`: infinity above 88.73, subnormal below -87.34, 0 below -104.
        Exp "exp",
        /// The natural logarithm: NaN below zero, minus infinity at either zero.
        Log "log",
        /// The square root, correctly rounded.
        Sqrt "sqrt",
        /// `1 / sqrt(x)`: the two operations, each correctly rounded.
        Rsqrt "rsqrt",
        /// `1 / x`, correctly rounded.
        Recip "recip",
        /// The hyperbolic tangent.
        Tanh "tanh",
        /// `1 / (1 + e^-x)`, accurate in both tails.
        Sigmoid "sigmoid",
        /// `x * sigmoid(x)`; minus zero at minus infinity.
        Silu "silu",
        /// `x`, and 0 where it is below zero.
        Relu "relu",
        /// `x * Φ(x)`, with the exact normal distribution (erf).
        Gelu "gelu",
        /// The tanh form: `x / 2 * (1 + tanh(sqrt(2 / π) * (x + 0.044715 x³)))`.
        GeluTanh "gelu_tanh",
        /// `log(1 + e^x)`.
        Softplus "softplus",
        /// The sine of any finite angle, within a unit in the last place; NaN at infinity.
        Sin "sin",
        /// The cosine of any finite angle, within a unit in the last place; NaN at infinity.
        Cos "cos",
        /// To the nearest integer, half to even.
        Round "round",
        /// To the next integer below.
        Floor "floor",
        /// 1 for zero and 0 for everything else, NaN included.
        Not "not",
        /// 1 for a finite number and 0 for the rest.
        IsFinite "is_finite",
    }
}

vocabulary! {
    /// A function of two numbers. Comparisons and logic give 1 and 0; a comparison with a NaN is
    /// false, except `Ne`, which is true.
    Binary {
        /// `a + b`.
        Add "add",
        /// `a - b`.
        Sub "sub",
        /// `a * b`.
        Mul "mul",
        /// `a / b`.
        Div "div",
        /// The lesser one; the other one where one is NaN; `b` where they are equal.
        Min "min",
        /// The greater one; the other one where one is NaN; `b` where they are equal.
        Max "max",
        /// `a` to the power of `b`, with the special cases of IEEE 754 `pow`.
        Pow "pow",
        /// `a < b`.
        Lt "lt",
        /// `a <= b`.
        Le "le",
        /// `a > b`.
        Gt "gt",
        /// `a >= b`.
        Ge "ge",
        /// `a == b`.
        Eq "eq",
        /// `a != b`.
        Ne "ne",
        /// Both are nonzero; NaN counts as nonzero.
        And "and",
        /// One is nonzero; NaN counts as nonzero.
        Or "or",
    }
}

vocabulary! {
    /// A number of a row.
    ///
    /// `Sum` and `SumSq` run in 64 lanes: element `i` is added (`SumSq`: in one fused
    /// multiply-add) to lane `i mod 64` in ascending order, from zero, with the row padded by
    /// zeros to whole groups of 16 lanes. Then lanes `i`, `i + 16`, `i + 32` and `i + 48` become
    /// `(i + (i + 16)) + ((i + 32) + (i + 48))`, and of those 16, lanes `i` and `i + 8`, then `i`
    /// and `i + 4`, `i + 2` and `i + 1`. `Max` and `Min` run the same way.
    Reduce {
        /// The sum; 0 for no elements.
        Sum "sum",
        /// The greatest; NaNs are passed over; minus infinity for no elements.
        Max "max",
        /// The least; NaNs are passed over; infinity for no elements.
        Min "min",
        /// The index of the greatest, the lowest of several; NaNs are passed over; 0 for no
        /// elements. Exact for rows up to 2^24 elements.
        ArgMax "argmax",
        /// The sum of squares; 0 for no elements.
        SumSq "sum_sq",
    }
}

vocabulary! {
    /// What a row primitive stores that also sums, out of the rows `a` and `x` and a number `s`.
    Stored {
        /// `a`.
        Copy "copy",
        /// `a + s * x`, rounded once.
        Axpy "axpy",
        /// `a + x`.
        Add "add.vv",
        /// `a - x`.
        Sub "sub.vv",
        /// `a * x`.
        Mul "mul.vv",
        /// `a + s`.
        AddVs "add.vs",
        /// `a - s`.
        SubVs "sub.vs",
        /// `a * s`.
        MulVs "mul.vs",
    }
}

vocabulary! {
    /// What a row primitive sums that also stores, in the order of [`Reduce::Sum`].
    Summed {
        /// What is stored.
        Sum "sum",
        /// Its squares, each in one fused multiply-add.
        SumSq "sum_sq",
        /// Its products with another row, each in one fused multiply-add.
        Dot "dot",
    }
}

impl Unary {
    /// The operation's value at `a`.
    pub fn apply(self, a: f32) -> f32 {
        math::unary(self, a)
    }
}

impl Binary {
    /// The operation's value at `a` and `b`.
    pub fn apply(self, a: f32, b: f32) -> f32 {
        math::binary(self, a, b)
    }
}

impl Reduce {
    /// The operation's value over `row`, by portable code.
    pub fn apply(self, row: &[f32]) -> f32 {
        // SAFETY: the pointer and the length are those of a slice.
        unsafe { crate::rows::reduce(crate::Isa::Portable, self)(row.as_ptr(), row.len()) }
    }
}
