//! Arithmetic for [loops over many events at once](weir_types::lanes): divisions by multiplications and shifts, of which vector units do eight at a time.

/// Divides by a number that is known only when the program runs, by a multiplication.
#[derive(Clone, Copy, Debug)]
pub(super) struct Divider {
    /// 2^shift / divisor, rounded up
    multiplier: u64,
    shift: u32,
}

impl Divider {
    /// Divisors are from 1 to this.
    pub const DIVISOR_MAX: u64 = 1 << 16;
    const DIVIDEND_BITS: u32 = 29;
    /// Dividends are below this.
    pub const DIVIDEND_END: u64 = 1 << Self::DIVIDEND_BITS;

    pub const fn new(divisor: u64) -> Self {
        assert!(0 < divisor && divisor <= Self::DIVISOR_MAX);
        // With d ≤ 2^k and the shift 29 + k, the multiplier m has an error e = m * d - 2^shift < d ≤ 2^k. The quotient is exact as long
        // as dividend * e < 2^shift, which is so below 2^29; and the product stays below 2^60.
        let shift = Self::DIVIDEND_BITS + divisor.next_power_of_two().trailing_zeros();
        Self { multiplier: (1_u64 << shift).div_ceil(divisor), shift }
    }

    #[inline(always)]
    pub const fn quotient(self, dividend: u64) -> u64 {
        dividend.wrapping_mul(self.multiplier) >> self.shift
    }
}

/// Rounds numbers that are not far above a first one down to multiples of 100.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hundreds {
    base: u64,
}

impl Hundreds {
    const DIVIDER: Divider = Divider::new(100);

    pub fn from(first: u64) -> Self {
        Self { base: first / 100 * 100 }
    }

    #[inline(always)]
    pub fn below(self, number: u64) -> u64 {
        self.base + Self::DIVIDER.quotient(number - self.base) * 100
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_are_exact() {
        // Goal: for divisors of all sizes, the quotients around multiples of the divisor are those of a division, up to the last dividend.
        let divisors = (1..300).chain([1000, 4095, 4096, 4097, 60_000, 65_535, 65_536]);
        for divisor in divisors {
            let divider = Divider::new(divisor);
            let multiples = (0..2000)
                .chain((0..2000).map(|i| (Divider::DIVIDEND_END - 1) / divisor - i.min((Divider::DIVIDEND_END - 1) / divisor)));
            for dividend in
                multiples.flat_map(|m| [m * divisor, m * divisor + divisor - 1]).filter(|d| *d < Divider::DIVIDEND_END)
            {
                assert_eq!(divider.quotient(dividend), dividend / divisor, "{dividend} / {divisor}");
            }
        }
    }
}
