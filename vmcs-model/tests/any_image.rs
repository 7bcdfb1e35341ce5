//! Any bit pattern has a verdict, and forgetting values never contradicts it.

use vmcs_golden::{Sparse, profiles};
use vmcs_model::memory::UnknownMemory;
use vmcs_model::partial::PartialVmcs;
use vmcs_model::{Capabilities, CpuState, EntryAttempt, FieldId, ReadMemory, Vmcs, baseline};

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Zero, all ones, one bit, few bits, or anything.
    fn value(&mut self) -> u64 {
        match self.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 | 3 => 1 << self.below(64),
            4 => self.next() & self.next() & self.next(),
            _ => self.next(),
        }
    }
}

/// Memory that holds something everywhere.
struct Noise(u64);

impl ReadMemory for Noise {
    fn read_u32(&self, address: u64) -> Option<u32> {
        u32::try_from(Random(self.0 ^ address | 1).next() >> 40).ok()
    }
}

fn mutate(vmcs: &mut Vmcs, random: &mut Random) {
    let fields: Vec<FieldId> = FieldId::all().collect();
    let count = if random.below(8) == 0 { fields.len() as u64 } else { random.below(6) };
    for _ in 0..count {
        let field = fields[usize::try_from(random.below(fields.len() as u64)).unwrap_or(0)];
        let value = if random.below(2) == 0 { vmcs.raw(field) ^ 1 << random.below(64) } else { random.value() };
        vmcs.set_raw(field, value);
    }
}

#[test]
fn verdicts_agree_with_each_other() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for name in ["full", "sgx", "lean", "encrypted", "first", "without_intel_64", "narrow"] {
        let capabilities = Capabilities::new(&profiles::by_name(name));
        for round in 0..3_000u64 {
            let mut vmcs = baseline::plain_64bit(&capabilities);
            mutate(&mut vmcs, &mut random);
            let mut cpu = CpuState::host_64();
            if random.below(8) == 0 {
                cpu.smm = true;
            }
            if random.below(8) == 0 {
                cpu.efer = vmcs_model::registers::Efer::empty();
            }
            let attempt = EntryAttempt::vmlaunch(&cpu, &capabilities);
            let memory = Noise(round);
            let all = attempt.on(&vmcs, &memory).violations();
            assert_eq!(attempt.on(&vmcs, &memory).first_violation(), all.iter().next());
            let verdict = attempt.on(&vmcs, &memory).verdict();
            assert_eq!(verdict.violated, all);
            assert!(verdict.permitted.iter().next().is_some());

            let mut some = PartialVmcs::new();
            for (field, value) in vmcs.iter() {
                if random.below(4) != 0 {
                    some.set_raw(field, value);
                }
            }
            let forgot_memory = random.below(2) == 0;
            let partial = if forgot_memory {
                attempt.on(&some, &UnknownMemory).verdict()
            } else {
                attempt.on(&some, &memory).verdict()
            };
            for check in partial.violated.iter() {
                assert!(
                    all.contains(check) || verdict.undecidable.contains(check),
                    "{check} holds once everything is known: {vmcs:?}"
                );
            }
            for check in all.iter() {
                assert!(
                    partial.violated.contains(check) || partial.undecidable.contains(check),
                    "{check} was judged to hold without knowing: {vmcs:?}"
                );
            }
            for outcome in verdict.permitted.iter() {
                assert!(partial.permits(&outcome), "{outcome} is permitted once everything is known: {vmcs:?}");
            }
        }
    }
}

#[test]
fn nothing_known_permits_everything_that_can_be() {
    let capabilities = Capabilities::new(&vmcs_model::CpuProfile::default());
    let cpu = CpuState::host_64();
    let attempt = EntryAttempt::vmlaunch(&cpu, &capabilities);
    let verdict = attempt.on(&PartialVmcs::new(), &UnknownMemory).verdict();
    assert!(verdict.violated.is_empty(), "{:?}", verdict.violated);
    let full = Capabilities::new(&profiles::full());
    let known = EntryAttempt { capabilities: &full, ..attempt };
    for vmcs in [baseline::plain_64bit(&full), Vmcs::new()] {
        for outcome in known.on(&vmcs, &Sparse::default()).verdict().permitted.iter() {
            assert!(verdict.permits(&outcome), "{outcome}");
        }
    }
}
