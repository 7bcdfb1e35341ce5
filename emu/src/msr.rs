//! MSRs, and the areas in memory that VM entries and VM exits load them from and store them to. SDM 27.4, Loading MSRs,
//! 28.4, Saving MSRs, and 28.6, Loading MSRs.
//!
//! Many MSRs are registers that have a field in the guest-state area, so that a write of the MSR changes what the next exit
//! saves. The others are kept by number.

use vmcs_model::checks::Phase;
use vmcs_model::controls::Entry;
use vmcs_model::field;
use vmcs_model::msr::CapabilityMsr;
use vmcs_model::registers::Efer;
use vmcs_model::{EntryAttempt, FieldId, Vmcs};

use crate::LogicalProcessor;

const IA32_FEATURE_CONTROL: u32 = 0x3A;
const IA32_SMM_MONITOR_CTL: u32 = 0x9B;
const IA32_SMBASE: u32 = 0x9E;
const IA32_UINTR_MISC: u32 = 0x988;
const IA32_EFER: u32 = 0xC000_0080;
const IA32_FS_BASE: u32 = 0xC000_0100;
const IA32_GS_BASE: u32 = 0xC000_0101;
/// Bits 31:8 of the MSRs of an x2APIC.
const X2APIC: u32 = 0x8;
const ENTRY_BYTES: u64 = 16;
/// Where IA32_UINTR_MISC has UINV, the user-interrupt notification vector, which is a field of the guest-state area:
/// bits 39:32.
const UINV_SHIFT: u32 = 32;
const UINV: u64 = 0xFF << UINV_SHIFT;
/// MSRs that no processor reads: IA32_PRED_CMD, IA32_BIOS_UPDT_TRIG and IA32_FLUSH_CMD take commands, and
/// 40000000H-400000FFH are left to hypervisors. SDM Vol. 4, 2.1, Architectural MSRs.
const NEVER_READ: [core::ops::RangeInclusive<u32>; 4] =
    [0x49..=0x49, 0x79..=0x79, 0x10B..=0x10B, 0x4000_0000..=0x4000_00FF];

/// MSRs that guest-state fields stand for.
const REGISTERS: &[(u32, FieldId)] = &[
    (0x48, field::GUEST_IA32_SPEC_CTRL.id()),
    (0x174, field::GUEST_IA32_SYSENTER_CS.id()),
    (0x175, field::GUEST_IA32_SYSENTER_ESP.id()),
    (0x176, field::GUEST_IA32_SYSENTER_EIP.id()),
    (0x1CD, field::GUEST_IA32_FRED_RSP1.id()),
    (0x1CE, field::GUEST_IA32_FRED_RSP2.id()),
    (0x1CF, field::GUEST_IA32_FRED_RSP3.id()),
    (0x1D0, field::GUEST_IA32_FRED_STKLVLS.id()),
    (0x1D1, field::GUEST_IA32_FRED_SSP1.id()),
    (0x1D2, field::GUEST_IA32_FRED_SSP2.id()),
    (0x1D3, field::GUEST_IA32_FRED_SSP3.id()),
    (0x1D4, field::GUEST_IA32_FRED_CONFIG.id()),
    (0x1D9, field::GUEST_IA32_DEBUGCTL.id()),
    (0x277, field::GUEST_IA32_PAT.id()),
    (0x38F, field::GUEST_IA32_PERF_GLOBAL_CTRL.id()),
    (0x570, field::GUEST_IA32_RTIT_CTL.id()),
    (0x6A2, field::GUEST_IA32_S_CET.id()),
    (0x6A8, field::GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR.id()),
    (0x6E1, field::GUEST_IA32_PKRS.id()),
    (0xD90, field::GUEST_IA32_BNDCFGS.id()),
    (0x14CE, field::GUEST_IA32_LBR_CTL.id()),
    (IA32_EFER, field::GUEST_IA32_EFER.id()),
    (IA32_FS_BASE, field::GUEST_FS_BASE.id()),
    (IA32_GS_BASE, field::GUEST_GS_BASE.id()),
];

impl LogicalProcessor {
    /// The value of an MSR, as RDMSR would return it. An MSR that no profile has, and that was neither set nor loaded, is 0.
    #[must_use]
    pub fn msr(&self, index: u32) -> u64 {
        if let Some(field) = register_of(index) {
            return self.register_raw(field);
        }
        let held = || self.msrs.get(&index).copied().unwrap_or(0);
        match index {
            IA32_FEATURE_CONTROL => self.platform.feature_control,
            IA32_SMM_MONITOR_CTL => self.platform.smm_monitor_ctl,
            IA32_UINTR_MISC => held() | u64::from(self.register(field::GUEST_UINV)) << UINV_SHIFT & UINV,
            _ => CapabilityMsr::by_number(index).map_or_else(held, |msr| self.profile_msrs[msr as usize]),
        }
    }

    /// Sets an MSR to a value that is not checked. IA32_EFER.LMA stays as it is, as with WRMSR. Of the MSRs that a profile
    /// has, only IA32_FEATURE_CONTROL can be set; [`Self::msr`] returns the profile's value of the others all the same.
    pub fn set_msr(&mut self, index: u32, value: u64) {
        let value = if index == IA32_EFER {
            let lma = Efer::LMA.bits();
            value & !lma | self.cpu.efer.bits() & lma
        } else {
            value
        };
        match register_of(index) {
            Some(field) => self.set_register_raw(field, value),
            None if index == IA32_FEATURE_CONTROL => self.platform.feature_control = value,
            None if index == IA32_SMM_MONITOR_CTL => self.platform.smm_monitor_ctl = value,
            None if index == IA32_UINTR_MISC => {
                self.set_register_raw(field::GUEST_UINV.id(), (value & UINV) >> UINV_SHIFT);
                self.msrs.insert(index, value & !UINV);
            }
            None => {
                self.msrs.insert(index, value);
            }
        }
    }

    /// Loads the MSRs of an area's first `count` entries, which the caller has checked.
    pub(crate) fn load_msrs(&mut self, address: u64, count: u32) {
        for entry in self.area(address, count) {
            let index = self.memory.read_u32(entry);
            let value = self.memory.read_u64(entry + 8);
            self.set_msr(index, value);
        }
    }

    /// Loads the MSRs of the VM-exit MSR-load area if all of them can be loaded, and says whether they can. The rules
    /// are those of the VM-entry MSR-load area, in the state of the host. SDM 28.6, Loading MSRs.
    pub(crate) fn load_host_msrs(&mut self) -> bool {
        let fields = self.current_fields();
        let (address, count) = (fields.get(field::VM_EXIT_MSR_LOAD_ADDRESS), fields.get(field::VM_EXIT_MSR_LOAD_COUNT));
        if count == 0 {
            return true;
        }
        let mut as_entry = Vmcs::new();
        as_entry.set(field::VM_ENTRY_MSR_LOAD_ADDRESS, address);
        as_entry.set(field::VM_ENTRY_MSR_LOAD_COUNT, count);
        as_entry.set(field::GUEST_CR0, self.cpu.cr0);
        let mut controls = Entry::empty();
        controls.set(Entry::IA_32E_MODE_GUEST, self.cpu.efer.contains(Efer::LMA));
        as_entry.set(field::VM_ENTRY_CONTROLS, controls);
        let attempt = EntryAttempt::vmresume(&self.cpu, &self.capabilities);
        let refused = attempt
            .on(&as_entry, &self.memory)
            .violations()
            .iter()
            .any(|check| check.info().phase == Phase::MsrLoading && !check.info().failure.optional);
        if !refused {
            self.load_msrs(address, count);
        }
        !refused
    }

    /// Stores the MSRs of the VM-exit MSR-store area in order, and says whether all could be stored. SDM 28.4, Saving
    /// MSRs.
    pub(crate) fn store_msrs(&mut self) -> bool {
        let fields = self.current_fields();
        let (address, count) =
            (fields.get(field::VM_EXIT_MSR_STORE_ADDRESS), fields.get(field::VM_EXIT_MSR_STORE_COUNT));
        for entry in self.area(address, count) {
            let Ok(index) = u32::try_from(self.memory.read_u64(entry)) else {
                return false;
            };
            let never_read = NEVER_READ.iter().any(|range| range.contains(&index));
            if never_read || index >> 8 == X2APIC || (index == IA32_SMBASE && !self.cpu.smm) {
                return false;
            }
            let value = self.msr(index);
            self.memory.write_u64(entry + 8, value);
        }
        true
    }

    /// The addresses of an area's entries. Beyond the recommended maximum, 512 × (IA32_VMX_MISC\[27:25\] + 1),
    /// behaviour is undefined; here those entries are left out.
    fn area(&self, address: u64, count: u32) -> impl Iterator<Item = u64> + use<> {
        let multiple = if self.is_unknown(CapabilityMsr::Misc) { 7 } else { self.capabilities.misc >> 25 & 7 };
        let maximum = 512 * (multiple + 1);
        (0..u64::from(count).min(maximum)).map(move |n| address.wrapping_add(n * ENTRY_BYTES))
    }
}

/// The guest-state field that stands for an MSR, if one does.
fn register_of(index: u32) -> Option<FieldId> {
    REGISTERS.iter().find(|(msr, _)| *msr == index).map(|(_, field)| *field)
}
