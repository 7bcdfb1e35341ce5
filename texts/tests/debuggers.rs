//! Linux' `struct vmcs12` as debuggers print it.

use vmcs_model::field::FieldId;
use vmcs_texts::diagnosis::PartialEntry;
use vmcs_texts::dump::{self, Dump};

const MEMBERS: [(&str, &str, u64); 9] = [
    ("vmcs_link_pointer", "vmcs_link_pointer", u64::MAX),
    ("guest_ia32_pat", "guest_ia32_pat", 0x0007_0406_0007_0406),
    ("guest_cr0", "guest_cr0", 0x8005_0033),
    ("guest_sysenter_esp", "guest_ia32_sysenter_esp", 0xFFFF_FE00_0000_3000),
    ("pin_based_vm_exec_control", "pin_based_vm_execution_controls", 0x16),
    ("vm_entry_intr_info_field", "vm_entry_interruption_information", 0x8000_0B0D),
    ("guest_cs_ar_bytes", "guest_cs_access_rights", 0xA09B),
    ("guest_pml_index", "pml_index", 511),
    ("host_rip", "host_rip", 0xFFFF_FFFF_8120_0000),
];

fn crash(hexadecimal: bool) -> String {
    let number = |value: u64| if hexadecimal { format!("{value:#x}") } else { value.to_string() };
    let members: String = MEMBERS.iter().map(|(name, _, value)| format!("  {name} = {}, \n", number(*value))).collect();
    let revision = number(0x11E5_7ED0);
    format!(
        "struct vmcs12 {{\n  hdr = {{\n    revision_id = {revision}, \n    shadow_vmcs = {}\n  }}, \n  abort = {}, \n{members}}}\n",
        number(0),
        number(0)
    )
}

fn gdb(pretty: bool) -> String {
    let members: Vec<_> = MEMBERS.iter().map(|(name, _, value)| format!("{name} = {value}")).collect();
    if pretty {
        let members: String = members.iter().map(|member| format!("  {member},\n")).collect();
        return format!(
            "$1 = {{\n  hdr = {{\n    revision_id = 300252880,\n    shadow_vmcs = 0\n  }},\n  abort = 0,\n{members}}}\n"
        );
    }
    format!("$1 = {{hdr = {{revision_id = 300252880, shadow_vmcs = 0}}, abort = 0, {}}}\n", members.join(", "))
}

fn drgn() -> String {
    let members: String =
        MEMBERS.iter().map(|(name, _, value)| format!("\t.{name} = (natural_width){value},\n")).collect();
    format!(
        "(struct vmcs12){{\n\t.hdr = (struct vmcs_hdr){{\n\t\t.revision_id = (u32)300252880,\n\t\t.shadow_vmcs = (u32)0,\n\t}},\n{members}}}\n"
    )
}

fn values(dump: &Dump) -> Vec<(FieldId, u64)> {
    FieldId::all().filter_map(|field| Some((field, dump.vmcs.raw(field)?))).collect()
}

#[test]
fn members_are_fields() {
    let mut expected: Vec<_> =
        MEMBERS.iter().map(|(_, name, value)| (FieldId::by_name(name).expect("a field"), *value)).collect();
    expected.sort();
    for text in [crash(true), crash(false), gdb(true), gdb(false), drgn()] {
        let dumps = dump::find(&text);
        assert_eq!(dumps.iter().map(values).collect::<Vec<_>>(), std::slice::from_ref(&expected), "{text}");
        // No value of a part is another one, and no part violates a check.
        for end in (0..text.len()).rev() {
            for dump in dump::find(&text[..end]) {
                assert!(
                    values(&dump).iter().all(|value| expected.contains(value)),
                    "{end}: {:?}",
                    text[..end].lines().last()
                );
                let entry = PartialEntry::of_dump(dump);
                let verdict = *entry.diagnose(&vmcs_model::Capabilities::new(&Default::default())).verdict();
                assert!(verdict.violated.iter().next().is_none(), "{end}");
            }
        }
    }
}
