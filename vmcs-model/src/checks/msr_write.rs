//! Whether WRMSR at CPL 0 would take a value, judged by the rules of the MSR.

use super::msr_rules::{Exists, MsrRule, Takes};
use crate::capabilities::{Capabilities, Facts, ReservedBits};
use crate::msr::CapabilityMsr;
use crate::profile::CpuidLeaf;
use crate::registers::{DEBUGCTL_UNCORE_PMI, Efer, cet_suppress_and_tracker, pat_valid};

/// What WRMSR does with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// The MSR takes the value.
    Loads,
    /// WRMSR would raise #GP.
    Fails,
    /// Whether the MSR takes the value depends on facts that are not known, or the SDM leaves it to the processor.
    Open,
}

impl Write {
    const fn loads_if(loads: bool) -> Self {
        if loads { Self::Loads } else { Self::Fails }
    }

    const fn open_if(open: bool) -> Self {
        if open { Self::Open } else { Self::Loads }
    }

    /// The result if two conditions have to hold: the value is loaded only if both allow it, and fails if either fails.
    fn and(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Fails => Self::Fails,
            Self::Loads => other(),
            Self::Open => match other() {
                Self::Fails => Self::Fails,
                _ => Self::Open,
            },
        }
    }
}

/// Guest state that MSR writes depend on, as it is when MSRs are loaded. What is not known is `None`.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoadedState {
    /// The value of IA32_EFER.LME that a write may not change, because CR0.PG is 1. The inner `None` means that CR0.PG is 0,
    /// the outer `None` that it is not known.
    pub(super) locked_lme: Option<Option<bool>>,
    /// IA32_RTIT_CTL.TraceEn.
    pub(super) trace_enabled: Option<bool>,
}

/// Whether the rule alone shows that [`write`] does not fail, so that it need not be called.
#[inline]
pub(super) fn loads_simply(has: &Capabilities, rule: &MsrRule, value: u64) -> bool {
    let exists = match rule.exists {
        Exists::Always => true,
        Exists::Cpuid(leaf, register, mask) => has.cpuid_any(leaf, register, mask),
        _ => false,
    };
    exists
        && match rule.takes {
            Takes::Any => true,
            Takes::Without(reserved) => value & reserved == 0,
            Takes::Canonical(reserved) => value & reserved == 0 && has.canonical(value),
            _ => false,
        }
}

/// Whether `value` can be written to the MSR `number`, whose rule is `rule`.
pub(super) fn write(has: &Capabilities, state: &LoadedState, rule: &MsrRule, number: u32, value: u64) -> Write {
    // What fails on every processor comes first, so that it fails even if facts are missing.
    let n = number - rule.first;
    match takes(has, state, rule.takes, n, value) {
        Write::Fails if rule.takes == Takes::Nothing => Write::Fails,
        taken => exists(has, rule.exists, n).and(|| taken),
    }
}

fn known(has: &Capabilities, facts: Facts, answer: impl FnOnce() -> Write) -> Write {
    if has.unknown.intersects(facts) { Write::Open } else { answer() }
}

fn exists(has: &Capabilities, exists: Exists, n: u32) -> Write {
    let bits = |(leaf, register, mask): (CpuidLeaf, usize, u32)| {
        known(has, Facts::cpuid(leaf), || Write::loads_if(has.cpuid_any(leaf, register, mask)))
    };
    let counters = |mask: u64| reserved(mask, has.reserved.perf_global_ctrl);
    let version = |least: u32| {
        known(has, Facts::cpuid(CpuidLeaf::PerformanceMonitoring), || {
            Write::loads_if(has.cpuid(CpuidLeaf::PerformanceMonitoring)[0] & 0xFF >= least)
        })
    };
    match exists {
        Exists::Always => Write::Loads,
        Exists::NotKnown => Write::Open,
        Exists::Cpuid(leaf, register, mask) => bits((leaf, register, mask)),
        Exists::Either(a, b) => match (bits(a), bits(b)) {
            (Write::Loads, _) | (_, Write::Loads) => Write::Loads,
            (Write::Fails, Write::Fails) => Write::Fails,
            _ => Write::Open,
        },
        Exists::PerformanceMonitoring(least) => version(least),
        Exists::PerformanceMonitoringOrOwn(least) => match version(least) {
            Write::Fails => Write::Open,
            exists => exists,
        },
        // Version 1 has counters but no IA32_PERF_GLOBAL_CTRL.
        Exists::GeneralCounter | Exists::FixedCounter if version(2) != Write::Loads => version(1).and(|| Write::Open),
        Exists::GeneralCounter => counters(1 << (n & 31)),
        Exists::FixedCounter => counters(1 << (32 + (n & 15))),
        Exists::TraceRange => {
            known(has, Facts::cpuid(CpuidLeaf::Trace1), || Write::loads_if(n / 2 < has.cpuid(CpuidLeaf::Trace1)[0] & 7))
        }
        Exists::SgxLaunchControl => bits((CpuidLeaf::Extended0, 2, 1 << 30)).and(|| {
            let unlocked = Facts::msr(CapabilityMsr::FeatureControl);
            known(has, unlocked, || Write::open_if(has.feature_control & 1 << 17 == 0))
        }),
        Exists::DualMonitor => {
            known(has, Facts::msr(CapabilityMsr::Basic), || Write::loads_if(has.basic & 1 << 49 != 0))
        }
    }
}

fn takes(has: &Capabilities, state: &LoadedState, takes: Takes, n: u32, value: u64) -> Write {
    match takes {
        Takes::Any => Write::Loads,
        Takes::Nothing => Write::Fails,
        Takes::Without(reserved) => Write::loads_if(value & reserved == 0),
        Takes::Canonical(reserved) => Write::loads_if(value & reserved == 0).and(|| canonical(has, value)),
        Takes::WithoutOrOpen(reserved, open) => {
            Write::loads_if(value & reserved == 0).and(|| Write::open_if(value & open != 0))
        }
        Takes::MtrrDefType => Write::loads_if(mtrr_type(value & 0xFF) && value & !0xCFF == 0),
        Takes::MtrrVariable if n & 1 == 0 => {
            Write::loads_if(mtrr_type(value & 0xFF) && value & 0xF00 == 0).and(|| physical(has, value))
        }
        Takes::MtrrVariable => Write::loads_if(value & 0x7FF == 0).and(|| physical(has, value)),
        Takes::MtrrFixed => Write::loads_if(value.to_le_bytes().into_iter().all(|byte| mtrr_type(byte.into()))),
        Takes::Pat => Write::loads_if(pat_valid(value)),
        Takes::ApicBase => apic_base(has, value),
        Takes::SmmMonitorControl => Write::loads_if(value & (u64::MAX << 32 | 0xFF8 | 1 << 1) == 0).and(|| {
            known(has, Facts::msr(CapabilityMsr::Misc), || {
                Write::loads_if(value & 1 << 2 == 0 || has.misc & 1 << 28 != 0)
            })
        }),
        Takes::SpecCtrl => reserved(value, has.reserved.spec_ctrl),
        Takes::Debugctl => {
            let value_ = value & !DEBUGCTL_UNCORE_PMI;
            reserved(value_, has.reserved.debugctl).and(|| Write::open_if(value_ != value))
        }
        Takes::PerfGlobalCtrl => reserved(value, has.reserved.perf_global_ctrl),
        // Bit 19 (pin control) is reserved from Sandy Bridge on, bit 21 (any thread) is deprecated, and newer bits lie in
        // the upper dword.
        Takes::PerfEventSelect => Write::open_if(value & !0xFFD7_FFFF != 0),
        Takes::FixedCounter => known(has, Facts::cpuid(CpuidLeaf::PerformanceMonitoring), || {
            let width = has.cpuid(CpuidLeaf::PerformanceMonitoring)[3] >> 5 & 0xFF;
            Write::loads_if(value.checked_shr(width).unwrap_or(0) == 0)
        }),
        Takes::FixedCounterControl => fixed_counter_control(has, value),
        Takes::TraceWithoutOrOpen(reserved, open) => Write::loads_if(value & reserved == 0)
            .and(|| Write::open_if(value & open != 0))
            .and(|| trace_stopped(state)),
        Takes::TraceStatus => trace_status(has, value).and(|| trace_stopped(state)),
        Takes::TraceOutputBase => {
            Write::loads_if(value & 0x7F == 0).and(|| physical(has, value)).and(|| trace_stopped(state))
        }
        Takes::TraceAddress => canonical(has, value).and(|| trace_stopped(state)),
        Takes::TraceControl => trace_control(has, value),
        Takes::Cet => Write::loads_if(!cet_suppress_and_tracker(value))
            .and(|| reserved(value, has.reserved.cet))
            .and(|| canonical(has, value)),
        Takes::Xss => known(has, Facts::cpuid(CpuidLeaf::Xsave1), || {
            let [_, _, ecx, edx] = has.cpuid(CpuidLeaf::Xsave1);
            Write::loads_if(value & !(u64::from(edx) << 32 | u64::from(ecx)) == 0)
        }),
        Takes::LbrControl => reserved(value, has.reserved.lbr_ctl),
        Takes::LbrDepth => known(has, Facts::cpuid(CpuidLeaf::LastBranch), || {
            let depths = has.cpuid(CpuidLeaf::LastBranch)[0];
            Write::loads_if((1..=8).any(|k| value == 8 * k && depths >> (k - 1) & 1 != 0))
        }),
        Takes::Efer => efer(has, state, value),
    }
}

/// No bit that the processor reserves is 1; facts that are not known leave some bits open.
const fn reserved(value: u64, bits: ReservedBits) -> Write {
    if value & bits.certain != 0 {
        return Write::Fails;
    }
    Write::open_if(value & bits.open != 0)
}

fn canonical(has: &Capabilities, value: u64) -> Write {
    Write::loads_if(has.canonical(value)).and(|| Write::open_if(!has.canonical_in_any_case(value)))
}

/// Memory types of MTRRs: UC, WC, WT, WP, WB.
const fn mtrr_type(kind: u64) -> bool {
    matches!(kind, 0 | 1 | 4 | 5 | 6)
}

/// No bit beyond the physical-address width is 1. The SDM leaves open whether memory encryption reduces the width here.
fn physical(has: &Capabilities, value: u64) -> Write {
    let with_encryption = has.reserved.physical;
    reserved(value, has.reserved.guest_physical)
        .and(|| Write::open_if(value & (with_encryption.certain | with_encryption.open) != 0))
}

/// Bits 7:0, 9 and those beyond the physical-address width are reserved, and bit 10 (x2APIC mode) needs bit 11 (enabled)
/// and x2APIC. Which changes of mode are allowed depends on the mode, which the model does not know.
fn apic_base(has: &Capabilities, value: u64) -> Write {
    Write::loads_if(value & 0x2FF == 0 && value & 0xC00 != 0x400).and(|| physical(has, value)).and(|| {
        known(has, Facts::cpuid(CpuidLeaf::Features), || {
            let x2apic = has.cpuid(CpuidLeaf::Features)[2] & 1 << 21 != 0;
            Write::loads_if(x2apic || value & 0x400 == 0).and(|| Write::open_if(x2apic))
        })
    })
}

/// IA32_FIXED_CTR_CTRL has four bits for each counter: bits 1:0 enable it, bit 3 asks for interrupts, and bit 2 (any thread)
/// is deprecated. Newer processors define bits above these.
fn fixed_counter_control(has: &Capabilities, value: u64) -> Write {
    let ReservedBits { certain, open } = has.reserved.perf_global_ctrl;
    let absent = (certain | open) >> 32;
    let open =
        (0..16).filter(|k| value >> (4 * k) & 0xF != 0).any(|k| absent >> k & 1 != 0 || value >> (4 * k) & 1 << 2 != 0);
    Write::open_if(open)
}

/// MSRs of Processor Trace other than IA32_RTIT_CTL cannot be written while TraceEn is 1.
const fn trace_stopped(state: &LoadedState) -> Write {
    match state.trace_enabled {
        Some(false) => Write::Loads,
        Some(true) => Write::Fails,
        None => Write::Open,
    }
}

/// IA32_RTIT_STATUS. Bits 2:0 are ignored, 4 and 5 are taken, and so is the packet byte count where it exists. Bits 3, 6, 7
/// and 8 exist on newer processors, which CPUID does not tell in one way.
fn trace_status(has: &Capabilities, value: u64) -> Write {
    const RESERVED: u64 = 0xFFFE_0000_FFFF_FE00;
    const PACKET_BYTE_COUNT: u64 = 0x1_FFFF << 32;
    const NEWER: u64 = 1 << 3 | 1 << 6 | 1 << 7 | 1 << 8;
    let byte_count = || {
        if value & PACKET_BYTE_COUNT == 0 {
            return Write::Loads;
        }
        known(has, Facts::cpuid(CpuidLeaf::Trace0), || Write::loads_if(has.cpuid(CpuidLeaf::Trace0)[1] & 1 << 1 != 0))
    };
    Write::loads_if(value & RESERVED == 0).and(byte_count).and(|| Write::open_if(value & NEWER != 0))
}

/// Where IA32_VMX_MISC\[14\] is 0, TraceEn cannot be set in VMX operation; newer editions of the SDM say that the MSR cannot
/// be written at all. Encodings of frequencies and ranges, and what may be changed while TraceEn stays 1, are open.
fn trace_control(has: &Capabilities, value: u64) -> Write {
    const TRACE_EN: u64 = 1;
    const ENCODINGS: u64 = 0xFFFF << 32 | 0xF << 24 | 0xF << 19 | 0xF << 14;
    known(has, Facts::msr(CapabilityMsr::Misc), || match (has.misc & 1 << 14 != 0, value & TRACE_EN != 0) {
        (true, _) => Write::Loads,
        (false, true) => Write::Fails,
        (false, false) => Write::Open,
    })
    .and(|| reserved(value, has.reserved.rtit_ctl))
    .and(|| Write::open_if(value & (ENCODINGS | TRACE_EN) != 0))
}

/// IA32_EFER: a write of LMA is ignored, and LME cannot change while CR0.PG is 1.
fn efer(has: &Capabilities, state: &LoadedState, value: u64) -> Write {
    let written = value & !Efer::LMA.bits();
    reserved(written, has.reserved.efer).and(|| match state.locked_lme {
        None => Write::Open,
        Some(None) => Write::Loads,
        Some(Some(lme)) => Write::loads_if(lme == (value & Efer::LME.bits() != 0)),
    })
}
