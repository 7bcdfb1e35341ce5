//! What is decided although a value is not known, because every value that it can have leads to the same.

use vmcs_case::profile::NamedProfile;
use vmcs_model::checks::{CheckId, CheckSet};
use vmcs_model::context::Mode;
use vmcs_model::controls::{Entry, Exit, Primary};
use vmcs_model::field::{self, FieldId, FieldValue};
use vmcs_model::formats::AccessRights;
use vmcs_model::partial::{PartialVmcs, Supposing};
use vmcs_model::registers::{Cr0, Cr4, Efer};
use vmcs_model::{CpuProfile, EntryAttempt, Outcome, ReadMemory, Verdict};

use crate::dump::Dump;

/// What is known of a processor for certain, because it attempted the entry of that dump: what `profile` says, and that it has
/// Intel 64 if it runs a 64-bit host. This is the only place where a dump says something of the processor.
#[must_use]
pub(super) fn with_implied(profile: &CpuProfile, dump: &Dump) -> CpuProfile {
    let has = |field: FieldId, bits: u64| dump.vmcs.raw(field).is_some_and(|value| value & bits != 0);
    let host_64 = has(field::PRIMARY_VM_EXIT_CONTROLS.id(), Exit::HOST_ADDRESS_SPACE_SIZE.bits().to_raw())
        || has(field::HOST_IA32_EFER.id(), Efer::LMA.bits());
    // A processor that got as far as the guest state has accepted the controls.
    let controls_accepted =
        matches!(dump.reported.and_then(|reported| reported.outcome()), Some(Outcome::EntryFailed { .. }));
    let guest_64 = has(field::VM_ENTRY_CONTROLS.id(), Entry::IA_32E_MODE_GUEST.bits().to_raw());
    let mut profile = profile.clone();
    profile.seen_in_ia32e_mode |= host_64 || controls_accepted && guest_64;
    profile
}

/// What is known of a processor that may be any of those: on what they do not agree is not known.
#[must_use]
pub fn common(profiles: &[&NamedProfile]) -> CpuProfile {
    use vmcs_model::msr::CapabilityMsr;
    use vmcs_model::profile::{CpuidLeaf, MsrValue};
    let Some((first, others)) = profiles.split_first() else { return CpuProfile::default() };
    let mut common = first.profile.clone();
    for msr in CapabilityMsr::ALL {
        if others.iter().any(|other| other.profile.known_msr(msr) != common.known_msr(msr)) {
            common.set_msr(msr, MsrValue::Unknown);
        }
    }
    for leaf in CpuidLeaf::ALL {
        if others.iter().any(|other| other.profile.known_cpuid(leaf) != first.profile.known_cpuid(leaf)) {
            common.forget_cpuid(leaf);
        }
    }
    common
}

/// A rule is broken in either state of a mode of which the state is not known: one of two checks is violated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// The check that is violated in the state that the other values make likely.
    pub likely: CheckId,
    /// The check that is violated in the other state.
    pub other: CheckId,
}

/// What is decided of an entry.
#[derive(Clone, Debug)]
pub(super) struct Decided {
    pub(super) verdict: Verdict,
    pub(super) alternatives: Vec<Alternative>,
    /// The outcomes that are permitted; [`Verdict::permitted`] may have more of them.
    pub(super) permitted: Vec<Outcome>,
}

/// Judges the entry: as it is, and with each state of a mode whose field is not known.
pub(super) fn decide(attempt: EntryAttempt<'_>, vmcs: &PartialVmcs, memory: &impl ReadMemory) -> Decided {
    let mut verdict = attempt.on(vmcs, memory).verdict();
    let mut permitted: Vec<_> = verdict.permitted.iter().collect();
    let mut alternatives = Vec::new();
    for mode in Mode::ALL.into_iter().filter(|mode| !known(*mode, vmcs)) {
        let states = [false, true].map(|state| attempt.on(&Supposing::new(vmcs, mode, state), memory).verdict());
        permitted.retain(|outcome| states.iter().any(|state| state.permits(outcome)));
        let [off, on] = states.map(|state| state.violated);
        for check in off.iter().filter(|check| on.contains(*check)) {
            verdict.violated.insert(check);
        }
        let [off, on] = [off, on].map(|violated| without(&violated, &verdict.violated));
        let (likely, other) = if is_likely(mode, vmcs) { (on, off) } else { (off, on) };
        alternatives.extend(pairs(&likely, &other));
    }
    verdict.undecidable = without(&verdict.undecidable, &verdict.violated);
    Decided { verdict, alternatives, permitted }
}

fn without(checks: &CheckSet, less: &CheckSet) -> CheckSet {
    checks.iter().filter(|check| !less.contains(*check)).collect()
}

/// Checks of which one is violated in any case, two by two: those about the same fields, or else the first ones.
fn pairs(likely: &CheckSet, other: &CheckSet) -> Vec<Alternative> {
    let about = |check: CheckId| check.info().fields.first();
    let alike = likely.iter().filter_map(|likely| {
        let other = other.iter().find(|other| about(*other) == about(likely))?;
        Some(Alternative { likely, other })
    });
    let alike: Vec<_> = alike.collect();
    if !alike.is_empty() {
        return alike;
    }
    likely
        .iter()
        .next()
        .zip(other.iter().next())
        .map(|(likely, other)| Alternative { likely, other })
        .into_iter()
        .collect()
}

/// Whether the field that holds the bit is known.
fn known(mode: Mode, vmcs: &PartialVmcs) -> bool {
    match mode {
        Mode::Ia32eGuest => vmcs.raw(field::VM_ENTRY_CONTROLS.id()).is_some(),
        Mode::UnrestrictedGuest => {
            let primary = vmcs.raw(field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id()).map(Primary::from_raw);
            primary.is_some_and(|primary| {
                !primary.contains(Primary::ACTIVATE_SECONDARY_CONTROLS)
                    || vmcs.raw(field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id()).is_some()
            })
        }
        Mode::Virtual8086 => vmcs.raw(field::GUEST_RFLAGS.id()).is_some(),
    }
}

/// Whether the other values make it likely that the bit is 1. It only decides which of two checks is named first.
fn is_likely(mode: Mode, vmcs: &PartialVmcs) -> bool {
    let cr0 = vmcs.raw(field::GUEST_CR0.id()).map(Cr0::from_bits_retain);
    match mode {
        Mode::Ia32eGuest => {
            let pae = vmcs.raw(field::GUEST_CR4.id()).is_none_or(|cr4| Cr4::from_bits_retain(cr4).contains(Cr4::PAE));
            let long = vmcs.raw(field::GUEST_CS_ACCESS_RIGHTS.id()).map(|rights| AccessRights::from_raw(rights).long());
            let efer = vmcs.raw(field::GUEST_IA32_EFER.id()).map(|efer| efer & Efer::LMA.bits() != 0);
            pae && cr0.is_none_or(|cr0| cr0.contains(Cr0::PG)) && efer.or(long).unwrap_or(true)
        }
        Mode::UnrestrictedGuest => cr0.is_some_and(|cr0| !cr0.contains(Cr0::PE | Cr0::PG)),
        Mode::Virtual8086 => false,
    }
}
