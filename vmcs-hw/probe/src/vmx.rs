//! The VMX instructions, RDMSR and CPUID: one function each. CF and ZF are read in the asm block that executes the
//! instruction, and an exception in it is a result (see the table `.fixups`).
// UNSAFETY: every instruction here is privileged.
#![allow(unsafe_code, reason = "privileged instructions")]

use core::arch::asm;

use vmcs_wire::session::{ENTRY_BYTES, OBSERVED_BYTES};
use vmcs_wire::{StepResult, Timed};

use crate::memory::Region;
use crate::tables::last_fault;

/// Encoding of the VM-instruction error field.
const VM_INSTRUCTION_ERROR: u64 = vmcs_model::field::VM_INSTRUCTION_ERROR.encoding().0 as u64;

/// How an instruction ended; without the number of a VMfailValid, which takes another VMREAD.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flags {
    Succeed,
    FailInvalid,
    FailValid,
    Fault,
}

/// The value of CF's register when an exception kept SETC from being executed.
const FAULTED: u8 = 2;

impl Flags {
    fn new(cf: u8, zf: u8) -> Self {
        match (cf, zf) {
            (FAULTED, _) => Self::Fault,
            (0, 0) => Self::Succeed,
            (0, _) => Self::FailValid,
            _ => Self::FailInvalid,
        }
    }

    /// The result of the instruction that has just ended this way.
    pub(crate) fn result(self) -> StepResult<()> {
        match self {
            Self::Succeed => StepResult::Ok,
            Self::FailInvalid => StepResult::FailInvalid,
            // VMREAD yields 64 bits; the field has 32.
            Self::FailValid => StepResult::FailValid(vmread(VM_INSTRUCTION_ERROR).1 as u32),
            Self::Fault => {
                let (vector, error_code) = last_fault();
                StepResult::Fault { vector, error_code }
            }
        }
    }
}

/// `execute!("instruction", operands…)`: the instruction, its flags, its entry in the fixup table.
macro_rules! execute {
    ($instruction:literal $(, $($operands:tt)*)?) => {{
        let (cf, zf): (u8, u8);
        asm!(
            concat!("2: ", $instruction),
            "setc {cf}",
            "setz {zf}",
            "3:",
            ".pushsection .fixups, \"a\"",
            ".quad 2b, 3b",
            ".popsection",
            cf = inout(reg_byte) FAULTED => cf,
            zf = inout(reg_byte) 0u8 => zf,
            $($($operands)*)?
        );
        Flags::new(cf, zf)
    }};
}

/// VMXON.
pub(crate) fn vmxon(region: Region) -> Flags {
    let address = region.address();
    // SAFETY: the operand is a local; by its type, the region holds no Rust object, so the processor may write to it;
    // faults are caught. VMXON changes no state that Rust code depends on (SDM 31.3, VMXON).
    unsafe { execute!("vmxon qword ptr [{operand}]", operand = in(reg) &raw const address) }
}

/// VMXOFF.
pub(crate) fn vmxoff() -> Flags {
    // SAFETY: leaves VMX operation, in which no guest runs; faults are caught.
    unsafe { execute!("vmxoff") }
}

/// VMCLEAR.
pub(crate) fn vmclear(region: Region) -> Flags {
    let address = region.address();
    // SAFETY: as for `vmxon`.
    unsafe { execute!("vmclear qword ptr [{operand}]", operand = in(reg) &raw const address) }
}

/// VMPTRLD.
pub(crate) fn vmptrld(region: Region) -> Flags {
    let address = region.address();
    // SAFETY: as for `vmxon`.
    unsafe { execute!("vmptrld qword ptr [{operand}]", operand = in(reg) &raw const address) }
}

/// VMPTRST, and the pointer it stored.
pub(crate) fn vmptrst() -> (Flags, u64) {
    let mut pointer = 0u64;
    // SAFETY: writes eight bytes to a local; faults are caught.
    let flags = unsafe { execute!("vmptrst qword ptr [{operand}]", operand = in(reg) &raw mut pointer) };
    (flags, pointer)
}

/// The current VMCS, if there is one.
pub(crate) fn current() -> Option<Region> {
    let (flags, pointer) = vmptrst();
    // Only VMPTRLD makes a VMCS current, and takes no other regions than these.
    if flags == Flags::Succeed && pointer != u64::MAX { Region::of_case(pointer) } else { None }
}

/// VMREAD, and the value, which is 0 when it failed.
pub(crate) fn vmread(encoding: u64) -> (Flags, u64) {
    let mut value = 0u64;
    // SAFETY: reads a field into a register; faults are caught.
    let flags = unsafe {
        execute!("vmread {value}, {encoding}", value = inout(reg) value, encoding = in(reg) encoding,
            options(nomem, nostack))
    };
    (flags, value)
}

/// The value of a field; 0 where VMREAD fails. As few instructions as possible: emulators take long for each, and some fields
/// are read around every entry.
#[inline(always)]
pub(crate) fn value(encoding: u64) -> u64 {
    let value;
    // SAFETY: as for `vmread`.
    unsafe {
        asm!(
            "xor {value:e}, {value:e}",
            "2: vmread {value}, {encoding}",
            "3:",
            ".pushsection .fixups, \"a\"",
            ".quad 2b, 3b",
            ".popsection",
            value = out(reg) value,
            encoding = in(reg) encoding,
            options(nomem, nostack),
        );
    }
    value
}

/// VMWRITE.
pub(crate) fn vmwrite(encoding: u64, value: u64) -> Flags {
    // SAFETY: writes to the current VMCS, which a VMPTRLD has made current: by the type of that operand it holds no Rust
    // object; faults are caught. What the field says comes into force with a VM entry only.
    unsafe {
        execute!("vmwrite {encoding}, {value}", value = in(reg) value, encoding = in(reg) encoding, options(nostack))
    }
}

/// Entries that one round of [`vmwrite_all`] writes.
const ROUND: usize = 8;

/// VMWRITE of each entry (encoding, value), until one fails. The loop is in assembly and unrolled for the sake of
/// emulators, on which its instructions are what a case costs.
pub(crate) fn vmwrite_all(entries: &[[u8; ENTRY_BYTES]]) -> Flags {
    let (rounds, rest) = entries.as_chunks::<ROUND>();
    match vmwrite_rounds(rounds) {
        Flags::Succeed => vmwrite_rounds(rest.as_chunks::<1>().0),
        failed => failed,
    }
}

fn vmwrite_rounds<const N: usize>(rounds: &[[[u8; ENTRY_BYTES]; N]]) -> Flags {
    if rounds.is_empty() {
        return Flags::Succeed;
    }
    let (cf, zf): (u8, u8);
    // SAFETY: as for `vmwrite`; the loop reads exactly the `len` rounds of N entries of 16 bytes, of which there is at
    // least one.
    unsafe {
        asm!(
            "2:",
            ".set entry, 0",
            ".rept {n}",
            "mov {encoding}, [{at} + entry]",
            "22: vmwrite {encoding}, [{at} + entry + 8]",
            "jbe 23f",
            ".pushsection .fixups, \"a\"",
            ".quad 22b, 24f",
            ".popsection",
            ".set entry, entry + {size}",
            ".endr",
            "add {at}, {n} * {size}",
            "dec {left}",
            "jnz 2b",
            "xor {cf}, {cf}",
            "jmp 24f",
            "23: setc {cf}",
            "setz {zf}",
            "24:",
            n = const N,
            size = const ENTRY_BYTES,
            encoding = out(reg) _,
            at = inout(reg) rounds.as_ptr() => _,
            left = inout(reg) rounds.len() => _,
            cf = inout(reg_byte) FAULTED => cf,
            zf = inout(reg_byte) 0u8 => zf,
            options(nostack),
        );
    }
    Flags::new(cf, zf)
}

/// VMREAD of each encoding into `values`, 0 for those that fail.
///
/// # Panics
/// When the lengths differ.
pub(crate) fn vmread_all(encodings: &[[u8; OBSERVED_BYTES]], values: &mut [u8]) {
    assert!(values.len() == 8 * encodings.len());
    if encodings.is_empty() {
        return;
    }
    // SAFETY: the loop reads exactly the `len` encodings of 8 bytes, of which there is at least one, and writes as many
    // bytes to `values`, which has them; faults are caught.
    unsafe {
        asm!(
            "2: mov {encoding}, [{from}]",
            "22: vmread [{to}], {encoding}",
            "jbe 24f",
            "23: add {from}, 8",
            "add {to}, 8",
            "dec {left}",
            "jnz 2b",
            "jmp 25f",
            "24: mov qword ptr [{to}], 0",
            "jmp 23b",
            "25:",
            ".pushsection .fixups, \"a\"",
            ".quad 22b, 24b",
            ".popsection",
            encoding = out(reg) _,
            from = inout(reg) encodings.as_ptr() => _,
            to = inout(reg) values.as_mut_ptr() => _,
            left = inout(reg) encodings.len() => _,
            options(nostack),
        );
    }
}

/// VMCALL outside of a guest.
pub(crate) fn vmcall() -> Flags {
    // SAFETY: in VMX root operation it fails unless a dual-monitor treatment is armed, which the probe never does.
    unsafe { execute!("vmcall") }
}

/// VMFUNC outside of a guest.
pub(crate) fn vmfunc(eax: u32, ecx: u32) -> Flags {
    // SAFETY: raises #UD outside of VMX non-root operation.
    unsafe { execute!("vmfunc", in("eax") eax, in("ecx") ecx) }
}

/// INVEPT.
pub(crate) fn invept(kind: u64, descriptor: [u64; 2]) -> Flags {
    // SAFETY: reads 16 bytes of a local and invalidates cached mappings only.
    unsafe {
        execute!("invept {kind}, xmmword ptr [{operand}]", kind = in(reg) kind, operand = in(reg) descriptor.as_ptr())
    }
}

/// INVVPID.
pub(crate) fn invvpid(kind: u64, descriptor: [u64; 2]) -> Flags {
    // SAFETY: as for `invept`.
    unsafe {
        execute!("invvpid {kind}, xmmword ptr [{operand}]", kind = in(reg) kind, operand = in(reg) descriptor.as_ptr())
    }
}

/// How VMLAUNCH or VMRESUME ended.
pub(crate) enum Entered {
    /// Without an exit.
    Here(Flags),
    /// Through the host-state area.
    ThroughHostState,
}

impl Entered {
    /// From what the assembly returns.
    fn new(flags: u32) -> Self {
        match flags {
            8 => Self::ThroughHostState,
            4 => Self::Here(Flags::Fault),
            _ => Self::Here(Flags::new(flags as u8 & 1, flags as u8 >> 1 & 1)),
        }
    }
}

/// VMLAUNCH, or VMRESUME if `resume`.
///
/// # Safety
/// If there is a current VMCS, its HOST_RIP is [`vmcs_wire::layout::HOST_RIP`] or one that raises a page fault; with the
/// host's CR3, CR4 and segments the processor finds the exit path there or in the IDT. Neither the guest nor what the
/// processor does for it writes to memory of the probe.
pub(crate) unsafe fn enter(resume: bool, after_mov_ss: bool) -> Entered {
    unsafe extern "C" {
        fn vmx_enter(kind: u32) -> u32;
    }
    // SAFETY: by the caller's contract control comes back to vmx_enter, which keeps the C ABI on each of its ways out: it saves
    // the callee-saved registers and restores them from its own stack, and the exit path reloads every piece of state
    // that Rust code depends on and a VM exit replaces.
    let flags = unsafe { vmx_enter(u32::from(resume) | u32::from(after_mov_ss) << 1) };
    Entered::new(flags)
}

/// As [`enter`], with the cycles that passed until control was back: `None` if an exception brought it back.
///
/// The end of a VM exit is seen by the code at [`timed_host_rip`] only.
///
/// # Safety
/// As for [`enter`]; HOST_RIP may be [`timed_host_rip`], too.
pub(crate) unsafe fn enter_timed(what: Timed) -> (Entered, Option<u64>) {
    unsafe extern "C" {
        fn vmx_timed(what: u32, stamps: *mut [u64; 2]) -> u32;
    }
    let mut stamps = [0; 2];
    // SAFETY: as for vmx_enter, whose frame, fixups and way back through the exit path vmx_timed shares; it writes 16 bytes
    // to a local.
    let flags = unsafe { vmx_timed(what as u32, &raw mut stamps) };
    let [before, behind] = stamps;
    (Entered::new(flags), (behind != 0).then(|| behind.wrapping_sub(before)))
}

/// The exit path of an entry that is measured.
pub(crate) fn timed_host_rip() -> u64 {
    unsafe extern "C" {
        static host_rip_timed: u8;
    }
    &raw const host_rip_timed as u64
}

/// WRMSR; whether it raised no exception.
///
/// # Safety
/// With that value in the MSR, code goes on as before: it is none that translates addresses or finds code for the probe, or
/// the value is the one that it had.
pub(crate) unsafe fn wrmsr(msr: u32, value: u64) -> bool {
    // SAFETY: the caller's contract; faults are caught.
    let flags = unsafe { execute!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32) };
    // As for RDMSR.
    flags != Flags::Fault
}

/// GUEST_RIP and GUEST_RSP of the guest between cases ([`crate::rest`]).
pub(crate) fn guest_at_rest() -> (u64, u64) {
    unsafe extern "C" {
        static guest_rest: u8;
        static guest_rest_stack: u8;
    }
    (&raw const guest_rest as u64, &raw const guest_rest_stack as u64)
}

/// RDMSR; `None` when it raised an exception.
pub(crate) fn rdmsr(msr: u32) -> Option<u64> {
    let (low, high): (u32, u32);
    // SAFETY: reading an MSR has no effect on memory; faults are caught.
    let flags = unsafe { execute!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nomem, nostack)) };
    // RDMSR leaves CF and ZF as they were: only the exception counts.
    (flags != Flags::Fault).then_some(u64::from(high) << 32 | u64::from(low))
}
