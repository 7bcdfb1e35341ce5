//! Checks on the segment and descriptor-table registers of the host-state area.

use super::{Failure, checks};
use crate::field;

checks! {
    /// Checks on host segment and descriptor-table registers.
    pub enum HostSegmentCheck, ControlsAndHost, sdm "27.2.3" "Checks on Host Segment and Descriptor-Table Registers", fails Failure::valid(8), |c|
    when true, "" => {
        /// Bits 2:0, RPL and TI, of the selectors of CS, SS, DS, ES, FS, GS and TR are 0.
        SelectorRplTi "host.sel.rpl-ti"
            [HOST_ES_SELECTOR, HOST_CS_SELECTOR, HOST_SS_SELECTOR, HOST_DS_SELECTOR, HOST_FS_SELECTOR, HOST_GS_SELECTOR, HOST_TR_SELECTOR] =>
            (c.get(field::HOST_ES_SELECTOR).into_bits()
                | c.get(field::HOST_CS_SELECTOR).into_bits()
                | c.get(field::HOST_SS_SELECTOR).into_bits()
                | c.get(field::HOST_DS_SELECTOR).into_bits()
                | c.get(field::HOST_FS_SELECTOR).into_bits()
                | c.get(field::HOST_GS_SELECTOR).into_bits()
                | c.get(field::HOST_TR_SELECTOR).into_bits()) & 7 == 0;
        /// The selector of CS is not 0000H.
        CsNonzero "host.sel.cs-nonzero" [HOST_CS_SELECTOR] => c.get(field::HOST_CS_SELECTOR).into_bits() != 0;
        /// The selector of TR is not 0000H.
        TrNonzero "host.sel.tr-nonzero" [HOST_TR_SELECTOR] => c.get(field::HOST_TR_SELECTOR).into_bits() != 0;
    }
    when !c.host_64(), "“host address-space size” is 0" => {
        /// The selector of SS is not 0000H.
        SsNonzero "host.sel.ss-nonzero-32" [HOST_SS_SELECTOR, PRIMARY_VM_EXIT_CONTROLS] =>
            c.get(field::HOST_SS_SELECTOR).into_bits() != 0;
    }
    when true, "" => {
        /// The bases of FS, GS and TR are canonical, on processors with Intel 64 for a 32-bit host too.
        SegmentBases "host.base.fs-gs-tr.canonical" [HOST_FS_BASE, HOST_GS_BASE, HOST_TR_BASE] =>
            c.all_canonical([c.look_at(field::HOST_FS_BASE), c.look_at(field::HOST_GS_BASE), c.look_at(field::HOST_TR_BASE)]);
        /// The bases of GDTR and IDTR are canonical.
        TableBases "host.base.gdtr-idtr.canonical" [HOST_GDTR_BASE, HOST_IDTR_BASE] =>
            c.all_canonical([c.look_at(field::HOST_GDTR_BASE), c.look_at(field::HOST_IDTR_BASE)]);
    }
}
