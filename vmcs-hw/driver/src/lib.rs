//! Has a machine execute batches of cases, and finds out which case brought it down.
//!
//! Cases are encoded into a [`Chunk`], which divides them into [`Batch`]es. [`drive`] gives the batches to a
//! [`BatchMachine`] and the answers to a [`Receiver`], in the order of the cases. When the machine stops, `drive` says which
//! case was the reason: from the results that the machine had handed in so far if the batch was a careful one, or else by
//! executing the cases of that batch again, each by itself. So every case is answered exactly once, whatever it or its
//! neighbours do to the machine.
//!
//! All of it is bytes in the formats of [`vmcs_wire`], because the same code also runs as the first process of a Linux inside
//! Bochs, where cases come and answers go as bytes.
#![forbid(unsafe_code)]

mod blame;
mod chunk;
mod drive;
mod encoded;

pub use chunk::{Batch, Chunk};
pub use drive::{BatchMachine, Deliver, Garbled, Receiver, Stop, Stopped, drive};
pub use encoded::{Unanswerable, answer_batch};
