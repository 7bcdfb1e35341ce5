//! Collecting the values that a dump shows, some of which are damaged or shown twice.

use std::collections::BTreeMap;

use vmcs_model::field::FieldId;

use super::contents::{Damage, Dump};
use super::pattern::{Hole, Text, field};

/// What was read of each field.
#[derive(Default)]
pub(super) struct Values(BTreeMap<FieldId, Vec<Seen>>);

/// A value that was read in a line of the log, or why it is unknown.
struct Seen {
    line: usize,
    value: Result<u64, &'static str>,
}

impl Values {
    /// Adds what stands in the holes of a pattern. Holes that name no field are not looked at.
    pub(super) fn add(&mut self, text: &Text, holes: &[Hole]) {
        for hole in holes.iter().filter(|hole| hole.name != "_") {
            self.set(field(hole.name), text.line(hole.at), hole.value);
        }
    }

    /// Adds what stands in a line for a field.
    pub(super) fn set(&mut self, field: FieldId, line: usize, value: Result<u64, &'static str>) {
        // A value that does not fit its field was misread.
        let value =
            value.and_then(|value| if value & !field.info().width().mask() == 0 { Ok(value) } else { Err("too wide") });
        let seen = self.0.entry(field).or_default();
        // Two patterns may fit one place, which is shown once nevertheless.
        if !seen.iter().any(|seen| seen.line == line && seen.value == value) {
            seen.push(Seen { line, value });
        }
    }

    /// Adds what was read elsewhere.
    pub(super) fn merge(&mut self, other: Self) {
        for (field, seen) in other.0 {
            self.0.entry(field).or_default().extend(seen);
        }
    }

    /// Gives the dump the values about which there is no doubt, and says what is wrong with the others. In dumps that were
    /// printed into each other, a value counts if both show it: one that stands there once may be that of either.
    pub(super) fn give(self, dump: &mut Dump, mixed: bool) {
        dump.mixed = mixed;
        for (field, seen) in self.0 {
            let mut readable = seen.iter().filter_map(|seen| Some((seen.line, seen.value.ok()?)));
            let mut damage = |line, why: String| dump.damage.push(Damage { field, line, why });
            match (readable.next(), seen.first()) {
                (Some((line, value)), _) => {
                    if let Some((other, _)) = readable.clone().find(|(_, other)| *other != value) {
                        damage(line, format!("contradicted by line {other}"));
                    } else if mixed && readable.next().is_none() {
                        damage(
                            line,
                            "two dumps are printed into each other, and this may be that of either".to_owned(),
                        );
                    } else {
                        dump.vmcs.set_raw(field, value);
                    }
                }
                (None, Some(Seen { line, value: Err(why) })) => damage(*line, (*why).to_owned()),
                (None, _) => {}
            }
        }
        dump.damage.sort_by_key(|damage| damage.line);
    }
}
