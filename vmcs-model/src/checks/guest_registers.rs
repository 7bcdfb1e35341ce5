//! Checks on the control registers, debug registers and MSRs of the guest-state area.

use super::host_registers::{CHECKED_CR0, FRED_CONFIG_RESERVED};
use super::{Failure, checks};
use crate::capabilities::Reserved;
use crate::context::EntryContext;
use crate::controls::{Entry, Secondary};
use crate::field;
use crate::memory::ReadMemory;
use crate::msr::CapabilityMsr;
use crate::profile::CpuidLeaf;
use crate::registers::{Cr0, Cr4, DEBUGCTL_UNCORE_PMI, Efer, cet_suppress_and_tracker, pat_valid};
use crate::vmcs::ReadFields;

checks! {
    /// Checks on guest control registers, debug registers and MSRs.
    pub enum GuestRegisterCheck, GuestState, sdm "27.3.1.1" "Checks on Guest Control Registers, Debug Registers, and MSRs", fails Failure::guest_state(0), |c|
    when true, "" => {
        /// Every bit of CR0 that is fixed to 1 in VMX operation is 1. PE and PG are exempt if “unrestricted guest” is 1; NW
        /// and CD are not checked.
        Cr0Fixed0 "guest.cr0.fixed0" [GUEST_CR0, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            cr0_fixed0_valid(c);
        /// Every bit of CR0 that is fixed to 0 in VMX operation is 0, NW and CD excepted. Reserved bits that a load ignores
        /// are checked too.
        Cr0Fixed1 "guest.cr0.fixed1" [GUEST_CR0] =>
            c.msr(CapabilityMsr::Cr0Fixed1).cr0.forbidden(c.get(field::GUEST_CR0).bits()) & CHECKED_CR0 == 0;
        /// If CR0.PG is 1, CR0.PE is 1.
        Cr0PgPe "guest.cr0.pg-needs-pe" [GUEST_CR0] =>
            !c.get(field::GUEST_CR0).contains(Cr0::PG) || c.get(field::GUEST_CR0).contains(Cr0::PE);
        /// Every bit of CR4 that is fixed to 1 in VMX operation is 1.
        Cr4Fixed0 "guest.cr4.fixed0" [GUEST_CR4] =>
            c.msr(CapabilityMsr::Cr4Fixed0).cr4.missing(c.get(field::GUEST_CR4).bits()) == 0;
        /// Every bit of CR4 that is fixed to 0 in VMX operation is 0. That covers the bits of features that the processor
        /// does not have.
        Cr4Fixed1 "guest.cr4.fixed1" [GUEST_CR4] =>
            c.msr(CapabilityMsr::Cr4Fixed1).cr4.forbidden(c.get(field::GUEST_CR4).bits()) == 0;
        /// If CR4.CET is 1, CR0.WP is 1. Does not depend on “load CET state”.
        Cr4CetWp "guest.cr4.cet-needs-wp" [GUEST_CR4, GUEST_CR0] =>
            !c.get(field::GUEST_CR4).contains(Cr4::CET) || c.get(field::GUEST_CR0).contains(Cr0::WP);
    }
    when c.entry().contains(Entry::LOAD_DEBUG_CONTROLS), "“load debug controls” is 1" => {
        /// The reserved bits of IA32_DEBUGCTL are 0. Bit 13 (uncore PMI) is model-specific and nothing enumerates it:
        /// the check stays open where it is 1.
        Debugctl "guest.debugctl.reserved" [GUEST_IA32_DEBUGCTL, VM_ENTRY_CONTROLS] => debugctl_valid(c);
    }
    when c.ia32e_guest(), "“IA-32e mode guest” is 1" => {
        /// CR0.PG is 1.
        Ia32ePg "guest.ia32e.pg" [GUEST_CR0, VM_ENTRY_CONTROLS] => c.get(field::GUEST_CR0).contains(Cr0::PG);
        /// CR4.PAE is 1.
        Ia32ePae "guest.ia32e.pae" [GUEST_CR4, VM_ENTRY_CONTROLS] => c.get(field::GUEST_CR4).contains(Cr4::PAE);
    }
    when !c.ia32e_guest(), "“IA-32e mode guest” is 0" => {
        /// CR4.PCIDE is 0.
        LegacyPcide "guest.non-ia32e.pcide" [GUEST_CR4, VM_ENTRY_CONTROLS] => !c.get(field::GUEST_CR4).contains(Cr4::PCIDE);
        /// CR4.FRED is 0.
        LegacyFred "guest.non-ia32e.fred" [GUEST_CR4, VM_ENTRY_CONTROLS] => !c.get(field::GUEST_CR4).contains(Cr4::FRED);
    }
    when true, "" => {
        /// The reserved bits of CR3 are 0, whether or not the guest uses paging: those beyond the physical-address width, 63
        /// included, but for the linear-address masking bits 62:61 where they exist. Memory encryption does not reduce the
        /// width if “enable EPT” is 1.
        Cr3 "guest.cr3.reserved" [GUEST_CR3, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] => cr3_valid(c);
    }
    when c.entry().contains(Entry::LOAD_DEBUG_CONTROLS) && c.cpuid(CpuidLeaf::ExtendedFeatures).intel_64(),
        "“load debug controls” is 1 and the processor supports Intel 64" => {
        /// Bits 63:32 of DR7 are 0. Its other reserved bits are not checked.
        Dr7High "guest.dr7.high" [GUEST_DR7, VM_ENTRY_CONTROLS] => c.get(field::GUEST_DR7) >> 32 == 0;
    }
    when true, "" => {
        /// IA32_SYSENTER_ESP is canonical, for the widest linear address that the processor supports whatever CR4.LA57.
        SysenterEsp "guest.sysenter-esp.canonical" [GUEST_IA32_SYSENTER_ESP] => c.canonical(c.get(field::GUEST_IA32_SYSENTER_ESP));
        /// IA32_SYSENTER_EIP is canonical.
        SysenterEip "guest.sysenter-eip.canonical" [GUEST_IA32_SYSENTER_EIP] => c.canonical(c.get(field::GUEST_IA32_SYSENTER_EIP));
    }
    [seldom] when c.entry().contains(Entry::LOAD_CET_STATE), "“load CET state” (entry) is 1" => {
        /// IA32_S_CET is canonical. The SDM lists the check; implementers of the architecture have said that processors do
        /// not make it.
        SCetCanonical "guest.s-cet.canonical" [GUEST_IA32_S_CET, VM_ENTRY_CONTROLS] -> Failure::guest_state(0).optional() =>
            c.canonical(c.get(field::GUEST_IA32_S_CET));
        /// IA32_INTERRUPT_SSP_TABLE_ADDR is canonical.
        SspTable "guest.ssp-table.canonical" [GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR, VM_ENTRY_CONTROLS] =>
            c.canonical(c.get(field::GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR));
        /// The reserved bits of IA32_S_CET are 0: 9:6, and those of shadow stacks or indirect-branch tracking where the
        /// processor lacks one of the two.
        SCetReserved "guest.s-cet.reserved" [GUEST_IA32_S_CET, VM_ENTRY_CONTROLS] =>
            c.cet_reserved_clear(c.get(field::GUEST_IA32_S_CET));
        /// SUPPRESS (bit 10) and TRACKER (bit 11) of IA32_S_CET are not both 1.
        SCetTracker "guest.s-cet.suppress-tracker" [GUEST_IA32_S_CET, VM_ENTRY_CONTROLS] =>
            !cet_suppress_and_tracker(c.get(field::GUEST_IA32_S_CET));
    }
    [seldom] when c.entry().contains(Entry::LOAD_IA32_PERF_GLOBAL_CTRL), "“load IA32_PERF_GLOBAL_CTRL” (entry) is 1" => {
        /// The reserved bits of IA32_PERF_GLOBAL_CTRL, those of counters that do not exist, are 0.
        PerfGlobalCtrl "guest.perf-global-ctrl.reserved" [GUEST_IA32_PERF_GLOBAL_CTRL, VM_ENTRY_CONTROLS] =>
            c.perf_global_ctrl_valid(c.get(field::GUEST_IA32_PERF_GLOBAL_CTRL));
    }
    when c.entry().contains(Entry::LOAD_IA32_PAT), "“load IA32_PAT” (entry) is 1" => {
        /// Each byte of IA32_PAT is 0 (UC), 1 (WC), 4 (WT), 5 (WP), 6 (WB) or 7 (UC-).
        Pat "guest.pat.valid" [GUEST_IA32_PAT, VM_ENTRY_CONTROLS] => pat_valid(c.get(field::GUEST_IA32_PAT));
    }
    when c.entry().contains(Entry::LOAD_IA32_EFER), "“load IA32_EFER” (entry) is 1" => {
        /// The reserved bits of IA32_EFER are 0.
        EferReserved "guest.efer.reserved" [GUEST_IA32_EFER, VM_ENTRY_CONTROLS] => c.efer_valid(c.get(field::GUEST_IA32_EFER));
        /// IA32_EFER.LMA equals “IA-32e mode guest”.
        EferLma "guest.efer.lma" [GUEST_IA32_EFER, VM_ENTRY_CONTROLS] =>
            c.get(field::GUEST_IA32_EFER).contains(Efer::LMA) == c.ia32e_guest();
        /// If CR0.PG is 1, IA32_EFER.LME equals IA32_EFER.LMA.
        EferLme "guest.efer.lme" [GUEST_IA32_EFER, GUEST_CR0, VM_ENTRY_CONTROLS] =>
            !c.get(field::GUEST_CR0).contains(Cr0::PG)
                || c.get(field::GUEST_IA32_EFER).contains(Efer::LME) == c.get(field::GUEST_IA32_EFER).contains(Efer::LMA);
    }
    [seldom] when c.entry().contains(Entry::LOAD_IA32_BNDCFGS), "“load IA32_BNDCFGS” is 1" => {
        /// Bits 11:2 of IA32_BNDCFGS are 0.
        BndcfgsReserved "guest.bndcfgs.reserved" [GUEST_IA32_BNDCFGS, VM_ENTRY_CONTROLS] => c.get(field::GUEST_IA32_BNDCFGS) & 0xFFC == 0;
        /// The linear address in bits 63:12 of IA32_BNDCFGS is canonical.
        BndcfgsCanonical "guest.bndcfgs.canonical" [GUEST_IA32_BNDCFGS, VM_ENTRY_CONTROLS] => c.canonical(c.get(field::GUEST_IA32_BNDCFGS) & !0xFFF);
    }
    [seldom] when c.entry().contains(Entry::LOAD_IA32_RTIT_CTL), "“load IA32_RTIT_CTL” is 1" => {
        /// The reserved bits of IA32_RTIT_CTL are 0. Combinations of bits and encodings that WRMSR would refuse are not
        /// checked.
        RtitCtl "guest.rtit-ctl.reserved" [GUEST_IA32_RTIT_CTL, VM_ENTRY_CONTROLS] =>
            c.clear_of(c.get(field::GUEST_IA32_RTIT_CTL), c.reserved().rtit_ctl, Reserved::RTIT_CTL_FACTS);
    }
    [seldom] when c.entry().contains(Entry::LOAD_GUEST_IA32_LBR_CTL), "“load guest IA32_LBR_CTL” is 1" => {
        /// The reserved bits of IA32_LBR_CTL are 0.
        LbrCtl "guest.lbr-ctl.reserved" [GUEST_IA32_LBR_CTL, VM_ENTRY_CONTROLS] =>
            c.clear_of(c.get(field::GUEST_IA32_LBR_CTL), c.reserved().lbr_ctl, Reserved::LBR_CTL_FACTS);
    }
    [seldom] when c.entry().contains(Entry::LOAD_PKRS), "“load PKRS” (entry) is 1" => {
        /// Bits 63:32 of IA32_PKRS are 0.
        Pkrs "guest.pkrs.high" [GUEST_IA32_PKRS, VM_ENTRY_CONTROLS] => c.get(field::GUEST_IA32_PKRS) >> 32 == 0;
    }
    [seldom] when c.entry().contains(Entry::LOAD_UINV), "“load UINV” is 1" => {
        /// Bits 15:8 of UINV are 0.
        Uinv "guest.uinv.high" [GUEST_UINV, VM_ENTRY_CONTROLS] => c.get(field::GUEST_UINV) >> 8 == 0;
    }
    [seldom] when c.entry().contains(Entry::LOAD_FRED), "“load FRED” (entry) is 1" => {
        /// Bits 2, 5:4 and 11 of IA32_FRED_CONFIG are 0, whatever the guest's mode and CR4.FRED.
        FredConfigReserved "guest.fred-config.reserved" [GUEST_IA32_FRED_CONFIG, VM_ENTRY_CONTROLS] =>
            c.get(field::GUEST_IA32_FRED_CONFIG) & FRED_CONFIG_RESERVED == 0;
        /// The upper bits of IA32_FRED_CONFIG make a canonical address.
        FredConfigCanonical "guest.fred-config.canonical" [GUEST_IA32_FRED_CONFIG, VM_ENTRY_CONTROLS] =>
            c.canonical(c.get(field::GUEST_IA32_FRED_CONFIG));
        /// IA32_FRED_RSP1, RSP2 and RSP3 are canonical.
        FredRspCanonical "guest.fred-rsp.canonical" [GUEST_IA32_FRED_RSP1, GUEST_IA32_FRED_RSP2, GUEST_IA32_FRED_RSP3, VM_ENTRY_CONTROLS] =>
            c.all_canonical([c.look_at(field::GUEST_IA32_FRED_RSP1), c.look_at(field::GUEST_IA32_FRED_RSP2), c.look_at(field::GUEST_IA32_FRED_RSP3)]);
        /// Bits 5:0 of IA32_FRED_RSP1, RSP2 and RSP3 are 0.
        FredRspAlign "guest.fred-rsp.align" [GUEST_IA32_FRED_RSP1, GUEST_IA32_FRED_RSP2, GUEST_IA32_FRED_RSP3, VM_ENTRY_CONTROLS] =>
            (c.get(field::GUEST_IA32_FRED_RSP1) | c.get(field::GUEST_IA32_FRED_RSP2) | c.get(field::GUEST_IA32_FRED_RSP3)) & 0x3F == 0;
        /// IA32_FRED_SSP1, SSP2 and SSP3 are canonical. They exist with FRED, shadow stacks or not.
        FredSspCanonical "guest.fred-ssp.canonical" [GUEST_IA32_FRED_SSP1, GUEST_IA32_FRED_SSP2, GUEST_IA32_FRED_SSP3, VM_ENTRY_CONTROLS] =>
            c.all_canonical([c.look_at(field::GUEST_IA32_FRED_SSP1), c.look_at(field::GUEST_IA32_FRED_SSP2), c.look_at(field::GUEST_IA32_FRED_SSP3)]);
        /// Bits 2:0 of IA32_FRED_SSP1, SSP2 and SSP3 are 0.
        FredSspAlign "guest.fred-ssp.align" [GUEST_IA32_FRED_SSP1, GUEST_IA32_FRED_SSP2, GUEST_IA32_FRED_SSP3, VM_ENTRY_CONTROLS] =>
            (c.get(field::GUEST_IA32_FRED_SSP1) | c.get(field::GUEST_IA32_FRED_SSP2) | c.get(field::GUEST_IA32_FRED_SSP3)) & 7 == 0;
    }
    [seldom] when c.entry().contains(Entry::LOAD_IA32_SPEC_CTRL), "“load IA32_SPEC_CTRL” (entry) is 1" => {
        /// The reserved bits of IA32_SPEC_CTRL are 0.
        SpecCtrl "guest.spec-ctrl.reserved" [GUEST_IA32_SPEC_CTRL, VM_ENTRY_CONTROLS] =>
            c.spec_ctrl_valid(c.get(field::GUEST_IA32_SPEC_CTRL));
    }
}

#[inline(always)]
fn cr0_fixed0_valid<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    let missing = c.msr(CapabilityMsr::Cr0Fixed0).cr0.missing(c.get(field::GUEST_CR0).bits()) & CHECKED_CR0;
    let missing = Cr0::from_bits_retain(missing);
    missing.is_empty()
        || ((Cr0::PE | Cr0::PG).contains(missing) && c.guest_secondary().contains(Secondary::UNRESTRICTED_GUEST))
}

fn debugctl_valid<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    let debugctl = c.get(field::GUEST_IA32_DEBUGCTL);
    let enumerated = debugctl & !DEBUGCTL_UNCORE_PMI;
    c.clear_of(enumerated, c.reserved().debugctl, Reserved::DEBUGCTL_FACTS)
        && (enumerated == debugctl || c.open_question())
}

#[inline(always)]
fn cr3_valid<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    let cr3 = c.get(field::GUEST_CR3);
    c.cr3_valid(cr3, |reserved| reserved.cr3)
        || (c.guest_secondary().contains(Secondary::ENABLE_EPT) && c.cr3_valid(cr3, |reserved| reserved.cr3_with_ept))
}
