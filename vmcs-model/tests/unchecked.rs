//! Fields that no check looks at may hold anything, with the control on that puts them to use.

use vmcs_golden::corpus::{self, Stage};
use vmcs_golden::profiles;
use vmcs_model::checks::{NOT_CHECKS, NotACheckKind};
use vmcs_model::controls::Primary;
use vmcs_model::msr::{CapabilityBit, Source};
use vmcs_model::{Capabilities, FieldId, Outcome, field};

/// The line of `golden/lines/unchecked.txt` that is about these fields.
fn line_about(id: &str, fields: &[FieldId]) -> corpus::Line {
    let capabilities = Capabilities::new(&profiles::full());
    let about = |line: &corpus::Line| {
        let changed = line.scene.on(&capabilities).changed;
        line.place.starts_with("unchecked.txt") && fields.iter().all(|field| changed.contains(field))
    };
    corpus::lines().into_iter().find(about).unwrap_or_else(|| panic!("no line sets the fields of {id}"))
}

/// Whether the image activates the control that a bit of a capability MSR allows. What is not a control is on.
fn is_on(bit: CapabilityBit, stage: &Stage) -> bool {
    let bit_source = bit.source;
    let (field, bit) = match bit_source {
        Source::Pin => (field::PIN_BASED_VM_EXECUTION_CONTROLS.id(), bit.bit - 32),
        Source::Primary => (field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), bit.bit - 32),
        Source::Secondary => (field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), bit.bit - 32),
        Source::Tertiary => (field::TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS.id(), bit.bit),
        Source::Exit => (field::PRIMARY_VM_EXIT_CONTROLS.id(), bit.bit - 32),
        Source::SecondaryExit => (field::SECONDARY_VM_EXIT_CONTROLS.id(), bit.bit),
        Source::Entry => (field::VM_ENTRY_CONTROLS.id(), bit.bit - 32),
        Source::VmFunctions | Source::Cpuid7_1Eax => return true,
    };
    let primary = stage.vmcs.get(field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS);
    let active = match bit_source {
        Source::Secondary => primary.contains(Primary::ACTIVATE_SECONDARY_CONTROLS),
        Source::Tertiary => primary.contains(Primary::ACTIVATE_TERTIARY_CONTROLS),
        _ => true,
    };
    active && stage.vmcs.raw(field) >> bit & 1 != 0
}

/// 0, all ones, each single bit, and numbers of a multiplicative generator.
fn values() -> impl Iterator<Item = u64> {
    let random = std::iter::successors(Some(0x9E37_79B9_7F4A_7C15u64), |x| {
        Some(x.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F))
    });
    [0, u64::MAX].into_iter().chain((0..64).map(|bit| 1 << bit)).chain(random.take(200))
}

#[test]
fn any_value_is_valid() {
    let capabilities = Capabilities::new(&profiles::full());
    let mut rules = 0;
    for rule in NOT_CHECKS.iter().filter(|rule| rule.kind == NotACheckKind::AnyValue) {
        assert!(!rule.fields.is_empty(), "{}", rule.id);
        rules += 1;
        let line = line_about(rule.id, rule.fields);
        let mut stage = line.scene.on(&capabilities);
        for field in rule.fields {
            let exists_if = field.info().exists_if;
            assert!(
                exists_if.is_empty() || exists_if.iter().any(|bit| is_on(*bit, &stage)),
                "{}: {} does not put {field:?} to use",
                rule.id,
                line.place
            );
        }
        let mut entered = |changes: &[(FieldId, u64)]| {
            for (field, value) in changes {
                stage.vmcs.set_raw(*field, *value);
            }
            let verdict = stage.attempt(&capabilities).on(&stage.vmcs, &stage.memory).verdict();
            assert_eq!(verdict.permitted.single(), Some(Outcome::Entered), "{} {changes:x?}: {verdict:?}", rule.id);
        };
        for (n, value) in (0..).zip(values()) {
            for field in rule.fields {
                entered(&[(*field, value)]);
            }
            let all: Vec<_> = rule.fields.iter().map(|field| (*field, value.rotate_left(n))).collect();
            entered(&all);
        }
    }
    assert_eq!(rules, 17);
}
