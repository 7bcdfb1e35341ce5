//! The bare-metal payload that executes case programs.
//!
//! `boot.s` leads from a loader's 32-bit protected mode to [`entry`], and `rom_stub.s` leads there from the reset vector.
//! (`linux_rom.s` leads from the reset vector to a Linux, which executes the probe under KVM.) `multiboot2.s` is the header that a
//! boot loader looks for. [`case`] executes programs with the instructions of [`vmx`]. `enter.s` holds VM entry and the exit path.
//! [`rest`] restores the processor, so that no case shows what another has left in it. [`work`] comes and answers go by a
//! [`transport`](vmcs_probe::transport): the [`disk`](vmcs_probe::disk), the [`mailbox`] of a virtual machine, or, on bare
//! [`metal`], a [`serial`] line or a file that was [`baked`] into the boot image. [`console`] is for messages to people, and
//! [`diagnose`] asks the model why an entry failed.
#![no_std]
#![no_main]
// Everything is one program: registers are cut to the width that the hardware gives them.
#![allow(clippy::cast_possible_truncation, reason = "register halves and addresses below 4 GiB")]

mod baked;
mod capabilities;
mod case;
mod console;
mod diagnose;
mod entry;
mod mailbox;
mod memory;
mod metal;
mod msrs;
mod multiboot;
mod processor;
mod profile;
mod rest;
mod screen;
mod serial;
mod tables;
mod uart;
mod vmx;
mod work;
