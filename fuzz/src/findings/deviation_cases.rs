//! Finding the smallest case of each deviation by campaigns.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;

use vmcs_case::{Case, Target, TargetError};
use vmcs_model::checks::CheckSet;

use crate::Stream;
use crate::campaign::{CampaignSetting, program_of};
use crate::deviations::{Deviation, DeviationId, MinimalCase};
use crate::findings::minimise::{Goal, minimise};
use crate::oracle::{Judgement, Oracle};

/// Cases of one deviation that are minimised; the smallest of what they come to is taken.
const EXAMPLES: usize = 4;

/// Cases that show deviations, some of each.
pub type Examples = BTreeMap<DeviationId, Vec<Case>>;

/// Adds the first cases of a stream that one of the `wanted` deviations alone accounts for.
///
/// # Errors
/// [`TargetError`] when the machinery fails.
pub fn look_for(
    target: &mut dyn Target,
    setting: CampaignSetting<'_>,
    wanted: &BTreeSet<DeviationId>,
    stream: &mut Stream,
    count: u64,
    examples: &mut Examples,
) -> Result<(), TargetError> {
    let CampaignSetting { processor, session, deviations } = setting;
    let oracle = Oracle::new(processor, session, deviations.of(&target.implementation()));
    let pending = RefCell::new(VecDeque::new());
    let mut cases = (0..count).map(|_| {
        let case = stream.next(processor).case;
        pending.borrow_mut().push_back(case.clone());
        case
    });
    target.run(session, &mut cases, &mut |_, observation| {
        let case = pending.borrow_mut().pop_front().expect("an observation has a case");
        if let Judgement::Deviates(ids) = oracle.judge(&case, &observation).judgement
            && let Some(id) = wanted.iter().find(|id| ids.are(id))
        {
            let of_id = examples.entry(id.clone()).or_default();
            if of_id.len() < EXAMPLES {
                of_id.push(case);
            }
        }
        ControlFlow::Continue(())
    })
}

/// The smallest case of each deviation that `examples` come to on `target`.
///
/// # Errors
/// [`TargetError`] when the machinery fails.
pub fn smallest(
    target: &mut dyn Target,
    setting: CampaignSetting<'_>,
    examples: &Examples,
) -> Result<BTreeMap<DeviationId, MinimalCase>, TargetError> {
    let implementation = target.implementation();
    let goal = |id: &DeviationId| {
        let deviation = setting.deviations.iter().find(|deviation| deviation.id == *id);
        Goal::Deviation { id: id.clone(), omits: deviation.map_or(CheckSet::EMPTY, Deviation::omitted) }
    };
    let goals: Vec<_> =
        examples.iter().flat_map(|(id, cases)| cases.iter().map(move |case| (case.clone(), goal(id)))).collect();
    let ids = examples.iter().flat_map(|(id, cases)| cases.iter().map(move |_| id));
    let mut smallest: BTreeMap<DeviationId, Case> = BTreeMap::new();
    for (id, minimal) in ids.zip(minimise(target, setting, &goals)?) {
        let Some(minimal) = minimal else { continue };
        let known = smallest.entry(id.clone()).or_insert_with(|| minimal.case.clone());
        if minimal.case.ops.len() < known.ops.len() {
            *known = minimal.case;
        }
    }
    let processor = setting.processor;
    let minimal_case = |(id, case): (DeviationId, Case)| {
        let portable =
            program_of(id.to_string(), &case).portable(processor.capabilities.revision(), &processor.image_names());
        let (version, model) = (implementation.version.clone(), implementation.model.clone());
        (id, MinimalCase { version, model, on: None, start: portable.start, ops: portable.ops })
    };
    Ok(smallest.into_iter().map(minimal_case).collect())
}

impl Deviation {
    /// Whether what its case ended in is what it says.
    #[must_use]
    pub fn accounts_for(&self, judgement: &Judgement) -> bool {
        matches!(judgement, Judgement::Deviates(ids) if ids.are(&self.id))
    }
}
