//! How work reaches the probe, and answers leave it.

use vmcs_wire::batch::Task;

/// A way to and from the host.
pub trait Transport {
    /// Reads into `buffer`: what is to be done, and the encoded session. `None` when that was read before: a case has
    /// reset the machine.
    fn begin<'a>(&mut self, buffer: &'a mut [u8]) -> Option<(Task, &'a [u8])>;

    /// Reads the next batch into `buffer`: a [`vmcs_wire::batch::BatchHeader`] and its cases. `None` after the last one.
    fn next_batch<'a>(&mut self, buffer: &'a mut [u8]) -> Option<&'a [u8]>;

    /// Most bytes that the next answer may have.
    fn answer_room(&self) -> usize;

    /// Hands in an answer, [`vmcs_wire::batch::AnswerHeader`] to trailer: the first `bytes` of `buffer`, which has a whole
    /// number of sectors. The next one replaces it if it is not `complete`.
    fn submit(&mut self, buffer: &[u8], bytes: usize, complete: bool);
}
