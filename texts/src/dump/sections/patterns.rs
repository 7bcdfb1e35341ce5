//! What stands in the sections of the dumps of Linux and Xen, and the width at which each value is printed.
//!
//! Linux and Xen have not changed the width of a value over their versions, except for Xen before 4.6.
/// Guest state, as both print it.
pub(super) const GUEST_STATE: &[&str] = &[
    "CR0: actual={guest_cr0:x16}, shadow={cr0_read_shadow:x16}, gh_mask={cr0_guest_host_mask:16}",
    "CR4: actual={guest_cr4:x16}, shadow={cr4_read_shadow:x16}, gh_mask={cr4_guest_host_mask:16}",
    "CR3 = {guest_cr3:x16}",
    "RSP = {guest_rsp:x16}",
    "RIP = {guest_rip:x16}",
    "RFLAGS={guest_rflags:x8+}",
    "RFLAGS={guest_rflags:x8+} DR7 = {guest_dr7:x16}",
    "DR7 = {guest_dr7:x16}",
    "Sysenter RSP={guest_ia32_sysenter_esp:16} CS:RIP={guest_ia32_sysenter_cs:4+}:{guest_ia32_sysenter_eip:16}",
    "DebugCtl = {guest_ia32_debugctl:x16}",
    "DebugExceptions = {guest_pending_debug_exceptions:x16}",
    "PerfGlobCtl = {guest_ia32_perf_global_ctrl:x16}",
    "BndCfgS = {guest_ia32_bndcfgs:x16}",
    "Interruptibility = {guest_interruptibility_state:8}",
    "Interruptibility = {guest_interruptibility_state:8} ActivityState = {guest_activity_state:8}",
    "ActivityState = {guest_activity_state:8}",
    "InterruptStatus = {guest_interrupt_status:4}",
    "S_CET = {guest_ia32_s_cet:x16}",
    "SSP = {guest_ssp:x16}",
    "SSP TABLE = {guest_ia32_interrupt_ssp_table_addr:x16}",
    "PAT = {guest_ia32_pat:x16}",
];

/// IA32_EFER of the guest, which is not always the field.
pub(super) const GUEST_EFER: &str = "EFER = {guest_ia32_efer:x16}";

/// Guest state, as Linux and Xen before 4.6 print it.
pub(super) const KVM_GUEST_STATE: &[&str] = &[
    "PDPTR0 = {guest_pdpte0:x16} PDPTR1 = {guest_pdpte1:x16}",
    "PDPTR2 = {guest_pdpte2:x16} PDPTR3 = {guest_pdpte3:x16}",
    "CS: sel={guest_cs_selector:x4}, attr={guest_cs_access_rights:x5+}, limit={guest_cs_limit:x8}, base={guest_cs_base:x16}",
    "DS: sel={guest_ds_selector:x4}, attr={guest_ds_access_rights:x5+}, limit={guest_ds_limit:x8}, base={guest_ds_base:x16}",
    "SS: sel={guest_ss_selector:x4}, attr={guest_ss_access_rights:x5+}, limit={guest_ss_limit:x8}, base={guest_ss_base:x16}",
    "ES: sel={guest_es_selector:x4}, attr={guest_es_access_rights:x5+}, limit={guest_es_limit:x8}, base={guest_es_base:x16}",
    "FS: sel={guest_fs_selector:x4}, attr={guest_fs_access_rights:x5+}, limit={guest_fs_limit:x8}, base={guest_fs_base:x16}",
    "GS: sel={guest_gs_selector:x4}, attr={guest_gs_access_rights:x5+}, limit={guest_gs_limit:x8}, base={guest_gs_base:x16}",
    "GDTR: limit={guest_gdtr_limit:x8}, base={guest_gdtr_base:x16}",
    "LDTR: sel={guest_ldtr_selector:x4}, attr={guest_ldtr_access_rights:x5+}, limit={guest_ldtr_limit:x8}, base={guest_ldtr_base:x16}",
    "IDTR: limit={guest_idtr_limit:x8}, base={guest_idtr_base:x16}",
    "TR: sel={guest_tr_selector:x4}, attr={guest_tr_access_rights:x5+}, limit={guest_tr_limit:x8}, base={guest_tr_base:x16}",
];

/// Guest state, as Xen prints it since 4.6.
pub(super) const XEN_GUEST_STATE: &[&str] = &[
    "PDPTE0 = {guest_pdpte0:x16} PDPTE1 = {guest_pdpte1:x16}",
    "PDPTE2 = {guest_pdpte2:x16} PDPTE3 = {guest_pdpte3:x16}",
    "CS: {guest_cs_selector:4} {guest_cs_access_rights:5+} {guest_cs_limit:8} {guest_cs_base:16}",
    "DS: {guest_ds_selector:4} {guest_ds_access_rights:5+} {guest_ds_limit:8} {guest_ds_base:16}",
    "SS: {guest_ss_selector:4} {guest_ss_access_rights:5+} {guest_ss_limit:8} {guest_ss_base:16}",
    "ES: {guest_es_selector:4} {guest_es_access_rights:5+} {guest_es_limit:8} {guest_es_base:16}",
    "FS: {guest_fs_selector:4} {guest_fs_access_rights:5+} {guest_fs_limit:8} {guest_fs_base:16}",
    "GS: {guest_gs_selector:4} {guest_gs_access_rights:5+} {guest_gs_limit:8} {guest_gs_base:16}",
    "GDTR: {guest_gdtr_limit:8} {guest_gdtr_base:16}",
    "LDTR: {guest_ldtr_selector:4} {guest_ldtr_access_rights:5+} {guest_ldtr_limit:8} {guest_ldtr_base:16}",
    "IDTR: {guest_idtr_limit:8} {guest_idtr_base:16}",
    "TR: {guest_tr_selector:4} {guest_tr_access_rights:5+} {guest_tr_limit:8} {guest_tr_base:16}",
    "EFER(VMCS) = {guest_ia32_efer:x16}",
    "PreemptionTimer = {vmx_preemption_timer_value:x8}",
    "SM Base = {guest_smbase:x8}",
];

/// Host state.
pub(super) const HOST_STATE: &[&str] = &[
    "RIP = {host_rip:x16}",
    "RSP = {host_rsp:x16}",
    "CS={host_cs_selector:4}",
    "SS={host_ss_selector:4}",
    "DS={host_ds_selector:4}",
    "ES={host_es_selector:4}",
    "FS={host_fs_selector:4}",
    "GS={host_gs_selector:4}",
    "TR={host_tr_selector:4}",
    "FSBase={host_fs_base:16}",
    "GSBase={host_gs_base:16}",
    "TRBase={host_tr_base:16}",
    "GDTBase={host_gdtr_base:16}",
    "IDTBase={host_idtr_base:16}",
    "CR0={host_cr0:16}",
    "CR3={host_cr3:16}",
    "CR4={host_cr4:16}",
    "Sysenter RSP={host_ia32_sysenter_esp:16} CS:RIP={host_ia32_sysenter_cs:4+}:{host_ia32_sysenter_eip:16}",
    "EFER = {host_ia32_efer:x16}",
    "PAT = {host_ia32_pat:x16}",
    "PerfGlobCtl = {host_ia32_perf_global_ctrl:x16}",
    "S_CET = {host_ia32_s_cet:x16}",
    "SSP = {host_ssp:x16}",
    "SSP TABLE = {host_ia32_interrupt_ssp_table_addr:x16}",
];

/// Controls and VM-exit information other than the exit reason.
pub(super) const CONTROL_STATE: &[&str] = &[
    "PinBased={pin_based_vm_execution_controls:8}",
    "CPUBased={primary_processor_based_vm_execution_controls:8}",
    "SecondaryExec={secondary_processor_based_vm_execution_controls:8}",
    "TertiaryExec={tertiary_processor_based_vm_execution_controls:16}",
    "EntryControls={vm_entry_controls:8}",
    "ExitControls={primary_vm_exit_controls:8}",
    "ExceptionBitmap={exception_bitmap:8}",
    "PFECmask={page_fault_error_code_mask:8}",
    "PFECmatch={page_fault_error_code_match:8}",
    "VMEntry: intr_info={vm_entry_interruption_information:8} errcode={vm_entry_exception_error_code:8} \
     ilen={vm_entry_instruction_length:8}",
    "VMExit: intr_info={vm_exit_interruption_information:8} errcode={vm_exit_interruption_error_code:8} \
     ilen={vm_exit_instruction_length:8}",
    "IDTVectoring: info={idt_vectoring_information:8} errcode={idt_vectoring_error_code:8}",
    "TSC Offset = {tsc_offset:x16}",
    "TSC Multiplier = {tsc_multiplier:x16}",
    "SPEC_CTRL mask = {ia32_spec_ctrl_mask:x16} shadow = {ia32_spec_ctrl_shadow:x16}",
    "TPR Threshold = {tpr_threshold:x2}",
    "APIC-access addr = {apic_access_address:x16}",
    "virt-APIC addr = {virtual_apic_address:x16}",
    "PostedIntrVec = {posted_interrupt_notification_vector:x2}",
    "EPT pointer = {ept_pointer:x16}",
    "EPTP index = {eptp_index:x4}",
    "target0={cr3_target_value_0:16}",
    "target1={cr3_target_value_1:16}",
    "target2={cr3_target_value_2:16}",
    "target3={cr3_target_value_3:16}",
    "PLE Gap={ple_gap:8} Window={ple_window:8}",
    "Virtual processor ID = {virtual_processor_identifier:x4}",
    "VMfunc controls = {vm_function_controls:16}",
    "VE info address = {virtualization_exception_information_address:x16}",
];

/// Guest state, as only Xen before 4.6 prints it.
pub(super) const OLD_XEN_GUEST_STATE: &[&str] = &[
    "CR3: actual={guest_cr3:x16}",
    "target0={cr3_target_value_0:16}, target1={cr3_target_value_1:16}",
    "target2={cr3_target_value_2:16}, target3={cr3_target_value_3:16}",
    "RFLAGS={guest_rflags:x16}",
    "Guest PAT = {guest_ia32_pat:x16}",
    "TSC Offset = {tsc_offset:16}",
    "DebugCtl={guest_ia32_debugctl:16} DebugExceptions={guest_pending_debug_exceptions:16}",
    "Interruptibility={guest_interruptibility_state:4+} ActivityState={guest_activity_state:4}",
];

/// The exit reason and qualification.
pub(super) const EXIT: &[&str] = &["reason={exit_reason:8} qualification={exit_qualification:16}"];

/// The exit reason, as Xen before 4.6 prints it: of the qualification it shows 32 bits.
pub(super) const OLD_XEN_EXIT: &[&str] = &["reason={exit_reason:8}"];

/// Whether guest state and host state have values of that name, so that only the section tells which it is.
pub(super) fn is_ambiguous(pattern: &str) -> bool {
    let label = |pattern: &str| {
        let (label, hole) = pattern.split_once('{').unwrap_or_default();
        (label.replace(' ', ""), hole.contains(":x"))
    };
    let of_guest = GUEST_STATE.iter().chain(&[GUEST_EFER]).any(|guest| label(guest) == label(pattern));
    of_guest && HOST_STATE.iter().any(|host| label(host) == label(pattern))
}

#[cfg(test)]
mod tests {
    use vmcs_model::field::FieldId;

    use super::*;

    #[test]
    fn patterns_name_fields() {
        let sections = [
            GUEST_STATE,
            KVM_GUEST_STATE,
            XEN_GUEST_STATE,
            OLD_XEN_GUEST_STATE,
            HOST_STATE,
            CONTROL_STATE,
            EXIT,
            OLD_XEN_EXIT,
        ];
        for pattern in [&sections.concat()[..], &[GUEST_EFER]].concat() {
            for hole in pattern.split('{').skip(1) {
                let (hole, _) = hole.split_once('}').expect("a hole ends");
                let (name, width) = hole.split_once(':').expect("a hole has a width");
                let field = FieldId::by_name(name).unwrap_or_else(|| panic!("{name}"));
                let width: u32 = width.trim_matches(['x', '+']).parse().expect("a number");
                assert!(width <= field.info().width().bits() / 4, "{name}");
            }
        }
        assert!(is_ambiguous("EFER = {host_ia32_efer:x16}"));
        assert!(is_ambiguous("PAT = {guest_ia32_pat:x16}") && !is_ambiguous("CR3 = {guest_cr3:x16}"));
    }
}
