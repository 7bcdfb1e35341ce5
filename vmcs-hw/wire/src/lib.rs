//! What a host and the bare-metal probe say to each other.
//!
//! A *case* is a short program of VMX instructions ([`Op`]) over physical memory; the probe executes it and answers
//! one [`StepResult`] per instruction. This crate holds both as values and as bytes ([`program`], by way of [`codec`]), the
//! addresses on which both sides agree ([`layout`]), how a run is laid out on a disk ([`disk`]), and what the probe
//! reports about its processor ([`profile`]). It needs neither `std` nor an allocator.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod codec;
pub mod disk;
pub mod layout;
mod op;
pub mod profile;
pub mod program;
pub mod session;

pub use op::{NO_VIOLATION, Op, Start, StepResult};
