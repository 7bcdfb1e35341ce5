//! Rules of the SDM about the inputs of a VM entry that no image can violate, such as fields that may hold any value.

use crate::field::{self, FieldId};

/// Why an entry of [`NOT_CHECKS`] cannot be violated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotACheckKind {
    /// The fields may hold any value: a model that rejects one is wrong.
    AnyValue,
    /// The rule qualifies other checks and does not fail on its own.
    Modifier,
    /// The rule depends on an event outside of the VMCS, memory and processor state.
    Event,
}

/// A rule that cannot be violated by an image.
#[derive(Debug)]
pub struct NotACheck {
    /// Stable id.
    pub id: &'static str,
    /// Why it cannot be violated.
    pub kind: NotACheckKind,
    /// What the SDM says.
    pub rule: &'static str,
    /// SDM section, number and title in the 2024 editions.
    pub sdm: &'static str,
    /// Title of the section.
    pub title: &'static str,
    /// The fields that the rule is about.
    pub fields: &'static [FieldId],
}

const fn any_value(id: &'static str, rule: &'static str, fields: &'static [FieldId]) -> NotACheck {
    NotACheck { id, kind: NotACheckKind::AnyValue, rule, sdm: "27.2.1.1", title: "VM-Execution Control Fields", fields }
}

/// Rules that no image violates.
pub static NOT_CHECKS: &[NotACheck] = &[
    NotACheck {
        id: "ctl.phys-addr-width",
        kind: NotACheckKind::Modifier,
        rule: "What “physical-address width” means in every check of a physical address: bits 63:MAXPHYADDR are 0, \
               where outside SEAM IA32_TME_ACTIVATE[39:36] reduces MAXPHYADDR while memory encryption is on; bits \
               63:32 are 0 if IA32_VMX_BASIC[48] is 1.",
        sdm: "27.2.1",
        title: "Checks on VMX Controls",
        fields: &[],
    },
    NotACheck {
        id: "msrload.machine-check",
        kind: NotACheckKind::Event,
        rule: "A machine check during VM entry is delivered before it, after it, or makes it fail with basic exit \
               reason 41.",
        sdm: "27.9",
        title: "Machine-Check Events During VM Entry",
        fields: &[],
    },
    any_value(
        "nocheck.xss-exiting-bitmap",
        "The XSS-exiting bitmap may hold any value.",
        &[field::XSS_EXITING_BITMAP.id()],
    ),
    any_value(
        "nocheck.encls-exiting-bitmap",
        "The ENCLS-exiting bitmap may hold any value.",
        &[field::ENCLS_EXITING_BITMAP.id()],
    ),
    any_value(
        "nocheck.enclv-exiting-bitmap",
        "The ENCLV-exiting bitmap may hold any value.",
        &[field::ENCLV_EXITING_BITMAP.id()],
    ),
    any_value(
        "nocheck.pconfig-exiting-bitmap",
        "The PCONFIG-exiting bitmap may hold any value.",
        &[field::PCONFIG_EXITING_BITMAP.id()],
    ),
    any_value(
        "nocheck.eoi-exit-bitmap",
        "The EOI-exit bitmaps may hold any value.",
        &[
            field::EOI_EXIT_BITMAP_0.id(),
            field::EOI_EXIT_BITMAP_1.id(),
            field::EOI_EXIT_BITMAP_2.id(),
            field::EOI_EXIT_BITMAP_3.id(),
        ],
    ),
    any_value(
        "nocheck.spec-ctrl-mask-shadow",
        "The IA32_SPEC_CTRL mask and shadow may hold any value; reserved bits surface when the guest executes WRMSR.",
        &[field::IA32_SPEC_CTRL_MASK.id(), field::IA32_SPEC_CTRL_SHADOW.id()],
    ),
    any_value(
        "nocheck.exception-bitmap",
        "The exception bitmap and the page-fault error-code mask and match may hold any value.",
        &[
            field::EXCEPTION_BITMAP.id(),
            field::PAGE_FAULT_ERROR_CODE_MASK.id(),
            field::PAGE_FAULT_ERROR_CODE_MATCH.id(),
        ],
    ),
    any_value(
        "nocheck.cr-masks-shadows",
        "The CR0 and CR4 guest/host masks and read shadows may hold any value.",
        &[
            field::CR0_GUEST_HOST_MASK.id(),
            field::CR4_GUEST_HOST_MASK.id(),
            field::CR0_READ_SHADOW.id(),
            field::CR4_READ_SHADOW.id(),
        ],
    ),
    any_value(
        "nocheck.cr3-target-values",
        "The CR3-target values may be any.",
        &[
            field::CR3_TARGET_VALUE_0.id(),
            field::CR3_TARGET_VALUE_1.id(),
            field::CR3_TARGET_VALUE_2.id(),
            field::CR3_TARGET_VALUE_3.id(),
        ],
    ),
    any_value(
        "nocheck.pml-index",
        "The PML index may be any; above 511 the first logging attempt exits with reason 62.",
        &[field::PML_INDEX.id()],
    ),
    any_value("nocheck.guest-interrupt-status", "RVI and SVI may be any.", &[field::GUEST_INTERRUPT_STATUS.id()]),
    any_value(
        "nocheck.eptp-index-hlat-prefix",
        "The EPTP index and the HLAT prefix size may be any.",
        &[field::EPTP_INDEX.id(), field::HLAT_PREFIX_SIZE.id()],
    ),
    any_value(
        "nocheck.ple-instruction-timeout",
        "PLE_Gap, PLE_Window and the instruction-timeout control may be any.",
        &[field::PLE_GAP.id(), field::PLE_WINDOW.id(), field::INSTRUCTION_TIMEOUT_CONTROL.id()],
    ),
    any_value(
        "nocheck.tsc-offset-deadline",
        "The TSC offset, the guest deadline and its shadow may be any.",
        &[field::TSC_OFFSET.id(), field::GUEST_DEADLINE.id(), field::GUEST_DEADLINE_SHADOW.id()],
    ),
    any_value(
        "nocheck.rsp-host-guest",
        "Host RSP and guest RSP may be any in every mode.",
        &[field::HOST_RSP.id(), field::GUEST_RSP.id()],
    ),
    any_value(
        "nocheck.fred-stklvls",
        "IA32_FRED_STKLVLS is loaded without a check of reserved bits, in both directions.",
        &[field::HOST_IA32_FRED_STKLVLS.id(), field::GUEST_IA32_FRED_STKLVLS.id()],
    ),
    any_value("nocheck.injected-event-data", "The injected-event data may be any.", &[field::INJECTED_EVENT_DATA.id()]),
];
