//! `vmcs generate`: cases as programs.

use vmcs_case::profile::NamedProfile;
use vmcs_fuzz::campaign::program_of;
use vmcs_fuzz::{Generator, TestProcessor};

use crate::error::{CliError, Status};
use crate::generator_name::GeneratorName;
use crate::output;

/// Print generated cases as programs that `vmcs run` reads
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vmcs generate --profile sapphire-rapids --cases 2000 > programs.jsonl")]
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
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    let processor = TestProcessor::new(&NamedProfile::find(&args.profile)?.profile);
    let generator = Generator::from(args.generator);
    for index in 0..args.cases {
        let case = generator.case(&processor, args.seed, index);
        output::json_line(&program_of(format!("{}-{index}", args.seed), &case))?;
    }
    Ok(Status::Clean)
}
