//! `vmcs fields`: the components of the VMCS, and which of them a processor has.

use std::io::{self, Write};

use serde::Serialize;
use vmcs_case::profile::NamedProfile;
use vmcs_case::program::result_text;
use vmcs_case::{FieldReport, Implementation, StepResult};
use vmcs_fuzz::as_text;
use vmcs_fuzz::deviations::{Deviation, DeviationId, Deviations};
use vmcs_hw::targets::TargetName;
use vmcs_model::Capabilities;
use vmcs_model::capabilities::Facts;
use vmcs_model::field::{Area, Encoding, FIELDS, FieldId, FieldInfo, Width};
use vmcs_model::msr::{CapabilityBit, CapabilityMsr, Source};
use vmcs_model::profile::CpuidLeaf;

use crate::error::{CliError, Status};
use crate::output;
use crate::target::{self, Captured, TargetArgs};

/// List the fields of the VMCS, and which of them a processor has
///
/// Some fields exist only where capability bits promise them (EXISTS IF); with --profile a column says whether they do.
/// Fields of the exit-information area are read-only unless IA32_VMX_MISC[29] is 1. With --target the machine is probed: VMREAD of every encoding, VMWRITE of all ones, and VMREAD of what that left. Where its answers are not what its
/// capabilities promise, the difference is listed, with the known deviation of the machine that explains it if there is
/// one.
#[derive(clap::Args)]
#[command(after_help = "Exit status: 1 if the target differs from its capabilities in a way that no known deviation \
                        explains.\n\nExamples:\n  vmcs fields | grep apic\n  vmcs fields --profile tiger-lake\n  vmcs \
                        fields --target bochs --cpu corei7_skylake_x --json")]
pub(crate) struct Args {
    /// A profile's name, its beginning, or a profile file
    #[arg(long, value_name = "PROFILE", conflicts_with_all = ["target", "cpu"])]
    profile: Option<String>,
    /// A machine that is probed: `bochs`, `bochs@2.7`, `emu`
    #[arg(long, value_name = "TARGET")]
    target: Option<TargetName>,
    /// The CPU model of the target (see `vmcs targets`)
    #[arg(long, value_name = "MODEL", requires = "target")]
    cpu: Option<String>,
    /// Print JSON: {"fields": [{"encoding", "name", "aliases", "width", "area", "access", "exists_if", "about", "exists"}],
    /// "target", "differences"}
    #[arg(long)]
    json: bool,
}

/// What is printed.
#[derive(Serialize)]
struct Listing {
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    fields: Vec<Field>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    differences: Option<Vec<Difference>>,
}

/// A component.
#[derive(Serialize)]
struct Field {
    encoding: String,
    name: &'static str,
    aliases: &'static [&'static str],
    /// Bits, or `natural`: 64 on a processor with Intel 64, else 32.
    width: &'static str,
    area: &'static str,
    access: &'static str,
    /// Any of these bits; always if there are none.
    exists_if: Vec<String>,
    about: &'static str,
    /// Whether the capabilities promise it; `None` if the profile leaves out what decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    exists: Option<Exists>,
    /// Whether VMREAD found it.
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<bool>,
}

/// Whether a component exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Exists {
    Yes,
    No,
    /// The profile leaves out what decides.
    Unknown,
}

/// Something that a processor does otherwise than its capabilities promise.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Difference {
    encoding: String,
    #[serde(serialize_with = "as_text::option::serialize")]
    field: Option<FieldId>,
    kind: Kind,
    /// What was promised and what was found.
    detail: String,
    /// The deviation of the implementation that covers it.
    explained_by: Option<DeviationId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// Promised, not found.
    Missing,
    /// Found, not promised.
    Extra,
    /// VMREAD or VMWRITE ends otherwise.
    Access,
    /// It holds other bits than its width says.
    Bits,
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    let listing = match (&args.profile, &args.target) {
        (Some(name), _) => {
            let profile = NamedProfile::find(name)?;
            Listing::of(profile.name, &Capabilities::new(&profile.profile))
        }
        (None, Some(target)) => {
            let mut opened = target::open(&TargetArgs { target: Some(target.clone()), cpu: args.cpu.clone() })?;
            let captured = opened.capture()?;
            Listing::probed(&opened.target.implementation(), captured)?
        }
        (None, None) => Listing::plain(),
    };
    if args.json {
        output::json_pretty(&listing)?;
    } else {
        listing.print()?;
    }
    let unexplained = |difference: &Difference| difference.explained_by.is_none();
    Ok(Status::found(listing.differences.iter().flatten().any(unexplained)))
}

impl Listing {
    fn plain() -> Self {
        Self { profile: None, fields: FIELDS.iter().map(Field::from).collect(), target: None, differences: None }
    }

    /// With whether each exists.
    fn of(profile: String, caps: &Capabilities) -> Self {
        let field = |info| Field { exists: Some(exists(caps, info)), ..Field::from(info) };
        Self { profile: Some(profile), fields: FIELDS.iter().map(field).collect(), target: None, differences: None }
    }

    /// With what a target's probe found.
    fn probed(implementation: &Implementation, captured: Captured) -> Result<Self, CliError> {
        let caps = Capabilities::new(&captured.profile.profile);
        let mut listing = Self::of(captured.profile.name, &caps);
        for (field, info) in listing.fields.iter_mut().zip(&FIELDS) {
            field.found = Some(captured.fields.iter().any(|report| report.encoding == info.encoding.0));
        }
        let mut differences = compare(&caps, &captured.fields);
        let deviations = Deviations::embedded()?;
        for difference in &mut differences {
            difference.explained_by = explanation(difference, &deviations.of(implementation));
        }
        listing.target = Some(implementation.to_string());
        listing.differences = Some(differences);
        Ok(listing)
    }

    fn print(&self) -> io::Result<()> {
        let mut header = vec!["ENCODING", "FIELD", "WIDTH", "AREA", "ACCESS"];
        header.extend(self.profile.is_some().then_some("EXISTS"));
        header.extend(self.target.is_some().then_some("FOUND"));
        header.extend(["EXISTS IF", "ALSO CALLED"]);
        let mut table = output::table(&header);
        for field in &self.fields {
            let exists_if = if field.exists_if.is_empty() { "always".to_owned() } else { field.exists_if.join(" or ") };
            let mut row = vec![field.encoding.as_str(), field.name, field.width, field.area, field.access];
            row.extend(field.exists.map(Exists::word));
            row.extend(field.found.map(|found| if found { "yes" } else { "no" }));
            let aliases = field.aliases.join(", ");
            row.extend([exists_if.as_str(), &aliases]);
            table.add_row(row);
        }
        output::print_table(&table)?;
        let mut out = io::stdout().lock();
        let (Some(target), Some(differences)) = (&self.target, &self.differences) else {
            return Ok(());
        };
        writeln!(out)?;
        if differences.is_empty() {
            return writeln!(out, "{target} has the fields that its capabilities promise, and they behave so.");
        }
        writeln!(out, "{target} differs from what its capabilities promise:")?;
        for Difference { encoding, field, detail, explained_by, .. } in differences {
            let explanation = match explained_by {
                Some(id) => format!("known deviation {id}"),
                None => "unexplained".to_owned(),
            };
            writeln!(
                out,
                "  {encoding} {}: {detail} ({explanation})",
                field.map_or("not in the SDM", |field| field.info().name)
            )?;
        }
        Ok(())
    }
}

impl Exists {
    fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

impl From<&'static FieldInfo> for Field {
    fn from(info: &'static FieldInfo) -> Self {
        Self {
            encoding: format!("{:?}", info.encoding),
            name: info.name,
            aliases: info.aliases,
            width: match info.width() {
                Width::Bits16 => "16",
                Width::Bits32 => "32",
                Width::Bits64 => "64",
                Width::Natural => "natural",
            },
            area: match info.area() {
                Area::Control => "control",
                Area::ExitInformation => "exit information",
                Area::GuestState => "guest state",
                Area::HostState => "host state",
            },
            access: if info.area() == Area::ExitInformation { "read-only" } else { "read-write" },
            exists_if: info.exists_if.iter().map(ToString::to_string).collect(),
            about: info.doc,
            exists: None,
            found: None,
        }
    }
}

/// Whether the capabilities promise a component.
fn exists(caps: &Capabilities, info: &FieldInfo) -> Exists {
    if caps.promises_field(info) {
        Exists::Yes
    } else if info.exists_if.iter().any(|bit| caps.unknown.intersects(deciding(*bit))) {
        Exists::Unknown
    } else {
        Exists::No
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
fn compare(caps: &Capabilities, reports: &[FieldReport]) -> Vec<Difference> {
    let mut differences = Vec::new();
    // Only the probe tries the high halves; the emulator reports what it implements.
    let halves = reports.iter().any(|report| Encoding(report.encoding).is_high());
    for info in &FIELDS {
        let report = find(reports, info.encoding);
        let detail = match (exists(caps, info), report) {
            (Exists::Yes, None) => Some((Kind::Missing, "its capabilities promise it, but VMREAD does not find it")),
            (Exists::No, Some(_)) => Some((Kind::Extra, "its capabilities do not promise it, but VMREAD finds it")),
            _ => None,
        };
        if let Some((kind, detail)) = detail {
            differences.push(Difference::new(info.encoding, kind, detail.to_owned()));
        }
        let Some(report) = report else { continue };
        behaviour(caps, info, report, &mut differences);
        if info.width() == Width::Bits64 && halves {
            let high = Encoding(info.encoding.0 | 1);
            match find(reports, high) {
                Some(report) => behaviour(caps, info, report, &mut differences),
                None => {
                    let detail = "VMREAD finds the field, but not its bits 63:32";
                    differences.push(Difference::new(high, Kind::Missing, detail.to_owned()));
                }
            }
        }
    }
    for report in reports {
        let encoding = Encoding(report.encoding);
        let alone = |info: &FieldInfo| encoding.is_high() && find(reports, info.encoding).is_none();
        if encoding.field().is_none_or(|field| alone(field.info())) {
            let detail = format!("VMREAD: {}, VMWRITE: {}", result_text(&report.read), result_text(&report.write));
            differences.push(Difference::new(encoding, Kind::Extra, detail));
        }
    }
    differences
}

fn find(reports: &[FieldReport], encoding: Encoding) -> Option<&FieldReport> {
    reports.iter().find(|report| report.encoding == encoding.0)
}

/// Whether VMREAD and VMWRITE of a component that is there do what they should.
fn behaviour(caps: &Capabilities, info: &FieldInfo, report: &FieldReport, differences: &mut Vec<Difference>) {
    /// VMWRITE to a read-only component.
    const READ_ONLY: u32 = 13;
    let encoding = Encoding(report.encoding);
    if !matches!(report.read, StepResult::Value(_)) {
        let detail = format!("VMREAD ends in {} instead of a value", result_text(&report.read));
        differences.push(Difference::new(encoding, Kind::Access, detail));
        return;
    }
    let read_only = info.area() == Area::ExitInformation && !caps.writes_exit_information();
    let promised = if read_only { StepResult::FailValid(READ_ONLY) } else { StepResult::Ok };
    if report.write != promised {
        let detail = format!("VMWRITE ends in {} instead of {}", result_text(&report.write), result_text(&promised));
        differences.push(Difference::new(encoding, Kind::Access, detail));
    } else if !read_only {
        let holds = holds(caps, info, encoding.is_high());
        let dropped = if ACCESS_RIGHTS.contains(&info.encoding) { RESERVED_ACCESS_RIGHTS } else { 0 };
        if report.sticky != holds && report.sticky != holds & !dropped {
            let detail = format!("of all ones it holds {:#x} instead of {holds:#x}", report.sticky);
            differences.push(Difference::new(encoding, Kind::Bits, detail));
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

impl Difference {
    fn new(encoding: Encoding, kind: Kind, detail: String) -> Self {
        let field = encoding.field();
        Self { encoding: format!("{encoding:?}"), field, kind, detail, explained_by: None }
    }
}

/// The deviation that covers a difference.
fn explanation(difference: &Difference, deviations: &[&Deviation]) -> Option<DeviationId> {
    let field = difference.field?;
    let covers = |deviation: &&&Deviation| {
        let fields = match difference.kind {
            Kind::Missing => &deviation.fields_missing,
            Kind::Extra => &deviation.fields_extra,
            Kind::Access | Kind::Bits => return false,
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
    fn differences(change: impl Fn(&mut Vec<FieldReport>)) -> Vec<(Kind, Option<&'static str>)> {
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
        assert_eq!(without(named("guest_rip")), [(Kind::Missing, Some("guest_rip"))]);
        assert_eq!(without(named("tsc_offset") | 1), [(Kind::Missing, Some("tsc_offset"))]);
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
        assert_eq!(with(named("guest_uinv")), [(Kind::Extra, Some("guest_uinv"))]);
        assert_eq!(with(named("ept_pointer") | 1), [(Kind::Extra, Some("ept_pointer"))]);
        assert_eq!(with(0x0C7E), [(Kind::Extra, None)]);
        let guest_tr =
            |sticky| differences(move |reports| report(reports, named("guest_tr_access_rights")).sticky = sticky);
        assert_eq!(guest_tr(0xF0FF), [(Kind::Bits, Some("guest_tr_access_rights"))]);
        let written = |name, write| differences(move |reports| report(reports, named(name)).write = write);
        assert_eq!(written("exit_reason", StepResult::Ok), [(Kind::Access, Some("exit_reason"))]);
        assert_eq!(written("guest_rip", StepResult::FailValid(13)), [(Kind::Access, Some("guest_rip"))]);
    }

    #[test]
    fn deviations_explain_what_they_name() {
        let deviation: Deviation = toml::from_str(
            "id = 'x'\nimplementation = 'Bochs'\nbehaviour = ''\nsdm = ''\nevidence = ''\nfields_missing = ['guest_rip']",
        )
        .expect("a deviation");
        let explained = |field, kind| {
            let difference = Difference::new(Encoding(named(field)), kind, String::new());
            explanation(&difference, &[&deviation])
        };
        assert_eq!(explained("guest_rip", Kind::Missing), Some("x".into()));
        assert_eq!(explained("guest_rip", Kind::Extra), None);
        assert_eq!(explained("guest_rsp", Kind::Missing), None);
    }
}
