//! Amounts and rates as checked integers; every rounding is named.
//!
//! Raw token amounts are `U256` base units, credits are `i64` nanocredits, rates are a decimal
//! mantissa and scale. Multiplication happens in 512 bits and is divided once, rounded down.
//! `rust_decimal` only reads text, in [`super::rate`]: its arithmetic rounds silently and is not used on
//! money.

use std::fmt;
use std::str::FromStr;

use alloy::primitives::{U256, U512};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use super::rate::Rate;

/// Nanocredits in one credit.
pub const NANO_PER_CREDIT: u64 = 1_000_000_000;
/// Digits after the point of a credit.
pub const CREDIT_DECIMALS: u8 = 9;
/// Tokens with more decimals than this are refused by the configuration.
pub const TOKEN_DECIMALS_MAX: u8 = 36;

/// Why an amount could not be computed or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The result does not fit; the caller holds the deposit.
    #[error("amount overflows")]
    Overflow,
    /// Text that is not an exact non-negative decimal number.
    #[error(
        "{0:?} is not a decimal number; expected digits with an optional point, such as \"12.5\""
    )]
    NotDecimal(String),
    /// More digits than an exact number can have here.
    #[error("{0:?} has too many digits; at most 28 are exact")]
    TooLong(String),
    /// More digits after the point than the unit has.
    #[error("{text:?} has more than {decimals} digits after the point")]
    TooPrecise {
        /// The text.
        text: String,
        /// What the unit allows.
        decimals: u8,
    },
}

/// A token amount in base units, as the chain says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RawAmount(pub U256);

impl RawAmount {
    /// Nothing.
    pub const ZERO: Self = Self(U256::ZERO);

    /// Adds, or `None` on overflow.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// Subtracts, or `None` below zero.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The amount in whole tokens, exact, without trailing zeros: `1.5`.
    pub fn display(self, decimals: u8) -> String {
        place_point(&self.0.to_string(), decimals)
    }
}

/// Base units as a decimal string: JSON numbers would lose digits.
impl Serialize for RawAmount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RawAmount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(serde::de::Error::custom("a raw amount is a string of digits"));
        }
        U256::from_str(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Credits, in billionths. Signed, because a reversal may take a balance below zero.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Nanocredits(pub i64);

impl Nanocredits {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Adds, or `None` on overflow.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// Subtracts, or `None` on overflow.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }
}

/// Credits with a point: `12.5`.
impl fmt::Display for Nanocredits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = place_point(&self.0.unsigned_abs().to_string(), CREDIT_DECIMALS);
        let sign = if self.0 < 0 { "-" } else { "" };
        f.pad(&format!("{sign}{magnitude}"))
    }
}

/// Dollars of the treasury, in billionths. A type of their own: they are no credits, and no sum has
/// both in it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Nanodollars(pub i64);

impl Nanodollars {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Adds, or `None` on overflow.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// Subtracts, or `None` on overflow.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// `⌊raw × 10⁹ ÷ 10^decimals⌋`: a stablecoin taken at its face, one dollar for a whole one.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`] beyond an `i64`.
    pub fn at_face_rounded_down(raw: RawAmount, decimals: u8) -> Result<Self, MoneyError> {
        let divisor =
            U512::from(10).checked_pow(U512::from(decimals)).ok_or(MoneyError::Overflow)?;
        let nano = widen(raw.0)
            .checked_mul(U512::from(NANO_PER_CREDIT))
            .and_then(|product| product.checked_div(divisor))
            .ok_or(MoneyError::Overflow)?;
        i64::try_from(nano).map(Self).map_err(|_| MoneyError::Overflow)
    }

    /// `⌊self × part ÷ whole⌋`: what a part of the tokens that this stands for is worth.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`] for a whole of zero, or where a part is larger than the whole by so much
    /// that it does not fit.
    pub fn share_rounded_down(self, part: RawAmount, whole: RawAmount) -> Result<Self, MoneyError> {
        let this = u64::try_from(self.0).map_err(|_| MoneyError::Overflow)?;
        let share = widen(part.0)
            .checked_mul(U512::from(this))
            .and_then(|product| product.checked_div(widen(whole.0)))
            .ok_or(MoneyError::Overflow)?;
        i64::try_from(share).map(Self).map_err(|_| MoneyError::Overflow)
    }
}

/// Dollars with a point: `12.5`.
impl fmt::Display for Nanodollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Nanocredits(self.0), f)
    }
}

/// A sum over namespaces, which an `i64` need not hold.
pub fn display_total(nano: i128) -> String {
    let magnitude = place_point(&nano.unsigned_abs().to_string(), CREDIT_DECIMALS);
    if nano < 0 { format!("-{magnitude}") } else { magnitude }
}

/// Writes `digits × 10^-decimals` without trailing zeros.
pub(super) fn place_point(digits: &str, decimals: u8) -> String {
    let decimals = usize::from(decimals);
    let width = decimals.saturating_add(1);
    let padded = format!("{digits:0>width$}");
    let (whole, fraction) = padded.split_at(padded.len().saturating_sub(decimals));
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
}

pub(super) fn widen(value: U256) -> U512 {
    U512::from(value)
}

pub(super) fn pow10(exponent: u32) -> Result<U256, MoneyError> {
    U256::from(10).checked_pow(U256::from(exponent)).ok_or(MoneyError::Overflow)
}

#[cfg(test)]
mod tests {
    use crate::domain::rounding::tokens_rounded_down;
    use proptest::prelude::*;

    use super::*;
    use crate::domain::rounding::credits_rounded_down;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn credits_table() {
        // raw, decimals, rate, credits
        let table = [
            ("1000000", 6, "1000", "1000"),
            ("1", 6, "1000", "0.001"),
            ("1", 6, "0.000001", "0"),
            ("999999", 6, "0.001", "0.000999999"),
            ("1000000000000000000", 18, "50", "50"),
            ("1", 18, "50", "0"),
            ("20000000", 18, "50", "0.000000001"),
            ("19999999", 18, "50", "0"),
            ("7", 0, "0.1", "0.7"),
            ("1", 24, "1", "0"),
            ("0", 6, "1000", "0"),
        ];
        for (raw, decimals, per_token, credits) in table {
            let raw = RawAmount(raw.parse().unwrap());
            let got = credits_rounded_down(raw, decimals, rate(per_token)).unwrap();
            assert_eq!(got.to_string(), credits, "{raw:?} {decimals} {per_token}");
        }
    }

    #[test]
    fn overflow_is_an_error_and_never_wraps() {
        for (raw, decimals) in [(U256::MAX, 0), (U256::MAX, 6), (U256::MAX, 36)] {
            let got = credits_rounded_down(RawAmount(raw), decimals, rate("1000"));
            assert_eq!(got, Err(MoneyError::Overflow));
        }
        // The largest i64 is still reachable, and one more base unit is not.
        let largest = RawAmount(U256::from(i64::MAX.unsigned_abs()));
        assert_eq!(credits_rounded_down(largest, 9, rate("1")), Ok(Nanocredits(i64::MAX)));
        let beyond = largest.checked_add(RawAmount(U256::from(1))).unwrap();
        assert_eq!(credits_rounded_down(beyond, 9, rate("1")), Err(MoneyError::Overflow));
    }

    #[test]
    fn decimal_text() {
        for (text, raw) in [("0", "0"), ("1", "1000000"), ("1.5", "1500000"), ("0.000001", "1")] {
            assert_eq!(rate(text).to_raw(6).unwrap().0.to_string(), raw);
        }
        assert!(matches!(rate("0.0000001").to_raw(6), Err(MoneyError::TooPrecise { .. })));
        for bad in ["", ".", ".5", "5.", "-1", "+1", "1e3", "1_000", "0x1", "1.2.3", " 1", "NaN"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad:?}");
        }
        let thirty_digits = "1.00000000000000000000000000001";
        assert!(thirty_digits.parse::<Rate>().is_err());
    }

    #[test]
    fn tokens_table() {
        // raw, decimals, multiplied, divided, decimals out, tokens
        let table = [
            ("1000000", 6, "1", "0.02", 18, "50000000000000000000"),
            ("1000000", 6, "0.99", "0.02", 18, "49500000000000000000"),
            ("1", 6, "1", "3", 6, "0"),
            ("10", 6, "1", "3", 6, "3"),
            ("1000000000000000000", 18, "1", "0.5", 6, "2000000"),
            ("7", 0, "1", "1", 24, "7000000000000000000000000"),
            ("7000000000000000000000000", 24, "1", "1", 0, "7"),
        ];
        for (raw, decimals, multiplied, divided, out, expected) in table {
            let raw = RawAmount(raw.parse().unwrap());
            let (tokens, _) =
                tokens_rounded_down(raw, decimals, rate(multiplied), rate(divided), out).unwrap();
            assert_eq!(tokens.0.to_string(), expected, "{raw:?}");
        }
        let (_, rest) =
            tokens_rounded_down(RawAmount(U256::from(10)), 6, rate("1"), rate("3"), 6).unwrap();
        assert_eq!(rest, "1/3");
        for raw in [U256::MAX, U256::from(1)] {
            let zero = tokens_rounded_down(RawAmount(raw), 6, rate("1"), rate("0"), 18);
            assert_eq!(zero, Err(MoneyError::Overflow));
        }
        let many = tokens_rounded_down(RawAmount(U256::MAX), 0, rate("1"), rate("0.1"), 24);
        assert_eq!(many, Err(MoneyError::Overflow));
    }

    #[test]
    fn dollars_table() {
        for (amount, decimals, nano) in [
            (1, 6, Ok(1_000)),
            (1, 18, Ok(0)),
            (1_999_999_999, 18, Ok(1)),
            (i64::MAX.unsigned_abs(), 9, Ok(i64::MAX)),
            (i64::MAX.unsigned_abs(), 8, Err(MoneyError::Overflow)),
        ] {
            let raw = RawAmount(U256::from(amount));
            let face = Nanodollars::at_face_rounded_down(raw, decimals).map(|usd| usd.0);
            assert_eq!(face, nano, "{amount} {decimals}");
        }
        let share = |usd, part: u64, whole: u64| {
            let (part, whole) = (RawAmount(U256::from(part)), RawAmount(U256::from(whole)));
            Nanodollars(usd).share_rounded_down(part, whole).map(|usd| usd.0)
        };
        assert_eq!(share(10, 2, 3), Ok(6));
        assert_eq!(share(i64::MAX, u64::MAX, u64::MAX), Ok(i64::MAX));
        assert_eq!(share(i64::MAX, u64::MAX, 1), Err(MoneyError::Overflow));
        assert_eq!(share(1, 1, 0), Err(MoneyError::Overflow));
        assert_eq!(share(-1, 1, 1), Err(MoneyError::Overflow));
        let whole = RawAmount(U256::MAX);
        assert_eq!(Nanodollars(7).share_rounded_down(whole, whole), Ok(Nanodollars(7)));
        assert_eq!(Nanodollars(-1_500_000_000).to_string(), "-1.5");
    }

    #[test]
    fn amounts_read_back_as_written() {
        assert_eq!(RawAmount(U256::from(1_500_000)).display(6), "1.5");
        assert_eq!(RawAmount(U256::from(1)).display(18), "0.000000000000000001");
        assert_eq!(RawAmount(U256::from(7)).display(0), "7");
        assert_eq!(RawAmount::ZERO.display(6), "0");
        assert_eq!(Nanocredits(-1_500_000_000).to_string(), "-1.5");
        assert_eq!(Nanocredits(i64::MIN).to_string(), "-9223372036.854775808");
        assert_eq!(display_total(-5), "-0.000000005");
    }

    proptest! {
        /// Credits × 10^decimals ≤ raw × rate < (credits + 1 nano) × 10^decimals: never more than
        /// the value, and never a whole nanocredit less.
        #[test]
        fn credits_never_exceed_value(raw in any::<u128>(), decimals in 0u8..=24,
                                      mantissa in 0u64..1_000_000_000, scale in 0u32..=12) {
            let rate = Rate { mantissa: u128::from(mantissa), scale };
            if let Ok(nano) = credits_rounded_down(RawAmount(U256::from(raw)), decimals, rate) {
                let value = U512::from(raw) * U512::from(mantissa) * U512::from(NANO_PER_CREDIT);
                let unit = widen(pow10(u32::from(decimals) + scale).unwrap());
                let credited = U512::from(nano.0.unsigned_abs()) * unit;
                prop_assert!(credited <= value);
                prop_assert!(value - credited < unit);
            }
        }

        #[test]
        fn splitting_a_payment_never_pays(a in any::<u64>(), b in any::<u64>(),
                                          decimals in 0u8..=24, mantissa in 1u64..1_000_000) {
            let rate = Rate { mantissa: u128::from(mantissa), scale: 3 };
            let credits = |raw: u128| {
                credits_rounded_down(RawAmount(U256::from(raw)), decimals, rate)
            };
            if let Ok(whole) = credits(u128::from(a) + u128::from(b)) {
                let parts = credits(a.into()).unwrap().0 + credits(b.into()).unwrap().0;
                prop_assert!(parts <= whole.0);
                prop_assert!(whole.0 - parts <= 1);
            }
        }
    }
}
