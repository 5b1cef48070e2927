//! The generator's random numbers.
//!
//! They are counter based: draw k of an event is a pure function of the event's state and k. So a column is computed without
//! computing the draws of the columns before it.

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
const SEED_MULTIPLIER: u64 = 0xD134_2543_DE82_EF95;

#[inline(always)]
fn mix64(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The state of event (or table entry) `n` before its first draw.
#[inline(always)]
pub(super) fn init(seed: u64, n: u64) -> u64 {
    mix64(seed.wrapping_mul(SEED_MULTIPLIER).wrapping_add(n.wrapping_mul(GOLDEN)))
}

/// The state after `draws` draws.
#[inline(always)]
pub(super) fn skip(state: u64, draws: u64) -> u64 {
    state.wrapping_add(GOLDEN.wrapping_mul(draws))
}

/// Draw number `position` (from 1) after `state`: 0 ≤ result < bound < 2^31.
#[inline(always)]
pub(super) fn draw(state: u64, position: u64, bound: u64) -> u64 {
    ((mix64(skip(state, position)) >> 32) * bound) >> 32
}

/// Draws in order, for where speed does not matter.
pub(super) struct Draws(u64);

impl Draws {
    pub fn init(seed: u64, n: u64) -> Self {
        Self(init(seed, n))
    }

    pub fn next(&mut self, bound: u64) -> u64 {
        let drawn = draw(self.0, 1, bound);
        self.0 = skip(self.0, 1);
        drawn
    }
}
