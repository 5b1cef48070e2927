//! A hash whose results last: in names of files, in fingerprints, and in who reads which split.

/// FNV-1a (Fowler, Noll, Vo), of 64 bits.
pub(crate) fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}
