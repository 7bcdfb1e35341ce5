//! Text on the screen: VGA text, or a framebuffer of pixels.
// UNSAFETY: video memory is written.
#![allow(unsafe_code, reason = "video memory")]

use core::fmt;

use font8x8::legacy::BASIC_LEGACY;

use crate::multiboot::Framebuffer;

/// A character in pixels: lines of the font are doubled.
const CELL_WIDTH: u32 = 8;
const CELL_HEIGHT: u32 = 16;
/// Light grey on black.
const ATTRIBUTE: u16 = 0x0700;

/// A screen with a position for the next character.
pub(crate) struct Screen {
    buffer: Framebuffer,
    columns: u32,
    rows: u32,
    column: u32,
    row: u32,
}

impl Screen {
    /// The screen, empty; `None` if it lies where the probe cannot reach it, or is of an unknown kind.
    pub(crate) fn new(buffer: Framebuffer) -> Option<Self> {
        let size = u64::from(buffer.pitch) * u64::from(buffer.height);
        // The identity mapping ends at 4 GiB.
        let mapped = buffer.address.checked_add(size).is_some_and(|end| end <= 1 << 32);
        let known = buffer.text || matches!(buffer.bits, 15 | 16 | 24 | 32);
        let (columns, rows) = match buffer.text {
            true => (buffer.width, buffer.height),
            false => (buffer.width / CELL_WIDTH, buffer.height / CELL_HEIGHT),
        };
        if !mapped || !known || columns == 0 || rows == 0 {
            return None;
        }
        let mut screen = Self { buffer, columns, rows, column: 0, row: 0 };
        (0..rows).for_each(|row| screen.clear(row));
        screen.row = 0;
        Some(screen)
    }

    fn clear(&mut self, row: u32) {
        for column in 0..self.columns {
            self.draw(column, row, b' ');
        }
    }

    /// Goes to the next line, which is cleared. Below the last one it goes on at the top: to move all lines would take
    /// long where the screen is pixels.
    fn next_line(&mut self) {
        self.column = 0;
        self.row = (self.row + 1) % self.rows;
        self.clear(self.row);
    }

    fn draw(&mut self, column: u32, row: u32, character: u8) {
        if self.buffer.text {
            let place = row * self.buffer.pitch + 2 * column;
            self.store(place, ATTRIBUTE.to_le_bytes()[1], 1);
            self.store(place, character, 0);
            return;
        }
        let glyph = BASIC_LEGACY[usize::from(character & 0x7F)];
        let bytes = u32::from(self.buffer.bits).div_ceil(8);
        for line in 0..CELL_HEIGHT {
            let bits = glyph[line as usize / 2];
            let start = (row * CELL_HEIGHT + line) * self.buffer.pitch + column * CELL_WIDTH * bytes;
            for pixel in 0..CELL_WIDTH {
                let light = if bits >> pixel & 1 == 1 { 0xFF } else { 0 };
                (0..bytes).for_each(|byte| self.store(start + pixel * bytes, light, byte));
            }
        }
    }

    fn store(&mut self, place: u32, value: u8, offset: u32) {
        let address = self.buffer.address + u64::from(place) + u64::from(offset);
        // SAFETY: the loader has named this video memory with its width, height and pitch, which `draw` stays within; `new`
        // has seen that it ends below 4 GiB, where addresses are mapped to themselves. No Rust object lies there.
        unsafe { (address as *mut u8).write_volatile(value) };
    }
}

impl fmt::Write for Screen {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.next_line();
                continue;
            }
            if self.column == self.columns {
                self.next_line();
            }
            self.draw(self.column, self.row, byte);
            self.column += 1;
        }
        Ok(())
    }
}
