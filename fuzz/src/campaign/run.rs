//! Executing a campaign on one target, in the order of the cases.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::ControlFlow;

use vmcs_case::recording::Recorder;
use vmcs_case::{Case, Target};

use super::error::CampaignError;
use super::report::{Basis, CampaignReport};
use super::setting::CampaignSetting;
use super::shard::Shard;
use crate::oracle::Oracle;
use crate::{Generated, Stream};

/// Where cases come from.
pub enum Cases<'a> {
    /// The next `count` cases of a stream.
    Generated {
        /// The stream.
        stream: &'a mut Stream,
        /// How many.
        count: u64,
    },
    /// A list, such as that of a recording.
    Listed {
        /// What made it.
        generator: String,
        /// The seed it was made with.
        seed: u64,
        /// The cases.
        cases: &'a mut dyn Iterator<Item = Case>,
    },
    /// Cases with names, which their findings bear.
    Named {
        /// What made them.
        generator: String,
        /// Names and cases.
        cases: &'a mut dyn Iterator<Item = (String, Case)>,
    },
}

/// Runs a campaign on `target`.
///
/// `progress` is told the number of observed cases after each. Once it breaks off, the campaign ends with what was
/// observed so far.
///
/// # Errors
/// [`Broken`], with what was observed until then.
pub fn run(
    target: &mut dyn Target,
    setting: CampaignSetting<'_>,
    cases: Cases<'_>,
    mut recorder: Option<&mut Recorder>,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<CampaignReport, Broken> {
    let CampaignSetting { processor, session, deviations } = setting;
    let implementation = target.implementation();
    let oracle = Oracle::new(processor, session, deviations.of(&implementation));
    let mut generated;
    let mut listed;
    let mut named;
    let mut fresh = None;
    let (generator, seed, source): (_, _, &mut dyn Iterator<Item = (Option<String>, Generated)>) = match cases {
        Cases::Generated { stream, count } => {
            fresh = Some(Stream::new(stream.generator(), stream.seed()));
            let (generator, seed) = (stream.generator().name().to_owned(), stream.seed());
            generated = (0..count).map(|_| (None, stream.next(processor)));
            (generator, seed, &mut generated)
        }
        Cases::Listed { generator, seed, cases } => {
            listed = cases.map(|case| (None, Generated { case, aim: None }));
            (generator, seed, &mut listed)
        }
        Cases::Named { generator, cases } => {
            named = cases.map(|(name, case)| (Some(name), Generated { case, aim: None }));
            (generator, 0, &mut named)
        }
    };
    let basis = Basis::new(&implementation, setting, fresh);
    let mut report = CampaignReport::new(implementation, generator, seed, Shard::WHOLE, basis);
    let mut failed = None;
    // Cases that were handed out and not observed yet.
    let pending = RefCell::new(VecDeque::new());
    let mut handed_out = source.map(|(name, generated)| {
        let case = generated.case.clone();
        pending.borrow_mut().push_back((name, generated));
        case
    });
    let ran = target.run(session, &mut handed_out, &mut |index, observation| {
        let (name, generated) = pending.borrow_mut().pop_front().expect("an observation has a case");
        if let Some(recorder) = recorder.as_mut()
            && let Err(error) = recorder.record(&generated.case, &observation)
        {
            failed = Some(error);
            return ControlFlow::Break(());
        }
        let name = || name.unwrap_or_else(|| Shard::WHOLE.case(index as u64));
        report.add(name, &oracle, &generated, &observation);
        let flow = progress(report.cases);
        report.interrupted = flow.is_break();
        flow
    });
    match ran.map_err(CampaignError::from).and(failed.map_or(Ok(()), |error| Err(CampaignError::Record(error)))) {
        Ok(()) => Ok(report),
        Err(source) => {
            report.interrupted = true;
            Err(Broken { report: Box::new(report), source })
        }
    }
}

/// A campaign on one target that ended before its time.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct Broken {
    /// What was observed until then.
    pub report: Box<CampaignReport>,
    /// Why.
    pub source: CampaignError,
}
