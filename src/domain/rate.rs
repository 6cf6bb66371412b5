//! Rates and prices: exact decimal numbers, and the few that must be rounded.
//!
//! What is written in a configuration is exact. What is computed of two numbers is rounded down to 18
//! significant digits, and its function says so. Amounts are multiplied by them in [`super::money`].

use std::fmt;
use std::str::FromStr;

use alloy::primitives::{U256, U512};
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::money::{MoneyError, RawAmount, place_point, pow10, widen};

/// Most significant digits of a price that is computed; a price that is read may have more.
pub const PRICE_DIGITS: u32 = 18;
/// Most digits after the point of any rate or price: what a `Decimal` holds.
pub const PRICE_SCALE_MAX: u32 = 28;

/// An exact non-negative decimal number, as written in the configuration: `mantissa × 10^-scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub(super) mantissa: u128,
    pub(super) scale: u32,
}

impl Rate {
    /// The value in base units of something with `decimals`, exact.
    ///
    /// # Errors
    /// [`MoneyError::TooPrecise`] where digits would be lost, [`MoneyError::Overflow`] beyond 256 bits.
    pub fn to_raw(self, decimals: u8) -> Result<RawAmount, MoneyError> {
        let too_precise = || MoneyError::TooPrecise { text: self.to_string(), decimals };
        let shift = u32::from(decimals).checked_sub(self.scale).ok_or_else(too_precise)?;
        U256::from(self.mantissa)
            .checked_mul(pow10(shift)?)
            .map(RawAmount)
            .ok_or(MoneyError::Overflow)
    }

    /// True for zero.
    pub fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    /// True when `raw` base units of something with `decimals` are at most this.
    pub fn covers(self, raw: RawAmount, decimals: u8) -> bool {
        // raw × 10^scale ≤ mantissa × 10^decimals; neither side can exceed 512 bits.
        let scaled = |n: U512, by: u32| n.checked_mul(U512::from(10).checked_pow(U512::from(by))?);
        let amount = scaled(widen(raw.0), self.scale);
        let limit = scaled(U512::from(self.mantissa), u32::from(decimals));
        matches!((amount, limit), (Some(amount), Some(limit)) if amount <= limit)
    }

    /// True when this is less than `other`.
    pub fn is_below(self, other: Self) -> bool {
        let side = |rate: Self, by: u32| {
            U256::from(rate.mantissa).checked_mul(U256::from(10).checked_pow(U256::from(by))?)
        };
        matches!((side(self, other.scale), side(other, self.scale)), (Some(a), Some(b)) if a < b)
    }

    /// One: a stablecoin's dollar.
    pub const ONE: Self = Self { mantissa: 1, scale: 0 };

    /// More than any price: how far two of them are apart that no rate holds the difference of.
    pub(super) const FAR: Self = Self { mantissa: u128::MAX, scale: 0 };

    /// `⌊numerator ÷ denominator⌋` to [`PRICE_DIGITS`] significant digits, at most
    /// [`PRICE_SCALE_MAX`] of them after the point. Rounded down. Digits before the point are never
    /// dropped. `None` where that is not a number, or has more than 28 digits before the point.
    pub fn ratio_rounded_down(numerator: U512, denominator: U512) -> Option<Self> {
        let ten = |by: u32| U512::from(10).checked_pow(U512::from(by));
        // As many digits as there is room for, and then those dropped that are too many.
        let quotient = |scale: u32| numerator.checked_mul(ten(scale)?)?.checked_div(denominator);
        let (mut scale, mut mantissa) =
            (0..=PRICE_SCALE_MAX).rev().find_map(|scale| Some((scale, quotient(scale)?)))?;
        let most = ten(PRICE_DIGITS)?;
        while scale > 0 && mantissa >= most {
            mantissa = mantissa.checked_div(U512::from(10))?;
            scale = scale.checked_sub(1)?;
        }
        let mantissa =
            u128::try_from(mantissa).ok().filter(|m| *m < 10u128.pow(PRICE_SCALE_MAX))?;
        Some(Self { mantissa, scale }.normalised())
    }

    /// `mantissa × 10^exponent`, exact; `None` where a rate does not hold it.
    pub fn from_parts(mantissa: u128, exponent: i32) -> Option<Self> {
        let mut rate = Self { mantissa, scale: exponent.min(0).unsigned_abs() };
        let raised = 10u128.checked_pow(exponent.max(0).unsigned_abs())?;
        rate.mantissa = rate.mantissa.checked_mul(raised)?;
        let rate = rate.normalised();
        (rate.scale <= PRICE_SCALE_MAX && rate.mantissa < 10u128.pow(PRICE_SCALE_MAX))
            .then_some(rate)
    }

    /// The product, rounded down like [`Rate::ratio_rounded_down`].
    pub fn times_rounded_down(self, other: Self) -> Option<Self> {
        let scale = self.scale.checked_add(other.scale)?;
        let product = U512::from(self.mantissa).checked_mul(U512::from(other.mantissa))?;
        Self::ratio_rounded_down(product, U512::from(10).checked_pow(U512::from(scale))?)
    }

    /// One divided by this, rounded down like [`Rate::ratio_rounded_down`].
    pub fn inverse_rounded_down(self) -> Option<Self> {
        let ten = U512::from(10).checked_pow(U512::from(self.scale))?;
        (!self.is_zero()).then(|| Self::ratio_rounded_down(ten, U512::from(self.mantissa)))?
    }

    /// Mantissas of two rates at one scale, so that they can be compared and subtracted.
    pub(super) fn aligned(self, other: Self) -> Option<(U512, U512)> {
        let up = |rate: Self, by: u32| {
            U512::from(rate.mantissa).checked_mul(U512::from(10).checked_pow(U512::from(by))?)
        };
        Some((up(self, other.scale)?, up(other, self.scale)?))
    }

    /// The exact sum; `None` where a rate does not hold it.
    pub fn plus(self, other: Self) -> Option<Self> {
        let (a, b) = self.aligned(other)?;
        Self::at_scale(a.checked_add(b)?, self.scale.checked_add(other.scale)?)
    }

    /// The exact difference; `None` where it is negative, or a rate does not hold it.
    pub fn minus(self, other: Self) -> Option<Self> {
        let (a, b) = self.aligned(other)?;
        Self::at_scale(a.checked_sub(b)?, self.scale.checked_add(other.scale)?)
    }

    fn at_scale(mut mantissa: U512, mut scale: u32) -> Option<Self> {
        while scale > 0 && mantissa.checked_rem(U512::from(10))?.is_zero() {
            mantissa = mantissa.checked_div(U512::from(10))?;
            scale = scale.checked_sub(1)?;
        }
        let mantissa = u128::try_from(mantissa).ok()?;
        (scale <= PRICE_SCALE_MAX).then_some(Self { mantissa, scale })
    }

    /// How far this is from `base`, in hundredths of a percent, rounded up; saturates.
    pub fn distance_bps(self, base: Self) -> u64 {
        let bps = || {
            let (this, base) = self.aligned(base)?;
            let apart = this.max(base).checked_sub(this.min(base))?;
            let scaled = apart.checked_mul(U512::from(10_000))?;
            let (whole, rest) = (scaled.checked_div(base)?, scaled.checked_rem(base)?);
            whole.checked_add(U512::from(u8::from(!rest.is_zero())))
        };
        bps().and_then(|n| u64::try_from(n).ok()).unwrap_or(u64::MAX)
    }

    /// Halfway between two rates, rounded down like [`Rate::ratio_rounded_down`].
    pub fn midpoint_rounded_down(self, other: Self) -> Option<Self> {
        let (a, b) = self.aligned(other)?;
        let scale = self.scale.checked_add(other.scale)?;
        let unit = U512::from(10).checked_pow(U512::from(scale))?.checked_mul(U512::from(2))?;
        Self::ratio_rounded_down(a.checked_add(b)?, unit)
    }

    fn normalised(mut self) -> Self {
        while self.scale > 0 && self.mantissa.checked_rem(10) == Some(0) {
            self.mantissa = self.mantissa.checked_div(10).unwrap_or(0);
            self.scale = self.scale.saturating_sub(1);
        }
        self
    }
}

impl PartialOrd for Rate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Two 128-bit mantissas, each times 10^28 at most, always fit 512 bits.
        match self.aligned(*other) {
            Some((a, b)) => a.cmp(&b),
            None => (other.scale, self.mantissa).cmp(&(self.scale, other.mantissa)),
        }
    }
}

impl FromStr for Rate {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || MoneyError::NotDecimal(text.to_owned());
        let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if !plain || !text.starts_with(|c: char| c.is_ascii_digit()) || text.ends_with('.') {
            return Err(bad());
        }
        // Exact: more than 28 significant digits is an error here, not a rounding.
        let points = text.bytes().filter(|b| *b == b'.').count();
        let too_long = || if points < 2 { MoneyError::TooLong(text.to_owned()) } else { bad() };
        let decimal = Decimal::from_str_exact(text).map_err(|_| too_long())?.normalize();
        let mantissa = u128::try_from(decimal.mantissa()).map_err(|_| bad())?;
        Ok(Self { mantissa, scale: decimal.scale() })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = u8::try_from(self.scale).map_err(|_| fmt::Error)?;
        f.pad(&place_point(&self.mantissa.to_string(), scale))
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A string, or a whole number. Floats are refused: 0.1 is not a number they can hold.
impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Rate;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a decimal number in quotes, such as \"12.5\", or a whole number")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Rate, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Rate, E> {
                number.to_string().parse().map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Rate, E> {
                number.to_string().parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn computed_prices_have_eighteen_digits_and_are_rounded_down() {
        let ratio = |n: u64, d: u64| {
            Rate::ratio_rounded_down(U512::from(n), U512::from(d)).map(|r| r.to_string())
        };
        let table = [
            (1, 3, "0.333333333333333333"),
            (2, 3, "0.666666666666666666"),
            (1, 300, "0.00333333333333333333"),
            (200, 3, "66.6666666666666666"),
            (1, 1, "1"),
            (0, 7, "0"),
            (10, 4, "2.5"),
            (u64::MAX, 1, "18446744073709551615"),
        ];
        for (n, d, expected) in table {
            assert_eq!(ratio(n, d).as_deref(), Some(expected), "{n}/{d}");
        }
        assert_eq!(ratio(1, 0), None);
        assert_eq!(
            Rate::ratio_rounded_down(U512::from(10).pow(U512::from(28)), U512::from(1)),
            None
        );
        assert_eq!(rate("0.987").times_rounded_down(rate("0.5")), Some(rate("0.4935")));
        assert_eq!(rate("8").inverse_rounded_down(), Some(rate("0.125")));
        assert_eq!(rate("0").inverse_rounded_down(), None);
        assert_eq!(rate("1").midpoint_rounded_down(rate("1.001")), Some(rate("1.0005")));
        assert_eq!(Rate::from_parts(99_990_000, -8), Some(rate("0.9999")));
        assert_eq!(Rate::from_parts(5, 3), Some(rate("5000")));
        assert_eq!((Rate::from_parts(1, 40), Rate::from_parts(1, -29)), (None, None));
        assert!(rate("0.97") < rate("0.971") && rate("2") > rate("1.999"));
        assert_eq!(rate("1.10").distance_bps(rate("1")), 1_000);
        assert_eq!(rate("0.99999").distance_bps(rate("1")), 1, "rounded up");
        assert_eq!(rate("1").distance_bps(rate("0")), u64::MAX);
    }
}
