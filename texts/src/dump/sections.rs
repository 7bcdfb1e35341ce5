//! Reading the dumps of Linux (KVM) and Xen, which have sections for guest state, host state and control state.

use vmcs_model::Outcome;
use vmcs_model::field::{self, FieldId};

use super::contents::{Dump, Reported};
use super::pattern::{field as named, read};
use crate::log::Line;

const GUEST: &str = "*** Guest State ***";
const HOST: &str = "*** Host State ***";
const CONTROL: &str = "*** Control State ***";

const GUEST_STATE: &[&str] = &[
    "CR0: actual={guest_cr0}, shadow={cr0_read_shadow}, gh_mask={cr0_guest_host_mask}",
    "CR4: actual={guest_cr4}, shadow={cr4_read_shadow}, gh_mask={cr4_guest_host_mask}",
    "CR3 = {guest_cr3}",
    "RSP = {guest_rsp}",
    "RIP = {guest_rip}",
    "RFLAGS={guest_rflags}",
    "DR7 = {guest_dr7}",
    "Sysenter RSP={guest_ia32_sysenter_esp} CS:RIP={guest_ia32_sysenter_cs}:{guest_ia32_sysenter_eip}",
    "DebugCtl = {guest_ia32_debugctl}",
    "DebugExceptions = {guest_pending_debug_exceptions}",
    "PerfGlobCtl = {guest_ia32_perf_global_ctrl}",
    "BndCfgS = {guest_ia32_bndcfgs}",
    "Interruptibility = {guest_interruptibility_state}",
    "ActivityState = {guest_activity_state}",
    "InterruptStatus = {guest_interrupt_status}",
    "S_CET = {guest_ia32_s_cet}",
    "SSP = {guest_ssp}",
    "SSP TABLE = {guest_ia32_interrupt_ssp_table_addr}",
    "PAT = {guest_ia32_pat}",
];

const KVM_GUEST_STATE: &[&str] = &[
    "PDPTR0 = {guest_pdpte0} PDPTR1 = {guest_pdpte1}",
    "PDPTR2 = {guest_pdpte2} PDPTR3 = {guest_pdpte3}",
    "CS: sel={guest_cs_selector}, attr={guest_cs_access_rights}, limit={guest_cs_limit}, base={guest_cs_base}",
    "DS: sel={guest_ds_selector}, attr={guest_ds_access_rights}, limit={guest_ds_limit}, base={guest_ds_base}",
    "SS: sel={guest_ss_selector}, attr={guest_ss_access_rights}, limit={guest_ss_limit}, base={guest_ss_base}",
    "ES: sel={guest_es_selector}, attr={guest_es_access_rights}, limit={guest_es_limit}, base={guest_es_base}",
    "FS: sel={guest_fs_selector}, attr={guest_fs_access_rights}, limit={guest_fs_limit}, base={guest_fs_base}",
    "GS: sel={guest_gs_selector}, attr={guest_gs_access_rights}, limit={guest_gs_limit}, base={guest_gs_base}",
    "GDTR: limit={guest_gdtr_limit}, base={guest_gdtr_base}",
    "LDTR: sel={guest_ldtr_selector}, attr={guest_ldtr_access_rights}, limit={guest_ldtr_limit}, base={guest_ldtr_base}",
    "IDTR: limit={guest_idtr_limit}, base={guest_idtr_base}",
    "TR: sel={guest_tr_selector}, attr={guest_tr_access_rights}, limit={guest_tr_limit}, base={guest_tr_base}",
];

const XEN_GUEST_STATE: &[&str] = &[
    "PDPTE0 = {guest_pdpte0} PDPTE1 = {guest_pdpte1}",
    "PDPTE2 = {guest_pdpte2} PDPTE3 = {guest_pdpte3}",
    "CS: {guest_cs_selector} {guest_cs_access_rights} {guest_cs_limit} {guest_cs_base}",
    "DS: {guest_ds_selector} {guest_ds_access_rights} {guest_ds_limit} {guest_ds_base}",
    "SS: {guest_ss_selector} {guest_ss_access_rights} {guest_ss_limit} {guest_ss_base}",
    "ES: {guest_es_selector} {guest_es_access_rights} {guest_es_limit} {guest_es_base}",
    "FS: {guest_fs_selector} {guest_fs_access_rights} {guest_fs_limit} {guest_fs_base}",
    "GS: {guest_gs_selector} {guest_gs_access_rights} {guest_gs_limit} {guest_gs_base}",
    "GDTR: {guest_gdtr_limit} {guest_gdtr_base}",
    "LDTR: {guest_ldtr_selector} {guest_ldtr_access_rights} {guest_ldtr_limit} {guest_ldtr_base}",
    "IDTR: {guest_idtr_limit} {guest_idtr_base}",
    "TR: {guest_tr_selector} {guest_tr_access_rights} {guest_tr_limit} {guest_tr_base}",
    "EFER(VMCS) = {guest_ia32_efer}",
    "PreemptionTimer = {vmx_preemption_timer_value}",
    "SM Base = {guest_smbase}",
];

const HOST_STATE: &[&str] = &[
    "RIP = {host_rip}",
    "RSP = {host_rsp}",
    "CS={host_cs_selector}",
    "SS={host_ss_selector}",
    "DS={host_ds_selector}",
    "ES={host_es_selector}",
    "FS={host_fs_selector}",
    "GS={host_gs_selector}",
    "TR={host_tr_selector}",
    "FSBase={host_fs_base}",
    "GSBase={host_gs_base}",
    "TRBase={host_tr_base}",
    "GDTBase={host_gdtr_base}",
    "IDTBase={host_idtr_base}",
    "CR0={host_cr0}",
    "CR3={host_cr3}",
    "CR4={host_cr4}",
    "Sysenter RSP={host_ia32_sysenter_esp} CS:RIP={host_ia32_sysenter_cs}:{host_ia32_sysenter_eip}",
    "EFER = {host_ia32_efer}",
    "PAT = {host_ia32_pat}",
    "PerfGlobCtl = {host_ia32_perf_global_ctrl}",
    "S_CET = {host_ia32_s_cet}",
    "SSP = {host_ssp}",
    "SSP TABLE = {host_ia32_interrupt_ssp_table_addr}",
];

const CONTROL_STATE: &[&str] = &[
    "PinBased={pin_based_vm_execution_controls}",
    "CPUBased={primary_processor_based_vm_execution_controls}",
    "SecondaryExec={secondary_processor_based_vm_execution_controls}",
    "TertiaryExec={tertiary_processor_based_vm_execution_controls}",
    "EntryControls={vm_entry_controls}",
    "ExitControls={primary_vm_exit_controls}",
    "ExceptionBitmap={exception_bitmap}",
    "PFECmask={page_fault_error_code_mask}",
    "PFECmatch={page_fault_error_code_match}",
    "VMEntry: intr_info={vm_entry_interruption_information} errcode={vm_entry_exception_error_code} \
     ilen={vm_entry_instruction_length}",
    "VMExit: intr_info={vm_exit_interruption_information} errcode={vm_exit_interruption_error_code} \
     ilen={vm_exit_instruction_length}",
    "reason={exit_reason} qualification={exit_qualification}",
    "IDTVectoring: info={idt_vectoring_information} errcode={idt_vectoring_error_code}",
    "TSC Offset = {tsc_offset}",
    "TSC Multiplier = {tsc_multiplier}",
    "SPEC_CTRL mask = {ia32_spec_ctrl_mask} shadow = {ia32_spec_ctrl_shadow}",
    "TPR Threshold = {tpr_threshold}",
    "APIC-access addr = {apic_access_address}",
    "virt-APIC addr = {virtual_apic_address}",
    "PostedIntrVec = {posted_interrupt_notification_vector}",
    "EPT pointer = {ept_pointer}",
    "EPTP index = {eptp_index}",
    "CR3 target0={cr3_target_value_0} target1={cr3_target_value_1}",
    "PLE Gap={ple_gap} Window={ple_window}",
    "Virtual processor ID = {virtual_processor_identifier}",
    "VMfunc controls = {vm_function_controls}",
    "VE info address = {virtualization_exception_information_address}",
];

/// The dumps in a log.
pub(super) fn find(lines: &[Line]) -> Vec<Dump> {
    let text = &super::joined(lines);
    let xen = lines.iter().any(|line| line.xen);
    let mut starts: Vec<_> = text.match_indices(GUEST).map(|(at, _)| at).collect();
    if starts.is_empty() {
        // The begin may be cut off.
        starts.extend([HOST, CONTROL].into_iter().filter_map(|header| text.find(header)).min());
    }
    let mut preamble = 0;
    let mut dumps = Vec::new();
    for (n, &start) in starts.iter().enumerate() {
        let end = starts.get(n + 1).copied().unwrap_or(text.len());
        dumps.push(one(&text[preamble..start], &text[start..end], xen));
        // The next dump's headline stands behind the control state of this one.
        preamble = text[start..end].find(CONTROL).map_or(start, |at| start + at);
    }
    dumps
}

/// Reads one dump and the lines before it.
fn one(preamble: &str, text: &str, xen: bool) -> Dump {
    let xen = xen && !text.contains("sel=0x") || text.contains("sel  attr  limit");
    let mut dump = Dump::new(if xen { "Xen" } else { "KVM" });
    let [guest, host, control] = [GUEST, HOST, CONTROL].map(|header| {
        let Some((_, rest)) = text.split_once(header) else { return "" };
        rest.split("\n*** ").next().unwrap_or(rest).split("\u{1e}*** ").next().unwrap_or("")
    });
    let own: &[&[&str]] = if xen { &[GUEST_STATE, XEN_GUEST_STATE] } else { &[GUEST_STATE, KVM_GUEST_STATE] };
    for (section, patterns) in own.iter().map(|own| (guest, *own)).chain([(host, HOST_STATE), (control, CONTROL_STATE)])
    {
        for pattern in patterns {
            for (name, value) in read(section, pattern).unwrap_or_default() {
                dump.take(named(name), value);
            }
        }
    }
    guest_efer(&mut dump, guest);
    if xen {
        dump.note("a field that the processor lacks is printed as 0");
    } else {
        kvm_lists(&mut dump, preamble, guest, host);
    }
    dump.reported = reported(&dump, preamble, text);
    stale(&mut dump, xen);
    dump
}

/// IA32_EFER of the guest, which is not always the field.
fn guest_efer(dump: &mut Dump, guest: &str) {
    const PATTERN: &str = "EFER = {guest_ia32_efer}";
    let Some(values) = read(guest, PATTERN) else {
        if guest.contains("EFER(MSR LL)") {
            dump.note("the guest's EFER comes from the MSR-load list: guest_ia32_efer is not shown");
        }
        return;
    };
    let line = guest.lines().find(|line| line.contains("EFER")).unwrap_or_default();
    let from = match (line.contains("(effective)"), line.contains("(autoload)")) {
        (true, _) => "what KVM derives from the controls",
        (_, true) => "the MSR-load list's",
        _ => {
            for (name, value) in values {
                dump.take(named(name), value);
            }
            return;
        }
    };
    dump.note(format!("the guest's EFER is {from}: guest_ia32_efer is not shown"));
}

/// The MSR lists, whose lengths tell the counts where the dump shows all lists that are not empty.
fn kvm_lists(dump: &mut Dump, preamble: &str, guest: &str, host: &str) {
    let lists = [
        (guest, "MSR guest autoload:", field::VM_ENTRY_MSR_LOAD_COUNT.id()),
        (guest, "MSR guest autostore:", field::VM_EXIT_MSR_STORE_COUNT.id()),
        (host, "MSR host autoload:", field::VM_EXIT_MSR_LOAD_COUNT.id()),
    ];
    let shown = lists.iter().any(|(section, header, _)| section.contains(header));
    if !shown && !preamble.contains("last attempted VM-entry") {
        return;
    }
    let mut counts = Vec::new();
    let mut all = 0;
    for (section, header, count) in lists {
        let entries = section.split_once(header).map_or(0, |(_, list)| {
            let lines = list.lines().skip(1);
            lines.take_while(|line| line.contains(": msr=") && line.contains("value=")).count() as u64
        });
        dump.take(count, Some(entries));
        all += entries;
        counts.push(format!("{} = {entries}", count.info().name));
    }
    let addresses = if all > 0 { "; where the lists lie is not shown" } else { "" };
    dump.note(format!("derived from the MSR lists that KVM shows: {}{addresses}", counts.join(", ")));
}

/// How the entry ended.
fn reported(dump: &Dump, preamble: &str, text: &str) -> Option<Reported> {
    let reason = dump.vmcs.raw(field::EXIT_REASON.id());
    let qualification = dump.vmcs.raw(field::EXIT_QUALIFICATION.id());
    if let Some(reason) = reason.filter(|reason| reason >> 31 == 1) {
        return Reported::hardware_error(reason, qualification);
    }
    for pattern in ["VMLAUNCH error: {n}", "VMRESUME error: {n}"] {
        if let Some((_, Some(error))) = read(preamble, pattern).and_then(|values| values.first().copied()) {
            return Reported::hardware_error(error, None);
        }
    }
    for part in [preamble, text] {
        if let Some((_, Some(error))) =
            read(part, "KVM: entry failed, hardware error {n}").and_then(|values| values.first().copied())
        {
            return Reported::hardware_error(error, None);
        }
    }
    None
}

/// What is left over from an earlier exit, and what is not in force.
fn stale(dump: &mut Dump, xen: bool) {
    let reason = dump.vmcs.raw(field::EXIT_REASON.id());
    match (dump.reported.and_then(|reported| reported.outcome()), reason) {
        (Some(Outcome::EntryFailed { .. }), _) => {
            dump.note(
                "stale: the VMExit and IDTVectoring values other than reason and qualification are those of an earlier exit",
            );
        }
        (Some(_), Some(reason)) => {
            dump.note(format!("stale: reason {reason:#x} and the VMExit and IDTVectoring values are those of an earlier exit"));
        }
        (None, Some(reason)) if !xen => dump.note(format!(
            "reason {reason:#x} is that of a VM exit: if the VM entry after it failed, then with an error number that KVM's \
             dump does not show"
        )),
        (None, Some(reason)) => {
            dump.note(format!("reason {reason:#x} is that of a VM exit: the dump is not about a VM entry that failed"));
        }
        (_, None) => {}
    }
    let pdpte: FieldId = field::GUEST_PDPTE0.id();
    let entry = dump.vmcs.raw(field::VM_ENTRY_CONTROLS.id());
    let (cr0, cr4) = (dump.vmcs.raw(field::GUEST_CR0.id()), dump.vmcs.raw(field::GUEST_CR4.id()));
    if let (Some(_), Some(entry), Some(cr0), Some(cr4)) = (dump.vmcs.raw(pdpte), entry, cr0, cr4) {
        let pae = entry >> 9 & 1 == 0 && cr0 >> 31 & 1 == 1 && cr4 >> 5 & 1 == 1;
        if !pae {
            dump.note("not in force: the PDPTEs, as the guest does not use PAE paging");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_fields() {
        for pattern in [GUEST_STATE, KVM_GUEST_STATE, XEN_GUEST_STATE, HOST_STATE, CONTROL_STATE].concat() {
            for hole in pattern.split('{').skip(1) {
                let (name, _) = hole.split_once('}').expect("a hole ends");
                assert!(FieldId::by_name(name).is_some(), "{name}");
            }
        }
    }
}
