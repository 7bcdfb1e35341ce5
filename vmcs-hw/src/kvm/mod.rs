//! KVM: its emulation of the VMX instructions for a hypervisor in a virtual machine.
//!
//! [`KvmTarget`] is the KVM of this host, over its processor. [`KvmOnBochs`] is a KVM of Debian inside Bochs, for hosts
//! without VMX. In both, the probe's processor has the capabilities that KVM gives its virtual machines. The outcome of a case alone
//! does not show whether KVM or the processor below it has decided the case.

mod kernel;
mod linux;
mod on_bochs;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod on_host;

pub use kernel::{InstalledKernel, install_kernel, installed_kernels};
pub use linux::LinuxError;
pub use on_bochs::KvmOnBochs;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use on_host::{KvmOptions, KvmTarget};
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use vmcs_kvm::{KvmError, Refusal};
