//! Values of which digits may be missing, as they end the longest line of a text: what follows if none is.

use super::words::value;
use super::{Answer, Diagnosis, Group, Point, Section, Standing};
use crate::partial_entry::PartialEntry;

impl PartialEntry {
    /// The entry with its doubtful values taken for whole, if it has any.
    #[must_use]
    pub fn taking_doubtful_values(&self) -> Option<Self> {
        if self.dump.doubtful.is_empty() {
            return None;
        }
        let mut entry = self.clone();
        for (field, value) in std::mem::take(&mut entry.dump.doubtful) {
            entry.dump.vmcs.set_raw(field, value);
        }
        Some(entry)
    }
}

impl Diagnosis<'_> {
    /// Adds to the answer about an entry what this diagnosis finds beyond it, which takes its doubtful values for whole.
    pub(crate) fn add_to(&self, certain: &Diagnosis<'_>, sections: &mut Vec<Section>, answer: &mut Answer) {
        let beyond = |group: &Group| {
            let first = group.first();
            first.standing == Standing::Cause && !first.guessed && !certain.verdict.violated.contains(first.check)
        };
        let groups: Vec<_> = self.groups().into_iter().filter(beyond).collect();
        let Some(first) = groups.first() else { return };
        let taken: Vec<_> =
            certain.entry.dump.doubtful.iter().map(|(field, _)| value(&self.entry.dump.vmcs, *field)).collect();
        let taken = taken.join(", ");
        let explained = certain.groups().first().is_some_and(|group| group.first().standing == Standing::Cause);
        if !explained {
            let headline = format!("{}; perhaps {}", answer.answer, self.in_words(first));
            sections[0] = Section::Paragraph(format!("{headline}."));
            answer.answer = headline;
        }
        let heading = format!("Violated if no digit is missing at the end of the longest line, {taken}:");
        let points: Vec<Point> = groups.iter().map(|group| self.group_in_full(group, false)).collect();
        sections.insert(if explained { 2 } else { 1 }.min(sections.len()), Section::Points { heading, points });
        answer.add_likely(self, &groups);
        answer.status = 1;
    }
}
