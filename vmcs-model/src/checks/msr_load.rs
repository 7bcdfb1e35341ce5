//! The VM-entry MSR-load area.

use super::msr_rules::msr_rule;
use super::msr_write::{LoadedState, Write, loads_simply, write};
use super::{Failure, MSR_ENTRY_BYTES, checks, msr_area_last_byte};
use crate::capabilities::{Capabilities, Facts};
use crate::context::EntryContext;
use crate::controls::Entry;
use crate::field;
use crate::formats::exit_reason;
use crate::memory::ReadMemory;
use crate::msr::CapabilityMsr;
use crate::outcome::Outcome;
use crate::profile::CpuidLeaf;
use crate::registers::Cr0;
use crate::vmcs::{ReadFields, Unknown};

checks! {
    /// The loading of MSRs at VM entry. Entries are processed in order, with the guest state already loaded; the first that
    /// cannot be loaded ends the VM entry, and its number, counted from 1, is the exit qualification. Only the rules that
    /// this entry breaks count as violated.
    pub enum MsrLoadCheck, MsrLoading, sdm "27.4" "Loading MSRs", fails Failure::new(msr_failure(0)), |c|
    unless usual(c),
    [seldom] when c.get(field::VM_ENTRY_MSR_LOAD_COUNT) != 0, "the VM-entry MSR-load count is not 0" => {
        /// Bits 63:32 of the first qword of an entry are 0.
        Reserved "msrload.reserved-63-32" [VM_ENTRY_MSR_LOAD_ADDRESS, VM_ENTRY_MSR_LOAD_COUNT, GUEST_CR0, VM_ENTRY_CONTROLS, GUEST_IA32_RTIT_CTL] => keeps(c, Rules::RESERVED);
        /// An entry does not name IA32_FS_BASE (C0000100H) or IA32_GS_BASE (C0000101H).
        FsGsBase "msrload.fs-gs-base" [VM_ENTRY_MSR_LOAD_ADDRESS, VM_ENTRY_MSR_LOAD_COUNT, GUEST_CR0, VM_ENTRY_CONTROLS, GUEST_IA32_RTIT_CTL] => keeps(c, Rules::FS_GS_BASE);
        /// An entry does not name an MSR from 800H to 8FFH, an x2APIC register, whatever the mode of the APIC.
        X2apic "msrload.x2apic" [VM_ENTRY_MSR_LOAD_ADDRESS, VM_ENTRY_MSR_LOAD_COUNT, GUEST_CR0, VM_ENTRY_CONTROLS, GUEST_IA32_RTIT_CTL] => keeps(c, Rules::X2APIC);
        /// An entry does not name an MSR that can be written in SMM only, IA32_SMM_MONITOR_CTL (9BH), IA32_SMRR_PHYSBASE
        /// (1F2H) or IA32_SMRR_PHYSMASK (1F3H), unless the VM entry began in SMM.
        SmmOnly "msrload.smm-only" [VM_ENTRY_MSR_LOAD_ADDRESS, VM_ENTRY_MSR_LOAD_COUNT, GUEST_CR0, VM_ENTRY_CONTROLS, GUEST_IA32_RTIT_CTL] => keeps(c, Rules::SMM_ONLY);
        /// An entry does not name an MSR that the processor refuses to load at VM entry. The SDM says that a processor may
        /// refuse IA32_BIOS_UPDT_TRIG (79H) and IA32_BIOS_SIGN_ID (8BH), and leaves it to the processor.
        ModelSpecific "msrload.model-specific" [VM_ENTRY_MSR_LOAD_ADDRESS, VM_ENTRY_MSR_LOAD_COUNT, GUEST_CR0, VM_ENTRY_CONTROLS, GUEST_IA32_RTIT_CTL] -> Failure::new(msr_failure(0)).optional() =>
            keeps(c, Rules::MODEL_SPECIFIC);
        /// WRMSR of the value at CPL 0 would not raise #GP. MSRs that the model has no rule for, and values that depend on what no profile knows, leave the check open.
        Wrmsr "msrload.wrmsr-gp" [VM_ENTRY_MSR_LOAD_ADDRESS, VM_ENTRY_MSR_LOAD_COUNT, GUEST_CR0, VM_ENTRY_CONTROLS, GUEST_IA32_RTIT_CTL] =>
            keeps(c, Rules::WRMSR);
        /// The count does not exceed the recommended maximum, 512 × (IA32_VMX_MISC[27:25] + 1). Beyond it the behaviour is
        /// undefined: from the first entry beyond, every outcome is permitted.
        CountLimit "msrload.count-limit" [VM_ENTRY_MSR_LOAD_COUNT] -> Failure::new(msr_failure(0)).or(Outcome::MACHINE_CHECK).optional() =>
            c.get(field::VM_ENTRY_MSR_LOAD_COUNT) <= recommended_maximum(c.msr(CapabilityMsr::Misc));
    }
}

/// A VM-entry failure due to MSR loading at the entry of that number.
pub(crate) const fn msr_failure(entry: u64) -> Outcome {
    Outcome::EntryFailed { reason: exit_reason::MSR_LOADING, qualification: entry }
}

bitflags::bitflags! {
    /// Rules that an entry of the area can break.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct Rules: u8 {
        const RESERVED = 1 << 0;
        const FS_GS_BASE = 1 << 1;
        const X2APIC = 1 << 2;
        const SMM_ONLY = 1 << 3;
        const MODEL_SPECIFIC = 1 << 4;
        const WRMSR = 1 << 5;
    }
}

/// What the entries of the area break.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MsrLoads {
    broken: Rules,
    open: Rules,
}

/// What one entry of the area may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryFate {
    /// The VM entry fails here.
    Fails,
    /// The VM entry may fail here.
    MayFail,
}

/// What follows the entries that were judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterEntries {
    /// Nothing: the VM entry failed.
    Failed,
    /// The MSRs are loaded.
    Loaded,
    /// From the entry with the number `from` on, the contents of the area are not known, or the behaviour is undefined.
    /// `machine_check` says that a machine check is permitted, too.
    Undefined { from: u64, machine_check: bool },
}

/// The recommended maximum of entries in an MSR area, 512 × (IA32_VMX_MISC\[27:25\] + 1).
const fn recommended_maximum(has: &Capabilities) -> u32 {
    512 * ((has.misc >> 25 & 7) as u32 + 1)
}

/// Whether the area is an ordinary one: none, or a short list of MSRs that all load, as [`loads_simply`] tells without a
/// closer look.
///
/// With it the bench's `valid` image, which loads three MSRs, takes 1087 instructions, without it 1585: callgrind of
/// `benches/examples/count.rs`, rustc 1.95, x86-64, for a Sapphire Rapids.
#[inline(always)]
fn usual<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    /// The most entries of a short list. No processor has a smaller recommended maximum.
    const SHORT: u32 = 512;
    let (count, area) = (c.get(field::VM_ENTRY_MSR_LOAD_COUNT), c.get(field::VM_ENTRY_MSR_LOAD_ADDRESS));
    // Memory is not read if the area's address is bad. The checks on controls judge the address.
    count == 0
        || count <= SHORT
            && area & (MSR_ENTRY_BYTES - 1) == 0
            && msr_area_last_byte(area, count).is_some_and(|last| c.attempt().capabilities.address_fits(last))
            && (0..u64::from(count)).all(|i| {
                let entry = area.wrapping_add(i * MSR_ENTRY_BYTES);
                let (first, value) = (c.try_read_u64(entry), c.try_read_u64(entry.wrapping_add(8)));
                first.zip(value).is_some_and(|(first, value)| {
                    let number = u32::try_from(first);
                    let rule = number.ok().filter(|number| *number > MAY_BE_REFUSED).and_then(msr_rule);
                    rule.is_some_and(|rule| loads_simply(c.attempt().capabilities, rule, value))
                })
            })
}

/// The highest number among the MSRs that have a rule, but that an entry of the area may not name.
const MAY_BE_REFUSED: u32 = 0x9B;

fn keeps<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>, rule: Rules) -> bool {
    let loads = c.msr_loads();
    if loads.open.intersects(rule) && !loads.broken.intersects(rule) {
        c.met_unknown(c.unknown_msr_load());
    }
    !loads.broken.intersects(rule)
}

impl<R: ReadFields, M: ReadMemory> EntryContext<'_, R, M> {
    /// What the area breaks, judged once.
    fn msr_loads(&self) -> MsrLoads {
        if let Some(loads) = self.notes.msr_loads.get() {
            return loads;
        }
        let mut loads = MsrLoads::default();
        // If an earlier entry may fail, a later one may not be reached.
        let mut doubtful = false;
        let after = self.walk_msr_loads(|_, broken, open| {
            if doubtful {
                loads.open |= broken | open;
            } else {
                loads.broken |= broken;
                loads.open |= open;
            }
            // An entry of which everything is open lies in memory that is not known.
            doubtful |= open.is_all() || R::PARTIAL && !open.is_empty() && self.unknown_state().is_some();
        });
        let misc = Facts::msr(CapabilityMsr::Misc);
        if let AfterEntries::Undefined { machine_check, .. } = after
            && (!machine_check || self.attempt().capabilities.unknown.intersects(misc))
        {
            loads.open = Rules::all();
        }
        self.notes.msr_loads.set(Some(loads));
        loads
    }

    /// What keeps an entry of the area from being judged.
    fn unknown_msr_load(&self) -> Unknown {
        let [count, area] = [field::VM_ENTRY_MSR_LOAD_COUNT.id(), field::VM_ENTRY_MSR_LOAD_ADDRESS.id()];
        if let Some(field) = [count, area].into_iter().find(|field| !self.knows(*field)) {
            return Unknown::Field(field);
        }
        let (count, area) = (self.get(field::VM_ENTRY_MSR_LOAD_COUNT), self.get(field::VM_ENTRY_MSR_LOAD_ADDRESS));
        let mut qwords = (0..2 * u64::from(count.min(512))).map(|i| area.wrapping_add(8 * i));
        let unread = qwords.find(|address| self.try_read_u64(*address).is_none());
        unread.map(Unknown::Memory).or_else(|| self.unknown_state()).unwrap_or(Unknown::Open)
    }

    /// What else is not known and can keep an entry from being judged.
    fn unknown_state(&self) -> Option<Unknown> {
        // Whatever IA32_FEATURE_CONTROL holds, no write fails for certain because of it.
        let facts = self.attempt().capabilities.unknown.without(Facts::msr(CapabilityMsr::FeatureControl));
        if !facts.is_empty() {
            return Some(Unknown::Facts(facts));
        }
        [field::GUEST_CR0.id(), field::VM_ENTRY_CONTROLS.id(), field::GUEST_IA32_RTIT_CTL.id()]
            .into_iter()
            .find(|field| !self.knows(*field))
            .map(Unknown::Field)
    }

    /// Tells `visit` of every entry at which the VM entry fails or may fail, by number from 1.
    pub(crate) fn visit_msr_failures(&self, mut visit: impl FnMut(u64, EntryFate)) -> AfterEntries {
        self.walk_msr_loads(|entry, broken, _| {
            let certain = !(broken - Rules::MODEL_SPECIFIC).is_empty();
            visit(entry, if certain { EntryFate::Fails } else { EntryFate::MayFail });
        })
    }

    /// Judges the entries up to the first that certainly fails, at most the recommended maximum, and tells `visit` of
    /// those that break a rule, or may.
    fn walk_msr_loads(&self, mut visit: impl FnMut(u64, Rules, Rules)) -> AfterEntries {
        let unknown = AfterEntries::Undefined { from: 1, machine_check: false };
        if !self.knows(field::VM_ENTRY_MSR_LOAD_COUNT.id()) {
            return unknown;
        }
        let count = self.get(field::VM_ENTRY_MSR_LOAD_COUNT);
        if count == 0 {
            return AfterEntries::Loaded;
        }
        if !self.knows(field::VM_ENTRY_MSR_LOAD_ADDRESS.id()) {
            return unknown;
        }
        let area = self.get(field::VM_ENTRY_MSR_LOAD_ADDRESS);
        let has = self.attempt().capabilities;
        // If the address is bad, the checks on controls fail, and the area is not read.
        let Some(last) = msr_area_last_byte(area, count).filter(|_| area & 0xF == 0) else {
            return AfterEntries::Loaded;
        };
        let width = Facts::msr(CapabilityMsr::Basic).and(Facts::cpuid(CpuidLeaf::AddressWidths));
        if R::PARTIAL && has.unknown.intersects(width) {
            // No processor's physical addresses are narrower than 32 bits.
            if last >> 32 != 0 {
                return unknown;
            }
        } else if !has.address_fits(last) {
            return AfterEntries::Loaded;
        }
        let limit = recommended_maximum(has);
        let mut state = self.loaded_state();
        for i in 0..u64::from(count.min(limit)) {
            let (broken, open) = self.judge_entry(&mut state, area + i * MSR_ENTRY_BYTES);
            if !(broken | open).is_empty() {
                visit(i + 1, broken, open);
            }
            if !(broken - Rules::MODEL_SPECIFIC).is_empty() {
                return AfterEntries::Failed;
            }
        }
        if count > limit {
            return AfterEntries::Undefined { from: u64::from(limit) + 1, machine_check: true };
        }
        AfterEntries::Loaded
    }

    /// What the entry at `address` breaks, and what it may break.
    fn judge_entry(&self, state: &mut LoadedState, address: u64) -> (Rules, Rules) {
        let (Some(first), Some(value)) = (self.try_read_u64(address), self.try_read_u64(address + 8)) else {
            return (Rules::empty(), Rules::all());
        };
        #[allow(clippy::cast_possible_truncation, reason = "bits 31:0 are the MSR's number")]
        let number = first as u32;
        let mut broken = match number {
            0xC000_0100 | 0xC000_0101 => Rules::FS_GS_BASE,
            0x800..=0x8FF => Rules::X2APIC,
            0x9B | 0x1F2 | 0x1F3 if !self.cpu().smm => Rules::SMM_ONLY,
            0x79 | 0x8B => Rules::MODEL_SPECIFIC,
            _ => Rules::empty(),
        };
        broken.set(Rules::RESERVED, first >> 32 != 0);
        if !(broken - Rules::MODEL_SPECIFIC).is_empty() {
            return (broken, Rules::empty());
        }
        let written = match msr_rule(number) {
            Some(rule) => write(self.attempt().capabilities, state, rule, number, value),
            None => Write::Open,
        };
        if number == IA32_RTIT_CTL {
            state.trace_enabled = Some(value & 1 != 0);
        }
        match written {
            Write::Loads => (broken, Rules::empty()),
            Write::Fails => (broken | Rules::WRMSR, Rules::empty()),
            Write::Open => (broken, Rules::WRMSR),
        }
    }

    /// The guest state as loaded.
    fn loaded_state(&self) -> LoadedState {
        let locked_lme = if !self.knows(field::GUEST_CR0.id()) {
            None
        } else if self.get(field::GUEST_CR0).contains(Cr0::PG) {
            // With paging LME is LMA, which is “IA-32e mode guest”.
            self.knows(field::VM_ENTRY_CONTROLS.id()).then(|| Some(self.ia32e_guest()))
        } else {
            Some(None)
        };
        let trace_enabled = if !self.knows(field::VM_ENTRY_CONTROLS.id()) {
            None
        } else if !self.entry().contains(Entry::LOAD_IA32_RTIT_CTL) {
            Some(self.cpu().trace_enabled)
        } else {
            self.knows(field::GUEST_IA32_RTIT_CTL.id()).then(|| self.get(field::GUEST_IA32_RTIT_CTL) & 1 != 0)
        };
        LoadedState { locked_lme, trace_enabled }
    }
}

const IA32_RTIT_CTL: u32 = 0x570;
