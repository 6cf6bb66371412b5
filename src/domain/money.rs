//! Amounts and rates as checked integers; every rounding is named.
//!
//! Raw token amounts are `U256` base units, credits are `i64` nanocredits, rates are a decimal
//! mantissa and scale. Multiplication happens in 512 bits and is divided once, rounded down.
//! `rust_decimal` only reads text here: its arithmetic rounds silently and is not used on money.

use std::fmt;
use std::str::FromStr;

use alloy::primitives::{U256, U512};
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The amount in whole tokens, exact, without trailing zeros: `1.5`.
    #[must_use]
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
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// Subtracts, or `None` on overflow.
    #[must_use]
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

/// A sum over namespaces, which an `i64` need not hold.
#[must_use]
pub fn display_total(nano: i128) -> String {
    let magnitude = place_point(&nano.unsigned_abs().to_string(), CREDIT_DECIMALS);
    if nano < 0 { format!("-{magnitude}") } else { magnitude }
}

/// Writes `digits × 10^-decimals` without trailing zeros.
fn place_point(digits: &str, decimals: u8) -> String {
    let decimals = usize::from(decimals);
    let width = decimals.saturating_add(1);
    let padded = format!("{digits:0>width$}");
    let (whole, fraction) = padded.split_at(padded.len().saturating_sub(decimals));
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
}

/// An exact non-negative decimal number, as written in the configuration: `mantissa × 10^-scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    mantissa: u128,
    scale: u32,
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
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    /// True when `raw` base units of something with `decimals` are at most this.
    #[must_use]
    pub fn covers(self, raw: RawAmount, decimals: u8) -> bool {
        // raw × 10^scale ≤ mantissa × 10^decimals; neither side can exceed 512 bits.
        let scaled = |n: U512, by: u32| n.checked_mul(U512::from(10).checked_pow(U512::from(by))?);
        let amount = scaled(widen(raw.0), self.scale);
        let limit = scaled(U512::from(self.mantissa), u32::from(decimals));
        matches!((amount, limit), (Some(amount), Some(limit)) if amount <= limit)
    }

    /// True when this is less than `other`.
    #[must_use]
    pub fn is_below(self, other: Self) -> bool {
        let side = |rate: Self, by: u32| {
            U256::from(rate.mantissa).checked_mul(U256::from(10).checked_pow(U256::from(by))?)
        };
        matches!((side(self, other.scale), side(other, self.scale)), (Some(a), Some(b)) if a < b)
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
        let decimal = Decimal::from_str_exact(text).map_err(|_| bad())?.normalize();
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

/// `⌊raw × rate × 10⁹ ÷ 10^decimals⌋`: what `raw` base units buy at `rate` credits per whole token.
/// Rounded down to the nanocredit, in favour of the house, and never more than once.
///
/// # Errors
/// [`MoneyError::Overflow`] when the result exceeds `i64`.
pub fn credits_rounded_down(
    raw: RawAmount,
    decimals: u8,
    rate: Rate,
) -> Result<Nanocredits, MoneyError> {
    // 256 + 128 + 30 bits: cannot exceed 512, and is checked all the same.
    let product = widen(raw.0)
        .checked_mul(U512::from(rate.mantissa))
        .and_then(|p| p.checked_mul(U512::from(NANO_PER_CREDIT)))
        .ok_or(MoneyError::Overflow)?;
    let exponent = u32::from(decimals).checked_add(rate.scale).ok_or(MoneyError::Overflow)?;
    let divisor = widen(pow10(exponent)?);
    let nano = product.checked_div(divisor).ok_or(MoneyError::Overflow)?;
    i64::try_from(nano).map(Nanocredits).map_err(|_| MoneyError::Overflow)
}

fn widen(value: U256) -> U512 {
    U512::from(value)
}

fn pow10(exponent: u32) -> Result<U256, MoneyError> {
    U256::from(10).checked_pow(U256::from(exponent)).ok_or(MoneyError::Overflow)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
