//! What a host and the bare-metal probe say to each other.
//!
//! A *case* is a short program of VMX instructions ([`Op`]) over physical memory; the probe executes it and answers
//! one [`StepResult`] per instruction. This crate holds both as values and as bytes ([`program`], by way of [`codec`]), the
//! addresses on which both sides agree ([`layout`]), batches of them ([`batch`]), how they travel (on a [`disk`], in the
//! memory of a virtual machine: [`mailbox`], or over a [`serial`] [`line`](mod@line) in [`frame`]s), and what the probe reports about its processor ([`profile`]). It needs neither `std` nor an allocator.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod batch;
pub mod codec;
pub mod disk;
pub mod frame;
pub mod layout;
pub mod line;
pub mod mailbox;
mod op;
pub mod profile;
pub mod program;
pub mod serial;
pub mod session;

pub use op::{Ending, NO_VIOLATION, Op, Start, StepResult, Timed};
