//! `vmcs caps` shows which settings of the controls and registers a processor allows.

use std::io::{self, Write};
use std::str::FromStr;

use serde::Serialize;
use vmcs_case::number::Number;
use vmcs_case::profile::{Confidence, NamedProfile};
use vmcs_hw::targets::{NotATarget, TargetName};
use vmcs_model::Capabilities;
use vmcs_model::capabilities::{Allowed, Facts};
use vmcs_model::controls::{Entry, Exit, PinBased, Primary, Secondary, SecondaryExit, Tertiary, VmFunctions};
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::profile::{CpuidLeaf, MsrValue};
use vmcs_model::registers::{Cr0, Cr4};

use crate::error::{CliError, Status};
use crate::output;
use crate::target::{self, TargetArgs};

/// Show what a processor allows: every control bit, CR0 and CR4, EPT and VPID, address widths
///
/// The processor is that of a profile, which holds the capability MSRs and CPUID leaves of a processor, or that of a
/// target. A control bit that is listed as one that may be 1 may also be 0.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  vmcs caps list\n  vmcs caps --profile tiger-lake\n  vmcs caps --target bochs --json \
                        > bochs.json    (a profile; `vmcs check --profile bochs.json` reads it)"
)]
pub(crate) struct Args {
    /// `list` prints the profiles that come with this program, as does the command without any argument
    #[arg(value_enum, conflicts_with_all = ["profile", "target", "cpu"])]
    what: Option<What>,
    /// A profile's name, its beginning, or a profile file
    #[arg(long, value_name = "PROFILE", conflicts_with_all = ["target", "cpu"])]
    profile: Option<String>,
    /// A machine that is asked: `bochs`, `bochs@2.7`, `emu`; or `list` for the profiles that come with this program
    #[arg(long, value_name = "TARGET")]
    target: Option<Asked>,
    /// The CPU model of the target (see `vmcs targets`)
    #[arg(long, value_name = "MODEL", requires = "target")]
    cpu: Option<String>,
    /// Print the profile itself as JSON, in the form that --profile reads; for a list, print names and sources as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    /// The profiles that come with this program
    List,
}

/// What `--target` can be.
#[derive(Clone)]
enum Asked {
    List,
    Target(TargetName),
}

impl FromStr for Asked {
    type Err = NotATarget;

    fn from_str(text: &str) -> Result<Self, NotATarget> {
        if text == "list" { Ok(Self::List) } else { text.parse().map(Self::Target) }
    }
}

pub(crate) fn run(args: &Args) -> Result<Status, CliError> {
    let profile = match (&args.profile, &args.target) {
        (Some(name), _) => NamedProfile::find(name)?,
        (None, Some(Asked::Target(target))) => {
            let args = TargetArgs { target: Some(target.clone()), cpu: args.cpu.clone() };
            target::open(&args)?.capture()?.profile
        }
        (None, Some(Asked::List)) => return list(args.json, false),
        (None, None) => return list(args.json, args.what.is_none()),
    };
    if args.json {
        output::json_pretty(&profile)?;
    } else {
        print(&profile)?;
    }
    Ok(Status::Clean)
}

/// A profile in the list.
#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    /// The name as it is easily typed.
    slug: String,
    confidence: Option<&'static str>,
    source: &'a str,
}

/// Lists the profiles that come with this program.
fn list(json: bool, hint: bool) -> Result<Status, CliError> {
    let profiles = NamedProfile::embedded();
    if json {
        let listed = |profile: &'static NamedProfile| Listed {
            name: &profile.name,
            slug: profile.slug(),
            confidence: profile.confidence.map(Confidence::name),
            source: &profile.source,
        };
        output::json_pretty(&profiles.iter().map(listed).collect::<Vec<_>>())?;
        return Ok(Status::Clean);
    }
    let mut table = output::table(&["PROFILE", "PROCESSOR", "VALUES", "SOURCE"]);
    for profile in profiles {
        table.add_row([&profile.slug(), &profile.name, confidence(profile), &profile.source]);
    }
    output::print_table(&table)?;
    if hint {
        writeln!(
            io::stdout(),
            "\n`vmcs caps --profile PROFILE` shows what one allows; the beginning of its name is enough."
        )?;
    }
    Ok(Status::Clean)
}

fn confidence(profile: &NamedProfile) -> &'static str {
    match profile.confidence {
        Some(confidence) => confidence.name(),
        None => "",
    }
}

fn print(profile: &NamedProfile) -> io::Result<()> {
    let caps = Capabilities::new(&profile.profile);
    let mut out = io::stdout().lock();
    writeln!(out, "{}", profile.name)?;
    writeln!(out, "  {}", profile.source)?;
    if profile.confidence == Some(Confidence::Partial) {
        writeln!(out, "  copied by hand, or less than what the processor reports")?;
    }
    drop(out);
    for word in words(&caps) {
        print_word(&word)?;
    }
    print_registers(&caps)?;
    for (heading, fact, lines) in [
        ("IA32_VMX_BASIC", Facts::msr(CapabilityMsr::Basic), basic(&caps)),
        ("IA32_VMX_MISC", Facts::msr(CapabilityMsr::Misc), misc(&caps)),
        ("EPT and VPID (IA32_VMX_EPT_VPID_CAP)", Facts::msr(CapabilityMsr::EptVpidCap), ept_vpid(&caps)),
    ] {
        writeln!(io::stdout(), "\n{heading}{}", if_unknown(&caps, fact))?;
        print_pairs(&lines)?;
    }
    writeln!(io::stdout(), "\nAddresses")?;
    print_pairs(&addresses(&caps))?;
    writeln!(io::stdout(), "\nMSRs")?;
    print_pairs(&msrs(profile))
}

/// `: unknown` if the profile leaves out one of `facts`.
fn if_unknown(caps: &Capabilities, facts: Facts) -> &'static str {
    if caps.unknown.intersects(facts) { ": the profile leaves it out" } else { "" }
}

fn print_pairs(pairs: &[(String, String)]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let width = pairs.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
    for (what, value) in pairs {
        writeln!(out, "  {what:<width$}  {value}")?;
    }
    Ok(())
}

/// A control word.
struct Word {
    title: &'static str,
    msr: CapabilityMsr,
    allowed: Allowed,
    names: &'static [(u32, &'static str)],
    bits: u32,
    unknown: bool,
}

fn words(caps: &Capabilities) -> [Word; 8] {
    use CapabilityMsr as Msr;
    let word = |title, msr, allowed, names, bits| Word {
        title,
        msr,
        allowed,
        names,
        bits,
        unknown: caps.unknown.intersects(Facts::msr(msr)),
    };
    // The TRUE MSRs exist where IA32_VMX_BASIC[55] is 1.
    let precise = |default, precise| if caps.basic & 1 << 55 != 0 { precise } else { default };
    let pin = precise(Msr::Pinbased, Msr::TruePinbased);
    let primary = precise(Msr::Procbased, Msr::TrueProcbased);
    let exit = precise(Msr::Exit, Msr::TrueExit);
    let entry = precise(Msr::Entry, Msr::TrueEntry);
    [
        word("Pin-based VM-execution controls", pin, caps.pin, PinBased::NAMES, 32),
        word("Primary processor-based VM-execution controls", primary, caps.primary, Primary::NAMES, 32),
        word("Secondary processor-based VM-execution controls", Msr::Procbased2, caps.secondary, Secondary::NAMES, 32),
        word("Tertiary processor-based VM-execution controls", Msr::Procbased3, caps.tertiary, Tertiary::NAMES, 64),
        word("Primary VM-exit controls", exit, caps.exit, Exit::NAMES, 32),
        word("Secondary VM-exit controls", Msr::Exit2, caps.secondary_exit, SecondaryExit::NAMES, 64),
        word("VM-entry controls", entry, caps.entry, Entry::NAMES, 32),
        word("VM functions", Msr::Vmfunc, caps.vm_functions, VmFunctions::NAMES, 64),
    ]
}

/// What a bit can be.
fn setting(allowed: Allowed, bit: u32) -> &'static str {
    match (allowed.ones >> bit & 1, allowed.may() >> bit & 1) {
        (1, _) => "must be 1",
        (_, 1) => "may be 1",
        _ => "must be 0",
    }
}

fn print_word(word: &Word) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "\n{} ({})", word.title, word.msr.name())?;
    if word.unknown {
        return writeln!(out, ": the profile leaves it out");
    }
    if word.allowed == Allowed::default() {
        return writeln!(out, ": none");
    }
    writeln!(out)?;
    for bit in 0..word.bits {
        let name = word.names.iter().find(|(named, _)| *named == bit).map(|(_, name)| *name);
        let setting = setting(word.allowed, bit);
        match name {
            // Reserved bits that must be 0 are not listed.
            None if setting == "must be 0" => {}
            None if setting == "must be 1" => writeln!(out, "  {bit:>2}  {setting:<9}  (reserved)")?,
            None => writeln!(out, "  {bit:>2}  {setting:<9}  (without a name in the SDM)")?,
            Some(name) => writeln!(out, "  {bit:>2}  {setting:<9}  {name}")?,
        }
    }
    Ok(())
}

fn print_registers(caps: &Capabilities) -> io::Result<()> {
    let cr0 = |bits| Cr0::from_bits_retain(bits).iter_names().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
    let cr4 = |bits| Cr4::from_bits_retain(bits).iter_names().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
    let none = |names: String| if names.is_empty() { "none that has a name".to_owned() } else { names };
    let fixed = |name: &str, allowed: Allowed, fixed0, fixed1, names: &dyn Fn(u64) -> String| {
        let unknown = if_unknown(caps, Facts::msr(fixed0).and(Facts::msr(fixed1)));
        writeln!(io::stdout(), "\n{name} in VMX operation{unknown}")?;
        print_pairs(&[
            ("must be 1".to_owned(), format!("{} ({:#x})", names(allowed.ones), allowed.ones)),
            (
                "may be 1".to_owned(),
                format!("{} ({:#x})", names(allowed.may() & !allowed.ones), allowed.may() & !allowed.ones),
            ),
            ("must be 0".to_owned(), none(names(!(allowed.may() | allowed.ones)))),
        ])
    };
    fixed("CR0", caps.cr0, CapabilityMsr::Cr0Fixed0, CapabilityMsr::Cr0Fixed1, &cr0)?;
    if caps.secondary.may() & u64::from(Secondary::UNRESTRICTED_GUEST.bits()) != 0 {
        writeln!(io::stdout(), "  (PE and PG of an unrestricted guest may be 0)")?;
    }
    fixed("CR4", caps.cr4, CapabilityMsr::Cr4Fixed0, CapabilityMsr::Cr4Fixed1, &cr4)
}

/// Whether that bit of a register of features is 1.
fn yes_no(register: u64, bit: u32) -> String {
    if register >> bit & 1 != 0 { "yes" } else { "no" }.to_owned()
}

fn features(register: u64, names: &[(u32, &str)]) -> Vec<(String, String)> {
    names.iter().map(|&(bit, name)| (name.to_owned(), yes_no(register, bit))).collect()
}

/// SDM A.1, Basic VMX Information.
fn basic(caps: &Capabilities) -> Vec<(String, String)> {
    let memory_type = match caps.basic >> 50 & 0xF {
        0 => "0, uncacheable".to_owned(),
        6 => "6, write-back".to_owned(),
        other => other.to_string(),
    };
    let mut lines = vec![
        ("VMCS revision identifier".to_owned(), format!("{:#x}", caps.revision())),
        ("bytes of a VMCS region".to_owned(), (caps.basic >> 32 & 0x1FFF).to_string()),
        ("memory type of VMCS accesses".to_owned(), memory_type),
    ];
    lines.extend(features(
        caps.basic,
        &[
            (48, "VMX addresses are limited to 32 bits"),
            (49, "dual-monitor treatment of SMIs and SMM"),
            (54, "exits due to INS and OUTS are described"),
            (55, "TRUE capability MSRs"),
            (56, "hardware exceptions with any error code"),
            (58, "nested exceptions can be injected"),
        ],
    ));
    lines
}

/// SDM A.6, Miscellaneous Data.
fn misc(caps: &Capabilities) -> Vec<(String, String)> {
    let mut lines = vec![
        ("TSC ticks per tick of the VMX-preemption timer".to_owned(), (1u64 << (caps.misc & 0x1F)).to_string()),
        ("CR3-target values".to_owned(), caps.cr3_targets().to_string()),
        ("recommended most entries of an MSR area".to_owned(), (512 * ((caps.misc >> 25 & 7) + 1)).to_string()),
        ("MSEG revision identifier".to_owned(), format!("{:#x}", caps.misc >> 32)),
    ];
    lines.extend(features(
        caps.misc,
        &[
            (5, "exits store EFER.LMA into “IA-32e mode guest”"),
            (6, "activity state HLT"),
            (7, "activity state shutdown"),
            (8, "activity state wait-for-SIPI"),
            (14, "Intel PT in VMX operation"),
            (15, "RDMSR of IA32_SMBASE in SMM"),
            (28, "IA32_SMM_MONITOR_CTL[2] can be 1"),
            (29, "VMWRITE of VM-exit information fields"),
            (30, "injection with instruction length 0"),
        ],
    ));
    lines
}

/// SDM A.10, VPID and EPT Capabilities.
fn ept_vpid(caps: &Capabilities) -> Vec<(String, String)> {
    let mut lines = features(
        caps.ept_vpid,
        &[
            (0, "execute-only translations"),
            (6, "page walks of 4 levels"),
            (7, "page walks of 5 levels"),
            (8, "uncacheable paging structures"),
            (14, "write-back paging structures"),
            (16, "2-MByte pages"),
            (17, "1-GByte pages"),
            (21, "accessed and dirty flags"),
            (22, "advanced information about EPT violations"),
            (23, "supervisor shadow-stack control"),
            (20, "INVEPT"),
            (25, "INVEPT: single context"),
            (26, "INVEPT: all contexts"),
            (32, "INVVPID"),
            (40, "INVVPID: individual address"),
            (41, "INVVPID: single context"),
            (42, "INVVPID: all contexts"),
            (43, "INVVPID: single context, retaining globals"),
        ],
    );
    lines.push(("most HLAT prefix bits".to_owned(), (caps.ept_vpid >> 48 & 0x3F).to_string()));
    lines
}

fn addresses(caps: &Capabilities) -> Vec<(String, String)> {
    let widths = caps.unknown.intersects(Facts::cpuid(CpuidLeaf::AddressWidths));
    let linear = widths || caps.unknown.intersects(Facts::cpuid(CpuidLeaf::ExtendedFeatures));
    let bits =
        |bits: u32, unknown| if unknown { "the profile leaves it out".to_owned() } else { format!("{bits} bits") };
    vec![
        ("physical".to_owned(), bits(caps.physical_reserved.trailing_zeros(), widths)),
        ("physical, in the VMCS".to_owned(), bits(caps.address_reserved.trailing_zeros(), widths)),
        ("linear".to_owned(), bits(caps.linear_bits, linear)),
    ]
}

/// The MSRs as read.
fn msrs(profile: &NamedProfile) -> Vec<(String, String)> {
    let line = |msr: CapabilityMsr| {
        let value = match profile.profile.msr(msr) {
            MsrValue::Unknown => "unknown".to_owned(),
            MsrValue::Absent => "#GP".to_owned(),
            MsrValue::Value(value) => Number(value).to_string(),
        };
        (format!("{:#x} {}", msr.number(), msr.name()), value)
    };
    CapabilityMsr::ALL.into_iter().map(line).collect()
}
