//! How the checks read physical memory, and two memories without contents.

/// Physical memory as checks and instructions read it.
pub trait ReadMemory {
    /// The aligned dword at `address`; `None` if it is not known what it holds. On hardware, memory that nothing backs
    /// reads as all ones.
    fn read_u32(&self, address: u64) -> Option<u32>;

    /// The aligned qword at `address`, `None` if some of it is unknown.
    fn read_u64(&self, address: u64) -> Option<u64> {
        let low = self.read_u32(address)?;
        let high = self.read_u32(address.wrapping_add(4))?;
        Some(u64::from(high) << 32 | u64::from(low))
    }
}

/// Memory of which nothing is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnknownMemory;

impl ReadMemory for UnknownMemory {
    fn read_u32(&self, _address: u64) -> Option<u32> {
        None
    }
}

/// Memory that is zero everywhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct ZeroMemory;

impl ReadMemory for ZeroMemory {
    fn read_u32(&self, _address: u64) -> Option<u32> {
        Some(0)
    }
}

impl<M: ReadMemory + ?Sized> ReadMemory for &M {
    fn read_u32(&self, address: u64) -> Option<u32> {
        (**self).read_u32(address)
    }
}
