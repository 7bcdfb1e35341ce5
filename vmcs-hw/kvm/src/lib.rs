//! A virtual machine of KVM that executes case programs.
//!
//! Its only processor runs the bare-metal probe as a hypervisor of its own (L1): KVM emulates the VMX instructions for it
//! and, on an Intel processor, enters the guests of the cases for real. Work and answers lie in the machine's memory
//! ([`vmcs_wire::mailbox`]). [`Executor`] takes batches and answers them, whatever a case does to the machine; [`open`]
//! says why a host cannot:
//!
//! ```no_run
//! match vmcs_kvm::open() {
//!     Ok(_) => println!("the KVM of this host can execute cases"),
//!     Err(error) => println!("{error}"),
//! }
//! ```
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod error;
mod executor;
mod host;
mod machine;
mod refusal;
mod watch;

pub use error::KvmError;
pub use executor::Executor;
pub use host::open;
pub use refusal::Refusal;

/// The probe as it lies in memory.
#[derive(Clone, Debug)]
pub struct Payload {
    /// What is loaded at [`vmcs_wire::layout::PROBE`].
    pub bytes: Vec<u8>,
    /// 32-bit entry point.
    pub entry: u64,
}
