//! The keys of entries, for another thread.

use std::sync::Arc;

use weir_types::KeyGroupRange;

use super::{Database, Error};

/// Keys that are handed over together.
const KEYS_PER_PART: usize = 4096;

/// Reads the keys of an operator's entries in a namespace while the backend goes on.
pub struct KeyScan {
    database: Arc<Database>,
    groups: KeyGroupRange,
    operator: u32,
    namespace: i64,
}

impl KeyScan {
    pub(super) fn of(database: &Arc<Database>, groups: KeyGroupRange, operator: u32, namespace: i64) -> Self {
        Self { database: Arc::clone(database), groups, operator, namespace }
    }

    /// Calls `each` with keys, many at a time, until it returns false. The keys of entries that are there all the time from when the scan was made, and have not
    /// expired, are among them, each once.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn for_each_part(self, mut each: impl FnMut(&[&[u8]]) -> bool) -> Result<(), Error> {
        let (mut bytes, mut ends) = (vec![], vec![0]);
        self.database.scan(self.groups, self.operator, Some(self.namespace), |at, value| {
            if self.database.expiring.is_over(&at, value) {
                return true;
            }
            bytes.extend_from_slice(at.key);
            ends.push(bytes.len());
            ends.len() <= KEYS_PER_PART || hand_over(&mut bytes, &mut ends, &mut each)
        })?;
        hand_over(&mut bytes, &mut ends, &mut each);
        Ok(())
    }
}

fn hand_over(bytes: &mut Vec<u8>, ends: &mut Vec<usize>, each: &mut impl FnMut(&[&[u8]]) -> bool) -> bool {
    let keys: Vec<&[u8]> = ends.array_windows().map(|&[start, end]| &bytes[start..end]).collect();
    let goes_on = keys.is_empty() || each(&keys);
    bytes.clear();
    ends.truncate(1);
    goes_on
}
