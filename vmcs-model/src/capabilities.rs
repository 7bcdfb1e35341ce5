//! What a processor can do, derived once from its [`CpuProfile`]. SDM Vol. 3D, Appendix A.

mod facts;
mod reserved;

use crate::field::FieldInfo;
use crate::formats::Eptp;
use crate::msr::{CapabilityBit, CapabilityMsr, Source};
use crate::profile::{CpuProfile, CpuidLeaf, MsrValue, Quirks};
pub use facts::Facts;
pub use reserved::{Reserved, ReservedBits};

/// The settings of a control word that a processor allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Bits that must be 1 (0 is not allowed).
    pub ones: u64,
    /// Bits that must be 0 (1 is not allowed). In this form a look at a value is one instruction.
    pub zeros: u64,
}

impl Allowed {
    /// A 32-bit word: bits 31:0 of the MSR are the allowed-0, bits 63:32 the allowed-1 settings.
    const fn word(msr: u64) -> Self {
        Self { ones: msr & 0xFFFF_FFFF, zeros: !(msr >> 32) }
    }

    /// A word of allowed-1 settings only.
    const fn allowed_1(may: u64) -> Self {
        Self { ones: 0, zeros: !may }
    }

    /// Bits that may be 1.
    #[must_use]
    #[inline]
    pub const fn may(self) -> u64 {
        !self.zeros
    }

    /// Bits of `value` that are 0 and must be 1.
    #[must_use]
    pub const fn missing(self, value: u64) -> u64 {
        self.ones & !value
    }

    /// Bits of `value` that are 1 and must be 0.
    #[must_use]
    pub const fn forbidden(self, value: u64) -> u64 {
        value & self.zeros
    }

    /// Whether `value` is an allowed setting.
    #[must_use]
    #[inline]
    pub const fn allows(self, value: u64) -> bool {
        self.missing(value) | self.forbidden(value) == 0
    }

    /// The nearest setting to `value` that is allowed.
    #[must_use]
    pub const fn nearest(self, value: u64) -> u64 {
        (value | self.ones) & (self.may() | self.ones)
    }
}

/// The fixed bits of CR0 or CR4, from IA32_VMX_CR0_FIXED0/1 or IA32_VMX_CR4_FIXED0/1. SDM A.7, VMX-Fixed Bits in CR0, and
/// A.8, VMX-Fixed Bits in CR4.
pub type FixedBits = Allowed;

/// What a processor can do, in the form that the checks use.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// The allowed settings of the pin-based VM-execution controls. SDM A.3.1, Pin-Based VM-Execution Controls.
    pub pin: Allowed,
    /// The allowed settings of the primary processor-based VM-execution controls. SDM A.3.2, Primary Processor-Based
    /// VM-Execution Controls.
    pub primary: Allowed,
    /// The allowed settings of the secondary processor-based VM-execution controls. On a processor without this word no bit
    /// may be 1. SDM A.3.3, Secondary Processor-Based VM-Execution Controls.
    pub secondary: Allowed,
    /// The allowed settings of the tertiary processor-based VM-execution controls. On a processor without this word no bit
    /// may be 1. SDM A.3.4, Tertiary Processor-Based VM-Execution Controls.
    pub tertiary: Allowed,
    /// The allowed settings of the primary VM-exit controls. SDM A.4.1, Primary VM-Exit Controls.
    pub exit: Allowed,
    /// The allowed settings of the secondary VM-exit controls. On a processor without this word no bit may be 1. SDM A.4.2,
    /// Secondary VM-Exit Controls.
    pub secondary_exit: Allowed,
    /// The allowed settings of the VM-entry controls. SDM A.5, VM-Entry Controls.
    pub entry: Allowed,
    /// The allowed settings of the VM-function controls. On a processor without VM functions no bit may be 1. SDM A.11, VM
    /// Functions.
    pub vm_functions: Allowed,
    /// The fixed bits of CR0 in VMX operation. SDM A.7, VMX-Fixed Bits in CR0.
    pub cr0: FixedBits,
    /// The fixed bits of CR4 in VMX operation. SDM A.8, VMX-Fixed Bits in CR4.
    pub cr4: FixedBits,
    /// The value of IA32_VMX_BASIC, 0 if it is not known. SDM A.1, Basic VMX Information.
    pub basic: u64,
    /// The value of IA32_VMX_MISC, 0 if it is not known. SDM A.6, Miscellaneous Data.
    pub misc: u64,
    /// The value of IA32_VMX_EPT_VPID_CAP, 0 if it is not known. SDM A.10, VPID and EPT Capabilities.
    pub ept_vpid: u64,
    /// IA32_FEATURE_CONTROL.
    pub(crate) feature_control: u64,
    /// Bits that a physical address in the VMCS must not set: 63:MAXPHYADDR, reduced by TME, or 63:32 where
    /// IA32_VMX_BASIC\[48\] is 1. SDM 27.2.1, Checks on VMX Controls.
    pub address_reserved: u64,
    /// Bits that may belong to [`Self::address_reserved`] or not: that depends on facts that are not known.
    pub(crate) address_open: u64,
    /// Bits 63:MAXPHYADDR as enumerated by CPUID, TME notwithstanding. All processors have at most 52 bits.
    pub physical_reserved: u64,
    /// How many bits the widest linear address has: 48, or 57 with LA57; 32 without Intel 64. Where the profile does not
    /// say, it is the widest that is possible.
    pub linear_bits: u32,
    /// Linear addresses of [`Self::linear_bits`].
    linear: LinearAddresses,
    /// Linear addresses of the narrowest width that is possible. It is another one than [`Self::linear`] where the
    /// profile does not say which width the processor has.
    linear_narrowest: LinearAddresses,
    /// Bits that registers reserve.
    pub reserved: Reserved,
    /// CPUID leaves that gate single checks, all zero where unknown.
    cpuid: [[u32; 4]; CpuidLeaf::ALL.len()],
    /// The facts that the profile leaves out.
    pub unknown: Facts,
    /// Differences between processors that no capability bit reports.
    pub quirks: Quirks,
}

/// The linear addresses of one width.
#[derive(Clone, Copy, Debug)]
struct LinearAddresses {
    /// Half the number of linear addresses: 2 to the power of the width less 1.
    half: u64,
    /// Bits above a linear address; none without Intel 64.
    upper: u64,
}

impl LinearAddresses {
    const fn new(bits: u32, intel_64: bool) -> Self {
        Self { half: 1 << (bits - 1), upper: if intel_64 { u64::MAX << bits } else { 0 } }
    }
}

/// The fewest and the most bits that the physical addresses of a processor can have.
const PHYSICAL_BITS: (u32, u32) = (32, 52);
/// The most bits of a physical address that memory encryption can take for key identifiers.
const MOST_KEY_BITS: u32 = 15;

/// The physical-address width by leaf 80000008H. Without the leaf it is 36. SDM Vol. 3A, 4.1.4 (Enumeration of Paging
/// Features by CPUID).
const fn physical_bits(widths: u32) -> u32 {
    let (fewest, most) = PHYSICAL_BITS;
    match widths & 0xFF {
        0 => 36,
        bits if bits < fewest => fewest,
        bits if bits > most => most,
        bits => bits,
    }
}

impl Capabilities {
    /// Derives the capabilities. Facts that the profile does not hold count as absent and stand in [`Self::unknown`], so
    /// that a check which depends on them is undecidable.
    #[must_use]
    pub fn new(profile: &CpuProfile) -> Self {
        let mut unknown = Facts::default();
        let mut msr = |msr: CapabilityMsr| {
            profile.known_msr(msr).or_zero().unwrap_or_else(|| {
                unknown = unknown.and(Facts::msr(msr));
                0
            })
        };
        let basic = msr(CapabilityMsr::Basic);
        let true_controls = basic & 1 << 55 != 0;
        let mut word = |default: CapabilityMsr, precise: CapabilityMsr| {
            let allowed = msr(if true_controls { precise } else { default });
            // The processor allows in any case what the other MSR allows. SDM A.2, Reserved Controls and Default Settings.
            let narrower = profile.msr(default).or_zero().unwrap_or(0);
            let known = !true_controls || profile.msr(precise) != MsrValue::Unknown;
            Allowed::word(if known { allowed } else { narrower })
        };
        let pin = word(CapabilityMsr::Pinbased, CapabilityMsr::TruePinbased);
        let primary = word(CapabilityMsr::Procbased, CapabilityMsr::TrueProcbased);
        let exit = word(CapabilityMsr::Exit, CapabilityMsr::TrueExit);
        let entry = word(CapabilityMsr::Entry, CapabilityMsr::TrueEntry);
        let misc = msr(CapabilityMsr::Misc);
        let mut fixed = |ones: CapabilityMsr, may: CapabilityMsr| {
            let known = profile.msr(may) != MsrValue::Unknown;
            let zeros = !msr(may);
            // If it is not known which bits may be 1, no bit is refused.
            FixedBits { ones: msr(ones), zeros: if known { zeros } else { 0 } }
        };
        let cr0 = fixed(CapabilityMsr::Cr0Fixed0, CapabilityMsr::Cr0Fixed1);
        let cr4 = fixed(CapabilityMsr::Cr4Fixed0, CapabilityMsr::Cr4Fixed1);
        let feature_control = msr(CapabilityMsr::FeatureControl);
        let perf_capabilities = msr(CapabilityMsr::PerfCapabilities);
        let tme_activate = msr(CapabilityMsr::TmeActivate);
        // An MSR that exists only if some bit is 1 is absent, not unknown, where that bit is 0. SDM A.3, A.4, A.11.
        // Where the bit is not known, neither is the MSR, unless it is known to be absent.
        let read = |msr: CapabilityMsr| profile.msr(msr) != MsrValue::Unknown;
        let word_read =
            |default, precise| read(CapabilityMsr::Basic) && read(if true_controls { precise } else { default });
        let primary_read = word_read(CapabilityMsr::Procbased, CapabilityMsr::TrueProcbased);
        let exit_read = word_read(CapabilityMsr::Exit, CapabilityMsr::TrueExit);
        let mut gated = |gate_read: bool, gate: bool, of: CapabilityMsr| {
            if gate_read && !gate || profile.msr(of) == MsrValue::Absent {
                return (0, true);
            }
            if !gate_read || !read(of) {
                unknown = unknown.and(Facts::msr(of));
            }
            (profile.msr(of).or_zero().unwrap_or(0), gate_read && read(of))
        };
        let (secondary, secondary_read) = gated(primary_read, primary.may() & 1 << 31 != 0, CapabilityMsr::Procbased2);
        let secondary = Allowed::word(secondary);
        let (tertiary, _) = gated(primary_read, primary.may() & 1 << 17 != 0, CapabilityMsr::Procbased3);
        let (secondary_exit, _) = gated(exit_read, exit.may() & 1 << 31 != 0, CapabilityMsr::Exit2);
        let (ept_vpid, _) = gated(secondary_read, secondary.may() & (1 << 1 | 1 << 5) != 0, CapabilityMsr::EptVpidCap);
        let (vm_functions, _) = gated(secondary_read, secondary.may() & 1 << 13 != 0, CapabilityMsr::Vmfunc);
        let (tertiary, secondary_exit, vm_functions) =
            (Allowed::allowed_1(tertiary), Allowed::allowed_1(secondary_exit), Allowed::allowed_1(vm_functions));
        let mut cpuid = [[0; 4]; CpuidLeaf::ALL.len()];
        for (registers, leaf) in cpuid.iter_mut().zip(CpuidLeaf::ALL) {
            match profile.known_cpuid(leaf) {
                Some(known) => *registers = known,
                None => unknown = unknown.and(Facts::cpuid(leaf)),
            }
        }

        // Widths: the fewest and the most bits that the known facts permit.
        let lacks = |facts: Facts| unknown.intersects(facts);
        let [widths, ..] = cpuid[CpuidLeaf::AddressWidths as usize];
        let (fewest, most) = if lacks(Facts::cpuid(CpuidLeaf::AddressWidths)) {
            PHYSICAL_BITS
        } else {
            (physical_bits(widths), physical_bits(widths))
        };
        let key_bits = if tme_activate & 1 != 0 { (tme_activate >> 36 & 0xF) as u32 } else { 0 };
        let most_key_bits = if lacks(Facts::msr(CapabilityMsr::TmeActivate)) { MOST_KEY_BITS } else { key_bits };
        let with_keys = ReservedBits::above(
            most.saturating_sub(key_bits).max(PHYSICAL_BITS.0),
            fewest.saturating_sub(most_key_bits).max(PHYSICAL_BITS.0),
        );
        let address = if basic & 1 << 48 != 0 {
            ReservedBits::above(32, 32)
        } else if lacks(Facts::msr(CapabilityMsr::Basic)) {
            ReservedBits::above(most, 32)
        } else {
            with_keys
        };
        let intel_64 = if lacks(Facts::cpuid(CpuidLeaf::ExtendedFeatures)) {
            None
        } else {
            Some(cpuid[CpuidLeaf::ExtendedFeatures as usize][3] & 1 << 29 != 0)
        };
        let (narrowest, widest) = match (intel_64, widths >> 8 & 0xFF) {
            (Some(false), _) => (32, 32),
            _ if lacks(Facts::cpuid(CpuidLeaf::AddressWidths)) => (48, 57),
            (_, 0) => (48, 48),
            (_, bits) => (bits.clamp(48, 57), bits.clamp(48, 57)),
        };
        let known = reserved::KnownProcessor {
            cpuid: &cpuid,
            perf_capabilities,
            unknown,
            intel_64,
            physical: ReservedBits::above(most, fewest),
            physical_with_keys: with_keys,
        };
        Self {
            pin,
            primary,
            secondary,
            tertiary,
            exit,
            secondary_exit,
            entry,
            vm_functions,
            cr0,
            cr4,
            basic,
            misc,
            ept_vpid,
            feature_control,
            address_reserved: address.certain,
            address_open: address.open,
            physical_reserved: u64::MAX << most,
            linear_bits: widest,
            // Unless the processor certainly has Intel 64, no address is certainly not canonical. Unless it certainly lacks
            // Intel 64, an address whose upper bits are not equal may be not canonical.
            linear: LinearAddresses::new(widest, intel_64 == Some(true)),
            linear_narrowest: LinearAddresses::new(narrowest, intel_64 != Some(false)),
            reserved: Reserved::new(&known),
            cpuid,
            unknown,
            quirks: profile.quirks,
        }
    }

    /// Whether everything is known that a check of an entry without MSR-load area depends on. Then a check of a complete
    /// image is undecidable only where the SDM leaves open what the processor does.
    #[must_use]
    #[inline]
    pub const fn complete(&self) -> bool {
        self.unknown.without(Facts::msr(CapabilityMsr::FeatureControl)).is_empty()
    }

    /// The VMCS revision identifier, IA32_VMX_BASIC\[30:0\].
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "31 bits")]
    pub const fn revision(&self) -> u32 {
        self.basic as u32 & 0x7FFF_FFFF
    }

    /// Whether that capability bit is 1. Bits of MSRs that are unknown count as 0.
    #[must_use]
    pub const fn has(&self, bit: CapabilityBit) -> bool {
        // The table names allowed-1 settings of 32-bit words by their place in the MSR.
        let (word, bit) = match bit.source {
            Source::Pin => (self.pin.may(), bit.bit - 32),
            Source::Primary => (self.primary.may(), bit.bit - 32),
            Source::Secondary => (self.secondary.may(), bit.bit - 32),
            Source::Exit => (self.exit.may(), bit.bit - 32),
            Source::Entry => (self.entry.may(), bit.bit - 32),
            Source::Tertiary => (self.tertiary.may(), bit.bit),
            Source::SecondaryExit => (self.secondary_exit.may(), bit.bit),
            Source::VmFunctions => (self.vm_functions.may(), bit.bit),
            Source::Cpuid7_1Eax => (self.cpuid(CpuidLeaf::Extended1)[0] as u64, bit.bit),
        };
        word >> bit & 1 != 0
    }

    /// Whether the capability bits promise that component of the VMCS. SDM Appendix B, Field Encoding in VMCS.
    #[must_use]
    pub fn promises_field(&self, field: &FieldInfo) -> bool {
        field.exists_if.is_empty() || field.exists_if.iter().any(|bit| self.has(*bit))
    }

    /// Whether the VMCS of the processor has that component: it is promised and not among the `fields_missing` of
    /// [`Self::quirks`], or it is among its `fields_extra`.
    #[must_use]
    pub fn has_field(&self, field: &FieldInfo) -> bool {
        let Quirks { fields_extra, fields_missing, .. } = &self.quirks;
        fields_extra.contains(field.id) || self.promises_field(field) && !fields_missing.contains(field.id)
    }

    /// Whether the VMCS of the processor has that component, or may have it as far as the profile says.
    #[must_use]
    pub fn may_have_field(&self, field: &FieldInfo) -> bool {
        let undecided = field.exists_if.iter().any(|bit| self.unknown.intersects(Facts::of(bit.source)));
        self.has_field(field) || undecided && !self.quirks.fields_missing.contains(field.id)
    }

    /// A CPUID leaf, all zero if it is unknown.
    #[must_use]
    pub const fn cpuid(&self, leaf: CpuidLeaf) -> [u32; 4] {
        self.cpuid[leaf as usize]
    }

    /// Whether any of those bits of a register of a CPUID leaf is 1.
    #[inline]
    pub(crate) fn cpuid_any(&self, leaf: CpuidLeaf, register: usize, mask: u32) -> bool {
        self.cpuid[leaf as usize].get(register).is_some_and(|value| value & mask != 0)
    }

    /// Whether the processor has Intel 64: CPUID.80000001H:EDX\[29\]. False where that is not known.
    #[must_use]
    pub const fn intel_64(&self) -> bool {
        self.cpuid(CpuidLeaf::ExtendedFeatures)[3] & 1 << 29 != 0
    }

    /// Whether the processor has Intel 64, or may have it as far as the profile says.
    #[must_use]
    pub const fn may_have_intel_64(&self) -> bool {
        self.intel_64() || self.unknown.intersects(Facts::cpuid(CpuidLeaf::ExtendedFeatures))
    }

    /// Whether the processor has SGX: CPUID.(07H,0):EBX\[2\].
    #[must_use]
    pub const fn sgx(&self) -> bool {
        self.cpuid(CpuidLeaf::Extended0)[1] & 1 << 2 != 0
    }

    /// Whether the processor has restricted transactional memory: CPUID.(07H,0):EBX\[11\].
    #[must_use]
    pub const fn rtm(&self) -> bool {
        self.cpuid(CpuidLeaf::Extended0)[1] & 1 << 11 != 0
    }

    /// Whether the processor has OS bus-lock detection: CPUID.(07H,0):ECX\[24\].
    #[must_use]
    pub const fn bus_lock_detection(&self) -> bool {
        self.cpuid(CpuidLeaf::Extended0)[2] & 1 << 24 != 0
    }

    /// Whether the processor has FRED transitions: CPUID.(07H,1):EAX\[17\].
    #[must_use]
    pub const fn fred(&self) -> bool {
        self.cpuid(CpuidLeaf::Extended1)[0] & 1 << 17 != 0
    }

    /// Whether VMWRITE can write VM-exit information fields: IA32_VMX_MISC\[29\].
    #[must_use]
    pub const fn writes_exit_information(&self) -> bool {
        self.misc & 1 << 29 != 0
    }

    /// How many CR3-target values there are: IA32_VMX_MISC\[24:16\].
    #[must_use]
    pub const fn cr3_targets(&self) -> u32 {
        (self.misc >> 16 & 0x1FF) as u32
    }

    /// Whether the control “VMCS shadowing” may be 1.
    #[must_use]
    pub const fn vmcs_shadowing(&self) -> bool {
        self.secondary.may() & 1 << 14 != 0
    }

    /// Whether a physical address lies within the width that the VMX instructions accept; true also where what is known of
    /// the processor does not decide it.
    #[must_use]
    #[inline]
    pub const fn address_fits(&self, address: u64) -> bool {
        address & self.address_reserved == 0
    }

    /// Whether a linear address is canonical for the widest linear addresses that the processor supports: its bits from
    /// the highest of a linear address on are all equal. True also where what is known of the processor does not decide it.
    #[must_use]
    #[inline]
    pub const fn canonical(&self, address: u64) -> bool {
        self.not_canonical(address) == 0
    }

    /// 0 for a canonical address, and another number for any other. The results of several addresses can be combined by OR:
    /// it is 0 if all are canonical.
    #[inline]
    pub(crate) const fn not_canonical(&self, address: u64) -> u64 {
        // Half of the canonical addresses lie at the bottom, half at the top: moved by half, they are 0 and up.
        address.wrapping_add(self.linear.half) & self.linear.upper
    }

    /// Whether a linear address is canonical whatever the facts that are not known.
    pub(crate) const fn canonical_in_any_case(&self, address: u64) -> bool {
        address.wrapping_add(self.linear_narrowest.half) & self.linear_narrowest.upper == 0
    }

    /// Whether bits 63:N of a linear address are all equal, N being the widest linear address that the processor
    /// supports. True of every canonical address, and of some that differ in bit N-1; true also where what is known of
    /// the processor does not decide it.
    #[must_use]
    #[inline]
    pub const fn upper_identical(&self, address: u64) -> bool {
        let upper = address & self.linear.upper;
        upper == 0 || upper == self.linear.upper
    }

    /// [`Self::upper_identical`] whatever the facts that are not known.
    pub(crate) const fn upper_identical_in_any_case(&self, address: u64) -> bool {
        let upper = address & self.linear_narrowest.upper;
        upper == 0 || upper == self.linear_narrowest.upper
    }

    /// The memory types an EPTP may name: bit n set for type n. IA32_VMX_EPT_VPID_CAP\[8\] and \[14\].
    #[must_use]
    pub const fn ept_memory_type(&self, kind: u8) -> bool {
        match kind {
            0 => self.ept_vpid & 1 << 8 != 0,
            6 => self.ept_vpid & 1 << 14 != 0,
            _ => false,
        }
    }

    /// Whether an EPTP may ask for page walks of that length, minus 1. IA32_VMX_EPT_VPID_CAP\[6\] and \[7\].
    #[must_use]
    pub const fn ept_walk_length(&self, minus_1: u8) -> bool {
        match minus_1 {
            3 => self.ept_vpid & 1 << 6 != 0,
            4 => self.ept_vpid & 1 << 7 != 0,
            _ => false,
        }
    }

    /// Whether an EPTP passes every check of a VM entry, as INVEPT and EPTP switching demand too.
    /// SDM 27.2.1.1, VM-Execution Control Fields.
    #[must_use]
    pub fn eptp_valid(&self, eptp: Eptp) -> bool {
        self.ept_memory_type(eptp.memory_type())
            && self.ept_walk_length(eptp.walk_length_minus_1())
            && (!eptp.accessed_dirty() || self.ept_vpid & 1 << 21 != 0)
            && (!eptp.supervisor_shadow_stack() || self.ept_vpid & 1 << 23 != 0)
            && eptp.reserved_11_8() == 0
            && self.address_fits(eptp.into_bits())
    }
}
