//! What the checks of a VM entry look at: the VMCS, memory, the processor's state and its capabilities.

use core::cell::Cell;

use crate::capabilities::{Allowed, Capabilities, Facts, Reserved, ReservedBits};
use crate::checks::MsrLoads;
use crate::controls::{Entry, Exit, PinBased, Primary, Secondary, SecondaryExit, Tertiary};
use crate::cpu::{CpuState, LaunchState};
use crate::field::{
    EXECUTIVE_VMCS_POINTER, Field, FieldId, FieldValue, PIN_BASED_VM_EXECUTION_CONTROLS,
    PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, PRIMARY_VM_EXIT_CONTROLS,
    SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, SECONDARY_VM_EXIT_CONTROLS,
    TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, VM_ENTRY_CONTROLS, VM_ENTRY_INTERRUPTION_INFORMATION,
};
use crate::formats::InterruptionInformation;
use crate::memory::ReadMemory;
use crate::msr::CapabilityMsr;
use crate::profile::CpuidLeaf;
use crate::verdict::VmEntry;
use crate::vmcs::{ReadFields, Unknown};

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

impl<'a> EntryAttempt<'a> {
    /// VMLAUNCH with a current VMCS whose launch state is clear.
    #[must_use]
    pub const fn vmlaunch(cpu: &'a CpuState, capabilities: &'a Capabilities) -> Self {
        Self {
            instruction: EntryInstruction::Vmlaunch,
            launch_state: LaunchState::Clear,
            shadow: false,
            cpu,
            capabilities,
        }
    }

    /// VMRESUME with a current VMCS whose launch state is launched.
    #[must_use]
    pub const fn vmresume(cpu: &'a CpuState, capabilities: &'a Capabilities) -> Self {
        Self {
            instruction: EntryInstruction::Vmresume,
            launch_state: LaunchState::Launched,
            shadow: false,
            cpu,
            capabilities,
        }
    }

    /// The instruction with a launch state that suits it: [`Self::vmlaunch`] or [`Self::vmresume`].
    #[must_use]
    pub const fn by(instruction: EntryInstruction, cpu: &'a CpuState, capabilities: &'a Capabilities) -> Self {
        match instruction {
            EntryInstruction::Vmlaunch => Self::vmlaunch(cpu, capabilities),
            EntryInstruction::Vmresume => Self::vmresume(cpu, capabilities),
        }
    }

    /// The same attempt with a VMCS of that launch state.
    #[must_use]
    pub const fn with_launch_state(self, launch_state: LaunchState) -> Self {
        Self { launch_state, ..self }
    }

    /// The same attempt with a shadow VMCS, or with an ordinary one.
    #[must_use]
    pub const fn with_shadow(self, shadow: bool) -> Self {
        Self { shadow, ..self }
    }

    /// The attempt on that VMCS, with that memory.
    #[must_use]
    pub const fn on<R, M>(self, vmcs: &'a R, memory: &'a M) -> VmEntry<'a, R, M> {
        VmEntry { attempt: self, vmcs, memory }
    }
}

/// An attempt at a VM entry together with the VMCS and the memory it reads; what the rows of the checks call `c`.
///
/// Control words that are not activated read as 0. Whatever is read through this type reports unknown values to a
/// partial reader.
pub struct EntryContext<'a, R, M> {
    pub(crate) entry: &'a VmEntry<'a, R, M>,
    pin: PinBased,
    primary: Primary,
    secondary: Secondary,
    tertiary: Tertiary,
    exit: Exit,
    secondary_exit: SecondaryExit,
    entry_controls: Entry,
    event: InterruptionInformation,
    /// What the checks note.
    pub(crate) notes: &'a Notes,
}

/// The value of a field that holds a linear address.
#[derive(Clone, Copy)]
pub(crate) struct LinearAddress {
    field: FieldId,
    value: u64,
}

/// What the checks of an entry note. It lies outside of the [`EntryContext`], so that the compiler sees that what they read
/// there does not change, and need not read it again.
#[derive(Debug, Default)]
pub struct Notes {
    /// Something was met that is not known, or that the SDM leaves open.
    pub(crate) met: Cell<bool>,
    /// What the MSR-load area breaks, once that is judged.
    pub(crate) msr_loads: Cell<Option<MsrLoads>>,
}

impl<'a, R: ReadFields, M: ReadMemory> EntryContext<'a, R, M> {
    /// Reads the control words once.
    #[inline(always)]
    pub fn new(entry: &'a VmEntry<'a, R, M>, notes: &'a Notes) -> Self {
        let vmcs = entry.vmcs;
        let pin = read(vmcs, PIN_BASED_VM_EXECUTION_CONTROLS);
        let primary: Primary = read(vmcs, PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS);
        let secondary = if primary.contains(Primary::ACTIVATE_SECONDARY_CONTROLS) {
            read(vmcs, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS)
        } else {
            Secondary::empty()
        };
        let exit: Exit = read(vmcs, PRIMARY_VM_EXIT_CONTROLS);
        Self {
            entry,
            pin,
            primary,
            secondary,
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
            entry_controls: read(vmcs, VM_ENTRY_CONTROLS),
            event: read(vmcs, VM_ENTRY_INTERRUPTION_INFORMATION),
            notes,
        }
    }

    /// The reader of the VMCS.
    #[inline]
    pub fn reader(&self) -> &'a R {
        self.entry.vmcs
    }

    /// The value of a field.
    #[inline(always)]
    pub fn get<T: FieldValue>(&self, field: Field<T>) -> T {
        self.used(field.id());
        read(self.entry.vmcs, field)
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
        self.entry_controls
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
        self.entry.attempt.cpu
    }

    /// The attempt.
    #[inline]
    pub fn attempt(&self) -> &EntryAttempt<'a> {
        &self.entry.attempt
    }

    /// The capabilities, for a check that depends on `facts` of the profile.
    #[inline]
    pub fn capabilities(&self, facts: Facts) -> &'a Capabilities {
        if R::PARTIAL && self.entry.attempt.capabilities.unknown.intersects(facts) {
            self.met_unknown(Unknown::Facts(facts.common(self.entry.attempt.capabilities.unknown)));
        }
        self.entry.attempt.capabilities
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

    /// The bits that registers reserve; [`Self::clear_of`] compares a value with them.
    #[inline]
    pub(crate) fn reserved(&self) -> &'a Reserved {
        &self.entry.attempt.capabilities.reserved
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

    /// “IA-32e mode guest” is 1.
    #[inline]
    pub fn ia32e_guest(&self) -> bool {
        self.entry().contains(Entry::IA_32E_MODE_GUEST)
    }

    /// “host address-space size” is 1.
    #[inline]
    pub fn host_64(&self) -> bool {
        self.exit().contains(Exit::HOST_ADDRESS_SPACE_SIZE)
    }

    /// The entry returns from SMM: the processor is in SMM and “entry to SMM” is 0. SDM 32.15.4.
    #[inline]
    pub fn returns_from_smm(&self) -> bool {
        self.cpu().smm && !self.entry().contains(Entry::ENTRY_TO_SMM)
    }

    /// The entry returns from SMM and stays in VMX root operation: the executive-VMCS pointer is the VMXON pointer.
    #[inline]
    pub fn returns_to_root(&self) -> bool {
        self.returns_from_smm() && self.get(EXECUTIVE_VMCS_POINTER) == self.cpu().vmxon_pointer
    }

    /// The pin-based controls that the checks of the guest-state area go by, see [`Self::guest_secondary`].
    #[inline(always)]
    pub fn guest_pin(&self) -> PinBased {
        if self.cpu().smm && Self::executive_controls(self.entry, self.notes) {
            return if self.returns_to_root() { PinBased::empty() } else { self.pin };
        }
        self.pin()
    }

    /// The secondary processor-based controls that the checks of the guest-state area go by.
    ///
    /// An entry that returns from SMM goes by those of the executive VMCS, or by none if it stays in VMX root operation.
    /// Of an executive VMCS the model knows nothing of the sort: this VMCS's stand in, and the check is open.
    /// SDM 32.15.4.4, Checks on the Guest State Area.
    #[inline(always)]
    pub fn guest_secondary(&self) -> Secondary {
        if self.cpu().smm && Self::executive_controls(self.entry, self.notes) {
            return if self.returns_to_root() { Secondary::empty() } else { self.secondary };
        }
        self.secondary()
    }

    /// The checks of the guest-state area do not go by the controls of this VMCS.
    #[cold]
    #[inline(never)]
    fn executive_controls(entry: &VmEntry<'_, R, M>, notes: &Notes) -> bool {
        let c = EntryContext::new(entry, notes);
        if !c.returns_from_smm() {
            return false;
        }
        if !c.returns_to_root() {
            c.met_unknown(Unknown::ExecutiveVmcs);
        }
        true
    }

    /// An event is injected and has that type.
    #[inline]
    pub fn injects(&self, event_type: u8) -> bool {
        const VALID: u32 = 1 << 31;
        self.event().into_bits() & (VALID | 7 << 8) == VALID | u32::from(event_type) << 8
    }

    /// “unrestricted guest” is 1.
    #[inline]
    pub fn unrestricted_guest(&self) -> bool {
        self.secondary().contains(Secondary::UNRESTRICTED_GUEST)
    }

    /// Whether a physical address lies within the width allowed in the VMCS. SDM 27.2.1, Checks on VMX Controls.
    #[inline]
    pub fn address_fits(&self, address: u64) -> bool {
        let has = self.entry.attempt.capabilities;
        self.clear_of(address, ReservedBits { certain: has.address_reserved, open: has.address_open }, ADDRESS_WIDTH)
    }

    /// Whether a linear address is canonical for the processor.
    #[inline]
    pub fn canonical(&self, address: u64) -> bool {
        let has = self.entry.attempt.capabilities;
        let canonical = has.canonical(address);
        if R::PARTIAL && canonical && !has.canonical_in_any_case(address) {
            self.capabilities(LINEAR_WIDTH);
        }
        canonical
    }

    /// The value of a field that holds a linear address, for [`Self::all_canonical`], which says whether it was used.
    #[inline(always)]
    pub(crate) fn look_at(&self, field: Field<u64>) -> LinearAddress {
        LinearAddress { field: field.id(), value: read(self.entry.vmcs, field) }
    }

    /// Whether all of those linear addresses are canonical. If one is certainly not, it does not matter that others are not
    /// known.
    #[inline(always)]
    pub(crate) fn all_canonical<const N: usize>(&self, addresses: [LinearAddress; N]) -> bool {
        let has = self.entry.attempt.capabilities;
        if R::PARTIAL {
            let certainly_not = |address: &LinearAddress| self.knows(address.field) && !has.canonical(address.value);
            return !addresses.iter().any(certainly_not)
                && addresses.iter().all(|address| {
                    self.used(address.field);
                    self.canonical(address.value)
                });
        }
        addresses.iter().fold(0, |any, address| any | has.not_canonical(address.value)) == 0
    }

    /// Whether bits 63:N of an address are all equal, N being the widest linear address of the processor. Weaker than
    /// canonicality: bit N-1 may differ.
    #[inline]
    pub fn upper_identical(&self, address: u64) -> bool {
        let has = self.entry.attempt.capabilities;
        let identical = has.upper_identical(address);
        if R::PARTIAL && identical && !has.upper_identical_in_any_case(address) {
            self.capabilities(LINEAR_WIDTH);
        }
        identical
    }

    /// Whether `value` has no bit that the processor reserves, as `bits` says from `facts`.
    #[inline]
    pub(crate) fn clear_of(&self, value: u64, bits: ReservedBits, facts: Facts) -> bool {
        let clear = value & bits.certain == 0;
        if R::PARTIAL && clear && value & bits.open != 0 {
            self.capabilities(facts);
        }
        clear
    }

    /// The aligned dword at a physical address.
    #[inline]
    pub fn read_u32(&self, address: u64) -> u32 {
        self.entry.memory.read_u32(address).unwrap_or_else(|| {
            self.met_unknown(Unknown::Memory(address));
            u32::MAX
        })
    }

    /// The aligned qword at a physical address.
    #[inline]
    pub fn read_u64(&self, address: u64) -> u64 {
        self.entry.memory.read_u64(address).unwrap_or_else(|| {
            self.met_unknown(Unknown::Memory(address));
            u64::MAX
        })
    }

    /// The aligned qword at a physical address, `None` if it is not known.
    #[inline]
    pub(crate) fn try_read_u64(&self, address: u64) -> Option<u64> {
        self.entry.memory.read_u64(address)
    }

    /// Whether the value of a field is known.
    #[inline]
    pub(crate) fn knows(&self, field: FieldId) -> bool {
        !R::PARTIAL || self.entry.vmcs.knows(field)
    }

    /// Something that the check depends on is not known.
    #[inline]
    pub fn met_unknown(&self, what: Unknown) {
        self.notes.met.set(true);
        self.entry.vmcs.met_unknown(what);
    }

    /// The SDM leaves it to the processor whether what the check looks at fails: the check is undecidable. Always true,
    /// so that a check over complete values does not count as violated.
    #[inline]
    pub(crate) fn open_question(&self) -> bool {
        self.met_unknown(Unknown::Open);
        true
    }

    #[inline]
    fn used(&self, field: FieldId) {
        if R::PARTIAL && !self.entry.vmcs.knows(field) {
            self.met_unknown(Unknown::Field(field));
        }
    }

    #[inline]
    fn used_if(&self, condition: bool, field: FieldId) {
        if R::PARTIAL && condition {
            self.used(field);
        }
    }
}

#[inline(always)]
fn read<R: ReadFields, T: FieldValue>(vmcs: &R, field: Field<T>) -> T {
    T::from_raw(vmcs.read(field.id()))
}

/// What the width of physical addresses in the VMCS depends on.
const ADDRESS_WIDTH: Facts = Facts::msr(CapabilityMsr::Basic).and(Reserved::PHYSICAL_FACTS);
/// What the width of linear addresses depends on.
const LINEAR_WIDTH: Facts = Facts::cpuid(CpuidLeaf::ExtendedFeatures).and(Facts::cpuid(CpuidLeaf::AddressWidths));

/// The MSRs that the allowed settings of a word depend on.
const fn word(default: CapabilityMsr, precise: CapabilityMsr) -> Facts {
    Facts::msr(CapabilityMsr::Basic).and(Facts::msr(default)).and(Facts::msr(precise))
}
