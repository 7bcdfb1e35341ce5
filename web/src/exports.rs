//! What the module exports. The buffers lie in the module's memory, which its host reads and writes; nothing here follows a
//! pointer.

use std::cell::RefCell;

use crate::reply::{Question, Reply, reply};

thread_local! {
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static OUTPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Makes room for a text and a question of that length in all, and returns its address.
#[allow(unsafe_code, reason = "the name is exported")]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn input(length: usize) -> *mut u8 {
    INPUT.with_borrow_mut(|input| {
        input.clear();
        input.resize(length, 0);
        input.as_mut_ptr()
    })
}

/// Answers the question that follows the text, which has that length, and returns the length of the answer.
#[allow(unsafe_code, reason = "the name is exported")]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn explain(text_length: usize) -> usize {
    let answer = INPUT.with_borrow(|input| {
        let (text, question) = input.split_at(text_length.min(input.len()));
        let reply = match serde_json::from_slice::<Question>(question) {
            Ok(question) => reply(text, &question),
            Err(error) => Reply::error(format!("the question is wrong: {error}")),
        };
        serde_json::to_vec(&reply).expect("an answer is text and numbers")
    });
    let length = answer.len();
    OUTPUT.with_borrow_mut(|output| *output = answer);
    length
}

/// The address of the answer.
#[allow(unsafe_code, reason = "the name is exported")]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn output() -> *const u8 {
    OUTPUT.with_borrow(Vec::as_ptr)
}
