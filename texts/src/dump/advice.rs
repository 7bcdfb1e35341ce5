//! How to get a dump out of the program that printed an error.

use super::contents::{Dump, Reported};

/// How to get KVM to print a VMCS that a processor refuses.
const KVM: &str = "KVM prints the VMCS into the kernel log when an entry fails: echo 1 | sudo tee \
                   /sys/module/kvm_intel/parameters/dump_invalid_vmcs, then run the guest again and look at dmesg";

/// What to do in order to see the VMCS whose entry failed, by the program that printed the line. `None` if the dump shows it
/// already, or the program is not known.
#[must_use]
pub fn advice(dump: &Dump) -> Option<&'static str> {
    if dump.reported == Some(Reported::Svm) {
        return Some(
            "There is no VMCS on an AMD processor: echo 1 | sudo tee /sys/module/kvm_amd/parameters/dump_invalid_vmcb makes \
             KVM print the VMCB",
        );
    }
    Some(match dump.format {
        "Xen" if dump.known() == 0 => {
            "Xen prints the VMCS behind this line into its console: xl dmesg; the debug key v prints those of all guests"
        }
        // It shows the registers, not the VMCS.
        "QEMU" | "KVM trace" | "kontain" => KVM,
        "KVM tracepoint" => {
            "the hypervisor in the guest can print its VMCS; if it is KVM: echo 1 | sudo tee \
             /sys/module/kvm_intel/parameters/dump_invalid_vmcs, inside of the guest"
        }
        "bhyve" => "the fields of a virtual processor are shown by: bhyvectl --vm=NAME --cpu=N --get-all",
        _ if dump.known() > 0 => return None,
        "Firecracker" | "kvm-ioctls" | "Cloud Hypervisor" | "crosvm" | "openvmm" | "uhyve" | "dosemu2" | "KVM"
        | "number" => KVM,
        "ACRN" => {
            "ACRN prints no VMCS: read its fields with exec_vmread before the assertion, and give them as \"NAME = VALUE\""
        }
        "Jailhouse" => {
            "Jailhouse prints a part of the guest state behind this line: give the lines that follow it, too"
        }
        "VirtualBox" => {
            "VBox.log names the check that VirtualBox found violated: give all of it, from the first line to the last"
        }
        "WHPX" => {
            "Hyper-V refuses the registers that QEMU gives it and shows no VMCS: compare them with QEMU's info registers"
        }
        "Hypervisor.framework" => {
            "macOS shows no VMCS: read the fields with hv_vmx_vcpu_read_vmcs after the failure, and print each as \
             \"VMCS_NAME: VALUE\""
        }
        "HyperDbg" | "HyperPlatform" | "barevisor" | "error line" => {
            "VMREAD still works after a failed entry: print each field as \"NAME = VALUE\" in hexadecimal, in the names of any \
             project, and give all of these lines"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::find;

    #[test]
    fn an_error_line_alone_comes_with_advice() {
        for (text, words) in [
            ("KVM: entry failed, hardware error 0x80000021\n", "dump_invalid_vmcs"),
            ("KVM: entry failed, hardware error 0xffffffff\n", "dump_invalid_vmcb"),
            ("2147483681", "dump_invalid_vmcs"),
            ("VmFailValid with 7\n", "VMREAD still works"),
        ] {
            let dumps = find(text);
            assert!(advice(&dumps[0]).is_some_and(|advice| advice.contains(words)), "{text}: {dumps:?}");
        }
        assert!(advice(&Dump::new("Xen")).is_some_and(|advice| advice.contains("xl dmesg")));
        let bhyve = find("vm exit[0]\n\tstatus\t\t2\n\tinst_error\t\t7\n");
        assert!(advice(&bhyve[0]).is_some_and(|advice| advice.contains("bhyvectl")));
        let list = find("GUEST_CR0 = 0x1\nGUEST_CR3 = 0x2\nGUEST_RIP = 0xfff0\nGUEST_RSP = 0x3\n");
        assert_eq!(advice(&list[0]), None);
    }
}
