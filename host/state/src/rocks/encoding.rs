//! Keys of entries as keys of the database, in the same order.
//!
//! ```text
//! 0      2          6                14
//! | group | operator | namespace      | key …
//! | u16   | u32      | i64, sign      | any bytes, to the end
//! |       |          | bit flipped    |
//! ```
//!
//! All numbers are big-endian, so that bytes compare as [`StateKey`] does: a group's entries lie together (a rescale moves ranges of groups), in it
//! an operator's, and in them those of a namespace.

use weir_types::KeyGroup;

use crate::StateKey;

/// The length of what is before the key.
const PREFIX_BYTES: usize = 14;

/// Appends the bytes that name an entry.
pub(super) fn encode(at: &StateKey<'_>, out: &mut Vec<u8>) {
    out.extend(at.group.0.to_be_bytes());
    out.extend(at.operator.to_be_bytes());
    out.extend(ordered(at.namespace));
    out.extend(at.key);
}

/// What the bytes of an entry's name say. None if they are too few.
pub(super) fn decode(bytes: &[u8]) -> Option<StateKey<'_>> {
    let (group, rest) = bytes.split_first_chunk()?;
    let (operator, rest) = rest.split_first_chunk()?;
    let (namespace, key) = rest.split_first_chunk()?;
    Some(StateKey {
        group: KeyGroup(u16::from_be_bytes(*group)),
        operator: u32::from_be_bytes(*operator),
        namespace: (u64::from_be_bytes(*namespace) ^ SIGN) as i64,
        key,
    })
}

/// The group of an entry. None if the bytes are too few.
pub(super) fn group(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|group| u16::from_be_bytes(*group))
}

/// What the names of an operator's entries in a group begin with, of one namespace or of all.
pub(super) fn prefix(group: u16, operator: u32, namespace: Option<i64>) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(PREFIX_BYTES);
    prefix.extend(group.to_be_bytes());
    prefix.extend(operator.to_be_bytes());
    prefix.extend(namespace.map(ordered).iter().flatten());
    prefix
}

/// The first bytes that come after all that begin with `prefix`. None if there are no such.
pub(super) fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after)
}

const SIGN: u64 = 1 << 63;

fn ordered(namespace: i64) -> [u8; 8] {
    (namespace as u64 ^ SIGN).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts() -> impl Strategy<Value = (u16, u32, i64, Vec<u8>)> {
        let edges = prop_oneof![Just(i64::MIN), Just(-1), Just(0), Just(1), Just(i64::MAX), any::<i64>()];
        let numbers = (prop_oneof![0..3u16, any::<u16>()], prop_oneof![0..3u32, any::<u32>()]);
        (numbers, edges, prop::collection::vec(prop_oneof![Just(0), Just(255), any::<u8>()], 0..4))
            .prop_map(|((g, o), n, k)| (g, o, n, k))
    }

    fn bytes((group, operator, namespace, key): &(u16, u32, i64, Vec<u8>)) -> Vec<u8> {
        let mut bytes = vec![];
        encode(&StateKey { group: KeyGroup(*group), operator: *operator, namespace: *namespace, key }, &mut bytes);
        bytes
    }

    proptest! {
        /// Bytes compare as what they name, tell it, and lie between their prefixes and what comes after these.
        #[test]
        fn keeps_the_order(a in parts(), b in parts()) {
            prop_assert_eq!(bytes(&a).cmp(&bytes(&b)), a.cmp(&b));
            let bytes = bytes(&a);
            let at = decode(&bytes).unwrap();
            prop_assert_eq!((at.group.0, at.operator, at.namespace, at.key), (a.0, a.1, a.2, &a.3[..]));
            prop_assert_eq!(group(&bytes), Some(a.0));
            for prefix in [prefix(a.0, a.1, None), prefix(a.0, a.1, Some(a.2))] {
                prop_assert!(bytes.starts_with(&prefix));
                prop_assert!(after(&prefix).is_none_or(|after| bytes < after));
            }
        }
    }

    /// What comes after a prefix is the next one, also where it has to carry; nothing comes after the last.
    #[test]
    fn comes_after() {
        assert_eq!(after(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(after(&[1, 255, 255]), Some(vec![2]));
        assert_eq!(after(&[255, 255]), None);
        assert_eq!(decode(&[0; PREFIX_BYTES - 1]), None);
    }
}
