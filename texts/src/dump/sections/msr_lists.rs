//! The MSR lists of KVM's dumps, whose lengths are counts that the dumps do not show.

use std::ops::Range;

use vmcs_model::field::{self, FieldId};

use super::super::contents::{Dump, MsrLoadEntry};
use super::super::pattern::Hole;
use super::{Section, line_begin};

impl Section {
    /// The MSR lists, whose lengths tell the counts where the dump shows all lists that are not empty.
    pub(super) fn msr_lists(&self, dump: &mut Dump) {
        let all = self.text.as_str();
        let list = |part: &Range<usize>, header: &str| {
            let header = part.start + all[part.clone()].find(header)? + header.len();
            let entries = self.text.find_all(header..part.end, "msr={index:x8} value={value:x16}");
            // The list ends where something else follows.
            let next = all[header..part.end].find("MSR ").map_or(part.end, |at| header + at);
            let entries = entries.into_iter().filter(|holes| holes.first().is_some_and(|hole| hole.at < next));
            let value = |hole: &Hole| hole.value.ok();
            Some(entries.map(|holes| Some((value(&holes[0])?, value(holes.get(1)?)?, holes[0].at))).collect::<Vec<_>>())
        };
        let in_order = |entries: &[Option<(u64, u64, usize)>]| {
            let numbered = |(n, entry): (usize, &Option<(u64, u64, usize)>)| {
                entry.is_some_and(|(_, _, at)| {
                    let line = &all[line_begin(all, at)..at];
                    let number = line.split(": msr=").next().unwrap_or_default();
                    number.trim_matches(|c: char| !c.is_ascii_digit()).parse() == Ok(n)
                })
            };
            entries.iter().enumerate().all(numbered)
        };
        let load = list(&self.guest, "MSR guest autoload:");
        // Where the header of host state is lost, entries may be those of its list.
        let own = load.as_ref().filter(|load| self.surely_guest == self.guest && in_order(load));
        for (entry, number) in own.into_iter().flatten().zip(1..) {
            if let Some((index, value, _)) = *entry {
                #[allow(clippy::cast_possible_truncation, reason = "it has 8 digits")]
                dump.msr_load.push(MsrLoadEntry { number, index: index as u32, value });
            }
        }
        // Kernels that print the lists name the processor in the first line, too.
        let shown =
            all[self.guest.clone()].contains("MSR guest auto") || all[self.host.clone()].contains("MSR host autoload:");
        let prints_lists = shown || all[self.preamble.clone()].contains("last attempted VM-entry");
        // Nothing is absent where something is missing. The first lines are the longest: no line is cut where they are whole.
        let known = |field: FieldId| dump.vmcs.raw(field).is_some();
        let whole = known(field::CR0_GUEST_HOST_MASK.id())
            && known(field::GUEST_ACTIVITY_STATE.id())
            && known(field::HOST_IA32_SYSENTER_EIP.id())
            && known(field::PIN_BASED_VM_EXECUTION_CONTROLS.id());
        if !prints_lists || !self.complete || !whole || all.contains("messages dropped") {
            return;
        }
        let store = list(&self.guest, "MSR guest autostore:").or_else(|| list(&self.guest, "MSR autostore:"));
        let lists = [
            (load, field::VM_ENTRY_MSR_LOAD_COUNT.id()),
            (store, field::VM_EXIT_MSR_STORE_COUNT.id()),
            (list(&self.host, "MSR host autoload:"), field::VM_EXIT_MSR_LOAD_COUNT.id()),
        ];
        // Entries that are in none of the lists have lost their headline, and so have lists of which only a word is left.
        let listed: usize = lists.iter().map(|(entries, _)| entries.as_ref().map_or(0, Vec::len)).sum();
        let found = lists.iter().filter(|(entries, _)| entries.is_some()).count();
        let words =
            |words: &[&str]| words.iter().map(|word| all[self.whole.clone()].matches(word).count()).sum::<usize>();
        if listed != words(&["msr="]) || found != words(&["autoload:", "autostore:"]) {
            return;
        }
        let mut counts = Vec::new();
        for (entries, count) in lists {
            // KVM prints no list that is empty.
            let entries = match entries {
                None => Vec::new(),
                Some(entries) if !entries.is_empty() && in_order(&entries) => entries,
                Some(_) => continue,
            };
            dump.vmcs.set_raw(count, entries.len() as u64);
            counts.push(format!("{} = {}", count.info().name, entries.len()));
        }
        if !counts.is_empty() {
            dump.note(format!("derived from the MSR lists: {}", counts.join(", ")));
        }
    }
}
