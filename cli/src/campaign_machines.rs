//! The machines of a campaign.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use vmcs_case::profile::NamedProfile;
use vmcs_case::{Implementation, Session, TargetError};
use vmcs_fuzz::TestProcessor;
use vmcs_fuzz::machines::MachineChoice;
use vmcs_hw::targets::{Cpus, TargetName};

use crate::error::CliError;
use crate::target;

/// What stands for every CPU model.
const ALL: &str = "all";

/// A machine that was asked what its processor is, and what cases for it start from.
#[derive(Clone, Debug)]
pub(crate) struct CampaignMachine {
    pub(crate) choice: MachineChoice,
    pub(crate) implementation: Implementation,
    pub(crate) profile: NamedProfile,
    pub(crate) processor: TestProcessor,
    pub(crate) session: Session,
}

/// The machines that `targets` and `cpus` mean, as they report themselves; `all` stands for every CPU model with VMX.
/// So many are asked at the same time.
pub(crate) fn capture(
    targets: &[TargetName],
    cpus: &[String],
    jobs: NonZeroUsize,
) -> Result<Vec<CampaignMachine>, CliError> {
    let all = cpus.iter().any(|cpu| cpu == ALL);
    let cpus = match cpus {
        _ if all => Cpus::All,
        [] => Cpus::Default,
        named => Cpus::Named(named),
    };
    let mut choices = Vec::new();
    for target in targets {
        for choice in MachineChoice::named(target, cpus)? {
            if !choices.contains(&choice) {
                choices.push(choice);
            }
        }
    }
    let mut machines = Vec::new();
    let mut without = 0;
    for captured in capture_each(&choices, jobs) {
        match captured {
            Ok(machine) => machines.push(machine),
            // Old processors and those of other makers. One does not start at all.
            Err(TargetError::Probe(_) | TargetError::DiedAtStart { .. }) if all => without += 1,
            Err(error) => return Err(error.into()),
        }
    }
    if without > 0 {
        eprintln!("{without} CPU models without VMX were left out");
    }
    if machines.is_empty() {
        return Err(CliError::Usage("no CPU model of these targets has VMX".to_owned()));
    }
    Ok(machines)
}

/// Asks each machine, several at the same time.
fn capture_each(choices: &[MachineChoice], jobs: NonZeroUsize) -> Vec<Result<CampaignMachine, TargetError>> {
    let next = AtomicUsize::new(0);
    let captured = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs.get().min(choices.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(choice) = choices.get(index) else { break };
                    let machine = capture_one(choice);
                    captured.lock().expect("nobody panics with the lock").push((index, machine));
                }
            });
        }
    });
    let mut captured = captured.into_inner().expect("nobody panicked");
    captured.sort_by_key(|(index, _)| *index);
    captured.into_iter().map(|(_, machine)| machine).collect()
}

fn capture_one(choice: &MachineChoice) -> Result<CampaignMachine, TargetError> {
    let mut target = target::open_choice(choice)?;
    let implementation = target.implementation();
    let (profile, _) = choice.capture(target.as_mut())?;
    let processor = TestProcessor::new(&profile.profile);
    let session = processor.session();
    Ok(CampaignMachine { choice: choice.clone(), implementation, profile, processor, session })
}
