//! A valid image with up to four fields changed, wherever they are.

use arbitrary::{Result, Unstructured};
use vmcs_case::Case;

use super::{controls, state};
use crate::World;

/// A changed image, launched from VMX root operation.
pub(super) fn case(world: &World, u: &mut Unstructured<'_>) -> Result<Case> {
    let image = u.choose_index(world.first_bases)?;
    let base = &world.bases[image].vmcs;
    let mut changes = Vec::new();
    for _ in 0..u.int_in_range(1..=4u8)? {
        if u.arbitrary()? {
            state::change(world, u, base, &mut changes)?;
        } else {
            controls::change(world, u, base, &mut changes)?;
        }
    }
    controls::finish(world, u, image, changes)
}
