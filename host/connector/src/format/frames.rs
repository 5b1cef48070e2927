//! Reads Zstandard, and tells of a frame that takes too much memory what can be done about it.

use std::io::{self, BufReader, Read};

/// The binary logarithm of how far a frame may refer back, in bytes: what it is read with takes that much memory. It is what `zstd` itself takes unless it
/// is told otherwise.
const WINDOW_LOG_MAX: u32 = 27;

/// The library's code for a window beyond that.
const WINDOW_TOO_LARGE: usize =
    (zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge as usize).wrapping_neg();

/// The text of all frames of a file.
pub(super) struct Frames<R: Read>(zstd::Decoder<'static, BufReader<R>>);

impl<R: Read> Frames<R> {
    /// Reads what is compressed in `input`.
    pub fn new(input: R) -> io::Result<Self> {
        let mut decoder = zstd::Decoder::new(input)?;
        decoder.window_log_max(WINDOW_LOG_MAX)?;
        Ok(Self(decoder))
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(explained)
    }
}

/// The library has but a text for what went wrong, and that does not say what to do.
#[cold]
fn explained(error: io::Error) -> io::Error {
    if error.to_string() != zstd::zstd_safe::get_error_name(WINDOW_TOO_LARGE) {
        return error;
    }
    let why = format!(
        "it is compressed by Zstandard with a window of more than {} MiB; compress it again without --long, or with --long={WINDOW_LOG_MAX} at most",
        (1_u64 << WINDOW_LOG_MAX) >> 20
    );
    io::Error::new(io::ErrorKind::Unsupported, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn read(input: Vec<u8>) -> io::Result<String> {
        let mut text = String::new();
        Frames::new(io::Cursor::new(input))?.read_to_string(&mut text).map(|_| text)
    }

    #[test]
    fn windows_that_are_too_large_are_named() {
        // Goal: of a frame that refers back further than is kept, the limit and the way out are told, and not that it is damaged; one of the limit is read.
        let frame = |window_log: u8| [&[0x28, 0xB5, 0x2F, 0xFD, 0x00, (window_log - 10) << 3][..], &[0x01, 0x00, 0x00]].concat();
        assert_eq!(read(frame(27)).unwrap(), "");
        for window_log in [28, 31] {
            let error = Error::unreadable("the file x.zst cannot be read", read(frame(window_log)).unwrap_err());
            for part in ["the file x.zst", "more than 128 MiB", "compress it again without --long, or with --long=27"] {
                assert!(error.message.contains(part), "{window_log}: {error}");
            }
            assert!(!error.message.contains("damaged"), "{window_log}: {error}");
        }
        let cut = frame(27)[..7].to_vec();
        let error = Error::unreadable("the file", read(cut).unwrap_err());
        assert!(error.message.contains("damaged") && !error.message.contains("--long"), "{error}");
    }
}
