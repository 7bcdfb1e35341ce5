//! Cases that stop a machine, so that it has to be started again. That takes long, so only few such cases are made.

use vmcs_model::checks::{CheckId, CheckSet, Phase};
use vmcs_model::controls::{Entry, Exit, PinBased, Primary};
use vmcs_model::field::{self, Field, FieldId};
use vmcs_model::formats::{ActivityState, Interruptibility, InterruptionInformation, event_type};
use vmcs_model::registers::{Cr0, Cr4};
use vmcs_model::{FieldValue, ReadMemory, Vmcs};
use vmcs_wire::layout;

use crate::processor::BaseImage;
use crate::processor::Processor;
use crate::processor::memory::CaseMemory;

/// Whether an entry of the image takes the machine down once it has come as far as loading state: host paging that maps
/// nothing or forbids the probe its addresses, MSR areas that nobody prepared and, if it `enters`, a guest that waits for
/// what never comes.
pub(crate) fn takes_the_machine_down(base: &BaseImage, vmcs: &Vmcs, memory: &CaseMemory<'_>, enters: bool) -> bool {
    host_is_lost(base, vmcs)
        || fails_at(vmcs, memory, field::VM_EXIT_MSR_LOAD_COUNT, field::VM_EXIT_MSR_LOAD_ADDRESS)
        || vmcs.get(field::VM_ENTRY_MSR_LOAD_COUNT) > MOST_LOADS
        || uses_unknown_pdptes(vmcs)
        || enters
            && (guest_stays(vmcs)
                || runs_elsewhere(base, vmcs)
                || fails_at(vmcs, memory, field::VM_EXIT_MSR_STORE_COUNT, field::VM_EXIT_MSR_STORE_ADDRESS))
}

/// Entries of the VM-entry MSR-load area that a target may walk.
const MOST_LOADS: u32 = 1024;

/// An event of type 7 for a processor with neither the monitor trap flag nor FRED. All of these fail the same check, and
/// there are implementations that do not survive them.
pub(crate) fn is_unsupported_event(processor: &Processor, field: FieldId, value: u64) -> bool {
    let supported = processor.capabilities.primary.may() & u64::from(Primary::MONITOR_TRAP_FLAG.bits()) != 0
        || processor.capabilities.fred();
    let event = InterruptionInformation::from_raw(value);
    field == field::VM_ENTRY_INTERRUPTION_INFORMATION.id()
        && !supported
        && event.valid()
        && event.event_type() == event_type::OTHER_EVENT
}

/// Whether an implementation may keep events blocked after the case, so that later cases find a state that they do not
/// expect. Some implementations let an entry to SMM through outside of SMM, and some leave SMIs blocked after an entry to
/// the wait-for-SIPI state that fails while it loads MSRs.
pub(crate) fn outlasts_the_case(vmcs: &Vmcs, violated: &CheckSet) -> bool {
    let to_smm = vmcs.get(field::VM_ENTRY_CONTROLS).contains(Entry::ENTRY_TO_SMM)
        && vmcs.get(field::GUEST_INTERRUPTIBILITY_STATE).contains(Interruptibility::SMI);
    let waits = vmcs.get(field::GUEST_ACTIVITY_STATE) == ActivityState::WAIT_FOR_SIPI
        && violated.iter().next().is_some_and(|first| first.info().phase == Phase::MsrLoading);
    to_smm || waits || walks_the_pdptes(vmcs)
}

/// Whether the guest waits or runs until a VMX-preemption timer ends that, and not soon. An emulator takes up to some seconds
/// for it, so whether such a case is completed or counts as hung depends on how fast the host is, and the same seed would
/// not give the same report.
pub(crate) fn ends_late(base: &BaseImage, vmcs: &Vmcs) -> bool {
    let waits = !matches!(vmcs.get(field::GUEST_ACTIVITY_STATE), ActivityState::ACTIVE | ActivityState::WAIT_FOR_SIPI);
    timer(vmcs).is_some_and(|value| value >= SOON) && (waits || runs_elsewhere(base, vmcs))
}

/// The VMX-preemption timer value, if the timer is active.
fn timer(vmcs: &Vmcs) -> Option<u32> {
    let pin = vmcs.get(field::PIN_BASED_VM_EXECUTION_CONTROLS);
    pin.contains(PinBased::ACTIVATE_VMX_PREEMPTION_TIMER).then(|| vmcs.get(field::VMX_PREEMPTION_TIMER_VALUE))
}

/// A VMX-preemption timer with a smaller value ends a guest's stay so soon that no host is too slow for it.
const SOON: u32 = 1 << 12;

/// The guest takes the PDPTEs of other cases for another paging structure: it marks them as accessed, and as PDPTEs they
/// are no longer valid.
fn walks_the_pdptes(vmcs: &Vmcs) -> bool {
    let pae = vmcs.get(field::GUEST_CR4).contains(Cr4::PAE)
        && !vmcs.get(field::VM_ENTRY_CONTROLS).contains(Entry::IA_32E_MODE_GUEST);
    vmcs.get(field::GUEST_CR0).contains(Cr0::PG) && !pae && vmcs.get(field::GUEST_CR3) & !0xFFF == layout::PAE_PDPT
}

/// Whether the probe cannot go on with the host state that an exit loads.
fn host_is_lost(base: &BaseImage, vmcs: &Vmcs) -> bool {
    const TABLE: u64 = 0x000F_FFFF_FFFF_F000;
    /// Access-disable and write-disable of protection key 0.
    const KEY_0: u64 = 3;
    /// Shadow stacks and ENDBRANCH of supervisor mode.
    const ENFORCED: u64 = 1 | 1 << 2;
    let (old, new) = (&base.vmcs, vmcs);
    let cr4 = new.get(field::HOST_CR4);
    let exit = new.get(field::PRIMARY_VM_EXIT_CONTROLS);
    (old.raw(field::HOST_CR3.id()) ^ new.raw(field::HOST_CR3.id())) & TABLE != 0
        || cr4.intersects(Cr4::LA57 | Cr4::LASS | Cr4::FRED)
        || cr4.contains(Cr4::CET)
            && (!exit.contains(Exit::LOAD_CET_STATE) || new.raw(field::HOST_IA32_S_CET.id()) & ENFORCED != 0)
        || cr4.contains(Cr4::PKS) && new.raw(field::HOST_IA32_PKRS.id()) & KEY_0 != 0
}

/// Whether neither an instruction of the guest nor a timer causes a VM exit.
fn guest_stays(vmcs: &Vmcs) -> bool {
    match vmcs.get(field::GUEST_ACTIVITY_STATE) {
        ActivityState::ACTIVE => false,
        ActivityState::WAIT_FOR_SIPI => true,
        _ => timer(vmcs).is_none_or(|value| value >= SOON),
    }
}

/// Whether nothing but `check` keeps the machine from walking an MSR area that nobody prepared, and the check is not about
/// the areas: an implementation that lacks it would go down.
pub(crate) fn relies_on(check: CheckId, vmcs: &Vmcs, memory: &CaseMemory<'_>) -> bool {
    let areas = [
        (field::VM_EXIT_MSR_STORE_COUNT, field::VM_EXIT_MSR_STORE_ADDRESS),
        (field::VM_EXIT_MSR_LOAD_COUNT, field::VM_EXIT_MSR_LOAD_ADDRESS),
    ];
    let is_about = |(count, address): &(Field<u32>, Field<u64>)| {
        check.info().fields.iter().any(|field| *field == count.id() || *field == address.id())
    };
    !areas.iter().any(is_about) && areas.into_iter().any(|(count, address)| fails_at(vmcs, memory, count, address))
}

/// Whether an MSR area that an exit goes through has entries that the case has not prepared. A failure there is a VMX abort.
fn fails_at(vmcs: &Vmcs, memory: &CaseMemory<'_>, count: Field<u32>, address: Field<u64>) -> bool {
    /// Entries that are looked at.
    const MOST: u32 = 8;
    /// MSRs that can be read and written on every processor with Intel 64.
    const KNOWN: [u64; 2] = [0x174, 0xC000_0081];
    let (entries, at) = (vmcs.get(count), vmcs.get(address));
    entries > MOST || (0..u64::from(entries)).any(|entry| !is_known(memory, at.wrapping_add(16 * entry), &KNOWN))
}

/// Whether an entry of an MSR area is prepared: one of the MSRs, and a small value.
fn is_known(memory: &CaseMemory<'_>, entry: u64, msrs: &[u64]) -> bool {
    layout::ARENA.contains(&entry)
        && memory.read_u64(entry).is_some_and(|msr| msrs.contains(&msr))
        && memory.read_u64(entry + 8).is_some_and(|value| value < 1 << 32)
}

/// Whether a VMX-preemption timer ends the guest's stay before its first instruction.
fn is_stopped(vmcs: &Vmcs) -> bool {
    timer(vmcs) == Some(0)
}

/// Whether the guest executes one instruction although a timer should stop it, on an implementation where blocking by STI
/// or by MOV SS holds the timer up, and that is another instruction than the base has: what it does is not known.
pub(crate) fn runs_on_while_blocked(base: &BaseImage, vmcs: &Vmcs) -> bool {
    let blocking = vmcs.get(field::GUEST_INTERRUPTIBILITY_STATE);
    blocking.intersects(Interruptibility::STI | Interruptibility::MOV_SS)
        && is_stopped(vmcs)
        && starts_elsewhere(base, vmcs)
}

/// The guest executes something else than what the base executes: no timer stops it at once, and it starts elsewhere or
/// in another mode.
fn runs_elsewhere(base: &BaseImage, vmcs: &Vmcs) -> bool {
    !is_stopped(vmcs) && starts_elsewhere(base, vmcs)
}

/// Whether the guest starts elsewhere than the base, or in another mode.
fn starts_elsewhere(base: &BaseImage, vmcs: &Vmcs) -> bool {
    let start = [
        field::GUEST_RIP.id(),
        field::GUEST_CS_BASE.id(),
        field::GUEST_CS_ACCESS_RIGHTS.id(),
        field::GUEST_CR0.id(),
        field::GUEST_CR3.id(),
        field::GUEST_CR4.id(),
        field::GUEST_IA32_EFER.id(),
        field::GUEST_RFLAGS.id(),
        field::EPT_POINTER.id(),
        field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(),
        field::VM_ENTRY_CONTROLS.id(),
    ];
    start.into_iter().any(|field| vmcs.raw(field) != base.vmcs.raw(field))
}

/// A number of entries in an MSR area of the VM exit whose size takes more than 32 bits. There are implementations that
/// then walk memory for minutes.
pub(crate) fn is_vast_area(field: FieldId, value: u64) -> bool {
    let counts = [field::VM_EXIT_MSR_STORE_COUNT.id(), field::VM_EXIT_MSR_LOAD_COUNT.id()];
    counts.contains(&field) && value >= 1 << 28
}

/// An entry of a VM-entry MSR-load area that names an MSR for reading only. All of these fail the same check, and there
/// are implementations that do not survive the attempt.
pub(crate) fn names_read_only_msr((address, value): (u64, u64)) -> bool {
    address.is_multiple_of(16)
        && (layout::ENTRY_MSR_LOAD..layout::EXIT_MSR_STORE).contains(&address)
        && (value == 0x17 || (0x480..0x494).contains(&value))
}

/// The guest uses PAE paging and its PDPTEs come from memory that is neither the case's nor empty: the probe, devices,
/// ROMs.
fn uses_unknown_pdptes(vmcs: &Vmcs) -> bool {
    let pae = vmcs.get(field::GUEST_CR0).contains(Cr0::PG)
        && vmcs.get(field::GUEST_CR4).contains(Cr4::PAE)
        && !vmcs.get(field::VM_ENTRY_CONTROLS).contains(Entry::IA_32E_MODE_GUEST);
    pae && !holds_known_pdptes(vmcs.get(field::GUEST_CR3))
}

/// Whether it is known what a guest with PAE paging finds at that CR3: memory of the case, the probe's paging
/// structures, or none at all. Elsewhere are the probe, devices and ROMs.
pub(crate) fn holds_known_pdptes(cr3: u64) -> bool {
    let table = cr3 & 0xFFFF_FFE0;
    let nowhere = layout::MEMORY_END..layout::HIGH_DEVICES.start;
    layout::ARENA.contains(&table) || layout::PAGING.contains(&table) || nowhere.contains(&table)
}
