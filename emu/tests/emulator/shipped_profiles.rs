//! On every processor that comes with the project the plain image is entered: what its profile leaves out is not absent.

use vmcs_emu::{EntryResult, LogicalProcessor};
use vmcs_model::controls::Entry as EntryControls;
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::profile::{CpuProfile, CpuidLeaf, MsrValue};
use vmcs_model::registers::{Cr0, Cr4};
use vmcs_model::{Capabilities, EntryInstruction, FieldId, Outcome, Vmcs, baseline, field};

use crate::support::{OTHER, REVISION, SHADOW, VMCS, VMXON_REGION, fields, leave, profile, ready_of};

#[test]
fn the_plain_image_is_entered_or_undecidable_and_never_refused() {
    let mut undecidable = 0;
    for shipped in vmcs_profiles::all() {
        let profile = shipped.profile();
        let capabilities = Capabilities::new(&profile);
        let mut cpu = LogicalProcessor::new(&profile);
        for region in [VMXON_REGION, VMCS] {
            cpu.memory_mut().write_u32(region, capabilities.revision());
        }
        cpu.vmxon(VMXON_REGION).expect("VMXON with a good region");
        cpu.vmclear(VMCS).expect("VMCLEAR of a good address");
        cpu.vmptrld(VMCS).expect("VMPTRLD of a good region");
        cpu.region_mut(VMCS).fields = baseline::plain_64bit(&capabilities);
        let verdict = cpu.verdict(EntryInstruction::Vmlaunch);
        assert!(verdict.violated.is_empty(), "{}: {:?}", shipped.name, verdict.violated);
        assert!(verdict.permits(&Outcome::Entered), "{}", shipped.name);
        undecidable += u32::from(!verdict.undecidable.is_empty());
        assert_eq!(cpu.vmlaunch(), Ok(EntryResult::Entered), "{}", shipped.name);
    }
    assert!(undecidable >= 14, "{undecidable} profiles leave something open");
}

/// Bit 48 of IA32_PERF_GLOBAL_CTRL (PERF_METRICS) exists if bit 15 of IA32_PERF_CAPABILITIES is 1. An emulator to which that
/// MSR is not known does not refuse the entry; one that is told that there is none does.
#[test]
fn an_msr_that_is_not_known_is_not_absent() {
    let enters = |perf_capabilities| {
        let mut profile = profile();
        profile.set_msr(CapabilityMsr::PerfCapabilities, perf_capabilities);
        let mut cpu = ready_of(&profile);
        let fields = &mut cpu.region_mut(VMCS).fields;
        let entry = fields.get(field::VM_ENTRY_CONTROLS) | EntryControls::LOAD_IA32_PERF_GLOBAL_CTRL;
        fields.set(field::VM_ENTRY_CONTROLS, entry);
        fields.set(field::GUEST_IA32_PERF_GLOBAL_CTRL, 1 << 48);
        cpu.vmlaunch()
    };
    let refused = Ok(EntryResult::Failed { reason: 33, qualification: 0 });
    assert_eq!(enters(MsrValue::Value(1 << 15)), Ok(EntryResult::Entered));
    assert_eq!(enters(MsrValue::Unknown), Ok(EntryResult::Entered));
    assert_eq!(enters(MsrValue::Value(0)), refused);
    assert_eq!(enters(MsrValue::Absent), refused);
}

/// An entry whose host CR0 lacks PE is neither refused nor permitted where IA32_VMX_CR0_FIXED0 is not known. The emulator
/// takes it, and is still in VMX operation after the exit: PE is one of the bits that an exit leaves alone.
#[test]
fn an_exit_keeps_what_vmx_operation_needs_where_the_fixed_bits_are_not_known() {
    let (cr0, cr4) = (Cr0::PE | Cr0::NE | Cr0::PG, Cr4::VMXE);
    let mut profile = profile();
    profile.set_msr(CapabilityMsr::Cr0Fixed0, MsrValue::Unknown);
    profile.set_msr(CapabilityMsr::Cr4Fixed0, MsrValue::Unknown);
    let mut cpu = ready_of(&profile);
    let fields = &mut cpu.region_mut(VMCS).fields;
    fields.set(field::HOST_CR0, fields.get(field::HOST_CR0) - cr0);
    fields.set(field::HOST_CR4, fields.get(field::HOST_CR4) - cr4);
    assert_eq!(cpu.vmlaunch(), Ok(EntryResult::Entered));
    leave(&mut cpu);
    assert!(cpu.cpu().cr0.contains(cr0) && cpu.cpu().cr4.contains(cr4), "{:?} {:?}", cpu.cpu().cr0, cpu.cpu().cr4);
    assert!(cpu.vmread(field::EXIT_REASON.encoding().0.into()).is_ok());
}

/// What each VMX instruction comes to on the processor, with that image: VMWRITE and VMREAD of every field, INVEPT and INVVPID of every type,
/// VMPTRLD of a shadow VMCS, an entry, an exit and a second entry.
fn answers(profile: &CpuProfile, image: &Vmcs) -> Vec<(String, bool)> {
    let mut cpu = ready_of(profile);
    let mut answers = Vec::new();
    for field in FieldId::all() {
        let encoding = field.info().encoding.0.into();
        answers.push((format!("vmwrite {field:?}"), cpu.vmwrite(encoding, image.raw(field)).is_ok()));
        answers.push((format!("vmread {field:?}"), cpu.vmread(encoding).is_ok()));
    }
    let eptp = 0x10_0000 | 3 << 3 | 6;
    for kind in 0..4 {
        answers.push((format!("invept {kind}"), cpu.invept(kind, [eptp, 0]).is_ok()));
        answers.push((format!("invvpid {kind}"), cpu.invvpid(kind, [1, 0x1000]).is_ok()));
    }
    answers.push(("vmlaunch".to_owned(), cpu.vmlaunch() == Ok(EntryResult::Entered)));
    leave(&mut cpu);
    answers.push(("vmresume".to_owned(), cpu.vmresume() == Ok(EntryResult::Entered)));
    leave(&mut cpu);
    cpu.memory_mut().write_u32(OTHER, REVISION | SHADOW);
    answers.push(("vmptrld of a shadow VMCS".to_owned(), cpu.vmclear(OTHER).and_then(|()| cpu.vmptrld(OTHER)).is_ok()));
    answers
}

/// What is done on a processor of which everything is known is done, too, if any one thing is not known of it.
#[test]
fn an_instruction_never_fails_for_what_is_not_known() {
    let known = profile();
    let image = fields(&ready_of(&known));
    let done = answers(&known, &image);
    assert!(done.iter().filter(|(_, done)| *done).count() > 150, "{done:?}");
    // Without IA32_VMX_BASIC there is no revision identifier, and no VMCS.
    let mut nothing = CpuProfile::default();
    nothing.set_msr(CapabilityMsr::Basic, known.msr(CapabilityMsr::Basic));
    let mut partial = vec![("anything else than IA32_VMX_BASIC".to_owned(), nothing)];
    for msr in CapabilityMsr::ALL.into_iter().filter(|msr| *msr != CapabilityMsr::Basic) {
        let mut profile = known.clone();
        profile.set_msr(msr, MsrValue::Unknown);
        partial.push((format!("{msr:?}"), profile));
    }
    for leaf in CpuidLeaf::ALL {
        let mut profile = known.clone();
        profile.forget_cpuid(leaf);
        partial.push((format!("{leaf:?}"), profile));
    }
    for (forgotten, profile) in partial {
        for ((what, before), (_, now)) in done.iter().zip(answers(&profile, &image)) {
            assert!(now || !before, "{what} fails where {forgotten} is not known");
        }
    }
}
