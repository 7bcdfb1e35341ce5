//! The first code in 64-bit mode: it finds out where the work lies.
// UNSAFETY: the assembly that leads here is included.
#![allow(unsafe_code, reason = "assembly")]

use core::arch::global_asm;

use vmcs_probe::disk;
use vmcs_probe::transport::Transport;
use vmcs_wire::layout;

use crate::multiboot::INFORMATION_BYTES;
use crate::work::{self, Workplace};
use crate::{console, mailbox, metal, processor, tables};

global_asm!(include_str!("boot.s"),
    BOOT_MULTIBOOT2 = const layout::BOOT_MULTIBOOT2, INFORMATION_BYTES = const INFORMATION_BYTES,
    PML4 = const layout::PML4, CR0 = const layout::CR0, CR4 = const layout::CR4, EFER = const layout::EFER,
    CODE = const layout::CODE_SELECTOR, DATA = const layout::DATA_SELECTOR, main = sym main);

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
