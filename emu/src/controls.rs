//! The control words of the current VMCS that are in effect: those that are not activated count as 0.

use vmcs_model::controls::{Entry, Exit, PinBased, Primary, Secondary, SecondaryExit, Tertiary};
use vmcs_model::field;

use crate::LogicalProcessor;

impl LogicalProcessor {
    pub(crate) fn pin(&self) -> PinBased {
        self.current_fields().get(field::PIN_BASED_VM_EXECUTION_CONTROLS)
    }

    pub(crate) fn primary(&self) -> Primary {
        self.current_fields().get(field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS)
    }

    pub(crate) fn secondary(&self) -> Secondary {
        if self.primary().contains(Primary::ACTIVATE_SECONDARY_CONTROLS) {
            self.current_fields().get(field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS)
        } else {
            Secondary::empty()
        }
    }

    pub(crate) fn tertiary(&self) -> Tertiary {
        if self.primary().contains(Primary::ACTIVATE_TERTIARY_CONTROLS) {
            self.current_fields().get(field::TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS)
        } else {
            Tertiary::empty()
        }
    }

    pub(crate) fn primary_exit(&self) -> Exit {
        self.current_fields().get(field::PRIMARY_VM_EXIT_CONTROLS)
    }

    pub(crate) fn secondary_exit(&self) -> SecondaryExit {
        if self.primary_exit().contains(Exit::ACTIVATE_SECONDARY_CONTROLS) {
            self.current_fields().get(field::SECONDARY_VM_EXIT_CONTROLS)
        } else {
            SecondaryExit::empty()
        }
    }

    pub(crate) fn entry_controls(&self) -> Entry {
        self.current_fields().get(field::VM_ENTRY_CONTROLS)
    }
}
