//! The plain 64-bit guest and the first images that are made from it: one with every feature in force, ones in other modes,
//! one that injects an event.

use vmcs_model::capabilities::Capabilities;
use vmcs_model::controls::{Entry, Exit, PinBased, Primary, Secondary, SecondaryExit, Tertiary, VmFunctions};
use vmcs_model::field::{self, Field, FieldValue};
use vmcs_model::formats::{AccessRights, Eptp, InterruptionInformation, Selector, event_type};
use vmcs_model::registers::{Cr0, Cr4, Efer, Rflags};
use vmcs_model::{Vmcs, baseline};
use vmcs_wire::layout;

use super::image::is_valid;

/// The plain 64-bit guest with every pointer set.
pub(crate) fn plain(capabilities: &Capabilities) -> Vmcs {
    with_pointers(baseline::plain_64bit_at(capabilities, &vmcs_case::PROBE_ADDRESSES))
}

/// The image with every pointer at a page of its own, so that a control that comes into force finds what it needs,
/// and with a guest IDT of no size: whatever event reaches the guest ends in a triple-fault exit.
fn with_pointers(mut vmcs: Vmcs) -> Vmcs {
    for (field, page) in [
        (field::IO_BITMAP_A_ADDRESS, layout::IO_BITMAPS),
        (field::IO_BITMAP_B_ADDRESS, layout::IO_BITMAPS + 0x1000),
        (field::MSR_BITMAP_ADDRESS, layout::MSR_BITMAPS),
        (field::VIRTUAL_APIC_ADDRESS, layout::VIRTUAL_APIC),
        (field::APIC_ACCESS_ADDRESS, layout::APIC_ACCESS),
        (field::PML_ADDRESS, layout::PML),
        (field::SUB_PAGE_PERMISSION_TABLE_POINTER, layout::SPP_TABLE),
        (field::EPTP_LIST_ADDRESS, layout::EPTP_LIST),
        (field::VMREAD_BITMAP_ADDRESS, layout::VMREAD_BITMAP),
        (field::VMWRITE_BITMAP_ADDRESS, layout::VMREAD_BITMAP + 0x1000),
        (field::VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS, layout::VE_INFORMATION),
        (field::POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, layout::POSTED_INTERRUPT),
        (field::PID_POINTER_TABLE_ADDRESS, layout::PID_POINTERS),
        (field::VM_ENTRY_MSR_LOAD_ADDRESS, layout::ENTRY_MSR_LOAD),
        (field::VM_EXIT_MSR_STORE_ADDRESS, layout::EXIT_MSR_STORE),
        (field::VM_EXIT_MSR_LOAD_ADDRESS, layout::EXIT_MSR_LOAD),
    ] {
        vmcs.set(field, page);
    }
    vmcs.set(
        field::EPT_POINTER,
        Eptp::new().with_memory_type(6).with_walk_length_minus_1(3).with_page(layout::EPT_PML4 >> 12),
    );
    vmcs.set(field::VIRTUAL_PROCESSOR_IDENTIFIER, 1);
    vmcs.set(field::TSC_MULTIPLIER, 1 << 48);
    vmcs.set(field::POSTED_INTERRUPT_NOTIFICATION_VECTOR, 0xF2);
    vmcs.set(field::GUEST_IDTR_LIMIT, 0);
    vmcs
}

/// The image with every feature in force that the processor has and that leaves the image valid.
pub(super) fn with_features(capabilities: &Capabilities, vmcs: Vmcs) -> Vmcs {
    let mut rich = vmcs;
    // What a control requires comes before it.
    enable(
        capabilities,
        &mut rich,
        field::PIN_BASED_VM_EXECUTION_CONTROLS,
        &[PinBased::EXTERNAL_INTERRUPT_EXITING, PinBased::NMI_EXITING, PinBased::VIRTUAL_NMIS],
    );
    enable(
        capabilities,
        &mut rich,
        field::PRIMARY_VM_EXIT_CONTROLS,
        &[
            Exit::ACKNOWLEDGE_INTERRUPT_ON_EXIT,
            Exit::SAVE_VMX_PREEMPTION_TIMER_VALUE,
            Exit::ACTIVATE_SECONDARY_CONTROLS,
        ],
    );
    enable(
        capabilities,
        &mut rich,
        field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,
        &[
            Primary::USE_TPR_SHADOW,
            Primary::USE_I_O_BITMAPS,
            Primary::USE_MSR_BITMAPS,
            Primary::USE_TSC_OFFSETTING,
            Primary::ACTIVATE_SECONDARY_CONTROLS,
            Primary::ACTIVATE_TERTIARY_CONTROLS,
        ],
    );
    enable(capabilities, &mut rich, field::VM_FUNCTION_CONTROLS, &[VmFunctions::EPTP_SWITCHING]);
    enable(
        capabilities,
        &mut rich,
        field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,
        &[
            Secondary::ENABLE_EPT,
            Secondary::ENABLE_VPID,
            Secondary::VIRTUALIZE_APIC_ACCESSES,
            Secondary::APIC_REGISTER_VIRTUALIZATION,
            Secondary::VIRTUAL_INTERRUPT_DELIVERY,
            Secondary::ENABLE_VM_FUNCTIONS,
            Secondary::VMCS_SHADOWING,
            Secondary::ENABLE_PML,
            Secondary::EPT_VIOLATION_VE,
            Secondary::USE_TSC_SCALING,
            Secondary::SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT,
            Secondary::MODE_BASED_EXECUTE_CONTROL_FOR_EPT,
            Secondary::PASID_TRANSLATION,
            Secondary::PAUSE_LOOP_EXITING,
        ],
    );
    enable(
        capabilities,
        &mut rich,
        field::TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,
        &[
            Tertiary::ENABLE_HLAT,
            Tertiary::IPI_VIRTUALIZATION,
            Tertiary::ENABLE_MSR_LIST_INSTRUCTIONS,
            Tertiary::VIRTUALIZE_IA32_SPEC_CTRL,
        ],
    );
    enable(
        capabilities,
        &mut rich,
        field::SECONDARY_VM_EXIT_CONTROLS,
        &[SecondaryExit::LOAD_IA32_SPEC_CTRL, SecondaryExit::PREMATURELY_BUSY_SHADOW_STACK],
    );
    enable(capabilities, &mut rich, field::PIN_BASED_VM_EXECUTION_CONTROLS, &[PinBased::PROCESS_POSTED_INTERRUPTS]);
    rich
}

/// Sets each of `bits` in turn where the image stays valid with it.
pub(super) fn enable<T: FieldValue + core::ops::BitOr<Output = T>>(
    capabilities: &Capabilities,
    vmcs: &mut Vmcs,
    word: Field<T>,
    bits: &[T],
) {
    for &bit in bits {
        let old = vmcs.get(word);
        vmcs.set(word, old | bit);
        if !is_valid(capabilities, vmcs) {
            vmcs.set(word, old);
        }
    }
}

/// The image with every register loaded at entry and exit that has a control for it.
pub(super) fn loading_registers(capabilities: &Capabilities, vmcs: Vmcs) -> Vmcs {
    /// Every entry write-back or another legal type, as after reset.
    const PAT: u64 = 0x0007_0406_0007_0406;
    let mut loading = vmcs;
    loading.set(field::GUEST_IA32_PAT, PAT);
    loading.set(field::HOST_IA32_PAT, PAT);
    enable(
        capabilities,
        &mut loading,
        field::VM_ENTRY_CONTROLS,
        &[
            Entry::LOAD_DEBUG_CONTROLS,
            Entry::LOAD_IA32_PERF_GLOBAL_CTRL,
            Entry::LOAD_IA32_PAT,
            Entry::LOAD_IA32_EFER,
            Entry::LOAD_IA32_BNDCFGS,
            Entry::LOAD_UINV,
            Entry::LOAD_CET_STATE,
            Entry::LOAD_GUEST_IA32_LBR_CTL,
            Entry::LOAD_PKRS,
            Entry::LOAD_FRED,
            Entry::LOAD_IA32_SPEC_CTRL,
        ],
    );
    enable(
        capabilities,
        &mut loading,
        field::PRIMARY_VM_EXIT_CONTROLS,
        &[
            Exit::LOAD_IA32_PERF_GLOBAL_CTRL,
            Exit::LOAD_IA32_PAT,
            Exit::LOAD_IA32_EFER,
            Exit::LOAD_CET_STATE,
            Exit::LOAD_PKRS,
            Exit::ACTIVATE_SECONDARY_CONTROLS,
        ],
    );
    enable(
        capabilities,
        &mut loading,
        field::SECONDARY_VM_EXIT_CONTROLS,
        &[SecondaryExit::LOAD_FRED, SecondaryExit::LOAD_IA32_SPEC_CTRL],
    );
    loading
}

/// A guest in protected mode with PAE paging.
pub(super) fn pae_guest(mut vmcs: Vmcs) -> Vmcs {
    leave_ia32e_mode(&mut vmcs);
    vmcs.set(field::GUEST_CR3, layout::PAE_PDPT);
    let code = vmcs.get(field::GUEST_CS_ACCESS_RIGHTS).with_long(false).with_default_big(true);
    vmcs.set(field::GUEST_CS_ACCESS_RIGHTS, code);
    vmcs
}

/// A virtual-8086 guest, with PAE paging.
pub(super) fn virtual_8086_guest(mut vmcs: Vmcs) -> Vmcs {
    /// The highest segment, which reaches the guest's code.
    const SELECTOR: u16 = 0xFFFF;
    leave_ia32e_mode(&mut vmcs);
    vmcs.set(field::GUEST_CR3, layout::PAE_PDPT);
    vmcs.set(field::GUEST_RFLAGS, Rflags::FIXED1 | Rflags::VM);
    for (selector, base, limit, rights) in SEGMENTS {
        vmcs.set(selector, Selector::from_bits(SELECTOR));
        vmcs.set(base, u64::from(SELECTOR) << 4);
        vmcs.set(limit, 0xFFFF);
        vmcs.set(rights, AccessRights::from_bits(0xF3));
    }
    vmcs.set(field::GUEST_RIP, layout::GUEST_RIP - (u64::from(SELECTOR) << 4));
    vmcs
}

/// Takes the guest out of IA-32e mode.
pub(super) fn leave_ia32e_mode(vmcs: &mut Vmcs) {
    vmcs.set(field::VM_ENTRY_CONTROLS, vmcs.get(field::VM_ENTRY_CONTROLS).difference(Entry::IA_32E_MODE_GUEST));
    vmcs.set(field::GUEST_IA32_EFER, Efer::empty());
}

/// Selector, base, limit and access rights of a guest segment register.
type SegmentFields = (Field<Selector>, Field<u64>, Field<u32>, Field<AccessRights>);

/// The guest's code and data segment registers.
const SEGMENTS: [SegmentFields; 6] = [
    (field::GUEST_ES_SELECTOR, field::GUEST_ES_BASE, field::GUEST_ES_LIMIT, field::GUEST_ES_ACCESS_RIGHTS),
    (field::GUEST_CS_SELECTOR, field::GUEST_CS_BASE, field::GUEST_CS_LIMIT, field::GUEST_CS_ACCESS_RIGHTS),
    (field::GUEST_SS_SELECTOR, field::GUEST_SS_BASE, field::GUEST_SS_LIMIT, field::GUEST_SS_ACCESS_RIGHTS),
    (field::GUEST_DS_SELECTOR, field::GUEST_DS_BASE, field::GUEST_DS_LIMIT, field::GUEST_DS_ACCESS_RIGHTS),
    (field::GUEST_FS_SELECTOR, field::GUEST_FS_BASE, field::GUEST_FS_LIMIT, field::GUEST_FS_ACCESS_RIGHTS),
    (field::GUEST_GS_SELECTOR, field::GUEST_GS_BASE, field::GUEST_GS_LIMIT, field::GUEST_GS_ACCESS_RIGHTS),
];

/// A guest in real-address mode, for a processor with “unrestricted guest”.
pub(super) fn unrestricted_real_mode(capabilities: &Capabilities, mut vmcs: Vmcs) -> Vmcs {
    vmcs.set(
        field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,
        vmcs.get(field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS) | Primary::ACTIVATE_SECONDARY_CONTROLS,
    );
    vmcs.set(
        field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,
        Secondary::ENABLE_EPT | Secondary::UNRESTRICTED_GUEST,
    );
    leave_ia32e_mode(&mut vmcs);
    let cr0 = Cr0::from_bits_retain(capabilities.cr0.ones).difference(Cr0::PE | Cr0::PG) | Cr0::NE | Cr0::ET;
    vmcs.set(field::GUEST_CR0, cr0);
    vmcs.set(field::GUEST_CR4, Cr4::from_bits_retain(capabilities.cr4.ones));
    vmcs.set(field::GUEST_RFLAGS, Rflags::FIXED1);
    let data = AccessRights::new().with_kind(3).with_code_or_data(true).with_present(true);
    for (selector, base, limit, rights) in SEGMENTS {
        vmcs.set(selector, Selector::new());
        vmcs.set(base, 0);
        vmcs.set(limit, 0xFFFF);
        vmcs.set(rights, data);
    }
    vmcs.set(field::GUEST_CS_BASE, layout::PROBE);
    vmcs.set(field::GUEST_CS_ACCESS_RIGHTS, data.with_kind(11));
    vmcs.set(field::GUEST_RIP, layout::GUEST_RIP - layout::PROBE);
    vmcs
}

/// The image with a #GP injected.
pub(super) fn injecting_gp(mut vmcs: Vmcs) -> Vmcs {
    vmcs.set(
        field::VM_ENTRY_INTERRUPTION_INFORMATION,
        InterruptionInformation::new()
            .with_vector(13)
            .with_event_type(event_type::HARDWARE_EXCEPTION)
            .with_deliver_error_code(true)
            .with_valid(true),
    );
    vmcs.set(field::VM_ENTRY_INSTRUCTION_LENGTH, 2);
    vmcs
}
