//! A processor with every VMX feature that the tests need, and a VMCS that enters.

use vmcs_emu::{EntryResult, LogicalProcessor, VmExit};
use vmcs_model::controls::{self, Exit, PinBased, Primary, Secondary};
use vmcs_model::field::*;
use vmcs_model::formats::AccessRights;
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::profile::{CpuProfile, CpuidLeaf, MsrValue};
use vmcs_model::registers::{Cr0, Cr4, Rflags};
use vmcs_model::{Field, FieldId, Vmcs};

pub(crate) const REVISION: u32 = 0x13;
pub(crate) const SHADOW: u32 = 1 << 31;
pub(crate) const VMXON_REGION: u64 = 0x1000;
pub(crate) const VMCS: u64 = 0x2000;
pub(crate) const OTHER: u64 = 0x3000;
/// Pages of zeros that controls may point to.
pub(crate) const PAGE: u64 = 0x10_0000;
pub(crate) const EPTP: u64 = PAGE | 0x1E;
pub(crate) const EPTP_LIST: u64 = 0x20_0000;
pub(crate) const MSEG: u64 = 0x30_0000;
pub(crate) const NOWHERE: u64 = u64::MAX;
pub(crate) const HOST_RIP_VALUE: u64 = 0xFFFF_8000_0000_1000;
pub(crate) const GUEST_RIP_VALUE: u64 = 0x7000;

/// Granite Rapids, as dumped; what the dump lacks (VMFUNC, tertiary and secondary exit controls) added.
pub(crate) fn profile() -> CpuProfile {
    use CapabilityMsr as M;
    let mut profile = CpuProfile::default();
    for (msr, value) in [
        (M::Basic, 0x03da_0500_0000_0013),
        (M::Pinbased, 0x0000_00ff_0000_0016),
        (M::Procbased, 0xfffb_fffe_0401_e172),
        (M::Exit, 0xff7f_ffff_0003_6dff),
        (M::Entry, 0x007e_ffff_0000_11ff),
        (M::Misc, 0x0000_0000_7004_c1e7),
        (M::Cr0Fixed0, 0x8000_0021),
        (M::Cr0Fixed1, 0xffff_ffff),
        (M::Cr4Fixed0, 0x2000),
        (M::Cr4Fixed1, 0x03f7_7fff),
        (M::VmcsEnum, 0x2e),
        (M::Procbased2, 0xcfff_7fff_0000_0000),
        (M::EptVpidCap, 0x0001_0f01_06f3_41c1),
        (M::TruePinbased, 0x0000_00ff_0000_0016),
        (M::TrueProcbased, 0xfffb_fffe_0400_6172),
        (M::TrueExit, 0xff7f_ffff_0003_6dfb),
        (M::TrueEntry, 0x007e_ffff_0000_11fb),
        (M::Vmfunc, 1),
        (M::Procbased3, 0x1f),
        (M::Exit2, 0),
    ] {
        profile.set_msr(msr, MsrValue::Value(value));
    }
    for (leaf, registers) in [
        (CpuidLeaf::Features, [0x000a_06d1, 0x0080_0800, 0x7ffe_fbff, 0xbfeb_fbff]),
        (CpuidLeaf::Extended0, [2, 0xf3bf_bffb, 0xbb41_7fee, 0xffdd_4430]),
        (CpuidLeaf::Extended1, [0x4020_1d30, 1, 0, 0x000e_4000]),
        (CpuidLeaf::Extended2, [0, 0, 0, 0x3f]),
        (CpuidLeaf::PerformanceMonitoring, [0x0830_0805, 0, 0xf, 0x8604]),
        (CpuidLeaf::Xsave1, [0x1f, 0x2a80, 0x0001_dd00, 0]),
        (CpuidLeaf::Sgx, [0; 4]),
        (CpuidLeaf::Trace0, [1, 0x5f, 7, 0]),
        (CpuidLeaf::Trace1, [0; 4]),
        (CpuidLeaf::LastBranch, [0x4000_000b, 7, 7, 0]),
        (CpuidLeaf::PerformanceExtended, [0; 4]),
        (CpuidLeaf::ExtendedFeatures, [0, 0, 0x121, 0x2c10_0000]),
        (CpuidLeaf::AddressWidths, [0x3934, 0x200, 0, 0]),
    ] {
        profile.set_cpuid(leaf, registers);
    }
    profile
}

/// The profile with one MSR changed.
pub(crate) fn profile_with(msr: CapabilityMsr, change: impl FnOnce(u64) -> u64) -> CpuProfile {
    let mut profile = profile();
    let MsrValue::Value(value) = profile.msr(msr) else { panic!("the profile has every MSR") };
    profile.set_msr(msr, MsrValue::Value(change(value)));
    profile
}

/// Outside VMX operation; the VMXON region and two VMCS regions carry the revision identifier.
pub(crate) fn outside_of(profile: &CpuProfile) -> LogicalProcessor {
    let mut cpu = LogicalProcessor::new(profile);
    for region in [VMXON_REGION, VMCS, OTHER] {
        cpu.memory_mut().write_u32(region, REVISION);
    }
    cpu
}

pub(crate) fn outside() -> LogicalProcessor {
    outside_of(&profile())
}

/// VMX root operation, no current VMCS.
pub(crate) fn root_of(profile: &CpuProfile) -> LogicalProcessor {
    let mut cpu = outside_of(profile);
    cpu.vmxon(VMXON_REGION).expect("VMXON with a good region");
    cpu
}

pub(crate) fn root() -> LogicalProcessor {
    root_of(&profile())
}

/// VMX root operation, the current VMCS holds an image that enters.
pub(crate) fn ready_of(profile: &CpuProfile) -> LogicalProcessor {
    let mut cpu = root_of(profile);
    cpu.vmclear(VMCS).expect("VMCLEAR of a good address");
    cpu.vmptrld(VMCS).expect("VMPTRLD of a good region");
    let image = image(&cpu);
    cpu.region_mut(VMCS).fields = image;
    cpu
}

pub(crate) fn ready() -> LogicalProcessor {
    ready_of(&profile())
}

/// VMX non-root operation, after VMLAUNCH with the image as `change` leaves it.
pub(crate) fn guest_with(change: impl FnOnce(&mut Vmcs)) -> LogicalProcessor {
    let mut cpu = ready();
    change(&mut cpu.region_mut(VMCS).fields);
    assert_eq!(
        cpu.vmlaunch(),
        Ok(EntryResult::Entered),
        "{:?}",
        cpu.verdict(vmcs_model::EntryInstruction::Vmlaunch).violated
    );
    cpu
}

pub(crate) fn guest() -> LogicalProcessor {
    guest_with(|_| {})
}

/// Sets a field of the VMCS at [`VMCS`].
pub(crate) fn set<T: vmcs_model::FieldValue>(cpu: &mut LogicalProcessor, field: Field<T>, value: T) {
    cpu.region_mut(VMCS).fields.set(field, value);
}

/// A field of the VMCS at [`VMCS`].
pub(crate) fn get<T: vmcs_model::FieldValue>(cpu: &LogicalProcessor, field: Field<T>) -> T {
    cpu.region(VMCS).expect("the tests' VMCS").fields.get(field)
}

/// A 64-bit guest under a 64-bit host, with EPT, VMCS shadowing and VM functions.
pub(crate) fn image(cpu: &LogicalProcessor) -> Vmcs {
    let has = cpu.capabilities();
    let cr0 = Cr0::from_bits_retain(0x8001_0033);
    let cr4 = Cr4::from_bits_retain(0x2620);
    let mut v = Vmcs::new();
    v.set_raw(PIN_BASED_VM_EXECUTION_CONTROLS.id(), has.pin.nearest(PinBased::NMI_EXITING.bits().into()));
    let primary = Primary::ACTIVATE_SECONDARY_CONTROLS | Primary::HLT_EXITING;
    v.set_raw(PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), has.primary.nearest(primary.bits().into()));
    let secondary = Secondary::ENABLE_EPT | Secondary::VMCS_SHADOWING | Secondary::ENABLE_VM_FUNCTIONS;
    v.set_raw(SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), has.secondary.nearest(secondary.bits().into()));
    v.set_raw(PRIMARY_VM_EXIT_CONTROLS.id(), has.exit.nearest(Exit::HOST_ADDRESS_SPACE_SIZE.bits().into()));
    v.set_raw(VM_ENTRY_CONTROLS.id(), has.entry.nearest(controls::Entry::IA_32E_MODE_GUEST.bits().into()));
    v.set_raw(VM_FUNCTION_CONTROLS.id(), has.vm_functions.may() & 1);
    v.set_raw(EPT_POINTER.id(), EPTP);
    v.set(EPTP_LIST_ADDRESS, EPTP_LIST);
    v.set(VMREAD_BITMAP_ADDRESS, PAGE);
    v.set(VMWRITE_BITMAP_ADDRESS, PAGE);
    v.set(VMCS_LINK_POINTER, NOWHERE);
    host(&mut v, cr0, cr4);
    guest_area(&mut v, cr0, cr4);
    v
}

fn host(v: &mut Vmcs, cr0: Cr0, cr4: Cr4) {
    v.set(HOST_CR0, cr0);
    v.set(HOST_CR4, cr4);
    v.set(HOST_CR3, 0x5000);
    for (selector, value) in [
        (HOST_CS_SELECTOR, 0x08),
        (HOST_SS_SELECTOR, 0x10),
        (HOST_DS_SELECTOR, 0x10),
        (HOST_ES_SELECTOR, 0x10),
        (HOST_FS_SELECTOR, 0),
        (HOST_GS_SELECTOR, 0),
        (HOST_TR_SELECTOR, 0x18),
    ] {
        v.set(selector, value.into());
    }
    v.set(HOST_FS_BASE, 0x1111_0000);
    v.set(HOST_GS_BASE, 0x2222_0000);
    v.set(HOST_TR_BASE, 0xFFFF_8000_0000_3000);
    v.set(HOST_GDTR_BASE, 0xFFFF_8000_0000_4000);
    v.set(HOST_IDTR_BASE, 0xFFFF_8000_0000_5000);
    v.set(HOST_IA32_SYSENTER_CS, 0x77);
    v.set(HOST_RSP, 0xFFFF_8000_0000_2000);
    v.set(HOST_RIP, HOST_RIP_VALUE);
}

fn guest_area(v: &mut Vmcs, cr0: Cr0, cr4: Cr4) {
    v.set(GUEST_CR0, cr0);
    v.set(GUEST_CR4, cr4);
    v.set(GUEST_CR3, 0x6000);
    v.set(GUEST_RIP, GUEST_RIP_VALUE);
    v.set(GUEST_RSP, 0x8000);
    v.set(GUEST_RFLAGS, Rflags::FIXED1);
    v.set(GUEST_DR7, 0x400);
    for (selector, limit, access_rights, value, rights) in [
        (GUEST_CS_SELECTOR, GUEST_CS_LIMIT, GUEST_CS_ACCESS_RIGHTS, 0x08, 0xA09B),
        (GUEST_SS_SELECTOR, GUEST_SS_LIMIT, GUEST_SS_ACCESS_RIGHTS, 0x10, 0xC093),
        (GUEST_DS_SELECTOR, GUEST_DS_LIMIT, GUEST_DS_ACCESS_RIGHTS, 0x10, 0xC093),
        (GUEST_ES_SELECTOR, GUEST_ES_LIMIT, GUEST_ES_ACCESS_RIGHTS, 0x10, 0xC093),
        (GUEST_FS_SELECTOR, GUEST_FS_LIMIT, GUEST_FS_ACCESS_RIGHTS, 0x10, 0xC093),
        (GUEST_GS_SELECTOR, GUEST_GS_LIMIT, GUEST_GS_ACCESS_RIGHTS, 0x10, 0xC093),
    ] {
        v.set(selector, value.into());
        v.set(limit, u32::MAX);
        v.set(access_rights, AccessRights::from_bits(rights));
    }
    v.set(GUEST_TR_SELECTOR, 0x18.into());
    v.set(GUEST_TR_LIMIT, 0x67);
    v.set(GUEST_TR_ACCESS_RIGHTS, AccessRights::from_bits(0x8B));
    v.set(GUEST_LDTR_ACCESS_RIGHTS, AccessRights::from_bits(0x1_0000));
    v.set(GUEST_GDTR_LIMIT, 0x7F);
    v.set(GUEST_IDTR_LIMIT, 0xFFF);
}

/// The fields that differ between two VMCSs.
pub(crate) fn changed(before: &Vmcs, after: &Vmcs) -> Vec<FieldId> {
    before.iter().zip(after.iter()).filter(|(old, new)| old.1 != new.1).map(|(old, _)| old.0).collect()
}

/// Basic exit reason of HLT.
pub(crate) const HLT: u16 = 12;

/// The guest executes HLT.
pub(crate) fn leave(cpu: &mut LogicalProcessor) {
    assert_eq!(cpu.vm_exit(VmExit::new(HLT, 0)), Ok(()));
}

/// The fields of the VMCS at [`VMCS`].
pub(crate) fn fields(cpu: &LogicalProcessor) -> Vmcs {
    cpu.region(VMCS).expect("the tests' VMCS").fields.clone()
}

pub(crate) fn with_exit_control(vmcs: &mut Vmcs, control: Exit) {
    let controls = vmcs.get(PRIMARY_VM_EXIT_CONTROLS) | control;
    vmcs.set(PRIMARY_VM_EXIT_CONTROLS, controls);
}

pub(crate) fn with_entry_control(vmcs: &mut Vmcs, control: controls::Entry) {
    let controls = vmcs.get(VM_ENTRY_CONTROLS) | control;
    vmcs.set(VM_ENTRY_CONTROLS, controls);
}
