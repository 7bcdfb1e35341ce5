//! The pages of memory in which programs keep a VMCS, by their first bytes.

/// A page.
pub(super) const PAGE: usize = 4096;

/// Most pages that are taken out of one text or file.
pub(super) const MOST: usize = 16;

/// How a program lays out the fields.
pub(super) struct Layout {
    /// As the table names it.
    pub(super) name: &'static str,
    /// Who keeps the page.
    pub(super) format: &'static str,
    /// The first four bytes; bit 31 may differ.
    pub(super) revision: u32,
    /// So few others begin with these bytes that they alone tell it.
    pub(super) distinct: bool,
}

pub(super) const LAYOUTS: [Layout; 3] = [
    Layout { name: "kvm-vmcs12", format: "KVM vmcs12", revision: 0x11E5_7ED0, distinct: true },
    Layout { name: "virtualbox-vvmcs", format: "VirtualBox", revision: 0x4000_0001, distinct: false },
    Layout { name: "hyperv-evmcs", format: "Hyper-V enlightened VMCS", revision: 1, distinct: false },
];

/// The layout of a page whose first bytes are these.
pub(super) fn layout_of(byte: impl Fn(usize) -> Option<u8>) -> Option<&'static Layout> {
    let mut revision = [0; 4];
    for (i, place) in revision.iter_mut().enumerate() {
        *place = byte(i)?;
    }
    let revision = u32::from_le_bytes(revision) & u32::MAX >> 1;
    LAYOUTS.iter().find(|layout| layout.revision == revision)
}
