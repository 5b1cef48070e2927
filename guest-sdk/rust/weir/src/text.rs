//! Text and bytes that are not copied: slices of the buffer that their batch came in.

use std::borrow::Borrow;
use std::cell::Cell;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::ptr::NonNull;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bindings::weir::dataflow::types::DataType;
use crate::value::{Buffers, OffsetWriter, Offsets, Plain, Writer};

/// Bytes that share the buffer of their batch: reading or cloning them allocates nothing.
///
/// Whoever keeps them keeps the whole batch's buffer. State that the SDK holds itself (rows in windows, keys) is copied
/// out of it; in state of your own use [`Bytes::detached`] or `Vec<u8>`.
#[derive(Clone)]
pub struct Bytes {
    owner: Owner,
    /// the first one, in the owner's buffer
    first: NonNull<u8>,
    length: u32,
}

/// The buffer of a column, shared by its rows.
///
/// As an `Rc`, but for what its clones and drops cost, of which there is one for each text of each row: the count is so wide that nobody has to look whether it
/// runs over, and where a drop is inlined, there is only a number that is decremented.
struct Owner(NonNull<Shared>);

struct Shared {
    owners: Cell<u64>,
    bytes: Vec<u8>,
}

impl Owner {
    fn new(bytes: Vec<u8>) -> Self {
        Self(NonNull::from(Box::leak(Box::new(Shared { owners: Cell::new(1), bytes }))))
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn shared(&self) -> &Shared {
        // SAFETY: it is freed when the last owner is dropped, and there is this one.
        unsafe { self.0.as_ref() }
    }

    /// The first byte of the buffer. It stays where it is, as the buffer is never changed.
    fn first(&self) -> NonNull<u8> {
        NonNull::from(self.shared().bytes.as_slice()).cast()
    }

    fn len(&self) -> usize {
        self.shared().bytes.len()
    }
}

impl Clone for Owner {
    #[inline(always)]
    fn clone(&self) -> Self {
        let owners = &self.shared().owners;
        // At a clone a nanosecond this runs over after half a millennium.
        owners.set(owners.get().wrapping_add(1));
        Self(self.0)
    }
}

impl Drop for Owner {
    #[inline(always)]
    fn drop(&mut self) {
        #[cold]
        #[inline(never)]
        #[allow(unsafe_code)]
        fn free(last: NonNull<Shared>) {
            // SAFETY: it comes from a `Box`, and its last owner is gone.
            drop(unsafe { Box::from_raw(last.as_ptr()) });
        }

        let owners = &self.shared().owners;
        let left = owners.get().wrapping_sub(1);
        owners.set(left);
        if left == 0 {
            free(self.0);
        }
    }
}

impl Bytes {
    /// The same bytes in a buffer of their own.
    #[must_use]
    pub fn detached(&self) -> Self {
        if self.owner.len() == self.len() { self.clone() } else { Self::from(self.to_vec()) }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    #[inline(always)]
    #[allow(unsafe_code)]
    fn deref(&self) -> &[u8] {
        // SAFETY: whoever made it saw to it that `length` bytes from `first` on lie in the owner's buffer, which lives as long as
        // this does, and which nobody can change.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.length as usize) }
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self::from(vec![])
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        let length = u32::try_from(bytes.len()).expect("a value is smaller than a guest's memory, 4 GiB");
        let owner = Owner::new(bytes);
        Self { first: owner.first(), owner, length }
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self::from(bytes.to_vec())
    }
}

/// Text that shares the buffer of its batch: reading or cloning it allocates nothing. It is used like a `&str`.
///
/// Whoever keeps it keeps the whole batch's buffer. State that the SDK holds itself (rows in windows, keys) is copied
/// out of it; in state of your own use [`Str::detached`] or `String`.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Str(Bytes);

impl Str {
    /// The text.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub fn as_str(&self) -> &str {
        // SAFETY: a `Str` is made of a `String`, or of a row of a `utf8` column, of which the host guarantees that every row
        // is valid UTF-8; a slice of a row is not made.
        unsafe { std::str::from_utf8_unchecked(&self.0) }
    }

    /// The same text in a buffer of its own.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(self.0.detached())
    }
}

impl Deref for Str {
    type Target = str;

    #[inline(always)]
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<String> for Str {
    fn from(text: String) -> Self {
        Self(text.into_bytes().into())
    }
}

impl From<&str> for Str {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

macro_rules! like {
    ($type:ident, $target:ty) => {
        impl AsRef<$target> for $type {
            #[inline(always)]
            fn as_ref(&self) -> &$target {
                self
            }
        }
        impl Borrow<$target> for $type {
            #[inline(always)]
            fn borrow(&self) -> &$target {
                self
            }
        }
        impl Hash for $type {
            fn hash<H: Hasher>(&self, state: &mut H) {
                (**self).hash(state);
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
        impl PartialEq<$target> for $type {
            fn eq(&self, other: &$target) -> bool {
                **self == *other
            }
        }
        impl PartialEq<&$target> for $type {
            fn eq(&self, other: &&$target) -> bool {
                **self == **other
            }
        }
    };
}

like!(Bytes, [u8]);
like!(Str, str);

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Bytes {}

impl PartialOrd for Bytes {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bytes {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl Serialize for Str {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Str {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

/// A column of text or bytes, ready to be read.
pub struct SharedColumn {
    offsets: Offsets,
    owner: Owner,
    /// the first byte of the owner's buffer, and how many there are
    first: NonNull<u8>,
    length: usize,
}

impl SharedColumn {
    #[inline(always)]
    fn open(buffers: &mut Buffers) -> Result<Self, String> {
        let (offsets, end) = Offsets::open(buffers, buffers.rows())?;
        let owner = Owner::new(buffers.take(end)?);
        Ok(Self { offsets, first: owner.first(), length: owner.len(), owner })
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn get(&self, row: usize) -> Bytes {
        let (start, end) = self.offsets.bounds(row);
        assert!(start <= end && end <= self.length, "a text lies outside of its column");
        // SAFETY: `start` is not beyond the end of the owner's buffer.
        let first = unsafe { self.first.add(start) };
        Bytes { owner: self.owner.clone(), first, length: (end - start) as u32 }
    }
}

/// A column of text or bytes that is being written.
#[derive(Debug, Default)]
pub struct BytesWriter {
    offsets: OffsetWriter,
    bytes: Vec<u8>,
    /// how many bytes the last batch had
    last: usize,
}

impl BytesWriter {
    #[inline(always)]
    fn push(&mut self, row: &[u8]) {
        self.offsets.push(self.bytes.len());
        append(&mut self.bytes, row);
    }
}

impl Writer for BytesWriter {
    fn reserve(&mut self, rows: usize) {
        self.offsets.reserve(rows);
        self.bytes.reserve(self.last.max(rows * 8));
    }

    fn finish(&mut self, buffers: &mut Vec<Vec<u8>>) -> Result<(), String> {
        self.last = self.bytes.len();
        self.offsets.finish(self.last, buffers)?;
        buffers.push(std::mem::take(&mut self.bytes));
        Ok(())
    }
}

/// The widest word that is loaded and stored by one instruction.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
type Wide = std::arch::wasm32::v128;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
type Wide = u128;

/// Appends `row` to `bytes`.
///
/// In WebAssembly a copy of unknown length is `memory.copy`, which the host runs as a function call; for a few bytes that
/// call costs more than the copy. So short rows are copied by fixed-size loads and stores, which may overlap.
#[inline(always)]
fn append(bytes: &mut Vec<u8>, row: &[u8]) {
    /// Copies of `N` words, from the front and from the back, cover every length from `N` to `2 * N` words.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn ends<W: Copy, const N: usize>(bytes: &mut Vec<u8>, row: &[u8]) {
        let (width, length) = (N * size_of::<W>(), row.len());
        debug_assert!(width <= length && length <= 2 * width);
        bytes.reserve(length);
        let old = bytes.len();
        // SAFETY: `row` has at least N words, so both groups of loads lie within it; there is room for as many bytes behind the end
        // of `bytes`, so the stores lie within that. As the row has at most 2 * N words, they write every one of these
        // bytes before `set_len` shows them. A word is an integer or a vector of them, of which every pattern of
        // bits is a value.
        unsafe {
            let (from, to) = (row.as_ptr(), bytes.as_mut_ptr().add(old));
            for start in [0, length - width] {
                for word in 0..N {
                    let place = start + word * size_of::<W>();
                    to.add(place).cast::<W>().write_unaligned(from.add(place).cast::<W>().read_unaligned());
                }
            }
            bytes.set_len(old + length);
        }
    }
    match row.len() {
        0 => {}
        1 => bytes.push(row[0]),
        2..=4 => ends::<u16, 1>(bytes, row),
        5..=8 => ends::<u32, 1>(bytes, row),
        9..=16 => ends::<u64, 1>(bytes, row),
        17..=32 => ends::<Wide, 1>(bytes, row),
        33..=64 => ends::<Wide, 2>(bytes, row),
        _ => bytes.extend_from_slice(row),
    }
}

macro_rules! shared {
    ($($type:ty, $data_type:ident, $reader:ident, $row:ident => $read:expr, $value:ident => $bytes:expr, $encode:ident, $stored:ty, $detach:expr;)*) => {$(
        impl Plain for $type {
            type Reader = SharedColumn;
            type Writer = BytesWriter;
            const TYPE: DataType = DataType::$data_type;

            #[inline(always)]
            fn open_plain(buffers: &mut Buffers) -> Result<SharedColumn, String> {
                SharedColumn::open(buffers)
            }
            #[inline(always)]
            fn read_plain($reader: &SharedColumn, $row: usize) -> Self {
                $read
            }
            fn plain_writer() -> BytesWriter {
                BytesWriter::default()
            }
            #[inline(always)]
            fn write_plain(&self, writer: &mut BytesWriter) {
                let $value = self;
                writer.push($bytes);
            }
            fn write_empty(writer: &mut BytesWriter) {
                writer.push(&[]);
            }
            fn encode_plain<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.$encode(self)
            }
            fn decode_plain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <$stored>::deserialize(deserializer).map(Self::from)
            }
            fn detach_plain(&mut self) {
                let detach: fn(&mut Self) = $detach;
                detach(self);
            }
        }
    )*};
}

shared! {
    Str, Utf8, reader, row => Str(reader.get(row)), v => v.as_bytes(), serialize_str, String, |v| *v = v.detached();
    Bytes, Binary, reader, row => reader.get(row), v => v, serialize_bytes, &[u8], |v| *v = v.detached();
    String, Utf8, reader, row => Str(reader.get(row)).as_str().to_owned(), v => v.as_bytes(), serialize_str, String, |_| {};
}
