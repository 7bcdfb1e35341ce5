//! VMREAD and VMWRITE.

use vmcs_emu::LogicalProcessor;
use vmcs_model::Vmcs;
use vmcs_model::field::{GUEST_IA32_DEBUGCTL, GUEST_RIP, VM_INSTRUCTION_ERROR, VMCS_LINK_POINTER};
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::registers::Efer;

use crate::rows::{GP, INVALID, Row, SUCCEEDS, check, done, exits, profile_and, valid, with};
use crate::support::{
    GUEST_RIP_VALUE, NOWHERE, OTHER, PAGE, REVISION, SHADOW, VMCS, get, guest, guest_with, profile_with, ready,
    ready_of, root,
};

const RIP: u64 = 0x681E;
const DEBUGCTL: u64 = 0x2802;
const DEBUGCTL_HIGH: u64 = 0x2803;
const EXIT_REASON: u64 = 0x4402;
const MSR_DATA: u64 = 0x2402;
const LOW: u64 = 0x0123_4567;
const VALUE: u64 = 0x89AB_CDEF_0123_4567;

/// The VMCS link pointer is a shadow VMCS in which RIP is [`VALUE`].
fn linked(vmcs: &mut Vmcs) {
    vmcs.set(VMCS_LINK_POINTER, OTHER);
}

fn shadowing() -> LogicalProcessor {
    let mut cpu = ready();
    linked(&mut cpu.region_mut(VMCS).fields);
    cpu.memory_mut().write_u32(OTHER, REVISION | SHADOW);
    cpu.region_mut(OTHER).fields.set(GUEST_RIP, VALUE);
    assert_eq!(cpu.vmlaunch(), Ok(vmcs_emu::EntryResult::Entered));
    cpu
}

/// As [`shadowing`], and the bit of RIP in both bitmaps is 1.
fn intercepted() -> LogicalProcessor {
    with(shadowing, |cpu| {
        cpu.memory_mut().write_u8(PAGE + (RIP >> 3), 1 << (RIP & 7));
    })
}

fn at_cpl_3(setup: fn() -> LogicalProcessor) -> LogicalProcessor {
    with(setup, |cpu| cpu.cpu_mut().cpl = 3)
}

fn read_only() -> LogicalProcessor {
    ready_of(&profile_with(CapabilityMsr::Misc, |misc| misc & !(1 << 29)))
}

fn without_vpid() -> LogicalProcessor {
    ready_of(&profile_with(CapabilityMsr::Procbased2, |value| value & !(1 << 37)))
}

fn outside_64_bit_mode() -> LogicalProcessor {
    with(ready, |cpu| {
        cpu.region_mut(VMCS).fields.set(GUEST_IA32_DEBUGCTL, VALUE);
        cpu.cpu_mut().efer = Efer::empty();
    })
}

#[test]
fn vmread_rows() {
    let read: fn(&mut LogicalProcessor) -> crate::rows::Outcome = |cpu| cpu.vmread(RIP);
    let rows: &[Row] = &[
        ("03 bit 15", shadowing, |cpu| cpu.vmread(RIP | 1 << 15), exits(23)),
        ("03 bit 63", shadowing, |cpu| cpu.vmread(RIP | 1 << 63), exits(23)),
        ("04", intercepted, read, exits(23)),
        ("04 before CPL", || at_cpl_3(intercepted), read, exits(23)),
        ("04 another field", intercepted, |cpu| cpu.vmread(RIP - 2), SUCCEEDS),
        ("05 guest", || at_cpl_3(shadowing), read, GP),
        ("05 root, no VMCS", || at_cpl_3(root), read, GP),
        ("06 root", root, read, INVALID),
        ("06 root, bad encoding", root, |cpu| cpu.vmread(u64::MAX), INVALID),
        ("06 guest", guest, read, INVALID),
        ("07 reserved bit 12", ready, |cpu| cpu.vmread(RIP | 1 << 12), valid(12)),
        ("07 reserved bit 15", ready, |cpu| cpu.vmread(RIP | 1 << 15), valid(12)),
        ("07 bit 32", ready, |cpu| cpu.vmread(RIP | 1 << 32), valid(12)),
        ("07 bit 32 does not exist", outside_64_bit_mode, |cpu| cpu.vmread(DEBUGCTL | 1 << 32), Ok(LOW)),
        ("07 unknown index", ready, |cpu| cpu.vmread(0x6820 | 0x100), valid(12)),
        ("07 feature absent", without_vpid, |cpu| cpu.vmread(0), valid(12)),
        ("07 MSR data, tertiary bit 6", ready, |cpu| cpu.vmread(MSR_DATA), valid(12)),
        ("07 high of a natural-width field", ready, |cpu| cpu.vmread(RIP | 1), valid(12)),
        ("07 high of a 32-bit field", ready, |cpu| cpu.vmread(0x4001), valid(12)),
        ("07 high of a 16-bit field", ready, |cpu| cpu.vmread(1), valid(12)),
        ("07 guest", shadowing, |cpu| cpu.vmread(RIP | 1 << 12), valid(12)),
        ("09 root", ready, read, Ok(GUEST_RIP_VALUE)),
        ("09 guest reads the linked VMCS", shadowing, read, Ok(VALUE)),
        ("09 16-bit field", ready, |cpu| cpu.vmread(0x0802), Ok(8)),
        ("09 high", ready, |cpu| cpu.vmread(0x2801), Ok(0xFFFF_FFFF)),
        ("09 truncated to 32 bits", outside_64_bit_mode, |cpu| cpu.vmread(DEBUGCTL), Ok(LOW)),
        ("09 upper half in 32-bit code", outside_64_bit_mode, |cpu| cpu.vmread(DEBUGCTL_HIGH), Ok(VALUE >> 32)),
    ];
    check(rows);
}

#[test]
fn vmwrite_rows() {
    let write: fn(&mut LogicalProcessor) -> crate::rows::Outcome = |cpu| done(cpu.vmwrite(RIP, 1));
    let rows: &[Row] = &[
        ("03 bit 15", shadowing, |cpu| done(cpu.vmwrite(RIP | 1 << 15, 0)), exits(25)),
        ("03 bit 63", shadowing, |cpu| done(cpu.vmwrite(RIP | 1 << 63, 0)), exits(25)),
        ("04", intercepted, write, exits(25)),
        ("04 before CPL", || at_cpl_3(intercepted), write, exits(25)),
        ("05 guest", || at_cpl_3(shadowing), write, GP),
        ("05 root, no VMCS", || at_cpl_3(root), write, GP),
        ("06 root", root, write, INVALID),
        ("06 guest", guest, write, INVALID),
        ("08 reserved bit 12", ready, |cpu| done(cpu.vmwrite(RIP | 1 << 12, 0)), valid(12)),
        ("08 bit 32", ready, |cpu| done(cpu.vmwrite(RIP | 1 << 32, 0)), valid(12)),
        ("08 feature absent", without_vpid, |cpu| done(cpu.vmwrite(0, 1)), valid(12)),
        ("08 high of a natural-width field", ready, |cpu| done(cpu.vmwrite(RIP | 1, 0)), valid(12)),
        ("08 guest", shadowing, |cpu| done(cpu.vmwrite(RIP | 1 << 12, 0)), valid(12)),
        ("08 before read-only", read_only, |cpu| done(cpu.vmwrite(EXIT_REASON | 1, 0)), valid(12)),
        ("09 read-only", read_only, |cpu| done(cpu.vmwrite(EXIT_REASON, 0)), valid(13)),
        ("09 VM-instruction error too", read_only, |cpu| done(cpu.vmwrite(0x4400, 0)), valid(13)),
        ("10 exit information", ready, |cpu| done(cpu.vmwrite(EXIT_REASON, 0)), SUCCEEDS),
        ("10 root", ready, write, SUCCEEDS),
        ("10 guest", shadowing, write, SUCCEEDS),
        ("10 shadow VMCS is current", shadow_is_current, write, SUCCEEDS),
    ];
    check(rows);
}

fn shadow_is_current() -> LogicalProcessor {
    with(ready, |cpu| {
        cpu.memory_mut().write_u32(OTHER, REVISION | SHADOW);
        assert_eq!(cpu.vmptrld(OTHER), Ok(()));
    })
}

#[test]
fn vmwrite_10_in_a_guest_writes_the_linked_vmcs() {
    let mut cpu = shadowing();
    assert_eq!(cpu.vmwrite(RIP, 0x42), Ok(()));
    assert_eq!(cpu.region(OTHER).map(|region| region.fields.get(GUEST_RIP)), Some(0x42));
    assert_eq!(get(&cpu, GUEST_RIP), GUEST_RIP_VALUE);
}

#[test]
fn errors_in_a_guest_are_stored_in_the_ordinary_vmcs() {
    let mut cpu = shadowing();
    assert!(cpu.vmread(RIP | 1).is_err());
    assert_eq!(get(&cpu, VM_INSTRUCTION_ERROR).0, 12);
    assert_eq!(cpu.region(OTHER).map(|region| region.fields.get(VM_INSTRUCTION_ERROR).0), Some(0));
}

#[test]
fn vmwrite_10_takes_the_width_of_the_field() {
    let cases: &[(u64, u64, u64, u64)] = &[
        // Encoding, value, encoding read back, value read back.
        (0x0000, VALUE, 0x0000, 0x4567),
        (0x4004, VALUE, 0x4004, 0x0123_4567),
        (DEBUGCTL, VALUE, DEBUGCTL, VALUE),
        (DEBUGCTL_HIGH, VALUE, DEBUGCTL_HIGH, 0x0123_4567),
        (DEBUGCTL_HIGH, VALUE, DEBUGCTL, 0x0123_4567_0000_0000),
        (RIP, VALUE, RIP, VALUE),
    ];
    for (encoding, value, read, expected) in cases {
        let mut cpu = ready();
        assert_eq!(cpu.vmwrite(DEBUGCTL, 0), Ok(()));
        assert_eq!(cpu.vmwrite(*encoding, *value), Ok(()));
        assert_eq!(cpu.vmread(*read), Ok(*expected), "{encoding:#x}");
    }
}

#[test]
fn vmwrite_10_high_keeps_the_lower_half_and_full_clears_the_upper() {
    let mut cpu = outside_64_bit_mode();
    assert_eq!(cpu.vmwrite(DEBUGCTL_HIGH, 0x55), Ok(()));
    assert_eq!(get(&cpu, GUEST_IA32_DEBUGCTL), 0x55_0123_4567);
    assert_eq!(cpu.vmwrite(DEBUGCTL, VALUE), Ok(()));
    assert_eq!(get(&cpu, GUEST_IA32_DEBUGCTL), LOW);
}

#[test]
fn vmwrite_10_of_access_rights_honours_the_processor() {
    const CS_ACCESS_RIGHTS: u64 = 0x4816;
    let mut cpu = ready();
    assert_eq!(cpu.vmwrite(CS_ACCESS_RIGHTS, 0xFFFF_FFFF), Ok(()));
    assert_eq!(cpu.vmread(CS_ACCESS_RIGHTS), Ok(0xFFFF_FFFF));
    let mut cpu = ready_of(&profile_and(|profile| {
        profile.quirks.access_rights_drop_reserved = true;
    }));
    for (encoding, read_back) in [(0x4812, 0xFFFF_FFFF), (0x4814, 0x1_F0FF), (0x4822, 0x1_F0FF), (0x4824, 0xFFFF_FFFF)]
    {
        assert_eq!(cpu.vmwrite(encoding, 0xFFFF_FFFF), Ok(()));
        assert_eq!(cpu.vmread(encoding), Ok(read_back), "{encoding:#x}");
    }
}

#[test]
fn every_field_can_be_written_and_read_where_it_exists() {
    let mut cpu = ready();
    for field in vmcs_model::FieldId::all() {
        let encoding = u64::from(field.info().encoding.0);
        let exists = cpu.capabilities().has_field(field.info());
        assert_eq!(cpu.vmwrite(encoding, u64::MAX).is_ok(), exists, "{field:?}");
        if exists {
            assert_eq!(cpu.vmread(encoding), Ok(field.info().width().mask()), "{field:?}");
        }
    }
}

#[test]
fn a_link_pointer_of_all_ones_is_no_vmcs() {
    let mut cpu = guest_with(|vmcs| assert_eq!(vmcs.get(VMCS_LINK_POINTER), NOWHERE));
    assert_eq!(cpu.vmread(RIP), Err(vmcs_emu::InstructionFailure::Invalid));
    assert_eq!(get(&cpu, VM_INSTRUCTION_ERROR).0, 0);
}
