//! What the probe has in common with programs that take its place: how work comes and answers go.
#![no_std]
#![allow(
    clippy::cast_possible_truncation,
    reason = "as in the probe: registers are cut to the width that devices have"
)]

pub mod disk;
pub mod transport;
