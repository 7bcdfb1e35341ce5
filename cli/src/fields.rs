//! `vmcs fields` lists the components of the VMCS, and says which of them a processor has.

use std::io::{self, Write};

use serde::Serialize;
use vmcs_case::Implementation;
use vmcs_case::profile::NamedProfile;
use vmcs_fuzz::components::{ComponentDifference, Existence, compare, exists, explanation};
use vmcs_fuzz::deviations::Deviations;
use vmcs_hw::targets::TargetName;
use vmcs_model::Capabilities;
use vmcs_model::field::{Area, FIELDS, FieldInfo, Width};

use crate::error::{CliError, Status};
use crate::output;
use crate::target::{self, Captured, TargetArgs};

/// List the fields of the VMCS, and which of them a processor has
///
/// Some fields exist only where capability bits promise them (EXISTS IF); with --profile a column says whether they do.
/// Fields of the exit-information area are read-only unless IA32_VMX_MISC[29] is 1.
///
/// With --target the machine is asked: it executes VMREAD of every encoding, VMWRITE of all ones, and VMREAD again. Where
/// its answers are not what its capabilities promise, the command lists the difference, with the known deviation of the
/// machine that explains it if there is one.
#[derive(clap::Args)]
#[command(after_help = "Exit status: 1 if the target differs from its capabilities in a way that no known deviation \
                        explains.\n\nExamples:\n  vmcs fields | grep apic\n  vmcs fields --profile tiger-lake\n  vmcs \
                        fields --target bochs --cpu corei7_skylake_x --json")]
pub(crate) struct Args {
    /// A profile's name, its beginning, or a profile file
    #[arg(long, value_name = "PROFILE", conflicts_with_all = ["target", "cpu"])]
    profile: Option<String>,
    /// A machine that is asked: `bochs`, `bochs@2.7`, `emu`
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
struct FieldListing {
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    fields: Vec<ListedField>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    differences: Option<Vec<ComponentDifference>>,
}

/// A component.
#[derive(Serialize)]
struct ListedField {
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
    exists: Option<Existence>,
    /// Whether VMREAD found it.
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<bool>,
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    let listing = match (&args.profile, &args.target) {
        (Some(name), _) => {
            let profile = NamedProfile::find(name)?;
            FieldListing::of(profile.name, &Capabilities::new(&profile.profile))
        }
        (None, Some(target)) => {
            let mut opened = target::open(&TargetArgs { target: Some(target.clone()), cpu: args.cpu.clone() })?;
            let captured = opened.capture()?;
            FieldListing::probed(&opened.target.implementation(), captured)?
        }
        (None, None) => FieldListing::plain(),
    };
    if args.json {
        output::json_pretty(&listing)?;
    } else {
        listing.print()?;
    }
    let unexplained = |difference: &ComponentDifference| difference.explained_by.is_none();
    Ok(Status::found(listing.differences.iter().flatten().any(unexplained)))
}

impl FieldListing {
    fn plain() -> Self {
        Self { profile: None, fields: FIELDS.iter().map(ListedField::from).collect(), target: None, differences: None }
    }

    /// With whether each exists.
    fn of(profile: String, caps: &Capabilities) -> Self {
        let field = |info| ListedField { exists: Some(exists(caps, info)), ..ListedField::from(info) };
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
            row.extend(field.exists.map(Existence::word));
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
        for ComponentDifference { encoding, field, detail, explained_by, .. } in differences {
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

impl From<&'static FieldInfo> for ListedField {
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
