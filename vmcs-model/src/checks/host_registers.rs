//! Checks on the control registers, MSRs and SSP of the host-state area.

use super::{Failure, checks};
use crate::capabilities::{Reserved, ReservedBits};
use crate::context::EntryContext;
use crate::controls::{Exit, SecondaryExit};
use crate::field;
use crate::memory::ReadMemory;
use crate::msr::CapabilityMsr;
use crate::registers::{Cr0, Cr4, Efer, cet_suppress_and_tracker, pat_valid};
use crate::vmcs::ReadFields;

checks! {
    /// Checks on host control registers, MSRs and SSP.
    pub enum HostRegisterCheck, ControlsAndHost, sdm "27.2.2" "Checks on Host Control Registers, MSRs, and SSP", fails Failure::valid(8), |c|
    when true, "" => {
        /// Every bit of CR0 that is fixed to 1 in VMX operation is 1, PE and PG included: “unrestricted guest” does not
        /// relax the host's. NW and CD are not checked.
        Cr0Fixed0 "host.cr0.fixed0" [HOST_CR0] =>
            c.msr(CapabilityMsr::Cr0Fixed0).cr0.missing(c.get(field::HOST_CR0).bits()) & CHECKED_CR0 == 0;
        /// Every bit of CR0 that is fixed to 0 in VMX operation is 0. NW and CD are not checked.
        Cr0Fixed1 "host.cr0.fixed1" [HOST_CR0] =>
            c.msr(CapabilityMsr::Cr0Fixed1).cr0.forbidden(c.get(field::HOST_CR0).bits()) & CHECKED_CR0 == 0;
        /// Every bit of CR4 that is fixed to 1 in VMX operation, such as VMXE, is 1.
        Cr4Fixed0 "host.cr4.fixed0" [HOST_CR4] =>
            c.msr(CapabilityMsr::Cr4Fixed0).cr4.missing(c.get(field::HOST_CR4).bits()) == 0;
        /// Every bit of CR4 that is fixed to 0 in VMX operation is 0. That covers the bits of features that the processor
        /// does not have.
        Cr4Fixed1 "host.cr4.fixed1" [HOST_CR4] =>
            c.msr(CapabilityMsr::Cr4Fixed1).cr4.forbidden(c.get(field::HOST_CR4).bits()) == 0;
        /// If CR4.CET is 1, CR0.WP is 1. Does not depend on “load CET state”.
        Cr4CetWp "host.cr4.cet-needs-wp" [HOST_CR4, HOST_CR0] =>
            !c.get(field::HOST_CR4).contains(Cr4::CET) || c.get(field::HOST_CR0).contains(Cr0::WP);
        /// The reserved bits of CR3 are 0: those beyond the physical-address width, 63 included, but for the
        /// linear-address masking bits 62:61 where they exist.
        Cr3 "host.cr3.reserved" [HOST_CR3] =>
            c.cr3_valid(c.get(field::HOST_CR3), |reserved| reserved.cr3);
        /// IA32_SYSENTER_ESP is canonical, for the widest linear address that the processor supports whatever CR4.LA57.
        SysenterEsp "host.sysenter-esp.canonical" [HOST_IA32_SYSENTER_ESP] =>
            c.canonical(c.get(field::HOST_IA32_SYSENTER_ESP));
        /// IA32_SYSENTER_EIP is canonical.
        SysenterEip "host.sysenter-eip.canonical" [HOST_IA32_SYSENTER_EIP] =>
            c.canonical(c.get(field::HOST_IA32_SYSENTER_EIP));
    }
    [seldom] when c.exit().contains(Exit::LOAD_IA32_PERF_GLOBAL_CTRL), "“load IA32_PERF_GLOBAL_CTRL” (exit) is 1" => {
        /// The reserved bits of IA32_PERF_GLOBAL_CTRL, those of counters that do not exist, are 0.
        PerfGlobalCtrl "host.perf-global-ctrl.reserved" [HOST_IA32_PERF_GLOBAL_CTRL, PRIMARY_VM_EXIT_CONTROLS] =>
            c.perf_global_ctrl_valid(c.get(field::HOST_IA32_PERF_GLOBAL_CTRL));
    }
    when c.exit().contains(Exit::LOAD_IA32_PAT), "“load IA32_PAT” (exit) is 1" => {
        /// Each byte of IA32_PAT is 0 (UC), 1 (WC), 4 (WT), 5 (WP), 6 (WB) or 7 (UC-).
        Pat "host.pat.valid" [HOST_IA32_PAT, PRIMARY_VM_EXIT_CONTROLS] => pat_valid(c.get(field::HOST_IA32_PAT));
    }
    when c.exit().contains(Exit::LOAD_IA32_EFER), "“load IA32_EFER” (exit) is 1" => {
        /// The reserved bits of IA32_EFER are 0.
        EferReserved "host.efer.reserved" [HOST_IA32_EFER, PRIMARY_VM_EXIT_CONTROLS] =>
            c.efer_valid(c.get(field::HOST_IA32_EFER));
        /// LMA and LME of IA32_EFER each equal “host address-space size”.
        EferMode "host.efer.lma-lme" [HOST_IA32_EFER, PRIMARY_VM_EXIT_CONTROLS] =>
            c.get(field::HOST_IA32_EFER) & (Efer::LMA | Efer::LME)
                == if c.host_64() { Efer::LMA | Efer::LME } else { Efer::empty() };
    }
    [seldom] when c.exit().contains(Exit::LOAD_CET_STATE), "“load CET state” (exit) is 1" => {
        /// The reserved bits of IA32_S_CET are 0: 9:6, and those of shadow stacks or indirect-branch tracking where the
        /// processor lacks one of the two.
        SCetReserved "host.s-cet.reserved" [HOST_IA32_S_CET, PRIMARY_VM_EXIT_CONTROLS] =>
            c.cet_reserved_clear(c.get(field::HOST_IA32_S_CET));
        /// SUPPRESS (bit 10) and TRACKER (bit 11) of IA32_S_CET are not both 1.
        SCetTracker "host.s-cet.suppress-tracker" [HOST_IA32_S_CET, PRIMARY_VM_EXIT_CONTROLS] =>
            !cet_suppress_and_tracker(c.get(field::HOST_IA32_S_CET));
        /// Bits 1:0 of SSP are 0.
        SspAlign "host.ssp.align" [HOST_SSP, PRIMARY_VM_EXIT_CONTROLS] => c.get(field::HOST_SSP) & 3 == 0;
    }
    [seldom] when c.exit().contains(Exit::LOAD_PKRS), "“load PKRS” (exit) is 1" => {
        /// Bits 63:32 of IA32_PKRS are 0.
        Pkrs "host.pkrs.high" [HOST_IA32_PKRS, PRIMARY_VM_EXIT_CONTROLS] => c.get(field::HOST_IA32_PKRS) >> 32 == 0;
    }
    [seldom] when c.secondary_exit().contains(SecondaryExit::LOAD_FRED), "“load FRED” (exit) is 1" => {
        /// Bits 2, 5:4 and 11 of IA32_FRED_CONFIG are 0.
        FredConfigReserved "host.fred-config.reserved" [HOST_IA32_FRED_CONFIG, SECONDARY_VM_EXIT_CONTROLS] =>
            c.get(field::HOST_IA32_FRED_CONFIG) & FRED_CONFIG_RESERVED == 0;
        /// The upper bits of IA32_FRED_CONFIG make a canonical address.
        FredConfigCanonical "host.fred-config.canonical" [HOST_IA32_FRED_CONFIG, SECONDARY_VM_EXIT_CONTROLS] =>
            c.canonical(c.get(field::HOST_IA32_FRED_CONFIG));
        /// IA32_FRED_RSP1, RSP2 and RSP3 are canonical.
        FredRspCanonical "host.fred-rsp.canonical" [HOST_IA32_FRED_RSP1, HOST_IA32_FRED_RSP2, HOST_IA32_FRED_RSP3, SECONDARY_VM_EXIT_CONTROLS] =>
            c.all_canonical([c.look_at(field::HOST_IA32_FRED_RSP1), c.look_at(field::HOST_IA32_FRED_RSP2), c.look_at(field::HOST_IA32_FRED_RSP3)]);
        /// Bits 5:0 of IA32_FRED_RSP1, RSP2 and RSP3 are 0.
        FredRspAlign "host.fred-rsp.align" [HOST_IA32_FRED_RSP1, HOST_IA32_FRED_RSP2, HOST_IA32_FRED_RSP3, SECONDARY_VM_EXIT_CONTROLS] =>
            (c.get(field::HOST_IA32_FRED_RSP1) | c.get(field::HOST_IA32_FRED_RSP2) | c.get(field::HOST_IA32_FRED_RSP3)) & 0x3F == 0;
        /// IA32_FRED_SSP1, SSP2 and SSP3 are canonical. They exist with FRED, shadow stacks or not.
        FredSspCanonical "host.fred-ssp.canonical" [HOST_IA32_FRED_SSP1, HOST_IA32_FRED_SSP2, HOST_IA32_FRED_SSP3, SECONDARY_VM_EXIT_CONTROLS] =>
            c.all_canonical([c.look_at(field::HOST_IA32_FRED_SSP1), c.look_at(field::HOST_IA32_FRED_SSP2), c.look_at(field::HOST_IA32_FRED_SSP3)]);
        /// Bits 2:0 of IA32_FRED_SSP1, SSP2 and SSP3 are 0.
        FredSspAlign "host.fred-ssp.align" [HOST_IA32_FRED_SSP1, HOST_IA32_FRED_SSP2, HOST_IA32_FRED_SSP3, SECONDARY_VM_EXIT_CONTROLS] =>
            (c.get(field::HOST_IA32_FRED_SSP1) | c.get(field::HOST_IA32_FRED_SSP2) | c.get(field::HOST_IA32_FRED_SSP3)) & 7 == 0;
    }
    [seldom] when c.secondary_exit().contains(SecondaryExit::LOAD_IA32_SPEC_CTRL), "“load IA32_SPEC_CTRL” (exit) is 1" => {
        /// The reserved bits of IA32_SPEC_CTRL are 0.
        SpecCtrl "host.spec-ctrl.reserved" [HOST_IA32_SPEC_CTRL, SECONDARY_VM_EXIT_CONTROLS] =>
            c.spec_ctrl_valid(c.get(field::HOST_IA32_SPEC_CTRL));
    }
}

/// All bits of CR0 but those that no check of a VM entry looks at.
pub(super) const CHECKED_CR0: u64 = !Cr0::NW.union(Cr0::CD).bits();

/// Bits 2, 5:4 and 11.
pub(super) const FRED_CONFIG_RESERVED: u64 = 1 << 2 | 0b11 << 4 | 1 << 11;

/// Rules that are the same for the host-state area, the guest-state area and the MSR-load area.
impl<R: ReadFields, M: ReadMemory> EntryContext<'_, R, M> {
    pub(super) fn perf_global_ctrl_valid(&self, value: u64) -> bool {
        self.clear_of(value, self.reserved().perf_global_ctrl, Reserved::PERF_GLOBAL_CTRL_FACTS)
    }

    #[inline]
    pub(super) fn cr3_valid(&self, value: u64, bits: impl FnOnce(&Reserved) -> ReservedBits) -> bool {
        self.clear_of(value, bits(self.reserved()), Reserved::CR3_FACTS)
    }

    pub(super) fn efer_valid(&self, efer: Efer) -> bool {
        self.clear_of(efer.bits(), self.reserved().efer, Reserved::EFER_FACTS)
    }

    pub(super) fn cet_reserved_clear(&self, value: u64) -> bool {
        self.clear_of(value, self.reserved().cet, Reserved::CET_FACTS)
    }

    pub(super) fn spec_ctrl_valid(&self, value: u64) -> bool {
        self.clear_of(value, self.reserved().spec_ctrl, Reserved::SPEC_CTRL_FACTS)
    }
}
