//! Lets a machine execute batches of cases, and finds out which case stopped the machine.
//!
//! Cases are encoded into a [`Chunk`], which divides them into [`Batch`]es. [`drive`] gives the batches to a
//! [`BatchMachine`] and the answers to a [`Receiver`], in the order of the cases. When the machine stops, `drive` says which
//! case was the reason: from the results that the machine had handed in so far if the batch was a careful one, or else by
//! executing the cases of that batch again, each by itself. So every case is answered exactly once, whatever it or its
//! neighbours do to the machine.
//!
//! ```
//! use std::ops::{ControlFlow, Range};
//!
//! use vmcs_driver::{Batch, BatchMachine, Chunk, Deliver, Garbled, Receiver, Stop, Stopped, drive};
//! use vmcs_wire::program::ListLengths;
//! use vmcs_wire::{Op, Start};
//!
//! /// The second case brings it down.
//! struct Fragile;
//!
//! impl BatchMachine for Fragile {
//!     type Error = std::convert::Infallible;
//!
//!     fn execute(&mut self, _: &Chunk, batches: &[Batch], deliver: Deliver<'_>) -> Result<Option<Stopped>, Self::Error> {
//!         if batches[0].range().contains(&1) {
//!             return Ok(Some(Stopped { stop: Stop::Hung, partial: Vec::new() }));
//!         }
//!         // For each case the number of its results, which is 1, and "it succeeded".
//!         let _ = deliver(&[1, 0, 0].repeat(batches[0].cases));
//!         Ok(None)
//!     }
//!
//!     fn discard(&mut self) {}
//! }
//!
//! struct Print;
//!
//! impl Receiver for Print {
//!     fn answered(&mut self, cases: Range<usize>, _: &[u8]) -> Result<ControlFlow<()>, Garbled> {
//!         println!("cases {cases:?} were completed");
//!         Ok(ControlFlow::Continue(()))
//!     }
//!
//!     fn stopped(&mut self, case: usize, _: &[u8], stop: &Stop) -> ControlFlow<()> {
//!         assert_eq!((case, stop), (1, &Stop::Hung));
//!         ControlFlow::Continue(())
//!     }
//! }
//!
//! let mut chunk = Chunk::default();
//! for _ in 0..4 {
//!     assert!(chunk.push(Start::VmxRoot, &[Op::Vmxoff], ListLengths::default(), 1, false));
//! }
//! assert_eq!(drive(&mut Fragile, &chunk, 4, 0, &mut Print), Ok(ControlFlow::Continue(())));
//! ```
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
