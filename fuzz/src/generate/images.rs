//! The generator `images`: a valid image with up to four fields of any kind changed.

use arbitrary::{Result, Unstructured};
use vmcs_case::Case;

use super::{controls, state};
use crate::generate::test_processor::TestProcessor;

/// A changed image, launched from VMX root operation.
pub(super) fn case(processor: &TestProcessor, u: &mut Unstructured<'_>) -> Result<Case> {
    let image = u.choose_index(processor.first_bases)?;
    let base = &processor.bases[image].vmcs;
    let mut changes = Vec::new();
    for _ in 0..u.int_in_range(1..=4u8)? {
        if u.arbitrary()? {
            state::change(processor, u, base, &mut changes)?;
        } else {
            controls::change(processor, u, base, &mut changes)?;
        }
    }
    controls::finish(processor, u, image, changes)
}
