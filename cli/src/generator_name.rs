//! The generators of cases as values of `--generator`.

use vmcs_fuzz::Generator;

/// The generators, as the command line calls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum GeneratorName {
    /// Images on both sides of each check, launched.
    Boundary,
    /// One or two control fields of a valid VMCS changed, launched.
    Controls,
    /// One or two guest-state or host-state fields of a valid VMCS changed, launched.
    State,
    /// Up to four fields of a valid VMCS changed, wherever they are, launched.
    Images,
    /// Sequences of VMX instructions.
    Programs,
}

impl From<GeneratorName> for Generator {
    fn from(name: GeneratorName) -> Self {
        match name {
            GeneratorName::Boundary => Self::Boundary,
            GeneratorName::Controls => Self::Controls,
            GeneratorName::State => Self::State,
            GeneratorName::Images => Self::Images,
            GeneratorName::Programs => Self::Programs,
        }
    }
}
