//! VM exits. SDM 28, VM Exits.

use core::fmt;

use vmcs_model::controls::Entry;
use vmcs_model::field::{self, FieldValue};
use vmcs_model::formats::event_type::NMI;
use vmcs_model::formats::{ExitReason, Interruptibility, InterruptionInformation, exit_reason};
use vmcs_model::registers::Efer;
use vmcs_model::{Field, VmxOperation};

use crate::{LogicalProcessor, VmxAbort};

/// IA32_VMX_MISC\[5\]: VM exits store IA32_EFER.LMA in “IA-32e mode guest”.
const STORES_LMA: u64 = 1 << 5;

/// What a VM exit reports. SDM 28.2, Recording VM-Exit Information and Updating VM-Entry Control Fields.
///
/// What is `None` is undefined after the exit; the fields keep their values then, apart from those of events, whose
/// valid bit is cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmExit {
    /// Exit reason.
    pub reason: ExitReason,
    /// Exit qualification.
    pub qualification: u64,
    /// VM-exit instruction length.
    pub instruction_length: Option<u32>,
    /// VM-exit instruction information.
    pub instruction_information: Option<u32>,
    /// Guest-linear address.
    pub guest_linear_address: Option<u64>,
    /// Guest-physical address.
    pub guest_physical_address: Option<u64>,
    /// The event that caused the exit: VM-exit interruption information.
    pub event: InterruptionInformation,
    /// VM-exit interruption error code.
    pub event_error_code: Option<u32>,
    /// The event that was being delivered: IDT-vectoring information.
    pub original_event: InterruptionInformation,
    /// IDT-vectoring error code.
    pub original_event_error_code: Option<u32>,
}

impl VmExit {
    /// An exit with that basic reason and qualification, and nothing else to report.
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

    /// The exit of a VMX instruction whose memory operand, if it has one, is addressed by a register of the lower
    /// eight without a displacement. The instruction-information field is left alone.
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
    /// The processor is not in VMX non-root operation: there is no guest to leave. Nothing has changed.
    NotInGuest,
    /// The exit ended in a VMX abort.
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
    /// Leaves the guest: records why, saves guest state, loads host state. The guest's registers are those that
    /// the entry loaded and [`Self::set_register`] has changed since.
    ///
    /// # Errors
    /// There is no guest, or the exit ends in a VMX abort, after which the processor executes nothing.
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

    fn record_exit(&mut self, exit: &VmExit) {
        let lma = self.cpu.efer.contains(Efer::LMA);
        let stores_lma = self.capabilities.misc & STORES_LMA != 0;
        let has_guest_physical_address = self.capabilities.has_field(field::GUEST_PHYSICAL_ADDRESS.id().info());
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

fn set_if_defined<T: FieldValue>(fields: &mut vmcs_model::Vmcs, field: Field<T>, value: Option<T>) {
    if let Some(value) = value {
        fields.set(field, value);
    }
}
