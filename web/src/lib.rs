//! `vmcs explain` as a WebAssembly module: whoever loads it hands over a text and gets the answer as JSON.
//!
//! The module imports nothing. It exports `memory` and three functions. `input(length)` makes room for a text and, behind it,
//! a question in JSON ([`Question`]), and returns the address to write them to; `explain(text_length)` answers and returns the
//! length of the answer, which lies at the address that `output()` returns, in JSON ([`Reply`]).
//!
//! ```
//! let reply = vmcs_web::reply(b"KVM: entry failed, hardware error 0x80000021", &vmcs_web::Question::default());
//! assert_eq!(reply.answers.len(), 1);
//! ```

mod exports;
mod reply;

pub use reply::{Answer, Question, Reply, Section, SectionPoint, reply};
