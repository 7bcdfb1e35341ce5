//! What could not be decided, and what would decide it.

use std::collections::BTreeMap;

use vmcs_model::capabilities::Facts;
use vmcs_model::partial::Unknowns;

use super::Diagnosis;

/// The names of what is not known. Unless `facts` is true, all facts about the processor count as one.
#[must_use]
pub fn names(unknown: &Unknowns, facts: bool) -> Vec<String> {
    let mut names: Vec<String> = unknown.fields.iter().map(|field| field.info().name.to_owned()).collect();
    if facts {
        names.extend(unknown.facts.msrs().map(|msr| msr.name().to_owned()));
        names.extend(unknown.facts.leaves().map(|leaf| {
            let (leaf, subleaf) = leaf.query();
            format!("CPUID.{leaf:02X}H.{subleaf}")
        }));
    } else if unknown.facts != Facts::default() {
        names.push("the processor".to_owned());
    }
    // An address that comes from an unknown field says nothing.
    names.extend(
        unknown
            .memory
            .filter(|_| unknown.fields.iter().next().is_none())
            .map(|address| format!("memory at {address:#x}")),
    );
    if unknown.executive_vmcs {
        names.push("the executive VMCS".to_owned());
    }
    if unknown.open {
        names.push("what the SDM leaves open".to_owned());
    }
    names
}

/// Fields that are named.
const NAMED: usize = 3;

impl Diagnosis<'_> {
    /// What could not be decided of the checks that matter, and what would decide it, in a few sentences. `profiled` says
    /// that the processor was named already.
    #[must_use]
    pub fn undecided(&self, profiled: bool) -> Vec<String> {
        let reported = self.entry.dump.reported;
        let matters =
            |check: &_| self.settled(*check).is_none() && (reported.is_none() || self.leads_to_the_report(*check));
        let open: Vec<_> = self.verdict.undecidable.iter().filter(matters).collect();
        if open.is_empty()
            || self.entry.dump.known() == 0
            || reported.is_some_and(|reported| reported.outcome().is_none())
        {
            return Vec::new();
        }
        let (mut facts_only, mut fields, mut memory) = (0, BTreeMap::<&str, usize>::new(), 0);
        let mut lacking_fields = 0;
        for check in &open {
            let unknown = self.unknowns(*check);
            let mut names = unknown.fields.iter().map(|field| field.info().name).peekable();
            if names.peek().is_some() {
                lacking_fields += 1;
                names.for_each(|name| *fields.entry(name).or_default() += 1);
            } else if unknown.facts != Facts::default() {
                facts_only += 1;
            } else if unknown.memory.is_some() {
                memory += 1;
            }
        }
        let of = if reported.is_some() { "checks that lead to this outcome" } else { "checks" };
        let of = if open.len() == 1 { &of.replacen("checks that lead", "check that leads", 1) } else { of };
        let verb = if open.len() == 1 { "is" } else { "are" };
        let mut sentences = vec![format!("{} {of} {verb} undecided.", open.len())];
        if facts_only > 0 {
            let them = if facts_only == open.len() { "them".to_owned() } else { format!("{facts_only} of them") };
            sentences.push(if profiled {
                format!("The profile does not say enough of the processor for {them}.")
            } else {
                format!("Name the processor to decide {them}.")
            });
        }
        if lacking_fields > 0 {
            let mut fields: Vec<_> = fields.into_iter().collect();
            fields.sort_by_key(|(name, waiting)| (std::cmp::Reverse(*waiting), *name));
            let more = fields.len().saturating_sub(NAMED);
            let named: Vec<_> = fields.iter().take(NAMED).map(|(name, _)| *name).collect();
            let named = match (more, named.split_last()) {
                (0, Some((last, [_, ..]))) => format!("{} and {last}", named[..named.len() - 1].join(", ")),
                (0, _) => named.join(", "),
                _ => format!("{} and {more} more", named.join(", ")),
            };
            let source = if self.entry.dump.format == "image" { "the image" } else { "the dump" };
            let verb = if lacking_fields == 1 { "waits" } else { "wait" };
            sentences.push(format!("{lacking_fields} {verb} for fields that {source} does not show: {named}."));
        }
        if memory > 0 {
            sentences.push("What memory holds is not known.".to_owned());
        }
        sentences
    }
}
