//! One step of a case program, and its result.

/// State of the processor when a case starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Start {
    /// CR4.VMXE is 1, and VMXON has not been executed.
    OutsideVmx,
    /// VMX root operation: VMXON with [`crate::layout::VMXON_REGION`] has been executed, and no VMCS is current.
    #[default]
    VmxRoot,
}

/// One step of a case program: a VMX instruction with its operands, or a store to memory.
///
/// Addresses are physical. `encoding`, `kind` and the descriptors are 64 bits wide because the instructions take
/// 64-bit register operands in 64-bit mode, and which of their bits count is part of what is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// VMXON with the 64-bit operand `address`.
    Vmxon {
        /// Physical address of the VMXON region.
        address: u64,
    },
    /// VMXOFF.
    Vmxoff,
    /// VMCLEAR with the 64-bit operand `address`.
    Vmclear {
        /// Physical address of the VMCS region.
        address: u64,
    },
    /// VMPTRLD with the 64-bit operand `address`.
    Vmptrld {
        /// Physical address of the VMCS region.
        address: u64,
    },
    /// VMPTRST; answers [`StepResult::Value`] with the current-VMCS pointer.
    Vmptrst,
    /// VMREAD; answers [`StepResult::Value`] with the field.
    Vmread {
        /// Encoding of the field, as the register operand holds it.
        encoding: u64,
    },
    /// VMWRITE.
    Vmwrite {
        /// Encoding of the field, as the register operand holds it.
        encoding: u64,
        /// Value of the source operand.
        value: u64,
    },
    /// VMLAUNCH.
    Vmlaunch {
        /// Execute it while events are blocked by MOV SS.
        after_mov_ss: bool,
    },
    /// VMRESUME.
    Vmresume {
        /// Execute it while events are blocked by MOV SS.
        after_mov_ss: bool,
    },
    /// VMCALL in VMX root operation.
    Vmcall,
    /// VMFUNC.
    Vmfunc {
        /// EAX: the VM function.
        eax: u32,
        /// ECX: its operand.
        ecx: u32,
    },
    /// INVEPT.
    Invept {
        /// Register operand: the INVEPT type.
        kind: u64,
        /// The 128-bit descriptor: EPTP, reserved.
        descriptor: [u64; 2],
    },
    /// INVVPID.
    Invvpid {
        /// Register operand: the INVVPID type.
        kind: u64,
        /// The 128-bit descriptor: VPID (and reserved bits), linear address.
        descriptor: [u64; 2],
    },
    /// VMWRITE of every field of image number `image` of the session, in its order; stops at the first that fails.
    WriteImage {
        /// Index into the session's images.
        image: u16,
    },
    /// A little-endian store to memory by the program, outside of any instruction of VMX.
    Store {
        /// Physical address; the store lies within one page of [`crate::layout::ARENA`], or it is [`StepResult::NotRun`].
        address: u64,
        /// Width in bytes: 1, 2, 4 or 8.
        size: u8,
        /// Value; bits above the width are 0.
        value: u64,
    },
    /// After a VM entry that failed: the target itself runs the model over the current VMCS, by VMREAD, with the capabilities
    /// of its own processor. Answers [`StepResult::Value`] with the index of the first check that the entry violates, or
    /// [`NO_VIOLATION`].
    Diagnose {
        /// The entry was VMRESUME, not VMLAUNCH.
        resume: bool,
    },
    /// VMREAD of every field of a list of the session, so that what an entry has done to the VMCS can be seen. Answers
    /// [`StepResult::Fields`]; what VMREAD rejects, and everything where there is no current VMCS, is 0.
    ///
    /// It shows the effects of the entry before it. An entry that comes after it, such as one that fails because of the
    /// launch state, is there only to show more of these effects.
    Observe {
        /// Whether the session's state fields are read after its information fields.
        state: bool,
    },
    /// Executes the same VM entry many times, and measures each time how long the entry and the VM exit after it take, by
    /// the time-stamp counter. Answers [`StepResult::Timed`]; an exception in the first round is [`StepResult::Fault`].
    ///
    /// Nothing is measured but the instruction and, if control leaves it, the way to the first instruction at HOST_RIP, for
    /// which the probe's exit path stands in. Between two rounds, and not measured, a VMLAUNCH that has entered is followed
    /// by VMCLEAR and VMPTRLD of its VMCS. What else an entry or its exit changes is not set again.
    Time {
        /// What is measured.
        what: Timed,
        /// How often; 0 executes it once and answers no sample.
        rounds: u16,
    },
}

/// What [`Op::Time`] measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timed {
    /// Nothing: what the measurement itself takes.
    Nothing = 0,
    /// VMLAUNCH.
    Vmlaunch = 1,
    /// VMRESUME.
    Vmresume = 2,
}

/// How every round of an [`Op::Time`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Nothing was executed.
    Nothing,
    /// VMfailInvalid.
    FailInvalid,
    /// VMfailValid, with the number of the VM-instruction error field.
    FailValid(u32),
    /// Control came back through the host-state area.
    Exit {
        /// The exit-reason field.
        reason: u32,
        /// The exit-qualification field.
        qualification: u64,
    },
}

/// What [`Op::Diagnose`] answers if no check is violated.
pub const NO_VIOLATION: u64 = u64::MAX;

/// The result of one step of a case program, as software observes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepResult<Fields> {
    /// VMsucceed, or a store that was made.
    Ok,
    /// VMsucceed, and the instruction produced this value.
    Value(u64),
    /// VMfailInvalid: CF was 1.
    FailInvalid,
    /// VMfailValid: ZF was 1; the number is that of the VM-instruction error field, read after the instruction.
    FailValid(u32),
    /// The instruction raised an exception.
    Fault {
        /// Exception vector.
        vector: u8,
        /// Error code, for the vectors that push one.
        error_code: Option<u32>,
    },
    /// Control came back through the host-state area: a VM exit, or a VM-entry failure with bit 31 of `reason` set.
    Exit {
        /// The whole exit-reason field (encoding 4402H).
        reason: u32,
        /// The exit-qualification field (encoding 6400H).
        qualification: u64,
        /// The session's observed fields, in its order.
        fields: Fields,
    },
    /// [`Op::Time`] was executed.
    Timed {
        /// How every round ended.
        ending: Ending,
        /// The differences of the time-stamp counter, one for each round, at most 2^32 - 1. A round that ends otherwise
        /// than the first ends the measurement and has none, so that there are fewer of them than rounds.
        samples: Fields,
    },
    /// The step was not executed: it would have overwritten the probe (a region or store outside of the arena), named an
    /// image that the session lacks, or came after such a step, which ends the case.
    NotRun,
    /// VMREAD of lists of fields: their values, in the order of the lists.
    Fields(Fields),
}

impl<Fields> StepResult<Fields> {
    /// The same result with `convert` applied to the values of fields in it.
    pub fn map_fields<T>(self, convert: impl FnOnce(Fields) -> T) -> StepResult<T> {
        match self {
            Self::Ok => StepResult::Ok,
            Self::Value(value) => StepResult::Value(value),
            Self::FailInvalid => StepResult::FailInvalid,
            Self::FailValid(number) => StepResult::FailValid(number),
            Self::Fault { vector, error_code } => StepResult::Fault { vector, error_code },
            Self::Exit { reason, qualification, fields } => {
                StepResult::Exit { reason, qualification, fields: convert(fields) }
            }
            Self::Timed { ending, samples } => StepResult::Timed { ending, samples: convert(samples) },
            Self::NotRun => StepResult::NotRun,
            Self::Fields(fields) => StepResult::Fields(convert(fields)),
        }
    }
}
