//! Reading the registers that QEMU prints after `KVM: entry failed, hardware error`. They are the state that the guest
//! sees; some of it is not in the VMCS.

use vmcs_model::formats::AccessRights;

use super::contents::{Dump, Reported};
use super::pattern::{field, read};
use crate::log::Line;

const SEGMENTS: [(&str, &str); 8] = [
    ("ES ={selector} {base} {limit} {flags}", "es"),
    ("CS ={selector} {base} {limit} {flags}", "cs"),
    ("SS ={selector} {base} {limit} {flags}", "ss"),
    ("DS ={selector} {base} {limit} {flags}", "ds"),
    ("FS ={selector} {base} {limit} {flags}", "fs"),
    ("GS ={selector} {base} {limit} {flags}", "gs"),
    ("LDT={selector} {base} {limit} {flags}", "ldtr"),
    ("TR ={selector} {base} {limit} {flags}", "tr"),
];
const OTHERS: [&str; 4] = [
    "GDT= {guest_gdtr_base} {guest_gdtr_limit}",
    "IDT= {guest_idtr_base} {guest_idtr_limit}",
    "RIP={guest_rip}",
    "EIP={guest_rip}",
];

/// The dump in a log.
pub(super) fn find(lines: &[Line]) -> Vec<Dump> {
    let text = &super::joined(lines);
    let number = |pattern| read(text, pattern).and_then(|values| values.first().and_then(|(_, value)| *value));
    let mut dump = Dump::new("QEMU");
    let cr0 = number("CR0={cr0}");
    let protected = cr0.is_some_and(|cr0| cr0 & 1 != 0);
    for pattern in OTHERS {
        for (name, value) in read(text, pattern).unwrap_or_default() {
            dump.take(field(name), value);
        }
    }
    if protected {
        segments(text, &mut dump);
        for pattern in ["RFL={guest_rflags}", "EFL={guest_rflags}"] {
            for (name, value) in read(text, pattern).unwrap_or_default() {
                dump.take(field(name), value);
            }
        }
    }
    dump.reported = number("KVM: entry failed, hardware error {n}").and_then(|n| Reported::hardware_error(n, None));
    if cr0.is_none() || dump.known() == 0 {
        return Vec::new();
    }
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
    vec![dump]
}

/// The segment registers.
fn segments(text: &str, dump: &mut Dump) {
    for (pattern, segment) in SEGMENTS {
        let Some(values) = read(text, pattern) else { continue };
        for (name, value) in values {
            let (part, value) =
                if name == "flags" { ("access_rights", value.map(access_rights)) } else { (name, value) };
            dump.take(field(&format!("guest_{segment}_{part}")), value);
        }
    }
}

/// Access rights out of the upper dword of a descriptor; QEMU shows an unusable segment as 0.
fn access_rights(flags: u64) -> u64 {
    if flags == 0 { AccessRights::new().with_unusable(true).into_bits().into() } else { flags >> 8 & 0xF0FF }
}
