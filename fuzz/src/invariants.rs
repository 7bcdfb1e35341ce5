//! Properties that hold for every input, as functions that panic if one does not hold. Fuzz targets and property tests call
//! them.

mod damage;
mod files;
mod generated;

pub use damage::damage;
pub use files::files;
pub use generated::generated;

use arbitrary::{Result, Unstructured};
use vmcs_model::capabilities::Capabilities;
use vmcs_model::checks::CheckSet;
use vmcs_model::field::FieldId;
use vmcs_model::memory::ReadMemory;
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::partial::PartialVmcs;
use vmcs_model::profile::{CpuProfile, CpuidLeaf, MsrValue};
use vmcs_model::{CpuState, EntryAttempt, EntryInstruction, LaunchState, Outcome, ReadFields, Verdict, Vmcs};
use vmcs_wire::{Op, Start, StepResult, layout};

use crate::TestProcessor;
use crate::emulator::CaseEmulator;
use crate::generate::Generator;
use crate::generate::rounding;
use crate::processor::base_images;

/// Any VMCS, processor and memory: there is a verdict, and the ways of asking for it agree.
pub fn entry(bytes: &[u8]) {
    let _ = try_entry(&mut Unstructured::new(bytes));
}

fn try_entry(u: &mut Unstructured<'_>) -> Result<()> {
    let profile = any_profile(u)?;
    let capabilities = Capabilities::new(&profile);
    let memory = PatternMemory(u.arbitrary()?);
    let mut cpu = CpuState::host_64();
    cpu.smm = u.ratio(1u8, 8u8)?;
    cpu.seam = u.ratio(1u8, 16u8)?;
    let attempt = EntryAttempt {
        instruction: *u.choose(&[EntryInstruction::Vmlaunch, EntryInstruction::Vmresume])?,
        launch_state: *u.choose(&[LaunchState::Clear, LaunchState::Launched, LaunchState::LaunchedBeforeVmxoff])?,
        shadow: u.ratio(1u8, 16u8)?,
        cpu: &cpu,
        capabilities: &capabilities,
    };
    let mut vmcs = base_images::plain(&capabilities);
    let mut partial = PartialVmcs::new();
    for field in FieldId::all() {
        if u.ratio(1u8, 24u8)? {
            vmcs.set_raw(field, u.arbitrary()?);
        }
        if !u.ratio(1u8, 24u8)? {
            partial.set_raw(field, vmcs.raw(field));
        }
    }

    let verdict = attempt.on(&vmcs, &memory).verdict();
    let first = attempt.on(&vmcs, &memory).first_violation();
    assert_eq!(first.is_none(), verdict.violated.is_empty(), "first violation against all violations");
    assert!(first.is_none_or(|check| verdict.violated.contains(check)), "{first:?} is not among all violations");
    assert!(verdict.permitted.iter().next().is_some(), "something must happen");
    // One entry of the MSR-load area may be open and a later one fail for certain.
    let decided = verdict.undecidable.is_empty();
    assert!(!verdict.violated.is_empty() || !decided || verdict.permits(&Outcome::Entered));

    let told = attempt.on(&partial, &memory).verdict();
    for check in told.violated.iter() {
        assert!(verdict.violated.contains(check), "{check} was called violated and holds");
    }
    for check in verdict.violated.iter() {
        let said = told.violated.contains(check) || told.undecidable.contains(check);
        assert!(said, "{check} was called good and is violated");
    }
    if FieldId::all().all(|field| partial.knows(field)) && capabilities.unknown == Default::default() {
        assert_eq!(told.violated, verdict.violated);
        assert!(told.undecidable.is_empty());
    }
    for outcome in verdict.permitted.iter() {
        assert!(told.permits(&outcome), "{outcome} is permitted and was excluded while values were unknown");
    }
    incomplete(u, &profile, attempt, &partial, &memory, &verdict)?;
    // It asks for hundreds of verdicts.
    if u.ratio(1u8, 16u8)? {
        rounded(attempt, &vmcs, &memory, &verdict);
    }
    Ok(())
}

/// What any image is rounded to can be entered, and nothing else can come of it; an image that is so already stays.
fn rounded(attempt: EntryAttempt<'_>, vmcs: &Vmcs, memory: &impl ReadMemory, verdict: &Verdict) {
    let entered = Some(Outcome::Entered);
    match rounding::round(attempt, vmcs, memory) {
        Some(near) => {
            let after = attempt.on(&near, memory).verdict();
            assert_eq!((after.violated, after.permitted.single()), (CheckSet::EMPTY, entered), "after rounding");
            let differs = |field: &FieldId| near.raw(*field) != vmcs.raw(*field);
            let changed = FieldId::all().find(differs);
            assert!(
                changed.is_none() || verdict.permitted.single() != entered,
                "{changed:?} of a valid image was changed"
            );
        }
        None => assert_ne!(verdict.permitted.single(), entered, "a valid image was not rounded"),
    }
}

/// With facts about the processor and memory unknown as well, nothing is said that `verdict` on the whole contradicts.
fn incomplete(
    u: &mut Unstructured<'_>,
    profile: &CpuProfile,
    attempt: EntryAttempt<'_>,
    vmcs: &PartialVmcs,
    memory: &impl ReadMemory,
    verdict: &Verdict,
) -> Result<()> {
    let known = forget(u, profile)?;
    let capabilities = Capabilities::new(&known);
    let attempt = EntryAttempt { capabilities: &capabilities, ..attempt };
    let holes = u.arbitrary::<u64>()?;
    let memory = Holes { memory, holes };
    let told = attempt.on(vmcs, &memory).verdict();
    for check in told.violated.iter() {
        assert!(verdict.violated.contains(check), "{check} was called violated and holds on a processor like that");
        let explanation = attempt.on(vmcs, &memory).explain(check).to_string();
        assert!(explanation.starts_with(check.info().id), "{explanation}");
    }
    for check in verdict.violated.iter() {
        let said = told.violated.contains(check) || told.undecidable.contains(check);
        assert!(said, "{check} was called good and is violated on a processor like that");
    }
    for check in told.undecidable.iter().take(8) {
        let unknown = attempt.on(vmcs, &memory).unknowns(check);
        assert!(!unknown.is_empty(), "{check} is undecidable for no reason");
        assert!(unknown.fields.iter().all(|field| !vmcs.knows(field)), "{check}: {unknown:?} is known");
    }
    for outcome in verdict.permitted.iter() {
        assert!(told.permits(&outcome), "{outcome} is permitted and was excluded while the processor was unknown");
    }
    Ok(())
}

/// A processor of which less is known.
fn forget(u: &mut Unstructured<'_>, profile: &CpuProfile) -> Result<CpuProfile> {
    let mut known = CpuProfile::default();
    known.quirks = profile.quirks;
    let most = u.int_in_range(0..=8u8)?;
    let mut keep = || Ok(u.int_in_range(0..=7u8)? >= most);
    for msr in CapabilityMsr::ALL {
        if keep()? {
            known.set_msr(msr, profile.msr(msr));
        }
    }
    for leaf in CpuidLeaf::ALL {
        if let Some(registers) = profile.cpuid(leaf)
            && keep()?
        {
            known.set_cpuid(leaf, registers);
        }
    }
    // In a profile that contradicts itself, what is forgotten may not become known to be something else.
    for leaf in CpuidLeaf::ALL {
        if let (Some(registers), Some(follows)) = (profile.cpuid(leaf), known.known_cpuid(leaf))
            && registers != follows
        {
            known.set_cpuid(leaf, registers);
        }
    }
    for msr in CapabilityMsr::ALL {
        if known.known_msr(msr) != MsrValue::Unknown {
            known.set_msr(msr, profile.known_msr(msr));
        }
    }
    Ok(known)
}

/// Memory of which some pages are not known.
struct Holes<'a, M> {
    memory: &'a M,
    holes: u64,
}

impl<M: ReadMemory> ReadMemory for Holes<'_, M> {
    fn read_u32(&self, address: u64) -> Option<u32> {
        let hole = self.holes >> (address >> 12 & 63) & 1 != 0;
        if hole { None } else { self.memory.read_u32(address) }
    }
}

/// A processor whose MSRs are mostly those that hardware reports, and sometimes anything.
fn any_profile(u: &mut Unstructured<'_>) -> Result<CpuProfile> {
    let known = vmcs_case::profile::NamedProfile::embedded();
    let mut profile = u.choose(known)?.profile.clone();
    for msr in CapabilityMsr::ALL {
        match u.int_in_range(0..=15u8)? {
            0 => profile.set_msr(msr, MsrValue::Value(u.arbitrary()?)),
            1 => profile.set_msr(msr, MsrValue::Absent),
            _ => {}
        }
    }
    for leaf in CpuidLeaf::ALL {
        if u.ratio(1u8, 16u8)? {
            profile.set_cpuid(leaf, u.arbitrary()?);
        }
    }
    Ok(profile)
}

/// Memory in which every dword follows from its address.
struct PatternMemory(u64);

impl ReadMemory for PatternMemory {
    #[allow(clippy::cast_possible_truncation, reason = "some bits of a hash")]
    fn read_u32(&self, address: u64) -> Option<u32> {
        Some((address ^ self.0).wrapping_mul(0x9E37_79B9_7F4A_7C15) as u32 >> 3)
    }
}

/// Any program of VMX instructions: no panic, and the rules of the launch state hold.
///
/// VMLAUNCH succeeds only on a VMCS whose launch state is clear, VMRESUME only on one that is launched, and VMCLEAR makes
/// it clear again.
pub fn program(bytes: &[u8]) {
    let profiles = vmcs_case::profile::NamedProfile::embedded();
    let (choice, rest) = bytes.split_first().map_or((0, bytes), |(first, rest)| (usize::from(*first), rest));
    let profile = &profiles[choice % profiles.len()].profile;
    let processor = TestProcessor::new(profile);
    let session = processor.session();
    let case = Generator::Programs.from_bytes(&processor, rest);
    let mut machine = CaseEmulator::new(profile, case.start);
    for op in &case.ops {
        let before = machine.processor().current().map(|region| region.launch_state);
        let result = machine.step(&session, op);
        let after = machine.processor().current().map(|region| region.launch_state);
        match (op, &result) {
            (Op::Vmlaunch { .. }, StepResult::Exit { reason, .. }) => {
                assert_eq!(before, Some(LaunchState::Clear), "VMLAUNCH got past a launch state that is not clear");
                let entered = reason >> 31 == 0;
                let expected = if entered { LaunchState::Launched } else { LaunchState::Clear };
                assert_eq!(after, Some(expected), "the launch state after VMLAUNCH");
            }
            (Op::Vmresume { .. }, StepResult::Exit { .. }) => {
                assert_ne!(before, Some(LaunchState::Clear), "VMRESUME got past a clear launch state");
                assert_eq!(after, before, "VMRESUME changed the launch state");
            }
            (Op::Vmclear { address }, StepResult::Ok) => {
                let region = machine.processor().region(*address);
                assert_eq!(region.map(|r| r.launch_state), Some(LaunchState::Clear), "the launch state after VMCLEAR");
            }
            _ => {}
        }
    }
    // The probe's standard regions still answer: VMCLEAR, VMPTRLD, VMRESUME is error 5 on any of them.
    let mut fresh = CaseEmulator::new(profile, Start::VmxRoot);
    let region = layout::VMCS_REGIONS;
    let revision = u64::from(processor.capabilities.revision());
    fresh.step(&session, &Op::Store { address: region, size: 4, value: revision });
    if fresh.step(&session, &Op::Vmclear { address: region }) == StepResult::Ok
        && fresh.step(&session, &Op::Vmptrld { address: region }) == StepResult::Ok
    {
        assert_eq!(fresh.step(&session, &Op::Vmresume { after_mov_ss: false }), StepResult::FailValid(5));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn entries(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            super::entry(&bytes);
        }

        #[test]
        fn programs(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            super::program(&bytes);
        }
    }
}
