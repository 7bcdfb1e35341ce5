//! A repair is judged before it is shown, touches what the rule is about, keeps the mode, and reads no memory.

use std::cell::RefCell;

use vmcs_golden::{Sparse, corpus, profiles};
use vmcs_model::checks::CheckId;
use vmcs_model::explain::Repair;
use vmcs_model::field;
use vmcs_model::memory::UnknownMemory;
use vmcs_model::{Capabilities, CpuState, EntryAttempt, ReadMemory, Vmcs, baseline};

fn plain() -> (Capabilities, Vmcs) {
    let capabilities = Capabilities::new(&profiles::full());
    let vmcs = baseline::plain_64bit(&capabilities);
    (capabilities, vmcs)
}

fn repair_of(id: &str, capabilities: &Capabilities, vmcs: &Vmcs, memory: &impl ReadMemory) -> Option<Repair> {
    let check = CheckId::by_id(id).unwrap_or_else(|| panic!("no check {id}"));
    let cpu = CpuState::host_64();
    let entry = EntryAttempt::vmlaunch(&cpu, capabilities).on(vmcs, memory);
    assert!(entry.violations().contains(check), "{id} is not violated");
    entry.explain(check).repair()
}

/// For every golden line: after the repair the check holds, and nothing is violated that was not before.
#[test]
fn every_repair_repairs_and_breaks_nothing() {
    let (mut violations, mut repaired) = (0, 0);
    for line in corpus::lines() {
        let capabilities = Capabilities::new(&profiles::by_name(line.scene.profile()));
        let stage = line.scene.on(&capabilities);
        let attempt = stage.attempt(&capabilities);
        let entry = attempt.on(&stage.vmcs, &stage.memory);
        let before = entry.verdict();
        for check in before.violated.iter() {
            violations += 1;
            let Some(Repair { field, old, new }) = entry.explain(check).repair() else { continue };
            repaired += 1;
            assert_eq!(old, stage.vmcs.raw(field), "{}", line.place);
            assert!(check.info().fields.contains(&field), "{}: {check} is not about {}", line.place, field.info().name);
            let mut after = stage.vmcs.clone();
            after.set_raw(field, new);
            // The repair does not know what the new value points to.
            let after = attempt.on(&after, &UnknownMemory).verdict();
            assert!(!after.violated.contains(check) && !after.undecidable.contains(check), "{}: {check}", line.place);
            for broken in after.violated.iter() {
                let known = before.violated.contains(broken) || before.undecidable.contains(broken);
                assert!(known, "{}: to repair {check} breaks {broken}", line.place);
            }
        }
    }
    println!("{repaired} of {violations} violations have a repair");
    assert!(repaired * 10 > violations * 8, "{repaired} of {violations} violations have a repair");
}

#[test]
fn a_segment_is_repaired_where_it_is_wrong() {
    let (capabilities, mut vmcs) = plain();
    // DS is read/write data that was not accessed.
    vmcs.set_raw(field::GUEST_DS_ACCESS_RIGHTS.id(), 0xC092);
    let repair = repair_of("guest.seg.data.accessed", &capabilities, &vmcs, &Sparse::default()).expect("a repair");
    assert_eq!(repair, Repair { field: field::GUEST_DS_ACCESS_RIGHTS.id(), old: 0xC092, new: 0xC093 });

    // CS has DPL 3, and SS, unusable, DPL 0.
    let (capabilities, mut vmcs) = plain();
    vmcs.set_raw(field::GUEST_SS_ACCESS_RIGHTS.id(), 0x1_0000);
    vmcs.set_raw(field::GUEST_CS_ACCESS_RIGHTS.id(), 0xA0FB);
    let repair =
        repair_of("guest.seg.cs.dpl-nonconforming", &capabilities, &vmcs, &Sparse::default()).expect("a repair");
    assert_eq!(repair, Repair { field: field::GUEST_CS_ACCESS_RIGHTS.id(), old: 0xA0FB, new: 0xA09B });

    // TR is an available TSS.
    let (capabilities, mut vmcs) = plain();
    vmcs.set_raw(field::GUEST_TR_ACCESS_RIGHTS.id(), 0x89);
    let repair = repair_of("guest.seg.tr.type-ia32e", &capabilities, &vmcs, &Sparse::default()).expect("a repair");
    assert_eq!(repair, Repair { field: field::GUEST_TR_ACCESS_RIGHTS.id(), old: 0x89, new: 0x8B });
}

/// Where only a change of mode helps, that is the repair.
#[test]
fn a_mode_is_changed_where_nothing_else_helps() {
    let (capabilities, mut vmcs) = plain();
    let cr0 = vmcs.raw(field::GUEST_CR0.id());
    vmcs.set_raw(field::GUEST_CR0.id(), cr0 & !(1 << 31));
    let repair = repair_of("guest.ia32e.pg", &capabilities, &vmcs, &Sparse::default()).expect("a repair");
    assert_eq!(repair, Repair { field: field::GUEST_CR0.id(), old: cr0 & !(1 << 31), new: cr0 });
}

/// Memory that notes where it is read.
struct Noted(RefCell<Vec<u64>>);

impl ReadMemory for Noted {
    fn read_u32(&self, address: u64) -> Option<u32> {
        self.0.borrow_mut().push(address);
        Some(0)
    }
}

/// A link pointer of 1234H and an MSR-load area at an odd address make the checks fail without a look at memory; so do they
/// explain it.
#[test]
fn explaining_reads_no_memory() {
    let (capabilities, mut vmcs) = plain();
    vmcs.set(field::VMCS_LINK_POINTER, 0x1234);
    vmcs.set(field::VM_ENTRY_MSR_LOAD_ADDRESS, 0x5_0001);
    vmcs.set(field::VM_ENTRY_MSR_LOAD_COUNT, 1);
    let memory = Noted(RefCell::default());
    let cpu = CpuState::host_64();
    let entry = EntryAttempt::vmlaunch(&cpu, &capabilities).on(&vmcs, &memory);
    let verdict = entry.verdict();
    let violated: Vec<_> = verdict.violated.iter().map(|check| check.info().id).collect();
    assert_eq!(violated, ["ctl.entry-msr-load.align", "guest.link.align"]);
    for check in CheckId::all() {
        let _ = entry.explain(check).to_string();
    }
    assert_eq!(*memory.0.borrow(), [0; 0]);
    let link = entry.explain(CheckId::by_id("guest.link.align").expect("it exists")).repair().expect("a repair");
    assert_eq!((link.field, link.new), (field::VMCS_LINK_POINTER.id(), u64::MAX));
}

/// Where the VMCS points to memory, that is read where it points to, aligned, and nowhere else.
#[test]
fn judging_reads_only_where_the_vmcs_points_to() {
    let (capabilities, mut vmcs) = plain();
    vmcs.set(field::VMCS_LINK_POINTER, 0x5000);
    vmcs.set(field::VM_ENTRY_MSR_LOAD_ADDRESS, 0x6010);
    vmcs.set(field::VM_ENTRY_MSR_LOAD_COUNT, 2);
    let memory = Noted(RefCell::default());
    let cpu = CpuState::host_64();
    let entry = EntryAttempt::vmlaunch(&cpu, &capabilities).on(&vmcs, &memory);
    let _ = entry.verdict();
    CheckId::all().for_each(|check| drop(entry.explain(check).to_string()));
    for address in memory.0.borrow().iter() {
        assert!(address % 4 == 0 && (*address == 0x5000 || (0x6010..0x6030).contains(address)), "{address:#x}");
    }
}
