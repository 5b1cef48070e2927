//! The end of a file of lines, which whoever wrote it may not have come to.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// How much is read at once.
const BLOCK_BYTES: u64 = 256 * 1024;

/// Goes to the end of a file, without the line there that does not end.
pub(crate) fn cut_last_line(file: &mut File) -> io::Result<()> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = vec![];
    while end > 0 {
        let start = end.saturating_sub(BLOCK_BYTES);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        Read::by_ref(file).take(end - start).read_to_end(&mut block)?;
        end = start + block.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last as u64 + 1);
        if end > start {
            break;
        }
    }
    file.set_len(end)?;
    file.seek(SeekFrom::Start(end)).map(drop)
}
