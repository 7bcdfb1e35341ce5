//! The part of the probe that programs which take its place use, too: how work reaches it and answers leave it.
#![no_std]
#![allow(
    clippy::cast_possible_truncation,
    reason = "as in the probe: registers are cut to the width that devices have"
)]

pub mod disk;
pub mod transport;
