//! Checks on VM-execution control fields.

use super::{Failure, aligned_4k, checks};
use crate::capabilities::Reserved;
use crate::context::EntryContext;
use crate::controls::{Entry, Exit, PinBased, Primary, Secondary, Tertiary, VmFunctions};
use crate::field::{self, FieldValue};
use crate::memory::ReadMemory;
use crate::msr::CapabilityMsr;
use crate::vmcs::ReadFields;

checks! {
    /// Checks on VM-execution control fields. An entry that returns from SMM makes them on the executive VMCS
    /// instead ([`SmmCheck::ExecutiveControls`](super::SmmCheck)).
    pub enum ExecutionControlCheck, ControlsAndHost, sdm "27.2.1.1" "VM-Execution Control Fields", fails Failure::valid(7), |c|
    when true, "" => {
        /// Every bit that the processor reports as must-be-1 is 1.
        PinAllowed0 "ctl.pin.reserved-bits.allowed0" [PIN_BASED_VM_EXECUTION_CONTROLS] =>
            c.pin_allowed().missing(c.pin().to_raw()) == 0;
        /// Every bit that the processor reports as must-be-0 is 0.
        PinAllowed1 "ctl.pin.reserved-bits.allowed1" [PIN_BASED_VM_EXECUTION_CONTROLS] =>
            c.pin_allowed().forbidden(c.pin().to_raw()) == 0;
        /// Every bit that the processor reports as must-be-1 is 1.
        PrimaryAllowed0 "ctl.proc1.reserved-bits.allowed0" [PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            c.primary_allowed().missing(c.primary().to_raw()) == 0;
        /// Every bit that the processor reports as must-be-0 is 0.
        PrimaryAllowed1 "ctl.proc1.reserved-bits.allowed1" [PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            c.primary_allowed().forbidden(c.primary().to_raw()) == 0;
    }
    when c.primary().contains(Primary::ACTIVATE_SECONDARY_CONTROLS), "“activate secondary controls” is 1" => {
        /// No unsupported bit is 1. The word counts as 0, and is not checked, unless it is activated.
        SecondaryReserved "ctl.proc2.reserved-bits" [SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            c.msr(CapabilityMsr::Procbased2).secondary.forbidden(c.secondary().to_raw()) == 0;
    }
    [seldom] when c.primary().contains(Primary::ACTIVATE_TERTIARY_CONTROLS), "“activate tertiary controls” is 1" => {
        /// No unsupported bit is 1. The word counts as 0, and is not checked, unless it is activated.
        TertiaryReserved "ctl.proc3.reserved-bits" [TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            c.msr(CapabilityMsr::Procbased3).tertiary.forbidden(c.tertiary().to_raw()) == 0;
    }
    when true, "" => {
        /// The CR3-target count does not exceed the number of CR3-target values, IA32_VMX_MISC[24:16].
        Cr3TargetCount "ctl.cr3-target-count" [CR3_TARGET_COUNT] =>
            c.get(field::CR3_TARGET_COUNT) <= c.msr(CapabilityMsr::Misc).cr3_targets();
    }
    [seldom] when c.primary().contains(Primary::USE_I_O_BITMAPS), "“use I/O bitmaps” is 1" => {
        /// Bits 11:0 of both I/O-bitmap addresses are 0.
        IoBitmapsAlign "ctl.io-bitmaps.align" [IO_BITMAP_A_ADDRESS, IO_BITMAP_B_ADDRESS] =>
            aligned_4k(c.get(field::IO_BITMAP_A_ADDRESS)) && aligned_4k(c.get(field::IO_BITMAP_B_ADDRESS));
        /// Both I/O-bitmap addresses do not exceed the physical-address width.
        IoBitmapsWidth "ctl.io-bitmaps.width" [IO_BITMAP_A_ADDRESS, IO_BITMAP_B_ADDRESS] =>
            c.address_fits(c.get(field::IO_BITMAP_A_ADDRESS)) && c.address_fits(c.get(field::IO_BITMAP_B_ADDRESS));
    }
    when c.primary().contains(Primary::USE_MSR_BITMAPS), "“use MSR bitmaps” is 1" => {
        /// Bits 11:0 of the MSR-bitmap address are 0.
        MsrBitmapAlign "ctl.msr-bitmap.align" [MSR_BITMAP_ADDRESS] => aligned_4k(c.get(field::MSR_BITMAP_ADDRESS));
        /// The MSR-bitmap address does not exceed the physical-address width.
        MsrBitmapWidth "ctl.msr-bitmap.width" [MSR_BITMAP_ADDRESS] =>
            c.address_fits(c.get(field::MSR_BITMAP_ADDRESS));
    }
    when c.primary().contains(Primary::USE_TPR_SHADOW), "“use TPR shadow” is 1" => {
        /// Bits 11:0 of the virtual-APIC address are 0.
        VirtualApicAlign "ctl.virtual-apic.align" [VIRTUAL_APIC_ADDRESS] =>
            aligned_4k(c.get(field::VIRTUAL_APIC_ADDRESS));
        /// The virtual-APIC address does not exceed the physical-address width.
        VirtualApicWidth "ctl.virtual-apic.width" [VIRTUAL_APIC_ADDRESS] =>
            c.address_fits(c.get(field::VIRTUAL_APIC_ADDRESS));
    }
    when c.secondary().contains(Secondary::VIRTUALIZE_APIC_ACCESSES), "“virtualize APIC accesses” is 1" => {
        /// Bits 11:0 of the APIC-access address are 0.
        ApicAccessAlign "ctl.apic-access.align" [APIC_ACCESS_ADDRESS] =>
            aligned_4k(c.get(field::APIC_ACCESS_ADDRESS));
        /// The APIC-access address does not exceed the physical-address width.
        ApicAccessWidth "ctl.apic-access.width" [APIC_ACCESS_ADDRESS] =>
            c.address_fits(c.get(field::APIC_ACCESS_ADDRESS));
    }
    [seldom] when c.secondary().contains(Secondary::ENABLE_PML), "“enable PML” is 1" => {
        /// Bits 11:0 of the PML address are 0.
        PmlAlign "ctl.pml.address-align" [PML_ADDRESS] => aligned_4k(c.get(field::PML_ADDRESS));
        /// The PML address does not exceed the physical-address width.
        PmlWidth "ctl.pml.address-width" [PML_ADDRESS] => c.address_fits(c.get(field::PML_ADDRESS));
    }
    [seldom] when c.secondary().contains(Secondary::SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT), "“sub-page write permissions for EPT” is 1" => {
        /// Bits 11:0 of the SPPTP are 0.
        SpptpAlign "ctl.spptp.align" [SUB_PAGE_PERMISSION_TABLE_POINTER] =>
            aligned_4k(c.get(field::SUB_PAGE_PERMISSION_TABLE_POINTER));
        /// The SPPTP does not exceed the physical-address width.
        SpptpWidth "ctl.spptp.width" [SUB_PAGE_PERMISSION_TABLE_POINTER] =>
            c.address_fits(c.get(field::SUB_PAGE_PERMISSION_TABLE_POINTER));
    }
    when c.eptp_switching(), "“enable VM functions” and “EPTP switching” are 1" => {
        /// Bits 11:0 of the EPTP-list address are 0.
        EptpListAlign "ctl.eptp-list.align" [EPTP_LIST_ADDRESS, VM_FUNCTION_CONTROLS] =>
            aligned_4k(c.get(field::EPTP_LIST_ADDRESS));
        /// The EPTP-list address does not exceed the physical-address width.
        EptpListWidth "ctl.eptp-list.width" [EPTP_LIST_ADDRESS, VM_FUNCTION_CONTROLS] =>
            c.address_fits(c.get(field::EPTP_LIST_ADDRESS));
    }
    [seldom] when c.secondary().contains(Secondary::VMCS_SHADOWING), "“VMCS shadowing” is 1" => {
        /// Bits 11:0 of the VMREAD-bitmap address are 0.
        VmreadBitmapAlign "ctl.vmread-bitmap.align" [VMREAD_BITMAP_ADDRESS] =>
            aligned_4k(c.get(field::VMREAD_BITMAP_ADDRESS));
        /// The VMREAD-bitmap address does not exceed the physical-address width.
        VmreadBitmapWidth "ctl.vmread-bitmap.width" [VMREAD_BITMAP_ADDRESS] =>
            c.address_fits(c.get(field::VMREAD_BITMAP_ADDRESS));
        /// Bits 11:0 of the VMWRITE-bitmap address are 0.
        VmwriteBitmapAlign "ctl.vmwrite-bitmap.align" [VMWRITE_BITMAP_ADDRESS] =>
            aligned_4k(c.get(field::VMWRITE_BITMAP_ADDRESS));
        /// The VMWRITE-bitmap address does not exceed the physical-address width.
        VmwriteBitmapWidth "ctl.vmwrite-bitmap.width" [VMWRITE_BITMAP_ADDRESS] =>
            c.address_fits(c.get(field::VMWRITE_BITMAP_ADDRESS));
    }
    [seldom] when c.secondary().contains(Secondary::EPT_VIOLATION_VE), "“EPT-violation #VE” is 1" => {
        /// Bits 11:0 of the virtualization-exception information address are 0.
        VeInformationAlign "ctl.ve-info.align" [VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS] =>
            aligned_4k(c.get(field::VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS));
        /// The virtualization-exception information address does not exceed the physical-address width.
        VeInformationWidth "ctl.ve-info.width" [VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS] =>
            c.address_fits(c.get(field::VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS));
    }
    [seldom] when c.secondary().contains(Secondary::PASID_TRANSLATION), "“PASID translation” is 1" => {
        /// Bits 11:0 of both PASID directory addresses are 0.
        PasidDirectoryAlign "ctl.pasid-dir.align" [LOW_PASID_DIRECTORY_ADDRESS, HIGH_PASID_DIRECTORY_ADDRESS] =>
            aligned_4k(c.get(field::LOW_PASID_DIRECTORY_ADDRESS)) && aligned_4k(c.get(field::HIGH_PASID_DIRECTORY_ADDRESS));
        /// Both PASID directory addresses do not exceed the physical-address width.
        PasidDirectoryWidth "ctl.pasid-dir.width" [LOW_PASID_DIRECTORY_ADDRESS, HIGH_PASID_DIRECTORY_ADDRESS] =>
            c.address_fits(c.get(field::LOW_PASID_DIRECTORY_ADDRESS)) && c.address_fits(c.get(field::HIGH_PASID_DIRECTORY_ADDRESS));
    }
    when c.primary().contains(Primary::USE_TPR_SHADOW) && !c.secondary().contains(Secondary::VIRTUAL_INTERRUPT_DELIVERY), "“use TPR shadow” is 1 and “virtual-interrupt delivery” is 0" => {
        /// Bits 31:4 of the TPR threshold are 0.
        TprThresholdReserved "ctl.tpr-threshold.reserved" [TPR_THRESHOLD] => c.get(field::TPR_THRESHOLD) >> 4 == 0;
        /// With “virtualize APIC accesses” 0, bits 3:0 of the TPR threshold do not exceed bits 7:4 of VTPR, byte 80H of the
        /// virtual-APIC page.
        TprThresholdVtpr "ctl.tpr-threshold.vs-vtpr" [TPR_THRESHOLD, VIRTUAL_APIC_ADDRESS] =>
            tpr_threshold_within_vtpr(c);
    }
    when true, "" => {
        /// “virtual NMIs” requires “NMI exiting”.
        VirtualNmis "ctl.virtual-nmi.needs-nmi-exiting" [PIN_BASED_VM_EXECUTION_CONTROLS] =>
            !c.pin().contains(PinBased::VIRTUAL_NMIS) || c.pin().contains(PinBased::NMI_EXITING);
        /// “NMI-window exiting” requires “virtual NMIs”.
        NmiWindow "ctl.nmi-window.needs-virtual-nmi" [PIN_BASED_VM_EXECUTION_CONTROLS, PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            !c.primary().contains(Primary::NMI_WINDOW_EXITING) || c.pin().contains(PinBased::VIRTUAL_NMIS);
    }
    when !c.primary().contains(Primary::USE_TPR_SHADOW), "“use TPR shadow” is 0" => {
        /// “virtualize x2APIC mode” is 0.
        X2apicTprShadow "ctl.x2apic.needs-tpr-shadow" [PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            !c.secondary().contains(Secondary::VIRTUALIZE_X2APIC_MODE);
        /// “APIC-register virtualization” is 0.
        ApicRegistersTprShadow "ctl.apic-reg-virt.needs-tpr-shadow" [PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            !c.secondary().contains(Secondary::APIC_REGISTER_VIRTUALIZATION);
        /// “virtual-interrupt delivery” is 0.
        VirtualInterruptsTprShadow "ctl.vid.needs-tpr-shadow" [PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            !c.secondary().contains(Secondary::VIRTUAL_INTERRUPT_DELIVERY);
        /// “IPI virtualization” is 0.
        IpiTprShadow "ctl.ipi-virt.needs-tpr-shadow" [PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            !c.tertiary().contains(Tertiary::IPI_VIRTUALIZATION);
    }
    when true, "" => {
        /// “virtualize x2APIC mode” excludes “virtualize APIC accesses”.
        X2apicApicAccesses "ctl.x2apic.excludes-apic-access" [SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            !c.secondary().contains(Secondary::VIRTUALIZE_X2APIC_MODE.union(Secondary::VIRTUALIZE_APIC_ACCESSES));
        /// “virtual-interrupt delivery” requires “external-interrupt exiting”.
        VirtualInterruptsExiting "ctl.vid.needs-ext-int-exiting" [SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, PIN_BASED_VM_EXECUTION_CONTROLS] =>
            !c.secondary().contains(Secondary::VIRTUAL_INTERRUPT_DELIVERY) || c.pin().contains(PinBased::EXTERNAL_INTERRUPT_EXITING);
    }
    [seldom] when c.pin().contains(PinBased::PROCESS_POSTED_INTERRUPTS), "“process posted interrupts” is 1" => {
        /// “virtual-interrupt delivery” is 1.
        PostedInterruptsDelivery "ctl.posted-int.needs-vid" [PIN_BASED_VM_EXECUTION_CONTROLS, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            c.secondary().contains(Secondary::VIRTUAL_INTERRUPT_DELIVERY);
        /// The VM-exit control “acknowledge interrupt on exit” is 1.
        PostedInterruptsAcknowledge "ctl.posted-int.needs-ack-on-exit" [PIN_BASED_VM_EXECUTION_CONTROLS, PRIMARY_VM_EXIT_CONTROLS] =>
            c.exit().contains(Exit::ACKNOWLEDGE_INTERRUPT_ON_EXIT);
        /// Bits 15:8 of the posted-interrupt notification vector are 0.
        PostedInterruptsVector "ctl.posted-int.vector" [POSTED_INTERRUPT_NOTIFICATION_VECTOR] =>
            c.get(field::POSTED_INTERRUPT_NOTIFICATION_VECTOR) >> 8 == 0;
        /// Bits 5:0 of the posted-interrupt descriptor address are 0.
        PostedInterruptsAlign "ctl.posted-int.desc-align" [POSTED_INTERRUPT_DESCRIPTOR_ADDRESS] =>
            c.get(field::POSTED_INTERRUPT_DESCRIPTOR_ADDRESS) & 0x3F == 0;
        /// The posted-interrupt descriptor address does not exceed the physical-address width.
        PostedInterruptsWidth "ctl.posted-int.desc-width" [POSTED_INTERRUPT_DESCRIPTOR_ADDRESS] =>
            c.address_fits(c.get(field::POSTED_INTERRUPT_DESCRIPTOR_ADDRESS));
    }
    [seldom] when c.tertiary().contains(Tertiary::IPI_VIRTUALIZATION), "“IPI virtualization” is 1" => {
        /// Bits 2:0 of the PID-pointer table address are 0.
        PidTableAlign "ctl.ipi-virt.table-align" [PID_POINTER_TABLE_ADDRESS] =>
            c.get(field::PID_POINTER_TABLE_ADDRESS) & 7 == 0;
        /// The PID-pointer table address does not exceed the physical-address width.
        PidTableWidth "ctl.ipi-virt.table-width" [PID_POINTER_TABLE_ADDRESS] =>
            c.address_fits(c.get(field::PID_POINTER_TABLE_ADDRESS));
        /// The address of the last entry, table address + 8 × last PID-pointer index, does not exceed the
        /// physical-address width.
        PidTableLast "ctl.ipi-virt.last-entry-width" [PID_POINTER_TABLE_ADDRESS, LAST_PID_POINTER_INDEX] =>
            last_pid_pointer_fits(c);
    }
    when c.secondary().contains(Secondary::ENABLE_VPID), "“enable VPID” is 1" => {
        /// The VPID is not 0000H.
        Vpid "ctl.vpid.nonzero" [VIRTUAL_PROCESSOR_IDENTIFIER] => c.get(field::VIRTUAL_PROCESSOR_IDENTIFIER) != 0;
    }
    when c.secondary().contains(Secondary::ENABLE_EPT), "“enable EPT” is 1" => {
        /// The EPT memory type, bits 2:0 of the EPTP, is one that IA32_VMX_EPT_VPID_CAP reports.
        EptpMemoryType "ctl.eptp.memtype" [EPT_POINTER] =>
            c.msr(CapabilityMsr::EptVpidCap).ept_memory_type(c.get(field::EPT_POINTER).memory_type());
        /// Bits 5:3 of the EPTP are 3 or, where 5-level EPT is supported, 4: one less than the length of a page walk.
        EptpWalkLength "ctl.eptp.walk-length" [EPT_POINTER] =>
            c.msr(CapabilityMsr::EptVpidCap).ept_walk_length(c.get(field::EPT_POINTER).walk_length_minus_1());
        /// Bit 6 of the EPTP, accessed and dirty flags, is 0 unless IA32_VMX_EPT_VPID_CAP[21] is 1.
        EptpAccessedDirty "ctl.eptp.ad-supported" [EPT_POINTER] =>
            !c.get(field::EPT_POINTER).accessed_dirty() || c.msr(CapabilityMsr::EptVpidCap).ept_vpid & 1 << 21 != 0;
        /// Bits 11:8 of the EPTP are 0.
        EptpReserved "ctl.eptp.reserved-11-8" [EPT_POINTER] => c.get(field::EPT_POINTER).reserved_11_8() == 0;
        /// Bit 7 of the EPTP, supervisor shadow-stack control, is 0 unless IA32_VMX_EPT_VPID_CAP[23] is 1.
        EptpShadowStack "ctl.eptp.sss-bit7" [EPT_POINTER] =>
            !c.get(field::EPT_POINTER).supervisor_shadow_stack() || c.msr(CapabilityMsr::EptVpidCap).ept_vpid & 1 << 23 != 0;
        /// Bits 63:12 of the EPTP do not exceed the physical-address width.
        EptpWidth "ctl.eptp.width" [EPT_POINTER] => c.address_fits(c.get(field::EPT_POINTER).into_bits());
    }
    when !c.secondary().contains(Secondary::ENABLE_EPT), "“enable EPT” is 0" => {
        /// “enable PML” is 0.
        EptRequiredPml "ctl.ept-required.pml" [SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            !c.secondary().contains(Secondary::ENABLE_PML);
        /// “unrestricted guest” is 0.
        EptRequiredUnrestrictedGuest "ctl.ept-required.unrestricted-guest" [SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            !c.secondary().contains(Secondary::UNRESTRICTED_GUEST);
        /// “mode-based execute control for EPT” is 0.
        EptRequiredModeBasedExecute "ctl.ept-required.mbec" [SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            !c.secondary().contains(Secondary::MODE_BASED_EXECUTE_CONTROL_FOR_EPT);
        /// “sub-page write permissions for EPT” is 0.
        EptRequiredSubPagePermissions "ctl.ept-required.spp" [SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            !c.secondary().contains(Secondary::SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT);
        /// “Intel PT uses guest physical addresses” is 0.
        EptRequiredTraceAddresses "ctl.ept-required.pt-gpa" [SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            !c.secondary().contains(Secondary::INTEL_PT_USES_GUEST_PHYSICAL_ADDRESSES);
        /// “PEBS uses guest physical addresses” is 0.
        EptRequiredPebsAddresses "ctl.ept-required.pebs-gpa" [SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            !c.tertiary().contains(Tertiary::PEBS_USES_GUEST_PHYSICAL_ADDRESSES);
        /// “enable HLAT” is 0.
        EptRequiredHlat "ctl.ept-required.hlat" [SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            !c.tertiary().contains(Tertiary::ENABLE_HLAT);
        /// “EPT paging-write control” is 0.
        EptRequiredPagingWrite "ctl.ept-required.ept-paging-write" [SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            !c.tertiary().contains(Tertiary::EPT_PAGING_WRITE_CONTROL);
        /// “guest-paging verification” is 0.
        EptRequiredGuestPagingVerification "ctl.ept-required.guest-paging-verification" [SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            !c.tertiary().contains(Tertiary::GUEST_PAGING_VERIFICATION);
    }
    [seldom] when c.secondary().contains(Secondary::ENABLE_VM_FUNCTIONS), "“enable VM functions” is 1" => {
        /// No unsupported bit of the VM-function controls is 1.
        VmFunctionReserved "ctl.vmfunc.reserved-bits" [VM_FUNCTION_CONTROLS] =>
            c.msr(CapabilityMsr::Vmfunc).vm_functions.forbidden(c.get(field::VM_FUNCTION_CONTROLS).to_raw()) == 0;
        /// “EPTP switching” requires “enable EPT”.
        EptpSwitchingEpt "ctl.vmfunc.eptp-switching-needs-ept" [VM_FUNCTION_CONTROLS, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            !c.eptp_switching() || c.secondary().contains(Secondary::ENABLE_EPT);
    }
    [seldom] when c.cpu().seam, "the processor is in SEAM" => {
        /// “enable EPT” is 1.
        SeamEpt "ctl.seam.needs-ept" [SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            c.secondary().contains(Secondary::ENABLE_EPT);
        /// Bits 11:0 of the SEAM shared EPT pointer and its bits beyond the enumerated physical-address width are 0. Memory
        /// encryption does not reduce the width here.
        SeamSharedEptp "ctl.seam.shared-eptp" [SEAM_SHARED_EPT_POINTER] =>
            aligned_4k(c.get(field::SEAM_SHARED_EPT_POINTER))
                && c.clear_of(c.get(field::SEAM_SHARED_EPT_POINTER), c.reserved().guest_physical, Reserved::PHYSICAL_FACTS);
    }
    [seldom] when c.cpu().trace_enabled, "IA32_RTIT_CTL.TraceEn is 1" => {
        /// “load IA32_RTIT_CTL” is 0.
        TraceEnabled "ctl.pt.traceen-excludes-load-rtit" [VM_ENTRY_CONTROLS] =>
            !c.entry().contains(Entry::LOAD_IA32_RTIT_CTL);
    }
    [seldom] when c.secondary().contains(Secondary::INTEL_PT_USES_GUEST_PHYSICAL_ADDRESSES), "“Intel PT uses guest physical addresses” is 1" => {
        /// The VM-entry control “load IA32_RTIT_CTL” is 1.
        TraceLoads "ctl.pt-gpa.needs-load-rtit" [SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, VM_ENTRY_CONTROLS] =>
            c.entry().contains(Entry::LOAD_IA32_RTIT_CTL);
        /// The VM-exit control “clear IA32_RTIT_CTL” is 1.
        TraceClears "ctl.pt-gpa.needs-clear-rtit" [SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, PRIMARY_VM_EXIT_CONTROLS] =>
            c.exit().contains(Exit::CLEAR_IA32_RTIT_CTL);
    }
    [seldom] when c.secondary().contains(Secondary::USE_TSC_SCALING), "“use TSC scaling” is 1" => {
        /// The TSC multiplier is not 0, whether or not TSC offsetting is used.
        TscMultiplier "ctl.tsc-multiplier.nonzero" [TSC_MULTIPLIER] => c.get(field::TSC_MULTIPLIER) != 0;
    }
    [seldom] when c.tertiary().contains(Tertiary::ENABLE_HLAT), "“enable HLAT” is 1" => {
        /// Bits 2:0 and 11:5 of the HLATP are 0; PWT and PCD are free, and so is the HLAT prefix size.
        HlatpReserved "ctl.hlatp.reserved" [HYPERVISOR_MANAGED_LINEAR_ADDRESS_TRANSLATION_POINTER] =>
            c.get(field::HYPERVISOR_MANAGED_LINEAR_ADDRESS_TRANSLATION_POINTER).into_bits() & 0xFE7 == 0;
        /// Bits 63:12 of the HLATP do not exceed the physical-address width.
        HlatpWidth "ctl.hlatp.width" [HYPERVISOR_MANAGED_LINEAR_ADDRESS_TRANSLATION_POINTER] =>
            c.address_fits(c.get(field::HYPERVISOR_MANAGED_LINEAR_ADDRESS_TRANSLATION_POINTER).into_bits());
    }
    [seldom] when c.tertiary().contains(Tertiary::APIC_TIMER_VIRTUALIZATION), "“APIC-timer virtualization” is 1" => {
        /// “virtual-interrupt delivery” is 1.
        ApicTimerDelivery "ctl.apic-timer.needs-vid" [TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            c.secondary().contains(Secondary::VIRTUAL_INTERRUPT_DELIVERY);
        /// “RDTSC exiting” is 0.
        ApicTimerRdtsc "ctl.apic-timer.excludes-rdtsc-exiting" [TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            !c.primary().contains(Primary::RDTSC_EXITING);
        /// Bits 15:8 of the virtual timer vector are 0.
        ApicTimerVector "ctl.apic-timer.vector" [VIRTUAL_TIMER_VECTOR] =>
            c.get(field::VIRTUAL_TIMER_VECTOR) >> 8 == 0;
    }
}

/// Offset of VTPR on the virtual-APIC page.
const VTPR: u64 = 0x80;

/// Whether the TPR threshold does not exceed VTPR. The two are compared only if the virtual-APIC address itself passes its
/// checks: otherwise there is no VTPR.
fn tpr_threshold_within_vtpr<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    let page = c.get(field::VIRTUAL_APIC_ADDRESS);
    if c.secondary().contains(Secondary::VIRTUALIZE_APIC_ACCESSES) || !aligned_4k(page) || !c.address_fits(page) {
        return true;
    }
    c.get(field::TPR_THRESHOLD) & 0xF <= c.read_u32(page + VTPR) >> 4 & 0xF
}

fn last_pid_pointer_fits<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    let offset = 8 * u64::from(c.get(field::LAST_PID_POINTER_INDEX));
    c.get(field::PID_POINTER_TABLE_ADDRESS).checked_add(offset).is_some_and(|last| c.address_fits(last))
}

impl<R: ReadFields, M: ReadMemory> EntryContext<'_, R, M> {
    /// “EPTP switching” is 1 and VM functions are enabled.
    fn eptp_switching(&self) -> bool {
        self.secondary().contains(Secondary::ENABLE_VM_FUNCTIONS)
            && self.get(field::VM_FUNCTION_CONTROLS).contains(VmFunctions::EPTP_SWITCHING)
    }
}
