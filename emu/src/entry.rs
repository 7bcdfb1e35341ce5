//! VMLAUNCH and VMRESUME, and what the model says of an entry that they would attempt. SDM 27, VM Entries.
//!
//! The model returns every outcome that the architecture permits for an entry. This file picks one of them, or takes
//! the one that its caller asks for, and carries it out.

use alloc::string::{String, ToString};

use vmcs_model::checks::{CheckId, CheckSet};
use vmcs_model::controls::Entry;
use vmcs_model::cpu::ExecutiveVmcs;
use vmcs_model::field;
use vmcs_model::formats::{ExitReason, exit_reason};
use vmcs_model::partial::Unknowns;
use vmcs_model::{EntryAttempt, EntryInstruction, LaunchState, Outcome, Verdict, VmxOperation};

use crate::{EntryResult, InstructionFailure, LogicalProcessor};

impl LogicalProcessor {
    /// Executes VMLAUNCH, which enters the guest of the current VMCS if its launch state is clear, and makes the launch
    /// state launched. SDM 31.3, VMLAUNCH/VMRESUME Launch/Resume Virtual Machine.
    ///
    /// # Errors
    /// The instruction failed before it looked at guest state: `#UD`, a VM exit, `#GP(0)`, VMfailInvalid, or
    /// VMfailValid with 4 (the launch state is not clear), 7 (control fields), 8 (host state), 16, 17, 18, 25 (an entry that
    /// returns from SMM) or 26 (blocking by MOV SS).
    pub fn vmlaunch(&mut self) -> Result<EntryResult, InstructionFailure> {
        self.attempt(|cpu| cpu.enter(EntryInstruction::Vmlaunch))
    }

    /// Executes VMRESUME, which enters the guest of the current VMCS if its launch state is launched. SDM 31.3,
    /// VMLAUNCH/VMRESUME Launch/Resume Virtual Machine.
    ///
    /// # Errors
    /// As for [`Self::vmlaunch`], but instead of 4 VMfailValid with 5 (the launch state is not launched) or 6 (VMXOFF
    /// and VMXON came between launch and resumption).
    pub fn vmresume(&mut self) -> Result<EntryResult, InstructionFailure> {
        self.attempt(|cpu| cpu.enter(EntryInstruction::Vmresume))
    }

    /// What the model says of the entry that `instruction` would attempt now: the violated checks, and every outcome
    /// that the architecture permits. The processor does not change.
    #[must_use]
    pub fn verdict(&self, instruction: EntryInstruction) -> Verdict {
        self.with_attempt(instruction, |attempt| attempt.on(self.current_fields(), &self.memory).verdict())
    }

    /// What the model says of the entry that `instruction` would attempt now, if the processor did not make the checks
    /// `omitted`. This is for comparisons with a processor that is known to leave checks out.
    #[must_use]
    pub fn verdict_omitting(&self, instruction: EntryInstruction, omitted: &CheckSet) -> Verdict {
        self.with_attempt(instruction, |attempt| {
            attempt.on(self.current_fields(), &self.memory).verdict_omitting(omitted)
        })
    }

    /// What keeps `check` from being decided for the entry that `instruction` would attempt now: facts about the
    /// processor and contents of memory that are not known, or the SDM, which leaves it open. Empty if the check is
    /// decided.
    #[must_use]
    pub fn unknowns(&self, instruction: EntryInstruction, check: CheckId) -> Unknowns {
        self.with_attempt(instruction, |attempt| attempt.on(self.current_fields(), &self.memory).unknowns(check))
    }

    /// Explains to a person why the entry that `instruction` would attempt now violates `check`, with the values of the
    /// fields that the check reads.
    #[must_use]
    pub fn explain(&self, instruction: EntryInstruction, check: CheckId) -> String {
        self.with_attempt(instruction, |attempt| {
            attempt.on(self.current_fields(), &self.memory).explain(check).to_string()
        })
    }

    fn with_attempt<T>(&self, instruction: EntryInstruction, judge: impl FnOnce(EntryAttempt<'_>) -> T) -> T {
        let mut cpu = self.cpu.clone();
        cpu.executive = self.executive_vmcs();
        judge(
            EntryAttempt::by(instruction, &cpu, &self.capabilities)
                .with_launch_state(self.current().map_or(LaunchState::Clear, |region| region.launch_state))
                .with_shadow(self.current().is_some_and(|region| region.shadow)),
        )
    }

    /// Executes `instruction` so that it ends in `outcome`.
    ///
    /// A comparison uses this to follow a real processor: where the architecture permits several outcomes, it takes the
    /// one that was observed. An outcome that [`Self::verdict`] does not permit is carried out all the same.
    ///
    /// # Errors
    /// The failure that `outcome` stands for.
    pub fn enter_as(
        &mut self,
        instruction: EntryInstruction,
        outcome: Outcome,
    ) -> Result<EntryResult, InstructionFailure> {
        self.attempt(|cpu| cpu.end_entry(instruction, outcome))
    }

    fn enter(&mut self, instruction: EntryInstruction) -> Result<EntryResult, InstructionFailure> {
        self.end_entry(instruction, self.decide(instruction))
    }

    fn end_entry(
        &mut self,
        instruction: EntryInstruction,
        outcome: Outcome,
    ) -> Result<EntryResult, InstructionFailure> {
        match outcome {
            Outcome::Fault(exception) => Err(InstructionFailure::Fault(exception)),
            Outcome::Exited { reason } => Err(InstructionFailure::Exit { reason }),
            Outcome::FailInvalid => Err(InstructionFailure::Invalid),
            Outcome::FailValid(error) => Err(InstructionFailure::Valid(error)),
            Outcome::EntryFailed { reason, qualification } => Ok(self.fail_entry(reason, qualification)),
            Outcome::Entered => Ok(self.complete_entry(instruction)),
        }
    }

    /// The outcome that `instruction` would have now. Of those that [`Self::verdict`] permits it is that of the first
    /// violated check in the SDM's order; checks that the model cannot decide count as passed. The processor does not
    /// change.
    #[must_use]
    pub fn decide(&self, instruction: EntryInstruction) -> Outcome {
        let verdict = self.verdict(instruction);
        let Some(first) = verdict.violated.iter().min_by_key(|check| check.info().phase) else {
            // Undecidable checks count as passed, up to an entry of the MSR-load area that fails for certain.
            let fails = || verdict.permitted.iter().last();
            return if verdict.permits(&Outcome::Entered) { None } else { fails() }.unwrap_or(Outcome::Entered);
        };
        let outcome = match (first.info().failure.outcome, instruction) {
            (Outcome::Exited { .. }, EntryInstruction::Vmlaunch) => Outcome::Exited { reason: exit_reason::VMLAUNCH },
            (Outcome::Exited { .. }, EntryInstruction::Vmresume) => Outcome::Exited { reason: exit_reason::VMRESUME },
            // The check does not say which entry of the area fails. It is the last one that the verdict names.
            (outcome, _) if is_msr_failure(&outcome) => {
                verdict.permitted.iter().filter(is_msr_failure).last().unwrap_or(outcome)
            }
            (outcome, _) => outcome,
        };
        debug_assert!(verdict.permits(&outcome), "{outcome} is not permitted");
        outcome
    }

    /// The entry succeeds: guest state and MSRs are loaded. SDM 27.3.2, Loading Guest State, 27.4, Loading MSRs, and
    /// 32.15.4, VM Entries that Return from SMM.
    fn complete_entry(&mut self, instruction: EntryInstruction) -> EntryResult {
        self.load_guest_state();
        let fields = self.current_fields();
        let (area, count) = (fields.get(field::VM_ENTRY_MSR_LOAD_ADDRESS), fields.get(field::VM_ENTRY_MSR_LOAD_COUNT));
        self.load_msrs(area, count);
        if instruction == EntryInstruction::Vmlaunch {
            self.current_mut().launch_state = LaunchState::Launched;
        }
        let returns_from_smm = self.cpu.smm && !self.entry_controls().contains(Entry::ENTRY_TO_SMM);
        self.cpu.vmx = VmxOperation::NonRoot;
        if returns_from_smm {
            self.return_from_smm();
        }
        EntryResult::Entered
    }

    /// The processor leaves SMM, for the guest of the executive VMCS or for the executive monitor. SDM 32.15.4.7,
    /// Updating the Current-VMCS and SMM-Transfer VMCS Pointers.
    fn return_from_smm(&mut self) {
        let fields = self.current_fields();
        let executive = fields.get(field::EXECUTIVE_VMCS_POINTER);
        let link = fields.get(field::VMCS_LINK_POINTER);
        if self.entry_controls().contains(Entry::DEACTIVATE_DUAL_MONITOR_TREATMENT) {
            self.platform.dual_monitor_active = false;
        } else {
            self.platform.smm_transfer_pointer = self.cpu.vmcs_pointer;
        }
        self.cpu.smm = false;
        if executive == self.cpu.vmxon_pointer {
            self.cpu.vmx = VmxOperation::Root;
            self.cpu.vmcs_pointer = link;
        } else {
            self.cpu.vmcs_pointer = executive;
        }
    }

    /// The entry fails after the checks that make the instruction fail. The exit reason is written with bit 31 set, and
    /// the exit qualification, but no other exit information; guest state is not saved, the launch state and the valid
    /// bit of the injected event stay, and host state is loaded as by a VM exit. SDM 27.8, VM-Entry Failures During or
    /// After Loading Guest State.
    ///
    /// Here guest state is checked before any of it is loaded, so that an entry which fails for it has loaded nothing.
    /// A failure to load MSRs finds it loaded, together with the MSRs of the area's earlier entries.
    fn fail_entry(&mut self, reason: u16, qualification: u64) -> EntryResult {
        let blocking = self.register(field::GUEST_INTERRUPTIBILITY_STATE);
        if reason == exit_reason::MSR_LOADING {
            self.load_guest_state();
            let loaded = u32::try_from(qualification.saturating_sub(1)).unwrap_or(u32::MAX);
            self.load_msrs(self.current_fields().get(field::VM_ENTRY_MSR_LOAD_ADDRESS), loaded);
        }
        let exit_reason = ExitReason::new().with_basic(reason).with_entry_failure(true);
        let fields = &mut self.current_mut().fields;
        fields.set(field::EXIT_REASON, exit_reason);
        fields.set(field::EXIT_QUALIFICATION, qualification);
        self.set_register(field::GUEST_INTERRUPTIBILITY_STATE, blocking);
        match self.load_host() {
            Ok(()) => EntryResult::Failed { reason, qualification },
            Err(abort) => EntryResult::Aborted(abort),
        }
    }

    /// What an entry that returns from SMM needs to know of the VMCS at the executive-VMCS pointer: whether it is
    /// launched, and whether its VM-execution controls are valid. SDM 32.15.4.1, Checks on the Executive-VMCS Pointer
    /// Field, and 32.15.4.2, Checks on VM-Execution Control Fields.
    fn executive_vmcs(&self) -> Option<ExecutiveVmcs> {
        if !self.cpu.smm {
            return self.cpu.executive;
        }
        let pointer = self.current_fields().get(field::EXECUTIVE_VMCS_POINTER);
        let Some(executive) = self.region(pointer) else {
            return Some(ExecutiveVmcs { launched: false, controls_valid: false });
        };
        // Its VM-execution controls are judged as for an entry outside SMM.
        let cpu = vmcs_model::CpuState { smm: false, vmcs_pointer: pointer, ..self.cpu.clone() };
        let attempt = EntryAttempt::vmresume(&cpu, &self.capabilities)
            .with_launch_state(executive.launch_state)
            .with_shadow(executive.shadow);
        let violated = attempt.on(&executive.fields, &self.memory).violations();
        Some(ExecutiveVmcs {
            launched: executive.launch_state == LaunchState::Launched,
            controls_valid: !violated.iter().any(|check| matches!(check, CheckId::ExecutionControlCheck(_))),
        })
    }
}

fn is_msr_failure(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::EntryFailed { reason: exit_reason::MSR_LOADING, .. })
}
