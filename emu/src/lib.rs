//! A reference emulator of the VMX instructions in software.
//!
//! A [`LogicalProcessor`] holds all that the VMX instructions look at and change: the processor's own state, physical
//! memory, the data of every VMCS, the VMXON pointer and the current-VMCS pointer. Its methods are the thirteen VMX
//! instructions, with every outcome that the SDM defines, in the SDM's order. [`vmcs_model`] says whether a VM entry
//! succeeds; this crate does what follows: it loads guest state, saves it at a VM exit, and loads host state.
//!
//! Use it to test a hypervisor's set-up of a VMCS on any machine, without a processor that has VMX, or as the
//! counterpart of a real processor in a comparison.
//!
//! # From VMXON into a guest
//! ```
//! use vmcs_emu::{EntryResult, InstructionFailure, LogicalProcessor, VmExit};
//! use vmcs_model::field::{self, FieldId, FieldValue};
//! use vmcs_model::msr::CapabilityMsr;
//! use vmcs_model::profile::{CpuidLeaf, MsrValue};
//! use vmcs_model::registers::Rflags;
//! use vmcs_model::{CpuProfile, baseline};
//!
//! // The processor is data: its VMX capability MSRs and CPUID leaves. These are the controls of the first processors
//! // with VMX, and the loading and saving of IA32_EFER and IA32_PAT. The VMCS revision identifier is 4.
//! let mut profile = CpuProfile::default();
//! for (msr, value) in [
//!     (CapabilityMsr::Basic, 0x0058_0400_0000_0004),
//!     (CapabilityMsr::Pinbased, 0x0000_003F_0000_0016),
//!     (CapabilityMsr::Procbased, 0x77B9_FFFE_0401_E172),
//!     (CapabilityMsr::Exit, 0x003F_FFFF_0003_6DFF),
//!     (CapabilityMsr::Entry, 0x0000_FFFF_0000_11FF),
//!     (CapabilityMsr::Misc, 0x0004_01C0),
//!     (CapabilityMsr::Cr0Fixed0, 0x8000_0021),
//!     (CapabilityMsr::Cr0Fixed1, 0xFFFF_FFFF),
//!     (CapabilityMsr::Cr4Fixed0, 0x2000),
//!     (CapabilityMsr::Cr4Fixed1, 0x27FF),
//! ] {
//!     profile.set_msr(msr, MsrValue::Value(value));
//! }
//! // Intel 64, 48-bit linear and 36-bit physical addresses.
//! profile.set_cpuid(CpuidLeaf::ExtendedFeatures, [0, 0, 1, 0x2010_0800]);
//! profile.set_cpuid(CpuidLeaf::AddressWidths, [0x3024, 0, 0, 0]);
//! let mut cpu = LogicalProcessor::new(&profile);
//!
//! // VMXON and VMPTRLD want the revision identifier at the start of their regions. VMXON without it is VMfailInvalid:
//! // there is no current VMCS that could hold an error number.
//! const VMXON_REGION: u64 = 0x1000;
//! const VMCS: u64 = 0x2000;
//! assert_eq!(cpu.vmxon(VMXON_REGION), Err(InstructionFailure::Invalid));
//! cpu.memory_mut().write_u32(VMXON_REGION, 4);
//! cpu.memory_mut().write_u32(VMCS, 4);
//! assert_eq!(cpu.vmxon(VMXON_REGION), Ok(()));
//!
//! // VMCLEAR makes the launch state of a VMCS clear, VMPTRLD makes the VMCS current.
//! assert_eq!(cpu.vmclear(VMCS), Ok(()));
//! assert_eq!(cpu.vmptrld(VMCS), Ok(()));
//!
//! // VMWRITE of each field that the processor has. An encoding of any other is VMfailValid(12).
//! let (image, capabilities) = (baseline::plain_64bit(cpu.capabilities()), cpu.capabilities().clone());
//! for field in FieldId::all().filter(|field| capabilities.has_field(field.info()) && image.raw(*field) != 0) {
//!     assert_eq!(cpu.vmwrite(field.info().encoding.0.into(), image.raw(field)), Ok(()));
//! }
//! assert_eq!(cpu.vmwrite(0x7FFE, 0), Err(InstructionFailure::valid(12)));
//!
//! // VMRESUME of a VMCS whose launch state is clear is VMfailValid(5), and the VM-instruction error field says so.
//! assert_eq!(cpu.vmresume(), Err(InstructionFailure::valid(5)));
//! assert_eq!(cpu.vmread(0x4400), Ok(5));
//!
//! // Host state that is not valid: the instruction fails with error 8, before any guest state is looked at.
//! let host_cr3 = field::HOST_CR3.encoding().0.into();
//! cpu.vmwrite(host_cr3, u64::MAX)?;
//! assert_eq!(cpu.vmlaunch(), Err(InstructionFailure::valid(8)));
//! cpu.vmwrite(host_cr3, image.get(field::HOST_CR3))?;
//!
//! // Guest state that is not valid: the instruction does not fail, the entry does. Control goes to the host's RIP with
//! // an exit reason, as after a VM exit.
//! let guest_rflags = field::GUEST_RFLAGS.encoding().0.into();
//! cpu.vmwrite(guest_rflags, 0)?;
//! assert_eq!(cpu.vmlaunch(), Ok(EntryResult::Failed { reason: 33, qualification: 0 }));
//! cpu.vmwrite(guest_rflags, Rflags::FIXED1.to_raw())?;
//!
//! // Everything is valid: the guest's state is the processor's. An exit brings the host back.
//! assert_eq!(cpu.vmlaunch(), Ok(EntryResult::Entered));
//! assert_eq!(cpu.register(field::GUEST_RIP), image.get(field::GUEST_RIP));
//! const HLT: u16 = 12;
//! assert_eq!(cpu.vm_exit(VmExit::new(HLT, 0)), Ok(()));
//! assert_eq!(cpu.register(field::GUEST_RIP), image.get(field::HOST_RIP));
//! assert_eq!(cpu.vmread(0x4402), Ok(12));
//! # Ok::<(), InstructionFailure>(())
//! ```
//!
//! # What an instruction returns
//! | Returned | Meaning | The processor then |
//! |---|---|---|
//! | `Ok` of an instruction | VMsucceed | CF, PF, AF, ZF, SF and OF are 0 |
//! | `Err` of [`InstructionFailure::Invalid`] | VMfailInvalid: there is no current VMCS to hold an error number | CF is 1 |
//! | `Err` of [`InstructionFailure::Valid`] | VMfailValid | ZF is 1, the VM-instruction error field of the current VMCS holds the number |
//! | `Err` of [`InstructionFailure::Fault`] | an exception, which is not delivered | is as before |
//! | `Err` of [`InstructionFailure::Exit`] | a VM exit, which has been carried out | is in the host, or in SMM |
//! | `Err` of [`InstructionFailure::Shutdown`] | nothing happened: an earlier VMX abort has shut the processor down | stays as it is |
//! | `Ok` of [`EntryResult::Entered`] | VMLAUNCH or VMRESUME entered the guest | is in the guest |
//! | `Ok` of [`EntryResult::Failed`] | the entry failed while guest state was checked or loaded | is in the host; exit reason and exit qualification say why |
//! | `Ok` of [`EntryResult::Aborted`] | the same, and loading the host state ended in a VMX abort | is shut down |
//!
//! The documentation of an instruction writes VMfail(n) for VMfailValid with the error number n, or VMfailInvalid if there
//! is no current VMCS. SDM 31.2, Conventions.
//!
//! [`intrinsics`] has the instructions under the names and with the status values of the C compilers' intrinsics.
//!
//! # Choices
//! Where the SDM leaves something open, this processor always does the same:
//!
//! - Of several outcomes that the architecture permits for a VM entry it takes the first in the SDM's order; controls
//!   come before host state. A rule that the model cannot decide counts as kept.
//! - What the profile does not know counts as supported: VMREAD and VMWRITE find a field that may exist, INVEPT and
//!   INVVPID have every type, and an exit leaves PE, NE and PG of CR0 and VMXE of CR4 at 1.
//! - Guest state is checked before any of it is loaded. A failure to load MSRs finds it loaded.
//! - A machine check never happens.
//! - A VMCS whose region was never the operand of VMCLEAR has a launch state of clear, and all its fields are 0.
//! - VMCS data stays in the processor: nothing but the first eight bytes of a region in memory means anything, and
//!   copying a region does not copy its VMCS.
//! - The shadow-VMCS indicator is read by VMPTRLD. A later change of it in memory has no effect before the next VMPTRLD.
//! - A field whose value the SDM leaves undefined keeps what it held before. An unusable segment register is loaded and saved
//!   with the contents of its fields.
//! - An MSR that no instruction here knows reads as what was last loaded or set, 0 at first. The processor has every
//!   MSR in this sense; only MSRs that no processor reads make a VM exit fail that should store them.
//! - No guest is executed. [`LogicalProcessor::set_register`] changes its state, [`LogicalProcessor::vm_exit`] ends it.
//!   The emulator does not make the exits that can follow an entry at once, and delivers neither injected events nor
//!   the exceptions that an instruction raises.
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
pub use memory::PhysicalMemory;
pub use outcome::{EntryResult, InstructionFailure, VmxAbort};
pub use processor::{LogicalProcessor, Platform};
pub use region::VmcsRegion;
