//! The segment registers as a table of the VMCS fields that belong to each, so that entries and exits treat all eight
//! in one loop.

use vmcs_model::Field;
use vmcs_model::field::{
    GUEST_CS_ACCESS_RIGHTS, GUEST_CS_BASE, GUEST_CS_LIMIT, GUEST_CS_SELECTOR, GUEST_DS_ACCESS_RIGHTS, GUEST_DS_BASE,
    GUEST_DS_LIMIT, GUEST_DS_SELECTOR, GUEST_ES_ACCESS_RIGHTS, GUEST_ES_BASE, GUEST_ES_LIMIT, GUEST_ES_SELECTOR,
    GUEST_FS_ACCESS_RIGHTS, GUEST_FS_BASE, GUEST_FS_LIMIT, GUEST_FS_SELECTOR, GUEST_GS_ACCESS_RIGHTS, GUEST_GS_BASE,
    GUEST_GS_LIMIT, GUEST_GS_SELECTOR, GUEST_LDTR_ACCESS_RIGHTS, GUEST_LDTR_BASE, GUEST_LDTR_LIMIT,
    GUEST_LDTR_SELECTOR, GUEST_SS_ACCESS_RIGHTS, GUEST_SS_BASE, GUEST_SS_LIMIT, GUEST_SS_SELECTOR,
    GUEST_TR_ACCESS_RIGHTS, GUEST_TR_BASE, GUEST_TR_LIMIT, GUEST_TR_SELECTOR, HOST_CS_SELECTOR, HOST_DS_SELECTOR,
    HOST_ES_SELECTOR, HOST_FS_BASE, HOST_FS_SELECTOR, HOST_GS_BASE, HOST_GS_SELECTOR, HOST_SS_SELECTOR, HOST_TR_BASE,
    HOST_TR_SELECTOR,
};
use vmcs_model::formats::{AccessRights, Selector};

/// A segment register, and its fields in the guest-state and host-state areas. The host-state area has no selector of
/// LDTR, and a base only of FS, GS and TR.
pub(crate) struct SegmentFields {
    pub(crate) name: SegmentName,
    pub(crate) selector: Field<Selector>,
    pub(crate) base: Field<u64>,
    pub(crate) limit: Field<u32>,
    pub(crate) access_rights: Field<AccessRights>,
    pub(crate) host_selector: Option<Field<Selector>>,
    pub(crate) host_base: Option<Field<u64>>,
}

/// The names of the segment registers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentName {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
    Ldtr,
    Tr,
}

macro_rules! segments {
    ($($name:ident: $selector:ident $base:ident $limit:ident $access_rights:ident, $host_selector:expr, $host_base:expr;)+) => {
        [$(SegmentFields {
            name: SegmentName::$name,
            selector: $selector,
            base: $base,
            limit: $limit,
            access_rights: $access_rights,
            host_selector: $host_selector,
            host_base: $host_base,
        }),+]
    };
}

/// The segment registers in the order of SDM Appendix B, Field Encoding in VMCS.
pub(crate) static SEGMENTS: [SegmentFields; 8] = segments! {
    Es: GUEST_ES_SELECTOR GUEST_ES_BASE GUEST_ES_LIMIT GUEST_ES_ACCESS_RIGHTS, Some(HOST_ES_SELECTOR), None;
    Cs: GUEST_CS_SELECTOR GUEST_CS_BASE GUEST_CS_LIMIT GUEST_CS_ACCESS_RIGHTS, Some(HOST_CS_SELECTOR), None;
    Ss: GUEST_SS_SELECTOR GUEST_SS_BASE GUEST_SS_LIMIT GUEST_SS_ACCESS_RIGHTS, Some(HOST_SS_SELECTOR), None;
    Ds: GUEST_DS_SELECTOR GUEST_DS_BASE GUEST_DS_LIMIT GUEST_DS_ACCESS_RIGHTS, Some(HOST_DS_SELECTOR), None;
    Fs: GUEST_FS_SELECTOR GUEST_FS_BASE GUEST_FS_LIMIT GUEST_FS_ACCESS_RIGHTS, Some(HOST_FS_SELECTOR), Some(HOST_FS_BASE);
    Gs: GUEST_GS_SELECTOR GUEST_GS_BASE GUEST_GS_LIMIT GUEST_GS_ACCESS_RIGHTS, Some(HOST_GS_SELECTOR), Some(HOST_GS_BASE);
    Ldtr: GUEST_LDTR_SELECTOR GUEST_LDTR_BASE GUEST_LDTR_LIMIT GUEST_LDTR_ACCESS_RIGHTS, None, None;
    Tr: GUEST_TR_SELECTOR GUEST_TR_BASE GUEST_TR_LIMIT GUEST_TR_ACCESS_RIGHTS, Some(HOST_TR_SELECTOR), Some(HOST_TR_BASE);
};
