//! Valid images of further modes and states: each differs from the plain guest in one respect.

use core::ops::BitOr;

use vmcs_model::Vmcs;
use vmcs_model::capabilities::Capabilities;
use vmcs_model::controls::{Entry, Exit, PinBased, Primary, Secondary};
use vmcs_model::field::{self, Field, FieldValue};
use vmcs_model::formats::{
    AccessRights, ActivityState, Interruptibility, InterruptionInformation, PendingDebug, Selector, event_type,
};
use vmcs_model::registers::{Cr0, Cr4, Rflags};
use vmcs_wire::layout;

use super::first::{
    enable, leave_ia32e_mode, loading_registers, pae_guest, unrestricted_real_mode, virtual_8086_guest,
};
use super::image::BaseImage;

/// The VMCS region that the link pointer of an image names.
const LINKED: u64 = layout::VMCS_REGIONS + 3 * 0x1000;
/// Flat 32-bit code at CPL 0.
const CODE_32: u32 = 0xC09B;

/// The images that a processor with every feature can enter.
pub(super) fn all(capabilities: &Capabilities, plain: &Vmcs) -> Vec<BaseImage> {
    let mut bases = guest_modes(capabilities, plain);
    bases.extend(segments(plain));
    bases.extend(events(plain));
    bases.extend(non_register_state(capabilities, plain));
    bases.extend(virtualization(plain));
    bases.extend(registers(capabilities, plain));
    bases.extend(areas(capabilities, plain));
    bases
}

/// A changed copy of an image.
fn base(name: &'static str, from: &Vmcs, change: impl FnOnce(&mut Vmcs)) -> BaseImage {
    let mut vmcs = from.clone();
    change(&mut vmcs);
    BaseImage { name, vmcs, memory: Vec::new() }
}

/// Sets bits of a field.
fn set<T: FieldValue + BitOr<Output = T>>(vmcs: &mut Vmcs, field: Field<T>, bits: T) {
    vmcs.set(field, vmcs.get(field) | bits);
}

fn pin(vmcs: &mut Vmcs, bits: PinBased) {
    set(vmcs, field::PIN_BASED_VM_EXECUTION_CONTROLS, bits);
}

fn primary(vmcs: &mut Vmcs, bits: Primary) {
    set(vmcs, field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, bits);
}

fn secondary(vmcs: &mut Vmcs, bits: Secondary) {
    primary(vmcs, Primary::ACTIVATE_SECONDARY_CONTROLS);
    set(vmcs, field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, bits);
}

fn rights(vmcs: &mut Vmcs, field: Field<AccessRights>, bits: u32) {
    vmcs.set(field, AccessRights::from_bits(bits));
}

fn guest_32(vmcs: &mut Vmcs) {
    leave_ia32e_mode(vmcs);
    vmcs.set(field::GUEST_CR4, vmcs.get(field::GUEST_CR4) - Cr4::PAE);
    rights(vmcs, field::GUEST_CS_ACCESS_RIGHTS, CODE_32);
}

/// A 64-bit guest at CPL 3.
fn user(vmcs: &mut Vmcs) {
    vmcs.set(field::GUEST_SS_SELECTOR, Selector::from_bits(0x13));
    rights(vmcs, field::GUEST_SS_ACCESS_RIGHTS, 0xC0F3);
    vmcs.set(field::GUEST_CS_SELECTOR, Selector::from_bits(0xB));
    rights(vmcs, field::GUEST_CS_ACCESS_RIGHTS, 0xA0FB);
}

fn unrestricted(vmcs: &mut Vmcs) {
    secondary(vmcs, Secondary::ENABLE_EPT | Secondary::UNRESTRICTED_GUEST);
}

/// Paging modes and privilege levels.
fn guest_modes(capabilities: &Capabilities, plain: &Vmcs) -> Vec<BaseImage> {
    let real = unrestricted_real_mode(capabilities, plain.clone());
    let virtual_8086 = virtual_8086_guest(plain.clone());
    vec![
        base("protected", plain, guest_32),
        base("unpaged", plain, |vmcs| {
            guest_32(vmcs);
            unrestricted(vmcs);
            vmcs.set(field::GUEST_CR0, vmcs.get(field::GUEST_CR0) - Cr0::PG);
        }),
        base("compatibility", plain, |vmcs| rights(vmcs, field::GUEST_CS_ACCESS_RIGHTS, CODE_32)),
        base("5-level", plain, |vmcs| set(vmcs, field::GUEST_CR4, Cr4::LA57)),
        base("user", plain, user),
        base("unrestricted", plain, unrestricted),
        base("data-as-code", plain, |vmcs| {
            unrestricted(vmcs);
            rights(vmcs, field::GUEST_CS_ACCESS_RIGHTS, 0xA093);
        }),
        base("real-mode-rpl", &real, |vmcs| vmcs.set(field::GUEST_DS_SELECTOR, Selector::from_bits(0x33))),
        base("virtual-8086-ept", &virtual_8086, |vmcs| secondary(vmcs, Secondary::ENABLE_EPT)),
        base("pae-ept", &pae_guest(plain.clone()), |vmcs| {
            secondary(vmcs, Secondary::ENABLE_EPT);
            vmcs.set(field::GUEST_PDPTE0, layout::PML4 | 1);
        }),
    ]
}

/// Segment registers.
fn segments(plain: &Vmcs) -> Vec<BaseImage> {
    const UNUSABLE: u32 = 1 << 16;
    vec![
        base("ldt", plain, |vmcs| {
            vmcs.set(field::GUEST_LDTR_SELECTOR, Selector::from_bits(0x20));
            vmcs.set(field::GUEST_LDTR_BASE, layout::GDT);
            vmcs.set(field::GUEST_LDTR_LIMIT, 0x27);
            rights(vmcs, field::GUEST_LDTR_ACCESS_RIGHTS, 0x82);
        }),
        base("conforming", plain, |vmcs| rights(vmcs, field::GUEST_CS_ACCESS_RIGHTS, 0xA09F)),
        base("unusable-data", plain, |vmcs| {
            for data in [
                field::GUEST_ES_ACCESS_RIGHTS,
                field::GUEST_DS_ACCESS_RIGHTS,
                field::GUEST_FS_ACCESS_RIGHTS,
                field::GUEST_GS_ACCESS_RIGHTS,
            ] {
                rights(vmcs, data, UNUSABLE);
            }
        }),
        base("unusable-stack", plain, |vmcs| rights(vmcs, field::GUEST_SS_ACCESS_RIGHTS, UNUSABLE)),
        base("tss-16", plain, |vmcs| {
            guest_32(vmcs);
            rights(vmcs, field::GUEST_TR_ACCESS_RIGHTS, 0x83);
        }),
    ]
}

/// An event of each type injected.
fn events(plain: &Vmcs) -> Vec<BaseImage> {
    let inject = |vmcs: &mut Vmcs, event_type: u8, vector: u8, length: u32| {
        let event = InterruptionInformation::new().with_vector(vector).with_event_type(event_type).with_valid(true);
        vmcs.set(field::VM_ENTRY_INTERRUPTION_INFORMATION, event);
        vmcs.set(field::VM_ENTRY_INSTRUCTION_LENGTH, length);
    };
    vec![
        base("external-interrupt", plain, |vmcs| {
            vmcs.set(field::GUEST_RFLAGS, Rflags::FIXED1 | Rflags::IF);
            inject(vmcs, event_type::EXTERNAL_INTERRUPT, 0x30, 0);
        }),
        base("nmi", plain, |vmcs| inject(vmcs, event_type::NMI, 2, 0)),
        base("exception", plain, |vmcs| inject(vmcs, event_type::HARDWARE_EXCEPTION, 6, 0)),
        base("software-interrupt", plain, |vmcs| inject(vmcs, event_type::SOFTWARE_INTERRUPT, 0x80, 2)),
        base("int1", plain, |vmcs| inject(vmcs, event_type::PRIVILEGED_SOFTWARE_EXCEPTION, 1, 1)),
        base("int3", plain, |vmcs| inject(vmcs, event_type::SOFTWARE_EXCEPTION, 3, 1)),
        base("mtf", plain, |vmcs| inject(vmcs, event_type::OTHER_EVENT, 0, 0)),
        base("fred-syscall", plain, |vmcs| {
            set(vmcs, field::GUEST_CR4, Cr4::FRED);
            inject(vmcs, event_type::OTHER_EVENT, 1, 2);
        }),
        base("hlt-debug-exception", plain, |vmcs| {
            vmcs.set(field::GUEST_ACTIVITY_STATE, ActivityState::HLT);
            inject(vmcs, event_type::HARDWARE_EXCEPTION, 1, 0);
        }),
    ]
}

/// Activity, interruptibility, pending debug exceptions.
fn non_register_state(capabilities: &Capabilities, plain: &Vmcs) -> Vec<BaseImage> {
    let blocked = |vmcs: &mut Vmcs, by| vmcs.set(field::GUEST_INTERRUPTIBILITY_STATE, by);
    let mut bases = vec![
        base("sti", plain, |vmcs| {
            vmcs.set(field::GUEST_RFLAGS, Rflags::FIXED1 | Rflags::IF);
            blocked(vmcs, Interruptibility::STI);
        }),
        base("mov-ss", plain, |vmcs| blocked(vmcs, Interruptibility::MOV_SS)),
        base("nmi-blocked", plain, |vmcs| blocked(vmcs, Interruptibility::NMI)),
        base("virtual-nmis", plain, |vmcs| {
            pin(vmcs, PinBased::NMI_EXITING | PinBased::VIRTUAL_NMIS);
            blocked(vmcs, Interruptibility::NMI);
        }),
        base("enclave", plain, |vmcs| blocked(vmcs, Interruptibility::ENCLAVE)),
        base("single-step", plain, |vmcs| {
            set(vmcs, field::VM_ENTRY_CONTROLS, Entry::LOAD_DEBUG_CONTROLS);
            set(vmcs, field::GUEST_RFLAGS, Rflags::TF);
            blocked(vmcs, Interruptibility::MOV_SS);
            vmcs.set(field::GUEST_PENDING_DEBUG_EXCEPTIONS, PendingDebug::BS);
        }),
        base("transaction", plain, |vmcs| {
            vmcs.set(field::GUEST_PENDING_DEBUG_EXCEPTIONS, PendingDebug::RTM | PendingDebug::ENABLED_BREAKPOINT);
        }),
    ];
    // Without the timer nothing ends these states.
    if capabilities.pin.may() & u64::from(PinBased::ACTIVATE_VMX_PREEMPTION_TIMER.bits()) != 0 {
        for (name, state) in [("hlt", ActivityState::HLT), ("shutdown", ActivityState::SHUTDOWN)] {
            bases.push(base(name, plain, |vmcs| vmcs.set(field::GUEST_ACTIVITY_STATE, state)));
        }
    }
    bases
}

/// EPT, VPID and APIC virtualization, one by one and together.
fn virtualization(plain: &Vmcs) -> Vec<BaseImage> {
    let delivering = |vmcs: &mut Vmcs| {
        primary(vmcs, Primary::USE_TPR_SHADOW);
        pin(vmcs, PinBased::EXTERNAL_INTERRUPT_EXITING);
        secondary(vmcs, Secondary::VIRTUAL_INTERRUPT_DELIVERY);
    };
    vec![
        base("ept", plain, |vmcs| secondary(vmcs, Secondary::ENABLE_EPT)),
        base("vpid", plain, |vmcs| secondary(vmcs, Secondary::ENABLE_VPID)),
        base("tpr-shadow", plain, |vmcs| primary(vmcs, Primary::USE_TPR_SHADOW)),
        base("apic-accesses", plain, |vmcs| {
            primary(vmcs, Primary::USE_TPR_SHADOW);
            secondary(vmcs, Secondary::VIRTUALIZE_APIC_ACCESSES | Secondary::ENABLE_VPID);
        }),
        base("x2apic", plain, |vmcs| {
            delivering(vmcs);
            secondary(vmcs, Secondary::VIRTUALIZE_X2APIC_MODE | Secondary::APIC_REGISTER_VIRTUALIZATION);
        }),
        base("posted-interrupts", plain, |vmcs| {
            delivering(vmcs);
            pin(vmcs, PinBased::PROCESS_POSTED_INTERRUPTS);
            set(vmcs, field::PRIMARY_VM_EXIT_CONTROLS, Exit::ACKNOWLEDGE_INTERRUPT_ON_EXIT);
        }),
        base("guest-physical-pt", plain, |vmcs| {
            secondary(vmcs, Secondary::ENABLE_EPT | Secondary::INTEL_PT_USES_GUEST_PHYSICAL_ADDRESSES);
            set(vmcs, field::VM_ENTRY_CONTROLS, Entry::LOAD_IA32_RTIT_CTL);
            set(vmcs, field::PRIMARY_VM_EXIT_CONTROLS, Exit::CLEAR_IA32_RTIT_CTL);
        }),
        base("nmi-window", plain, |vmcs| {
            pin(vmcs, PinBased::NMI_EXITING | PinBased::VIRTUAL_NMIS);
            primary(vmcs, Primary::NMI_WINDOW_EXITING | Primary::INTERRUPT_WINDOW_EXITING);
            vmcs.set(field::CR3_TARGET_COUNT, 4);
        }),
    ]
}

/// Registers that are loaded, and those that are not.
fn registers(capabilities: &Capabilities, plain: &Vmcs) -> Vec<BaseImage> {
    let loading = loading_registers(capabilities, plain.clone());
    vec![
        base("not-loading", plain, |vmcs| {
            let entry = vmcs.get(field::VM_ENTRY_CONTROLS);
            vmcs.set(field::VM_ENTRY_CONTROLS, entry - (Entry::LOAD_IA32_EFER | Entry::LOAD_IA32_PAT));
            let exit = vmcs.get(field::PRIMARY_VM_EXIT_CONTROLS);
            vmcs.set(field::PRIMARY_VM_EXIT_CONTROLS, exit - (Exit::LOAD_IA32_EFER | Exit::LOAD_IA32_PAT));
        }),
        base("debug", plain, |vmcs| {
            set(vmcs, field::VM_ENTRY_CONTROLS, Entry::LOAD_DEBUG_CONTROLS);
            vmcs.set(field::GUEST_IA32_DEBUGCTL, 3);
        }),
        base("cet", &loading, |vmcs| {
            set(vmcs, field::GUEST_CR4, Cr4::CET);
            vmcs.set_raw(field::GUEST_IA32_S_CET.id(), 1);
            vmcs.set_raw(field::GUEST_SSP.id(), layout::GUEST_RSP);
        }),
        base("cet-32", plain, |vmcs| {
            guest_32(vmcs);
            set(vmcs, field::VM_ENTRY_CONTROLS, Entry::LOAD_CET_STATE);
        }),
        base("fred", &loading, |vmcs| {
            set(vmcs, field::GUEST_CR4, Cr4::FRED);
            set(vmcs, field::VM_ENTRY_CONTROLS, Entry::LOAD_FRED);
        }),
        base("fred-user", plain, |vmcs| {
            set(vmcs, field::GUEST_CR4, Cr4::FRED);
            user(vmcs);
        }),
    ]
}

/// MSR areas with entries, a linked VMCS, and the fields that SMM uses.
fn areas(capabilities: &Capabilities, plain: &Vmcs) -> Vec<BaseImage> {
    /// MSRs that every processor with Intel 64 has, and values that they take.
    const ENTRIES: [(u64, u64); 2] = [(0x174, 0x8), (0xC000_0081, 0)];
    let entries = |area: u64| {
        let pair = move |(i, (msr, value)): (u64, (u64, u64))| [(area + 16 * i, msr), (area + 16 * i + 8, value)];
        (0..).zip(ENTRIES).flat_map(pair).filter(|(_, value)| *value != 0)
    };
    let revision = u64::from(capabilities.revision());
    let with = |base: BaseImage, memory: Vec<(u64, u64)>| BaseImage { memory, ..base };
    vec![
        with(
            base("msr-areas", plain, |vmcs| {
                vmcs.set(field::VM_ENTRY_MSR_LOAD_COUNT, 2);
                vmcs.set(field::VM_EXIT_MSR_STORE_COUNT, 2);
                vmcs.set(field::VM_EXIT_MSR_LOAD_COUNT, 2);
            }),
            [layout::ENTRY_MSR_LOAD, layout::EXIT_MSR_STORE, layout::EXIT_MSR_LOAD]
                .into_iter()
                .flat_map(entries)
                .collect(),
        ),
        with(base("linked", plain, |vmcs| vmcs.set(field::VMCS_LINK_POINTER, LINKED)), vec![(LINKED, revision)]),
        with(
            base("shadowing", plain, |vmcs| {
                secondary(vmcs, Secondary::VMCS_SHADOWING);
                vmcs.set(field::VMCS_LINK_POINTER, LINKED);
            }),
            vec![(LINKED, revision | 1 << 31)],
        ),
        base("smm-fields", plain, |vmcs| {
            vmcs.set(field::EXECUTIVE_VMCS_POINTER, LINKED);
            vmcs.set_raw(field::GUEST_SMBASE.id(), layout::SCRATCH);
            enable(capabilities, vmcs, field::PRIMARY_VM_EXIT_CONTROLS, &[Exit::ACTIVATE_SECONDARY_CONTROLS]);
        }),
    ]
}
