//! Features of the measured entries: what an entry does besides entering, or in which way it fails.

use std::fmt;
use std::ops::BitOr;

use vmcs_model::capabilities::Allowed;
use vmcs_model::controls::{Entry, Exit, PinBased, Primary, Secondary};
use vmcs_model::field::{self, Field, FieldId, FieldValue};
use vmcs_model::formats::{Eptp, exit_reason};
use vmcs_model::{Capabilities, Outcome, Vmcs, baseline};
use vmcs_wire::{Timed, layout};

/// What a processor does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing(pub &'static str);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the processor has no {}", self.0)
    }
}

/// An image and the quadwords that memory holds for it.
pub(super) struct MeasuredImage {
    pub(super) vmcs: Vmcs,
    pub(super) memory: Vec<(u64, u64)>,
}

impl MeasuredImage {
    /// The entry that does the least: a 64-bit guest whose first instruction is VMCALL, and no control beyond those that
    /// the processor demands and the address-space sizes.
    pub(super) fn plain(has: &Capabilities) -> Self {
        let mut vmcs = baseline::plain_64bit_at(has, &crate::PROBE_ADDRESSES);
        let mut set = |word: FieldId, value: u64| vmcs.set_raw(word, value);
        set(field::PIN_BASED_VM_EXECUTION_CONTROLS.id(), has.pin.nearest(0));
        set(field::PRIMARY_VM_EXIT_CONTROLS.id(), has.exit.nearest(Exit::HOST_ADDRESS_SPACE_SIZE.to_raw()));
        set(field::VM_ENTRY_CONTROLS.id(), has.entry.nearest(Entry::IA_32E_MODE_GUEST.to_raw()));
        Self { vmcs, memory: Vec::new() }
    }

    fn add<T: FieldValue + BitOr<Output = T> + Copy>(
        &mut self,
        (allowed, word): (Allowed, Field<T>),
        bits: T,
        name: &'static str,
    ) -> Result<(), Missing> {
        if allowed.forbidden(bits.to_raw()) != 0 {
            return Err(Missing(name));
        }
        self.vmcs.set(word, self.vmcs.get(word) | bits);
        Ok(())
    }

    fn secondary(&mut self, has: &Capabilities, bits: Secondary, name: &'static str) -> Result<(), Missing> {
        let primary = (has.primary, field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS);
        self.add(primary, Primary::ACTIVATE_SECONDARY_CONTROLS, name)?;
        self.add((has.secondary, field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS), bits, name)
    }

    /// Loads an MSR on entry and exit.
    fn load(&mut self, has: &Capabilities, entry: Entry, exit: Exit, name: &'static str) -> Result<(), Missing> {
        self.add((has.entry, field::VM_ENTRY_CONTROLS), entry, name)?;
        self.add((has.exit, field::PRIMARY_VM_EXIT_CONTROLS), exit, name)
    }

    /// An area of so many MSRs, which [`Self::vmcs`] does not name yet. Their values are 0.
    fn area(&mut self, address: u64, msrs: u32) {
        let listed = LISTED.into_iter().cycle();
        self.memory.extend((address..).step_by(16).zip(listed).take(msrs as usize));
    }
}

/// MSRs of the areas in turn: IA32_STAR, IA32_LSTAR, IA32_FMASK, IA32_KERNEL_GS_BASE. Every 64-bit processor has them, any
/// area may name them, and the probe uses none.
const LISTED: [u64; 4] = [0xC000_0081, 0xC000_0082, 0xC000_0084, 0xC000_0102];
/// IA32_FS_BASE, which a VM-entry MSR-load area must not name.
const FS_BASE: u64 = 0xC000_0100;
/// The paging structures of a guest that has its own.
const OTHER_PML4: u64 = layout::SCRATCH;
/// The code of a guest that has its own.
const OTHER_CODE: u64 = layout::SCRATCH + 0x1000;

/// What an entry, its guest or its exit does besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feature {
    /// The guest's addresses are translated by EPT.
    Ept,
    /// The guest has a VPID, so that its translations stay in the TLB.
    Vpid,
    /// So many MSRs are loaded on entry.
    EntryLoads(u32),
    /// So many MSRs are stored on exit.
    ExitStores(u32),
    /// So many MSRs are loaded on exit.
    ExitLoads(u32),
    /// The guest's CR3 is not the host's.
    Cr3,
    /// IA32_PAT is loaded on entry and exit.
    Pat,
    /// IA32_EFER is loaded on entry and exit.
    Efer,
    /// IA32_PERF_GLOBAL_CTRL is loaded on entry and exit.
    PerfGlobalCtrl,
    /// The guest's first instruction is CPUID.
    Cpuid,
    /// The VMX-preemption timer ends the guest before its first instruction.
    Timer,
}

impl Feature {
    pub(super) fn add(self, has: &Capabilities, image: &mut MeasuredImage) -> Result<(), Missing> {
        match self {
            Self::Ept => {
                image.secondary(has, Secondary::ENABLE_EPT, "EPT")?;
                let page = layout::EPT_PML4 >> 12;
                let pointer = Eptp::new().with_memory_type(6).with_walk_length_minus_1(3).with_page(page);
                if !has.eptp_valid(pointer) {
                    return Err(Missing("write-back EPT of four levels"));
                }
                image.vmcs.set(field::EPT_POINTER, pointer);
            }
            Self::Vpid => {
                image.secondary(has, Secondary::ENABLE_VPID, "VPID")?;
                image.vmcs.set(field::VIRTUAL_PROCESSOR_IDENTIFIER, 1);
            }
            Self::EntryLoads(msrs) => {
                image.area(layout::ENTRY_MSR_LOAD, msrs);
                image.vmcs.set(field::VM_ENTRY_MSR_LOAD_ADDRESS, layout::ENTRY_MSR_LOAD);
                image.vmcs.set(field::VM_ENTRY_MSR_LOAD_COUNT, msrs);
            }
            Self::ExitStores(msrs) => {
                image.area(layout::EXIT_MSR_STORE, msrs);
                image.vmcs.set(field::VM_EXIT_MSR_STORE_ADDRESS, layout::EXIT_MSR_STORE);
                image.vmcs.set(field::VM_EXIT_MSR_STORE_COUNT, msrs);
            }
            Self::ExitLoads(msrs) => {
                image.area(layout::EXIT_MSR_LOAD, msrs);
                image.vmcs.set(field::VM_EXIT_MSR_LOAD_ADDRESS, layout::EXIT_MSR_LOAD);
                image.vmcs.set(field::VM_EXIT_MSR_LOAD_COUNT, msrs);
            }
            Self::Cr3 => {
                // It shares all structures but the first.
                image.memory.push((OTHER_PML4, (layout::PML4 + 0x1000) | 3));
                image.vmcs.set(field::GUEST_CR3, OTHER_PML4);
            }
            Self::Pat => image.load(has, Entry::LOAD_IA32_PAT, Exit::LOAD_IA32_PAT, "load of IA32_PAT")?,
            Self::Efer => image.load(has, Entry::LOAD_IA32_EFER, Exit::LOAD_IA32_EFER, "load of IA32_EFER")?,
            Self::PerfGlobalCtrl => image.load(
                has,
                Entry::LOAD_IA32_PERF_GLOBAL_CTRL,
                Exit::LOAD_IA32_PERF_GLOBAL_CTRL,
                "load of IA32_PERF_GLOBAL_CTRL",
            )?,
            Self::Cpuid => {
                image.memory.push((OTHER_CODE, u64::from(u16::from_le_bytes([0x0F, 0xA2]))));
                image.vmcs.set(field::GUEST_RIP, OTHER_CODE);
            }
            Self::Timer => image.add(
                (has.pin, field::PIN_BASED_VM_EXECUTION_CONTROLS),
                PinBased::ACTIVATE_VMX_PREEMPTION_TIMER,
                "VMX-preemption timer",
            )?,
        }
        Ok(())
    }
}

/// How an entry fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WantedFailure {
    /// There is no current VMCS.
    NoVmcs,
    /// Its launch state is the other one.
    LaunchState,
    /// A pin-based control that must be 1 is 0.
    Control,
    /// CR4.VMXE of the host is 0.
    Host,
    /// RFLAGS of the guest is 0.
    Guest,
    /// The VMCS link pointer is no address of a page.
    LinkPointer,
    /// The MSR with that number, counted from 1, is one that must not be loaded.
    MsrLoad(u32),
}

impl WantedFailure {
    /// How the entry ends.
    pub(super) fn outcome(self, what: Timed) -> Outcome {
        match self {
            Self::NoVmcs => Outcome::FailInvalid,
            Self::LaunchState => Outcome::fail_valid(if what == Timed::Vmlaunch { 4 } else { 5 }),
            Self::Control => Outcome::fail_valid(7),
            Self::Host => Outcome::fail_valid(8),
            Self::Guest => Outcome::EntryFailed { reason: exit_reason::INVALID_GUEST_STATE, qualification: 0 },
            Self::LinkPointer => Outcome::EntryFailed { reason: exit_reason::INVALID_GUEST_STATE, qualification: 4 },
            Self::MsrLoad(number) => {
                Outcome::EntryFailed { reason: exit_reason::MSR_LOADING, qualification: number.into() }
            }
        }
    }

    /// Prepares memory for it; answers what has to be written to the fields once the VMCS has been launched.
    pub(super) fn prepare(self, image: &mut MeasuredImage) -> Vec<(FieldId, u64)> {
        let pin = field::PIN_BASED_VM_EXECUTION_CONTROLS.id();
        match self {
            Self::NoVmcs | Self::LaunchState => Vec::new(),
            // Bit 1 is one of the default1 settings (SDM A.3.1).
            Self::Control => vec![(pin, image.vmcs.raw(pin) & !(1 << 1))],
            Self::Host => vec![(field::HOST_CR4.id(), layout::CR4 & !(1 << 13))],
            Self::Guest => vec![(field::GUEST_RFLAGS.id(), 0)],
            Self::LinkPointer => vec![(field::VMCS_LINK_POINTER.id(), 1)],
            Self::MsrLoad(number) => {
                image.area(layout::ENTRY_MSR_LOAD, number - 1);
                image.memory.push((layout::ENTRY_MSR_LOAD + 16 * u64::from(number - 1), FS_BASE));
                vec![
                    (field::VM_ENTRY_MSR_LOAD_ADDRESS.id(), layout::ENTRY_MSR_LOAD),
                    (field::VM_ENTRY_MSR_LOAD_COUNT.id(), number.into()),
                ]
            }
        }
    }
}
