//! INVEPT and INVVPID.

use vmcs_emu::LogicalProcessor;
use vmcs_model::msr::CapabilityMsr;

use crate::rows::{INVALID, Row, SUCCEEDS, UD, check, done, valid, with};
use crate::support::{EPTP, guest, guest_with, profile_with, ready, ready_of, root};

fn without_secondary(bit: u32) -> LogicalProcessor {
    ready_of(&profile_with(CapabilityMsr::Procbased2, |value| value & !(1 << bit)))
}

fn without_ept_vpid(bit: u32) -> LogicalProcessor {
    ready_of(&profile_with(CapabilityMsr::EptVpidCap, |value| value & !(1 << bit)))
}

/// Outside 64-bit mode register operands have 32 bits.
fn ready_32() -> LogicalProcessor {
    with(ready, |cpu| {
        cpu.cpu_mut().efer = vmcs_model::registers::Efer::empty();
    })
}

#[test]
fn invept_rows() {
    let single = |cpu: &mut LogicalProcessor| done(cpu.invept(1, [EPTP, 0]));
    let rows: &[Row] = &[
        ("02 no EPT", || without_secondary(33), single, UD),
        ("02 no INVEPT", || without_ept_vpid(20), single, UD),
        ("03 guest", guest, single, crate::rows::exits(50)),
        ("05 type 0", ready, |cpu| done(cpu.invept(0, [EPTP, 0])), valid(28)),
        ("05 type 3", ready, |cpu| done(cpu.invept(3, [EPTP, 0])), valid(28)),
        ("05 type above 32 bits", ready, |cpu| done(cpu.invept(1 << 32 | 1, [EPTP, 0])), valid(28)),
        ("05 32-bit operand", ready_32, |cpu| done(cpu.invept(1 << 32 | 1, [EPTP, 0])), SUCCEEDS),
        ("05 type 1 unsupported", || without_ept_vpid(25), single, valid(28)),
        ("05 type 2 unsupported", || without_ept_vpid(26), |cpu| done(cpu.invept(2, [0, 0])), valid(28)),
        ("05 without a VMCS", root, |cpu| done(cpu.invept(0, [EPTP, 0])), INVALID),
        ("07 memory type", ready, |cpu| done(cpu.invept(1, [EPTP & !7 | 1, 0])), valid(28)),
        ("07 walk length", ready, |cpu| done(cpu.invept(1, [EPTP & !0x38, 0])), valid(28)),
        ("07 width", ready, |cpu| done(cpu.invept(1, [EPTP | 1 << 52, 0])), valid(28)),
        ("08 bits 127:64", ready, |cpu| done(cpu.invept(1, [EPTP, 1])), SUCCEEDS),
        ("09", ready, single, SUCCEEDS),
        ("10 any EPTP", ready, |cpu| done(cpu.invept(2, [u64::MAX, 0])), SUCCEEDS),
    ];
    check(rows);
}

#[test]
fn invvpid_rows() {
    const HIGH: u64 = 0xFFFF_8000_0000_0000;
    const NOT_CANONICAL: u64 = 1 << 60;
    let single = |cpu: &mut LogicalProcessor| done(cpu.invvpid(1, [1, 0]));
    let rows: &[Row] = &[
        ("02 no VPID", || without_secondary(37), single, UD),
        ("02 no INVVPID", || without_ept_vpid(32), single, UD),
        ("03 guest", || guest_with(|_| {}), single, crate::rows::exits(53)),
        ("05 type 4", ready, |cpu| done(cpu.invvpid(4, [1, 0])), valid(28)),
        ("05 type above 32 bits", ready, |cpu| done(cpu.invvpid(1 << 32 | 1, [1, 0])), valid(28)),
        ("05 32-bit operand", ready_32, |cpu| done(cpu.invvpid(1 << 32 | 1, [1, 0])), SUCCEEDS),
        ("05 type 0 unsupported", || without_ept_vpid(40), |cpu| done(cpu.invvpid(0, [1, 0])), valid(28)),
        ("05 type 1 unsupported", || without_ept_vpid(41), single, valid(28)),
        ("05 type 2 unsupported", || without_ept_vpid(42), |cpu| done(cpu.invvpid(2, [0, 0])), valid(28)),
        ("05 type 3 unsupported", || without_ept_vpid(43), |cpu| done(cpu.invvpid(3, [1, 0])), valid(28)),
        ("05 without a VMCS", root, |cpu| done(cpu.invvpid(4, [1, 0])), INVALID),
        ("07 type 0", ready, |cpu| done(cpu.invvpid(0, [1 << 16 | 1, 0])), valid(28)),
        ("07 type 2", ready, |cpu| done(cpu.invvpid(2, [1 << 63, 0])), valid(28)),
        ("08 type 0", ready, |cpu| done(cpu.invvpid(0, [0, 0])), valid(28)),
        ("08 type 1", ready, |cpu| done(cpu.invvpid(1, [0, 0])), valid(28)),
        ("08 type 3", ready, |cpu| done(cpu.invvpid(3, [0, 0])), valid(28)),
        ("09 not canonical", ready, |cpu| done(cpu.invvpid(0, [1, NOT_CANONICAL])), valid(28)),
        ("09 not looked at by type 1", ready, |cpu| done(cpu.invvpid(1, [1, NOT_CANONICAL])), SUCCEEDS),
        ("10", ready, |cpu| done(cpu.invvpid(0, [0xFFFF, HIGH])), SUCCEEDS),
        ("11", ready, single, SUCCEEDS),
        ("12 VPID 0", ready, |cpu| done(cpu.invvpid(2, [0, 0])), SUCCEEDS),
        ("13", ready, |cpu| done(cpu.invvpid(3, [1, 0])), SUCCEEDS),
    ];
    check(rows);
}
