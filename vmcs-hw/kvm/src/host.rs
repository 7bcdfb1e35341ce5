//! Whether this host can execute VMX instructions in a virtual machine, and if not, why not.

use std::fs;
use std::io;

use kvm_bindings::{CpuId, KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::Kvm;

use crate::error::KvmError;
use crate::refusal::Refusal;

/// CPUID.1:ECX.VMX.
const VMX: u32 = 1 << 5;
const IA32_VMX_BASIC: u32 = 0x480;

/// What decides, besides KVM itself.
#[derive(Clone, Debug, Default)]
struct Host {
    /// Vendor of the processor in /proc/cpuinfo.
    vendor: String,
    /// Whether /proc/cpuinfo lists `vmx`.
    vmx: bool,
    /// The parameter `nested` of kvm_intel, if that is loaded.
    nested: Option<String>,
    /// Loaded modules of KVM.
    modules: Vec<String>,
}

impl Host {
    fn read() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let line = |name: &str| cpuinfo.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        let mut modules: Vec<_> = fs::read_dir("/sys/module")
            .map(|entries| entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
            .unwrap_or_default();
        modules.retain(|name: &String| name.starts_with("kvm"));
        modules.sort();
        Self {
            vendor: line("vendor_id").split_once(':').map_or("", |(_, vendor)| vendor.trim()).to_owned(),
            vmx: line("flags").split_whitespace().any(|flag| flag == "vmx"),
            nested: fs::read_to_string("/sys/module/kvm_intel/parameters/nested")
                .ok()
                .map(|value| value.trim().to_owned()),
            modules,
        }
    }

    /// Why the device does not open.
    fn not_opened(&self, error: &io::Error) -> Refusal {
        match error.kind() {
            io::ErrorKind::NotFound if self.vmx => Refusal::NoModule,
            io::ErrorKind::NotFound if self.vendor == "AuthenticAMD" => Refusal::Amd,
            io::ErrorKind::NotFound => Refusal::NoVmx,
            io::ErrorKind::PermissionDenied => Refusal::NoPermission,
            _ => Refusal::DoesNotOpen(error.to_string()),
        }
    }

    /// Why a KVM that opens offers no VMX.
    fn not_offered(&self) -> Refusal {
        if self.vendor == "AuthenticAMD" {
            return Refusal::Amd;
        }
        match self.nested.as_deref() {
            Some("N" | "0") => Refusal::NestedOff,
            Some(_) => Refusal::NotOffered,
            None if self.modules.is_empty() => Refusal::Software("none".to_owned()),
            None => Refusal::Software(self.modules.join(", ")),
        }
    }
}

/// Opens KVM, and returns the CPUID that its virtual machines can have, with VMX.
///
/// # Errors
/// [`KvmError::Refused`] if virtual machines cannot execute VMX instructions here.
pub fn open() -> Result<(Kvm, CpuId), KvmError> {
    let kvm = Kvm::new().map_err(|error| Host::read().not_opened(&io::Error::from_raw_os_error(error.errno())))?;
    let version = kvm.get_api_version();
    if u32::try_from(version) != Ok(KVM_API_VERSION) {
        return Err(Refusal::Version(version).into());
    }
    let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(KvmError::request("reading its CPUID"))?;
    let shows_vmx = cpuid.as_slice().iter().any(|entry| entry.function == 1 && entry.ecx & VMX != 0);
    let features = kvm.get_msr_feature_index_list().map_err(KvmError::request("reading its feature MSRs"))?;
    if !shows_vmx || !features.as_slice().contains(&IA32_VMX_BASIC) {
        return Err(Host::read().not_offered().into());
    }
    Ok((kvm, cpuid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intel() -> Host {
        Host {
            vendor: "GenuineIntel".to_owned(),
            vmx: true,
            nested: Some("Y".to_owned()),
            modules: vec!["kvm".to_owned(), "kvm_intel".to_owned()],
        }
    }

    #[test]
    fn each_reason_is_told_from_the_others() {
        let error = |kind| io::Error::from(kind);
        let amd = Host { vendor: "AuthenticAMD".to_owned(), vmx: false, nested: None, ..intel() };
        let software = Host { nested: None, modules: vec!["kvm".to_owned(), "kvm_pvm".to_owned()], ..intel() };
        assert_eq!(intel().not_opened(&error(io::ErrorKind::NotFound)), Refusal::NoModule);
        assert_eq!(amd.not_opened(&error(io::ErrorKind::NotFound)), Refusal::Amd);
        assert_eq!(Host { vmx: false, ..intel() }.not_opened(&error(io::ErrorKind::NotFound)), Refusal::NoVmx);
        assert_eq!(intel().not_opened(&error(io::ErrorKind::PermissionDenied)), Refusal::NoPermission);
        assert!(matches!(intel().not_opened(&error(io::ErrorKind::ResourceBusy)), Refusal::DoesNotOpen(_)));
        assert_eq!(amd.not_offered(), Refusal::Amd);
        assert_eq!(Host { nested: Some("N".to_owned()), ..intel() }.not_offered(), Refusal::NestedOff);
        assert_eq!(Host { nested: Some("0".to_owned()), ..intel() }.not_offered(), Refusal::NestedOff);
        assert_eq!(intel().not_offered(), Refusal::NotOffered);
        assert_eq!(software.not_offered(), Refusal::Software("kvm, kvm_pvm".to_owned()));
    }

    /// What the files of this host say is what KVM's own answer has to agree with.
    #[test]
    fn this_host_works_or_says_why_not() {
        let host = Host::read();
        let nested = matches!(host.nested.as_deref(), Some("Y" | "1"));
        match open() {
            Ok((_, cpuid)) => {
                assert!(nested, "{host:?}");
                assert!(cpuid.as_slice().iter().any(|entry| entry.function == 0));
            }
            Err(KvmError::Refused(Refusal::NoModule)) => assert!(host.vmx && !fs::exists("/dev/kvm").unwrap()),
            Err(KvmError::Refused(Refusal::NoVmx)) => assert!(!host.vmx && !fs::exists("/dev/kvm").unwrap()),
            Err(KvmError::Refused(Refusal::NoPermission)) => assert!(fs::exists("/dev/kvm").unwrap()),
            Err(KvmError::Refused(Refusal::Amd)) => assert_eq!(host.vendor, "AuthenticAMD"),
            Err(KvmError::Refused(Refusal::NestedOff)) => assert!(!nested && host.nested.is_some()),
            Err(KvmError::Refused(Refusal::Software(loaded))) => {
                assert!(host.nested.is_none());
                assert!(host.modules.iter().all(|module| loaded.contains(module)));
            }
            Err(other) => panic!("{other}"),
        }
    }
}
