//! Reads gzip as `gzip` does: members, one behind the other, and behind the last one the zeros by which tapes and other devices of blocks fill up
//! their last block.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;

/// How much is read at once.
const READ_BYTES: usize = 32 * 1024;

/// The text of all members of a file.
pub(super) struct Members<R> {
    /// the one that is read; none = all are
    member: Option<GzDecoder<BufReader<R>>>,
}

impl<R: Read> Members<R> {
    /// Reads what is compressed in `input`.
    pub fn new(input: R) -> Self {
        Self { member: Some(GzDecoder::new(BufReader::with_capacity(READ_BYTES, input))) }
    }
}

impl<R: Read> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let has_next = has_next(member.get_mut())?;
            self.member = self.member.take().filter(|_| has_next).map(|member| GzDecoder::new(member.into_inner()));
        }
        Ok(0)
    }
}

/// Whether a member follows, and not just the end, or zeros up to it.
fn has_next(input: &mut impl BufRead) -> io::Result<bool> {
    let mut is_padded = false;
    loop {
        let block = match input.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            block => block?,
        };
        let zeros = block.iter().take_while(|&&byte| byte == 0).count();
        let (is_end, has_more) = (block.is_empty(), zeros < block.len());
        input.consume(zeros);
        is_padded |= zeros > 0;
        if has_more && is_padded {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "something follows the zeros behind what is compressed by gzip",
            ));
        }
        if is_end || has_more {
            return Ok(has_more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::compression::Compression;

    fn read(input: Vec<u8>) -> io::Result<String> {
        let mut text = String::new();
        Members::new(io::Cursor::new(input)).read_to_string(&mut text).map(|_| text)
    }

    #[test]
    fn members_and_zeros_behind_them_are_read() {
        // Goal: all members are one text, the zeros behind the last one are nothing, however many; what follows those, or is no member, is an error,
        // and so is a member that does not end.
        let [a, b, none] = ["a\n", "b\n", ""].map(|text| Compression::Gzip.block(text.as_bytes()).unwrap().into_owned());
        for zeros in [0, 1, 511, 3 * READ_BYTES] {
            let padding = vec![0; zeros];
            assert_eq!(read([&a[..], &padding].concat()).unwrap(), "a\n", "{zeros}");
            assert_eq!(read([&a[..], &none, &b, &padding].concat()).unwrap(), "a\nb\n", "{zeros}");
            assert!(read([&a[..], &padding, b"x"].concat()).is_err(), "{zeros}");
            assert!(zeros == 0 || read([&a[..], &padding, &b].concat()).is_err(), "{zeros}");
        }
        assert!(read(vec![]).is_err() && read(vec![0; 512]).is_err());
        assert!(read(a[..a.len() - 1].to_vec()).is_err());
    }
}
