//! The VMCS of the nested hypervisor, as VirtualBox shows it: sections of labels and values.

use vmcs_model::field::FieldId;

use super::super::contents::Dump;
use super::super::items::Item;
use super::super::list::{Longest, gather};
use super::super::number::Printed;
use crate::log::Line;
use crate::names;

/// Sections, and the word that makes names out of their labels.
const SECTIONS: [(&str, &str); 5] = [
    ("Header:", ""),
    ("Control:", ""),
    ("Guest state:", "guest"),
    ("Host state:", "host"),
    ("Read-only data fields:", ""),
];

/// Labels that are not names of fields in other projects.
const LABELS: [(&str, &str); 8] = [
    ("VM-functions control", "vm_function_controls"),
    ("EPTP ptr", "ept_pointer"),
    ("Virt-Xcpt info addr", "virtualization_exception_information_address"),
    ("Tertiary processor ctls", "tertiary_processor_based_vm_execution_controls"),
    ("DBGCTL", "ia32_debugctl"),
    ("PERFGLOBALCTRL", "ia32_perf_global_ctrl"),
    ("Page-fault mask", "page_fault_error_code_mask"),
    ("Page-fault match", "page_fault_error_code_match"),
];

/// Fewest fields that make a VMCS.
const FEWEST: usize = 3;

/// The last VMCS in a log, and the name of the cause beside it.
pub(super) fn find(lines: &[Line]) -> Option<(Dump, Option<&'static str>)> {
    let begin = lines.iter().rposition(|line| untimed(&line.text) == "VMCS cache:")?;
    let mut items = Vec::new();
    let mut in_braces = Vec::new();
    let mut section = None;
    for line in &lines[begin + 1..] {
        let text = untimed(&line.text);
        if let Some((_, word)) = SECTIONS.iter().find(|(header, _)| *header == text) {
            section = Some(*word);
        } else if text.starts_with("!!") || text == "VMCS cache:" {
            break;
        } else if let (Some(word), Some((label, value))) = (section, text.split_once('=')) {
            let column = line.text.len() - value.trim_start().len();
            match value.trim_start().strip_prefix('{') {
                Some(parts) => descriptor(line, word, label.trim(), parts, &mut in_braces),
                None => items.extend(item(line, word, label.trim(), column)),
            }
        }
    }
    let mut values = gather(&items, Longest::of(lines));
    for (field, value, line) in in_braces {
        values.give(names::FieldName { field, high: false }, value, line);
    }
    let empty = FieldId::all().all(|field| values.value(field).is_none_or(|value| value == 0));
    if values.known() < FEWEST || empty {
        return None;
    }
    let mut dump = Dump { line: lines[begin].number, ..Dump::new("VirtualBox") };
    values.fill(&mut dump);
    dump.note("this is the VMCS of the hypervisor inside of the virtual machine");
    let beside = lines[begin.saturating_sub(BESIDE)..begin].iter().rev().find_map(super::causes::diagnosis);
    Some((dump, beside.map(|(name, _)| name)))
}

/// So many lines before the VMCS tell more of it.
const BESIDE: usize = 24;

/// The text without the time since start.
pub(super) fn untimed(text: &str) -> &str {
    let time = text.split_once(' ').filter(|(time, _)| {
        time.len() > 8 && time.contains(':') && time.chars().all(|c| c.is_ascii_digit() || c == ':' || c == '.')
    });
    time.map_or(text, |(_, rest)| rest).trim()
}

/// The field of a label in a section.
fn field(word: &str, label: &str) -> Option<FieldId> {
    let own = LABELS.iter().find(|(own, _)| *own == label).map(|(_, name)| *name);
    let label = own.unwrap_or(label);
    let named = (!word.is_empty()).then(|| names::field(&format!("{word} {label}"))).flatten();
    named.or_else(|| names::field(label)).filter(|name| !name.high).map(|name| name.field)
}

/// A value of its own. One without 0x is a count, a length or a reason, which are decimal.
fn item<'t>(line: &'t Line, word: &str, label: &str, column: usize) -> Option<Item<'t>> {
    let field = field(word, label)?;
    let item = Item::at(line, column, field);
    Some(Item { typed: true, ..item })
}

/// The values of a segment or table in braces. What is not followed by anything may be cut off.
pub(super) fn descriptor(
    line: &Line,
    word: &str,
    label: &str,
    parts: &str,
    values: &mut Vec<(FieldId, Result<u64, String>, usize)>,
) {
    for (i, part) in parts.split_whitespace().enumerate() {
        let closed = part.ends_with('}') || parts.trim_end().ends_with('}');
        let part = part.trim_end_matches('}');
        let (kind, number) = match part.split_once('=') {
            Some(("flags", number)) => ("access_rights", number),
            Some((kind, number)) => (kind, number),
            None if i == 0 => ("selector", part),
            None => continue,
        };
        let Some(name) = names::field(&format!("{word}_{label}_{kind}")) else { continue };
        let whole =
            closed || part.len() < parts.len() && parts.find(part).is_some_and(|at| at + part.len() < parts.len());
        let value = match Printed::read(number).filter(|printed| printed.rest.is_empty()) {
            Some(printed) if whole => printed.hex().ok_or_else(|| "more than 64 bits".to_owned()),
            Some(_) => Err("cut off".to_owned()),
            None => Err(format!("{number:?} is no number")),
        };
        values.push((name.field, value, line.number));
    }
}

#[cfg(test)]
mod tests {
    use crate::dump::test_support::{every_cut_is_no_worse, known, values_of};
    use crate::log;

    const TEXT: &str = "00:00:09.000001 VMX hwvirt state:\n00:00:09.000002   GCPhysVmcs                 = 0x12340000\n\
        00:00:09.000003   enmDiag                    = 141 (GuestCr0Fixed0)\n00:00:09.000004   VMCS cache:\n\
        00:00:09.000005   Header:\n00:00:09.000006     VMCS revision id           = 0x40000001\n\
        00:00:09.000007   Control:\n00:00:09.000008     Pin ctls                   = 0x16\n\
        00:00:09.000009     VM-entry instr length      = 3 byte(s)\n00:00:09.000010     EPTP ptr                   = 0x10001e\n\
        00:00:09.000011     VM-entry MSR load count    = 12\n\
        00:00:09.000012   Guest state:\n00:00:09.000013     CR0                        = 0x60000010\n\
        00:00:09.000014     CS    = {0010 base=0000000000000000 limit=ffffffff flags=a09b}\n\
        00:00:09.000015     GDTR  = {base=0000000000001000 limit=0000007f}\n\
        00:00:09.000016     VMCS link ptr              = 0xffffffffffffffff\n\
        00:00:09.000017   Host state:\n00:00:09.000018     CR0                        = 0x80050033\n\
        00:00:09.000019     CS    = 0x10\n00:00:09.000020     FS    = {0018 base=0000000000002000}\n\
        00:00:09.000021   Read-only data fields:\n00:00:09.000022     Exit reason                = 33 (VMX_EXIT_ERR_INVALID_GUEST_STATE)\n\
        00:00:09.000023     Valid = 1\n!! next\n";

    #[test]
    fn the_vmcs_is_read() {
        let dumps = super::super::find(&log::lines(TEXT));
        let expected = [
            ("pin_based_vm_execution_controls", 0x16),
            ("vm_entry_instruction_length", 3),
            ("ept_pointer", 0x10_001E),
            ("vm_entry_msr_load_count", 12),
            ("guest_cr0", 0x6000_0010),
            ("guest_cs_selector", 0x10),
            ("guest_cs_base", 0),
            ("guest_cs_limit", 0xFFFF_FFFF),
            ("guest_cs_access_rights", 0xA09B),
            ("guest_gdtr_base", 0x1000),
            ("guest_gdtr_limit", 0x7F),
            ("vmcs_link_pointer", u64::MAX),
            ("host_cr0", 0x8005_0033),
            ("host_cs_selector", 0x10),
            ("host_fs_selector", 0x18),
            ("host_fs_base", 0x2000),
            ("exit_reason", 33),
        ];
        assert_eq!(dumps.iter().map(known).collect::<Vec<_>>(), [values_of(&expected)]);
        let named: Vec<_> =
            dumps[0].named.iter().filter_map(|named| named.check).map(|check| check.to_string()).collect();
        assert_eq!(named, ["guest.cr0.fixed0"]);
        every_cut_is_no_worse(TEXT);
    }

    #[test]
    fn the_end_of_the_entry_is_told_elsewhere() {
        let text = format!("vmlaunch: VM-entry failed! enmDiag=141 (GuestCr0Fixed0) -> VM-exit\n{TEXT}");
        let dumps = super::super::find(&log::lines(&text));
        assert_eq!(dumps.len(), 1);
        assert_eq!(dumps[0].reported.map(|reported| reported.to_string()).as_deref(), Some("EntryFailed(33, 0)"));
    }
}
