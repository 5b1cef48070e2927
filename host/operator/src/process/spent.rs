//! When to look for keys that are done with.
//!
//! Many functions end what they keep of a key when its last timer fires: a session is over, an auction is sold. Such a key has fresh state and no timer, so it
//! can be forgotten, and what the operator holds follows the keys that are alive instead of those that ever were: less memory, and look-ups that stay
//! in the caches. Other functions keep what they know of a key for good. Whether state is fresh is only known once it was exported; so few are asked
//! for at first, all of them while most turn out to be fresh, and a few ever more seldom while not.

/// Keys that are looked at to learn whether it pays.
const TRIAL_KEYS: usize = 64;

/// The most calls that pass without looking.
const PAUSE_CALLS_MAX: u32 = 1 << 10;

/// Decides how many of the keys whose last timer has fired are looked at.
#[derive(Debug, Default)]
pub(super) struct Spent {
    /// whether most of those that were looked at last were to be forgotten
    pays: bool,
    /// calls until some are looked at again
    wait: u32,
    /// how many calls it waited last
    pause: u32,
}

impl Spent {
    /// How many of so many keys to look at now.
    pub fn share(&mut self, keys: usize) -> usize {
        if self.wait > 0 {
            self.wait -= 1;
            return 0;
        }
        if self.pays { keys } else { keys.min(TRIAL_KEYS) }
    }

    /// Notes that of so many keys that were looked at so many were to be forgotten.
    pub fn note(&mut self, looked_at: usize, forgotten: usize) {
        self.pays = forgotten * 2 >= looked_at;
        self.pause = if self.pays { 0 } else { (2 * self.pause).clamp(1, PAUSE_CALLS_MAX) };
        self.wait = self.pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few at first, all while it pays, none for ever longer while it does not, and all again once it does.
    #[test]
    fn looks_where_it_pays() {
        let mut spent = Spent::default();
        assert_eq!(spent.share(1000), TRIAL_KEYS);
        spent.note(TRIAL_KEYS, TRIAL_KEYS / 2);
        assert_eq!(spent.share(1000), 1000);
        for pause in [1, 2, 4] {
            spent.note(1000, 499);
            assert!((0..pause).all(|_| spent.share(1000) == 0));
            assert_eq!(spent.share(1000), TRIAL_KEYS);
        }
        spent.note(TRIAL_KEYS, TRIAL_KEYS);
        assert_eq!(spent.share(1000), 1000);
    }
}
