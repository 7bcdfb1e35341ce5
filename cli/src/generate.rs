//! `vmcs generate` prints cases as programs, and the valid images that cases start from.

use vmcs_case::number::Number;
use vmcs_case::profile::NamedProfile;
use vmcs_case::program::MemoryWrite;
use vmcs_fuzz::campaign::program_of;
use vmcs_fuzz::{Generator, Processor, TestProcessor};
use vmcs_model::CpuProfile;
use vmcs_model::field::{Area, FieldId};
use vmcs_texts::image;

use crate::error::{CliError, Status};
use crate::generator_name::GeneratorName;
use crate::output;

/// Print generated cases as programs that `vmcs run` reads, or a valid VMCS image to start from
///
/// With --base it prints one of the valid images that generated cases start from, as an image file that `vmcs check` and
/// `vmcs explain` read: every field that an entry can look at, and what memory has to hold.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  vmcs generate --profile sapphire-rapids --cases 2000 > programs.jsonl\n  \
                  vmcs generate --profile sapphire-rapids --base plain > guest.json")]
pub(crate) struct Args {
    /// The processor: a profile's name or file
    #[arg(long, value_name = "PROFILE")]
    profile: String,
    /// What the cases are
    #[arg(long, value_enum, default_value_t = GeneratorName::Programs)]
    generator: GeneratorName,
    /// How many cases
    #[arg(long, default_value_t = 1000, value_name = "N")]
    cases: u64,
    /// The same seed gives the same cases
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Print a valid image in place of cases: `plain` is the smallest one, a 64-bit guest with no control beyond those that
    /// the processor demands. Any other name is answered with the names that there are for the processor
    #[arg(long, value_name = "NAME", conflicts_with_all = ["generator", "cases", "seed"])]
    base: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    let profile = NamedProfile::find(&args.profile)?.profile;
    if let Some(name) = &args.base {
        return print_base(&profile, name);
    }
    let processor = TestProcessor::new(&profile);
    let generator = Generator::from(args.generator);
    for index in 0..args.cases {
        let case = generator.case(&processor, args.seed, index);
        output::json_line(&program_of(format!("{}-{index}", args.seed), &case))?;
    }
    Ok(Status::Clean)
}

/// Prints the valid image of that name as an image file.
fn print_base(profile: &CpuProfile, name: &str) -> Result<Status, CliError> {
    let processor = Processor::new(profile);
    let Some(base) = processor.bases.iter().find(|base| base.name == name) else {
        let names: Vec<_> = processor.bases.iter().map(|base| base.name).collect();
        let message =
            format!("there is no valid image {name:?} for this processor: expected one of {}", names.join(", "));
        return Err(CliError::Usage(message));
    };
    let is_input = |field: &FieldId| field.info().area() != Area::ExitInformation;
    let fields = processor.fields.iter().copied().filter(is_input).map(|field| (field, base.vmcs.raw(field)));
    let qword = |&(address, value): &(u64, u64)| MemoryWrite {
        address: Number(address),
        u32: None,
        u64: Some(Number(value)),
        bytes: None,
    };
    output::json_pretty(&image::to_json(fields, base.memory.iter().map(qword)))?;
    Ok(Status::Clean)
}
