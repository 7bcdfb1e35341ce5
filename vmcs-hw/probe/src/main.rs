//! The bare-metal payload that executes case programs.
//!
//! `boot.s` leads from a loader's 32-bit protected mode to [`main`], and `rom_stub.s` leads there from the reset vector.
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
mod case;
mod console;
mod diagnose;
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

use vmcs_probe::disk;
use vmcs_probe::transport::Transport;
use vmcs_wire::layout;

use work::Workplace;

/// Comes from `boot.s` in 64-bit mode on the probe's own stack; `boot` says where the work lies.
extern "C" fn main(boot: u32) -> ! {
    tables::load();
    match boot {
        layout::BOOT_DISK => work_for(&mut disk::Disk::default()),
        layout::BOOT_MAILBOX => work_for(&mut mailbox::Mailbox),
        layout::BOOT_MULTIBOOT2 => metal::run(),
        _ => panic!("started without word of where the work lies (EAX {boot:#x})"),
    }
}

/// Does the work that an emulator or hypervisor has started the probe for.
fn work_for(transport: &mut dyn Transport) -> ! {
    let vmx = processor::enable_vmx().unwrap_or_else(|unfit| panic!("{unfit}"));
    console::say(format_args!("ready"));
    work::all(transport, &mut Workplace::take(vmx.revision));
    console::say(format_args!("done"));
    console::power_off()
}
