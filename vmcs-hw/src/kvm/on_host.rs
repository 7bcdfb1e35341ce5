//! The KVM of this host, over its processor.

use std::fs;
use std::ops::ControlFlow;
use std::time::Duration;

use vmcs_case::{Case, Implementation, Observation, ProbeReport, Session, Target, TargetError};
use vmcs_kvm::{Executor, KvmError, Payload};

use super::linux::version;
use crate::answers::{decode_report, encode_session};
use crate::probe_image;
use crate::run::{Portions, run};

/// How a [`KvmTarget`] works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvmOptions {
    /// Cases per batch.
    pub batch: usize,
    /// Time that a step of a case may take; after it the case counts as hung.
    pub patience: Duration,
}

impl Default for KvmOptions {
    fn default() -> Self {
        Self { batch: 128, patience: Duration::from_secs(2) }
    }
}

/// The KVM of this host.
#[derive(Debug)]
pub struct KvmTarget {
    options: KvmOptions,
    implementation: Implementation,
}

impl KvmTarget {
    /// /dev/kvm, with the default options.
    ///
    /// # Errors
    /// [`KvmError`] with a [`vmcs_kvm::Refusal`] where virtual machines have no VMX;
    /// [`EmbeddedError`](crate::probe_image::EmbeddedError).
    pub fn open() -> Result<Self, TargetError> {
        Self::with_options(KvmOptions::default())
    }

    /// As [`KvmTarget::open`], with options.
    ///
    /// # Errors
    /// Those of [`KvmTarget::open`].
    pub fn with_options(options: KvmOptions) -> Result<Self, TargetError> {
        vmcs_kvm::open().map_err(failed)?;
        probe_image::elf()?;
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let implementation = Implementation {
            name: "KVM".to_owned(),
            version: version(release.trim()),
            model: model.map_or("unknown processor", |(_, name)| name.trim()).to_owned(),
            on: None,
        };
        Ok(Self { options, implementation })
    }

    fn executor(&self, session: Vec<u8>, fields: usize) -> Result<Executor, TargetError> {
        let (bytes, entry) = probe_image::payload()?;
        let executor = Executor::new(Payload { bytes, entry }, session, fields, self.options.patience);
        executor.map_err(failed)
    }
}

fn failed(error: KvmError) -> TargetError {
    TargetError::Machine(Box::new(error))
}

impl Target for KvmTarget {
    fn implementation(&self) -> Implementation {
        self.implementation.clone()
    }

    fn capture(&mut self) -> Result<ProbeReport, TargetError> {
        let session = encode_session(&Session::default())?;
        decode_report(&self.executor(session, 0)?.profile().map_err(failed)?)
    }

    fn run(
        &mut self,
        session: &Session,
        cases: &mut dyn Iterator<Item = Case>,
        observe: &mut dyn FnMut(usize, Observation) -> ControlFlow<()>,
    ) -> Result<(), TargetError> {
        let mut executor = self.executor(encode_session(session)?, session.observed_fields.len())?;
        let batch = self.options.batch;
        let portions = Portions { chunk: batch, bytes: usize::MAX, batch };
        run(&mut executor, portions, session, cases, observe, failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where KVM can do it, it answers; elsewhere it refuses before it is asked for anything, with a sentence that says what
    /// to do.
    #[test]
    fn this_host_answers_or_refuses() {
        match KvmTarget::open() {
            Ok(mut target) => {
                let report = target.capture().expect("KVM runs the probe");
                assert!(report.msrs.contains(&(0x3A, Some(5))));
            }
            Err(error) => {
                let Some(KvmError::Refused(refusal)) = error.machine() else { panic!("{error}") };
                let sentence = refusal.to_string();
                assert!(sentence.contains("kvm") && sentence.len() > 40, "{sentence}");
            }
        }
    }
}
