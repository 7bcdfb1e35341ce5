//! The control words of the VMCS, bit by bit.
//!
//! Bits without a name are kept: reading a word never drops one. SDM Vol. 3C, 25.6, VM-Execution Control Fields, to 25.8,
//! VM-Entry Control Fields. The sentence behind the name of a bit says what the processor does if the bit is 1.

use crate::field::{self, FieldId, FieldValue};

/// The fields that hold the control words, in the order of the SDM. Their bits put checks in force and activate one
/// another. SDM 25.6-25.8.
pub const WORDS: [FieldId; 8] = [
    field::PIN_BASED_VM_EXECUTION_CONTROLS.id(),
    field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(),
    field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(),
    field::TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(),
    field::PRIMARY_VM_EXIT_CONTROLS.id(),
    field::SECONDARY_VM_EXIT_CONTROLS.id(),
    field::VM_ENTRY_CONTROLS.id(),
    field::VM_FUNCTION_CONTROLS.id(),
];

/// Declares one control word: its bits, each under the SDM's name, and its default1 class.
macro_rules! controls {
    (
        $(#[doc = $doc:literal])+
        pub struct $word:ident: $bits:ty, default1 {$($default1:literal),*};
        $($(#[doc = $bit_doc:literal])+ $bit:ident = $n:literal, $sdm:literal;)+
    ) => {
        bitflags::bitflags! {
            $(#[doc = $doc])+
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
            pub struct $word: $bits {
                $(
                    #[doc = concat!("“", $sdm, "”, bit ", stringify!($n), ". ", $($bit_doc),+)]
                    const $bit = 1 << $n;
                )+
                // Bits without a name here are kept like any other.
                const _ = !0;
            }
        }

        impl $word {
            /// The default1 class: reserved bits that are 1 unless the TRUE capability MSR allows 0. SDM A.2,
            /// Reserved Controls and Default Settings.
            pub const DEFAULT1: Self = Self::from_bits_retain(0 $(| 1 << $default1)*);
            /// Bit position and SDM name of every named bit, in the order of the SDM's table.
            pub const NAMES: &'static [(u32, &'static str)] = &[$(($n, $sdm)),+];
        }

        impl FieldValue for $word {
            const BITS: u32 = <$bits>::BITS;
            #[inline]
            #[allow(clippy::cast_possible_truncation, reason = "the upper bits of a field's image are 0")]
            fn from_raw(raw: u64) -> Self {
                Self::from_bits_retain(raw as $bits)
            }
            #[inline]
            fn to_raw(self) -> u64 {
                u64::from(self.bits())
            }
        }
    };
}

controls! {
    /// Pin-based VM-execution controls (field 4000H). SDM 25.6.1, Pin-Based VM-Execution Controls.
    pub struct PinBased: u32, default1 {1, 2, 4};
    /// External interrupts cause VM exits.
    EXTERNAL_INTERRUPT_EXITING = 0, "external-interrupt exiting";
    /// NMIs cause VM exits.
    NMI_EXITING = 3, "NMI exiting";
    /// NMIs are never blocked, and “blocking by NMI” in the interruptibility state is about virtual NMIs.
    VIRTUAL_NMIS = 5, "virtual NMIs";
    /// The VMX-preemption timer counts down in VMX non-root operation, and causes a VM exit when it reaches 0.
    ACTIVATE_VMX_PREEMPTION_TIMER = 6, "activate VMX-preemption timer";
    /// An external interrupt with the notification vector makes the processor deliver posted interrupts instead of exiting.
    PROCESS_POSTED_INTERRUPTS = 7, "process posted interrupts";
}

controls! {
    /// Primary processor-based VM-execution controls (field 4002H). SDM 25.6.2, Processor-Based VM-Execution Controls.
    pub struct Primary: u32, default1 {1, 4, 5, 6, 8, 13, 14, 15, 16, 26};
    /// A VM exit occurs before any instruction at which RFLAGS.IF is 1 and no interrupts are blocked.
    INTERRUPT_WINDOW_EXITING = 2, "interrupt-window exiting";
    /// The TSC offset is added to what the guest reads as time-stamp counter.
    USE_TSC_OFFSETTING = 3, "use TSC offsetting";
    /// HLT causes a VM exit.
    HLT_EXITING = 7, "HLT exiting";
    /// INVLPG and INVPCID cause VM exits.
    INVLPG_EXITING = 9, "INVLPG exiting";
    /// MWAIT causes a VM exit.
    MWAIT_EXITING = 10, "MWAIT exiting";
    /// RDPMC causes a VM exit.
    RDPMC_EXITING = 11, "RDPMC exiting";
    /// RDTSC and RDTSCP cause VM exits.
    RDTSC_EXITING = 12, "RDTSC exiting";
    /// MOV to CR3 causes a VM exit, unless the value is one of the CR3-target values.
    CR3_LOAD_EXITING = 15, "CR3-load exiting";
    /// MOV from CR3 causes a VM exit.
    CR3_STORE_EXITING = 16, "CR3-store exiting";
    /// The tertiary processor-based controls take effect; with 0 they all count as 0.
    ACTIVATE_TERTIARY_CONTROLS = 17, "activate tertiary controls";
    /// MOV to CR8 causes a VM exit.
    CR8_LOAD_EXITING = 19, "CR8-load exiting";
    /// MOV from CR8 causes a VM exit.
    CR8_STORE_EXITING = 20, "CR8-store exiting";
    /// The TPR is virtualized on the virtual-APIC page, and other features of APIC virtualization can be used.
    USE_TPR_SHADOW = 21, "use TPR shadow";
    /// A VM exit occurs before any instruction at which there is no virtual-NMI blocking.
    NMI_WINDOW_EXITING = 22, "NMI-window exiting";
    /// MOV to and from debug registers causes a VM exit.
    MOV_DR_EXITING = 23, "MOV-DR exiting";
    /// Every I/O instruction causes a VM exit; ignored if “use I/O bitmaps” is 1.
    UNCONDITIONAL_I_O_EXITING = 24, "unconditional I/O exiting";
    /// The I/O bitmaps say which ports cause VM exits.
    USE_I_O_BITMAPS = 25, "use I/O bitmaps";
    /// The guest executes one instruction and then exits.
    MONITOR_TRAP_FLAG = 27, "monitor trap flag";
    /// The MSR bitmaps say which RDMSR and WRMSR cause VM exits; with 0 every one does.
    USE_MSR_BITMAPS = 28, "use MSR bitmaps";
    /// MONITOR causes a VM exit.
    MONITOR_EXITING = 29, "MONITOR exiting";
    /// PAUSE causes a VM exit.
    PAUSE_EXITING = 30, "PAUSE exiting";
    /// The secondary processor-based controls take effect; with 0 they all count as 0.
    ACTIVATE_SECONDARY_CONTROLS = 31, "activate secondary controls";
}

controls! {
    /// Secondary processor-based VM-execution controls (field 401EH). SDM 25.6.2, Processor-Based VM-Execution Controls.
    pub struct Secondary: u32, default1 {};
    /// Accesses to the page at the APIC-access address cause VM exits or are virtualized.
    VIRTUALIZE_APIC_ACCESSES = 0, "virtualize APIC accesses";
    /// Guest-physical addresses are translated by the extended page tables.
    ENABLE_EPT = 1, "enable EPT";
    /// LGDT, LIDT, LLDT, LTR, SGDT, SIDT, SLDT and STR cause VM exits.
    DESCRIPTOR_TABLE_EXITING = 2, "descriptor-table exiting";
    /// The guest can execute RDTSCP and RDPID; with 0 they raise #UD.
    ENABLE_RDTSCP = 3, "enable RDTSCP";
    /// RDMSR and WRMSR of MSRs 800H-8FFH are virtualized.
    VIRTUALIZE_X2APIC_MODE = 4, "virtualize x2APIC mode";
    /// Cached translations of linear addresses are tagged with the VPID.
    ENABLE_VPID = 5, "enable VPID";
    /// WBINVD and WBNOINVD cause VM exits.
    WBINVD_EXITING = 6, "WBINVD exiting";
    /// The guest can run without paging and in real-address mode.
    UNRESTRICTED_GUEST = 7, "unrestricted guest";
    /// Most reads of APIC registers are answered from the virtual-APIC page.
    APIC_REGISTER_VIRTUALIZATION = 8, "APIC-register virtualization";
    /// The processor evaluates and delivers pending virtual interrupts, and virtualizes the APIC writes that control
    /// interrupts.
    VIRTUAL_INTERRUPT_DELIVERY = 9, "virtual-interrupt delivery";
    /// A loop of PAUSE instructions causes a VM exit; PLE_gap and PLE_window say when.
    PAUSE_LOOP_EXITING = 10, "PAUSE-loop exiting";
    /// RDRAND causes a VM exit.
    RDRAND_EXITING = 11, "RDRAND exiting";
    /// The guest can execute INVPCID; with 0 it raises #UD.
    ENABLE_INVPCID = 12, "enable INVPCID";
    /// The guest can execute VMFUNC; with 0 it raises #UD.
    ENABLE_VM_FUNCTIONS = 13, "enable VM functions";
    /// VMREAD and VMWRITE in the guest may access the shadow VMCS at the VMCS link pointer.
    VMCS_SHADOWING = 14, "VMCS shadowing";
    /// The ENCLS-exiting bitmap says which ENCLS leaf functions cause VM exits.
    ENABLE_ENCLS_EXITING = 15, "enable ENCLS exiting";
    /// RDSEED causes a VM exit.
    RDSEED_EXITING = 16, "RDSEED exiting";
    /// A page whose EPT dirty flag becomes 1 is added to the page-modification log.
    ENABLE_PML = 17, "enable PML";
    /// Some EPT violations raise #VE in the guest instead of exiting.
    EPT_VIOLATION_VE = 18, "EPT-violation #VE";
    /// Intel Processor Trace gives no sign that the processor is in VMX non-root operation.
    CONCEAL_VMX_FROM_PT = 19, "conceal VMX from PT";
    /// The guest can execute XSAVES and XRSTORS; with 0 they raise #UD.
    ENABLE_XSAVES_XRSTORS = 20, "enable XSAVES/XRSTORS";
    /// The PASIDs of ENQCMD and ENQCMDS are translated.
    PASID_TRANSLATION = 21, "PASID translation";
    /// EPT has an execute permission for user-mode addresses and one for supervisor-mode addresses.
    MODE_BASED_EXECUTE_CONTROL_FOR_EPT = 22, "mode-based execute control for EPT";
    /// EPT can give write permission for single regions of 128 bytes.
    SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT = 23, "sub-page write permissions for EPT";
    /// Output addresses of Intel Processor Trace are guest-physical and translated by EPT.
    INTEL_PT_USES_GUEST_PHYSICAL_ADDRESSES = 24, "Intel PT uses guest physical addresses";
    /// What the guest reads as time-stamp counter is multiplied by the TSC multiplier, before the TSC offset is added.
    USE_TSC_SCALING = 25, "use TSC scaling";
    /// The guest can execute TPAUSE, UMONITOR and UMWAIT; with 0 they raise #UD.
    ENABLE_USER_WAIT_AND_PAUSE = 26, "enable user wait and pause";
    /// The guest can execute PCONFIG; with 0 it raises #UD.
    ENABLE_PCONFIG = 27, "enable PCONFIG";
    /// The ENCLV-exiting bitmap says which ENCLV leaf functions cause VM exits.
    ENABLE_ENCLV_EXITING = 28, "enable ENCLV exiting";
    /// A bus lock in the guest causes a VM exit.
    VMM_BUS_LOCK_DETECTION = 30, "VMM bus-lock detection";
    /// A VM exit occurs if some operation keeps the processor from an instruction boundary for longer than the
    /// instruction-timeout control.
    INSTRUCTION_TIMEOUT = 31, "instruction timeout";
}

controls! {
    /// Tertiary processor-based VM-execution controls (field 2034H). SDM 25.6.2, Processor-Based VM-Execution Controls.
    pub struct Tertiary: u64, default1 {};
    /// LOADIWKEY causes a VM exit.
    LOADIWKEY_EXITING = 0, "LOADIWKEY exiting";
    /// Some linear addresses are translated by the paging structures at the HLAT pointer, which the hypervisor manages.
    ENABLE_HLAT = 1, "enable HLAT";
    /// EPT can permit writes to a page by paging itself only, for accessed and dirty flags.
    EPT_PAGING_WRITE_CONTROL = 2, "EPT paging-write control";
    /// EPT can demand that translations of linear addresses to a page use only paging structures that it marks.
    GUEST_PAGING_VERIFICATION = 3, "guest-paging verification";
    /// IPIs that the guest sends are virtualized by the PID-pointer table.
    IPI_VIRTUALIZATION = 4, "IPI virtualization";
    /// This bit selects the width of guest-physical addresses of a guest in SEAM.
    SEAM_GUEST_PHYSICAL_ADDRESS_WIDTH = 5, "SEAM guest-physical address width";
    /// The guest can execute RDMSRLIST and WRMSRLIST; with 0 they raise #UD.
    ENABLE_MSR_LIST_INSTRUCTIONS = 6, "enable MSR-list instructions";
    /// RDMSR and WRMSR of IA32_SPEC_CTRL in the guest use the mask and the shadow in the VMCS.
    VIRTUALIZE_IA32_SPEC_CTRL = 7, "virtualize IA32_SPEC_CTRL";
    /// The guest has a virtual APIC timer with a TSC deadline.
    APIC_TIMER_VIRTUALIZATION = 8, "APIC-timer virtualization";
    /// The guest can execute PBNDKB; with 0 it raises #UD.
    ENABLE_PBNDKB = 9, "enable PBNDKB";
    /// Addresses of PEBS output are guest-physical and translated by EPT.
    PEBS_USES_GUEST_PHYSICAL_ADDRESSES = 12, "PEBS uses guest physical addresses";
}

controls! {
    /// Primary VM-exit controls (field 400CH). SDM 25.7.1, VM-Exit Controls.
    pub struct Exit: u32, default1 {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13, 14, 16, 17};
    /// DR7 and IA32_DEBUGCTL are saved on VM exit.
    SAVE_DEBUG_CONTROLS = 2, "save debug controls";
    /// The host is in 64-bit mode after the VM exit.
    HOST_ADDRESS_SPACE_SIZE = 9, "host address-space size";
    /// IA32_PERF_GLOBAL_CTRL is loaded from the host-state area on VM exit.
    LOAD_IA32_PERF_GLOBAL_CTRL = 12, "load IA32_PERF_GLOBAL_CTRL";
    /// A VM exit due to an external interrupt acknowledges it and records its vector.
    ACKNOWLEDGE_INTERRUPT_ON_EXIT = 15, "acknowledge interrupt on exit";
    /// IA32_PAT is saved on VM exit.
    SAVE_IA32_PAT = 18, "save IA32_PAT";
    /// IA32_PAT is loaded from the host-state area on VM exit.
    LOAD_IA32_PAT = 19, "load IA32_PAT";
    /// IA32_EFER is saved on VM exit.
    SAVE_IA32_EFER = 20, "save IA32_EFER";
    /// IA32_EFER is loaded from the host-state area on VM exit.
    LOAD_IA32_EFER = 21, "load IA32_EFER";
    /// What is left of the VMX-preemption timer is saved on VM exit.
    SAVE_VMX_PREEMPTION_TIMER_VALUE = 22, "save VMX-preemption timer value";
    /// IA32_BNDCFGS is set to 0 on VM exit.
    CLEAR_IA32_BNDCFGS = 23, "clear IA32_BNDCFGS";
    /// Intel Processor Trace gives no sign of the VM exit.
    CONCEAL_VMX_FROM_PT = 24, "conceal VMX from PT";
    /// IA32_RTIT_CTL is set to 0 on VM exit.
    CLEAR_IA32_RTIT_CTL = 25, "clear IA32_RTIT_CTL";
    /// IA32_LBR_CTL is set to 0 on VM exit.
    CLEAR_IA32_LBR_CTL = 26, "clear IA32_LBR_CTL";
    /// UINV is set to 0 on VM exit.
    CLEAR_UINV = 27, "clear UINV";
    /// IA32_S_CET, SSP and IA32_INTERRUPT_SSP_TABLE_ADDR are loaded from the host-state area on VM exit.
    LOAD_CET_STATE = 28, "load CET state";
    /// IA32_PKRS is loaded from the host-state area on VM exit.
    LOAD_PKRS = 29, "load PKRS";
    /// IA32_PERF_GLOBAL_CTRL is saved on VM exit.
    SAVE_IA32_PERF_GLOBAL_CTRL = 30, "save IA32_PERF_GLOBAL_CTRL";
    /// The secondary VM-exit controls take effect; with 0 they all count as 0.
    ACTIVATE_SECONDARY_CONTROLS = 31, "activate secondary controls";
}

controls! {
    /// Secondary VM-exit controls (field 2044H). SDM 25.7.1, VM-Exit Controls.
    pub struct SecondaryExit: u64, default1 {};
    /// The FRED MSRs are saved on VM exit.
    SAVE_FRED = 0, "save FRED";
    /// The FRED MSRs are loaded from the host-state area on VM exit.
    LOAD_FRED = 1, "load FRED";
    /// IA32_SPEC_CTRL is loaded from the host-state area on VM exit.
    LOAD_IA32_SPEC_CTRL = 2, "load IA32_SPEC_CTRL";
    /// The exit reason can report a shadow stack that became busy too early.
    PREMATURELY_BUSY_SHADOW_STACK = 3, "prematurely busy shadow stack";
}

controls! {
    /// VM-entry controls (field 4012H). SDM 25.8.1, VM-Entry Controls.
    pub struct Entry: u32, default1 {0, 1, 2, 3, 4, 5, 6, 7, 8, 12};
    /// DR7 and IA32_DEBUGCTL are loaded on VM entry.
    LOAD_DEBUG_CONTROLS = 2, "load debug controls";
    /// The guest is in IA-32e mode after the VM entry.
    IA_32E_MODE_GUEST = 9, "IA-32e mode guest";
    /// The guest is in SMM after the VM entry.
    ENTRY_TO_SMM = 10, "entry to SMM";
    /// The VM entry ends the dual-monitor treatment of SMIs and SMM.
    DEACTIVATE_DUAL_MONITOR_TREATMENT = 11, "deactivate dual-monitor treatment";
    /// IA32_PERF_GLOBAL_CTRL is loaded on VM entry.
    LOAD_IA32_PERF_GLOBAL_CTRL = 13, "load IA32_PERF_GLOBAL_CTRL";
    /// IA32_PAT is loaded on VM entry.
    LOAD_IA32_PAT = 14, "load IA32_PAT";
    /// IA32_EFER is loaded on VM entry.
    LOAD_IA32_EFER = 15, "load IA32_EFER";
    /// IA32_BNDCFGS is loaded on VM entry.
    LOAD_IA32_BNDCFGS = 16, "load IA32_BNDCFGS";
    /// Intel Processor Trace gives no sign of the VM entry.
    CONCEAL_VMX_FROM_PT = 17, "conceal VMX from PT";
    /// IA32_RTIT_CTL is loaded on VM entry.
    LOAD_IA32_RTIT_CTL = 18, "load IA32_RTIT_CTL";
    /// UINV is loaded on VM entry.
    LOAD_UINV = 19, "load UINV";
    /// IA32_S_CET, SSP and IA32_INTERRUPT_SSP_TABLE_ADDR are loaded on VM entry.
    LOAD_CET_STATE = 20, "load CET state";
    /// IA32_LBR_CTL is loaded on VM entry.
    LOAD_GUEST_IA32_LBR_CTL = 21, "load guest IA32_LBR_CTL";
    /// IA32_PKRS is loaded on VM entry.
    LOAD_PKRS = 22, "load PKRS";
    /// The FRED MSRs are loaded on VM entry.
    LOAD_FRED = 23, "load FRED";
    /// IA32_SPEC_CTRL is loaded on VM entry.
    LOAD_IA32_SPEC_CTRL = 24, "load IA32_SPEC_CTRL";
    /// Out-of-band telemetry is allowed while a guest in SEAM runs.
    ALLOW_SEAM_GUEST_TELEMETRY = 25, "allow SEAM-guest telemetry";
}

controls! {
    /// VM-function controls (field 2018H). SDM 25.6.14, VM-Function Controls.
    pub struct VmFunctions: u64, default1 {};
    /// VMFUNC 0 makes an entry of the EPTP list the EPT pointer.
    EPTP_SWITCHING = 0, "EPTP switching";
}
