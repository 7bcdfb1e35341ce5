//! The language of a host and the bare-metal probe: the values that they exchange, and their bytes.
//!
//! A *case* is a short program of VMX instructions ([`Op`]) over physical memory; the probe executes it and answers
//! one [`StepResult`] per instruction. This crate holds both as values and as bytes ([`program`], by way of [`codec`]), the
//! addresses on which both sides agree ([`layout`]), batches of them ([`batch`]), how they travel (on a [`disk`], in the
//! memory of a virtual machine: [`mailbox`], or over a [`serial`] [`line`](mod@line) in [`frame`]s), and what the probe reports
//! about its processor ([`profile`]). It needs neither `std` nor an allocator. `docs/protocol.md` describes all bytes in tables.
//!
//! ```
//! use vmcs_wire::Op;
//! use vmcs_wire::codec::{Reader, Writer};
//! use vmcs_wire::program::MAX_OP_BYTES;
//!
//! let op = Op::Vmlaunch { after_mov_ss: true };
//! let mut buffer = [0; MAX_OP_BYTES];
//! let mut writer = Writer::new(&mut buffer);
//! op.encode(&mut writer).expect("the buffer has room for any operation");
//! let used = writer.len();
//! assert_eq!(buffer[..used], [9, 1]);
//! assert_eq!(Op::decode(&mut Reader::new(&buffer[..used])), Ok(op));
//! ```
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
