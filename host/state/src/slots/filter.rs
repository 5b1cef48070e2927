//! Which keys of a namespace were evicted, about: a key that it does not know need not be asked for.
//!
//! A cuckoo filter (Fan et al., 2014). Of each key it has a *print*, 16 bits of its hash, in one of two buckets, which the hash and the print name. A bucket
//! has room for four; where both are full, a print makes room by going to its own other bucket. So it knows every key that it was given, takes one in
//! some hundreds of others for such a one, and can let go of keys again. A Bloom filter could not: where keys come and go, it would in the end know all.
//!
//! Which keys it has, it does not know, so it cannot grow by giving them new places. It gets another part instead, as large as all that it has.

/// Prints in a bucket.
const BUCKET_PRINTS: usize = 4;

/// The first part's buckets, and up to how many there are in all before a new part only doubles them.
const FIRST_BUCKETS: usize = 16;
const FEW_BUCKETS: usize = 16 << 10;

/// How many prints make room for one, at most.
const MOVES_MAX: usize = 64;

/// The share of the room that has to be in use before there is more of it: if it is not, a part found no room for a hash of which it has very many.
const EMPTY_PART: usize = 8;

/// One in each print of a bucket, and the highest bit of each.
const ONES: u64 = 0x0001_0001_0001_0001;
const HIGHS: u64 = 0x8000_8000_8000_8000;

/// A filter of hashes.
#[derive(Debug, Default)]
pub(super) struct Filter {
    /// each with as many buckets as a power of two; the later, the larger
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    /// four prints each; zero where there is none
    buckets: Vec<u64>,
    prints: usize,
}

/// What a filter knows of a hash.
#[derive(Clone, Copy, Debug)]
struct Print {
    bits: u64,
    /// its buckets, before they are cut to the size of a part
    buckets: [u64; 2],
}

impl Print {
    #[inline]
    fn of(hash: u64) -> Self {
        let bits = (hash >> 48).max(1);
        Self { bits, buckets: [hash, hash ^ way(bits)] }
    }
}

/// What lies between the two buckets of a print, which are never the same.
#[inline]
fn way(bits: u64) -> u64 {
    bits.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16 | 1
}

/// The lowest of a bucket's prints that are these bits: where it begins. None if there is no such.
#[inline]
fn find(bucket: u64, bits: u64) -> Option<u32> {
    let differences = bucket ^ (bits * ONES);
    // The lowest bit of these is right, others need not be.
    let equal = differences.wrapping_sub(ONES) & !differences & HIGHS;
    (equal != 0).then(|| equal.trailing_zeros() - 15)
}

impl Part {
    fn new(buckets: usize) -> Self {
        Self { buckets: vec![0; buckets], prints: 0 }
    }

    /// Whether all prints find room, but for one in very many.
    fn has_room(&self) -> bool {
        self.prints < self.buckets.len() * BUCKET_PRINTS / 32 * 29
    }

    #[inline]
    fn index(&self, bucket: u64) -> usize {
        bucket as usize & (self.buckets.len() - 1)
    }

    #[inline]
    fn may_have(&self, print: &Print) -> bool {
        print.buckets.iter().any(|&bucket| find(self.buckets[self.index(bucket)], print.bits).is_some())
    }

    fn remove(&mut self, print: &Print) -> bool {
        for bucket in print.buckets.map(|bucket| self.index(bucket)) {
            if let Some(at) = find(self.buckets[bucket], print.bits) {
                self.buckets[bucket] &= !(0xFFFF << at);
                self.prints -= 1;
                return true;
            }
        }
        false
    }

    /// Puts a print into a bucket, if there is room.
    fn put(&mut self, bucket: usize, bits: u64) -> bool {
        let Some(at) = find(self.buckets[bucket], 0) else { return false };
        self.buckets[bucket] |= bits << at;
        self.prints += 1;
        true
    }

    /// Puts these bits in the place of others, which it returns.
    fn exchange(&mut self, bucket: usize, at: u32, bits: u64) -> u64 {
        let old = self.buckets[bucket] >> at & 0xFFFF;
        self.buckets[bucket] ^= (old ^ bits) << at;
        old
    }

    /// Takes in a print; false if it finds no room.
    fn insert(&mut self, print: &Print) -> bool {
        let buckets = print.buckets.map(|bucket| self.index(bucket));
        if buckets.iter().any(|&bucket| self.put(bucket, print.bits)) {
            return true;
        }
        let (mut bucket, mut bits) = (buckets[0], print.bits);
        let mut moves = [(0, 0); MOVES_MAX];
        for (step, place) in moves.iter_mut().enumerate() {
            // Which one goes should differ from visit to visit, or they might go round for ever.
            let at = (bits as u32).wrapping_add(step as u32) % BUCKET_PRINTS as u32 * 16;
            *place = (bucket, at);
            bits = self.exchange(bucket, at, bits);
            bucket = self.index(bucket as u64 ^ way(bits));
            if self.put(bucket, bits) {
                return true;
            }
        }
        for &(bucket, at) in moves.iter().rev() {
            bits = self.exchange(bucket, at, bits);
        }
        false
    }
}

impl Filter {
    /// What it takes for each hash, at least.
    pub const PRINT_BYTES: u64 = size_of::<u64>() as u64 / BUCKET_PRINTS as u64;

    /// Takes in a hash. False if it cannot: it would take more than `bytes_max`, or there are very many of the same hash. Then it is of no use any more.
    #[must_use]
    pub fn insert(&mut self, hash: u64, bytes_max: usize) -> bool {
        let print = Print::of(hash);
        // The latest part has most room, the others have what was given up.
        if self.parts.iter_mut().rev().any(|part| part.has_room() && part.insert(&print)) {
            return true;
        }
        let buckets: usize = self.parts.iter().map(|part| part.buckets.len()).sum();
        let prints: usize = self.parts.iter().map(|part| part.prints).sum();
        if prints * EMPTY_PART < buckets * BUCKET_PRINTS {
            return false;
        }
        let more = (if buckets < FEW_BUCKETS { 3 * buckets } else { buckets }).next_power_of_two().max(FIRST_BUCKETS);
        if self.bytes() + more * size_of::<u64>() > bytes_max {
            return false;
        }
        self.parts.push(Part::new(more));
        self.parts.last_mut().is_some_and(|part| part.insert(&print))
    }

    /// Lets go of a hash, which must have been taken in: of others it might take one for it. Where two cannot be told apart in the part that has the one,
    /// they cannot in the smaller one that may have the other either; so the latest parts are looked at first, and whichever goes, one is left for the other.
    pub fn remove(&mut self, hash: u64) {
        let print = Print::of(hash);
        let is_known = self.parts.iter_mut().rev().any(|part| part.remove(&print));
        debug_assert!(is_known, "no more hashes are let go of than were taken in");
    }

    /// Whether it may have been given a hash; false: it was not.
    #[inline]
    pub fn may_have(&self, hash: u64) -> bool {
        let print = Print::of(hash);
        self.parts.iter().rev().any(|part| part.may_have(&print))
    }

    /// The memory that it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.buckets.len() * size_of::<u64>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_types::key::hash_u64;

    use super::*;

    proptest! {
        /// However keys come and go, it knows all that are there, also those that are there twice; and few others.
        #[test]
        fn knows_what_is_there(steps in prop::collection::vec((0..3000u64, any::<bool>()), 0..4000)) {
            let (mut filter, mut there) = (Filter::default(), vec![0u8; 3000]);
            for (key, comes) in steps {
                let count = &mut there[key as usize];
                if comes && *count < 2 {
                    prop_assert!(filter.insert(hash_u64(key), usize::MAX));
                    *count += 1;
                } else if *count > 0 {
                    filter.remove(hash_u64(key));
                    *count -= 1;
                }
            }
            let known = (0..3000).filter(|&key| there[key as usize] > 0);
            prop_assert!(known.into_iter().all(|key| filter.may_have(hash_u64(key))));
            let taken = (3000..13_000).filter(|&key| filter.may_have(hash_u64(key))).count();
            prop_assert!(taken < 100, "{taken} of 10,000 that are not there");
        }
    }

    /// It takes between two and five bytes for each of very many keys; one that it does not have is taken for one of them once in two hundred times at most.
    #[test]
    fn grows() {
        let mut filter = Filter::default();
        for key in 0..300_000 {
            assert!(filter.insert(hash_u64(key), usize::MAX));
            let bytes = filter.bytes() as u64;
            assert!(key < 200_000 || (2 * key..5 * key).contains(&bytes), "{bytes} for {key}");
        }
        assert!((0..300_000).all(|key| filter.may_have(hash_u64(key))));
        let taken = (300_000..400_000).filter(|&key| filter.may_have(hash_u64(key))).count();
        assert!(taken < 500, "{taken} of 100,000");
        // Room that was given up is used again.
        let bytes = filter.bytes();
        for key in 0..300_000 {
            filter.remove(hash_u64(key));
            assert!(filter.insert(hash_u64(key + 300_000), usize::MAX));
        }
        assert!((300_000..600_000).all(|key| filter.may_have(hash_u64(key))));
        assert!(filter.bytes() <= 2 * bytes, "{} after {bytes}", filter.bytes());
    }

    /// It takes no more memory than it may, and none in vain for hashes that are all the same.
    #[test]
    fn knows_its_limits() {
        let mut filter = Filter::default();
        let taken = (0..).take_while(|&key| filter.insert(hash_u64(key), 10_000)).count();
        assert!(taken > 1000 && filter.bytes() <= 10_000, "{taken} in {}", filter.bytes());
        let mut filter = Filter::default();
        let taken = (0..).take_while(|_| filter.insert(7, usize::MAX)).count();
        assert!(taken < 100 && filter.bytes() < 10_000, "{taken} in {}", filter.bytes());
    }
}
