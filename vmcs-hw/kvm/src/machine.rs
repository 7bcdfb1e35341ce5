//! One virtual machine: its start, the exchange of batches and answers with it, and its end.
// UNSAFETY: memory is given to a virtual machine.
#![allow(unsafe_code, reason = "memory is given to a virtual machine")]

use std::io;

use kvm_bindings::{CpuId, Msrs, kvm_msr_entry, kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use vmcs_driver::Stop;
use vmcs_wire::batch::{AnswerHeader, Task};
use vmcs_wire::codec::{Reader, Writer};
use vmcs_wire::layout::{ANSWER_BUFFER, BATCH_BUFFER, BOOT_MAILBOX, MEMORY_END, PROBE, SESSION_BUFFER};
use vmcs_wire::mailbox::{DOORBELL, RING_ANSWER, RING_NEXT, SessionHeader};

use crate::watch::StepWatch;
use crate::{KvmError, Payload};

/// Where KVM puts three pages of its own, for processors without unrestricted guest: far above the memory.
const TSS_PAGES: usize = 0xFFFB_D000;
const IA32_FEATURE_CONTROL: u32 = 0x3A;
/// Lock, and VMX outside SMX.
const VMX_ENABLED: u64 = 5;
/// The probe writes messages to this port.
const CONSOLE: u16 = 0xE9;
/// The probe writes to this port to end the machine.
const POWER: u16 = 0x8900;
/// What the probe's messages start with when it gives up.
const PANIC: &str = "vmcs-probe: panic: ";

/// Where the processor stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MachineEvent {
    /// The probe wants a batch.
    WantsBatch,
    /// The probe has handed in an answer.
    Answered,
    /// The machine is beyond repair.
    Stopped(Stop),
}

/// A virtual machine whose processor executes the probe.
pub(crate) struct VirtualMachine {
    // Order of drops: the processor and the machine go before the memory that they use.
    vcpu: VcpuFd,
    _vm: VmFd,
    memory: GuestMemoryMmap,
    console: String,
}

impl VirtualMachine {
    /// A machine that is about to start at the probe's entry, with a session.
    pub(crate) fn new(
        kvm: &Kvm,
        cpuid: &CpuId,
        payload: &Payload,
        task: Task,
        session: &[u8],
    ) -> Result<Self, KvmError> {
        let vm = kvm.create_vm().map_err(KvmError::request("creating a virtual machine"))?;
        vm.set_tss_address(TSS_PAGES).map_err(KvmError::request("placing the TSS"))?;
        let memory = memory(payload, task, session)?;
        let host = memory.get_host_address(GuestAddress(0)).map_err(KvmError::memory)?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: MEMORY_END,
            userspace_addr: host as u64,
        };
        // SAFETY: `memory` maps MEMORY_END bytes at `host`, no other slot overlaps, and the mapping outlives the machine: it
        // lies behind it in the struct.
        unsafe { vm.set_user_memory_region(region) }.map_err(KvmError::request("giving it memory"))?;
        let vcpu = vm.create_vcpu(0).map_err(KvmError::request("creating a virtual processor"))?;
        vcpu.set_cpuid2(cpuid).map_err(KvmError::request("setting CPUID"))?;
        let enable = kvm_msr_entry { index: IA32_FEATURE_CONTROL, data: VMX_ENABLED, ..Default::default() };
        let enable = Msrs::from_entries(&[enable]).expect("one entry is not too many");
        if vcpu.set_msrs(&enable).map_err(KvmError::request("setting IA32_FEATURE_CONTROL"))? != 1 {
            return Err(KvmError::Request {
                action: "setting IA32_FEATURE_CONTROL",
                source: io::Error::from(io::ErrorKind::Unsupported),
            });
        }
        enter_protected_mode(&vcpu, payload.entry)?;
        Ok(Self { vcpu, _vm: vm, memory, console: String::new() })
    }

    /// Runs the processor until something is to be done. An answer that grows counts as progress.
    pub(crate) fn run(&mut self, watch: &mut StepWatch) -> MachineEvent {
        let mut answered = 0;
        loop {
            match self.vcpu.run() {
                Ok(VcpuExit::IoOut(DOORBELL, data)) if data.len() == 4 => {
                    match u32::from_le_bytes([data[0], data[1], data[2], data[3]]) {
                        RING_NEXT => return MachineEvent::WantsBatch,
                        RING_ANSWER => return MachineEvent::Answered,
                        _ => {}
                    }
                }
                Ok(VcpuExit::IoOut(CONSOLE, data)) => self.console.push_str(&String::from_utf8_lossy(data)),
                Ok(VcpuExit::IoOut(POWER, _)) => return crashed(self.last_words()),
                Ok(VcpuExit::IoOut(..) | VcpuExit::MmioWrite(..)) => {}
                // Nothing is there.
                Ok(VcpuExit::IoIn(_, data) | VcpuExit::MmioRead(_, data)) => data.fill(0xFF),
                // Nobody would wake it.
                Ok(VcpuExit::Hlt) => return MachineEvent::Stopped(Stop::Hung),
                Ok(VcpuExit::Shutdown) => {
                    return crashed("KVM_EXIT_SHUTDOWN: a triple fault or a VMX abort".to_owned());
                }
                Ok(VcpuExit::InternalError) => return crashed("KVM_EXIT_INTERNAL_ERROR".to_owned()),
                Ok(VcpuExit::FailEntry(reason, _)) => {
                    return crashed(format!("KVM_EXIT_FAIL_ENTRY: KVM's own VM entry failed, reason {reason:#x}"));
                }
                Ok(other) => return crashed(format!("KVM_RUN ended in {other:?}")),
                Err(error) if matches!(error.errno(), EINTR | EAGAIN) => {
                    let bytes = self.answer_header().map_or(0, |header| header.bytes);
                    if bytes != answered {
                        answered = bytes;
                        watch.progressed();
                    }
                    if watch.is_over() {
                        return MachineEvent::Stopped(Stop::Hung);
                    }
                }
                Err(error) => return crashed(format!("KVM_RUN failed: {}", io::Error::from(error))),
            }
        }
    }

    /// Puts a batch where the probe reads it. Past its end lies whatever was there.
    pub(crate) fn give(&self, batch: &[u8]) -> Result<(), KvmError> {
        // The last answer is dealt with; what is read there from now on belongs to this batch.
        self.memory
            .write_slice(&[0; AnswerHeader::BYTES], GuestAddress(ANSWER_BUFFER))
            .and_then(|()| self.memory.write_slice(batch, GuestAddress(BATCH_BUFFER)))
            .map_err(KvmError::memory)
    }

    /// The answer as far as it goes; `None` if there is none to batch number `number`.
    pub(crate) fn answer(&self, number: u32) -> Option<Vec<u8>> {
        let header = self.answer_header().filter(|header| header.number == number)?;
        let bytes = usize::try_from(header.bytes).ok().filter(|bytes| *bytes <= vmcs_wire::batch::MAX_ANSWER_BYTES)?;
        let mut content = vec![0; bytes];
        let place = GuestAddress(ANSWER_BUFFER).unchecked_add(AnswerHeader::BYTES as u64);
        self.memory.read_slice(&mut content, place).ok()?;
        Some(content)
    }

    fn answer_header(&self) -> Option<AnswerHeader> {
        let mut header = [0; AnswerHeader::BYTES];
        self.memory.read_slice(&mut header, GuestAddress(ANSWER_BUFFER)).ok()?;
        AnswerHeader::decode(&mut Reader::new(&header)).ok()
    }

    /// Why the probe gave up, or its last line.
    fn last_words(&self) -> String {
        let line = match self.console.split_once(PANIC) {
            Some((_, reason)) => reason.lines().next(),
            None => self.console.lines().last(),
        };
        format!("the probe gave up: {}", line.unwrap_or("without a word"))
    }
}

const EINTR: i32 = nix::errno::Errno::EINTR as i32;
const EAGAIN: i32 = nix::errno::Errno::EAGAIN as i32;

fn crashed(detail: String) -> MachineEvent {
    MachineEvent::Stopped(Stop::Crashed(detail))
}

/// Memory with the probe, the task and the session in it.
fn memory(payload: &Payload, task: Task, session: &[u8]) -> Result<GuestMemoryMmap, KvmError> {
    let size = usize::try_from(MEMORY_END).expect("32 MiB");
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), size)]).map_err(KvmError::memory)?;
    let mut header = [0; SessionHeader::BYTES];
    let length = u32::try_from(session.len()).map_err(KvmError::memory)?;
    SessionHeader { task, session: length }.encode(&mut Writer::new(&mut header)).expect("the array has its size");
    memory
        .write_slice(&payload.bytes, GuestAddress(PROBE))
        .and_then(|()| memory.write_slice(&header, GuestAddress(SESSION_BUFFER)))
        .and_then(|()| memory.write_slice(session, GuestAddress(SESSION_BUFFER + SessionHeader::BYTES as u64)))
        .map_err(KvmError::memory)?;
    Ok(memory)
}

/// Flat 32-bit protected mode, paging off, at the probe's entry.
fn enter_protected_mode(vcpu: &VcpuFd, entry: u64) -> Result<(), KvmError> {
    let mut sregs = vcpu.get_sregs().map_err(KvmError::request("reading system registers"))?;
    let flat = |type_, selector| kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        dpl: 0,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    let data = flat(3, 0x10);
    (sregs.cs, sregs.ds, sregs.es, sregs.ss, sregs.fs, sregs.gs) = (flat(11, 8), data, data, data, data, data);
    // ET and PE.
    sregs.cr0 = 0x11;
    vcpu.set_sregs(&sregs).map_err(KvmError::request("setting system registers"))?;
    let regs = kvm_regs { rip: entry, rax: BOOT_MAILBOX.into(), rflags: 2, ..Default::default() };
    vcpu.set_regs(&regs).map_err(KvmError::request("setting registers"))
}
