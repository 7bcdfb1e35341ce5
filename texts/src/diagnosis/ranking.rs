//! Which violated check is most likely the cause of what is reported, and which of them one wrong value brings about.

use std::cmp::Ordering;

use vmcs_model::checks::{CheckId, CheckSet, Phase};
use vmcs_model::controls::Entry;
use vmcs_model::explain::Repair;
use vmcs_model::field::{self, FieldId, FieldValue};
use vmcs_model::registers::{Cr0, Rflags};

use super::{Alternative, Diagnosis, JudgedMsr, Settled, branches, msr_load};
use crate::dump::Reported;

/// How a violated check stands to the outcome that is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It can have caused the outcome, or no outcome is reported and it is the first to be met.
    Cause,
    /// It leads to another outcome of the same stage, or no outcome is reported and another check is met before it.
    Next,
    /// The processor did not get to it.
    NotReached,
    /// The processor got past it, so that some value is not what the VMCS held.
    Passed,
}

/// A violated check, or two of which one is violated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The check.
    pub check: CheckId,
    /// The check that is violated instead if a mode that is not known is the less likely one.
    pub or: Option<CheckId>,
    /// How it stands to the outcome.
    pub standing: Standing,
    /// The program that printed the dump names it as the cause.
    pub named: bool,
    /// It is not certain, but it would be violated on most processors.
    pub guessed: bool,
}

/// Findings that one change would mend, best first.
#[derive(Clone, Debug)]
pub struct Group {
    /// The field that is to blame.
    pub field: Option<FieldId>,
    /// The change.
    pub repair: Option<Repair>,
    /// The findings.
    pub findings: Vec<Finding>,
}

impl Group {
    /// The best of the findings.
    #[must_use]
    pub fn first(&self) -> &Finding {
        &self.findings[0]
    }
}

impl Finding {
    /// Better findings have a lower key: those that the program names, those whose outcome is the reported one, those that
    /// rest on fewer assumptions, those of earlier phases.
    fn key(&self) -> (Standing, bool, usize, Phase, CheckId) {
        let info = self.check.info();
        let assumptions = usize::from(info.failure.optional)
            + usize::from(info.failure.or.is_some())
            + usize::from(self.or.is_some())
            + 4 * usize::from(self.guessed);
        (self.standing, !self.named, assumptions, info.phase, self.check)
    }
}

impl Diagnosis<'_> {
    /// The violated checks, those that one value brings about in one group, best first.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        let mut left = self.findings();
        let repairs: Vec<_> =
            left.iter().map(|finding| (finding.check, self.explain(finding.check).repair())).collect();
        let own = |check: CheckId| repairs.iter().find(|(other, _)| *other == check).and_then(|(_, repair)| *repair);
        let modes = self.mode_changes(&left);
        let mut groups = Vec::new();
        while let Some(first) = left.first().copied() {
            let field = own(first.check).map(|repair| repair.field);
            let about = |check: CheckId| check.info().fields.first();
            // Where no change of one field mends the first, those about the same field that no change mends either.
            let alike = |finding: &Finding| {
                own(finding.check).map(|repair| repair.field) == field
                    && (field.is_some() || about(first.check).is_some() && about(finding.check) == about(first.check))
                    && finding.standing == first.standing
            };
            let mode = modes.iter().find(|(_, mended)| mended.contains(first.check)).filter(|_| first.or.is_none());
            let together = |finding: &Finding| match mode {
                Some((_, mended)) => mended.contains(finding.check),
                None => alike(finding),
            };
            let (findings, rest): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|finding| finding.check == first.check || together(finding));
            left = rest;
            let repair = mode.map(|(repair, _)| *repair).or_else(|| self.mend(&findings, own(first.check)?));
            let field = repair.map(|repair| repair.field).or(field);
            let field = field.or_else(|| first.check.info().fields.first().copied());
            groups.push(Group { field, repair, findings });
        }
        groups
    }

    /// The change of the field of `first` that mends all the findings: each is mended after the other.
    fn mend(&self, findings: &[Finding], first: Repair) -> Option<Repair> {
        let field = first.field;
        let mut vmcs = self.entry.dump.vmcs.clone();
        for finding in findings {
            let attempt = self.attempt_for(finding.check);
            let entry = attempt.on(&vmcs, &self.entry.memory);
            let new = if finding.check == findings[0].check {
                Some(first.new)
            } else if finding.or.is_some() || entry.violations().contains(finding.check) {
                entry.explain(finding.check).repair().filter(|repair| repair.field == field).map(|repair| repair.new)
            } else {
                None
            };
            if let Some(new) = new {
                vmcs.set_raw(field, new);
            }
        }
        Some(Repair { new: vmcs.raw(field)?, ..first })
    }

    /// Changes of a bit that chooses a mode which mend more than one finding and violate nothing else, with what they mend.
    pub(super) fn mode_changes(&self, findings: &[Finding]) -> Vec<(Repair, CheckSet)> {
        let entry = &self.entry.dump.vmcs;
        let change = |(field, mask): (FieldId, u64)| {
            let old = entry.raw(field)?;
            let mut vmcs = entry.clone();
            vmcs.set_raw(field, old ^ mask);
            let after = branches::decide(self.attempt, &vmcs, &self.entry.memory).verdict.violated;
            let mended: CheckSet =
                findings.iter().map(|finding| finding.check).filter(|check| !after.contains(*check)).collect();
            let spoils = after.iter().any(|check| !self.verdict.violated.contains(check));
            (mended.len() > 1 && !spoils).then_some((Repair { field, old, new: old ^ mask }, mended))
        };
        let ia32e = Entry::IA_32E_MODE_GUEST.bits().to_raw();
        let modes = [
            (field::VM_ENTRY_CONTROLS.id(), ia32e),
            (field::GUEST_RFLAGS.id(), Rflags::VM.bits()),
            (field::GUEST_CR0.id(), Cr0::PG.bits()),
        ];
        modes.into_iter().filter_map(change).collect()
    }

    /// The findings that are certain.
    pub(super) fn certain_findings(&self) -> Vec<Finding> {
        self.findings().into_iter().filter(|finding| !finding.guessed).collect()
    }

    /// The violated checks and the check that a known processor makes likely, best first.
    fn findings(&self) -> Vec<Finding> {
        let certain = self.verdict.violated.iter().map(|check| (check, None));
        let either = self.alternatives.iter().map(|Alternative { likely, other }| (*likely, Some(*other)));
        let mut findings: Vec<Finding> = Vec::new();
        for (check, or) in certain.chain(either) {
            if !findings.iter().any(|finding| finding.check == check) {
                findings.push(Finding {
                    check,
                    or,
                    standing: self.standing(check),
                    named: self.is_named(check),
                    guessed: false,
                });
            }
        }
        for (msr, check) in self.msrs.iter().flat_map(|msr| msr.violated.iter().map(move |check| (msr, *check))) {
            if !findings.iter().any(|finding| finding.check == check) {
                let (standing, named) = (self.standing_of_msr(check, msr), self.is_named(check));
                findings.push(Finding { check, or: None, standing, named, guessed: false });
            }
        }
        // What is not certain: what the program names, and what would be violated on the processor that it may be. If no entry
        // failed, or the processor got past such a check, it is the guess that is wrong.
        let named = self.entry.dump.named.iter().filter_map(|named| named.check);
        let guessed = self.guess.iter().flat_map(|(_, violated)| violated.iter());
        let fits = |check: &CheckId| self.failure().is_some() && self.standing(*check) != Standing::Passed;
        let guessed = guessed.filter(fits);
        for check in named.filter(|check| self.verdict.undecidable.contains(*check)).chain(guessed) {
            if !findings.iter().any(|finding| finding.check == check) {
                let (standing, named) = (self.standing(check), self.is_named(check));
                findings.push(Finding { check, or: None, standing, named, guessed: true });
            }
        }
        if self.failure().is_some()
            && !findings.iter().any(|finding| finding.standing == Standing::Cause)
            && let Some(guess) = self.guess().filter(|guess| 2 * guess.violating >= guess.of)
        {
            let (check, standing) = (guess.check, Standing::Cause);
            findings.push(Finding { check, or: None, standing, named: false, guessed: true });
        }
        if self.entry.dump.reported.is_none() {
            // Without a report the entry fails in the first phase that has a violation for certain.
            let phase = findings.iter().filter(|finding| !finding.check.info().failure.optional);
            let phase = phase.map(|finding| finding.check.info().phase).min();
            for finding in &mut findings {
                if phase.is_some_and(|phase| finding.check.info().phase > phase) {
                    finding.standing = Standing::Next;
                }
            }
        }
        findings.sort_by_key(Finding::key);
        findings
    }

    /// Whether the program that printed the dump names the check as the cause.
    fn is_named(&self, check: CheckId) -> bool {
        self.entry.dump.named.iter().any(|named| named.check == Some(check))
    }

    /// How a check stands to what is reported.
    fn standing(&self, check: CheckId) -> Standing {
        match self.settled(check) {
            Some(Settled::Passed) => Standing::Passed,
            Some(Settled::NotReached) => Standing::NotReached,
            None if self.entry.dump.reported.is_none() || self.leads_to_the_report(check) => Standing::Cause,
            None if self.is_named(check) => Standing::Cause,
            None => Standing::Next,
        }
    }

    /// How a check that an entry of the MSR-load area violates stands to what is reported.
    fn standing_of_msr(&self, check: CheckId, msr: &JudgedMsr) -> Standing {
        let reported = self.entry.dump.reported;
        let failed = reported.filter(|reported| matches!(reported, Reported::Outcome { qualified: true, .. }));
        let failed = failed.and_then(|reported| msr_load::reported_entry(reported.outcome()?));
        match failed.map(|failed| u64::from(msr.entry.number).cmp(&failed)) {
            None | Some(Ordering::Equal) => self.standing(check),
            Some(Ordering::Less) => Standing::Passed,
            Some(Ordering::Greater) => Standing::NotReached,
        }
    }
}
