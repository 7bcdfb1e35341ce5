//! Restores the processor between cases, because what an entry leaves in it would show in a later case.
//!
//! An exit restores what the host-state area says, and the exit path of `enter.s` restores what every processor has. What
//! is left is of two kinds. The first kind is restored by [`Rest::bring`], which enters a guest of the probe's own whose
//! entry and exit load all of it: registers that no instruction writes, such as SSP, registers that an exit loads only if a
//! control says so, and state of a guest that an implementation keeps although it should not. The second kind are the MSRs
//! that an MSR-load area names: `msrs` reads them before the entry and writes them back after it.
// UNSAFETY: a guest is entered.
#![allow(unsafe_code, reason = "a guest is entered")]

use vmcs_model::FieldValue;
use vmcs_model::controls::{Entry, Exit, PinBased, Primary, SecondaryExit};
use vmcs_model::field::{self, Field};
use vmcs_model::formats::Interruptibility;
use vmcs_model::msr::CapabilityMsr;
use vmcs_wire::layout;

use crate::console;
use crate::diagnose::ENCODINGS;
use crate::memory::Region;
use crate::vmx::{self, Entered, Flags};

const IA32_SPEC_CTRL: u32 = 0x48;

/// Encoding of a field as VMREAD and VMWRITE take it.
pub(crate) const fn encoding<T: FieldValue>(field: Field<T>) -> u64 {
    field.encoding().0 as u64
}

/// A control word of the current VMCS; 0 if there is none.
fn word<T: FieldValue>(field: Field<T>) -> T {
    T::from_raw(vmx::value(encoding(field)))
}

/// A register that an entry loads, and that an exit loads or clears only if a control says so: its controls, and a guest
/// and a host field for each of its parts. What has no such control or field has 0.
struct LoadedRegister {
    entry: Entry,
    exit: Exit,
    secondary_exit: SecondaryExit,
    fields: &'static [(u64, u64)],
}

/// All of them, but for those that the exit path sets.
const LOADED_REGISTERS: [LoadedRegister; 9] = {
    const fn new(entry: Entry, exit: Exit, fields: &'static [(u64, u64)]) -> LoadedRegister {
        LoadedRegister { entry, exit, secondary_exit: SecondaryExit::empty(), fields }
    }
    const fn secondary(entry: Entry, secondary_exit: SecondaryExit, fields: &'static [(u64, u64)]) -> LoadedRegister {
        LoadedRegister { entry, exit: Exit::empty(), secondary_exit, fields }
    }
    const fn pair(guest: Field<u64>, host: Field<u64>) -> (u64, u64) {
        (encoding(guest), encoding(host))
    }
    const fn guest<T: FieldValue>(guest: Field<T>) -> (u64, u64) {
        (encoding(guest), 0)
    }
    [
        new(
            Entry::LOAD_IA32_PERF_GLOBAL_CTRL,
            Exit::LOAD_IA32_PERF_GLOBAL_CTRL,
            &[pair(field::GUEST_IA32_PERF_GLOBAL_CTRL, field::HOST_IA32_PERF_GLOBAL_CTRL)],
        ),
        new(Entry::LOAD_IA32_BNDCFGS, Exit::CLEAR_IA32_BNDCFGS, &[guest(field::GUEST_IA32_BNDCFGS)]),
        new(Entry::LOAD_IA32_RTIT_CTL, Exit::CLEAR_IA32_RTIT_CTL, &[guest(field::GUEST_IA32_RTIT_CTL)]),
        new(Entry::LOAD_UINV, Exit::CLEAR_UINV, &[guest(field::GUEST_UINV)]),
        new(
            Entry::LOAD_CET_STATE,
            Exit::LOAD_CET_STATE,
            &[
                pair(field::GUEST_IA32_S_CET, field::HOST_IA32_S_CET),
                pair(field::GUEST_SSP, field::HOST_SSP),
                pair(field::GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR, field::HOST_IA32_INTERRUPT_SSP_TABLE_ADDR),
            ],
        ),
        new(Entry::LOAD_GUEST_IA32_LBR_CTL, Exit::CLEAR_IA32_LBR_CTL, &[guest(field::GUEST_IA32_LBR_CTL)]),
        new(Entry::LOAD_PKRS, Exit::LOAD_PKRS, &[pair(field::GUEST_IA32_PKRS, field::HOST_IA32_PKRS)]),
        secondary(
            Entry::LOAD_FRED,
            SecondaryExit::LOAD_FRED,
            &[
                pair(field::GUEST_IA32_FRED_CONFIG, field::HOST_IA32_FRED_CONFIG),
                pair(field::GUEST_IA32_FRED_RSP1, field::HOST_IA32_FRED_RSP1),
                pair(field::GUEST_IA32_FRED_RSP2, field::HOST_IA32_FRED_RSP2),
                pair(field::GUEST_IA32_FRED_RSP3, field::HOST_IA32_FRED_RSP3),
                pair(field::GUEST_IA32_FRED_STKLVLS, field::HOST_IA32_FRED_STKLVLS),
                pair(field::GUEST_IA32_FRED_SSP1, field::HOST_IA32_FRED_SSP1),
                pair(field::GUEST_IA32_FRED_SSP2, field::HOST_IA32_FRED_SSP2),
                pair(field::GUEST_IA32_FRED_SSP3, field::HOST_IA32_FRED_SSP3),
            ],
        ),
        secondary(
            Entry::LOAD_IA32_SPEC_CTRL,
            SecondaryExit::LOAD_IA32_SPEC_CTRL,
            &[pair(field::GUEST_IA32_SPEC_CTRL, field::HOST_IA32_SPEC_CTRL)],
        ),
    ]
};

/// All controls of [`LOADED_REGISTERS`].
const CONTROLS_OF_LOADED: (Entry, Exit, SecondaryExit) = {
    let (mut entry, mut exit, mut secondary_exit) = (Entry::empty(), Exit::empty(), SecondaryExit::empty());
    let mut index = 0;
    while index < LOADED_REGISTERS.len() {
        entry = entry.union(LOADED_REGISTERS[index].entry);
        exit = exit.union(LOADED_REGISTERS[index].exit);
        secondary_exit = secondary_exit.union(LOADED_REGISTERS[index].secondary_exit);
        index += 1;
    }
    (entry, exit, secondary_exit)
};

/// Exits that set a register to 0.
const CLEARING_EXITS: Exit =
    Exit::CLEAR_IA32_BNDCFGS.union(Exit::CLEAR_IA32_RTIT_CTL).union(Exit::CLEAR_UINV).union(Exit::CLEAR_IA32_LBR_CTL);

/// The guest of the probe's own.
pub(crate) struct Rest {
    /// Its VMCS.
    region: Region,
    state: State,
    /// What the exit loads that it does not load as 0: as the processor had it before any case.
    host: [(u64, u64); 2],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is written to the VMCS yet.
    Unwritten,
    /// The VMCS is clear, and valid.
    Ready,
    /// The processor does not enter it.
    Refused,
}

impl Rest {
    /// `region` is to hold the guest's VMCS. No case has been executed yet.
    pub(crate) fn new(region: Region) -> Self {
        let value = |msr: u32| vmx::rdmsr(msr).unwrap_or(0);
        let host = [
            (encoding(field::HOST_IA32_PERF_GLOBAL_CTRL), value(x86::msr::IA32_PERF_GLOBAL_CTRL)),
            (encoding(field::HOST_IA32_SPEC_CTRL), value(IA32_SPEC_CTRL)),
        ];
        Self { region, state: State::Unwritten, host }
    }

    /// Whether the entry by which control has just come back through the host-state area has left something behind.
    #[inline]
    pub(crate) fn is_disturbed(&self) -> bool {
        /// Exits of which it depends on other fields.
        const EXITS: Exit = CONTROLS_OF_LOADED.1.difference(CLEARING_EXITS).union(Exit::ACTIVATE_SECONDARY_CONTROLS);
        // Mostly not: together, so that there is one branch.
        let mostly_zero = vmx::value(encoding(field::VM_ENTRY_CONTROLS)) & CONTROLS_OF_LOADED.0.to_raw()
            | vmx::value(encoding(field::PRIMARY_VM_EXIT_CONTROLS)) & EXITS.to_raw()
            | vmx::value(encoding(field::GUEST_INTERRUPTIBILITY_STATE)) & Interruptibility::NMI.to_raw()
            | vmx::value(encoding(field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS))
                & Primary::MONITOR_TRAP_FLAG.to_raw()
            | vmx::value(encoding(field::VMX_PREEMPTION_TIMER_VALUE));
        mostly_zero != 0 && self.is_disturbed_indeed()
    }

    #[inline(never)]
    fn is_disturbed_indeed(&self) -> bool {
        let pin = word(field::PIN_BASED_VM_EXECUTION_CONTROLS);
        let (entries, exits, _) = CONTROLS_OF_LOADED;
        let (entry, exit) = (word(field::VM_ENTRY_CONTROLS), word(field::PRIMARY_VM_EXIT_CONTROLS));
        (entry.intersects(entries) || exit.intersects(exits.union(Exit::ACTIVATE_SECONDARY_CONTROLS)))
            && self.has_loaded(entry, exit)
            // There are implementations in which a guest with another value of 0 then finds what is left of this one ...
            || pin.contains(PinBased::ACTIVATE_VMX_PREEMPTION_TIMER) && word(field::VMX_PREEMPTION_TIMER_VALUE) != 0
            // ... in which virtual-NMI blocking outlasts the guest ...
            || pin.contains(PinBased::VIRTUAL_NMIS)
                && word(field::GUEST_INTERRUPTIBILITY_STATE).contains(Interruptibility::NMI)
            // ... and in which the monitor trap flag of a guest that exits at once makes the next one's injection wait.
            || word(field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS).contains(Primary::MONITOR_TRAP_FLAG)
    }

    /// Whether a register of [`LOADED_REGISTERS`] holds another value than before all cases. An entry's value is in the guest
    /// field: that it has loaded or its exit has saved.
    #[inline(never)]
    fn has_loaded(&self, entry: Entry, exit: Exit) -> bool {
        let secondary_exit = match exit.contains(Exit::ACTIVATE_SECONDARY_CONTROLS) {
            true => word(field::SECONDARY_VM_EXIT_CONTROLS),
            false => SecondaryExit::empty(),
        };
        let at_rest = |host: u64| self.host.iter().find(|(field, _)| *field == host).map_or(0, |(_, value)| *value);
        let differs = |field: u64, host: u64| vmx::value(field) != at_rest(host);
        LOADED_REGISTERS.iter().any(|loaded| {
            if exit.intersects(loaded.exit) || secondary_exit.intersects(loaded.secondary_exit) {
                loaded.fields.iter().any(|&(_, host)| host != 0 && differs(host, host))
            } else {
                entry.intersects(loaded.entry) && loaded.fields.iter().any(|&(guest, host)| differs(guest, host))
            }
        })
    }

    /// Enters the guest and comes back: the processor is then as before all cases. It has to be in VMX operation, with
    /// another VMXON region; no VMCS is current then.
    pub(crate) fn bring(&mut self) {
        if self.state == State::Refused {
            return;
        }
        if !self.enter() {
            self.state = State::Refused;
            console::say(format_args!("the guest between cases is not entered: cases may see what others have left"));
        }
        vmx::vmclear(self.region);
    }

    fn enter(&mut self) -> bool {
        if self.state == State::Unwritten {
            vmx::vmclear(self.region);
        }
        if vmx::vmptrld(self.region) != Flags::Succeed {
            return false;
        }
        if self.state == State::Unwritten {
            self.write();
            self.state = State::Ready;
        }
        // The last exit has saved others.
        let (rip, rsp) = vmx::guest_at_rest();
        let begin = [
            (encoding(field::GUEST_RIP), rip),
            (encoding(field::GUEST_RSP), rsp),
            (encoding(field::GUEST_RFLAGS), 2),
            (encoding(field::GUEST_INTERRUPTIBILITY_STATE), 0),
        ];
        begin.into_iter().for_each(set);
        // SAFETY: HOST_RIP and the rest of the host state are those of the exit path and the probe (`write`). The guest uses the
        // probe's own tables and executes two instructions, IRET and VMCALL; it writes nothing, and an exception ends it
        // by a triple fault, as its IDT has no entries.
        let entered = unsafe { vmx::enter(false, false) };
        matches!(entered, Entered::ThroughHostState) && vmx::value(encoding(field::EXIT_REASON)) >> 31 == 0
    }

    /// Writes the whole VMCS.
    fn write(&self) {
        ENCODINGS.iter().for_each(|encoding| set((u64::from(*encoding), 0)));
        STATE.into_iter().chain(self.host).for_each(set);

        let read = |msr: CapabilityMsr| vmx::rdmsr(msr.number()).unwrap_or(0);
        let precise = read(CapabilityMsr::Basic) >> TRUE_CONTROLS & 1 == 1;
        for (field, [usual, precise_one], wanted) in CONTROLS {
            let allowed = read(if precise { precise_one } else { usual });
            set((field, (wanted | allowed & 0xFFFF_FFFF) & allowed >> 32));
        }
        set((encoding(field::SECONDARY_VM_EXIT_CONTROLS), CONTROLS_OF_LOADED.2.bits() & read(CapabilityMsr::Exit2)));
        // Some cycles more than the guest takes, and over before the next case enters one.
        set((encoding(field::VMX_PREEMPTION_TIMER_VALUE), 2 + (32 >> (read(CapabilityMsr::Misc) & 0x1F))));
    }
}

/// VMWRITE; a field that the processor does not have stays without.
fn set((field, value): (u64, u64)) {
    vmx::vmwrite(field, value);
}

/// IA32_VMX_BASIC: the capability MSRs TRUE_… exist.
const TRUE_CONTROLS: u32 = 55;

/// Control words of the guest at rest: where its capabilities stand, and what is wanted where it is allowed.
const CONTROLS: [(u64, [CapabilityMsr; 2], u64); 4] = [
    (
        encoding(field::PIN_BASED_VM_EXECUTION_CONTROLS),
        [CapabilityMsr::Pinbased, CapabilityMsr::TruePinbased],
        PinBased::NMI_EXITING.union(PinBased::VIRTUAL_NMIS).union(PinBased::ACTIVATE_VMX_PREEMPTION_TIMER).bits()
            as u64,
    ),
    (
        encoding(field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS),
        [CapabilityMsr::Procbased, CapabilityMsr::TrueProcbased],
        Primary::MONITOR_TRAP_FLAG.bits() as u64,
    ),
    (
        encoding(field::PRIMARY_VM_EXIT_CONTROLS),
        [CapabilityMsr::Exit, CapabilityMsr::TrueExit],
        CONTROLS_OF_LOADED
            .1
            .union(Exit::HOST_ADDRESS_SPACE_SIZE)
            .union(Exit::LOAD_IA32_EFER)
            .union(Exit::ACTIVATE_SECONDARY_CONTROLS)
            .bits() as u64,
    ),
    (
        encoding(field::VM_ENTRY_CONTROLS),
        [CapabilityMsr::Entry, CapabilityMsr::TrueEntry],
        Entry::IA_32E_MODE_GUEST.union(Entry::LOAD_IA32_EFER).bits() as u64,
    ),
];

/// What is not 0 in the rest of its VMCS: a plain 64-bit guest with the probe's own tables, and the probe as the host.
const STATE: [(u64, u64); 49] = state();

const fn state() -> [(u64, u64); 49] {
    /// Present, accessed, flat: code and data; the others.
    const CODE: u64 = 0xA09B;
    const DATA: u64 = 0xC093;
    const BUSY_TSS: u64 = 0x8B;
    const UNUSABLE: u64 = 1 << 16;
    let mut state = [(0, 0); 49];
    let mut filled = 0;
    // ES, CS, SS, DS, FS, GS, LDTR, TR: the encodings of neighbours differ by 2.
    let mut register = 0;
    while register < 8 {
        let (selector, limit, rights) = match register {
            1 => (layout::CODE_SELECTOR, u32::MAX, CODE),
            6 => (0, 0, UNUSABLE),
            7 => (layout::TSS_SELECTOR, layout::TSS_LIMIT, BUSY_TSS),
            _ => (layout::DATA_SELECTOR, u32::MAX, DATA),
        };
        let next = 2 * register;
        state[filled] = (encoding(field::GUEST_ES_SELECTOR) + next, selector as u64);
        state[filled + 1] = (encoding(field::GUEST_ES_LIMIT) + next, limit as u64);
        state[filled + 2] = (encoding(field::GUEST_ES_ACCESS_RIGHTS) + next, rights);
        filled += 3;
        if register < 6 {
            state[filled] = (encoding(field::HOST_ES_SELECTOR) + next, selector as u64);
            filled += 1;
        }
        register += 1;
    }
    let others = [
        (encoding(field::VMCS_LINK_POINTER), u64::MAX),
        (encoding(field::GUEST_TR_BASE), layout::TSS),
        (encoding(field::GUEST_CR0), layout::CR0),
        (encoding(field::GUEST_CR3), layout::PML4),
        (encoding(field::GUEST_CR4), layout::CR4),
        (encoding(field::GUEST_GDTR_BASE), layout::GDT),
        (encoding(field::GUEST_GDTR_LIMIT), layout::GDT_LIMIT as u64),
        (encoding(field::GUEST_DR7), 0x400),
        (encoding(field::GUEST_IA32_EFER), layout::EFER),
        (encoding(field::HOST_TR_SELECTOR), layout::TSS_SELECTOR as u64),
        (encoding(field::HOST_TR_BASE), layout::TSS),
        (encoding(field::HOST_CR0), layout::CR0),
        (encoding(field::HOST_CR3), layout::PML4),
        (encoding(field::HOST_CR4), layout::CR4),
        (encoding(field::HOST_GDTR_BASE), layout::GDT),
        (encoding(field::HOST_IDTR_BASE), layout::IDT),
        (encoding(field::HOST_RSP), layout::HOST_RSP),
        (encoding(field::HOST_RIP), layout::HOST_RIP),
        (encoding(field::HOST_IA32_EFER), layout::EFER),
    ];
    let mut index = 0;
    while index < others.len() {
        state[filled] = others[index];
        filled += 1;
        index += 1;
    }
    assert!(filled == state.len());
    state
}
