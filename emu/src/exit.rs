//! VM exits: what an exit reports, and the way from the guest to the host. SDM 28, VM Exits.
//!
//! The emulator executes no guest, so that it cannot know when or why a guest exits. Its caller says so with a
//! [`VmExit`]; [`LogicalProcessor::vm_exit`] does what every exit does.

use core::fmt;

use vmcs_model::controls::Entry;
use vmcs_model::field::{self, FieldValue};
use vmcs_model::formats::event_type::NMI;
use vmcs_model::formats::{ExitReason, Interruptibility, InterruptionInformation, exit_reason};
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::registers::Efer;
use vmcs_model::{Field, VmxOperation};

use crate::{LogicalProcessor, VmxAbort};

/// IA32_VMX_MISC\[5\]: VM exits store IA32_EFER.LMA in “IA-32e mode guest”.
const STORES_LMA: u64 = 1 << 5;

/// What a VM exit reports, each value under the name of the VM-exit information field that it is recorded in. SDM 28.2,
/// Recording VM-Exit Information and Updating VM-Entry Control Fields.
///
/// A value of `None` is undefined after this exit, and the field keeps what it held. The two fields that hold events
/// are always written, because every exit at least clears their valid bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmExit {
    /// Exit reason: the basic reason in bits 15:0, and flags such as “in enclave mode” above.
    pub reason: ExitReason,
    /// Exit qualification: what it means depends on the reason; 0 for reasons without one.
    pub qualification: u64,
    /// VM-exit instruction length, in bytes.
    pub instruction_length: Option<u32>,
    /// VM-exit instruction information: the operands of the instruction that caused the exit.
    pub instruction_information: Option<u32>,
    /// Guest-linear address of the access that caused the exit.
    pub guest_linear_address: Option<u64>,
    /// Guest-physical address of the access that caused the exit.
    pub guest_physical_address: Option<u64>,
    /// VM-exit interruption information: the exception, NMI or interrupt that caused the exit; not valid (bit 31 is 0)
    /// if none did.
    pub event: InterruptionInformation,
    /// VM-exit interruption error code: that of the event that caused the exit.
    pub event_error_code: Option<u32>,
    /// IDT-vectoring information: the event during whose delivery the exit came; not valid if there was none.
    pub original_event: InterruptionInformation,
    /// IDT-vectoring error code: that of the event that was being delivered.
    pub original_event_error_code: Option<u32>,
}

impl VmExit {
    /// An exit with this basic reason and this qualification, and nothing else to report.
    #[must_use]
    pub const fn new(reason: u16, qualification: u64) -> Self {
        Self {
            reason: ExitReason::new().with_basic(reason),
            qualification,
            instruction_length: None,
            instruction_information: None,
            guest_linear_address: None,
            guest_physical_address: None,
            event: InterruptionInformation::new(),
            event_error_code: None,
            original_event: InterruptionInformation::new(),
            original_event_error_code: None,
        }
    }

    /// The exit of a VMX instruction that is encoded in its shortest form: a memory operand, if there is one, is addressed
    /// by one of the lower eight registers without a displacement, so that the qualification is 0. The instruction length
    /// is that of this form, in bytes. The instruction information is undefined, since the emulator does not know the
    /// registers.
    #[must_use]
    pub const fn instruction(reason: u16) -> Self {
        let length = match reason {
            exit_reason::VMCLEAR | exit_reason::VMXON => 4,
            exit_reason::INVEPT | exit_reason::INVVPID => 5,
            _ => 3,
        };
        Self { instruction_length: Some(length), ..Self::new(reason, 0) }
    }
}

/// Why [`LogicalProcessor::vm_exit`] did not lead to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitError {
    /// There is no guest to leave: the processor is not in VMX non-root operation, or is shut down. Nothing has
    /// changed.
    NotInGuest,
    /// The exit ended in a VMX abort, and the processor is shut down.
    Aborted(VmxAbort),
}

impl fmt::Display for ExitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInGuest => f.write_str("the processor is not in VMX non-root operation"),
            Self::Aborted(abort) => write!(f, "VMX abort {}", abort.indicator()),
        }
    }
}

impl core::error::Error for ExitError {}

impl From<VmxAbort> for ExitError {
    fn from(abort: VmxAbort) -> Self {
        Self::Aborted(abort)
    }
}

impl LogicalProcessor {
    /// Makes the guest exit: records the exit in the current VMCS, saves guest state there, stores the MSRs of the
    /// VM-exit MSR-store area, loads host state and the MSRs of the VM-exit MSR-load area.
    ///
    /// The guest's registers are those that the entry loaded, as [`Self::set_register`] and [`Self::set_msr`] have
    /// changed them since.
    ///
    /// # Errors
    /// [`ExitError::NotInGuest`] if there is no guest to leave; [`ExitError::Aborted`] if the exit ends in a VMX abort,
    /// after which the processor executes no instruction.
    pub fn vm_exit(&mut self, exit: VmExit) -> Result<(), ExitError> {
        if self.cpu.vmx != VmxOperation::NonRoot || self.abort.is_some() {
            return Err(ExitError::NotInGuest);
        }
        self.record_exit(&exit);
        self.save_guest_state(&exit);
        if !self.store_msrs() {
            return Err(self.shut_down(VmxAbort::SavingGuestMsrs).into());
        }
        self.load_host()?;
        if exit.event.valid() && exit.event.event_type() == NMI {
            let blocking = self.register(field::GUEST_INTERRUPTIBILITY_STATE);
            self.set_register(field::GUEST_INTERRUPTIBILITY_STATE, blocking | Interruptibility::NMI);
        }
        Ok(())
    }

    /// Writes the VM-exit information fields and the two VM-entry controls that exits change.
    fn record_exit(&mut self, exit: &VmExit) {
        let lma = self.cpu.efer.contains(Efer::LMA);
        let stores_lma = self.is_unknown(CapabilityMsr::Misc) || self.capabilities.misc & STORES_LMA != 0;
        let has_guest_physical_address = self.capabilities.may_have_field(field::GUEST_PHYSICAL_ADDRESS.id().info());
        let fields = &mut self.current_mut().fields;
        let injected = fields.get(field::VM_ENTRY_INTERRUPTION_INFORMATION);
        fields.set(field::VM_ENTRY_INTERRUPTION_INFORMATION, injected.with_valid(false));
        if stores_lma {
            let mut controls = fields.get(field::VM_ENTRY_CONTROLS);
            controls.set(Entry::IA_32E_MODE_GUEST, lma);
            fields.set(field::VM_ENTRY_CONTROLS, controls);
        }
        fields.set(field::EXIT_REASON, exit.reason);
        fields.set(field::EXIT_QUALIFICATION, exit.qualification);
        fields.set(field::VM_EXIT_INTERRUPTION_INFORMATION, exit.event);
        fields.set(field::IDT_VECTORING_INFORMATION, exit.original_event);
        set_if_defined(fields, field::VM_EXIT_INTERRUPTION_ERROR_CODE, exit.event_error_code);
        set_if_defined(fields, field::IDT_VECTORING_ERROR_CODE, exit.original_event_error_code);
        set_if_defined(fields, field::VM_EXIT_INSTRUCTION_LENGTH, exit.instruction_length);
        set_if_defined(fields, field::VM_EXIT_INSTRUCTION_INFORMATION, exit.instruction_information);
        set_if_defined(fields, field::GUEST_LINEAR_ADDRESS, exit.guest_linear_address);
        if has_guest_physical_address {
            set_if_defined(fields, field::GUEST_PHYSICAL_ADDRESS, exit.guest_physical_address);
        }
    }
}

/// Writes the field if the exit defines its value, and leaves the field alone otherwise.
fn set_if_defined<T: FieldValue>(fields: &mut vmcs_model::Vmcs, field: Field<T>, value: Option<T>) {
    if let Some(value) = value {
        fields.set(field, value);
    }
}
