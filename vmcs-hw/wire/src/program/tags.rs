//! The first bytes of operations and of step results.

/// Tag bytes of operations.
pub(super) mod tag {
    pub(in super::super) const VMXON: u8 = 1;
    pub(in super::super) const VMXOFF: u8 = 2;
    pub(in super::super) const VMCLEAR: u8 = 3;
    pub(in super::super) const VMPTRLD: u8 = 4;
    pub(in super::super) const VMPTRST: u8 = 5;
    pub(in super::super) const VMREAD: u8 = 6;
    pub(in super::super) const VMWRITE: u8 = 7;
    pub(in super::super) const VMWRITE_SHORT: u8 = 8;
    pub(in super::super) const VMLAUNCH: u8 = 9;
    pub(in super::super) const VMRESUME: u8 = 10;
    pub(in super::super) const VMCALL: u8 = 11;
    pub(in super::super) const VMFUNC: u8 = 12;
    pub(in super::super) const INVEPT: u8 = 13;
    pub(in super::super) const INVVPID: u8 = 14;
    pub(in super::super) const WRITE_IMAGE: u8 = 15;
    pub(in super::super) const STORE: u8 = 16;
    pub(in super::super) const DIAGNOSE: u8 = 17;
    pub(in super::super) const TIME: u8 = 18;
    pub(in super::super) const OBSERVE: u8 = 19;
}

/// Tag bytes of step results.
pub(super) mod answer {
    pub(in super::super) const OK: u8 = 0;
    pub(in super::super) const VALUE: u8 = 1;
    pub(in super::super) const FAIL_INVALID: u8 = 2;
    pub(in super::super) const FAIL_VALID: u8 = 3;
    pub(in super::super) const FAULT: u8 = 4;
    pub(in super::super) const FAULT_WITH_CODE: u8 = 5;
    pub(in super::super) const EXIT: u8 = 6;
    pub(in super::super) const NOT_RUN: u8 = 7;
    pub(in super::super) const TIMED: u8 = 8;
    pub(in super::super) const FIELDS: u8 = 9;
}
