//! The field table: one row per component of the VMCS, in the order of SDM Appendix B, Field Encoding in VMCS.
//!
//! A row is `NAME: type = encoding, [aliases], [capability bits];`. The component exists if one of the capability bits is 1, or
//! always if none are listed.
#![allow(rustdoc::broken_intra_doc_links, reason = "rows name bits of MSRs as the SDM does, such as [4:0]")]

use super::{Encoding, Field, FieldId, FieldInfo, fields};
use crate::controls::{Entry, Exit, PinBased, Primary, Secondary, SecondaryExit, Tertiary, VmFunctions};
use crate::formats::{
    AccessRights, ActivityState, Eptp, ExitReason, Hlatp, InstructionError, Interruptibility, InterruptionInformation,
    PendingDebug, Selector,
};
use crate::msr::{CapabilityBit, Source};
use crate::registers::{Cr0, Cr4, Efer, Rflags};

fields! {
    // SDM Appendix B.1, 16-bit fields.
    /// Virtual processor identifier.
    VIRTUAL_PROCESSOR_IDENTIFIER: u16 = 0x0000, ["vpid"], [Secondary: 37];
    /// Posted-interrupt notification vector. Bits 15:8 must be 0.
    POSTED_INTERRUPT_NOTIFICATION_VECTOR: u16 = 0x0002, ["posted_intr_nv"], [Pin: 39];
    /// EPTP index. Written by the EPTP-switching VM function.
    EPTP_INDEX: u16 = 0x0004, [], [Secondary: 50];
    /// HLAT prefix size. It says which linear addresses are translated by HLAT paging.
    HLAT_PREFIX_SIZE: u16 = 0x0006, [], [Tertiary: 1];
    /// Last PID-pointer index. The index of the last entry of the PID-pointer table.
    LAST_PID_POINTER_INDEX: u16 = 0x0008, [], [Tertiary: 4];
    /// Virtual timer vector. In the SDM's text, not yet in its Appendix B.
    VIRTUAL_TIMER_VECTOR: u16 = 0x000A, ["guest_apic_timer_vector"], [Tertiary: 8];
    /// Guest ES selector.
    GUEST_ES_SELECTOR: Selector = 0x0800, [], [];
    /// Guest CS selector.
    GUEST_CS_SELECTOR: Selector = 0x0802, [], [];
    /// Guest SS selector.
    GUEST_SS_SELECTOR: Selector = 0x0804, [], [];
    /// Guest DS selector.
    GUEST_DS_SELECTOR: Selector = 0x0806, [], [];
    /// Guest FS selector.
    GUEST_FS_SELECTOR: Selector = 0x0808, [], [];
    /// Guest GS selector.
    GUEST_GS_SELECTOR: Selector = 0x080A, [], [];
    /// Guest LDTR selector.
    GUEST_LDTR_SELECTOR: Selector = 0x080C, [], [];
    /// Guest TR selector.
    GUEST_TR_SELECTOR: Selector = 0x080E, [], [];
    /// Guest interrupt status. RVI in the low byte, SVI in the high byte.
    GUEST_INTERRUPT_STATUS: u16 = 0x0810, ["rvi", "svi"], [Secondary: 41];
    /// PML index. In the guest-state area although the PML address is a control.
    PML_INDEX: u16 = 0x0812, ["guest_pml_index"], [Secondary: 49];
    /// Guest UINV. Bits 7:0 are the vector.
    GUEST_UINV: u16 = 0x0814, [], [Entry: 51, Exit: 59];
    /// Host ES selector.
    HOST_ES_SELECTOR: Selector = 0x0C00, [], [];
    /// Host CS selector.
    HOST_CS_SELECTOR: Selector = 0x0C02, [], [];
    /// Host SS selector.
    HOST_SS_SELECTOR: Selector = 0x0C04, [], [];
    /// Host DS selector.
    HOST_DS_SELECTOR: Selector = 0x0C06, [], [];
    /// Host FS selector.
    HOST_FS_SELECTOR: Selector = 0x0C08, [], [];
    /// Host GS selector.
    HOST_GS_SELECTOR: Selector = 0x0C0A, [], [];
    /// Host TR selector.
    HOST_TR_SELECTOR: Selector = 0x0C0C, [], [];
    // SDM Appendix B.2, 64-bit fields.
    /// Address of I/O bitmap A. A bit for each port from 0000H to 7FFFH.
    IO_BITMAP_A_ADDRESS: u64 = 0x2000, ["address_of_io_bitmap_a"], [];
    /// Address of I/O bitmap B. A bit for each port from 8000H to FFFFH.
    IO_BITMAP_B_ADDRESS: u64 = 0x2002, ["address_of_io_bitmap_b"], [];
    /// MSR-bitmap address.
    MSR_BITMAP_ADDRESS: u64 = 0x2004, ["address_of_msr_bitmaps"], [Primary: 60];
    /// VM-exit MSR-store address.
    VM_EXIT_MSR_STORE_ADDRESS: u64 = 0x2006, [], [];
    /// VM-exit MSR-load address.
    VM_EXIT_MSR_LOAD_ADDRESS: u64 = 0x2008, [], [];
    /// VM-entry MSR-load address.
    VM_ENTRY_MSR_LOAD_ADDRESS: u64 = 0x200A, [], [];
    /// Executive-VMCS pointer. Used by the dual-monitor treatment of SMIs and SMM only.
    EXECUTIVE_VMCS_POINTER: u64 = 0x200C, [], [];
    /// PML address. The physical address of the page-modification log.
    PML_ADDRESS: u64 = 0x200E, ["page_modification_log_address"], [Secondary: 49];
    /// TSC offset. A signed number that is added to what the guest reads as time-stamp counter.
    TSC_OFFSET: u64 = 0x2010, [], [];
    /// Virtual-APIC address.
    VIRTUAL_APIC_ADDRESS: u64 = 0x2012, ["virtual_apic_page_address"], [Primary: 53];
    /// APIC-access address.
    APIC_ACCESS_ADDRESS: u64 = 0x2014, [], [Secondary: 32];
    /// Posted-interrupt descriptor address.
    POSTED_INTERRUPT_DESCRIPTOR_ADDRESS: u64 = 0x2016, ["pi_descriptor_address"], [Pin: 39];
    /// VM-function controls.
    VM_FUNCTION_CONTROLS: VmFunctions = 0x2018, ["vmfunc_controls"], [Secondary: 45];
    /// EPT pointer (EPTP). The address of the EPT paging structures, their memory type, and features in use.
    EPT_POINTER: Eptp = 0x201A, ["eptp"], [Secondary: 33];
    /// EOI exit bitmap 0. Vectors 0-63.
    EOI_EXIT_BITMAP_0: u64 = 0x201C, ["eoi_exit0"], [Secondary: 41];
    /// EOI exit bitmap 1. Vectors 64-127.
    EOI_EXIT_BITMAP_1: u64 = 0x201E, ["eoi_exit1"], [Secondary: 41];
    /// EOI exit bitmap 2. Vectors 128-191.
    EOI_EXIT_BITMAP_2: u64 = 0x2020, ["eoi_exit2"], [Secondary: 41];
    /// EOI exit bitmap 3. Vectors 192-255.
    EOI_EXIT_BITMAP_3: u64 = 0x2022, ["eoi_exit3"], [Secondary: 41];
    /// EPTP-list address.
    EPTP_LIST_ADDRESS: u64 = 0x2024, [], [VmFunctions: 0];
    /// VMREAD-bitmap address.
    VMREAD_BITMAP_ADDRESS: u64 = 0x2026, [], [Secondary: 46];
    /// VMWRITE-bitmap address.
    VMWRITE_BITMAP_ADDRESS: u64 = 0x2028, [], [Secondary: 46];
    /// Virtualization-exception information address.
    VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS: u64 = 0x202A, ["ve_information_address"], [Secondary: 50];
    /// XSS-exiting bitmap. A bit for each bit of IA32_XSS: XSAVES and XRSTORS of a state component whose bit is 1 exit.
    XSS_EXITING_BITMAP: u64 = 0x202C, [], [Secondary: 52];
    /// ENCLS-exiting bitmap. A bit for each leaf function of ENCLS, which exits if the bit is 1.
    ENCLS_EXITING_BITMAP: u64 = 0x202E, [], [Secondary: 47];
    /// Sub-page-permission table pointer.
    SUB_PAGE_PERMISSION_TABLE_POINTER: u64 = 0x2030, ["spptp"], [Secondary: 55];
    /// TSC multiplier. A fixed-point number with 48 fractional bits.
    TSC_MULTIPLIER: u64 = 0x2032, [], [Secondary: 57];
    /// Tertiary processor-based VM-execution controls.
    TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS: Tertiary = 0x2034, [], [Primary: 49];
    /// ENCLV-exiting bitmap. Current editions of the SDM do not list it any more; implementations still have it.
    ENCLV_EXITING_BITMAP: u64 = 0x2036, [], [Secondary: 60];
    /// Low PASID directory address.
    LOW_PASID_DIRECTORY_ADDRESS: u64 = 0x2038, [], [Secondary: 53];
    /// High PASID directory address.
    HIGH_PASID_DIRECTORY_ADDRESS: u64 = 0x203A, [], [Secondary: 53];
    /// SEAM shared EPT pointer. Ignored outside SEAM.
    SEAM_SHARED_EPT_POINTER: u64 = 0x203C, ["shared_ept_pointer"], [Tertiary: 5];
    /// PCONFIG-exiting bitmap. A bit for each leaf function of PCONFIG, which exits if the bit is 1.
    PCONFIG_EXITING_BITMAP: u64 = 0x203E, [], [Secondary: 59];
    /// Hypervisor-managed linear-address translation pointer.
    HYPERVISOR_MANAGED_LINEAR_ADDRESS_TRANSLATION_POINTER: Hlatp = 0x2040, ["hlatp"], [Tertiary: 1];
    /// PID-pointer table address.
    PID_POINTER_TABLE_ADDRESS: u64 = 0x2042, [], [Tertiary: 4];
    /// Secondary VM-exit controls.
    SECONDARY_VM_EXIT_CONTROLS: SecondaryExit = 0x2044, [], [Exit: 63];
    /// IA32_SPEC_CTRL mask. Bits that are 1 here cannot be changed by the guest.
    IA32_SPEC_CTRL_MASK: u64 = 0x204A, [], [Tertiary: 7];
    /// IA32_SPEC_CTRL shadow. What the guest reads in IA32_SPEC_CTRL.
    IA32_SPEC_CTRL_SHADOW: u64 = 0x204C, [], [Tertiary: 7];
    /// Guest deadline shadow. In the SDM's text, not yet in its Appendix B.
    GUEST_DEADLINE_SHADOW: u64 = 0x204E, ["guest_deadline_vir"], [Tertiary: 8];
    /// Injected-event data. With FRED: what the injected event reports beside its error code, such as CR2.
    INJECTED_EVENT_DATA: u64 = 0x2052, [], [Cpuid7_1Eax: 17];
    /// Guest-physical address. Written by exits for EPT violations, EPT misconfigurations and SPP-related events.
    GUEST_PHYSICAL_ADDRESS: u64 = 0x2400, [], [Secondary: 33];
    /// MSR data. Written by exits of WRMSRLIST: the value that was to be written.
    MSR_DATA: u64 = 0x2402, [], [Tertiary: 6];
    /// Original-event data. With FRED: the event data of the event during whose delivery the exit came.
    ORIGINAL_EVENT_DATA: u64 = 0x2404, [], [Cpuid7_1Eax: 17];
    /// VMCS link pointer. The physical address of a shadow VMCS, or all ones when no VMCS is linked.
    VMCS_LINK_POINTER: u64 = 0x2800, [], [];
    /// Guest IA32_DEBUGCTL.
    GUEST_IA32_DEBUGCTL: u64 = 0x2802, [], [];
    /// Guest IA32_PAT.
    GUEST_IA32_PAT: u64 = 0x2804, [], [Entry: 46, Exit: 50];
    /// Guest IA32_EFER.
    GUEST_IA32_EFER: Efer = 0x2806, [], [Entry: 47, Exit: 52];
    /// Guest IA32_PERF_GLOBAL_CTRL. Appendix B names only the VM-entry control as the condition of its existence.
    GUEST_IA32_PERF_GLOBAL_CTRL: u64 = 0x2808, [], [Entry: 45];
    /// Guest PDPTE0.
    GUEST_PDPTE0: u64 = 0x280A, ["guest_pdptr0"], [Secondary: 33];
    /// Guest PDPTE1.
    GUEST_PDPTE1: u64 = 0x280C, ["guest_pdptr1"], [Secondary: 33];
    /// Guest PDPTE2.
    GUEST_PDPTE2: u64 = 0x280E, ["guest_pdptr2"], [Secondary: 33];
    /// Guest PDPTE3.
    GUEST_PDPTE3: u64 = 0x2810, ["guest_pdptr3"], [Secondary: 33];
    /// Guest IA32_BNDCFGS.
    GUEST_IA32_BNDCFGS: u64 = 0x2812, [], [Entry: 48, Exit: 55];
    /// Guest IA32_RTIT_CTL.
    GUEST_IA32_RTIT_CTL: u64 = 0x2814, [], [Entry: 50, Exit: 57];
    /// Guest IA32_LBR_CTL.
    GUEST_IA32_LBR_CTL: u64 = 0x2816, [], [Entry: 53, Exit: 58];
    /// Guest IA32_PKRS.
    GUEST_IA32_PKRS: u64 = 0x2818, [], [Entry: 54];
    /// Guest IA32_FRED_CONFIG.
    GUEST_IA32_FRED_CONFIG: u64 = 0x281A, [], [Entry: 55, SecondaryExit: 0];
    /// Guest IA32_FRED_RSP1.
    GUEST_IA32_FRED_RSP1: u64 = 0x281C, [], [Entry: 55, SecondaryExit: 0];
    /// Guest IA32_FRED_RSP2.
    GUEST_IA32_FRED_RSP2: u64 = 0x281E, [], [Entry: 55, SecondaryExit: 0];
    /// Guest IA32_FRED_RSP3.
    GUEST_IA32_FRED_RSP3: u64 = 0x2820, [], [Entry: 55, SecondaryExit: 0];
    /// Guest IA32_FRED_STKLVLS.
    GUEST_IA32_FRED_STKLVLS: u64 = 0x2822, ["guest_ia32_fred_stack_levels"], [Entry: 55, SecondaryExit: 0];
    /// Guest IA32_FRED_SSP1.
    GUEST_IA32_FRED_SSP1: u64 = 0x2824, [], [Entry: 55, SecondaryExit: 0];
    /// Guest IA32_FRED_SSP2.
    GUEST_IA32_FRED_SSP2: u64 = 0x2826, [], [Entry: 55, SecondaryExit: 0];
    /// Guest IA32_FRED_SSP3.
    GUEST_IA32_FRED_SSP3: u64 = 0x2828, [], [Entry: 55, SecondaryExit: 0];
    /// Guest IA32_SPEC_CTRL. In the SDM's text, not yet in its Appendix B; the encoding is known from one implementation.
    GUEST_IA32_SPEC_CTRL: u64 = 0x282E, [], [Entry: 56];
    /// Guest deadline. In the SDM's text, not yet in its Appendix B.
    GUEST_DEADLINE: u64 = 0x2830, ["guest_deadline_phy"], [Tertiary: 8];
    /// Host IA32_PAT.
    HOST_IA32_PAT: u64 = 0x2C00, [], [Exit: 51];
    /// Host IA32_EFER.
    HOST_IA32_EFER: Efer = 0x2C02, [], [Exit: 53];
    /// Host IA32_PERF_GLOBAL_CTRL.
    HOST_IA32_PERF_GLOBAL_CTRL: u64 = 0x2C04, [], [Exit: 44];
    /// Host IA32_PKRS.
    HOST_IA32_PKRS: u64 = 0x2C06, [], [Exit: 61];
    /// Host IA32_FRED_CONFIG.
    HOST_IA32_FRED_CONFIG: u64 = 0x2C08, [], [SecondaryExit: 1];
    /// Host IA32_FRED_RSP1.
    HOST_IA32_FRED_RSP1: u64 = 0x2C0A, [], [SecondaryExit: 1];
    /// Host IA32_FRED_RSP2.
    HOST_IA32_FRED_RSP2: u64 = 0x2C0C, [], [SecondaryExit: 1];
    /// Host IA32_FRED_RSP3.
    HOST_IA32_FRED_RSP3: u64 = 0x2C0E, [], [SecondaryExit: 1];
    /// Host IA32_FRED_STKLVLS.
    HOST_IA32_FRED_STKLVLS: u64 = 0x2C10, ["host_ia32_fred_stack_levels"], [SecondaryExit: 1];
    /// Host IA32_FRED_SSP1.
    HOST_IA32_FRED_SSP1: u64 = 0x2C12, [], [SecondaryExit: 1];
    /// Host IA32_FRED_SSP2.
    HOST_IA32_FRED_SSP2: u64 = 0x2C14, [], [SecondaryExit: 1];
    /// Host IA32_FRED_SSP3.
    HOST_IA32_FRED_SSP3: u64 = 0x2C16, [], [SecondaryExit: 1];
    /// Host IA32_SPEC_CTRL. In the SDM's text, not yet in its Appendix B; the encoding is known from one implementation.
    HOST_IA32_SPEC_CTRL: u64 = 0x2C1A, [], [SecondaryExit: 2];
    // SDM Appendix B.3, 32-bit fields.
    /// Pin-based VM-execution controls.
    PIN_BASED_VM_EXECUTION_CONTROLS: PinBased = 0x4000, [], [];
    /// Primary processor-based VM-execution controls.
    PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS: Primary = 0x4002, ["cpu_based_vm_exec_control"], [];
    /// Exception bitmap. A bit for each exception vector; an exception whose bit is 1 causes a VM exit.
    EXCEPTION_BITMAP: u32 = 0x4004, [], [];
    /// Page-fault error-code mask. With the match it says which page faults cause VM exits.
    PAGE_FAULT_ERROR_CODE_MASK: u32 = 0x4006, [], [];
    /// Page-fault error-code match. What the masked error code of a page fault is compared with.
    PAGE_FAULT_ERROR_CODE_MATCH: u32 = 0x4008, [], [];
    /// CR3-target count. How many of the CR3-target values are in use.
    CR3_TARGET_COUNT: u32 = 0x400A, [], [];
    /// Primary VM-exit controls.
    PRIMARY_VM_EXIT_CONTROLS: Exit = 0x400C, ["vm_exit_controls"], [];
    /// VM-exit MSR-store count. In entries of 16 bytes.
    VM_EXIT_MSR_STORE_COUNT: u32 = 0x400E, [], [];
    /// VM-exit MSR-load count. In entries of 16 bytes.
    VM_EXIT_MSR_LOAD_COUNT: u32 = 0x4010, [], [];
    /// VM-entry controls.
    VM_ENTRY_CONTROLS: Entry = 0x4012, [], [];
    /// VM-entry MSR-load count. In entries of 16 bytes.
    VM_ENTRY_MSR_LOAD_COUNT: u32 = 0x4014, [], [];
    /// VM-entry interruption information. The event that the VM entry injects, if bit 31 is 1.
    VM_ENTRY_INTERRUPTION_INFORMATION: InterruptionInformation = 0x4016, ["injected_event_identification"], [];
    /// VM-entry exception error code. The error code of the injected event.
    VM_ENTRY_EXCEPTION_ERROR_CODE: u32 = 0x4018, ["injected_event_error_code"], [];
    /// VM-entry instruction length. In bytes; used when a software interrupt or exception is injected.
    VM_ENTRY_INSTRUCTION_LENGTH: u32 = 0x401A, [], [];
    /// TPR threshold. Bits 3:0 are the threshold; bits 31:4 must be 0 unless “virtual-interrupt delivery” is 1.
    TPR_THRESHOLD: u32 = 0x401C, [], [Primary: 53];
    /// Secondary processor-based VM-execution controls.
    SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS: Secondary = 0x401E, [], [Primary: 63];
    /// PLE gap. The longest time between two PAUSEs of one loop, in units of the time-stamp counter.
    PLE_GAP: u32 = 0x4020, [], [Secondary: 42];
    /// PLE window. How long a guest may execute a PAUSE loop, in units of the time-stamp counter.
    PLE_WINDOW: u32 = 0x4022, [], [Secondary: 42];
    /// Instruction timeout control. In units of the crystal clock.
    INSTRUCTION_TIMEOUT_CONTROL: u32 = 0x4024, ["notify_window"], [Secondary: 63];
    /// SEAM guest KeyID. Ignored outside SEAM.
    SEAM_GUEST_KEYID: u32 = 0x4026, ["hkid"], [Tertiary: 5];
    /// VM-instruction error. The number of the error of the last VMfailValid.
    VM_INSTRUCTION_ERROR: InstructionError = 0x4400, [], [];
    /// Exit reason.
    EXIT_REASON: ExitReason = 0x4402, ["vm_exit_reason"], [];
    /// VM-exit interruption information. The event that caused the exit, if bit 31 is 1.
    VM_EXIT_INTERRUPTION_INFORMATION: InterruptionInformation = 0x4404, ["exiting_event_identification"], [];
    /// VM-exit interruption error code. The error code of the event that caused the exit.
    VM_EXIT_INTERRUPTION_ERROR_CODE: u32 = 0x4406, ["exiting_event_error_code"], [];
    /// IDT-vectoring information. The event during whose delivery the exit came, if bit 31 is 1.
    IDT_VECTORING_INFORMATION: InterruptionInformation = 0x4408, ["original_event_identification"], [];
    /// IDT-vectoring error code. The error code of the event that was being delivered.
    IDT_VECTORING_ERROR_CODE: u32 = 0x440A, ["original_event_error_code"], [];
    /// VM-exit instruction length. In bytes.
    VM_EXIT_INSTRUCTION_LENGTH: u32 = 0x440C, [], [];
    /// VM-exit instruction information. The operands of the instruction that caused the exit.
    VM_EXIT_INSTRUCTION_INFORMATION: u32 = 0x440E, ["vmx_instruction_info"], [];
    /// Guest ES limit.
    GUEST_ES_LIMIT: u32 = 0x4800, [], [];
    /// Guest CS limit.
    GUEST_CS_LIMIT: u32 = 0x4802, [], [];
    /// Guest SS limit.
    GUEST_SS_LIMIT: u32 = 0x4804, [], [];
    /// Guest DS limit.
    GUEST_DS_LIMIT: u32 = 0x4806, [], [];
    /// Guest FS limit.
    GUEST_FS_LIMIT: u32 = 0x4808, [], [];
    /// Guest GS limit.
    GUEST_GS_LIMIT: u32 = 0x480A, [], [];
    /// Guest LDTR limit.
    GUEST_LDTR_LIMIT: u32 = 0x480C, [], [];
    /// Guest TR limit.
    GUEST_TR_LIMIT: u32 = 0x480E, [], [];
    /// Guest GDTR limit.
    GUEST_GDTR_LIMIT: u32 = 0x4810, [], [];
    /// Guest IDTR limit.
    GUEST_IDTR_LIMIT: u32 = 0x4812, [], [];
    /// Guest ES access rights.
    GUEST_ES_ACCESS_RIGHTS: AccessRights = 0x4814, ["guest_es_ar_bytes"], [];
    /// Guest CS access rights.
    GUEST_CS_ACCESS_RIGHTS: AccessRights = 0x4816, ["guest_cs_ar_bytes"], [];
    /// Guest SS access rights.
    GUEST_SS_ACCESS_RIGHTS: AccessRights = 0x4818, ["guest_ss_ar_bytes"], [];
    /// Guest DS access rights.
    GUEST_DS_ACCESS_RIGHTS: AccessRights = 0x481A, ["guest_ds_ar_bytes"], [];
    /// Guest FS access rights.
    GUEST_FS_ACCESS_RIGHTS: AccessRights = 0x481C, ["guest_fs_ar_bytes"], [];
    /// Guest GS access rights.
    GUEST_GS_ACCESS_RIGHTS: AccessRights = 0x481E, ["guest_gs_ar_bytes"], [];
    /// Guest LDTR access rights.
    GUEST_LDTR_ACCESS_RIGHTS: AccessRights = 0x4820, ["guest_ldtr_ar_bytes"], [];
    /// Guest TR access rights.
    GUEST_TR_ACCESS_RIGHTS: AccessRights = 0x4822, ["guest_tr_ar_bytes"], [];
    /// Guest interruptibility state. Which events are blocked.
    GUEST_INTERRUPTIBILITY_STATE: Interruptibility = 0x4824, [], [];
    /// Guest activity state. 0 active, 1 HLT, 2 shutdown, 3 wait-for-SIPI.
    GUEST_ACTIVITY_STATE: ActivityState = 0x4826, [], [];
    /// Guest SMBASE. Meaningful with the dual-monitor treatment only.
    GUEST_SMBASE: u32 = 0x4828, [], [];
    /// Guest IA32_SYSENTER_CS.
    GUEST_IA32_SYSENTER_CS: u32 = 0x482A, [], [];
    /// VMX-preemption timer value. It counts down by 1 whenever bit IA32_VMX_MISC[4:0] of the time-stamp counter changes.
    VMX_PREEMPTION_TIMER_VALUE: u32 = 0x482E, [], [Pin: 38];
    /// Host IA32_SYSENTER_CS.
    HOST_IA32_SYSENTER_CS: u32 = 0x4C00, [], [];
    // SDM Appendix B.4, natural-width fields.
    /// CR0 guest/host mask. Bits of CR0 that are 1 here belong to the host: the guest reads them in the read shadow.
    CR0_GUEST_HOST_MASK: u64 = 0x6000, [], [];
    /// CR4 guest/host mask. Bits of CR4 that are 1 here belong to the host: the guest reads them in the read shadow.
    CR4_GUEST_HOST_MASK: u64 = 0x6002, [], [];
    /// CR0 read shadow. What the guest reads of the bits of CR0 that belong to the host.
    CR0_READ_SHADOW: u64 = 0x6004, [], [];
    /// CR4 read shadow. What the guest reads of the bits of CR4 that belong to the host.
    CR4_READ_SHADOW: u64 = 0x6006, [], [];
    /// CR3-target value 0. A MOV to CR3 of this value does not exit, if the CR3-target count is at least 1.
    CR3_TARGET_VALUE_0: u64 = 0x6008, [], [];
    /// CR3-target value 1. As CR3-target value 0, if the count is at least 2.
    CR3_TARGET_VALUE_1: u64 = 0x600A, [], [];
    /// CR3-target value 2. As CR3-target value 0, if the count is at least 3.
    CR3_TARGET_VALUE_2: u64 = 0x600C, [], [];
    /// CR3-target value 3. As CR3-target value 0, if the count is 4.
    CR3_TARGET_VALUE_3: u64 = 0x600E, [], [];
    /// Exit qualification. More about the cause of the exit; what it means depends on the exit reason.
    EXIT_QUALIFICATION: u64 = 0x6400, [], [];
    /// IO RCX. RCX before an I/O instruction, written by SMM VM exits that arrive right after one.
    IO_RCX: u64 = 0x6402, [], [];
    /// IO RSI. RSI before the I/O instruction; see IO RCX.
    IO_RSI: u64 = 0x6404, [], [];
    /// IO RDI. RDI before the I/O instruction; see IO RCX.
    IO_RDI: u64 = 0x6406, [], [];
    /// IO RIP. RIP before the I/O instruction; see IO RCX.
    IO_RIP: u64 = 0x6408, [], [];
    /// Guest-linear address. The linear address of the access that caused the exit, for some exits.
    GUEST_LINEAR_ADDRESS: u64 = 0x640A, [], [];
    /// Guest CR0.
    GUEST_CR0: Cr0 = 0x6800, [], [];
    /// Guest CR3.
    GUEST_CR3: u64 = 0x6802, [], [];
    /// Guest CR4.
    GUEST_CR4: Cr4 = 0x6804, [], [];
    /// Guest ES base.
    GUEST_ES_BASE: u64 = 0x6806, [], [];
    /// Guest CS base.
    GUEST_CS_BASE: u64 = 0x6808, [], [];
    /// Guest SS base.
    GUEST_SS_BASE: u64 = 0x680A, [], [];
    /// Guest DS base.
    GUEST_DS_BASE: u64 = 0x680C, [], [];
    /// Guest FS base.
    GUEST_FS_BASE: u64 = 0x680E, [], [];
    /// Guest GS base.
    GUEST_GS_BASE: u64 = 0x6810, [], [];
    /// Guest LDTR base.
    GUEST_LDTR_BASE: u64 = 0x6812, [], [];
    /// Guest TR base.
    GUEST_TR_BASE: u64 = 0x6814, [], [];
    /// Guest GDTR base.
    GUEST_GDTR_BASE: u64 = 0x6816, [], [];
    /// Guest IDTR base.
    GUEST_IDTR_BASE: u64 = 0x6818, [], [];
    /// Guest DR7.
    GUEST_DR7: u64 = 0x681A, [], [];
    /// Guest RSP.
    GUEST_RSP: u64 = 0x681C, [], [];
    /// Guest RIP.
    GUEST_RIP: u64 = 0x681E, [], [];
    /// Guest RFLAGS.
    GUEST_RFLAGS: Rflags = 0x6820, [], [];
    /// Guest pending debug exceptions.
    GUEST_PENDING_DEBUG_EXCEPTIONS: PendingDebug = 0x6822, [], [];
    /// Guest IA32_SYSENTER_ESP.
    GUEST_IA32_SYSENTER_ESP: u64 = 0x6824, [], [];
    /// Guest IA32_SYSENTER_EIP.
    GUEST_IA32_SYSENTER_EIP: u64 = 0x6826, [], [];
    /// Guest IA32_S_CET.
    GUEST_IA32_S_CET: u64 = 0x6828, [], [Entry: 52];
    /// Guest SSP.
    GUEST_SSP: u64 = 0x682A, [], [Entry: 52];
    /// Guest IA32_INTERRUPT_SSP_TABLE_ADDR.
    GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR: u64 = 0x682C, ["guest_intr_ssp_table"], [Entry: 52];
    /// Host CR0.
    HOST_CR0: Cr0 = 0x6C00, [], [];
    /// Host CR3.
    HOST_CR3: u64 = 0x6C02, [], [];
    /// Host CR4.
    HOST_CR4: Cr4 = 0x6C04, [], [];
    /// Host FS base.
    HOST_FS_BASE: u64 = 0x6C06, [], [];
    /// Host GS base.
    HOST_GS_BASE: u64 = 0x6C08, [], [];
    /// Host TR base.
    HOST_TR_BASE: u64 = 0x6C0A, [], [];
    /// Host GDTR base.
    HOST_GDTR_BASE: u64 = 0x6C0C, [], [];
    /// Host IDTR base.
    HOST_IDTR_BASE: u64 = 0x6C0E, [], [];
    /// Host IA32_SYSENTER_ESP.
    HOST_IA32_SYSENTER_ESP: u64 = 0x6C10, [], [];
    /// Host IA32_SYSENTER_EIP.
    HOST_IA32_SYSENTER_EIP: u64 = 0x6C12, [], [];
    /// Host RSP.
    HOST_RSP: u64 = 0x6C14, [], [];
    /// Host RIP.
    HOST_RIP: u64 = 0x6C16, [], [];
    /// Host IA32_S_CET.
    HOST_IA32_S_CET: u64 = 0x6C18, [], [Exit: 60];
    /// Host SSP.
    HOST_SSP: u64 = 0x6C1A, [], [Exit: 60];
    /// Host IA32_INTERRUPT_SSP_TABLE_ADDR.
    HOST_IA32_INTERRUPT_SSP_TABLE_ADDR: u64 = 0x6C1C, ["host_intr_ssp_table"], [Exit: 60];
}
