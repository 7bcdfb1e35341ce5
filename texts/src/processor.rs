//! What a text says of a processor: values of MSRs and CPUID leaves, which are facts, and its family, model and stepping, by
//! which only a guess is possible.
//!
//! Values are read out of what `cpuid -r`, `rdmsr` (with its command line before it), InstLatX64, AIDA64, VirtualBox and
//! `vmxcap` (the values that it prints as a whole) print, and of lists such as `IA32_VMX_BASIC = 0xda040000000004`. The model is read out of the lines of Linux, Xen,
//! /proc/cpuinfo, lscpu and Windows.

use std::collections::BTreeMap;

use vmcs_case::profile::NamedProfile;
use vmcs_model::CpuProfile;
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::profile::{CpuidLeaf, CpuidRegisters, MsrValue};

use crate::diagnosis::common;

/// What a text says of a processor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessorText {
    msrs: BTreeMap<u32, Reading<u64>>,
    cpuid: BTreeMap<(u32, u32), Reading<CpuidRegisters>>,
    /// The processor's family, model and stepping.
    pub model: Option<CpuModel>,
    /// How many bits physical and linear addresses have, as the kernel says: memory encryption may take some of the first.
    pub address_bits: Option<(u32, u32)>,
    /// VirtualBox printed the values. They are those of its host, while it shows its guests another processor.
    pub of_virtualbox_host: bool,
}

/// A value that is read once, or again and the same; `None` if it is contradicted.
type Reading<T> = Option<T>;

/// What identifies a processor by CPUID.01H:EAX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuModel {
    /// The family, with the extended family added.
    pub family: u32,
    /// The model, with the extended model in bits 7:4.
    pub model: u32,
    /// The stepping, if it is known.
    pub stepping: Option<u32>,
}

impl CpuModel {
    /// By CPUID.01H:EAX. SDM Vol. 2A, CPUID, INPUT EAX = 01H.
    #[must_use]
    pub const fn of_signature(eax: u32) -> Self {
        let (base_family, base_model) = (eax >> 8 & 0xF, eax >> 4 & 0xF);
        let family = if base_family == 0xF { base_family + (eax >> 20 & 0xFF) } else { base_family };
        let model =
            if base_family == 6 || base_family == 0xF { base_model | (eax >> 16 & 0xF) << 4 } else { base_model };
        Self { family, model, stepping: Some(eax & 0xF) }
    }

    /// The shipped profiles of that model: those of the stepping if there are some.
    #[must_use]
    pub fn profiles(self) -> Vec<&'static NamedProfile> {
        let of_model = |profile: &&NamedProfile| {
            let features = profile.profile.cpuid(CpuidLeaf::Features);
            features.is_some_and(|[eax, ..]| {
                let other = Self::of_signature(eax);
                (other.family, other.model) == (self.family, self.model)
            })
        };
        let all: Vec<_> = NamedProfile::embedded().iter().filter(of_model).collect();
        let stepping = |profile: &&NamedProfile| {
            let features = profile.profile.cpuid(CpuidLeaf::Features);
            features.map(|[eax, ..]| eax & 0xF) == self.stepping
        };
        let same: Vec<_> = all.iter().copied().filter(stepping).collect();
        if same.is_empty() { all } else { same }
    }
}

/// In the lines that name a processor stands one of these, or in the line with which a list of its values begins. They are
/// rare in other lines, as of a large log only what follows them is kept.
pub(crate) const MARKERS: &[&str] = &[
    "smpboot: CPU0:",
    "model name\t",
    "address sizes\t",
    "CPU Vendor: ",
    "microcode: sig=0x",
    "------[ ",
    "rdmsr ",
    "Basic VMX Information",
    "CPUID dump **",
    "MSR_IA32_VMX_BASIC",
];

impl ProcessorText {
    /// Reads what the lines of a text say of a processor.
    #[must_use]
    pub fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut read = Self::default();
        let mut state = Lines::default();
        lines.into_iter().for_each(|line| read.line(line, &mut state));
        if let (Some(family), Some(model), None) = (state.family, state.model, read.model) {
            read.model = Some(CpuModel { family, model, stepping: state.stepping });
        }
        read
    }

    /// How many MSRs and CPUID leaves are known.
    #[must_use]
    pub fn facts(&self) -> (usize, usize) {
        let msrs =
            self.msrs.iter().filter(|(number, value)| value.is_some() && CapabilityMsr::by_number(**number).is_some());
        let leaf = |(leaf, sub_leaf): &(u32, u32)| CpuidLeaf::by_query(*leaf, *sub_leaf).is_some();
        (msrs.count(), self.cpuid.iter().filter(|(query, value)| value.is_some() && leaf(query)).count())
    }

    /// The values as a profile.
    #[must_use]
    pub fn profile(&self) -> CpuProfile {
        let mut profile = CpuProfile::default();
        for (number, value) in &self.msrs {
            if let (Some(msr), Some(value)) = (CapabilityMsr::by_number(*number), value) {
                profile.set_msr(msr, MsrValue::Value(*value));
            }
        }
        for ((leaf, sub_leaf), registers) in &self.cpuid {
            if let (Some(leaf), Some(registers)) = (CpuidLeaf::by_query(*leaf, *sub_leaf), registers) {
                profile.set_cpuid(leaf, *registers);
            }
        }
        profile
    }

    /// What the shipped profiles of the model agree on, completed by the address widths and the values that were read, and
    /// the profiles; `None` if there is neither a profile of that model nor a width.
    #[must_use]
    pub fn guess(&self) -> Option<(CpuProfile, Vec<&'static NamedProfile>)> {
        let profiles = self.model.map_or_else(Vec::new, CpuModel::profiles);
        if profiles.is_empty() && self.address_bits.is_none() {
            return None;
        }
        let (mut guess, known) = (common(&profiles), self.profile());
        if let Some((physical, linear)) = self.address_bits {
            guess.set_cpuid(CpuidLeaf::AddressWidths, [physical | linear << 8, 0, 0, 0]);
        }
        for msr in CapabilityMsr::ALL.into_iter().filter(|msr| known.msr(*msr) != MsrValue::Unknown) {
            guess.set_msr(msr, known.msr(msr));
        }
        for leaf in CpuidLeaf::ALL {
            if let Some(registers) = known.cpuid(leaf) {
                guess.set_cpuid(leaf, registers);
            }
        }
        Some((guess, profiles))
    }

    fn line(&mut self, line: &str, lines: &mut Lines) {
        let asked = lines.asked.take();
        if let Some(msr) = asked.and_then(|msr| Some((msr, bare_hex(line)?))) {
            self.take_msr(msr.0, msr.1);
            lines.asked = asked;
        } else if let Some((query, registers)) = cpuid_line(line, lines) {
            self.take_cpuid(query, registers);
        } else if let Some((number, value)) = msr_line(line, &mut self.of_virtualbox_host) {
            self.take_msr(number, value);
        } else if let Some(number) = after(line, "rdmsr ").and_then(|rest| rest.split_whitespace().find_map(number)) {
            lines.asked = u32::try_from(number).ok();
        } else if let Some(value) = after(line, "Hex: ").and_then(number) {
            if let Some(msr) = lines.vmxcap.take() {
                self.take_msr(msr.number(), value);
            }
        } else if let Some(msr) = vmxcap_heading(line) {
            lines.vmxcap = Some(msr);
        } else if let Some(widths) = address_sizes(line) {
            self.address_bits = self.address_bits.or(Some(widths));
        } else {
            self.model_line(line, lines);
        }
    }

    fn take_msr(&mut self, number: u32, value: u64) {
        self.msrs
            .entry(number)
            .and_modify(|known| *known = known.filter(|known| *known == value))
            .or_insert(Some(value));
    }

    fn take_cpuid(&mut self, query: (u32, u32), registers: CpuidRegisters) {
        // EBX of leaf 01H has the number of the logical processor.
        let same = |[a, b, c, d]: CpuidRegisters| {
            [a, c, d] == [registers[0], registers[2], registers[3]] && (query.0 == 1 || b == registers[1])
        };
        if query == (1, 0) && self.model.is_none() {
            self.model = Some(CpuModel::of_signature(registers[0]));
        }
        let known = self.cpuid.entry(query).or_insert(Some(registers));
        *known = known.filter(|known| same(*known));
    }

    /// A line that names the model.
    fn model_line(&mut self, line: &str, lines: &mut Lines) {
        if self.model.is_some() {
            return;
        }
        if let Some(eax) = after(line, "microcode: sig=0x").and_then(hex_prefix) {
            self.model = u32::try_from(eax).ok().map(CpuModel::of_signature);
        } else if let Some(rest) = after(line, "(family: ") {
            let part = |name: &str| after(rest, name).and_then(|rest| rest.split([',', ')']).next()).and_then(number);
            let family = rest.split(',').next().and_then(number);
            if let (Some(family), Some(model)) = (family, part("model: ")) {
                self.model = Some(CpuModel {
                    family: small(family),
                    model: small(model),
                    stepping: part("stepping: ").map(small),
                });
            }
        } else if let Some(eax) = after(line, "CPU Vendor: Intel").and_then(|rest| hex_prefix(after(rest, "(raw ")?)) {
            self.model = u32::try_from(eax).ok().map(CpuModel::of_signature);
        } else if let Some(rest) = after(line, "Intel64 Family ") {
            let part = |name: &str| after(rest, name)?.split([' ', ',']).next()?.parse().ok();
            let family = rest.split(' ').next().and_then(|family| family.parse().ok());
            if let (Some(family), Some(model)) = (family, part("Model ")) {
                self.model = Some(CpuModel { family, model, stepping: part("Stepping ") });
            }
        } else if let Some((name, value)) = line.split_once(':') {
            let place = match name.trim().to_ascii_lowercase().as_str() {
                "cpu family" => &mut lines.family,
                "model" => &mut lines.model,
                "stepping" => &mut lines.stepping,
                _ => return,
            };
            *place = place.or_else(|| value.trim().parse().ok());
        }
    }
}

/// What earlier lines have said.
#[derive(Debug, Default)]
struct Lines {
    /// The MSR that `rdmsr` was asked for.
    asked: Option<u32>,
    /// The MSR under whose heading `vmxcap` prints.
    vmxcap: Option<CapabilityMsr>,
    /// The leaf of VirtualBox' last line, which is about its guest; the next line is about its host.
    guest_leaf: Option<(u32, u32)>,
    family: Option<u32>,
    model: Option<u32>,
    stepping: Option<u32>,
}

/// What follows `what` in the line.
fn after<'a>(line: &'a str, what: &str) -> Option<&'a str> {
    line.find(what).map(|at| &line[at + what.len()..])
}

/// The MSR whose value `vmxcap` prints under that heading.
fn vmxcap_heading(line: &str) -> Option<CapabilityMsr> {
    Some(match line.trim() {
        "Basic VMX Information" => CapabilityMsr::Basic,
        "Miscellaneous data" => CapabilityMsr::Misc,
        "VPID and EPT capabilities" => CapabilityMsr::EptVpidCap,
        _ => return None,
    })
}

/// `address sizes : 39 bits physical, 48 bits virtual`.
fn address_sizes(line: &str) -> Option<(u32, u32)> {
    let (_, sizes) = line.split_once("ddress sizes")?;
    let mut bits = sizes.trim_start_matches([' ', '\t', ':']).split(", ");
    let mut one = |what: &str| bits.next()?.strip_suffix(what)?.parse::<u32>().ok();
    let widths = (one(" bits physical")?, one(" bits virtual")?);
    ((32..=52).contains(&widths.0) && (48..=57).contains(&widths.1)).then_some(widths)
}

/// A number in the form 0x… or decimal.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(digits) => hex(digits),
        None => text.parse().ok(),
    }
}

/// Hexadecimal digits and nothing else.
fn hex(digits: &str) -> Option<u64> {
    let all = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if all { u64::from_str_radix(digits, 16).ok() } else { None }
}

/// The hexadecimal digits with which the text begins.
fn hex_prefix(text: &str) -> Option<u64> {
    hex(text.split(|c: char| !c.is_ascii_hexdigit()).next()?)
}

/// A line that is a hexadecimal number and nothing else, as `rdmsr` prints it.
fn bare_hex(line: &str) -> Option<u64> {
    let line = line.trim();
    hex(line.strip_prefix("0x").unwrap_or(line))
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A CPUID leaf with its registers, in one of the forms.
fn cpuid_line(line: &str, lines: &mut Lines) -> Option<((u32, u32), CpuidRegisters)> {
    let word = |text: &str| hex(text).and_then(|value| u32::try_from(value).ok());
    let four = |mut words: Vec<u32>| -> Option<CpuidRegisters> {
        words.truncate(4);
        words.try_into().ok()
    };
    // InstLatX64: `CPUID 00000007: 00000000-029C6FBF-00000000-BC000400 [SL 00]`.
    if let Some((leaf, rest)) = after(line, "CPUID ").and_then(|rest| rest.split_once(": ")) {
        let leaf = word(leaf)?;
        let mut parts = rest.split_whitespace();
        let registers = four(parts.next()?.split('-').map_while(word).collect())?;
        let sub_leaf = after(rest, "[SL ").and_then(hex_prefix).unwrap_or(0);
        return Some(((leaf, small(sub_leaf)), registers));
    }
    // `cpuid -r`: `   0x00000001 0x00: eax=0x000906ed ebx=0x00100800 ecx=0x7ffafbff edx=0xbfebfbff`.
    if let Some((query, _)) = line.split_once(": eax=0x") {
        let mut query = query.split_whitespace().map(|word| word.strip_prefix("0x").and_then(hex));
        let query = (small(query.next()??), small(query.next()??));
        let register = |name: &str| after(line, name).and_then(hex_prefix).map(small);
        let registers = [register(" eax=0x"), register(" ebx=0x"), register(" ecx=0x"), register(" edx=0x")];
        return Some((query, four(registers.into_iter().flatten().collect())?));
    }
    // VirtualBox: `Gst: 00000001/0000  …` and below it `Hst:  …` of the same leaf, or `Hst: 0000000b/0000  …`.
    let leaf = |text: &str| text.split_once('/').and_then(|(leaf, sub_leaf)| Some((word(leaf)?, word(sub_leaf)?)));
    if let Some(rest) = after(line, "Gst: ") {
        lines.guest_leaf = rest.split_whitespace().next().and_then(leaf);
        return None;
    }
    let mut words = after(line, "Hst: ")?.split_whitespace().peekable();
    let own = words.peek().copied().and_then(leaf);
    if own.is_some() {
        words.next();
    }
    let query = own.or(lines.guest_leaf.take())?;
    Some((query, four(words.map_while(word).collect())?))
}

/// An MSR with its value, in one of the forms.
fn msr_line(line: &str, of_virtualbox_host: &mut bool) -> Option<(u32, u64)> {
    // InstLatX64: `MSR 00000480: 00DA-0400-0000-0004`.
    if let Some((msr, rest)) = after(line, "MSR ").and_then(|rest| rest.split_once(": "))
        && let Some(msr) = hex(msr)
    {
        let groups: Vec<_> = rest.split_whitespace().next()?.split('-').collect();
        let whole = groups.len() == 4 && groups.iter().all(|group| group.len() == 4);
        return whole.then(|| hex(&groups.concat())).flatten().map(|value| (small(msr), value));
    }
    // A list of names, and VirtualBox: `HM: MSR_IA32_VMX_BASIC                = 0xda0400000000004`.
    let at = line.find("IA32_")?;
    let (name, value) = line[at..].split_once(['=', ':'])?;
    let msr = CapabilityMsr::ALL.into_iter().find(|msr| msr.name() == name.trim())?;
    let value = hex(value.trim().strip_prefix("0x")?)?;
    *of_virtualbox_host |= line.contains("HM: MSR_");
    Some((msr.number(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_in_every_form() {
        let text = "\
00:00:01.111 HM: MSR_IA32_VMX_BASIC                = 0xda040000000004
00:00:01.111 HM:   VMCS id                         = 0x4
00:00:01.222 Gst: 00000001/0000  000906ea 00020800 56da2203 178bfbff
00:00:01.222 Hst:                000906ed 06100800 7ffafbff bfebfbff
00:00:01.222 Hst: 0000000b/0000  00000001 00000002 00000100 00000006
# rdmsr -a 0x485
7004c1e7
7004c1e7
CPU 0:
   0x00000007 0x00: eax=0x00000000 ebx=0x029c6fbf ecx=0x40000000 edx=0xbc000400
CPUID 80000008: 00003027-00000000-00000000-00000000
CPUID 00000014: 00000001-0000000F-00000007-00000000 [SL 00]
MSR 00000486: 0000-0000-8000-0021
IA32_VMX_CR0_FIXED1 = 0xffffffff
VPID and EPT capabilities
  Hex: 0xf0106734141
  Execute-only EPT translations            yes
";
        let read = ProcessorText::read(text.lines());
        let profile = read.profile();
        assert_eq!(read.facts(), (5, 4));
        assert!(read.of_virtualbox_host);
        for (msr, value) in [
            (CapabilityMsr::Basic, 0xDA_0400_0000_0004),
            (CapabilityMsr::Misc, 0x7004_C1E7),
            (CapabilityMsr::Cr0Fixed0, 0x8000_0021),
            (CapabilityMsr::Cr0Fixed1, 0xFFFF_FFFF),
            (CapabilityMsr::EptVpidCap, 0xF01_0673_4141),
        ] {
            assert_eq!(profile.msr(msr), MsrValue::Value(value), "{}", msr.name());
        }
        assert_eq!(profile.cpuid(CpuidLeaf::Features), Some([0x906ED, 0x0610_0800, 0x7FFA_FBFF, 0xBFEB_FBFF]));
        assert_eq!(profile.cpuid(CpuidLeaf::AddressWidths), Some([0x3027, 0, 0, 0]));
        assert_eq!(profile.cpuid(CpuidLeaf::Trace0), Some([1, 0xF, 7, 0]));
        assert_eq!(read.model, Some(CpuModel { family: 6, model: 0x9E, stepping: Some(0xD) }));
    }

    #[test]
    fn every_kind_of_line_says_something() {
        let said = [
            "HM: MSR_IA32_VMX_BASIC = 0xda040000000004",
            "Gst: 00000001/0000  000906ea 00020800 56da2203 178bfbff",
            "Hst: 0000000b/0000  00000001 00000002 00000100 00000006",
            "# rdmsr -a 0x485",
            "   0x00000007 0x00: eax=0x00000000 ebx=0x029c6fbf ecx=0x40000000 edx=0xbc000400",
            "CPUID 80000008: 00003027-00000000-00000000-00000000",
            "MSR 00000486: 0000-0000-8000-0021",
            "CPU0: Intel (family: 0x6, model: 0x9e, stepping: 0xd)",
            "  Basic VMX Information",
            "address sizes\t: 39 bits physical, 48 bits virtual",
            "cpu family\t: 6",
            "model\t\t: 158",
            "CPU Vendor: Intel, Family 6 (0x6), Model 158 (0x9e), Stepping 13 (raw 000906ed)",
            "microcode: sig=0x906ed, pf=0x2",
            "Intel64 Family 6 Model 158 Stepping 13, GenuineIntel",
        ];
        for line in said {
            let (mut read, mut state) = (ProcessorText::default(), Lines::default());
            read.line(line, &mut state);
            let nothing = read == ProcessorText::default() && format!("{state:?}") == format!("{:?}", Lines::default());
            assert!(!nothing, "{line}");
        }
    }

    #[test]
    fn a_value_that_is_contradicted_is_not_known() {
        let read = ProcessorText::read(["MSR 00000485: 0000-0000-7004-C1E7", "MSR 00000485: 0000-0000-7004-C1E6"]);
        assert_eq!(read.profile(), CpuProfile::default());
        // A value that is cut off is none.
        for cut in ["MSR 00000485: 0000-0000-7004-C1", "CPUID 00000007: 00000000-029C6FBF-00000000", "IA32_VMX_MISC ="]
        {
            assert_eq!(ProcessorText::read([cut]).profile(), CpuProfile::default(), "{cut}");
        }
    }

    #[test]
    fn models_are_read_in_every_form() {
        for text in [
            "[    0.1] smpboot: CPU0: Intel(R) Core(TM) i7-9700K CPU @ 3.60GHz (family: 0x6, model: 0x9e, stepping: 0xd)",
            "cpu family\t: 6\nmodel\t\t: 158\nmodel name\t: Intel(R) Core(TM) i7-9700K\nstepping\t: 13\n",
            "(XEN) CPU Vendor: Intel, Family 6 (0x6), Model 158 (0x9e), Stepping 13 (raw 000906ed)",
            "[    0.5] microcode: sig=0x906ed, pf=0x2, revision=0xf8",
            "Intel64 Family 6 Model 158 Stepping 13, GenuineIntel",
            "CPU family:   6\nModel:   158\nStepping:   13\n",
        ] {
            let model = ProcessorText::read(text.lines()).model;
            assert_eq!(model, Some(CpuModel { family: 6, model: 158, stepping: Some(13) }), "{text}");
        }
        assert_eq!(ProcessorText::read(["model: 5, nothing else"]).model, None);
    }

    #[test]
    fn address_widths_are_a_guess() {
        let read = ProcessorText::read(["address sizes\t: 39 bits physical, 48 bits virtual"]);
        assert_eq!(read.profile(), CpuProfile::default());
        let (guess, profiles) = read.guess().expect("the widths");
        assert_eq!((guess.cpuid(CpuidLeaf::AddressWidths), profiles.len()), (Some([39 | 48 << 8, 0, 0, 0]), 0));
        assert_eq!(ProcessorText::read(["address sizes\t: 39 bits phys"]).guess(), None);
    }

    #[test]
    fn a_guess_is_what_the_profiles_of_a_model_agree_on() {
        for profile in NamedProfile::embedded() {
            let Some([eax, ..]) = profile.profile.cpuid(CpuidLeaf::Features) else { continue };
            let read = ProcessorText { model: Some(CpuModel::of_signature(eax)), ..ProcessorText::default() };
            let (guess, profiles) = read.guess().expect("there is a profile of that model");
            assert!(profiles.contains(&profile), "{}", profile.name);
            for msr in CapabilityMsr::ALL.into_iter().filter(|msr| guess.msr(*msr) != MsrValue::Unknown) {
                assert_eq!(guess.known_msr(msr), profile.profile.known_msr(msr), "{}: {}", profile.name, msr.name());
            }
        }
    }
}
