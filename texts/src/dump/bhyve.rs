//! Reading what bhyve and its descendants xhyve and hyperkit print: the `vm exit[N]` block, the registers that `bhyvectl
//! --get-all` lists, and hvdump, which xhyve and hyperkit print when the guest cannot be entered.

use std::collections::BTreeMap;

use vmcs_model::Outcome;
use vmcs_model::field::{self, FieldId};
use vmcs_model::formats::exit_reason;

use super::contents::{Dump, Reported};
use super::items::Item;
use super::list::{Longest, gather};
use super::number::Printed;
use crate::log::Line;
use crate::names;

/// In the first lines of the exit block, the list of registers and hvdump stands one of these.
pub(super) const MARKERS: &[&str] = &["vm exit[", "cs desc[", "cs[0]", "VMCS_PIN_BASED_CTLS:"];

/// Fewest registers that make a list.
const FEWEST: usize = 3;

/// Every value of hvdump has as many digits as one of so many bits.
const HVDUMP_BITS: u32 = 64;

/// The values of hvdump begin in that column.
const HVDUMP_COLUMN: usize = 31;

/// All that a log holds of the family.
pub(super) fn find(lines: &[Line]) -> Vec<Dump> {
    let mut dumps = registers(lines);
    dumps.extend(hvdump(lines));
    let ends: Vec<_> = (0..lines.len()).filter_map(|i| exit_block(&lines[i..])).collect();
    match (&mut dumps[..], ends.last()) {
        ([], _) => ends,
        ([.., dump], Some(end)) if dump.reported.is_none() => {
            dump.reported = end.reported;
            dumps
        }
        _ => dumps,
    }
}

/// The block that begins with the first line, if it tells of an entry that failed.
fn exit_block(lines: &[Line]) -> Option<Dump> {
    let (head, rest) = lines.split_first()?;
    if !head.text.starts_with("vm exit[") {
        return None;
    }
    let mut values: BTreeMap<&str, u64> = BTreeMap::new();
    for line in rest.iter().take(8) {
        let (name, value) = line.text.split_once(['\t', ' '])?;
        let Some(printed) = Printed::read(value.trim_start()) else { continue };
        // RIP and the qualification have 16 digits.
        let whole = if printed.marked && !value.contains('(') { printed.fills(64) } else { !line.cut };
        if let Some(value) = printed.value().filter(|_| whole) {
            values.insert(name, value);
        }
    }
    let value = |name| values.get(name).copied();
    let reported = match value("status")? {
        0 => {
            let reason = value("exit_reason")?;
            let fails = [exit_reason::INVALID_GUEST_STATE, exit_reason::MSR_LOADING, exit_reason::MACHINE_CHECK];
            if !fails.iter().any(|fail| u64::from(*fail) == reason) {
                return None;
            }
            Reported::hardware_error(reason | 1 << 31, value("qualification"))
        }
        1 => Some(Reported::Outcome { outcome: Outcome::FailInvalid, qualified: true }),
        2 => Reported::hardware_error(
            value("inst_error").filter(|error| matches!(error, 4..=8 | 16..=18 | 25 | 26))?,
            None,
        ),
        _ => None,
    }?;
    let mut dump = Dump { line: head.number, reported: Some(reported), ..Dump::new("bhyve") };
    if let (Some(rip), Reported::Outcome { outcome: Outcome::EntryFailed { .. }, .. }) = (value("rip"), reported) {
        dump.vmcs.set_raw(field::GUEST_RIP.id(), rip);
    }
    Some(dump)
}

/// The registers of `bhyvectl --get-all`, one dump for each virtual processor.
fn registers(lines: &[Line]) -> Vec<Dump> {
    let mut items: BTreeMap<u32, Vec<Item<'_>>> = BTreeMap::new();
    for line in lines {
        let Some((name, rest)) = line.text.split_once('[') else { continue };
        let Some((number, value)) = rest.split_once(']') else { continue };
        let (Ok(number), true) = (number.parse(), value.starts_with(['\t', ' '])) else { continue };
        let mut column = line.text.len() - value.trim_start().len();
        for field in register(name) {
            items.entry(number).or_default().push(Item::at(line, column, field));
            column = line.text[column..].find('/').map_or(line.text.len(), |at| column + at + 1);
        }
    }
    let longest = Longest::of(lines);
    let dumps = items.into_values().filter_map(|items| {
        let values = gather(&items, longest);
        let mut dump = Dump::new("bhyvectl");
        dump.line = items.first()?.line;
        (values.known() >= FEWEST).then(|| values.fill(&mut dump))?;
        Some(dump)
    });
    dumps.collect()
}

/// The fields whose values `bhyvectl` prints for a register, with slashes between them.
fn register(name: &str) -> Vec<FieldId> {
    let guest = |part: &str| names::field(&format!("guest_{part}")).map(|name| name.field);
    let parts: &[&str] = match name.split_once(' ') {
        Some((_, "desc")) => &["base", "limit", "access_rights"],
        None if matches!(name, "gdtr" | "idtr") => &["base", "limit"],
        None if name == "gpa" => return vec![field::GUEST_PHYSICAL_ADDRESS.id()],
        None if name == "gla" => return vec![field::GUEST_LINEAR_ADDRESS.id()],
        None => return names::field(name).map(|name| name.field).or_else(|| guest(name)).into_iter().collect(),
        Some(_) => return Vec::new(),
    };
    let register = name.split(' ').next().unwrap_or(name);
    parts.iter().filter_map(|part| guest(&format!("{register}_{part}"))).collect()
}

/// What xhyve and hyperkit print of the VMCS.
fn hvdump(lines: &[Line]) -> Option<Dump> {
    let mut items = Vec::new();
    // Every value has 16 digits, whatever the width of the field.
    let mut narrow = false;
    for line in lines {
        let Some((name, value)) = line.text.split_once(':') else { continue };
        let column = line.text.len() - value.trim_start().len();
        let whole =
            Printed::read(&line.text[column..]).is_some_and(|printed| printed.marked && printed.fills(HVDUMP_BITS));
        let name = name.strip_prefix("VMCS_").filter(|_| column == HVDUMP_COLUMN);
        if let Some(name) = name.and_then(names::field) {
            narrow |= whole && name.field.info().width().bits() < HVDUMP_BITS;
            let mut item = Item::at(line, column, name.field);
            if !whole {
                item.value = Err("fewer than 16 digits".to_owned());
            }
            items.push(item);
        } else if !items.is_empty() {
            items.extend(general_registers(line));
        }
    }
    let tables = [field::GUEST_IDTR_BASE.id(), field::GUEST_IDTR_LIMIT.id()];
    // Its list of names holds no exit controls and no host state; another list with such names is not this one.
    let stranger = |item: &Item<'_>| {
        let name = item.field.map_or("", |name| name.field.info().name);
        name.starts_with("host") || name.starts_with("vm_exit") || name == "primary_vm_exit_controls"
    };
    if !narrow || items.iter().any(stranger) {
        return None;
    }
    items.retain(|item| item.field.is_none_or(|name| !tables.contains(&name.field)));
    let values = gather(&items, Longest::of(lines));
    let mut dump = Dump::new("hvdump");
    dump.line = items.first()?.line;
    (values.known() >= FEWEST).then(|| values.fill(&mut dump))?;
    dump.note("the lines of IDTR show the values of LDTR: guest_idtr_base and guest_idtr_limit are not shown");
    Some(dump)
}

/// RIP, RFLAGS and RSP, which stand in the lines behind those of the VMCS.
fn general_registers(line: &Line) -> Vec<Item<'_>> {
    let registers =
        [("rip:", field::GUEST_RIP.id()), ("rfl:", field::GUEST_RFLAGS.id()), ("rsp:", field::GUEST_RSP.id())];
    let found = registers.iter().filter_map(|(name, field)| {
        let at = line.text.find(name)? + name.len();
        let column = line.text.len() - line.text[at..].trim_start().len();
        let begins = line.text.starts_with("r") && Printed::read(&line.text[column..]).is_some_and(|n| n.fills(64));
        begins.then(|| Item::at(line, column, *field))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::test_support::{every_cut_is_no_worse, known, values_of};
    use crate::log;

    const EXIT: &str = "vm exit[0]\n\treason\t\tVMX\n\trip\t\t0x000000000000fff0\n\tinst_length\t0\n\tstatus\t\t0\n\
                        \texit_reason\t33 (VM-entry failure due to invalid guest state)\n\
                        \tqualification\t0x0000000000000004\n\tinst_type\t\t0\n\tinst_error\t\t0\n";

    fn read(text: &str) -> Vec<Dump> {
        find(&log::lines(text))
    }

    fn reported(text: &str) -> Vec<String> {
        read(text).iter().filter_map(|dump| dump.reported).map(|reported| reported.to_string()).collect()
    }

    #[test]
    fn the_exit_block_reports() {
        assert_eq!(reported(EXIT), ["EntryFailed(33, 4)"]);
        assert_eq!(known(&read(EXIT)[0]), values_of(&[("guest_rip", 0xFFF0)]));
        let old = EXIT.replace("33 (VM-entry failure due to invalid guest state)", "0x00000021 (33)");
        assert_eq!(reported(&old), ["EntryFailed(33, 4)"]);
        let failed = EXIT.replace("status\t\t0", "status\t\t2").replace("inst_error\t\t0", "inst_error\t\t7");
        let failed = failed.replace("exit_reason\t33", "exit_reason\t4294967295");
        assert_eq!(reported(&failed), ["VMfailValid(7)"]);
        assert_eq!(reported(&failed.replace("status\t\t2", "status\t\t1")), ["VMfailInvalid"]);
        assert_eq!(reported(&EXIT.replace("33", "48")), [""; 0]);
        every_cut_is_no_worse(EXIT);
        every_cut_is_no_worse(&failed);
    }

    #[test]
    fn registers_of_bhyvectl_are_fields() {
        let text = "cs desc[0]\t0x0000000000000000/0x0000ffff/0x0000009b\ncs[0]\t\t0x0008\ngdtr[0]\t\t0x0000000000001000/0x0000007f\n\
                    cr0[0]\t\t0x0000000080050033\nrflags[0]\t\t0x0000000000000002\neptp[0]\t\t0x000000000010001e\n\
                    procbased_ctls2[0]\t0x00000082\nrax[0]\t\t0x0000000000000000\ncr0[1]\t\t0x0000000000000000\n";
        let dumps = read(text);
        let expected = [
            ("guest_cs_base", 0),
            ("guest_cs_limit", 0xFFFF),
            ("guest_cs_access_rights", 0x9B),
            ("guest_cs_selector", 8),
            ("guest_gdtr_base", 0x1000),
            ("guest_gdtr_limit", 0x7F),
            ("guest_cr0", 0x8005_0033),
            ("guest_rflags", 2),
            ("ept_pointer", 0x10_001E),
            ("secondary_processor_based_vm_execution_controls", 0x82),
        ];
        assert_eq!(dumps.iter().map(known).collect::<Vec<_>>(), [values_of(&expected)]);
        every_cut_is_no_worse(text);
    }

    #[test]
    fn hvdump_shows_no_idtr() {
        let text = "VMCS_PIN_BASED_CTLS:           0x0000000000000016\nVMCS_CR0_SHADOW:               0x0000000060000010\n\
                    VMCS_GUEST_CS_ACCESS_RIGHTS:   0x000000000000a09b\nVMCS_GUEST_LDTR_LIMIT:         0x0000000000000000\n\
                    VMCS_GUEST_IDTR_LIMIT:         0x0000000000000000\nVMCS_GUEST_IDTR_BASE:          0x0000000000000000\n\
                    VMCS_GUEST_CR0:                0x0000000000000021\n\nrip: 0x000000000000fff0 rfl: 0x0000000000000002 cr2: 0x0000000000000000\n\
                    rsi: 0x0000000000000000 rdi: 0x0000000000000000 rbp: 0x0000000000000000 rsp: 0x0000000000001000\nvmentry error\n";
        let expected = [
            ("pin_based_vm_execution_controls", 0x16),
            ("cr0_read_shadow", 0x6000_0010),
            ("guest_cs_access_rights", 0xA09B),
            ("guest_ldtr_limit", 0),
            ("guest_cr0", 0x21),
            ("guest_rip", 0xFFF0),
            ("guest_rflags", 2),
            ("guest_rsp", 0x1000),
        ];
        assert_eq!(known(&read(text)[0]), values_of(&expected));
        assert!(read(text)[0].notes[0].contains("LDTR"));
        every_cut_is_no_worse(text);
        // Cut short in the middle of a line.
        let cut = text.replace("0x000000000000a09b", "0x00000000");
        assert_eq!(known(&read(&cut)[0]).len(), expected.len() - 1);
        assert_eq!(read(&cut)[0].damage.len(), 1);
    }
}
