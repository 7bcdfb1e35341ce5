//! The registers of the guest as VirtualBox has them, of which it makes the guest-state area: the section {cpumguest}.

use vmcs_model::field::{self, FieldId};

use super::super::collect::Collected;
use super::super::contents::Dump;
use super::super::number::Printed;
use super::nested::{descriptor, untimed};
use crate::log::Line;
use crate::names::FieldName;

/// What begins the section.
const SECTION: &str = "{cpumguest,";

/// Segment registers, as the section spells them.
const SEGMENTS: [&str; 8] = ["cs", "ds", "es", "fs", "gs", "ss", "ldtr", "tr"];

/// Gives the dump the registers that go into the VMCS as they are. In real mode VirtualBox may run the guest in virtual-8086
/// mode, with other segments and flags than these.
pub(super) fn fill(lines: &[Line], dump: &mut Dump) {
    let Some(begin) = lines.iter().rposition(|line| line.text.contains(SECTION)) else { return };
    let section = lines[begin + 1..].iter().take_while(|line| !untimed(&line.text).starts_with("!!"));
    let section: Vec<_> = section.collect();
    let cr0 = section.iter().find_map(|line| behind(untimed(&line.text), "cr0=")?.hex());
    let virtual_8086 = lines.iter().any(|line| line.text.contains("Real-on-v86 active = true"));
    if virtual_8086 || cr0.is_none_or(|cr0| cr0 & 1 == 0) {
        dump.note("the registers that VBox.log shows are not those of the VMCS, as the guest is in real mode");
        return;
    }
    let mut values = Collected::default();
    let mut give =
        |field: FieldId, value, line: &Line| values.give(FieldName { field, high: false }, value, line.number);
    for line in section {
        let text = untimed(&line.text);
        if let Some((label, parts)) = text.split_once("={")
            && SEGMENTS.contains(&label.trim())
        {
            let parts = parts.find('}').map_or(parts, |end| &parts[..=end]);
            let mut found = Vec::new();
            descriptor(line, "guest", label.trim(), parts, &mut found);
            for (field, value, _) in found {
                let rights = field.info().name.ends_with("access_rights");
                let value = value.and_then(|value| match value {
                    0 if rights => Err("VirtualBox makes an unusable segment of access rights that are 0".to_owned()),
                    value => Ok(value),
                });
                give(field, value, line);
            }
        }
        for (label, base, limit) in [
            ("gdtr=", field::GUEST_GDTR_BASE.id(), field::GUEST_GDTR_LIMIT.id()),
            ("idtr=", field::GUEST_IDTR_BASE.id(), field::GUEST_IDTR_LIMIT.id()),
        ] {
            let Some((_, table)) = text.split_once(label) else { continue };
            let word = table.split(' ').next().unwrap_or_default();
            let Some((address, size)) = word.split_once(':').filter(|(_, size)| size.len() == 4) else { continue };
            for (field, digits) in [(base, address), (limit, size)] {
                give(field, u64::from_str_radix(digits, 16).map_err(|_| format!("{digits:?} is no number")), line);
            }
        }
        if let Some(flags) = behind(text, "eflags=").filter(|flags| flags.len() == 8) {
            give(field::GUEST_RFLAGS.id(), flags.hex().ok_or_else(String::new), line);
        }
    }
    values.fill(dump);
    dump.note("the registers are those that VirtualBox makes the guest-state area of: what it changes on the way is not shown");
}

/// The number behind a label that begins a word.
fn behind<'t>(text: &'t str, label: &str) -> Option<Printed<'t>> {
    let at =
        text.match_indices(label).find(|(at, _)| text[..*at].chars().next_back().is_none_or(char::is_whitespace))?.0;
    Printed::read(&text[at + label.len()..])
}

#[cfg(test)]
mod tests {
    use crate::dump::test_support::{every_cut_is_no_worse, known, values_of};
    use crate::log;

    const TEXT: &str = "00:00:05.1 HM: VERR_VMX_INVALID_GUEST_STATE:\n00:00:05.2 HM: CPU[0] HM error = 0x20a (522)\n\
        00:00:05.3 !! {cpumguest, verbose}\n\
        00:00:05.4 cs={0008 base=0000000000000000 limit=ffffffff flags=0000a093}\n\
        00:00:05.5 cr0=0000000080010033 cr2=0000000000000000 cr3=0000000000001000 cr4=0000000000000020\n\
        00:00:05.6 gdtr=fffff80000001000:0057  idtr=fffff80000002000:0fff  eflags=00000246\n\
        00:00:05.7 ldtr={0000 base=00000000 limit=00000000 flags=00010000}\n\
        00:00:05.8 tr  ={0040 base=fffff80000003000 limit=00000067 flags=0000008b}\n00:00:05.9 !! {next}\n\
        00:00:05.9 ss={0099 base=0000000000000000 limit=ffffffff flags=0000a09b}\n";

    #[test]
    fn registers_are_taken_for_the_guest_state() {
        let dumps = super::super::find(&log::lines(TEXT));
        let expected = [
            ("guest_cs_selector", 8),
            ("guest_cs_base", 0),
            ("guest_cs_limit", 0xFFFF_FFFF),
            ("guest_cs_access_rights", 0xA093),
            ("guest_gdtr_base", 0xFFFF_F800_0000_1000),
            ("guest_gdtr_limit", 0x57),
            ("guest_idtr_base", 0xFFFF_F800_0000_2000),
            ("guest_idtr_limit", 0xFFF),
            ("guest_rflags", 0x246),
            ("guest_ldtr_selector", 0),
            ("guest_ldtr_base", 0),
            ("guest_ldtr_limit", 0),
            ("guest_ldtr_access_rights", 0x1_0000),
            ("guest_tr_selector", 0x40),
            ("guest_tr_base", 0xFFFF_F800_0000_3000),
            ("guest_tr_limit", 0x67),
            ("guest_tr_access_rights", 0x8B),
        ];
        assert_eq!(dumps.iter().map(known).collect::<Vec<_>>(), [values_of(&expected)]);
        every_cut_is_no_worse(TEXT);
        let unusable = super::super::find(&log::lines(&TEXT.replace("flags=00010000", "flags=00000000")));
        assert_eq!((known(&unusable[0]).len(), unusable[0].damage.len()), (expected.len() - 1, 1));
    }

    #[test]
    fn registers_in_real_mode_are_not() {
        let real = TEXT.replace("cr0=0000000080010033", "cr0=0000000000010032");
        let emulated = format!("Real-on-v86 active = true\n{TEXT}");
        for text in [real, emulated, TEXT.replace("cr0=", "")] {
            assert_eq!(known(&super::super::find(&log::lines(&text))[0]), [], "{text}");
        }
    }
}
