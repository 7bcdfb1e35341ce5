//! A software reference emulator of the VMX instructions.
//!
//! A [`LogicalProcessor`] holds what the instructions look at and change: the processor's state, physical memory, the
//! data of every VMCS, the VMXON and current-VMCS pointers. It executes the thirteen VMX instructions with every
//! outcome that the SDM defines, in the SDM's order. Whether a VM entry succeeds is for [`vmcs_model`] to say; this
//! crate does what follows: loading guest state, saving it, loading host state.
//!
//! ```
//! use vmcs_emu::{Failure, LogicalProcessor};
//! use vmcs_model::msr::CapabilityMsr;
//! use vmcs_model::profile::{CpuProfile, MsrValue};
//!
//! // A processor that knows the VMCS revision identifier 17 and what CR0 and CR4 may hold.
//! let mut profile = CpuProfile::default();
//! profile.set_msr(CapabilityMsr::Basic, MsrValue::Value(17));
//! profile.set_msr(CapabilityMsr::Cr0Fixed1, MsrValue::Value(0xFFFF_FFFF));
//! profile.set_msr(CapabilityMsr::Cr4Fixed1, MsrValue::Value(0xFFFF_FFFF));
//! let mut cpu = LogicalProcessor::new(&profile);
//!
//! // The VMXON region and a VMCS region start with the revision identifier.
//! cpu.memory_mut().write_u32(0x1000, 17);
//! cpu.memory_mut().write_u32(0x2000, 17);
//! cpu.vmxon(0x1000)?;
//! cpu.vmclear(0x2000)?;
//! cpu.vmptrld(0x2000)?;
//!
//! // VMRESUME wants a launched VMCS, and a VMCS after VMCLEAR is clear: error 5.
//! assert_eq!(cpu.vmresume(), Err(Failure::valid(5)));
//! assert_eq!(cpu.vmread(0x4400)?, 5);
//!
//! // The same under the names and status values of the C intrinsics.
//! use vmcs_emu::intrinsics::{__vmx_vmptrld, __vmx_vmresume};
//! assert_eq!(__vmx_vmresume(&mut cpu), 1);
//! assert_eq!(__vmx_vmptrld(&mut cpu, &0x1000), 1);
//! assert_eq!(cpu.vmread(0x4400)?, 10);
//! # Ok::<(), Failure>(())
//! ```
//!
//! # Choices
//! Where the SDM leaves something open, this processor always does the same:
//!
//! - Of several outcomes that the architecture permits for a VM entry it takes the first in the SDM's order; controls
//!   come before host state. A rule that the model cannot decide counts as kept.
//! - Guest state is checked before any of it is loaded. A failure to load MSRs finds it loaded.
//! - A machine check never happens.
//! - A VMCS region that was never the operand of VMCLEAR has the launch state clear and all fields 0.
//! - VMCS data stays in the processor: nothing but the first eight bytes of a region in memory means anything, and
//!   copying a region does not copy its VMCS.
//! - The shadow-VMCS indicator counts as VMPTRLD found it.
//! - What a field holds when the SDM leaves it undefined is what it held before; an unusable segment register is loaded
//!   and saved with the contents of its fields.
//! - An MSR that no instruction here knows reads as what was last loaded or set, 0 at first.
//! - No guest is executed. [`LogicalProcessor::set_register`] changes its state, [`LogicalProcessor::vm_exit`] ends it;
//!   neither the exits that can follow an entry at once, nor the delivery of injected events and of exceptions that an
//!   instruction raises, is the emulator's.
//! - Operands are registers. A fault on a memory operand of VMREAD and VMWRITE, and on the memory operands that hold
//!   the pointers and descriptors of the other instructions, has no counterpart here, nor has the single-step trap
//!   that follows a VMfail under RFLAGS.TF.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod controls;
mod entry;
mod exit;
pub mod exit_causes;
pub mod guest_state;
mod host_state;
mod instructions;
pub mod intrinsics;
mod memory;
mod msr;
mod outcome;
mod processor;
mod region;
mod segments;

pub use exit::{ExitError, VmExit};
pub use memory::Memory;
pub use outcome::{Entry, Failure, VmxAbort};
pub use processor::{LogicalProcessor, Platform};
pub use region::Region;
