//! A machine that was started from the image of [`iso`], at the other end of a serial line.
//!
//! The probe announces itself and then executes batches. [`vmcs_wire::line`] says what happens to bytes that get lost. A
//! case that brings the machine down makes it start again from its medium: the host waits for that and goes on with the
//! next case.

mod connection;
mod grub;
pub mod iso;
mod port;
mod run;
pub mod tools;

pub use connection::{MetalError, MetalOptions, MetalTarget};
pub use port::{BadLine, LineName};
