//! The control words of the current VMCS as they are in effect.
//!
//! Some words are used only if a bit of another word activates them. If that bit is 0, the processor behaves as if
//! every control of the word were 0, whatever the field holds; these functions return such a word as empty. SDM 25.6.2,
//! Processor-Based VM-Execution Controls, and 25.7.1, VM-Exit Controls.

use vmcs_model::controls::{Entry, Exit, PinBased, Primary, Secondary, SecondaryExit, Tertiary};
use vmcs_model::field;

use crate::LogicalProcessor;

impl LogicalProcessor {
    /// The pin-based VM-execution controls.
    pub(crate) fn pin(&self) -> PinBased {
        self.current_fields().get(field::PIN_BASED_VM_EXECUTION_CONTROLS)
    }

    /// The primary processor-based VM-execution controls.
    pub(crate) fn primary(&self) -> Primary {
        self.current_fields().get(field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS)
    }

    /// The secondary processor-based VM-execution controls, empty if bit 31 of the primary ones is 0.
    pub(crate) fn secondary(&self) -> Secondary {
        if self.primary().contains(Primary::ACTIVATE_SECONDARY_CONTROLS) {
            self.current_fields().get(field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS)
        } else {
            Secondary::empty()
        }
    }

    /// The tertiary processor-based VM-execution controls, empty if bit 17 of the primary ones is 0.
    pub(crate) fn tertiary(&self) -> Tertiary {
        if self.primary().contains(Primary::ACTIVATE_TERTIARY_CONTROLS) {
            self.current_fields().get(field::TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS)
        } else {
            Tertiary::empty()
        }
    }

    /// The primary VM-exit controls.
    pub(crate) fn primary_exit(&self) -> Exit {
        self.current_fields().get(field::PRIMARY_VM_EXIT_CONTROLS)
    }

    /// The secondary VM-exit controls, empty if bit 31 of the primary ones is 0.
    pub(crate) fn secondary_exit(&self) -> SecondaryExit {
        if self.primary_exit().contains(Exit::ACTIVATE_SECONDARY_CONTROLS) {
            self.current_fields().get(field::SECONDARY_VM_EXIT_CONTROLS)
        } else {
            SecondaryExit::empty()
        }
    }

    /// The VM-entry controls.
    pub(crate) fn entry_controls(&self) -> Entry {
        self.current_fields().get(field::VM_ENTRY_CONTROLS)
    }
}
