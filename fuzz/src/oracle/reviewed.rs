//! The reviewed deviations of a target, and which of them apply at a step.

use crate::deviations::Deviation;
use crate::emulator::CaseEmulator;

/// The reviewed deviations of a target.
#[derive(Debug)]
pub(super) struct Reviewed<'a>(pub(super) Vec<&'a Deviation>);

impl<'a> Reviewed<'a> {
    /// The `wanted` deviations whose conditions the current VMCS meets.
    pub(super) fn applicable<'b>(
        &'b self,
        machine: &'b CaseEmulator,
        wanted: impl Fn(&&'a Deviation) -> bool + 'b,
    ) -> impl Iterator<Item = &'a Deviation> + 'b {
        let (current, memory) = (machine.processor().current(), machine.processor().memory());
        self.0
            .iter()
            .copied()
            .filter(wanted)
            .filter(move |deviation| current.is_some_and(|region| deviation.applies(&region.fields, memory)))
    }
}
