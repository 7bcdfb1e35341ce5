//! The bare-metal payload that executes case programs.
//!
//! `boot.s` leads from a loader's 32-bit protected mode to [`entry`], and `rom_stub.s` leads there from the reset vector.
//! (`linux_rom.s` leads from the reset vector to a Linux, which executes the probe under KVM.) `multiboot2.s` is the header that a
//! boot loader looks for.
//!
//! [`work`] takes batches of cases and hands in the answers. They come and go by a [`transport`](vmcs_probe::transport): the
//! [`disk`](vmcs_probe::disk), the [`mailbox`] of a virtual machine, or, on bare [`metal`], a [`serial`] line or a file that
//! was [`baked`] into the boot image. [`case`] executes a case with the instructions of [`vmx`]. `enter.s` holds VM entry and
//! the exit path. [`rest`] and [`msrs`] restore the processor, so that no case shows what another has left in it. [`profile`]
//! reports the processor, [`diagnose`] asks the model why an entry failed, and [`console`] has messages for people.
//!
//! The program is built by vmcs-hw's build script, and runs wherever the command executes a case. This one enters a guest,
//! reads why it exited, and tries to launch it again:
//!
//! ```sh
//! tr -d '\n' <<'END' | vmcs run --target bochs -
//! {"id": "launched twice", "start": "vmx_root",
//!  "memory": [{"address": "0x11000", "u32": "revision"}],
//!  "ops": [{"op": "vmclear", "address": "0x11000"}, {"op": "vmptrld", "address": "0x11000"},
//!          {"op": "image", "image": "plain"}, {"op": "vmlaunch"},
//!          {"op": "vmread", "field": "exit_reason"}, {"op": "vmlaunch"}]}
//! END
//! ```
//!
//! The guest was entered, and exited as the VMX-preemption timer expired (exit reason 52). The second VMLAUNCH failed with
//! VM-instruction error 4, "VMLAUNCH with non-clear VMCS":
//!
//! ```text
//! {"id":"launched twice","results":["ok","ok","ok","Entered","ok","VMfailValid(4)"],"values":[null,null,null,null,"0x34",null]}
//! ```
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
