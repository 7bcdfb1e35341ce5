//! Checks on the segment registers of the guest-state area.

use super::{Failure, checks};
use crate::context::EntryContext;
use crate::controls::Secondary;
use crate::field::{self, Field};
use crate::formats::{AccessRights, Interruptibility, Selector};
use crate::memory::ReadMemory;
use crate::profile::CpuidLeaf;
use crate::registers::{Cr0, Cr4, Rflags};
use crate::vmcs::ReadFields;

checks! {
    /// Checks on guest segment registers. A register is usable if bit 16 of its access rights is 0; most checks on the
    /// rights of CS are made regardless.
    pub enum GuestSegmentCheck, GuestState, sdm "27.3.1.2" "Checks on Guest Segment Registers", fails Failure::guest_state(0), |c|
    unless usual(c),
    when true, "" => {
        /// TI (bit 2) of the TR selector is 0.
        TrTi "guest.seg.tr.ti" [GUEST_TR_SELECTOR] => !c.get(field::GUEST_TR_SELECTOR).ti();
        /// TI (bit 2) of the LDTR selector is 0 if LDTR is usable.
        LdtrTi "guest.seg.ldtr.ti" [GUEST_LDTR_SELECTOR, GUEST_LDTR_ACCESS_RIGHTS] =>
            c.get(field::GUEST_LDTR_ACCESS_RIGHTS).unusable() || !c.get(field::GUEST_LDTR_SELECTOR).ti();
    }
    when !virtual_8086(c) && !unrestricted(c), "the guest will not be virtual-8086 and “unrestricted guest” is 0" => {
        /// RPL of the SS selector equals RPL of the CS selector, SS usable or not.
        SsRpl "guest.seg.ss.rpl-eq-cs" [GUEST_SS_SELECTOR, GUEST_CS_SELECTOR, GUEST_RFLAGS, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            c.get(field::GUEST_SS_SELECTOR).rpl() == c.get(field::GUEST_CS_SELECTOR).rpl();
    }
    when virtual_8086(c), "the guest will be virtual-8086" => {
        /// The base of each of CS, SS, DS, ES, FS and GS is its selector shifted left by 4.
        V86Base "guest.seg.v86.base"
            [GUEST_ES_SELECTOR, GUEST_CS_SELECTOR, GUEST_SS_SELECTOR, GUEST_DS_SELECTOR, GUEST_FS_SELECTOR, GUEST_GS_SELECTOR,
             GUEST_ES_BASE, GUEST_CS_BASE, GUEST_SS_BASE, GUEST_DS_BASE, GUEST_FS_BASE, GUEST_GS_BASE, GUEST_RFLAGS] =>
            SEGMENTS.iter().all(|s| c.get(s.base) == u64::from(c.get(s.selector).into_bits()) << 4);
        /// The limit of each of CS, SS, DS, ES, FS and GS is 0000FFFFH.
        V86Limit "guest.seg.v86.limit"
            [GUEST_ES_LIMIT, GUEST_CS_LIMIT, GUEST_SS_LIMIT, GUEST_DS_LIMIT, GUEST_FS_LIMIT, GUEST_GS_LIMIT, GUEST_RFLAGS] =>
            SEGMENTS.iter().all(|s| c.get(s.limit) == 0xFFFF);
        /// The access rights of each of CS, SS, DS, ES, FS and GS are 000000F3H.
        V86Rights "guest.seg.v86.ar"
            [GUEST_ES_ACCESS_RIGHTS, GUEST_CS_ACCESS_RIGHTS, GUEST_SS_ACCESS_RIGHTS, GUEST_DS_ACCESS_RIGHTS, GUEST_FS_ACCESS_RIGHTS, GUEST_GS_ACCESS_RIGHTS, GUEST_RFLAGS] =>
            SEGMENTS.iter().all(|s| c.get(s.rights).into_bits() == 0xF3);
    }
    when true, "" => {
        /// The base of TR is canonical.
        TrBase "guest.seg.tr.base-canonical" [GUEST_TR_BASE] => c.canonical(c.get(field::GUEST_TR_BASE));
        /// The bases of FS and GS are canonical, the registers usable or not.
        FsGsBase "guest.seg.fs-gs.base-canonical" [GUEST_FS_BASE, GUEST_GS_BASE] =>
            c.all_canonical([c.look_at(field::GUEST_FS_BASE), c.look_at(field::GUEST_GS_BASE)]);
        /// The base of LDTR is canonical if LDTR is usable.
        LdtrBase "guest.seg.ldtr.base-canonical" [GUEST_LDTR_BASE, GUEST_LDTR_ACCESS_RIGHTS] =>
            c.get(field::GUEST_LDTR_ACCESS_RIGHTS).unusable() || c.canonical(c.get(field::GUEST_LDTR_BASE));
    }
    when c.cpuid(CpuidLeaf::ExtendedFeatures).intel_64(), "the processor supports Intel 64" => {
        /// Bits 63:32 of the base of CS are 0.
        CsBase "guest.seg.cs.base-high" [GUEST_CS_BASE] => c.get(field::GUEST_CS_BASE) >> 32 == 0;
        /// Bits 63:32 of the bases of SS, DS and ES are 0 where the register is usable.
        SsDsEsBase "guest.seg.ss-ds-es.base-high"
            [GUEST_SS_BASE, GUEST_DS_BASE, GUEST_ES_BASE, GUEST_SS_ACCESS_RIGHTS, GUEST_DS_ACCESS_RIGHTS, GUEST_ES_ACCESS_RIGHTS] =>
            (c.get(field::GUEST_SS_BASE) >> 32 == 0 || c.get(field::GUEST_SS_ACCESS_RIGHTS).unusable())
                && (c.get(field::GUEST_DS_BASE) >> 32 == 0 || c.get(field::GUEST_DS_ACCESS_RIGHTS).unusable())
                && (c.get(field::GUEST_ES_BASE) >> 32 == 0 || c.get(field::GUEST_ES_ACCESS_RIGHTS).unusable());
    }
    when !virtual_8086(c), "the guest will not be virtual-8086" => {
        /// The type of CS is 9, 11, 13 or 15 (accessed code), or 3 if “unrestricted guest” is 1.
        CsType "guest.seg.cs.type" [GUEST_CS_ACCESS_RIGHTS, GUEST_RFLAGS, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            cs(c).kind() & 9 == 9 || (cs(c).kind() == 3 && unrestricted(c));
        /// The type of SS is 3 or 7 (accessed, writable data) if SS is usable.
        SsType "guest.seg.ss.type" [GUEST_SS_ACCESS_RIGHTS, GUEST_RFLAGS] => ss(c).unusable() || ss(c).kind() & 0b1011 == 3;
        /// Bit 0 of the type of DS, ES, FS and GS (accessed) is 1 where the register is usable.
        DataAccessed "guest.seg.data.accessed" [GUEST_DS_ACCESS_RIGHTS, GUEST_ES_ACCESS_RIGHTS, GUEST_FS_ACCESS_RIGHTS, GUEST_GS_ACCESS_RIGHTS, GUEST_RFLAGS] =>
            data_rights(c).fold_and() & ACCESSED != 0;
        /// DS, ES, FS and GS, where usable, are readable (bit 1 of the type) if they hold code (bit 3).
        DataReadable "guest.seg.data.code-readable" [GUEST_DS_ACCESS_RIGHTS, GUEST_ES_ACCESS_RIGHTS, GUEST_FS_ACCESS_RIGHTS, GUEST_GS_ACCESS_RIGHTS, GUEST_RFLAGS] =>
            data_rights(c).0.iter().all(|rights| usable_only(*rights) & (CODE | READABLE) != CODE);
        /// S of CS is 1.
        CsS "guest.seg.cs.s" [GUEST_CS_ACCESS_RIGHTS, GUEST_RFLAGS] => cs(c).code_or_data();
        /// S of SS, DS, ES, FS and GS is 1 where the register is usable.
        OtherS "guest.seg.nonCS.s" [GUEST_SS_ACCESS_RIGHTS, GUEST_DS_ACCESS_RIGHTS, GUEST_ES_ACCESS_RIGHTS, GUEST_FS_ACCESS_RIGHTS, GUEST_GS_ACCESS_RIGHTS, GUEST_RFLAGS] =>
            data_rights(c).fold_and() & or_ones(ss(c)) & CODE_OR_DATA != 0;
        /// DPL of CS is 0 if its type is 3.
        CsDplType3 "guest.seg.cs.dpl-type3" [GUEST_CS_ACCESS_RIGHTS, GUEST_RFLAGS] => cs(c).kind() != 3 || cs(c).dpl() == 0;
        /// DPL of CS equals DPL of SS if the type of CS is 9 or 11 (non-conforming), SS usable or not.
        CsDplNonconforming "guest.seg.cs.dpl-nonconforming" [GUEST_CS_ACCESS_RIGHTS, GUEST_SS_ACCESS_RIGHTS, GUEST_RFLAGS] =>
            !matches!(cs(c).kind(), 9 | 11) || cs(c).dpl() == ss(c).dpl();
        /// DPL of CS does not exceed DPL of SS if the type of CS is 13 or 15 (conforming), SS usable or not.
        CsDplConforming "guest.seg.cs.dpl-conforming" [GUEST_CS_ACCESS_RIGHTS, GUEST_SS_ACCESS_RIGHTS, GUEST_RFLAGS] =>
            !matches!(cs(c).kind(), 13 | 15) || cs(c).dpl() <= ss(c).dpl();
        /// DPL of SS equals RPL of the SS selector if “unrestricted guest” is 0, SS usable or not.
        SsDplRpl "guest.seg.ss.dpl-eq-rpl" [GUEST_SS_ACCESS_RIGHTS, GUEST_SS_SELECTOR, GUEST_RFLAGS, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            ss(c).dpl() == c.get(field::GUEST_SS_SELECTOR).rpl() || unrestricted(c);
        /// DPL of SS is 0 if the type of CS is 3 or CR0.PE is 0.
        SsDplZero "guest.seg.ss.dpl-zero" [GUEST_SS_ACCESS_RIGHTS, GUEST_CS_ACCESS_RIGHTS, GUEST_CR0, GUEST_RFLAGS] =>
            ss(c).dpl() == 0 || (cs(c).kind() != 3 && c.get(field::GUEST_CR0).contains(Cr0::PE));
    }
    when !virtual_8086(c) && c.get(field::GUEST_CR4).contains(Cr4::FRED), "the guest will not be virtual-8086 and CR4.FRED is 1" => {
        /// DPL of SS is 0 or 3.
        FredDpl "guest.seg.ss.fred-dpl" [GUEST_SS_ACCESS_RIGHTS, GUEST_CR4, GUEST_RFLAGS] => matches!(ss(c).dpl(), 0 | 3);
        /// L of CS is 1 if DPL of SS is 0.
        FredDpl0 "guest.seg.ss.fred-dpl0-csl" [GUEST_SS_ACCESS_RIGHTS, GUEST_CS_ACCESS_RIGHTS, GUEST_CR4, GUEST_RFLAGS] => ss(c).dpl() != 0 || cs(c).long();
        /// RFLAGS.IOPL is 0 if DPL of SS is 3.
        FredDpl3Iopl "guest.seg.ss.fred-dpl3-iopl" [GUEST_SS_ACCESS_RIGHTS, GUEST_RFLAGS, GUEST_CR4] =>
            ss(c).dpl() != 3 || c.get(field::GUEST_RFLAGS).iopl() == 0;
        /// There is no blocking by STI if DPL of SS is 3.
        FredDpl3Sti "guest.seg.ss.fred-dpl3-sti" [GUEST_SS_ACCESS_RIGHTS, GUEST_INTERRUPTIBILITY_STATE, GUEST_CR4, GUEST_RFLAGS] =>
            ss(c).dpl() != 3 || !c.get(field::GUEST_INTERRUPTIBILITY_STATE).contains(Interruptibility::STI);
    }
    when !virtual_8086(c) && !unrestricted(c), "the guest will not be virtual-8086 and “unrestricted guest” is 0" => {
        /// DPL of DS, ES, FS and GS is not below RPL of the selector where the register is usable and its type is 0-11: data
        /// or non-conforming code.
        DataDpl "guest.seg.data.dpl-ge-rpl"
            [GUEST_DS_ACCESS_RIGHTS, GUEST_ES_ACCESS_RIGHTS, GUEST_FS_ACCESS_RIGHTS, GUEST_GS_ACCESS_RIGHTS, GUEST_DS_SELECTOR, GUEST_ES_SELECTOR,
             GUEST_FS_SELECTOR, GUEST_GS_SELECTOR, GUEST_RFLAGS, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS] =>
            data_dpl_valid(c, &DS) && data_dpl_valid(c, &ES) && data_dpl_valid(c, &FS) && data_dpl_valid(c, &GS);
    }
    when !virtual_8086(c), "the guest will not be virtual-8086" => {
        /// P of CS is 1.
        CsP "guest.seg.cs.p" [GUEST_CS_ACCESS_RIGHTS, GUEST_RFLAGS] => cs(c).present();
        /// P of SS, DS, ES, FS and GS is 1 where the register is usable.
        OtherP "guest.seg.nonCS.p" [GUEST_SS_ACCESS_RIGHTS, GUEST_DS_ACCESS_RIGHTS, GUEST_ES_ACCESS_RIGHTS, GUEST_FS_ACCESS_RIGHTS, GUEST_GS_ACCESS_RIGHTS, GUEST_RFLAGS] =>
            data_rights(c).fold_and() & or_ones(ss(c)) & PRESENT != 0;
        /// Bits 11:8 of the access rights of CS, and of SS, DS, ES, FS and GS where usable, are 0. Some processors drop them
        /// on VMWRITE.
        Reserved11To8 "guest.seg.reserved-11-8"
            [GUEST_CS_ACCESS_RIGHTS, GUEST_SS_ACCESS_RIGHTS, GUEST_DS_ACCESS_RIGHTS, GUEST_ES_ACCESS_RIGHTS, GUEST_FS_ACCESS_RIGHTS, GUEST_GS_ACCESS_RIGHTS, GUEST_RFLAGS] =>
            rights_in_use(c) & RESERVED_11_8 == 0;
        /// D/B of CS is 0 if “IA-32e mode guest” and L of CS are 1.
        CsDbL "guest.seg.cs.db-with-l" [GUEST_CS_ACCESS_RIGHTS, GUEST_RFLAGS, VM_ENTRY_CONTROLS] =>
            !c.ia32e_guest() || !cs(c).long() || !cs(c).default_big();
        /// G is 0 if any of bits 11:0 of the limit is 0: CS, and SS, DS, ES, FS and GS where usable.
        LimitLow "guest.seg.g-limit-low"
            [GUEST_CS_LIMIT, GUEST_SS_LIMIT, GUEST_DS_LIMIT, GUEST_ES_LIMIT, GUEST_FS_LIMIT, GUEST_GS_LIMIT,
             GUEST_CS_ACCESS_RIGHTS, GUEST_SS_ACCESS_RIGHTS, GUEST_DS_ACCESS_RIGHTS, GUEST_ES_ACCESS_RIGHTS, GUEST_FS_ACCESS_RIGHTS, GUEST_GS_ACCESS_RIGHTS, GUEST_RFLAGS] =>
            low_limit_bad(cs(c), c.get(field::GUEST_CS_LIMIT)) == 0
                && OTHERS.iter().all(|s| low_limit_bad(c.get(s.rights), c.get(s.limit)) & usable_mask(c.get(s.rights)) == 0);
        /// G is 1 if any of bits 31:20 of the limit is 1: CS, and SS, DS, ES, FS and GS where usable.
        LimitHigh "guest.seg.g-limit-high"
            [GUEST_CS_LIMIT, GUEST_SS_LIMIT, GUEST_DS_LIMIT, GUEST_ES_LIMIT, GUEST_FS_LIMIT, GUEST_GS_LIMIT,
             GUEST_CS_ACCESS_RIGHTS, GUEST_SS_ACCESS_RIGHTS, GUEST_DS_ACCESS_RIGHTS, GUEST_ES_ACCESS_RIGHTS, GUEST_FS_ACCESS_RIGHTS, GUEST_GS_ACCESS_RIGHTS, GUEST_RFLAGS] =>
            high_limit_bad(cs(c), c.get(field::GUEST_CS_LIMIT)) == 0
                && OTHERS.iter().all(|s| high_limit_bad(c.get(s.rights), c.get(s.limit)) & usable_mask(c.get(s.rights)) == 0);
        /// Bits 31:17 of the access rights of CS, and of SS, DS, ES, FS and GS where usable, are 0. Some processors drop them
        /// on VMWRITE.
        Reserved31To17 "guest.seg.reserved-31-17"
            [GUEST_CS_ACCESS_RIGHTS, GUEST_SS_ACCESS_RIGHTS, GUEST_DS_ACCESS_RIGHTS, GUEST_ES_ACCESS_RIGHTS, GUEST_FS_ACCESS_RIGHTS, GUEST_GS_ACCESS_RIGHTS, GUEST_RFLAGS] =>
            rights_in_use(c) & RESERVED_31_17 == 0;
    }
    when c.ia32e_guest(), "“IA-32e mode guest” is 1" => {
        /// The type of TR is 11, 64-bit busy TSS.
        TrType64 "guest.seg.tr.type-ia32e" [GUEST_TR_ACCESS_RIGHTS, VM_ENTRY_CONTROLS] => tr(c).kind() == 11;
    }
    when !c.ia32e_guest(), "“IA-32e mode guest” is 0" => {
        /// The type of TR is 3, 16-bit busy TSS, or 11, 32-bit busy TSS.
        TrTypeLegacy "guest.seg.tr.type-legacy" [GUEST_TR_ACCESS_RIGHTS, VM_ENTRY_CONTROLS] => matches!(tr(c).kind(), 3 | 11);
    }
    when true, "" => {
        /// S of TR is 0.
        TrS "guest.seg.tr.s" [GUEST_TR_ACCESS_RIGHTS] => !tr(c).code_or_data();
        /// P of TR is 1.
        TrP "guest.seg.tr.p" [GUEST_TR_ACCESS_RIGHTS] => tr(c).present();
        /// Bits 11:8 of the access rights of TR are 0. Some processors drop them on VMWRITE.
        TrReserved11To8 "guest.seg.tr.reserved-11-8" [GUEST_TR_ACCESS_RIGHTS] => tr(c).reserved_11_8() == 0;
        /// G of TR is 0 if any of bits 11:0 of its limit is 0.
        TrLimitLow "guest.seg.tr.g-limit-low" [GUEST_TR_LIMIT, GUEST_TR_ACCESS_RIGHTS] => low_limit_bad(tr(c), c.get(field::GUEST_TR_LIMIT)) == 0;
        /// G of TR is 1 if any of bits 31:20 of its limit is 1.
        TrLimitHigh "guest.seg.tr.g-limit-high" [GUEST_TR_LIMIT, GUEST_TR_ACCESS_RIGHTS] => high_limit_bad(tr(c), c.get(field::GUEST_TR_LIMIT)) == 0;
        /// TR is usable: bit 16 of its access rights is 0.
        TrUsable "guest.seg.tr.usable" [GUEST_TR_ACCESS_RIGHTS] => !tr(c).unusable();
        /// Bits 31:17 of the access rights of TR are 0. Some processors drop them on VMWRITE.
        TrReserved31To17 "guest.seg.tr.reserved-31-17" [GUEST_TR_ACCESS_RIGHTS] => tr(c).reserved_31_17() == 0;
    }
    when !ldtr(c).unusable(), "LDTR is usable" => {
        /// The type of LDTR is 2, LDT.
        LdtrType "guest.seg.ldtr.type" [GUEST_LDTR_ACCESS_RIGHTS] => ldtr(c).kind() == 2;
        /// S of LDTR is 0.
        LdtrS "guest.seg.ldtr.s" [GUEST_LDTR_ACCESS_RIGHTS] => !ldtr(c).code_or_data();
        /// P of LDTR is 1.
        LdtrP "guest.seg.ldtr.p" [GUEST_LDTR_ACCESS_RIGHTS] => ldtr(c).present();
        /// Bits 11:8 of the access rights of LDTR are 0. Some processors drop them on VMWRITE.
        LdtrReserved11To8 "guest.seg.ldtr.reserved-11-8" [GUEST_LDTR_ACCESS_RIGHTS] => ldtr(c).reserved_11_8() == 0;
        /// G of LDTR is 0 if any of bits 11:0 of its limit is 0.
        LdtrLimitLow "guest.seg.ldtr.g-limit-low" [GUEST_LDTR_LIMIT, GUEST_LDTR_ACCESS_RIGHTS] =>
            low_limit_bad(ldtr(c), c.get(field::GUEST_LDTR_LIMIT)) == 0;
        /// G of LDTR is 1 if any of bits 31:20 of its limit is 1.
        LdtrLimitHigh "guest.seg.ldtr.g-limit-high" [GUEST_LDTR_LIMIT, GUEST_LDTR_ACCESS_RIGHTS] =>
            high_limit_bad(ldtr(c), c.get(field::GUEST_LDTR_LIMIT)) == 0;
        /// Bits 31:17 of the access rights of LDTR are 0. Some processors drop them on VMWRITE.
        LdtrReserved31To17 "guest.seg.ldtr.reserved-31-17" [GUEST_LDTR_ACCESS_RIGHTS] => ldtr(c).reserved_31_17() == 0;
    }
}

/// Whether the segment registers are those of an ordinary guest: protected mode without FRED, code in CS, writable data in
/// SS, DS, ES, FS and GS or the register not usable, all of them flat, a small busy TSS in TR, LDTR not usable,
/// and privilege level 0 where levels count.
///
/// With it the plain 64-bit image takes 649 instructions, without it 923, and the bench's `valid` image 1087 and 1354: callgrind
/// with a loop as in `benches/examples/count.rs`, rustc 1.95, x86-64, for a Sapphire Rapids.
#[inline(always)]
fn usual<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    const LONG: u32 = 1 << 13;
    const BIG: u32 = 1 << 14;
    let (cs, ss) = (cs(c), ss(c));
    let high = |segment: Segment| c.get(segment.base) >> 32;
    let task = (tr(c).into_bits() ^ BUSY_TASK) & !ANY | c.get(field::GUEST_TR_LIMIT) >> 20;
    // Four of the registers lie side by side and come first, so that the compiler looks at them at once.
    let not_flat = data(c, &SS) | data(c, &DS) | data(c, &FS) | data(c, &GS) | data(c, &ES);
    not_flat | differs(c, &CS, FLAT_CODE, ANY | CONFORMING | READABLE) | task == 0
        && high(CS) | high(SS) | high(DS) | high(ES) == 0
        && ldtr(c).unusable()
        && c.all_canonical([
            c.look_at(field::GUEST_TR_BASE),
            c.look_at(field::GUEST_FS_BASE),
            c.look_at(field::GUEST_GS_BASE),
        ])
        && cs.dpl() == ss.dpl()
        && cs.into_bits() & (LONG | BIG) != LONG | BIG
        && !c.get(field::GUEST_TR_SELECTOR).ti()
        && c.get(field::GUEST_CR0).contains(Cr0::PE)
        && !c.get(field::GUEST_CR4).contains(Cr4::FRED)
        && !virtual_8086(c)
        && (unrestricted(c) || kernel(c))
}

/// The bits of access rights in which an ordinary register may have any value: AVL, L, D/B and DPL.
const ANY: u32 = 7 << 12 | 3 << 5;
const FLAT_CODE: u32 = GRANULAR | PRESENT | CODE_OR_DATA | CODE | ACCESSED;
const FLAT_DATA: u32 = GRANULAR | PRESENT | CODE_OR_DATA | WRITABLE | ACCESSED;
const BUSY_TASK: u32 = PRESENT | 11;

/// The bits in which a register differs from a flat one with the given access rights; bits in `ignored` do not count.
#[inline(always)]
fn differs<R: ReadFields, M: ReadMemory>(
    c: &EntryContext<'_, R, M>,
    segment: &Segment,
    rights: u32,
    ignored: u32,
) -> u32 {
    (c.get(segment.rights).into_bits() ^ rights) & !ignored | !c.get(segment.limit)
}

/// The bits in which a usable register differs from a flat one that holds writable data.
#[inline(always)]
fn data<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>, segment: &Segment) -> u32 {
    differs(c, segment, FLAT_DATA, ANY | UNUSABLE | EXPANDS_DOWN) & usable_mask(c.get(segment.rights))
}

/// Whether the privilege levels agree, as they have to unless “unrestricted guest” is 1, because all of them are 0.
#[inline(always)]
fn kernel<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    let rpl = SEGMENTS.iter().fold(0, |any, segment| any | c.get(segment.selector).into_bits()) & 3;
    u16::from(ss(c).dpl()) | rpl == 0
}

/// The fields of one segment register.
struct Segment {
    selector: Field<Selector>,
    base: Field<u64>,
    limit: Field<u32>,
    rights: Field<AccessRights>,
}

const ES: Segment = Segment {
    selector: field::GUEST_ES_SELECTOR,
    base: field::GUEST_ES_BASE,
    limit: field::GUEST_ES_LIMIT,
    rights: field::GUEST_ES_ACCESS_RIGHTS,
};
const CS: Segment = Segment {
    selector: field::GUEST_CS_SELECTOR,
    base: field::GUEST_CS_BASE,
    limit: field::GUEST_CS_LIMIT,
    rights: field::GUEST_CS_ACCESS_RIGHTS,
};
const SS: Segment = Segment {
    selector: field::GUEST_SS_SELECTOR,
    base: field::GUEST_SS_BASE,
    limit: field::GUEST_SS_LIMIT,
    rights: field::GUEST_SS_ACCESS_RIGHTS,
};
const DS: Segment = Segment {
    selector: field::GUEST_DS_SELECTOR,
    base: field::GUEST_DS_BASE,
    limit: field::GUEST_DS_LIMIT,
    rights: field::GUEST_DS_ACCESS_RIGHTS,
};
const FS: Segment = Segment {
    selector: field::GUEST_FS_SELECTOR,
    base: field::GUEST_FS_BASE,
    limit: field::GUEST_FS_LIMIT,
    rights: field::GUEST_FS_ACCESS_RIGHTS,
};
const GS: Segment = Segment {
    selector: field::GUEST_GS_SELECTOR,
    base: field::GUEST_GS_BASE,
    limit: field::GUEST_GS_LIMIT,
    rights: field::GUEST_GS_ACCESS_RIGHTS,
};
const SEGMENTS: [Segment; 6] = [ES, CS, SS, DS, FS, GS];
const OTHERS: [Segment; 5] = [SS, DS, ES, FS, GS];

// Masks of access rights.
const ACCESSED: u32 = 1 << 0;
const READABLE: u32 = 1 << 1;
const WRITABLE: u32 = 1 << 1;
const CONFORMING: u32 = 1 << 2;
const EXPANDS_DOWN: u32 = 1 << 2;
const CODE: u32 = 1 << 3;
const CODE_OR_DATA: u32 = 1 << 4;
const PRESENT: u32 = 1 << 7;
const GRANULAR: u32 = 1 << 15;
const UNUSABLE: u32 = 1 << 16;
const RESERVED_11_8: u32 = 0xF00;
const RESERVED_31_17: u32 = 0xFFFE_0000;

#[inline]
fn virtual_8086<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    c.get(field::GUEST_RFLAGS).contains(Rflags::VM)
}

#[inline]
fn unrestricted<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> bool {
    c.guest_secondary().contains(Secondary::UNRESTRICTED_GUEST)
}

#[inline]
fn cs<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> AccessRights {
    c.get(field::GUEST_CS_ACCESS_RIGHTS)
}

#[inline]
fn ss<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> AccessRights {
    c.get(field::GUEST_SS_ACCESS_RIGHTS)
}

#[inline]
fn tr<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> AccessRights {
    c.get(field::GUEST_TR_ACCESS_RIGHTS)
}

#[inline]
fn ldtr<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> AccessRights {
    c.get(field::GUEST_LDTR_ACCESS_RIGHTS)
}

/// All ones for a usable register, else 0.
#[inline]
const fn usable_mask(rights: AccessRights) -> u32 {
    (rights.into_bits() >> 16 & 1).wrapping_sub(1)
}

/// The rights of a usable register, else 0.
#[inline]
const fn usable_only(rights: AccessRights) -> u32 {
    rights.into_bits() & usable_mask(rights)
}

/// The rights of a usable register, else all ones.
#[inline]
const fn or_ones(rights: AccessRights) -> u32 {
    rights.into_bits() | !usable_mask(rights)
}

/// The rights of DS, ES, FS and GS.
struct DataRights([AccessRights; 4]);

impl DataRights {
    /// Bits that are 1 in every usable register.
    #[inline]
    fn fold_and(&self) -> u32 {
        self.0.iter().fold(u32::MAX, |all, rights| all & or_ones(*rights))
    }
}

#[inline]
fn data_rights<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> DataRights {
    DataRights([c.get(DS.rights), c.get(ES.rights), c.get(FS.rights), c.get(GS.rights)])
}

/// Bits that are 1 in the rights of CS or of a usable register.
#[inline]
fn rights_in_use<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>) -> u32 {
    OTHERS.iter().fold(cs(c).into_bits(), |any, segment| any | usable_only(c.get(segment.rights)))
}

#[inline]
fn data_dpl_valid<R: ReadFields, M: ReadMemory>(c: &EntryContext<'_, R, M>, segment: &Segment) -> bool {
    let rights = c.get(segment.rights);
    rights.unusable() || rights.kind() > 11 || rights.dpl() >= c.get(segment.selector).rpl()
}

/// Bits of the limit that are 0 although G is 1.
#[inline]
fn low_limit_bad(rights: AccessRights, limit: u32) -> u32 {
    if rights.granularity() { !limit & 0xFFF } else { 0 }
}

/// Bits of the limit that are 1 although G is 0.
#[inline]
fn high_limit_bad(rights: AccessRights, limit: u32) -> u32 {
    if rights.granularity() { 0 } else { limit & 0xFFF0_0000 }
}
