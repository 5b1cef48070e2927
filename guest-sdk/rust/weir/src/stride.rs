//! Strides: several rows in one turn of a loop.

/// So many rows are handled in one turn of a loop that does little for each: the compiler unrolls what is little code, and what each turn of a loop in
/// WebAssembly costs (it looks whether its time is up) is paid once for all of them.
pub(crate) const STRIDE: usize = 4;

/// How many rows a loop that changes an `S` for each of them should handle in one turn. One that keeps more than a word or two does more than a little.
pub(crate) const fn stride_of<S>() -> usize {
    if size_of::<S>() <= 16 { STRIDE } else { 1 }
}

/// Calls `call` with each row from `start` on and its slot, `stride` of them in one turn, until one has returned `true` and the turn is over; returns where
/// it stopped.
#[inline(always)]
pub(crate) fn for_each_slot(
    slots: &[u8],
    start: usize,
    stride: usize,
    mut call: impl FnMut(usize, u32) -> Result<bool, String>,
) -> Result<usize, String> {
    let slots = slots.as_chunks::<4>().0;
    let mut row = start;
    loop {
        let mut enough = false;
        // There is one place where `call` is called: so it is no function of its own, however large it is.
        for _ in 0..stride {
            let Some(slot) = slots.get(row) else { return Ok(row) };
            enough |= call(row, u32::from_le_bytes(*slot))?;
            row += 1;
        }
        if enough {
            return Ok(row);
        }
    }
}
