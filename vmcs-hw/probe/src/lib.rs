//! The part of the probe that programs which take its place use, too: how work reaches it and answers leave it.
//!
//! A [`Transport`](transport::Transport) is one way for both. [`disk`] is the one that the probe shares with the first
//! process of a Linux inside Bochs. This one has its batches in memory, and a program in the probe's place that answers each
//! without executing anything:
//!
//! ```
//! use vmcs_probe::transport::Transport;
//! use vmcs_wire::batch::{ANSWER_TRAILER, AnswerHeader, BatchHeader, Task};
//! use vmcs_wire::codec::{Reader, Writer};
//!
//! struct InMemory {
//!     batches: Vec<[u8; BatchHeader::BYTES]>,
//!     answers: Vec<Vec<u8>>,
//! }
//!
//! impl Transport for InMemory {
//!     fn begin<'a>(&mut self, buffer: &'a mut [u8]) -> Option<(Task, &'a [u8])> {
//!         // The session is empty.
//!         Some((Task::Run, &buffer[..0]))
//!     }
//!
//!     fn next_batch<'a>(&mut self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
//!         let batch = self.batches.pop()?;
//!         let place = &mut buffer[..batch.len()];
//!         place.copy_from_slice(&batch);
//!         Some(place)
//!     }
//!
//!     fn answer_room(&self) -> usize {
//!         usize::MAX
//!     }
//!
//!     fn submit(&mut self, buffer: &[u8], bytes: usize, _complete: bool) {
//!         self.answers.push(buffer[..bytes].to_vec());
//!     }
//! }
//!
//! let mut batch = [0; BatchHeader::BYTES];
//! BatchHeader { number: 7, cases: 0, careful: false }.encode(&mut Writer::new(&mut batch))?;
//! let mut transport = InMemory { batches: vec![batch], answers: Vec::new() };
//!
//! let (mut work, mut answer) = ([0; 512], [0; 512]);
//! assert_eq!(transport.begin(&mut work).map(|(task, _)| task), Some(Task::Run));
//! while let Some(batch) = transport.next_batch(&mut work) {
//!     let header = BatchHeader::decode(&mut Reader::new(batch)).expect("it was encoded");
//!     let mut writer = Writer::new(&mut answer);
//!     AnswerHeader { number: header.number, complete: true, bytes: 0 }.encode(&mut writer)?;
//!     writer.u32(ANSWER_TRAILER)?;
//!     let bytes = writer.len();
//!     transport.submit(&answer, bytes, true);
//! }
//! let header = AnswerHeader::decode(&mut Reader::new(&transport.answers[0])).expect("it was encoded");
//! assert_eq!(header.number, 7);
//! # Ok::<(), vmcs_wire::codec::BufferFull>(())
//! ```
#![no_std]
#![allow(
    clippy::cast_possible_truncation,
    reason = "as in the probe: registers are cut to the width that devices have"
)]

pub mod disk;
pub mod transport;
