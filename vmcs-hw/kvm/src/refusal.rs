//! Why a host cannot execute VMX instructions in a virtual machine.

/// Why a host cannot execute VMX instructions in a virtual machine, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no /dev/kvm, on a processor with VMX.
    #[error(
        "there is no /dev/kvm although the processor has VMX: load the module (`sudo modprobe kvm_intel`); if that fails, \
         VMX is switched off in the firmware's settings (\"Intel Virtualization Technology\")"
    )]
    NoModule,
    /// There is no /dev/kvm, and the processor shows no VMX.
    #[error(
        "there is no /dev/kvm and the processor shows no VMX: an Intel processor is needed, with VMX switched on in the \
         firmware's settings or, in a virtual machine, offered by its host"
    )]
    NoVmx,
    /// The device may not be opened.
    #[error(
        "/dev/kvm may not be opened by this user (permission denied): join the group that owns it (`sudo usermod -aG kvm \
         $USER`, then log in again)"
    )]
    NoPermission,
    /// The device does not open for another reason.
    #[error("/dev/kvm does not open: {0}")]
    DoesNotOpen(String),
    /// It is not the KVM that programs are written for.
    #[error("/dev/kvm is not a KVM of a supported version (it answers {0}, and 12 is expected)")]
    Version(i32),
    /// The processor is an AMD processor.
    #[error("this is an AMD processor, whose KVM offers SVM and not VMX: an Intel processor is needed")]
    Amd,
    /// kvm_intel was loaded without nested virtualization.
    #[error(
        "kvm_intel was loaded with nested=0, so its virtual machines have no VMX: stop them and reload it (`sudo modprobe \
         -r kvm_intel && sudo modprobe kvm_intel nested=1`)"
    )]
    NestedOff,
    /// A KVM that does not use the processor's VMX.
    #[error(
        "this KVM offers no VMX to its virtual machines: it is a software KVM and not kvm_intel (loaded modules: {0}); \
         kvm_intel on an Intel processor is needed"
    )]
    Software(String),
    /// kvm_intel is loaded with nested virtualization, but offers no VMX.
    #[error("kvm_intel offers no VMX to its virtual machines although nested virtualization is on (see `dmesg`)")]
    NotOffered,
}
