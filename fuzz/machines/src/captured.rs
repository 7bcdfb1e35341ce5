//! A machine together with what it reported about its processor.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use vmcs_case::profile::NamedProfile;
use vmcs_case::{Implementation, Session, Target, TargetError};
use vmcs_fuzz::TestProcessor;

use crate::choice::MachineChoice;

/// A machine that was asked what its processor is, and what cases for it start from.
#[derive(Clone, Debug)]
pub struct CapturedMachine {
    /// The choice by which the machine can be opened.
    pub choice: MachineChoice,
    /// The name, version and CPU model that the machine reports of itself.
    pub implementation: Implementation,
    /// Its processor as a profile.
    pub profile: NamedProfile,
    /// Its processor as cases need it.
    pub processor: TestProcessor,
    /// What its cases share.
    pub session: Session,
}

impl CapturedMachine {
    /// Asks the machine `choice`, opened as `target`.
    ///
    /// # Errors
    /// Those of the machine.
    pub fn new(choice: &MachineChoice, target: &mut dyn Target) -> Result<Self, TargetError> {
        let implementation = target.implementation();
        let (profile, _) = choice.capture(target)?;
        let processor = TestProcessor::new(&profile.profile);
        let session = processor.session();
        Ok(Self { choice: choice.clone(), implementation, profile, processor, session })
    }
}

/// A function that opens a machine.
pub type OpenMachine<'a> = dyn Fn(&MachineChoice) -> Result<Box<dyn Target>, TargetError> + Sync + 'a;

/// Opens machines with `open` and asks them, so many at the same time. The answers are in the order of the choices.
pub fn capture_each(
    choices: &[MachineChoice],
    jobs: NonZeroUsize,
    open: &OpenMachine<'_>,
) -> Vec<Result<CapturedMachine, TargetError>> {
    let next = AtomicUsize::new(0);
    let captured = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs.get().min(choices.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(choice) = choices.get(index) else { break };
                    let machine = open(choice).and_then(|mut target| CapturedMachine::new(choice, target.as_mut()));
                    captured.lock().expect("nobody panics with the lock").push((index, machine));
                }
            });
        }
    });
    let mut captured = captured.into_inner().expect("nobody panicked");
    captured.sort_by_key(|(index, _)| *index);
    captured.into_iter().map(|(_, machine)| machine).collect()
}
