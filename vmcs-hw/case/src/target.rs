//! The trait of a machine that executes cases, and what a machine says about itself.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use vmcs_wire::profile::FieldReport;

use crate::case::{Case, Observation, Session};
use crate::error::TargetError;

/// Which machine answered. Its [`Display`](fmt::Display) is what reports quote: `Bochs 2.7 corei7_skylake_x`, `KVM 6.1 on
/// Bochs 2.7 corei7_skylake_x`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Implementation {
    /// Name of the implementation.
    pub name: String,
    /// Its version.
    pub version: String,
    /// CPU model that it implements.
    pub model: String,
    /// The implementation that executes what this one leaves to its processor, where that is not real hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Box<Implementation>>,
}

impl fmt::Display for Implementation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.on {
            None => write!(f, "{} {} {}", self.name, self.version, self.model),
            Some(on) => write!(f, "{} {} on {on}", self.name, self.version),
        }
    }
}

/// What a processor says about itself, unprocessed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeReport {
    /// MSR number and value; `None` when RDMSR raised #GP.
    pub msrs: Vec<(u32, Option<u64>)>,
    /// CPUID.
    pub cpuid: Vec<CpuidReading>,
    /// Every VMCS encoding that VMREAD or VMWRITE answers otherwise than with "unsupported component".
    pub fields: Vec<FieldReport>,
}

/// One leaf of CPUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuidReading {
    /// EAX before the instruction.
    pub leaf: u32,
    /// ECX before the instruction.
    pub subleaf: u32,
    /// EAX, EBX, ECX, EDX; `None` above the highest leaf.
    pub registers: Option<[u32; 4]>,
}

/// CPU time that the processes of a target have used. It can be read while the target runs.
#[derive(Clone, Debug, Default)]
pub struct CpuClock(Arc<AtomicU64>);

impl CpuClock {
    /// The time so far.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    /// For the target: what its processes have used so far.
    pub fn set(&self, now: Duration) {
        self.0.store(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// A machine that executes cases with real VMX instructions.
pub trait Target {
    /// Which machine it is.
    fn implementation(&self) -> Implementation;

    /// Asks the processor for its capabilities and VMCS fields.
    ///
    /// # Errors
    /// [`TargetError`] when the machine does not get that far.
    fn capture(&mut self) -> Result<ProbeReport, TargetError>;

    /// The clock of the CPU time that the machine uses, if the machine runs in processes of its own.
    fn cpu_clock(&self) -> Option<CpuClock> {
        None
    }

    /// Executes `cases` and hands each observation, with the number of its case counted from 0, to `observe`, in the
    /// order of the cases. Cases are taken from the iterator as they are needed. Every case that was taken is observed,
    /// unless `observe` breaks off, which ends the run.
    ///
    /// # Errors
    /// [`TargetError`] when the machinery fails. What a case does to the machine is not an error but [`crate::case::End`].
    fn run(
        &mut self,
        session: &Session,
        cases: &mut dyn Iterator<Item = Case>,
        observe: &mut dyn FnMut(usize, Observation) -> ControlFlow<()>,
    ) -> Result<(), TargetError>;
}
