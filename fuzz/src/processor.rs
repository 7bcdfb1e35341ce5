//! The processor that cases are made for, and the valid images that they start from.

pub(crate) mod base_images;
pub(crate) mod memory;
mod observed_fields;

use vmcs_case::Session;
use vmcs_model::controls::{PinBased, Primary, Secondary};
use vmcs_model::field::{self, FIELDS, Field, FieldId, FieldValue};
use vmcs_model::{Capabilities, CpuProfile, CpuState, EntryAttempt};
use vmcs_wire::{layout, session};

pub use base_images::BaseImage;

/// A processor as its target reported it, and valid images for it.
#[derive(Clone, Debug)]
pub struct Processor {
    /// The raw capabilities.
    pub profile: CpuProfile,
    /// What they mean.
    pub capabilities: Capabilities,
    /// The components that the target's VMCS has.
    pub fields: Vec<FieldId>,
    /// Valid images, by name; their order is the images' order in [`Processor::session`].
    pub bases: Vec<BaseImage>,
    /// How many of them, from the first on, the generators choose among that change images at random.
    pub(crate) first_bases: usize,
}

impl Processor {
    /// The processor with that profile.
    #[must_use]
    pub fn new(profile: &CpuProfile) -> Self {
        let capabilities = Capabilities::new(profile);
        let fields = FIELDS.iter().filter(|info| capabilities.has_field(info)).map(|info| info.id).collect();
        let (mut bases, first_bases) = base_images::all(&capabilities);
        // What a VMCS lacks reads as 0 in the model.
        for info in FIELDS.iter().filter(|info| !capabilities.has_field(info)) {
            bases.iter_mut().for_each(|base| base.vmcs.set_raw(info.id, 0));
        }
        Self { profile: profile.clone(), capabilities, fields, bases, first_bases }
    }

    /// The session of a campaign's cases: the bases as images, without the fields that the target lacks.
    ///
    /// Read-only fields are left out of these: they are exit information and no input of an entry.
    #[must_use]
    pub fn session(&self) -> Session {
        let image = |base: &BaseImage| {
            let writable = |field: &&FieldId| field.info().area() != field::Area::ExitInformation;
            self.fields.iter().filter(writable).map(|f| (f.info().encoding.0, base.vmcs.raw(*f))).collect()
        };
        let stale = observed_fields::stale_information(&self.capabilities, &self.fields);
        let (information_fields, state_fields) = observed_fields::lists(&self.fields);
        Session {
            images: self.bases.iter().map(image).chain(stale).collect(),
            observed_fields: Vec::new(),
            information_fields,
            state_fields,
            volatile: volatile_areas(),
        }
    }

    /// What the images of [`Processor::session`] are called, in their order.
    #[must_use]
    pub fn image_names(&self) -> Vec<&'static str> {
        let stale = self.stale_image().map(|_| observed_fields::STALE);
        self.bases.iter().map(|base| base.name).chain(stale).collect()
    }

    /// The image of [`Processor::session`] that is no VMCS to enter but what cases write to the information fields, if the
    /// processor lets them be written: the last one.
    #[must_use]
    pub fn stale_image(&self) -> Option<u16> {
        let image = u16::try_from(self.bases.len()).expect("there are few bases");
        self.capabilities.writes_exit_information().then_some(image)
    }

    /// An attempt to launch a VMCS with the processor's usual state.
    #[must_use]
    pub fn launch<'a>(&'a self, cpu: &'a CpuState) -> EntryAttempt<'a> {
        EntryAttempt::vmlaunch(cpu, &self.capabilities)
    }
}

/// What a guest's stay and a VM exit write to by way of the pointers of the bases.
#[must_use]
pub fn volatile_areas() -> Vec<session::VolatileArea> {
    fn area<T: FieldValue>(address: u64, bytes: u64, field: Field<T>, mask: T) -> session::VolatileArea {
        session::VolatileArea { address, bytes, field: field.encoding().0.into(), mask: mask.to_raw() }
    }
    // The last virtual register lies at 3F0H, and the descriptors have 64 bytes: SDM 25.5.7.2, Virtualization Exceptions,
    // 29.1.1, Virtualized APIC Registers, and 29.6, Posted-Interrupt Processing.
    let secondary = field::SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS;
    vec![
        area(layout::VIRTUAL_APIC, 1024, field::PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, Primary::USE_TPR_SHADOW),
        area(layout::PML, 4096, secondary, Secondary::ENABLE_PML),
        area(layout::VE_INFORMATION, 64, secondary, Secondary::EPT_VIOLATION_VE),
        area(layout::POSTED_INTERRUPT, 64, field::PIN_BASED_VM_EXECUTION_CONTROLS, PinBased::PROCESS_POSTED_INTERRUPTS),
        area(layout::EXIT_MSR_STORE, 4096, field::VM_EXIT_MSR_STORE_COUNT, u32::MAX),
    ]
}
