//! The control words of the VMCS, bit by bit.
//!
//! Unknown bits are carried: reading a word never drops one. SDM Vol. 3C, 25.6-25.8.

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
                // Bits without a name here are carried like any other.
                const _ = !0;
            }
        }

        impl $word {
            /// The default1 class: reserved bits that are 1 unless the TRUE capability MSR allows 0. SDM A.2.
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
    /// External interrupts cause exits.
    EXTERNAL_INTERRUPT_EXITING = 0, "external-interrupt exiting";
    /// NMIs cause exits.
    NMI_EXITING = 3, "NMI exiting";
    /// NMI blocking is virtual.
    VIRTUAL_NMIS = 5, "virtual NMIs";
    /// Preemption timer counts down.
    ACTIVATE_VMX_PREEMPTION_TIMER = 6, "activate VMX-preemption timer";
    /// Notification vector posts virtual interrupts.
    PROCESS_POSTED_INTERRUPTS = 7, "process posted interrupts";
}

controls! {
    /// Primary processor-based VM-execution controls (field 4002H). SDM 25.6.2, Processor-Based VM-Execution Controls.
    pub struct Primary: u32, default1 {1, 4, 5, 6, 8, 13, 14, 15, 16, 26};
    /// Exit when interrupts deliverable.
    INTERRUPT_WINDOW_EXITING = 2, "interrupt-window exiting";
    /// Add offset to TSC.
    USE_TSC_OFFSETTING = 3, "use TSC offsetting";
    /// HLT causes exit.
    HLT_EXITING = 7, "HLT exiting";
    /// INVLPG and INVPCID exit.
    INVLPG_EXITING = 9, "INVLPG exiting";
    /// MWAIT causes exit.
    MWAIT_EXITING = 10, "MWAIT exiting";
    /// RDPMC causes exit.
    RDPMC_EXITING = 11, "RDPMC exiting";
    /// RDTSC and RDTSCP exit.
    RDTSC_EXITING = 12, "RDTSC exiting";
    /// MOV to CR3 exits.
    CR3_LOAD_EXITING = 15, "CR3-load exiting";
    /// MOV from CR3 exits.
    CR3_STORE_EXITING = 16, "CR3-store exiting";
    /// Tertiary word takes effect.
    ACTIVATE_TERTIARY_CONTROLS = 17, "activate tertiary controls";
    /// MOV to CR8 exits.
    CR8_LOAD_EXITING = 19, "CR8-load exiting";
    /// MOV from CR8 exits.
    CR8_STORE_EXITING = 20, "CR8-store exiting";
    /// TPR and APIC virtualization enabled.
    USE_TPR_SHADOW = 21, "use TPR shadow";
    /// Exit when virtual NMIs deliverable.
    NMI_WINDOW_EXITING = 22, "NMI-window exiting";
    /// MOV DR causes exit.
    MOV_DR_EXITING = 23, "MOV-DR exiting";
    /// Every I/O instruction exits.
    UNCONDITIONAL_I_O_EXITING = 24, "unconditional I/O exiting";
    /// Bitmaps select exiting ports.
    USE_I_O_BITMAPS = 25, "use I/O bitmaps";
    /// Exit after each instruction.
    MONITOR_TRAP_FLAG = 27, "monitor trap flag";
    /// Bitmaps select exiting MSRs.
    USE_MSR_BITMAPS = 28, "use MSR bitmaps";
    /// MONITOR causes exit.
    MONITOR_EXITING = 29, "MONITOR exiting";
    /// PAUSE causes exit.
    PAUSE_EXITING = 30, "PAUSE exiting";
    /// Secondary word takes effect.
    ACTIVATE_SECONDARY_CONTROLS = 31, "activate secondary controls";
}

controls! {
    /// Secondary processor-based VM-execution controls (field 401EH). SDM 25.6.2, Processor-Based VM-Execution Controls.
    pub struct Secondary: u32, default1 {};
    /// APIC-access page treated specially.
    VIRTUALIZE_APIC_ACCESSES = 0, "virtualize APIC accesses";
    /// Guest-physical addresses translated.
    ENABLE_EPT = 1, "enable EPT";
    /// Descriptor-table register accesses exit.
    DESCRIPTOR_TABLE_EXITING = 2, "descriptor-table exiting";
    /// Otherwise RDTSCP raises #UD.
    ENABLE_RDTSCP = 3, "enable RDTSCP";
    /// MSRs 800H-8FFH virtualized.
    VIRTUALIZE_X2APIC_MODE = 4, "virtualize x2APIC mode";
    /// Translations tagged with VPID.
    ENABLE_VPID = 5, "enable VPID";
    /// WBINVD and WBNOINVD exit.
    WBINVD_EXITING = 6, "WBINVD exiting";
    /// Unpaged or real-mode guests allowed.
    UNRESTRICTED_GUEST = 7, "unrestricted guest";
    /// Reads served from virtual-APIC page.
    APIC_REGISTER_VIRTUALIZATION = 8, "APIC-register virtualization";
    /// Pending virtual interrupts delivered.
    VIRTUAL_INTERRUPT_DELIVERY = 9, "virtual-interrupt delivery";
    /// PAUSE loops cause exit.
    PAUSE_LOOP_EXITING = 10, "PAUSE-loop exiting";
    /// RDRAND causes exit.
    RDRAND_EXITING = 11, "RDRAND exiting";
    /// Otherwise INVPCID raises #UD.
    ENABLE_INVPCID = 12, "enable INVPCID";
    /// VMFUNC usable in guest.
    ENABLE_VM_FUNCTIONS = 13, "enable VM functions";
    /// Guest VMREAD/VMWRITE use shadow.
    VMCS_SHADOWING = 14, "VMCS shadowing";
    /// ENCLS bitmap selects exits.
    ENABLE_ENCLS_EXITING = 15, "enable ENCLS exiting";
    /// RDSEED causes exit.
    RDSEED_EXITING = 16, "RDSEED exiting";
    /// Dirty pages are logged.
    ENABLE_PML = 17, "enable PML";
    /// EPT violations may raise #VE.
    EPT_VIOLATION_VE = 18, "EPT-violation #VE";
    /// PT hides non-root operation.
    CONCEAL_VMX_FROM_PT = 19, "conceal VMX from PT";
    /// Otherwise XSAVES/XRSTORS raise #UD.
    ENABLE_XSAVES_XRSTORS = 20, "enable XSAVES/XRSTORS";
    /// ENQCMD PASIDs are translated.
    PASID_TRANSLATION = 21, "PASID translation";
    /// Separate user/supervisor execute permission.
    MODE_BASED_EXECUTE_CONTROL_FOR_EPT = 22, "mode-based execute control for EPT";
    /// 128-byte write permission granularity.
    SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT = 23, "sub-page write permissions for EPT";
    /// PT output translated through EPT.
    INTEL_PT_USES_GUEST_PHYSICAL_ADDRESSES = 24, "Intel PT uses guest physical addresses";
    /// Multiply TSC before offset.
    USE_TSC_SCALING = 25, "use TSC scaling";
    /// Otherwise TPAUSE/UMWAIT raise #UD.
    ENABLE_USER_WAIT_AND_PAUSE = 26, "enable user wait and pause";
    /// Otherwise PCONFIG raises #UD.
    ENABLE_PCONFIG = 27, "enable PCONFIG";
    /// ENCLV bitmap selects exits.
    ENABLE_ENCLV_EXITING = 28, "enable ENCLV exiting";
    /// Bus locks cause exit.
    VMM_BUS_LOCK_DETECTION = 30, "VMM bus-lock detection";
    /// Overlong instructions cause exit.
    INSTRUCTION_TIMEOUT = 31, "instruction timeout";
}

controls! {
    /// Tertiary processor-based VM-execution controls (field 2034H). SDM 25.6.2, Processor-Based VM-Execution Controls.
    pub struct Tertiary: u64, default1 {};
    /// LOADIWKEY causes exit.
    LOADIWKEY_EXITING = 0, "LOADIWKEY exiting";
    /// Hypervisor-managed linear translation.
    ENABLE_HLAT = 1, "enable HLAT";
    /// EPT allows paging-only writes.
    EPT_PAGING_WRITE_CONTROL = 2, "EPT paging-write control";
    /// EPT verifies guest translations.
    GUEST_PAGING_VERIFICATION = 3, "guest-paging verification";
    /// Guest IPIs virtualized by table.
    IPI_VIRTUALIZATION = 4, "IPI virtualization";
    /// EPT width in SEAM guests.
    SEAM_GUEST_PHYSICAL_ADDRESS_WIDTH = 5, "SEAM guest-physical address width";
    /// Otherwise RDMSRLIST/WRMSRLIST raise #UD.
    ENABLE_MSR_LIST_INSTRUCTIONS = 6, "enable MSR-list instructions";
    /// Mask and shadow for SPEC_CTRL.
    VIRTUALIZE_IA32_SPEC_CTRL = 7, "virtualize IA32_SPEC_CTRL";
    /// Guest deadline drives virtual timer.
    APIC_TIMER_VIRTUALIZATION = 8, "APIC-timer virtualization";
    /// Otherwise PBNDKB raises #UD.
    ENABLE_PBNDKB = 9, "enable PBNDKB";
    /// PEBS output translated through EPT.
    PEBS_USES_GUEST_PHYSICAL_ADDRESSES = 12, "PEBS uses guest physical addresses";
}

controls! {
    /// Primary VM-exit controls (field 400CH). SDM 25.7.1, VM-Exit Controls.
    pub struct Exit: u32, default1 {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13, 14, 16, 17};
    /// Save DR7 and DEBUGCTL.
    SAVE_DEBUG_CONTROLS = 2, "save debug controls";
    /// 64-bit host after exit.
    HOST_ADDRESS_SPACE_SIZE = 9, "host address-space size";
    /// Host value loaded on exit.
    LOAD_IA32_PERF_GLOBAL_CTRL = 12, "load IA32_PERF_GLOBAL_CTRL";
    /// Vector fetched during exit.
    ACKNOWLEDGE_INTERRUPT_ON_EXIT = 15, "acknowledge interrupt on exit";
    /// Guest PAT saved on exit.
    SAVE_IA32_PAT = 18, "save IA32_PAT";
    /// Host PAT loaded on exit.
    LOAD_IA32_PAT = 19, "load IA32_PAT";
    /// Guest EFER saved on exit.
    SAVE_IA32_EFER = 20, "save IA32_EFER";
    /// Host EFER loaded on exit.
    LOAD_IA32_EFER = 21, "load IA32_EFER";
    /// Remaining timer count saved.
    SAVE_VMX_PREEMPTION_TIMER_VALUE = 22, "save VMX-preemption timer value";
    /// BNDCFGS zeroed on exit.
    CLEAR_IA32_BNDCFGS = 23, "clear IA32_BNDCFGS";
    /// PT omits exit packets.
    CONCEAL_VMX_FROM_PT = 24, "conceal VMX from PT";
    /// RTIT_CTL zeroed on exit.
    CLEAR_IA32_RTIT_CTL = 25, "clear IA32_RTIT_CTL";
    /// LBR_CTL zeroed on exit.
    CLEAR_IA32_LBR_CTL = 26, "clear IA32_LBR_CTL";
    /// UINV zeroed on exit.
    CLEAR_UINV = 27, "clear UINV";
    /// Host CET state loaded.
    LOAD_CET_STATE = 28, "load CET state";
    /// Host PKRS loaded on exit.
    LOAD_PKRS = 29, "load PKRS";
    /// Guest value saved on exit.
    SAVE_IA32_PERF_GLOBAL_CTRL = 30, "save IA32_PERF_GLOBAL_CTRL";
    /// Secondary exit word active.
    ACTIVATE_SECONDARY_CONTROLS = 31, "activate secondary controls";
}

controls! {
    /// Secondary VM-exit controls (field 2044H). SDM 25.7.1, VM-Exit Controls.
    pub struct SecondaryExit: u64, default1 {};
    /// Guest FRED MSRs saved.
    SAVE_FRED = 0, "save FRED";
    /// Host FRED MSRs loaded.
    LOAD_FRED = 1, "load FRED";
    /// Host SPEC_CTRL loaded on exit.
    LOAD_IA32_SPEC_CTRL = 2, "load IA32_SPEC_CTRL";
    /// Exit reports busy shadow stack.
    PREMATURELY_BUSY_SHADOW_STACK = 3, "prematurely busy shadow stack";
}

controls! {
    /// VM-entry controls (field 4012H). SDM 25.8.1, VM-Entry Controls.
    pub struct Entry: u32, default1 {0, 1, 2, 3, 4, 5, 6, 7, 8, 12};
    /// Load DR7 and DEBUGCTL.
    LOAD_DEBUG_CONTROLS = 2, "load debug controls";
    /// Guest runs in IA-32e mode.
    IA_32E_MODE_GUEST = 9, "IA-32e mode guest";
    /// Guest runs in SMM.
    ENTRY_TO_SMM = 10, "entry to SMM";
    /// Default SMM treatment restored.
    DEACTIVATE_DUAL_MONITOR_TREATMENT = 11, "deactivate dual-monitor treatment";
    /// Guest value loaded on entry.
    LOAD_IA32_PERF_GLOBAL_CTRL = 13, "load IA32_PERF_GLOBAL_CTRL";
    /// Guest PAT loaded on entry.
    LOAD_IA32_PAT = 14, "load IA32_PAT";
    /// Guest EFER loaded on entry.
    LOAD_IA32_EFER = 15, "load IA32_EFER";
    /// Guest BNDCFGS loaded on entry.
    LOAD_IA32_BNDCFGS = 16, "load IA32_BNDCFGS";
    /// PT omits entry packets.
    CONCEAL_VMX_FROM_PT = 17, "conceal VMX from PT";
    /// Guest RTIT_CTL loaded on entry.
    LOAD_IA32_RTIT_CTL = 18, "load IA32_RTIT_CTL";
    /// Guest UINV loaded on entry.
    LOAD_UINV = 19, "load UINV";
    /// Guest CET state loaded.
    LOAD_CET_STATE = 20, "load CET state";
    /// Guest LBR_CTL loaded on entry.
    LOAD_GUEST_IA32_LBR_CTL = 21, "load guest IA32_LBR_CTL";
    /// Guest PKRS loaded on entry.
    LOAD_PKRS = 22, "load PKRS";
    /// Guest FRED MSRs loaded.
    LOAD_FRED = 23, "load FRED";
    /// Guest SPEC_CTRL loaded on entry.
    LOAD_IA32_SPEC_CTRL = 24, "load IA32_SPEC_CTRL";
    /// Out-of-band telemetry in SEAM.
    ALLOW_SEAM_GUEST_TELEMETRY = 25, "allow SEAM-guest telemetry";
}

controls! {
    /// VM-function controls (field 2018H). SDM 25.6.14, VM-Function Controls.
    pub struct VmFunctions: u64, default1 {};
    /// VMFUNC leaf 0 switches EPTP.
    EPTP_SWITCHING = 0, "EPTP switching";
}
