//! Executing case programs, and bringing memory and processor into the same state before each.
// UNSAFETY: guests are entered.
#![allow(unsafe_code, reason = "guests are entered")]

use vmcs_model::{Capabilities, field};
use vmcs_wire::codec::{BufferFull, Reader, Writer};
use vmcs_wire::layout::{ARENA, HOST_RIP, VMXON_REGION};
use vmcs_wire::program::{SampleWriter, encode_fields_header};
use vmcs_wire::session::{MAX_AREAS, SessionView};
use vmcs_wire::{Ending, Op, Start, StepResult, Timed};

use crate::diagnose;
use crate::memory::{self, PAGE, Region};
use crate::msrs::LoadedMsrs;
use crate::rest::{Rest, encoding};
use crate::vmx::{self, Entered, Flags};

const EXIT_REASON: u64 = encoding(field::EXIT_REASON);
const EXIT_QUALIFICATION: u64 = encoding(field::EXIT_QUALIFICATION);
const HOST_RIP_FIELD: u64 = encoding(field::HOST_RIP);
const NO_VMCS: u64 = u64::MAX;

/// End of the identity mapping.
const MAPPED: u64 = 1 << 32;

/// A set of pages of the arena.
#[derive(Clone, Copy, Default)]
struct Pages(u128);

const _: () = assert!((ARENA.end - ARENA.start) / PAGE <= 128);

impl Pages {
    const ALL: Self = Self((1 << ((ARENA.end - ARENA.start) / PAGE)) - 1);

    fn bit(address: u64) -> u128 {
        if ARENA.contains(&address) { 1 << ((address - ARENA.start) / PAGE) } else { 0 }
    }

    fn insert(&mut self, address: u64) {
        self.0 |= Self::bit(address);
    }

    fn remove(&mut self, address: u64) {
        self.0 &= !Self::bit(address);
    }

    fn contains(self, address: u64) -> bool {
        self.0 & Self::bit(address) != 0
    }

    fn iter(self) -> impl Iterator<Item = u64> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            (left != 0).then(|| {
                let index = left.trailing_zeros();
                left &= left - 1;
                ARENA.start + u64::from(index) * PAGE
            })
        })
    }
}

/// The probe's own VMX regions.
pub(crate) struct Regions {
    /// VMCS revision identifier of the processor.
    pub(crate) revision: u32,
    /// The VMXON region for tidying up when the arena's is not to be used.
    pub(crate) spare_vmxon: Region,
    /// The guest between cases.
    pub(crate) rest: Rest,
}

/// The processor as the cases leave it.
pub(crate) struct CaseRunner<'a> {
    session: SessionView<'a>,
    /// Volatile areas of the session that may have been written to: a bit each.
    written: u64,
    regions: &'a mut Regions,
    /// An entry has left something in the processor.
    disturbed: bool,
    /// The VMXON pointer while in VMX operation.
    vmx: Option<Region>,
    /// Pages to be zeroed before the next case.
    dirty: Pages,
    /// Pages whose VMCS may be active.
    active: Pages,
    /// What the processor can do, once that was asked for.
    capabilities: Option<Capabilities>,
    /// An operation of the case would have harmed the probe.
    refused: bool,
    /// The fields of the volatile areas, each once, and all bits of it that say that an area may be written to.
    area_fields: [(u64, u64); MAX_AREAS],
    area_field_count: usize,
    /// The MSRs that the latest entry may have loaded.
    msrs: LoadedMsrs,
}

impl<'a> CaseRunner<'a> {
    /// A machine outside VMX operation, whose arena is to be zeroed.
    pub(crate) fn new(session: SessionView<'a>, regions: &'a mut Regions) -> Self {
        let mut machine = Self {
            session,
            written: u64::MAX,
            regions,
            disturbed: false,
            vmx: None,
            dirty: Pages::ALL,
            active: Pages::default(),
            capabilities: None,
            refused: false,
            area_fields: [(0, 0); MAX_AREAS],
            area_field_count: 0,
            msrs: LoadedMsrs::NONE,
        };
        for area in session.volatile() {
            let known =
                machine.area_fields[..machine.area_field_count].iter_mut().find(|(field, _)| *field == area.field);
            match known {
                Some((_, mask)) => *mask |= area.mask,
                None => {
                    machine.area_fields[machine.area_field_count] = (area.field, area.mask);
                    machine.area_field_count += 1;
                }
            }
        }
        machine
    }

    /// VMCS revision identifier of the processor.
    pub(crate) fn revision(&self) -> u32 {
        self.regions.revision
    }

    /// Leaves VMX operation, as the next machine expects it.
    pub(crate) fn retire(mut self) {
        self.clear_active();
        self.bring_to_rest();
        if self.vmx.is_some() {
            self.vmxoff();
        }
    }

    /// Brings memory and processor into the state in which every case starts.
    pub(crate) fn reset(&mut self, start: Start) {
        self.refused = false;
        self.clear_active();
        self.bring_to_rest();
        let keep = start == Start::VmxRoot && self.vmx == Some(Region::VMXON) && !self.dirty.contains(VMXON_REGION);
        if self.vmx.is_some() && !keep {
            self.vmxoff();
        }
        core::mem::take(&mut self.dirty).iter().for_each(memory::zero_page);
        let written = core::mem::take(&mut self.written);
        if written != 0 {
            for (index, area) in self.session.volatile().enumerate() {
                if written >> index & 1 != 0 {
                    memory::zero_area(area.address, area.bytes);
                }
            }
        }
        match start {
            Start::VmxRoot if !keep => {
                memory::store(VMXON_REGION, 4, self.regions.revision.into());
                self.vmxon(Region::VMXON);
            }
            // Paging structures of a guest may have been looked for there, and entries marked as accessed.
            Start::VmxRoot if memory::load(VMXON_REGION) != Some(self.regions.revision) => {
                memory::store(VMXON_REGION, 4, self.regions.revision.into());
            }
            Start::VmxRoot => {}
            // The page holds no revision identifier then.
            Start::OutsideVmx => memory::zero_page(VMXON_REGION),
        }
    }

    /// Undoes what entries have left in the processor. No VMCS is active.
    fn bring_to_rest(&mut self) {
        if core::mem::take(&mut self.disturbed) {
            if self.vmx.is_none() {
                self.vmxon(self.regions.spare_vmxon);
            }
            self.regions.rest.bring();
        }
    }

    /// Makes every VMCS inactive and none current.
    fn clear_active(&mut self) {
        if let (Some(pointer), false) = (self.vmx, self.active.0 == 0) {
            // VMCLEAR refuses the VMXON region.
            if self.active.contains(pointer.address()) {
                self.vmxoff();
            }
        }
        if self.active.0 != 0 && self.vmx.is_none() {
            self.vmxon(self.regions.spare_vmxon);
        }
        for region in self.active.iter().filter_map(Region::of_case) {
            vmx::vmclear(region);
        }
        self.active = Pages::default();
        if self.vmx.is_some() {
            // A VMCS outside of the arena.
            if let Some(current) = vmx::current() {
                vmx::vmclear(current);
            }
        }
    }

    fn vmxon(&mut self, region: Region) {
        let flags = vmx::vmxon(region);
        assert!(flags == Flags::Succeed, "VMXON fails: {:?}", flags.result());
        self.vmx = Some(region);
    }

    fn vmxoff(&mut self) {
        let flags = vmx::vmxoff();
        assert!(flags == Flags::Succeed, "VMXOFF fails: {:?}", flags.result());
        self.vmx = None;
    }

    /// Executes the next `count` steps of `program` and writes their results. After an operation that would harm the probe
    /// none is executed.
    ///
    /// # Errors
    /// [`BufferFull`] when the answer does not fit.
    ///
    /// # Panics
    /// When the program does not decode.
    pub(crate) fn run(
        &mut self,
        count: u16,
        program: &mut Reader<'_>,
        answer: &mut Writer<'_>,
    ) -> Result<(), BufferFull> {
        // A copy, which stays in registers.
        let mut reader = *program;
        for _ in 0..count {
            let op = Op::decode(&mut reader).expect("the case decodes");
            if self.refused {
                StepResult::NotRun.map_fields(|()| core::iter::empty()).encode(answer)?;
            } else {
                self.step(op, answer)?;
            }
        }
        *program = reader;
        Ok(())
    }

    /// Executes one step and writes its result.
    #[inline(always)]
    pub(crate) fn step(&mut self, op: Op, answer: &mut Writer<'_>) -> Result<(), BufferFull> {
        let result = match op {
            Op::Vmxon { address } | Op::Vmclear { address } | Op::Vmptrld { address } => {
                match Region::of_case(address) {
                    Some(region) => self.take_region(op, region).result(),
                    None => StepResult::NotRun,
                }
            }
            Op::Vmxoff => {
                let flags = vmx::vmxoff();
                if flags == Flags::Succeed {
                    self.vmx = None;
                }
                flags.result()
            }
            Op::Vmptrst => value(vmx::vmptrst()),
            Op::Vmread { encoding } => value(vmx::vmread(encoding)),
            Op::Vmwrite { encoding, value } => vmx::vmwrite(encoding, value).result(),
            Op::Vmlaunch { after_mov_ss } => return self.enter(false, after_mov_ss, answer),
            Op::Vmresume { after_mov_ss } => return self.enter(true, after_mov_ss, answer),
            Op::Time { what, rounds } => {
                self.written = u64::MAX;
                self.disturbed = true;
                self.msrs.read();
                self.refused = !time(what, rounds, answer)?;
                self.msrs.restore();
                return Ok(());
            }
            Op::Observe { state } => return self.observe(state, answer),
            Op::Vmcall => vmx::vmcall().result(),
            Op::Vmfunc { eax, ecx } => vmx::vmfunc(eax, ecx).result(),
            Op::Invept { kind, descriptor } => vmx::invept(kind, descriptor).result(),
            Op::Invvpid { kind, descriptor } => vmx::invvpid(kind, descriptor).result(),
            Op::WriteImage { image } => match self.session.image(image) {
                Some(entries) => vmx::vmwrite_all(entries).result(),
                None => StepResult::NotRun,
            },
            Op::Store { address, size, value } => {
                self.dirty.insert(address);
                if memory::store(address, size, value) { StepResult::Ok } else { StepResult::NotRun }
            }
            Op::Diagnose { resume } => {
                let capabilities = self.capabilities.get_or_insert_with(diagnose::capabilities);
                StepResult::Value(diagnose::first_violation(
                    capabilities,
                    resume,
                    self.vmx.map_or(NO_VMCS, Region::address),
                ))
            }
        };
        self.refused = result == StepResult::NotRun;
        result.map_fields(|()| core::iter::empty()).encode(answer)
    }

    /// Executes VMXON, VMCLEAR or VMPTRLD.
    #[inline(always)]
    fn take_region(&mut self, op: Op, region: Region) -> Flags {
        let address = region.address();
        self.dirty.insert(address);
        match op {
            Op::Vmxon { .. } => {
                let flags = vmx::vmxon(region);
                // VMXON in VMX operation fails or faults.
                if flags == Flags::Succeed {
                    self.vmx = Some(region);
                }
                flags
            }
            Op::Vmclear { .. } => {
                let flags = vmx::vmclear(region);
                if flags == Flags::Succeed {
                    self.active.remove(address);
                }
                flags
            }
            _ => {
                let flags = vmx::vmptrld(region);
                if flags == Flags::Succeed {
                    self.active.insert(address);
                }
                flags
            }
        }
    }

    #[inline(never)]
    fn enter(&mut self, resume: bool, after_mov_ss: bool, answer: &mut Writer<'_>) -> Result<(), BufferFull> {
        let counts =
            vmx::value(encoding(field::VM_ENTRY_MSR_LOAD_COUNT)) | vmx::value(encoding(field::VM_EXIT_MSR_LOAD_COUNT));
        if counts != 0 {
            self.msrs.read();
        }
        let astray = if vmx::value(HOST_RIP_FIELD) == HOST_RIP { None } else { redirect_exit() };
        // SAFETY: HOST_RIP is the exit path, or a page fault leads there. The rest of the host state and the guest are the
        // case's: those that take the probe with them are not for cases to have, and where one overwrites the probe, its
        // sum tells (`work::run`).
        let entered = unsafe { vmx::enter(resume, after_mov_ss) };
        let entered = match entered {
            // Its number is in a field that the next VMWRITE may change.
            Entered::Here(flags) => Ok(flags.result()),
            Entered::ThroughHostState => Err(()),
        };
        if let Some(host_rip) = astray {
            vmx::vmwrite(HOST_RIP_FIELD, host_rip);
        }
        match entered {
            Ok(result) => result.map_fields(|()| core::iter::empty()).encode(answer)?,
            Err(()) => {
                if counts != 0 {
                    self.msrs.restore();
                }
                self.disturbed = self.disturbed || self.regions.rest.is_disturbed();
                let fields = &self.area_fields[..self.area_field_count];
                if fields.iter().fold(0, |set, &(field, mask)| set | vmx::value(field) & mask) != 0 {
                    self.note_areas();
                }
                StepResult::Exit {
                    reason: vmx::value(EXIT_REASON) as u32,
                    qualification: vmx::value(EXIT_QUALIFICATION),
                    fields: core::iter::empty(),
                }
                .encode(answer)?;
                let observed = self.session.observed();
                vmx::vmread_all(observed, answer.reserve(8 * observed.len())?);
            }
        }
        Ok(())
    }

    /// Notes the volatile areas that an exit with the current VMCS may have written to.
    #[inline(never)]
    fn note_areas(&mut self) {
        for (index, area) in self.session.volatile().enumerate() {
            self.written |= u64::from(vmx::value(area.field) & area.mask != 0) << index;
        }
    }

    /// Writes what the lists' fields hold.
    #[inline(never)]
    fn observe(&self, state: bool, answer: &mut Writer<'_>) -> Result<(), BufferFull> {
        let lists = [self.session.information(), if state { self.session.state() } else { &[] }];
        encode_fields_header(answer, lists.iter().map(|list| list.len()).sum())?;
        for list in lists {
            for encoding in list {
                // 0 for a field that does not exist.
                answer.packed(vmx::value(u64::from_le_bytes(*encoding)))?;
            }
        }
        Ok(())
    }
}

/// Lets the exit path stand in for another HOST_RIP, which is returned.
///
/// An exit to mapped memory other than the exit path would execute whatever lies there, and the probe would not get control
/// back. Beyond 4 GiB nothing is mapped, and the page fault leads to the exit path. The checks on HOST_RIP ask for a
/// canonical address only, so the exit path stands in for the former without a difference.
#[inline(never)]
fn redirect_exit() -> Option<u64> {
    let (read, host_rip) = vmx::vmread(HOST_RIP_FIELD);
    let astray = read == Flags::Succeed && host_rip < MAPPED;
    astray.then(|| {
        vmx::vmwrite(HOST_RIP_FIELD, HOST_RIP);
        host_rip
    })
}

/// Measures `rounds` entries, or nothing as often. `false`: it was refused.
fn time(what: Timed, rounds: u16, answer: &mut Writer<'_>) -> Result<bool, BufferFull> {
    // As in `enter`; but the exit path that takes the time stands in for the usual one, too.
    let (read, host_rip) = vmx::vmread(HOST_RIP_FIELD);
    let mapped = read == Flags::Succeed && host_rip < MAPPED;
    if mapped {
        vmx::vmwrite(HOST_RIP_FIELD, vmx::timed_host_rip());
    }
    let current = vmx::current();
    let first = round(what);
    let result = match first {
        Ok((ending, cycles)) => {
            let mut samples = SampleWriter::begin(answer, ending)?;
            let mut next = Ok((ending, cycles));
            for left in (0..rounds).rev() {
                match next {
                    Ok((as_ever, cycles)) if as_ever == ending => samples.push(cycles)?,
                    _ => break,
                }
                if left > 0 {
                    if what == Timed::Vmlaunch
                        && entered(ending)
                        && let Some(current) = current
                    {
                        vmx::vmclear(current);
                        vmx::vmptrld(current);
                    }
                    next = round(what);
                }
            }
            None
        }
        Err(result) => Some(result),
    };
    if mapped {
        vmx::vmwrite(HOST_RIP_FIELD, host_rip);
    }
    if let Some(result) = result {
        result.map_fields(|()| core::iter::empty()).encode(answer)?;
    }
    Ok(result != Some(StepResult::NotRun))
}

/// One round: how it ended and the cycles it took.
fn round(what: Timed) -> Result<(Ending, u64), StepResult<()>> {
    // SAFETY: as in `CaseRunner::enter`.
    let (entered, cycles) = unsafe { vmx::enter_timed(what) };
    let ending = match entered {
        _ if what == Timed::Nothing => Ending::Nothing,
        Entered::ThroughHostState => {
            Ending::Exit { reason: vmx::value(EXIT_REASON) as u32, qualification: vmx::value(EXIT_QUALIFICATION) }
        }
        Entered::Here(flags) => match flags.result() {
            StepResult::FailInvalid => Ending::FailInvalid,
            StepResult::FailValid(number) => Ending::FailValid(number),
            other => return Err(other),
        },
    };
    // The exit path that takes the time was not where control came back.
    cycles.map(|cycles| (ending, cycles)).ok_or(StepResult::NotRun)
}

/// Whether the VM entry succeeded.
fn entered(ending: Ending) -> bool {
    matches!(ending, Ending::Exit { reason, .. } if reason >> 31 == 0)
}

fn value((flags, value): (Flags, u64)) -> StepResult<()> {
    if flags == Flags::Succeed { StepResult::Value(value) } else { flags.result() }
}
