//! Printing a VMCS as Linux, Xen and HAXM do.

use std::fmt::Write;

use vmcs_model::Vmcs;
use vmcs_model::field::{Encoding, FieldId};

/// Prints a VMCS.
type Print = fn(&Vmcs) -> String;

/// The programs, and versions of them whose formats differ.
pub(crate) const FORMATS: [(&str, Print); 5] = [
    ("Linux 6.12", |vmcs| kvm(vmcs, true)),
    ("Linux 4.19", |vmcs| kvm(vmcs, false)),
    ("Xen 4.19", xen),
    ("Xen 4.5", old_xen),
    ("HAXM", haxm),
];

/// A text in which `{name:08x}` is the value of that field, printed as printf does.
fn fill(vmcs: &Vmcs, text: &str) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (hole, behind) = after.split_once('}').expect("a hole ends");
        let (name, width) = hole.split_once(':').expect("a hole has a width");
        let field = FieldId::by_name(name).unwrap_or_else(|| panic!("{name}"));
        let width = width.parse().expect("a width is a number");
        write!(filled, "{before}{:0width$x}", vmcs.raw(field)).expect("it is a string");
        rest = behind;
    }
    filled + rest
}

/// Whether bits of a control field are set.
fn has(vmcs: &Vmcs, name: &str, bits: u64) -> bool {
    vmcs.raw(FieldId::by_name(name).expect("a field")) & bits != 0
}

const SECONDARY: &str = "secondary_processor_based_vm_execution_controls";
const PRIMARY: &str = "primary_processor_based_vm_execution_controls";

fn secondary(vmcs: &Vmcs, bit: u32) -> bool {
    has(vmcs, PRIMARY, 1 << 31) && has(vmcs, SECONDARY, 1 << bit)
}

const CONTROL_REGISTERS: &str = "\
CR0: actual=0x{guest_cr0:16}, shadow=0x{cr0_read_shadow:16}, gh_mask={cr0_guest_host_mask:16}
CR4: actual=0x{guest_cr4:16}, shadow=0x{cr4_read_shadow:16}, gh_mask={cr4_guest_host_mask:16}
";
const HOST: &str = "\
CS={host_cs_selector:4} SS={host_ss_selector:4} DS={host_ds_selector:4} ES={host_es_selector:4} \
FS={host_fs_selector:4} GS={host_gs_selector:4} TR={host_tr_selector:4}
FSBase={host_fs_base:16} GSBase={host_gs_base:16} TRBase={host_tr_base:16}
GDTBase={host_gdtr_base:16} IDTBase={host_idtr_base:16}
CR0={host_cr0:16} CR3={host_cr3:16} CR4={host_cr4:16}
Sysenter RSP={host_ia32_sysenter_esp:16} CS:RIP={host_ia32_sysenter_cs:4}:{host_ia32_sysenter_eip:16}
";
const SYSENTER: &str = "\
Sysenter RSP={guest_ia32_sysenter_esp:16} CS:RIP={guest_ia32_sysenter_cs:4}:{guest_ia32_sysenter_eip:16}
";
const EVENTS: &str = "\
VMEntry: intr_info={vm_entry_interruption_information:8} errcode={vm_entry_exception_error_code:8} \
ilen={vm_entry_instruction_length:8}
VMExit: intr_info={vm_exit_interruption_information:8} errcode={vm_exit_interruption_error_code:8} \
ilen={vm_exit_instruction_length:8}
";
const FAULTS: &str = "\
ExceptionBitmap={exception_bitmap:8} PFECmask={page_fault_error_code_mask:8} PFECmatch={page_fault_error_code_match:8}
";

fn named_segments(text: &mut String) {
    for (name, field) in
        [("CS:  ", "cs"), ("DS:  ", "ds"), ("SS:  ", "ss"), ("ES:  ", "es"), ("FS:  ", "fs"), ("GS:  ", "gs")]
            .into_iter()
            .chain([("GDTR:", "gdtr"), ("LDTR:", "ldtr"), ("IDTR:", "idtr"), ("TR:  ", "tr")])
    {
        let limit = format!("limit=0x{{guest_{field}_limit:8}}, base=0x{{guest_{field}_base:16}}\n");
        *text += &match field {
            "gdtr" | "idtr" => format!("{name}                           {limit}"),
            _ => {
                format!("{name} sel=0x{{guest_{field}_selector:4}}, attr=0x{{guest_{field}_access_rights:5}}, {limit}")
            }
        };
    }
}

/// A list of MSRs, which is not printed if it is empty. Of a list that no kernel has, the begin.
fn list(vmcs: &Vmcs, name: &str, count: &str) -> String {
    let count = vmcs.raw(FieldId::by_name(count).expect("a field")).min(MOST_MSRS + 1);
    let headline = if count > 0 { format!("MSR {name}:\n") } else { String::new() };
    let entry = |n| format!("  {n:2}: msr=0x000006{n:02x} value=0x{n:016x}\n");
    headline + &(0..count).map(entry).collect::<String>()
}

/// A count of MSRs above this is not that of Linux.
pub(crate) const MOST_MSRS: u64 = 16;

/// As Linux 6.12 prints it, or as 4.19 does.
fn kvm(vmcs: &Vmcs, new: bool) -> String {
    let entry = |bit: u32| has(vmcs, "vm_entry_controls", 1 << bit);
    let exit = |bit: u32| has(vmcs, "primary_vm_exit_controls", 1 << bit);
    let mut text = String::new();
    if new {
        text += "VMCS 00000000deadbeef, last attempted VM-entry on CPU 3\n";
    }
    text += "*** Guest State ***\n";
    text += CONTROL_REGISTERS;
    text += "CR3 = 0x{guest_cr3:16}\n";
    if new || has(vmcs, "guest_cr4", 1 << 5) && !entry(9) && secondary(vmcs, 1) {
        text += "PDPTR0 = 0x{guest_pdpte0:16}  PDPTR1 = 0x{guest_pdpte1:16}\n";
        text += "PDPTR2 = 0x{guest_pdpte2:16}  PDPTR3 = 0x{guest_pdpte3:16}\n";
    }
    text += "RSP = 0x{guest_rsp:16}  RIP = 0x{guest_rip:16}\n";
    text += "RFLAGS=0x{guest_rflags:8}         DR7 = 0x{guest_dr7:16}\n";
    text += SYSENTER;
    named_segments(&mut text);
    if new {
        text += if entry(15) { "EFER= 0x{guest_ia32_efer:16}\n" } else { "EFER= 0x0000000000000d01 (effective)\n" };
        if entry(14) {
            text += "PAT = 0x{guest_ia32_pat:16}\n";
        }
    } else if entry(14) || entry(15) || exit(18) || exit(20) {
        text += "EFER =     0x{guest_ia32_efer:16}  PAT = 0x{guest_ia32_pat:16}\n";
    }
    text += "DebugCtl = 0x{guest_ia32_debugctl:16}  DebugExceptions = 0x{guest_pending_debug_exceptions:16}\n";
    if entry(13) {
        text += "PerfGlobCtl = 0x{guest_ia32_perf_global_ctrl:16}\n";
    }
    if entry(16) {
        text += "BndCfgS = 0x{guest_ia32_bndcfgs:16}\n";
    }
    text += "Interruptibility = {guest_interruptibility_state:8}  ActivityState = {guest_activity_state:8}\n";
    if secondary(vmcs, 9) {
        text += "InterruptStatus = {guest_interrupt_status:4}\n";
    }
    if new {
        text += &list(vmcs, "guest autoload", "vm_entry_msr_load_count");
        text += &list(vmcs, "guest autostore", "vm_exit_msr_store_count");
    }
    text += "*** Host State ***\n";
    text += "RIP = 0x{host_rip:16}  RSP = 0x{host_rsp:16}\n";
    text += HOST;
    if new {
        if exit(21) {
            text += "EFER= 0x{host_ia32_efer:16}\n";
        }
        if exit(19) {
            text += "PAT = 0x{host_ia32_pat:16}\n";
        }
    } else if exit(19) || exit(21) {
        text += "EFER = 0x{host_ia32_efer:16}  PAT = 0x{host_ia32_pat:16}\n";
    }
    if exit(12) {
        text += "PerfGlobCtl = 0x{host_ia32_perf_global_ctrl:16}\n";
    }
    if new {
        text += &list(vmcs, "host autoload", "vm_exit_msr_load_count");
    }
    text += "*** Control State ***\n";
    if new {
        text += "CPUBased=0x{primary_processor_based_vm_execution_controls:8} \
                 SecondaryExec=0x{secondary_processor_based_vm_execution_controls:8} \
                 TertiaryExec=0x{tertiary_processor_based_vm_execution_controls:16}\n";
        text += "PinBased=0x{pin_based_vm_execution_controls:8} EntryControls={vm_entry_controls:8} \
                 ExitControls={primary_vm_exit_controls:8}\n";
    } else {
        text += "PinBased={pin_based_vm_execution_controls:8} \
                 CPUBased={primary_processor_based_vm_execution_controls:8} \
                 SecondaryExec={secondary_processor_based_vm_execution_controls:8}\n";
        text += "EntryControls={vm_entry_controls:8} ExitControls={primary_vm_exit_controls:8}\n";
    }
    text += FAULTS;
    text += EVENTS;
    text += "        reason={exit_reason:8} qualification={exit_qualification:16}\n";
    text += "IDTVectoring: info={idt_vectoring_information:8} errcode={idt_vectoring_error_code:8}\n";
    text += "TSC Offset = 0x{tsc_offset:16}\n";
    if secondary(vmcs, 25) {
        text += "TSC Multiplier = 0x{tsc_multiplier:16}\n";
    }
    if has(vmcs, PRIMARY, 1 << 21) {
        if secondary(vmcs, 9) {
            text += "SVI|RVI = 00|00 ";
        }
        text += "TPR Threshold = 0x{tpr_threshold:2}\n";
        if new && secondary(vmcs, 0) {
            text += "APIC-access addr = 0x{apic_access_address:16} ";
        }
        if new {
            text += "virt-APIC addr = 0x{virtual_apic_address:16}\n";
        }
    }
    if has(vmcs, "pin_based_vm_execution_controls", 1 << 7) {
        text += "PostedIntrVec = 0x{posted_interrupt_notification_vector:2}\n";
    }
    if secondary(vmcs, 1) {
        text += "EPT pointer = 0x{ept_pointer:16}\n";
    }
    if secondary(vmcs, 10) {
        text += "PLE Gap={ple_gap:8} Window={ple_window:8}\n";
    }
    if secondary(vmcs, 5) {
        text += "Virtual processor ID = 0x{virtual_processor_identifier:4}\n";
    }
    let text = fill(vmcs, &text);
    let prefix = if new { "[ 2311.499051] kvm_intel: " } else { "[ 2311.499051] " };
    text.lines().map(|line| format!("{prefix}{line}\n")).collect()
}

/// As Xen 4.19 prints it.
fn xen(vmcs: &Vmcs) -> String {
    let mut text = "*** Guest State ***\n".to_owned();
    text += CONTROL_REGISTERS;
    text += "CR3 = 0x{guest_cr3:16}\n";
    text += "RSP = 0x{guest_rsp:16} (0x00000000deadbee0)  RIP = 0x{guest_rip:16} (0x00000000deadbee8)\n";
    text += "RFLAGS=0x{guest_rflags:8} (0x00000002)  DR7 = 0x{guest_dr7:16}\n";
    text += SYSENTER;
    text += "       sel  attr  limit   base\n";
    for name in ["CS", "DS", "SS", "ES", "FS", "GS", "GDTR", "LDTR", "IDTR", "TR"] {
        let field = name.to_lowercase();
        text += &match name {
            "GDTR" | "IDTR" => format!("{name}:            {{guest_{field}_limit:8}} {{guest_{field}_base:16}}\n"),
            _ => format!(
                "{name:>4}: {{guest_{field}_selector:4}} {{guest_{field}_access_rights:5}} {{guest_{field}_limit:8}} \
                 {{guest_{field}_base:16}}\n"
            ),
        };
    }
    text += "EFER(VMCS) = 0x{guest_ia32_efer:16}  PAT = 0x{guest_ia32_pat:16}\n";
    text += "PreemptionTimer = 0x{vmx_preemption_timer_value:8}  SM Base = 0x{guest_smbase:8}\n";
    text += "DebugCtl = 0x{guest_ia32_debugctl:16}  DebugExceptions = 0x{guest_pending_debug_exceptions:16}\n";
    if has(vmcs, "vm_entry_controls", 1 << 13 | 1 << 16) {
        text += "PerfGlobCtl = 0x{guest_ia32_perf_global_ctrl:16}  BndCfgS = 0x{guest_ia32_bndcfgs:16}\n";
    }
    text += "Interruptibility = {guest_interruptibility_state:8}  ActivityState = {guest_activity_state:8}\n";
    if secondary(vmcs, 9) {
        text += "InterruptStatus = {guest_interrupt_status:4}\n";
    }
    text += "*** Host State ***\n";
    text += "RIP = 0x{host_rip:16} (vmx_asm_vmexit_handler)  RSP = 0x{host_rsp:16}\n";
    text += HOST;
    text += "EFER = 0x{host_ia32_efer:16}  PAT = 0x{host_ia32_pat:16}\n";
    if has(vmcs, "primary_vm_exit_controls", 1 << 12) {
        text += "PerfGlobCtl = 0x{host_ia32_perf_global_ctrl:16}\n";
    }
    text += "*** Control State ***\n";
    text += "PinBased={pin_based_vm_execution_controls:8} CPUBased={primary_processor_based_vm_execution_controls:8}\n";
    text += "SecondaryExec={secondary_processor_based_vm_execution_controls:8} \
             TertiaryExec={tertiary_processor_based_vm_execution_controls:16}\n";
    text += "EntryControls={vm_entry_controls:8} ExitControls={primary_vm_exit_controls:8}\n";
    text += FAULTS;
    text += EVENTS;
    text += "        reason={exit_reason:8} qualification={exit_qualification:16}\n";
    text += "IDTVectoring: info={idt_vectoring_information:8} errcode={idt_vectoring_error_code:8}\n";
    text += "TSC Offset = 0x{tsc_offset:16}  TSC Multiplier = 0x{tsc_multiplier:16}\n";
    if has(vmcs, PRIMARY, 1 << 21) || has(vmcs, "pin_based_vm_execution_controls", 1 << 7) {
        text += "TPR Threshold = 0x{tpr_threshold:2}  PostedIntrVec = 0x{posted_interrupt_notification_vector:2}\n";
    }
    if secondary(vmcs, 1) {
        text += "EPT pointer = 0x{ept_pointer:16}  EPTP index = 0x{eptp_index:4}\n";
    }
    if secondary(vmcs, 10) {
        text += "PLE Gap={ple_gap:8} Window={ple_window:8}\n";
    }
    if secondary(vmcs, 5) || secondary(vmcs, 13) {
        text +=
            "Virtual processor ID = 0x{virtual_processor_identifier:4} VMfunc controls = {vm_function_controls:16}\n";
    }
    let text = fill(vmcs, &text) + "**************************************\n";
    text.lines().map(|line| format!("(XEN) {line}\n")).collect()
}

/// As Xen before 4.6 prints it.
fn old_xen(vmcs: &Vmcs) -> String {
    let mut text = "*** Guest State ***\n".to_owned();
    text += CONTROL_REGISTERS;
    text += "CR3: actual=0x{guest_cr3:16}, target_count=0\n";
    text += "     target0={cr3_target_value_0:16}, target1={cr3_target_value_1:16}\n";
    text += "     target2={cr3_target_value_2:16}, target3={cr3_target_value_3:16}\n";
    text += "RSP = 0x{guest_rsp:16} (0x00000000deadbee0)  RIP = 0x{guest_rip:16} (0x00000000deadbee8)\n";
    text += "RFLAGS=0x{guest_rflags:16} (0x0000000000000002)  DR7 = 0x{guest_dr7:16}\n";
    text += SYSENTER;
    named_segments(&mut text);
    let mut text = text.replace(":   sel", ": sel");
    text += "Guest PAT = 0x{guest_ia32_pat:16}\n";
    text += "TSC Offset = {tsc_offset:16}\n";
    text += "DebugCtl={guest_ia32_debugctl:16} DebugExceptions={guest_pending_debug_exceptions:16}\n";
    text += "Interruptibility={guest_interruptibility_state:4} ActivityState={guest_activity_state:4}\n";
    text += "*** Host State ***\n";
    text += "RSP = 0x{host_rsp:16}  RIP = 0x{host_rip:16}\n";
    text += "CS={host_cs_selector:4} DS={host_ds_selector:4} ES={host_es_selector:4} FS={host_fs_selector:4} \
             GS={host_gs_selector:4} SS={host_ss_selector:4} TR={host_tr_selector:4}\n";
    text += HOST.split_once('\n').expect("it has lines").1;
    text += "Host PAT = 0x{host_ia32_pat:16}\n";
    text += "*** Control State ***\n";
    text += "PinBased={pin_based_vm_execution_controls:8} \
             CPUBased={primary_processor_based_vm_execution_controls:8} \
             SecondaryExec={secondary_processor_based_vm_execution_controls:8}\n";
    text += "EntryControls={vm_entry_controls:8} ExitControls={primary_vm_exit_controls:8}\n";
    text += "ExceptionBitmap={exception_bitmap:8}\n";
    text += EVENTS;
    text += "        reason={exit_reason:8} qualification=00000000\n";
    text += "IDTVectoring: info={idt_vectoring_information:8} errcode={idt_vectoring_error_code:8}\n";
    text += "TPR Threshold = 0x{tpr_threshold:2}\n";
    text += "EPT pointer = 0x{ept_pointer:16}\n";
    text += "Virtual processor ID = 0x{virtual_processor_identifier:4}\n";
    let text = fill(vmcs, &text) + "**************************************\n";
    text.lines().map(|line| format!("(XEN) {line}\n")).collect()
}

/// As HAXM prints it: a number has no leading zeros.
fn haxm(vmcs: &Vmcs) -> String {
    let line = |encoding: u32| {
        let field = Encoding(encoding).field().expect("a field");
        // The widest line may always have been cut: let it be one that ends with a number of 16 digits.
        let widest = if encoding == 0x2800 { "_WHOSE_NAME_MAKES_ITS_LINE_THE_WIDEST" } else { "" };
        let name = field.info().name.to_uppercase() + widest;
        format!("haxm_warning: {encoding:04x} {name}: {:x}\n", vmcs.raw(field))
    };
    HAXM.iter().copied().map(line).collect()
}

/// What HAXM prints, in its order.
const HAXM: [u32; 127] = [
    0x4000, 0x4002, 0x401E, 0x4004, 0x4006, 0x4008, 0x400C, 0x400E, 0x4010, 0x4012, 0x4014, 0x4016, 0x4018, 0x401A,
    0x401C, 0x6000, 0x6002, 0x6004, 0x6006, 0x400A, 0x6008, 0x0000, 0x2000, 0x2002, 0x2004, 0x2006, 0x2008, 0x200A,
    0x2010, 0x2012, 0x2014, 0x201A, 0x482E, 0x4400, 0x4402, 0x4404, 0x4406, 0x4408, 0x440A, 0x440C, 0x440E, 0x6400,
    0x6402, 0x6404, 0x6406, 0x6408, 0x640A, 0x2400, 0x6C16, 0x6C14, 0x6C00, 0x6C02, 0x6C04, 0x0C02, 0x0C06, 0x0C00,
    0x0C08, 0x0C0A, 0x0C04, 0x0C0C, 0x6C06, 0x6C08, 0x6C0A, 0x6C0C, 0x6C0E, 0x4C00, 0x6C10, 0x6C12, 0x681E, 0x6820,
    0x681C, 0x6800, 0x6802, 0x6804, 0x0800, 0x0802, 0x0804, 0x0806, 0x0808, 0x080A, 0x080C, 0x080E, 0x4814, 0x4816,
    0x4818, 0x481A, 0x481C, 0x481E, 0x4820, 0x4822, 0x6806, 0x6808, 0x680A, 0x680C, 0x680E, 0x6810, 0x6812, 0x6814,
    0x6816, 0x6818, 0x4800, 0x4802, 0x4804, 0x4806, 0x4808, 0x480A, 0x480C, 0x480E, 0x4810, 0x4812, 0x2800, 0x2802,
    0x2804, 0x2806, 0x2808, 0x280A, 0x280C, 0x280E, 0x2810, 0x681A, 0x6822, 0x482A, 0x6824, 0x6826, 0x4828, 0x4824,
    0x4826,
];
