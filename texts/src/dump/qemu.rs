//! Reading the registers that QEMU prints after `KVM: entry failed, hardware error`. They are the state that the guest
//! sees; some of it is not in the VMCS.

use std::ops::Range;

use vmcs_model::formats::AccessRights;

use super::contents::{Dump, Reported};
use super::pattern::{Hole, Text, field};
use super::values::Values;
use crate::log::Line;

/// What stands before the number of the error.
const FAILED: &str = "KVM: entry failed, hardware error";

/// What lines hold that matter here.
pub(super) const MARKERS: &[&str] = &["KVM: entry failed", "hardware error 0x"];

const SEGMENTS: [(&str, &str); 8] = [
    ("ES ={selector:4} {base:8+} {limit:8} {flags:8}", "es"),
    ("CS ={selector:4} {base:8+} {limit:8} {flags:8}", "cs"),
    ("SS ={selector:4} {base:8+} {limit:8} {flags:8}", "ss"),
    ("DS ={selector:4} {base:8+} {limit:8} {flags:8}", "ds"),
    ("FS ={selector:4} {base:8+} {limit:8} {flags:8}", "fs"),
    ("GS ={selector:4} {base:8+} {limit:8} {flags:8}", "gs"),
    ("LDT={selector:4} {base:8+} {limit:8} {flags:8}", "ldtr"),
    ("TR ={selector:4} {base:8+} {limit:8} {flags:8}", "tr"),
];
const OTHERS: [&str; 4] = [
    "GDT= {guest_gdtr_base:8+} {guest_gdtr_limit:8}",
    "IDT= {guest_idtr_base:8+} {guest_idtr_limit:8}",
    "RIP={guest_rip:16}",
    "EIP={guest_rip:8+}",
];
const FLAGS: [&str; 2] = ["RFL={guest_rflags:8+}", "EFL={guest_rflags:8+}"];

/// The dumps in a log: one for each line that says that an entry failed, or one if there are only registers.
pub(super) fn find(lines: &[Line]) -> Vec<Dump> {
    let failed: Vec<_> =
        lines.iter().enumerate().filter(|(_, line)| line.text.contains(FAILED)).map(|(at, _)| at).collect();
    let registers = lines.iter().any(|line| line.text.contains("CR0="));
    if failed.is_empty() && !registers {
        return Vec::new();
    }
    let text = Text::new(lines);
    let begin = |line: usize| text.begin(line);
    // The monitor's `info registers -a` shows one processor after the other.
    let processor = |line: &Line| {
        let number = line.text.strip_prefix("CPU#");
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()))
    };
    let mut starts = failed.clone();
    starts.extend(lines.iter().enumerate().filter(|(_, line)| processor(line)).map(|(at, _)| at));
    starts.sort_unstable();
    if failed.is_empty() && starts.first() != Some(&0) {
        starts.insert(0, 0);
    }
    let mut dumps = Vec::new();
    for (n, &start) in starts.iter().enumerate() {
        let end = starts.get(n + 1).map_or(text.as_str().len(), |next| begin(*next));
        let part = begin(start)..end;
        let mut dump = block(&text, part.clone());
        dump.line = lines[start].number;
        if failed.contains(&start) {
            let error = text.error_number(part, FAILED);
            dump.reported = error.and_then(|error| Reported::hardware_error(error, None));
        }
        if dump.known() > 0 || dump.reported.is_some() {
            dumps.push(dump);
        }
    }
    dumps
}

/// The registers in a part of the text.
fn block(text: &Text, part: Range<usize>) -> Dump {
    let mut dump = Dump::new("QEMU");
    let cr0 = text.find(part.clone(), "CR0={cr0:8}").and_then(|hole| hole.value.ok());
    let Some(cr0) = cr0 else {
        dump.note("QEMU's registers are not shown");
        return dump;
    };
    let mut values = Values::default();
    let mut read = |patterns: &[&'static str]| {
        for pattern in patterns {
            for holes in text.find_all(part.clone(), pattern) {
                values.add(text, &holes);
            }
        }
    };
    read(&OTHERS);
    let protected = cr0 & 1 != 0;
    if protected {
        read(&FLAGS);
        segments(text, &part, &mut values);
    }
    values.give(&mut dump, false);
    dump.note(
        "QEMU shows the registers as the guest sees them: CR0, CR3, CR4, EFER and DR7 are not taken for the VMCS's",
    );
    if !protected {
        dump.note(
            "in real mode KVM may run the guest in virtual-8086 mode, with other segments and RFLAGS than QEMU shows: they \
             are taken as unknown",
        );
    }
    dump.note(
        "QEMU shows no control and no host state; KVM's dump in the kernel log does (kvm_intel.dump_invalid_vmcs=1)",
    );
    dump
}

/// The segment registers.
fn segments(text: &Text, part: &Range<usize>, values: &mut Values) {
    for (pattern, segment) in SEGMENTS {
        for hole in text.find_all(part.clone(), pattern).into_iter().flatten() {
            let Hole { name, at, value } = hole;
            let (name, value) =
                if name == "flags" { ("access_rights", value.map(access_rights)) } else { (name, value) };
            values.set(field(&format!("guest_{segment}_{name}")), text.line(at), value);
        }
    }
}

/// Access rights out of the upper dword of a descriptor; QEMU shows an unusable segment as 0.
fn access_rights(flags: u64) -> u64 {
    if flags == 0 { AccessRights::new().with_unusable(true).into_bits().into() } else { flags >> 8 & 0xF0FF }
}

#[cfg(test)]
mod tests {
    use vmcs_model::field;

    use super::*;
    use crate::log;

    #[test]
    fn the_registers_of_each_processor_are_one_dump() {
        let registers = |processor: usize, rights: &str| {
            format!(
                "CPU#{processor}\nRIP=ffffffff81000000 RFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\n\
                 TR =0040 fffffe0000003000 00000067 {rights} DPL=0 TSS64-busy\n\
                 CR0=80050033 CR2=0000000000000000 CR3=0000000000001000 CR4=00002020\n\n"
            )
        };
        let dumps = find(&log::lines(&format!("{}{}", registers(0, "00008b00"), registers(1, "00008900"))));
        let rights: Vec<_> = dumps.iter().map(|dump| dump.vmcs.raw(field::GUEST_TR_ACCESS_RIGHTS.id())).collect();
        assert_eq!(rights, [Some(0x8B), Some(0x89)]);
        assert_eq!(dumps.iter().map(|dump| dump.line).collect::<Vec<_>>(), [1, 6]);
    }
}
