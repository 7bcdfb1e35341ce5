//! The images that the benches of the checks judge, and the memory that goes with them.

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use vmcs_model::baseline;
use vmcs_model::controls::{Entry, Exit, PinBased, Primary, Secondary};
use vmcs_model::field::{self, FIELDS, Field, FieldValue};
use vmcs_model::formats::{Eptp, InterruptionInformation, event_type};
use vmcs_model::{Capabilities, CpuProfile, CpuState, EntryAttempt, ReadMemory, Vmcs};

/// How many images have bits flipped.
pub const FLIPPED: usize = 256;

/// The physical address of [`MsrLoadArea`].
const MSR_LOAD_AREA: u64 = 0xA_0000;
/// IA32_SYSENTER_CS, IA32_LSTAR and IA32_KERNEL_GS_BASE, as a hypervisor may load them.
const ENTRIES: [u64; 6] = [0x174, 0x10, 0xC000_0082, 0xFFFF_8000_0010_0000, 0xC000_0102, 0x7000];

/// A VM-entry MSR-load area, in memory of which nothing else exists.
#[derive(Clone, Debug)]
pub struct MsrLoadArea([u64; ENTRIES.len()]);

impl ReadMemory for MsrLoadArea {
    fn read_u32(&self, address: u64) -> Option<u32> {
        let qword = self.read_u64(address & !7)?;
        u32::try_from(qword >> (8 * (address & 4)) & 0xFFFF_FFFF).ok()
    }

    #[inline]
    fn read_u64(&self, address: u64) -> Option<u64> {
        let index = usize::try_from(address.wrapping_sub(MSR_LOAD_AREA) / 8).ok()?;
        Some(self.0.get(index).copied().unwrap_or(u64::MAX))
    }
}

/// A processor, its memory, and images for it.
#[derive(Clone, Debug)]
pub struct Images {
    capabilities: Capabilities,
    cpu: CpuState,
    /// The memory.
    pub memory: MsrLoadArea,
    /// A 64-bit guest with EPT, VPID, APIC virtualization, MSR areas and an injected #GP.
    pub valid: Vmcs,
    /// [`Self::valid`] with a VPID of 0.
    pub one_violation: Vmcs,
    /// [`Self::valid`] with four random bits flipped, anew in each; the same in every run.
    pub flipped: Vec<Vmcs>,
}

impl Images {
    /// The images for a processor.
    ///
    /// # Panics
    /// If the processor lacks one of the features.
    #[must_use]
    pub fn new(profile: &CpuProfile) -> Self {
        let capabilities = Capabilities::new(profile);
        let valid = valid(&capabilities);
        let mut one_violation = valid.clone();
        one_violation.set(field::VIRTUAL_PROCESSOR_IDENTIFIER, 0);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        let flipped = (0..FLIPPED).map(|_| flip(valid.clone(), &mut random)).collect();
        let memory = MsrLoadArea(ENTRIES);
        let images = Self { capabilities, cpu: CpuState::host_64(), memory, valid, one_violation, flipped };
        assert!(images.attempt().on(&images.valid, &images.memory).violations().is_empty());
        assert_eq!(images.attempt().on(&images.one_violation, &images.memory).violations().len(), 1);
        images
    }

    /// An attempt to launch an ordinary, clear VMCS.
    #[must_use]
    pub fn attempt(&self) -> EntryAttempt<'_> {
        EntryAttempt::vmlaunch(&self.cpu, &self.capabilities)
    }
}

fn valid(capabilities: &Capabilities) -> Vmcs {
    let mut vmcs = baseline::plain_64bit(capabilities);
    add(
        &mut vmcs,
        field::PIN_BASED_VM_EXECUTION_CONTROLS,
        PinBased::EXTERNAL_INTERRUPT_EXITING | PinBased::NMI_EXITING,
    );
    add(
        &mut vmcs,
        field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,
        Primary::USE_TPR_SHADOW | Primary::USE_MSR_BITMAPS | Primary::ACTIVATE_SECONDARY_CONTROLS,
    );
    add(
        &mut vmcs,
        field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,
        Secondary::ENABLE_EPT
            | Secondary::ENABLE_VPID
            | Secondary::UNRESTRICTED_GUEST
            | Secondary::VIRTUALIZE_APIC_ACCESSES
            | Secondary::APIC_REGISTER_VIRTUALIZATION
            | Secondary::VIRTUAL_INTERRUPT_DELIVERY,
    );
    add(&mut vmcs, field::PRIMARY_VM_EXIT_CONTROLS, Exit::ACKNOWLEDGE_INTERRUPT_ON_EXIT);
    add(&mut vmcs, field::VM_ENTRY_CONTROLS, Entry::LOAD_DEBUG_CONTROLS);
    for (page, address) in [
        field::MSR_BITMAP_ADDRESS,
        field::VIRTUAL_APIC_ADDRESS,
        field::APIC_ACCESS_ADDRESS,
        field::VM_EXIT_MSR_STORE_ADDRESS,
        field::VM_EXIT_MSR_LOAD_ADDRESS,
    ]
    .into_iter()
    .zip((0xB_0000..).step_by(0x1000))
    {
        vmcs.set(page, address);
    }
    vmcs.set(field::VM_ENTRY_MSR_LOAD_ADDRESS, MSR_LOAD_AREA);
    for count in [field::VM_EXIT_MSR_STORE_COUNT, field::VM_EXIT_MSR_LOAD_COUNT, field::VM_ENTRY_MSR_LOAD_COUNT] {
        vmcs.set(count, 3);
    }
    vmcs.set(
        field::EPT_POINTER,
        Eptp::new().with_memory_type(6).with_walk_length_minus_1(3).with_accessed_dirty(true).with_page(0x100),
    );
    vmcs.set(field::VIRTUAL_PROCESSOR_IDENTIFIER, 1);
    vmcs.set(
        field::VM_ENTRY_INTERRUPTION_INFORMATION,
        InterruptionInformation::new()
            .with_vector(13)
            .with_event_type(event_type::HARDWARE_EXCEPTION)
            .with_deliver_error_code(true)
            .with_valid(true),
    );
    // Kernel addresses on both sides.
    for base in [field::GUEST_RIP, field::GUEST_GS_BASE, field::GUEST_IA32_SYSENTER_EIP, field::HOST_RIP] {
        vmcs.set(base, 0xFFFF_FFFF_8100_0000);
    }
    for base in [field::HOST_GS_BASE, field::HOST_GDTR_BASE, field::HOST_IDTR_BASE, field::GUEST_IDTR_BASE] {
        vmcs.set(base, 0xFFFF_FE00_0000_0000);
    }
    vmcs
}

fn add<T: FieldValue + std::ops::BitOr<Output = T>>(vmcs: &mut Vmcs, word: Field<T>, bits: T) {
    vmcs.set(word, vmcs.get(word) | bits);
}

/// Flips four bits of fields that a VMWRITE can reach.
fn flip(mut vmcs: Vmcs, random: &mut Xoshiro256PlusPlus) -> Vmcs {
    let writable: Vec<_> = FIELDS.iter().filter(|info| info.area() != field::Area::ExitInformation).collect();
    for _ in 0..4 {
        let info = writable[below(random, writable.len())];
        vmcs.set_raw(info.id, vmcs.raw(info.id) ^ 1 << (random.next_u64() % u64::from(info.width().bits())));
    }
    vmcs
}

fn below(random: &mut Xoshiro256PlusPlus, end: usize) -> usize {
    usize::try_from(random.next_u64() % end as u64).unwrap_or(0)
}
