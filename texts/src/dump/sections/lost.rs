//! Dumps of which lines are lost: the headlines of sections, the begin of a line, or lines around one that a mail program has
//! broken.

use super::super::pattern::{Hole, START, is_blank};
use super::{Section, line_begin};

impl Section {
    /// Whether a line `TR:` may be what is left of a line `LDTR:`, as where the begin of all lines is cut off.
    pub(super) fn may_be_ldtr(&self, holes: &[Hole]) -> bool {
        let all = self.text.as_str();
        let whole_line = |hole: &Hole| all[line_begin(all, hole.at)..].starts_with(START);
        self.headless
            && self.text.places(self.guest.clone(), "LDTR:").is_empty()
            && !holes.first().is_some_and(whole_line)
    }

    /// Whether a number that begins a line, as a mail program breaks lines before one, may be that of another name: lines are
    /// missing around it, or several such numbers follow each other.
    pub(super) fn may_belong_to_another(&self, hole: &Hole) -> bool {
        let all = self.text.as_str();
        let begin = line_begin(all, hole.at);
        let is_number = |c: char| c.is_ascii_hexdigit() || c == 'x';
        if hole.value.is_err() || hole.at == begin || !all[begin..hole.at].chars().all(is_number) {
            return false;
        }
        let (rest, next) = all[hole.at..].split_once('\n').unwrap_or_default();
        let next = next.split(|c: char| !is_number(c)).next().unwrap_or_default();
        if rest.chars().all(is_blank) && next.starts_with("0x") {
            return true;
        }
        let next = self.order.partition_point(|(at, _)| *at < hole.at);
        let before = next.checked_sub(1).map(|before| self.order[before]);
        let after = self.order.get(next).copied();
        // Only these lines are in every dump.
        let (first, last) = (6, 11);
        matches!((before, after), (Some((_, before)), Some((_, after)))
            if (first..last).contains(&before) && after > before + 1)
    }
}

#[cfg(test)]
mod tests {
    use vmcs_model::field;

    use crate::dump::find;

    #[test]
    fn a_number_on_a_line_of_its_own_may_be_that_of_a_lost_line() {
        let pending = |between: &str| {
            let log = format!(
                "(XEN) *** Guest State ***\n(XEN) DebugCtl = 0x0000000000000000  DebugExceptions = \n\
                 0xffff83009c057f70\n{between}(XEN) FSBase=0000000000000000 GSBase=0000000000000000 TRBase=ffff82d08055e000\n"
            );
            find(&log)[0].vmcs.raw(field::GUEST_PENDING_DEBUG_EXCEPTIONS.id())
        };
        assert_eq!(pending(""), None);
        let rest = "(XEN) Interruptibility = 00000000  ActivityState = 00000000\n";
        assert_eq!(pending(rest), Some(0xFFFF_8300_9C05_7F70));
    }

    #[test]
    fn rows_of_xens_table_are_guest_state() {
        let rows = |prefix: &str| {
            format!(
                "{prefix}  GS: 0000 00093 0000ffff 0000000000000000\n{prefix}GDTR:            0000ffff 0000000000000001\n\
                 {prefix}LDTR: 0000 00082 0000ffff 0000000000000000\n{prefix}IDTR:            0000ffff 0000000000000002\n\
                 {prefix}  TR: 0000 00089 0000ffff 0000000000000000\n{prefix}PreemptionTimer = 0x00000000  SM Base = 0x00000000\n"
            )
        };
        assert_eq!(find(&rows("(XEN) "))[0].known(), 18);
        assert_eq!(find(&rows("")).iter().filter(|dump| dump.format == "Xen").count(), 0);
    }

    #[test]
    fn numbers_that_follow_each_other_are_not_told_apart() {
        let pat = |efer: &str, between: &str| {
            let log = format!(
                "[1] *** Host State ***\n[1] FSBase=00007f1bf7fff700\n[1] GDTBase=fffffe00002c5000\n[1] EFER=\n{efer}[1] PAT =\n{between}0x0407050600070106\n\
                 [1] *** Control State ***\n"
            );
            let vmcs = &find(&log)[0].vmcs;
            (vmcs.raw(field::HOST_IA32_EFER.id()), vmcs.raw(field::HOST_IA32_PAT.id()))
        };
        assert_eq!(pat("", "0x0000000000000d01\n"), (None, None));
        assert_eq!(pat("0x0000000000000d01\n", ""), (Some(0xD01), Some(0x0407_0506_0007_0106)));
    }

    #[test]
    fn efer_is_read_out_of_logs_in_json() {
        let dump = "*** Guest State ***\n\
                    CR0: actual=0x0000000000050032, shadow=0x0000000000050032, gh_mask=fffffffffffffff7\n\
                    CR4: actual=0x0000000000002040, shadow=0x0000000000000000, gh_mask=fffffffffffef871\n\
                    EFER= 0x0000000000000d01\nPAT = 0x0007010600070106\n*** Host State ***\n";
        let bytes = |line: &str| format!("{:?}", line.as_bytes());
        let lists = |line: &str| format!("{{\n\"MESSAGE\" : {},\n\"PRIORITY\" : \"3\"\n}}\n", bytes(line));
        let dmesg = |line: &str| format!("{{\n\"pri\": 3,\n\"msg\": \"kvm_intel: {line}\"\n}},\n");
        let export = |line: &str| format!("MESSAGE=kvm_intel: {line}\n_TRANSPORT=kernel\nPRIORITY=3\n\n");
        let collectors: [&dyn Fn(&str) -> String; 3] = [&lists, &dmesg, &export];
        for (dump, expected) in [(dump, Some(0xD01)), (&dump.replace("d01", "d01 (effective)"), None)] {
            for collector in collectors {
                let log: String = dump.lines().map(collector).collect();
                assert_eq!(find(&log)[0].vmcs.raw(field::GUEST_IA32_EFER.id()), expected, "{log}");
            }
        }
    }
}
