//! The entries that are measured.

use vmcs_model::field::{Area, FIELDS};
use vmcs_model::formats::exit_reason;
use vmcs_model::{Capabilities, Outcome};
use vmcs_wire::{Ending, Op, Start, Timed, layout};

use super::feature::Feature::{
    Cpuid, Cr3, Efer, EntryLoads, Ept, ExitLoads, ExitStores, Pat, PerfGlobalCtrl, Timer, Vpid,
};
use super::feature::{Feature, MeasuredImage, Missing, WantedFailure};
use crate::case::Case;
use crate::program::ending_outcome;

/// An entry that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it shows.
    pub shows: &'static str,
    what: Timed,
    features: &'static [Feature],
    fault: Option<WantedFailure>,
}

const fn launch(name: &'static str, features: &'static [Feature], shows: &'static str) -> Scenario {
    Scenario { name, shows, what: Timed::Vmlaunch, features, fault: None }
}

const fn resume(name: &'static str, features: &'static [Feature], shows: &'static str) -> Scenario {
    Scenario { name, shows, what: Timed::Vmresume, features, fault: None }
}

const fn fails(name: &'static str, what: Timed, fault: WantedFailure, shows: &'static str) -> Scenario {
    Scenario { name, shows, what, features: &[], fault: Some(fault) }
}

#[rustfmt::skip]
const SCENARIOS: [Scenario; 44] = [
    launch("vmlaunch", &[], "VMLAUNCH of a VMCS that VMCLEAR and VMPTRLD have just prepared; its guest executes VMCALL"),
    resume("vmresume", &[], "VMRESUME of a guest that executes VMCALL; all that follow are compared with it"),
    resume("vmresume-cpuid", &[Cpuid], "the guest executes CPUID"),
    resume("vmresume-timer", &[Timer], "the VMX-preemption timer, 0, ends the guest before its first instruction"),

    launch("vmlaunch-ept", &[Ept], "VMLAUNCH with EPT"),
    launch("vmlaunch-vpid", &[Vpid], "VMLAUNCH with a VPID"),
    launch("vmlaunch-ept-vpid", &[Ept, Vpid], "VMLAUNCH with EPT and a VPID"),
    resume("vmresume-ept", &[Ept], "VMRESUME with EPT"),
    resume("vmresume-vpid", &[Vpid], "VMRESUME with a VPID: the TLB keeps its entries"),
    resume("vmresume-ept-vpid", &[Ept, Vpid], "VMRESUME with EPT and a VPID, as hypervisors use it"),

    resume("vmresume-entry-load-0", &[EntryLoads(0)], "a VM-entry MSR-load area without an entry"),
    resume("vmresume-entry-load-1", &[EntryLoads(1)], "one MSR is loaded on entry"),
    resume("vmresume-entry-load-8", &[EntryLoads(8)], "8 MSRs are loaded on entry"),
    resume("vmresume-entry-load-64", &[EntryLoads(64)], "64 MSRs are loaded on entry"),
    resume("vmresume-exit-store-0", &[ExitStores(0)], "a VM-exit MSR-store area without an entry"),
    resume("vmresume-exit-store-1", &[ExitStores(1)], "one MSR is stored on exit"),
    resume("vmresume-exit-store-8", &[ExitStores(8)], "8 MSRs are stored on exit"),
    resume("vmresume-exit-store-64", &[ExitStores(64)], "64 MSRs are stored on exit"),
    resume("vmresume-exit-load-0", &[ExitLoads(0)], "a VM-exit MSR-load area without an entry"),
    resume("vmresume-exit-load-1", &[ExitLoads(1)], "one MSR is loaded on exit"),
    resume("vmresume-exit-load-8", &[ExitLoads(8)], "8 MSRs are loaded on exit"),
    resume("vmresume-exit-load-64", &[ExitLoads(64)], "64 MSRs are loaded on exit"),

    resume("vmresume-cr3", &[Cr3], "the guest's CR3 is not the host's"),
    resume("vmresume-cr3-vpid", &[Cr3, Vpid], "the guest's CR3 is not the host's, and it has a VPID"),
    resume("vmresume-pat", &[Pat], "IA32_PAT is loaded on entry and exit"),
    resume("vmresume-efer", &[Efer], "IA32_EFER is loaded on entry and exit"),
    resume("vmresume-perf-global-ctrl", &[PerfGlobalCtrl], "IA32_PERF_GLOBAL_CTRL is loaded on entry and exit"),
    resume("vmresume-pat-efer-cr3-ept-vpid", &[Pat, Efer, Cr3, Ept, Vpid], "these together"),

    fails("vmlaunch-no-vmcs", Timed::Vmlaunch, WantedFailure::NoVmcs, "VMLAUNCH without a current VMCS: VMfailInvalid"),
    fails("vmresume-no-vmcs", Timed::Vmresume, WantedFailure::NoVmcs, "VMRESUME without a current VMCS: VMfailInvalid"),
    fails("vmlaunch-launched", Timed::Vmlaunch, WantedFailure::LaunchState, "VMLAUNCH of a launched VMCS: error 4"),
    fails("vmresume-clear", Timed::Vmresume, WantedFailure::LaunchState, "VMRESUME of a VMCS that is not launched: error 5"),
    fails("vmlaunch-control", Timed::Vmlaunch, WantedFailure::Control, "VMLAUNCH with a control that must be 1: error 7"),
    fails("vmresume-control", Timed::Vmresume, WantedFailure::Control, "VMRESUME with a control that must be 1: error 7"),
    fails("vmlaunch-host", Timed::Vmlaunch, WantedFailure::Host, "VMLAUNCH with CR4.VMXE of the host 0: error 8"),
    fails("vmresume-host", Timed::Vmresume, WantedFailure::Host, "VMRESUME with CR4.VMXE of the host 0: error 8"),
    fails("vmlaunch-guest", Timed::Vmlaunch, WantedFailure::Guest, "VMLAUNCH with RFLAGS of the guest 0: exit reason 33"),
    fails("vmresume-guest", Timed::Vmresume, WantedFailure::Guest, "VMRESUME with RFLAGS of the guest 0: exit reason 33"),
    fails("vmlaunch-link", Timed::Vmlaunch, WantedFailure::LinkPointer, "VMLAUNCH with a bad VMCS link pointer: exit reason 33, qualification 4"),
    fails("vmresume-link", Timed::Vmresume, WantedFailure::LinkPointer, "VMRESUME with a bad VMCS link pointer: exit reason 33, qualification 4"),
    fails("vmlaunch-msr-1", Timed::Vmlaunch, WantedFailure::MsrLoad(1), "VMLAUNCH, the first MSR must not be loaded: exit reason 34"),
    fails("vmresume-msr-1", Timed::Vmresume, WantedFailure::MsrLoad(1), "VMRESUME, the first MSR must not be loaded: exit reason 34"),
    fails("vmlaunch-msr-64", Timed::Vmlaunch, WantedFailure::MsrLoad(64), "VMLAUNCH, the 64th MSR must not be loaded: exit reason 34"),
    fails("vmresume-msr-64", Timed::Vmresume, WantedFailure::MsrLoad(64), "VMRESUME, the 64th MSR must not be loaded: exit reason 34"),
];

impl Scenario {
    /// All scenarios.
    #[must_use]
    pub fn all() -> &'static [Self] {
        &SCENARIOS
    }

    /// The one of that name, or else all that have it in their names.
    #[must_use]
    pub fn named(name: &str) -> Vec<&'static Self> {
        match SCENARIOS.iter().find(|scenario| scenario.name == name) {
            Some(scenario) => vec![scenario],
            None => SCENARIOS.iter().filter(|scenario| scenario.name.contains(name)).collect(),
        }
    }

    /// How each round ends.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.fault.map_or(Outcome::Entered, |fault| fault.outcome(self.what))
    }

    /// The basic exit reason of the guest, if the entry succeeds.
    #[must_use]
    pub fn exit_reason(&self) -> Option<u16> {
        let reason = |feature: &Feature| match feature {
            Cpuid => Some(exit_reason::CPUID),
            Timer => Some(exit_reason::PREEMPTION_TIMER),
            _ => None,
        };
        self.fault.is_none().then(|| self.features.iter().find_map(reason).unwrap_or(exit_reason::VMCALL))
    }

    /// Whether that is how each round ends.
    pub(super) fn ends_in(&self, ending: Ending) -> bool {
        let reason_fits = match (ending, self.exit_reason()) {
            (Ending::Exit { reason, .. }, Some(expected)) => reason == u32::from(expected),
            _ => true,
        };
        ending_outcome(ending) == Some(self.outcome()) && reason_fits
    }

    /// The program: a VMCS is prepared, launched if need be, perhaps spoilt, and entered `rounds` times in the last step.
    ///
    /// # Errors
    /// [`Missing`] is what the processor lacks.
    pub fn case(&self, has: &Capabilities, rounds: u16) -> Result<Case, Missing> {
        let mut image = MeasuredImage::plain(has);
        self.features.iter().try_for_each(|feature| feature.add(has, &mut image))?;
        let spoilt = self.fault.map_or_else(Vec::new, |fault| fault.prepare(&mut image));

        let mut ops = Vec::new();
        ops.extend(image.memory.iter().map(|&(address, value)| Op::Store { address, size: 8, value }));
        if self.fault != Some(WantedFailure::NoVmcs) {
            let region = layout::VMCS_REGIONS;
            ops.push(Op::Store { address: region, size: 4, value: has.revision().into() });
            ops.extend([Op::Vmclear { address: region }, Op::Vmptrld { address: region }]);
            let inputs = FIELDS.iter().filter(|info| has.has_field(info) && info.area() != Area::ExitInformation);
            let write = |encoding: u32, value| Op::Vmwrite { encoding: encoding.into(), value };
            ops.extend(inputs.map(|info| write(info.encoding.0, image.vmcs.raw(info.id))));
            if (self.what == Timed::Vmresume) != (self.fault == Some(WantedFailure::LaunchState)) {
                ops.push(Op::Vmlaunch { after_mov_ss: false });
            }
            ops.extend(spoilt.iter().map(|(id, value)| write(id.info().encoding.0, *value)));
        }
        ops.push(Op::Time { what: self.what, rounds });
        Ok(Case { start: Start::VmxRoot, ops, ..Case::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::NamedProfile;

    #[test]
    fn names_are_unique_and_found() {
        for (index, scenario) in SCENARIOS.iter().enumerate() {
            assert!(SCENARIOS[..index].iter().all(|other| other.name != scenario.name), "{}", scenario.name);
            assert_eq!(Scenario::named(scenario.name), [scenario]);
        }
        assert_eq!(Scenario::named("exit-load").len(), 4);
        assert!(Scenario::named("vmcall").is_empty());
    }

    #[test]
    fn a_current_server_offers_all_of_them_and_an_old_processor_says_what_it_lacks() {
        let missing = |name| {
            let has = Capabilities::new(&NamedProfile::by_name(name).expect("it is known").profile);
            let lacks = |scenario: &Scenario| Some(format!("{}: {}", scenario.name, scenario.case(&has, 1).err()?));
            SCENARIOS.iter().filter_map(lacks).collect::<Vec<_>>()
        };
        assert_eq!(missing("sapphire-rapids"), [""; 0]);
        let old = missing("core-2-conroe");
        assert!(old.contains(&"vmresume-ept: the processor has no EPT".to_owned()), "{old:?}");
        assert!(old.contains(&"vmresume-cr3-vpid: the processor has no VPID".to_owned()), "{old:?}");
        assert!(!old.iter().any(|line| line.contains("entry-load")), "{old:?}");
    }
}
