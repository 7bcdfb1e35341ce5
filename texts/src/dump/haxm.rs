//! Reading HAXM's dump, which has a line for each field, with its encoding.

use vmcs_model::field::{self, Encoding};

use super::contents::Dump;
use crate::log::Line;

/// The dump in a log.
pub(super) fn find(lines: &[Line]) -> Vec<Dump> {
    let mut dump = Dump::new("HAXM");
    for Line { text: line, .. } in lines {
        let Some((encoding, rest)) = line.split_once(' ') else { continue };
        let Some((name, value)) = rest.split_once(':') else { continue };
        let named = !name.is_empty() && name.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_');
        if encoding.len() != 4 || !named {
            continue;
        }
        let Some(field) = u32::from_str_radix(encoding, 16).ok().and_then(|number| Encoding(number).field()) else {
            continue;
        };
        let value = value.trim();
        let digits = value.strip_prefix("0x").unwrap_or(value);
        dump.take(field, u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+')));
    }
    if dump.known() == 0 {
        return Vec::new();
    }
    if let Some(error @ 1..) = dump.vmcs.raw(field::VM_INSTRUCTION_ERROR.id()) {
        dump.note(format!(
            "vm_instruction_error is {error}: that of the last VMX instruction that failed, which need not be this VM entry"
        ));
    }
    dump.note("VM-exit information fields are those of the last VM exit");
    vec![dump]
}
