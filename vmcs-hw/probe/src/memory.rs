//! Physical memory, which the probe sees identity-mapped: the pages of cases, the probe's buffers, and the
//! memory functions that the compiler calls.
// UNSAFETY: physical addresses are turned into pointers, and the compiler's memory functions are defined.
#![allow(unsafe_code, reason = "the only module that turns physical addresses into pointers")]

use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

use vmcs_wire::batch::{MAX_ANSWER_BYTES, MAX_BATCH_BYTES};
use vmcs_wire::layout::{self, ARENA, MEMORY_END};

/// Size of a page.
pub(crate) const PAGE: u64 = 4096;

/// Stores the low `size` bytes of `value` at `address`; refuses what is not within one page of the arena.
pub(crate) fn store(address: u64, size: u8, value: u64) -> bool {
    let size = usize::from(size);
    let fits = matches!(size, 1 | 2 | 4 | 8) && ARENA.contains(&address) && address % PAGE + size as u64 <= PAGE;
    if fits {
        // SAFETY: the target lies in ARENA (its end is a page boundary), which is identity-mapped RAM (boot.s) that
        // holds no Rust object; the writes need no alignment.
        unsafe {
            match size {
                1 => (address as *mut u8).write(value as u8),
                2 => (address as *mut u16).write_unaligned(value as u16),
                4 => (address as *mut u32).write_unaligned(value as u32),
                _ => (address as *mut u64).write_unaligned(value),
            }
        }
    }
    fits
}

/// An operand of VMXON, VMCLEAR and VMPTRLD with which they leave the probe's memory alone.
///
/// Once one of them has taken a region, the processor may keep data there and write to it until VMXOFF or VMCLEAR (SDM 25.11.1,
/// Software Use of Virtual-Machine Control Structures, and 25.11.5, VMXON Region), at VMWRITE and at VM exits. So no Rust
/// object may lie there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region(u64);

impl Region {
    /// Memory of the probe: all of it lies behind the arena.
    const PROBE: core::ops::Range<u64> = ARENA.end..MEMORY_END;

    /// The VMXON region of cases that start in VMX root operation.
    pub(crate) const VMXON: Self = {
        assert!(layout::VMXON_REGION >= ARENA.start && layout::VMXON_REGION < ARENA.end);
        Self(layout::VMXON_REGION)
    };

    /// The region at an address that a case names; `None` if it is memory of the probe. An address that is not a multiple
    /// of 4096 is none: all three instructions refuse it (SDM 31.3, VMX Instructions).
    pub(crate) fn of_case(address: u64) -> Option<Self> {
        let refused = !address.is_multiple_of(PAGE);
        (refused || !Self::PROBE.contains(&address)).then_some(Self(address))
    }

    /// A region that the probe gives away for good, with a VMCS revision identifier.
    pub(crate) fn own(page: &'static mut [u8; PAGE as usize], revision: u32) -> Self {
        page.fill(0);
        page[..4].copy_from_slice(&revision.to_le_bytes());
        Self(page.as_mut_ptr() as u64)
    }

    /// Its physical address.
    pub(crate) fn address(self) -> u64 {
        self.0
    }
}

/// The aligned dword at `address`, `None` outside of the machine's RAM.
pub(crate) fn load(address: u64) -> Option<u32> {
    let ram = address < MEMORY_END && address.is_multiple_of(4);
    // SAFETY: below MEMORY_END the identity mapping leads to RAM, or to the legacy area below 1 MiB, which can be read; the
    // address is aligned. Whatever the bytes are, they are a u32; the read is volatile, as no Rust object is meant.
    ram.then(|| unsafe { (address as *const u32).read_volatile() })
}

/// Fills the page at `page` with zeros; ignores what is not a page of the arena.
pub(crate) fn zero_page(page: u64) {
    if page.is_multiple_of(PAGE) {
        zero_lines::<{ PAGE as usize / LINE }>(page, 1);
    }
}

/// Fills an area of the arena with zeros, in units of 64 bytes; ignores what is not one.
pub(crate) fn zero_area(address: u64, bytes: u64) {
    if address.is_multiple_of(PAGE) && bytes.is_multiple_of(PAGE) {
        zero_lines::<{ PAGE as usize / LINE }>(address, bytes / PAGE);
    } else if address.is_multiple_of(LINE as u64) {
        zero_lines::<1>(address, bytes.div_ceil(LINE as u64));
    }
}

/// Unit of [`zero_lines`].
const LINE: usize = 64;

/// Zeros `rounds` times N lines from `address` on, which is a multiple of their size; ignores what lies outside of the
/// arena.
fn zero_lines<const N: usize>(address: u64, rounds: u64) {
    let end = rounds.checked_mul((N * LINE) as u64).and_then(|bytes| address.checked_add(bytes));
    if rounds > 0 && ARENA.contains(&address) && end.is_some_and(|end| end <= ARENA.end) {
        // Straight-line code: an emulator with a debugger built in executes REP STOSQ one quadword at a time.
        // SAFETY: the stores of 16 bytes, aligned because the callers' addresses are multiples of 64, cover exactly the
        // range that was just seen to lie in ARENA, identity-mapped RAM (boot.s) that holds no Rust object.
        unsafe {
            asm!(
                "xorps {zero}, {zero}",
                "2:",
                ".set zeroed, 0",
                ".rept {stores}",
                "movaps [{at} + zeroed], {zero}",
                ".set zeroed, zeroed + 16",
                ".endr",
                "add {at}, {stores} * 16",
                "dec {left}",
                "jnz 2b",
                stores = const N * LINE / 16,
                at = inout(reg) address => _,
                left = inout(reg) rounds => _,
                zero = out(xmm_reg) _,
                options(nostack),
            );
        }
    }
}

/// Writes `words` to consecutive quadwords of the probe's own low memory (80000H-9FFFFH: tables and stacks).
pub(crate) fn write_table(address: u64, words: impl Iterator<Item = u64>) {
    for (index, word) in (0u64..).zip(words) {
        let place = address + 8 * index;
        assert!((0x8_0000..0xA_0000).contains(&place) && place.is_multiple_of(8));
        // SAFETY: asserted to lie, aligned, in the part of low memory that the layout gives to the probe's tables;
        // it is identity-mapped RAM that holds no Rust object.
        unsafe { core::ptr::write_volatile(place as *mut u64, word) };
    }
}

/// Sum of the probe's code and constants.
pub(crate) fn image_checksum() -> u64 {
    unsafe extern "C" {
        static image_start: u64;
        static metal_start: u64;
        static metal_end: u64;
        static constants_end: u64;
    }
    // SAFETY: linker.ld puts the symbols around the loaded code and constants that a case needs, aligned to 16 bytes;
    // nothing writes there.
    let parts = unsafe {
        [(&raw const image_start, &raw const metal_start), (&raw const metal_end, &raw const constants_end)]
            .map(|(start, end)| core::slice::from_raw_parts(start, (end as usize - start as usize) / size_of::<u64>()))
    };
    parts.into_iter().fold(0, |sum, words| sum_of(sum, words.as_chunks::<8>().0, |word| word))
}

/// Sum of the qwords of a buffer. What is left at its end, less than eight qwords, is not in it.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    sum_of(0, bytes.as_chunks::<8>().0.as_chunks::<8>().0, u64::from_le_bytes)
}

/// `sum` and all words, eight at a time: an emulator pays for each instruction.
fn sum_of<T: Copy>(sum: u64, words: &[[T; 8]], word: impl Fn(T) -> u64) -> u64 {
    words.iter().fold(sum, |sum, eight| eight.iter().fold(sum, |sum: u64, next| sum.wrapping_add(word(*next))))
}

/// A page-aligned buffer that is lent out once.
#[repr(C, align(4096))]
pub(crate) struct Buffer<const N: usize> {
    bytes: UnsafeCell<[u8; N]>,
    taken: AtomicBool,
}

// SAFETY: `take` hands the content out once, guarded by an atomic flag.
unsafe impl<const N: usize> Sync for Buffer<N> {}

impl<const N: usize> Buffer<N> {
    /// A buffer of zeros.
    pub(crate) const fn new() -> Self {
        Self { bytes: UnsafeCell::new([0; N]), taken: AtomicBool::new(false) }
    }

    /// The content.
    ///
    /// # Panics
    /// When it is asked for again.
    #[allow(clippy::mut_from_ref, reason = "only the first caller gets a reference")]
    pub(crate) fn take(&'static self) -> &'static mut [u8; N] {
        assert!(!self.taken.swap(true, Ordering::Relaxed), "a buffer is lent out once");
        // SAFETY: the flag lets one caller through, so this exclusive reference is the only one.
        unsafe { &mut *self.bytes.get() }
    }
}

/// A buffer at a fixed place, outside of the loaded program, that is lent out once.
pub(crate) struct LentBuffer {
    address: u64,
    bytes: usize,
    taken: AtomicBool,
}

/// The session.
pub(crate) static SESSION: LentBuffer =
    LentBuffer::new(layout::SESSION_BUFFER, (layout::ANSWER_BUFFER - layout::SESSION_BUFFER) as usize);
/// The answer.
pub(crate) static ANSWER: LentBuffer = LentBuffer::new(layout::ANSWER_BUFFER, MAX_ANSWER_BYTES);
/// The batch.
pub(crate) static BATCH: LentBuffer = LentBuffer::new(layout::BATCH_BUFFER, MAX_BATCH_BYTES);
/// A message on the serial line.
pub(crate) static MESSAGE: LentBuffer =
    LentBuffer::new(layout::MESSAGE_BUFFER, (layout::BUFFERS_END - layout::MESSAGE_BUFFER) as usize);
/// The requests that a loader has brought.
pub(crate) static REQUESTS: LentBuffer = LentBuffer::new(layout::REQUESTS, layout::MAX_REQUESTS_BYTES as usize);

impl LentBuffer {
    const fn new(address: u64, bytes: usize) -> Self {
        Self { address, bytes, taken: AtomicBool::new(false) }
    }

    /// The content.
    ///
    /// # Panics
    /// When it is asked for again.
    #[allow(clippy::mut_from_ref, reason = "only the first caller gets a reference")]
    pub(crate) fn take(&'static self) -> &'static mut [u8] {
        assert!(!self.taken.swap(true, Ordering::Relaxed), "a buffer is lent out once");
        // SAFETY: these places are identity-mapped RAM that holds whatever bytes; the layout keeps them apart, linker.ld
        // keeps the program away from them, and the flag lets one caller through.
        unsafe { core::slice::from_raw_parts_mut(self.address as *mut u8, self.bytes) }
    }
}

/// A value for the one processor that there is, which nothing interrupts but exceptions.
pub(crate) struct Local<T> {
    value: UnsafeCell<T>,
    in_use: AtomicBool,
}

// SAFETY: `with` hands out one reference at a time, guarded by an atomic flag.
unsafe impl<T> Sync for Local<T> {}

impl<T> Local<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { value: UnsafeCell::new(value), in_use: AtomicBool::new(false) }
    }

    /// Lends the value to `use_it`, unless it is lent out: an exception has come while it was in use.
    pub(crate) fn with(&self, use_it: impl FnOnce(&mut T)) {
        if !self.in_use.swap(true, Ordering::Relaxed) {
            // SAFETY: the flag lets one caller through at a time, so this exclusive reference is the only one.
            use_it(unsafe { &mut *self.value.get() });
            self.in_use.store(false, Ordering::Relaxed);
        }
    }
}

/// # Safety
/// As memcpy of the C standard: `n` bytes readable at `source`, writable at `target`, not overlapping.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(target: *mut u8, source: *const u8, n: usize) -> *mut u8 {
    // SAFETY: the caller's contract; DF is 0 by the ABI.
    unsafe {
        asm!("rep movsb", inout("rcx") n => _, inout("rdi") target => _, inout("rsi") source => _,
            options(nostack, preserves_flags));
    }
    target
}

/// # Safety
/// As memmove of the C standard: `n` bytes readable at `source`, writable at `target`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(target: *mut u8, source: *const u8, n: usize) -> *mut u8 {
    if (target as usize).wrapping_sub(source as usize) >= n {
        // SAFETY: `target` does not lie within the source, so copying upwards reads every byte before it is written.
        unsafe { memcpy(target, source, n) };
    } else {
        // SAFETY: the caller's contract; copying downwards reads every byte before it is written; DF is restored.
        unsafe {
            asm!("std", "rep movsb", "cld", inout("rcx") n => _,
                inout("rdi") target.wrapping_add(n).wrapping_sub(1) => _,
                inout("rsi") source.wrapping_add(n).wrapping_sub(1) => _, options(nostack));
        }
    }
    target
}

/// # Safety
/// As memset of the C standard: `n` bytes writable at `target`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(target: *mut u8, value: i32, n: usize) -> *mut u8 {
    // SAFETY: the caller's contract; DF is 0 by the ABI.
    unsafe {
        asm!("rep stosb", inout("rcx") n => _, inout("rdi") target => _, in("eax") value,
            options(nostack, preserves_flags));
    }
    target
}

/// # Safety
/// As memcmp of the C standard: `n` bytes readable at both places.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, n: usize) -> i32 {
    for index in 0..n {
        // SAFETY: the caller's contract; volatile reads keep the compiler from turning the loop into memcmp.
        let (a, b) = unsafe { (left.add(index).read_volatile(), right.add(index).read_volatile()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// # Safety
/// As [`memcmp`].
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, n: usize) -> i32 {
    // SAFETY: the caller's contract.
    unsafe { memcmp(left, right, n) }
}
