//! What the probe looks at around a VM entry to see whether it has to see to anything.

use vmcs_model::FieldValue;
use vmcs_model::field::{self, Field};
use vmcs_wire::layout;
use vmcs_wire::session::{Area, MAX_AREAS};

use crate::rest;
use crate::vmx;

/// Encoding of a field as VMREAD and VMWRITE take it.
pub(crate) const fn encoding<T: FieldValue>(field: Field<T>) -> u64 {
    field.encoding().0 as u64
}

/// Bits of a field, and what they mostly are: nothing is to be done then.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Watched {
    pub(crate) encoding: u64,
    pub(crate) usual: u64,
    pub(crate) mask: u64,
}

impl Watched {
    /// Bits that are mostly 0.
    pub(crate) const fn zero(encoding: u64, mask: u64) -> Self {
        Self { encoding, usual: 0, mask }
    }
}

/// What is looked at before an entry.
const BEFORE: [Watched; 3] = [
    Watched { encoding: encoding(field::HOST_RIP), usual: layout::HOST_RIP, mask: u64::MAX },
    Watched::zero(encoding(field::VM_ENTRY_MSR_LOAD_COUNT), u64::MAX),
    Watched::zero(encoding(field::VM_EXIT_MSR_LOAD_COUNT), u64::MAX),
];

/// Whether HOST_RIP is not the exit path, or an entry or its exit loads MSRs.
#[inline]
pub(crate) fn is_unusual() -> bool {
    vmx::vmread_differing(&BEFORE) != 0
}

const DISTURBING: usize = rest::DISTURBING.len();

/// What is looked at behind an exit.
pub(crate) struct Watch {
    fields: [Watched; DISTURBING + MAX_AREAS],
    count: usize,
}

/// What was found there.
pub(crate) struct Found {
    /// The entry may have left something in the processor.
    pub(crate) disturbing: bool,
    /// Areas that may have been written to: a bit each.
    pub(crate) written: u64,
}

impl Watch {
    /// With the volatile areas of a session.
    pub(crate) fn new(areas: impl Iterator<Item = Area>) -> Self {
        let mut watch = Self { fields: [Watched::zero(0, 0); _], count: DISTURBING };
        watch.fields[..DISTURBING].copy_from_slice(&rest::DISTURBING);
        for area in areas {
            watch.fields[watch.count] = Watched::zero(area.field, area.mask);
            watch.count += 1;
        }
        watch
    }

    /// Looks at the current VMCS.
    #[inline]
    pub(crate) fn look(&self) -> Found {
        let (disturbing, areas) = self.fields[..self.count].split_at(DISTURBING);
        Found { disturbing: vmx::vmread_differing(disturbing) != 0, written: vmx::vmread_differing(areas) }
    }
}
