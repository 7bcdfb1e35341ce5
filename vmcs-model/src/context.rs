//! What the checks of a VM entry look at: the VMCS, memory, the processor's state and its capabilities.

use crate::capabilities::{Allowed, Capabilities, Facts};
use crate::controls::{Entry, Exit, PinBased, Primary, Secondary, SecondaryExit, Tertiary};
use crate::cpu::{CpuState, LaunchState};
use crate::field::{
    Field, FieldId, FieldValue, PIN_BASED_VM_EXECUTION_CONTROLS, PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,
    PRIMARY_VM_EXIT_CONTROLS, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, SECONDARY_VM_EXIT_CONTROLS,
    TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, VM_ENTRY_CONTROLS, VM_ENTRY_INTERRUPTION_INFORMATION,
};
use crate::formats::InterruptionInformation;
use crate::memory::ReadMemory;
use crate::msr::CapabilityMsr;
use crate::profile::CpuidLeaf;
use crate::vmcs::ReadFields;

/// The instruction that asks for a VM entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryInstruction {
    /// VMLAUNCH.
    Vmlaunch,
    /// VMRESUME.
    Vmresume,
}

/// One attempt at a VM entry.
#[derive(Clone, Copy, Debug)]
pub struct EntryAttempt<'a> {
    /// The instruction.
    pub instruction: EntryInstruction,
    /// Launch state of the current VMCS.
    pub launch_state: LaunchState,
    /// The current VMCS is a shadow VMCS: bit 31 of its region's first dword is 1.
    pub shadow: bool,
    /// The processor's state.
    pub cpu: &'a CpuState,
    /// What the processor can do.
    pub capabilities: &'a Capabilities,
}

/// An attempt at a VM entry together with the VMCS and the memory it reads; what the rows of the checks call `c`.
///
/// Control words that are not activated read as 0. Whatever is read through this type reports unknown values to a
/// partial reader.
pub struct EntryContext<'a, R, M> {
    vmcs: &'a R,
    memory: &'a M,
    attempt: EntryAttempt<'a>,
    pin: PinBased,
    primary: Primary,
    secondary: Secondary,
    tertiary: Tertiary,
    exit: Exit,
    secondary_exit: SecondaryExit,
    entry: Entry,
    event: InterruptionInformation,
}

impl<'a, R: ReadFields, M: ReadMemory> EntryContext<'a, R, M> {
    /// Reads the control words once.
    #[inline]
    pub fn new(attempt: EntryAttempt<'a>, vmcs: &'a R, memory: &'a M) -> Self {
        let primary: Primary = read(vmcs, PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS);
        let exit: Exit = read(vmcs, PRIMARY_VM_EXIT_CONTROLS);
        Self {
            vmcs,
            memory,
            attempt,
            pin: read(vmcs, PIN_BASED_VM_EXECUTION_CONTROLS),
            primary,
            secondary: if primary.contains(Primary::ACTIVATE_SECONDARY_CONTROLS) {
                read(vmcs, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS)
            } else {
                Secondary::empty()
            },
            tertiary: if primary.contains(Primary::ACTIVATE_TERTIARY_CONTROLS) {
                read(vmcs, TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS)
            } else {
                Tertiary::empty()
            },
            exit,
            secondary_exit: if exit.contains(Exit::ACTIVATE_SECONDARY_CONTROLS) {
                read(vmcs, SECONDARY_VM_EXIT_CONTROLS)
            } else {
                SecondaryExit::empty()
            },
            entry: read(vmcs, VM_ENTRY_CONTROLS),
            event: read(vmcs, VM_ENTRY_INTERRUPTION_INFORMATION),
        }
    }

    /// The reader of the VMCS.
    #[inline]
    pub fn reader(&self) -> &'a R {
        self.vmcs
    }

    /// The value of a field.
    #[inline]
    pub fn get<T: FieldValue>(&self, field: Field<T>) -> T {
        self.used(field.id());
        read(self.vmcs, field)
    }

    /// Pin-based VM-execution controls.
    #[inline]
    pub fn pin(&self) -> PinBased {
        self.used(PIN_BASED_VM_EXECUTION_CONTROLS.id());
        self.pin
    }

    /// Primary processor-based VM-execution controls.
    #[inline]
    pub fn primary(&self) -> Primary {
        self.used(PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id());
        self.primary
    }

    /// Secondary processor-based VM-execution controls, 0 unless activated.
    #[inline]
    pub fn secondary(&self) -> Secondary {
        self.used_if(
            self.primary().contains(Primary::ACTIVATE_SECONDARY_CONTROLS),
            SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(),
        );
        self.secondary
    }

    /// Tertiary processor-based VM-execution controls, 0 unless activated.
    #[inline]
    pub fn tertiary(&self) -> Tertiary {
        self.used_if(
            self.primary().contains(Primary::ACTIVATE_TERTIARY_CONTROLS),
            TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(),
        );
        self.tertiary
    }

    /// Primary VM-exit controls.
    #[inline]
    pub fn exit(&self) -> Exit {
        self.used(PRIMARY_VM_EXIT_CONTROLS.id());
        self.exit
    }

    /// Secondary VM-exit controls, 0 unless activated.
    #[inline]
    pub fn secondary_exit(&self) -> SecondaryExit {
        self.used_if(self.exit().contains(Exit::ACTIVATE_SECONDARY_CONTROLS), SECONDARY_VM_EXIT_CONTROLS.id());
        self.secondary_exit
    }

    /// VM-entry controls.
    #[inline]
    pub fn entry(&self) -> Entry {
        self.used(VM_ENTRY_CONTROLS.id());
        self.entry
    }

    /// VM-entry interruption information.
    #[inline]
    pub fn event(&self) -> InterruptionInformation {
        self.used(VM_ENTRY_INTERRUPTION_INFORMATION.id());
        self.event
    }

    /// The processor's state.
    #[inline]
    pub fn cpu(&self) -> &'a CpuState {
        self.attempt.cpu
    }

    /// The attempt.
    #[inline]
    pub fn attempt(&self) -> &EntryAttempt<'a> {
        &self.attempt
    }

    /// The capabilities, for a check that depends on `facts` of the profile.
    #[inline]
    pub fn capabilities(&self, facts: Facts) -> &'a Capabilities {
        if R::PARTIAL && self.attempt.capabilities.unknown.intersects(facts) {
            self.vmcs.met_unknown();
        }
        self.attempt.capabilities
    }

    /// The capabilities, for a check that depends on one MSR.
    #[inline]
    pub fn msr(&self, msr: CapabilityMsr) -> &'a Capabilities {
        self.capabilities(Facts::msr(msr))
    }

    /// The capabilities, for a check that depends on one CPUID leaf.
    #[inline]
    pub fn cpuid(&self, leaf: CpuidLeaf) -> &'a Capabilities {
        self.capabilities(Facts::cpuid(leaf))
    }

    /// The allowed settings of the pin-based VM-execution controls.
    #[inline]
    pub fn pin_allowed(&self) -> Allowed {
        self.capabilities(word(CapabilityMsr::Pinbased, CapabilityMsr::TruePinbased)).pin
    }

    /// The allowed settings of the primary processor-based VM-execution controls.
    #[inline]
    pub fn primary_allowed(&self) -> Allowed {
        self.capabilities(word(CapabilityMsr::Procbased, CapabilityMsr::TrueProcbased)).primary
    }

    /// The allowed settings of the primary VM-exit controls.
    #[inline]
    pub fn exit_allowed(&self) -> Allowed {
        self.capabilities(word(CapabilityMsr::Exit, CapabilityMsr::TrueExit)).exit
    }

    /// The allowed settings of the VM-entry controls.
    #[inline]
    pub fn entry_allowed(&self) -> Allowed {
        self.capabilities(word(CapabilityMsr::Entry, CapabilityMsr::TrueEntry)).entry
    }

    /// The entry returns from SMM: the processor is in SMM and “entry to SMM” is 0. SDM 32.15.4.
    #[inline]
    pub fn returns_from_smm(&self) -> bool {
        self.cpu().smm && !self.entry().contains(Entry::ENTRY_TO_SMM)
    }

    /// An event is injected and has that type.
    #[inline]
    pub fn injects(&self, event_type: u8) -> bool {
        self.event().valid() && self.event().event_type() == event_type
    }

    /// “unrestricted guest” is 1.
    #[inline]
    pub fn unrestricted_guest(&self) -> bool {
        self.secondary().contains(Secondary::UNRESTRICTED_GUEST)
    }

    /// Whether a physical address lies within the width allowed in the VMCS. SDM 27.2.1, Checks on VMX Controls.
    #[inline]
    pub fn address_fits(&self, address: u64) -> bool {
        const FACTS: Facts = Facts::msr(CapabilityMsr::Basic).and(Facts::cpuid(CpuidLeaf::AddressWidths));
        self.capabilities(FACTS).address_fits(address)
    }

    /// Whether a linear address is canonical for the processor.
    #[inline]
    pub fn canonical(&self, address: u64) -> bool {
        const FACTS: Facts = Facts::cpuid(CpuidLeaf::ExtendedFeatures).and(Facts::cpuid(CpuidLeaf::AddressWidths));
        self.capabilities(FACTS).canonical(address)
    }

    /// The aligned dword at a physical address.
    #[inline]
    pub fn read_u32(&self, address: u64) -> u32 {
        self.memory.read_u32(address).unwrap_or_else(|| {
            self.vmcs.met_unknown();
            u32::MAX
        })
    }

    /// The aligned qword at a physical address.
    #[inline]
    pub fn read_u64(&self, address: u64) -> u64 {
        self.memory.read_u64(address).unwrap_or_else(|| {
            self.vmcs.met_unknown();
            u64::MAX
        })
    }

    /// Something that the check depends on is not known.
    #[inline]
    pub fn met_unknown(&self) {
        self.vmcs.met_unknown();
    }

    #[inline]
    fn used(&self, field: FieldId) {
        if R::PARTIAL && !self.vmcs.knows(field) {
            self.vmcs.met_unknown();
        }
    }

    #[inline]
    fn used_if(&self, condition: bool, field: FieldId) {
        if R::PARTIAL && condition {
            self.used(field);
        }
    }
}

#[inline]
fn read<R: ReadFields, T: FieldValue>(vmcs: &R, field: Field<T>) -> T {
    T::from_raw(vmcs.read(field.id()))
}

/// The MSRs that the allowed settings of a word depend on.
const fn word(default: CapabilityMsr, precise: CapabilityMsr) -> Facts {
    Facts::msr(CapabilityMsr::Basic).and(Facts::msr(default)).and(Facts::msr(precise))
}
