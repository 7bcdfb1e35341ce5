//! An open machine together with the oracle that judges its answers.

use std::fmt;
use std::ops::ControlFlow;

use vmcs_case::program::{Program, ProgramError};
use vmcs_case::{Case, Session, Target, TargetError};
use vmcs_fuzz::TestProcessor;
use vmcs_fuzz::campaign::CampaignSetting;
use vmcs_fuzz::deviations::{Deviation, Deviations};
use vmcs_fuzz::oracle::{Judged, Judgement, Oracle};

use crate::choice::MachineChoice;

/// A target with what is needed to judge it.
pub struct TestedMachine {
    /// The target.
    pub target: Box<dyn Target>,
    /// Its processor.
    pub processor: TestProcessor,
    /// What its cases share.
    pub session: Session,
}

impl TestedMachine {
    /// The machine `choice`, opened as `target`.
    ///
    /// # Errors
    /// Those of the machine when it is asked what its processor is.
    pub fn new(choice: &MachineChoice, mut target: Box<dyn Target>) -> Result<Self, TargetError> {
        let (profile, _) = choice.capture(target.as_mut())?;
        let processor = TestProcessor::new(&profile.profile);
        let session = processor.session();
        Ok(Self { target, processor, session })
    }

    /// The case of a program.
    ///
    /// # Errors
    /// [`ProgramError`] when the program is none for this processor.
    pub fn case(&self, program: &Program) -> Result<Case, ProgramError> {
        program.to_case(self.processor.capabilities.revision(), &self.processor.image_names())
    }

    /// The target, and the setting that its answers are judged in.
    pub fn setting<'a>(&'a mut self, deviations: &'a Deviations) -> (&'a mut dyn Target, CampaignSetting<'a>) {
        let Self { target, processor, session } = self;
        (target.as_mut(), CampaignSetting { processor, session, deviations })
    }

    /// Executes the cases and judges each.
    ///
    /// # Errors
    /// Those of the machine.
    pub fn judge(&mut self, cases: &[Case], deviations: &Deviations) -> Result<Vec<Judged>, TargetError> {
        let implementation = self.target.implementation();
        let oracle = Oracle::new(&self.processor, &self.session, deviations.of(&implementation));
        let mut judged = Vec::new();
        self.target.run(&self.session, &mut cases.iter().cloned(), &mut |index, observation| {
            judged.push(oracle.judge(&cases[index], &observation));
            ControlFlow::Continue(())
        })?;
        Ok(judged)
    }

    /// Executes the case of each of the deviations `asked`. The result is `None` if the case shows its deviation, and else
    /// what it ended in. The cases are judged with all `deviations`.
    ///
    /// # Errors
    /// Those of the machine.
    pub fn shows(
        &mut self,
        deviations: &Deviations,
        asked: &[&Deviation],
    ) -> Result<Vec<Option<Instead>>, TargetError> {
        let mut results = Vec::new();
        let mut cases = Vec::new();
        for deviation in asked {
            results.push(match deviation.program().map(|program| self.case(&program)) {
                Some(Ok(case)) => {
                    cases.push(case);
                    None
                }
                Some(Err(error)) => Some(Instead::NoCase(error)),
                None if deviation.shows_in(&self.processor.profile) => None,
                None => Some(Instead::HasTheComponents),
            });
        }
        let mut judged = self.judge(&cases, deviations)?.into_iter();
        for (deviation, result) in asked.iter().zip(&mut results) {
            if deviation.program().is_some() && result.is_none() {
                let judgement = judged.next().expect("every case is judged").judgement;
                *result = (!deviation.accounts_for(&judgement)).then_some(Instead::Judged(judgement));
            }
        }
        Ok(results)
    }
}

/// What the case of a deviation ended in when it did not show the deviation.
#[derive(Debug)]
pub enum Instead {
    /// The machine's processor has no such case.
    NoCase(ProgramError),
    /// The VMCS has the components that the capabilities promise, and no others.
    HasTheComponents,
    /// The machine executed the case, and this is the judgement on it.
    Judged(Judgement),
}

impl fmt::Display for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCase(error) => error.fmt(f),
            Self::HasTheComponents => f.write_str("the VMCS has the components that the capabilities promise"),
            Self::Judged(Judgement::Agree) => f.write_str("agrees with the model"),
            Self::Judged(Judgement::Unspecified(why)) => why.fmt(f),
            Self::Judged(Judgement::Deviates(ids)) => ids.fmt(f),
            Self::Judged(Judgement::Disagree(found)) => f.write_str(&found.observed()),
        }
    }
}
