//! The instruction sets a kernel exists for.

/// An instruction set. All of them give the same bits; they differ in speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust, on any processor.
    Portable,
    /// The vectors of aarch64.
    Neon,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, DQ, BW and VL.
    Avx512,
}

impl Isa {
    /// Every instruction set, the slowest first.
    pub const ALL: [Isa; 4] = [Isa::Portable, Isa::Neon, Isa::Avx2, Isa::Avx512];

    /// The fastest one this processor has.
    pub fn detect() -> Isa {
        Isa::ALL.into_iter().rev().find(|isa| isa.is_supported()).unwrap_or(Isa::Portable)
    }

    /// Those this processor has, the slowest first.
    pub fn supported() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_supported())
    }

    /// Whether this processor has it.
    pub fn is_supported(self) -> bool {
        match self {
            Isa::Portable => true,
            Isa::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                Isa::Avx2.is_supported()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Those that code can be built for, for other machines, too; the slowest first.
    pub fn buildable() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_buildable())
    }

    /// Whether code can be built for it: processors of this architecture can have it, whether or not this one does, and it has
    /// the fused products and the rounding that kernels are made of, which the plainest ones lack.
    pub fn is_buildable(self) -> bool {
        match self {
            Isa::Portable => false,
            Isa::Neon => cfg!(target_arch = "aarch64"),
            Isa::Avx2 | Isa::Avx512 => cfg!(target_arch = "x86_64"),
        }
    }

    /// `portable`, `neon`, `avx2` or `avx512`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// The instruction set of that name.
    pub fn from_name(name: &str) -> Option<Isa> {
        Isa::ALL.into_iter().find(|isa| isa.name() == name)
    }

    /// # Panics
    /// When this processor lacks it: its kernels would be undefined behaviour.
    #[track_caller]
    pub(crate) fn require(self) {
        assert!(self.is_supported(), "this processor has no {}", self.name());
    }
}

/// `$table` of the module of each instruction set, by `$isa`.
macro_rules! by_isa {
    ($isa:expr, $($path:tt)+) => {
        match $isa {
            $crate::Isa::Portable => &portable::$($path)+,
            #[cfg(target_arch = "x86_64")]
            $crate::Isa::Avx2 => &avx2::$($path)+,
            #[cfg(target_arch = "x86_64")]
            $crate::Isa::Avx512 => &avx512::$($path)+,
            #[cfg(target_arch = "aarch64")]
            $crate::Isa::Neon => &neon::$($path)+,
            // Those of other processors.
            #[allow(unreachable_patterns)]
            _ => &portable::$($path)+,
        }
    };
}
pub(crate) use by_isa;

/// Runs `$generate!(module, lane type, attribute)` once per instruction set.
macro_rules! for_each_isa {
    ($generate:ident) => {
        $generate!(portable, $crate::lanes::portable::P16, inline);
        #[cfg(target_arch = "aarch64")]
        $generate!(neon, $crate::lanes::neon::V128, target_feature(enable = "neon"));
        #[cfg(target_arch = "x86_64")]
        $generate!(avx2, $crate::lanes::avx2::V256, target_feature(enable = "avx2,fma,f16c"));
        #[cfg(target_arch = "x86_64")]
        $generate!(
            avx512,
            $crate::lanes::avx512::V512,
            target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,f16c")
        );
    };
}
pub(crate) use for_each_isa;
