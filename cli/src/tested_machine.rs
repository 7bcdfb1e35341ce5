//! A machine with what it takes to judge it.

use std::ops::ControlFlow;

use vmcs_case::program::{Program, ProgramError};
use vmcs_case::{Case, Session, Target};
use vmcs_fuzz::TestProcessor;
use vmcs_fuzz::campaign::Setting;
use vmcs_fuzz::deviations::Deviations;
use vmcs_fuzz::machines::MachineChoice;
use vmcs_fuzz::oracle::{Judged, Oracle};

use crate::error::CliError;
use crate::target::Opened;

/// A target with what is needed to judge it.
pub(crate) struct TestedMachine {
    pub(crate) opened: Opened,
    pub(crate) processor: TestProcessor,
    pub(crate) session: Session,
}

impl TestedMachine {
    pub(crate) fn open(choice: MachineChoice) -> Result<Self, CliError> {
        let mut opened = Opened::new(choice)?;
        let processor = TestProcessor::new(&opened.capture()?.profile.profile);
        let session = processor.session();
        Ok(Self { opened, processor, session })
    }

    /// The case of a program.
    pub(crate) fn case(&self, program: &Program) -> Result<Case, ProgramError> {
        program.to_case(self.processor.capabilities.revision(), &self.processor.image_names())
    }

    /// The target, and the setting that its answers are judged in.
    pub(crate) fn setting<'a>(&'a mut self, deviations: &'a Deviations) -> (&'a mut dyn Target, Setting<'a>) {
        let Self { opened, processor, session } = self;
        (opened.target.as_mut(), Setting { processor, session, deviations })
    }

    /// Executes the cases and judges each.
    pub(crate) fn judge(&mut self, cases: &[Case], deviations: &Deviations) -> Result<Vec<Judged>, CliError> {
        let implementation = self.opened.target.implementation();
        let oracle = Oracle::new(&self.processor, &self.session, deviations.of(&implementation));
        let mut judged = Vec::new();
        self.opened.target.run(&self.session, &mut cases.iter().cloned(), &mut |index, observation| {
            judged.push(oracle.judge(&cases[index], &observation));
            ControlFlow::Continue(())
        })?;
        Ok(judged)
    }
}
