//! Reading the lines of files that come from anywhere, so that a line may be too long.

use std::io::{self, BufRead, Read};

/// The longest line that is read, in bytes.
pub const MAX_LINE: usize = 16 << 20;

/// A line that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadLineError {
    /// The line is longer than [`MAX_LINE`].
    #[error("the line is too long: expected at most {MAX_LINE} bytes")]
    TooLong,
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads the next line into `text`, without its end and the white space before that. `false` at the end of the file.
///
/// # Errors
/// [`ReadLineError`].
pub fn read_line(from: &mut impl BufRead, text: &mut Vec<u8>) -> Result<bool, ReadLineError> {
    text.clear();
    let most = MAX_LINE as u64 + 1;
    if from.by_ref().take(most).read_until(b'\n', text)? == 0 {
        return Ok(false);
    }
    if text.len() > MAX_LINE {
        return Err(ReadLineError::TooLong);
    }
    text.truncate(text.trim_ascii_end().len());
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end() {
        let long = [b"a\r\n\nb".as_slice(), &vec![b' '; MAX_LINE]].concat();
        let (mut from, mut text) = (long.as_slice(), Vec::new());
        for line in ["a", ""] {
            assert!(read_line(&mut from, &mut text).unwrap());
            assert_eq!(text, line.as_bytes());
        }
        assert!(matches!(read_line(&mut from, &mut text), Err(ReadLineError::TooLong)));
        assert!(!read_line(&mut [].as_slice(), &mut text).unwrap());
    }
}
