//! The filters of the checks (`unless`) hide no violation: the rows alone, as a partial image is judged, say the same.

use vmcs_golden::profiles;
use vmcs_model::checks::{CheckSet, MSR_RULES};
use vmcs_model::controls::{Entry, Exit, PinBased, Primary, Secondary};
use vmcs_model::field::{self, FIELDS, Field, FieldValue};
use vmcs_model::formats::{AccessRights, Eptp, InterruptionInformation};
use vmcs_model::partial::PartialVmcs;
use vmcs_model::{Capabilities, CpuState, EntryAttempt, ReadMemory, Vmcs, baseline};

const AREA: u64 = 0xA_0000;
const ENTRIES: usize = 3;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 8
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next()).unwrap_or(0) % end
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// An MSR-load area, and all ones elsewhere.
struct Area([u64; 2 * ENTRIES]);

impl Area {
    fn new(random: &mut Random) -> Self {
        Self(core::array::from_fn(|i| match (i % 2, random.below(16)) {
            (0, 0) => random.pick(&[0x8B, 0x9B, 0x800, 0xC000_0100, 0x1_0000_0174, 0x7777]),
            (0, _) => {
                let rule = &MSR_RULES[random.below(MSR_RULES.len())];
                u64::from(if random.one_in(2) { rule.first } else { rule.last })
            }
            (_, 0..4) => 1 << random.below(64),
            (_, 4) => random.next() << 8,
            (_, 5..8) => random.pick(&[0xFFFF_8000_0000_0000, 0xFF00_0000_0000_0000, 0x0007_0406_0007_0406, 0x7F]),
            _ => 0,
        }))
    }
}

impl ReadMemory for Area {
    fn read_u32(&self, address: u64) -> Option<u32> {
        let index = usize::try_from(address.wrapping_sub(AREA) / 8).ok()?;
        let qword = self.0.get(index).copied().unwrap_or(u64::MAX);
        u32::try_from(qword >> (8 * (address & 4)) & 0xFFFF_FFFF).ok()
    }
}

fn add<T: FieldValue + core::ops::BitOr<Output = T>>(vmcs: &mut Vmcs, word: Field<T>, bits: T) {
    vmcs.set(word, vmcs.get(word) | bits);
}

/// A guest such as a hypervisor runs.
fn ordinary(capabilities: &Capabilities) -> Vmcs {
    let mut vmcs = baseline::plain_64bit(capabilities);
    add(&mut vmcs, field::PIN_BASED_VM_EXECUTION_CONTROLS, PinBased::EXTERNAL_INTERRUPT_EXITING);
    let primary = Primary::USE_TPR_SHADOW | Primary::USE_MSR_BITMAPS;
    add(&mut vmcs, field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, primary);
    if capabilities.primary.may() >> 31 != 0 {
        add(&mut vmcs, field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, Primary::ACTIVATE_SECONDARY_CONTROLS);
        let secondary = Secondary::ENABLE_EPT | Secondary::ENABLE_VPID | Secondary::VIRTUAL_INTERRUPT_DELIVERY;
        vmcs.set(field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, secondary);
    }
    add(&mut vmcs, field::PRIMARY_VM_EXIT_CONTROLS, Exit::ACKNOWLEDGE_INTERRUPT_ON_EXIT);
    add(&mut vmcs, field::VM_ENTRY_CONTROLS, Entry::LOAD_DEBUG_CONTROLS);
    vmcs.set(field::EPT_POINTER, Eptp::new().with_memory_type(6).with_walk_length_minus_1(3));
    vmcs.set(field::VIRTUAL_PROCESSOR_IDENTIFIER, 1);
    vmcs.set(field::VM_ENTRY_MSR_LOAD_ADDRESS, AREA);
    vmcs
}

/// What a change makes likely: a value next to the limit of a filter.
fn change(vmcs: &mut Vmcs, random: &mut Random) {
    let info = &FIELDS[random.below(FIELDS.len())];
    let bit = 1 << (random.next() % u64::from(info.width().bits()));
    vmcs.set_raw(info.id, vmcs.raw(info.id) ^ bit);
    if random.one_in(4) {
        let rights = random.pick(&[
            field::GUEST_CS_ACCESS_RIGHTS,
            field::GUEST_SS_ACCESS_RIGHTS,
            field::GUEST_DS_ACCESS_RIGHTS,
            field::GUEST_GS_ACCESS_RIGHTS,
            field::GUEST_TR_ACCESS_RIGHTS,
            field::GUEST_LDTR_ACCESS_RIGHTS,
        ]);
        let bits = vmcs.get(rights).into_bits() ^ 1 << random.below(18);
        vmcs.set(rights, AccessRights::from_bits(bits));
    }
    if random.one_in(4) {
        let event = random.pick(&[0x8000_0020, 0x8000_0B0D, 0x8000_030D, 0x8000_0202, 0x8000_0B0E, 0x8000_0306]);
        let event = event ^ if random.one_in(4) { 1 << random.below(31) } else { 0 };
        vmcs.set(field::VM_ENTRY_INTERRUPTION_INFORMATION, InterruptionInformation::from_bits(event));
    }
    if random.one_in(2) {
        vmcs.set(field::VM_ENTRY_MSR_LOAD_COUNT, random.pick(&[1, 2, 3]));
    }
    if random.one_in(8) {
        let (word, bits) = (field::VM_ENTRY_CONTROLS.id(), 1 << random.below(25));
        vmcs.set_raw(word, vmcs.raw(word) ^ bits);
    }
}

#[test]
fn filters_hide_nothing() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let (mut valid, mut invalid) = (0, 0);
    for name in ["full", "sgx", "lean", "encrypted", "first", "without_intel_64", "narrow", "contradictory"] {
        let mut capabilities =
            Capabilities::new(&profiles::by_name(if name == "contradictory" { "full" } else { name }));
        for _ in 0..8_000 {
            if name == "contradictory" {
                // Bits that must be both, at random.
                capabilities.cr0.zeros = 1 << random.below(32);
                capabilities.cr4.ones = 1 << 13 | 1 << random.below(32);
                capabilities.pin.zeros = !(0xFF ^ 1 << random.below(8));
            }
            let mut vmcs = ordinary(&capabilities);
            for _ in 0..random.below(5) {
                change(&mut vmcs, &mut random);
            }
            let memory = Area::new(&mut random);
            let smm = random.one_in(16);
            let cpu = CpuState { smm, ..CpuState::host_64() };
            let attempt = EntryAttempt::vmlaunch(&cpu, &capabilities);
            let found = attempt.on(&vmcs, &memory).violations();
            let rows = attempt.on(&PartialVmcs::from(vmcs.clone()), &memory).verdict();
            let contradicts = |a: &CheckSet, b: &CheckSet| a.iter().find(|check| !b.contains(*check));
            assert_eq!(
                contradicts(&rows.violated, &found),
                None,
                "{name}: a filter hides it: {vmcs:?} {:x?}",
                memory.0
            );
            assert_eq!(contradicts(&found, &rows.violated.union(&rows.undecidable)), None, "{name}: {vmcs:?}");
            *(if found.is_empty() { &mut valid } else { &mut invalid }) += 1;
        }
    }
    assert!(valid > 2_000 && invalid > 20_000, "{valid} valid images, {invalid} invalid ones");
}
