//! Compares which components a processor's VMCS has, and how VMREAD and VMWRITE treat them, with what its capabilities
//! promise.

use serde::Serialize;
use vmcs_case::program::result_text;
use vmcs_case::{FieldReport, StepResult};
use vmcs_model::Capabilities;
use vmcs_model::capabilities::Facts;
use vmcs_model::field::{Area, Encoding, FIELDS, FieldId, FieldInfo, Width};
use vmcs_model::msr::{CapabilityBit, CapabilityMsr, Source};
use vmcs_model::profile::CpuidLeaf;

use crate::as_text;
use crate::deviations::{Deviation, DeviationId};

/// Whether a component exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Existence {
    /// The component exists.
    Yes,
    /// The component does not exist.
    No,
    /// The profile leaves out what decides whether the component exists.
    Unknown,
}

impl Existence {
    /// The answer in a word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

/// Something that a processor does otherwise than its capabilities promise.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ComponentDifference {
    /// The encoding, as the SDM writes it.
    pub encoding: String,
    #[serde(serialize_with = "as_text::option::serialize")]
    /// The component; none for an encoding that is not in the SDM.
    pub field: Option<FieldId>,
    /// What kind of difference it is.
    pub kind: DifferenceKind,
    /// What was promised and what was found.
    pub detail: String,
    /// The deviation of the implementation that covers it.
    pub explained_by: Option<DeviationId>,
}

/// What kind of difference one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DifferenceKind {
    /// The capabilities promise the component, and the VMCS lacks it.
    Missing,
    /// The VMCS has the component, and the capabilities do not promise it.
    Extra,
    /// VMREAD or VMWRITE of the component ends otherwise than it should.
    Access,
    /// The component holds other bits than those of its width.
    Bits,
}

/// Whether the capabilities promise a component.
#[must_use]
pub fn exists(caps: &Capabilities, info: &FieldInfo) -> Existence {
    if caps.promises_field(info) {
        Existence::Yes
    } else if info.exists_if.iter().any(|bit| caps.unknown.intersects(deciding(*bit))) {
        Existence::Unknown
    } else {
        Existence::No
    }
}

/// What a capability bit can be read from: an MSR that reports a further control word exists only if another says so.
fn deciding(bit: CapabilityBit) -> Facts {
    use CapabilityMsr as Msr;
    let either = |default, precise| Facts::msr(Msr::Basic).and(Facts::msr(default)).and(Facts::msr(precise));
    let primary = either(Msr::Procbased, Msr::TrueProcbased);
    let exit = either(Msr::Exit, Msr::TrueExit);
    match bit.source {
        Source::Pin => either(Msr::Pinbased, Msr::TruePinbased),
        Source::Primary => primary,
        Source::Secondary => primary.and(Facts::msr(Msr::Procbased2)),
        Source::Tertiary => primary.and(Facts::msr(Msr::Procbased3)),
        Source::Exit => exit,
        Source::SecondaryExit => exit.and(Facts::msr(Msr::Exit2)),
        Source::Entry => either(Msr::Entry, Msr::TrueEntry),
        Source::VmFunctions => primary.and(Facts::msr(Msr::Procbased2)).and(Facts::msr(Msr::Vmfunc)),
        Source::Cpuid7_1Eax => Facts::cpuid(CpuidLeaf::Extended1),
    }
}

/// What a processor of these capabilities should not have answered to the probe.
#[must_use]
pub fn compare(caps: &Capabilities, reports: &[FieldReport]) -> Vec<ComponentDifference> {
    let mut differences = Vec::new();
    // Only the probe tries the high halves; the emulator reports what it implements.
    let halves = reports.iter().any(|report| Encoding(report.encoding).is_high());
    for info in &FIELDS {
        let report = find(reports, info.encoding);
        let detail = match (exists(caps, info), report) {
            (Existence::Yes, None) => {
                Some((DifferenceKind::Missing, "its capabilities promise it, but VMREAD does not find it"))
            }
            (Existence::No, Some(_)) => {
                Some((DifferenceKind::Extra, "its capabilities do not promise it, but VMREAD finds it"))
            }
            _ => None,
        };
        if let Some((kind, detail)) = detail {
            differences.push(ComponentDifference::new(info.encoding, kind, detail.to_owned()));
        }
        let Some(report) = report else { continue };
        behaviour(caps, info, report, &mut differences);
        if info.width() == Width::Bits64 && halves {
            let high = Encoding(info.encoding.0 | 1);
            match find(reports, high) {
                Some(report) => behaviour(caps, info, report, &mut differences),
                None => {
                    let detail = "VMREAD finds the field, but not its bits 63:32";
                    differences.push(ComponentDifference::new(high, DifferenceKind::Missing, detail.to_owned()));
                }
            }
        }
    }
    for report in reports {
        let encoding = Encoding(report.encoding);
        let alone = |info: &FieldInfo| encoding.is_high() && find(reports, info.encoding).is_none();
        if encoding.field().is_none_or(|field| alone(field.info())) {
            let detail = format!("VMREAD: {}, VMWRITE: {}", result_text(&report.read), result_text(&report.write));
            differences.push(ComponentDifference::new(encoding, DifferenceKind::Extra, detail));
        }
    }
    differences
}

fn find(reports: &[FieldReport], encoding: Encoding) -> Option<&FieldReport> {
    reports.iter().find(|report| report.encoding == encoding.0)
}

/// Whether VMREAD and VMWRITE of a component that is there do what they should.
fn behaviour(caps: &Capabilities, info: &FieldInfo, report: &FieldReport, differences: &mut Vec<ComponentDifference>) {
    /// VMWRITE to a read-only component.
    const READ_ONLY: u32 = 13;
    let encoding = Encoding(report.encoding);
    if !matches!(report.read, StepResult::Value(_)) {
        let detail = format!("VMREAD ends in {} instead of a value", result_text(&report.read));
        differences.push(ComponentDifference::new(encoding, DifferenceKind::Access, detail));
        return;
    }
    let read_only = info.area() == Area::ExitInformation && !caps.writes_exit_information();
    let promised = if read_only { StepResult::FailValid(READ_ONLY) } else { StepResult::Ok };
    if report.write != promised {
        let detail = format!("VMWRITE ends in {} instead of {}", result_text(&report.write), result_text(&promised));
        differences.push(ComponentDifference::new(encoding, DifferenceKind::Access, detail));
    } else if !read_only {
        let holds = holds(caps, info, encoding.is_high());
        let dropped = if ACCESS_RIGHTS.contains(&info.encoding) { RESERVED_ACCESS_RIGHTS } else { 0 };
        if report.sticky != holds && report.sticky != holds & !dropped {
            let detail = format!("of all ones it holds {:#x} instead of {holds:#x}", report.sticky);
            differences.push(ComponentDifference::new(encoding, DifferenceKind::Bits, detail));
        }
    }
}

/// The bits of a component.
fn holds(caps: &Capabilities, info: &FieldInfo, high: bool) -> u64 {
    match info.width() {
        Width::Bits64 if high => Width::Bits32.mask(),
        Width::Natural if !caps.intel_64() => Width::Bits32.mask(),
        width => width.mask(),
    }
}

/// Guest access rights, ES to TR. A processor may drop their reserved bits. SDM 25.4.1, Guest Register State.
const ACCESS_RIGHTS: std::ops::RangeInclusive<Encoding> = Encoding(0x4814)..=Encoding(0x4822);
/// Bits 11:8 and 31:17.
const RESERVED_ACCESS_RIGHTS: u64 = 0xFFFE_0F00;

impl ComponentDifference {
    fn new(encoding: Encoding, kind: DifferenceKind, detail: String) -> Self {
        let field = encoding.field();
        Self { encoding: format!("{encoding:?}"), field, kind, detail, explained_by: None }
    }
}

/// The deviation that covers a difference.
#[must_use]
pub fn explanation(difference: &ComponentDifference, deviations: &[&Deviation]) -> Option<DeviationId> {
    let field = difference.field?;
    let covers = |deviation: &&&Deviation| {
        let fields = match difference.kind {
            DifferenceKind::Missing => &deviation.fields_missing,
            DifferenceKind::Extra => &deviation.fields_extra,
            DifferenceKind::Access | DifferenceKind::Bits => return false,
        };
        fields.contains(&field)
    };
    deviations.iter().find(covers).map(|deviation| deviation.id.clone())
}

#[cfg(test)]
mod tests {
    use vmcs_model::CpuProfile;
    use vmcs_model::profile::MsrValue;

    use super::*;

    /// Every MSR is 0 but for the bits that the tests need: VMWRITE to read-only fields fails, there is Intel 64.
    fn capabilities() -> Capabilities {
        let mut profile = CpuProfile::default();
        for msr in CapabilityMsr::ALL {
            profile.set_msr(msr, MsrValue::Value(0));
        }
        for leaf in CpuidLeaf::ALL {
            profile.set_cpuid(leaf, [0; 4]);
        }
        profile.set_cpuid(CpuidLeaf::ExtendedFeatures, [0, 0, 0, 1 << 29]);
        Capabilities::new(&profile)
    }

    /// What a processor answers that is as it should be.
    fn reports(caps: &Capabilities) -> Vec<FieldReport> {
        let report = |info: &FieldInfo, high| FieldReport {
            encoding: info.encoding.0 | u32::from(high),
            read: StepResult::Value(0),
            write: if info.area() == Area::ExitInformation { StepResult::FailValid(13) } else { StepResult::Ok },
            sticky: if info.area() == Area::ExitInformation { 0 } else { holds(caps, info, high) },
        };
        let existing = FIELDS.iter().filter(|info| caps.promises_field(info));
        let halves = |info: &'static FieldInfo| {
            let high = (info.width() == Width::Bits64).then(|| report(info, true));
            std::iter::once(report(info, false)).chain(high)
        };
        existing.flat_map(halves).collect()
    }

    fn named(name: &str) -> u32 {
        FIELDS.iter().find(|info| info.name == name).expect("a field").encoding.0
    }

    /// What is found when the answers are changed.
    fn differences(change: impl Fn(&mut Vec<FieldReport>)) -> Vec<(DifferenceKind, Option<&'static str>)> {
        let caps = capabilities();
        let mut reports = reports(&caps);
        change(&mut reports);
        compare(&caps, &reports)
            .into_iter()
            .map(|difference| (difference.kind, difference.field.map(|field| field.info().name)))
            .collect()
    }

    fn report(reports: &mut [FieldReport], encoding: u32) -> &mut FieldReport {
        reports.iter_mut().find(|report| report.encoding == encoding).expect("a report")
    }

    #[test]
    fn a_processor_may_keep_its_promises() {
        assert_eq!(differences(|_| {}), []);
        // The emulator does not report halves.
        assert_eq!(differences(|reports| reports.retain(|report| report.encoding & 1 == 0)), []);
        // It may drop the reserved bits of access rights.
        assert_eq!(differences(|reports| report(reports, named("guest_tr_access_rights")).sticky = 0x1_F0FF), []);
    }

    #[test]
    fn every_difference_is_found() {
        let without = |encoding: u32| differences(move |reports| reports.retain(|report| report.encoding != encoding));
        assert_eq!(without(named("guest_rip")), [(DifferenceKind::Missing, Some("guest_rip"))]);
        assert_eq!(without(named("tsc_offset") | 1), [(DifferenceKind::Missing, Some("tsc_offset"))]);
        let with = |encoding: u32| {
            differences(move |reports| {
                reports.push(FieldReport {
                    encoding,
                    read: StepResult::Value(0),
                    write: StepResult::Ok,
                    sticky: 0xFFFF,
                });
            })
        };
        assert_eq!(with(named("guest_uinv")), [(DifferenceKind::Extra, Some("guest_uinv"))]);
        assert_eq!(with(named("ept_pointer") | 1), [(DifferenceKind::Extra, Some("ept_pointer"))]);
        assert_eq!(with(0x0C7E), [(DifferenceKind::Extra, None)]);
        let guest_tr =
            |sticky| differences(move |reports| report(reports, named("guest_tr_access_rights")).sticky = sticky);
        assert_eq!(guest_tr(0xF0FF), [(DifferenceKind::Bits, Some("guest_tr_access_rights"))]);
        let written = |name, write| differences(move |reports| report(reports, named(name)).write = write);
        assert_eq!(written("exit_reason", StepResult::Ok), [(DifferenceKind::Access, Some("exit_reason"))]);
        assert_eq!(written("guest_rip", StepResult::FailValid(13)), [(DifferenceKind::Access, Some("guest_rip"))]);
    }

    #[test]
    fn deviations_explain_what_they_name() {
        let deviation: Deviation = toml::from_str(
            "id = 'x'\nimplementation = 'Bochs'\nbehaviour = ''\nsdm = ''\nevidence = ''\nfields_missing = ['guest_rip']",
        )
        .expect("a deviation");
        let explained = |field, kind| {
            let difference = ComponentDifference::new(Encoding(named(field)), kind, String::new());
            explanation(&difference, &[&deviation])
        };
        assert_eq!(explained("guest_rip", DifferenceKind::Missing), Some("x".into()));
        assert_eq!(explained("guest_rip", DifferenceKind::Extra), None);
        assert_eq!(explained("guest_rsp", DifferenceKind::Missing), None);
    }
}
