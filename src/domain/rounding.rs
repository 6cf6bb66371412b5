//! What an amount is in credits or tokens, rounded once, and in whose favour.

use alloy::primitives::{U256, U512};

use crate::domain::money::{MoneyError, NANO_PER_CREDIT, Nanocredits, RawAmount, widen};
use crate::domain::rate::Rate;

/// `⌊raw × multiplied ÷ divided × 10^(decimals_out − decimals)⌋`: base units of another token. Rounded
/// down, once, in favour of the house; with what the division leaves, as `remainder/divisor`.
///
/// # Errors
/// [`MoneyError::Overflow`] beyond 256 bits, or for a divisor of zero.
pub fn tokens_rounded_down(
    raw: RawAmount,
    decimals: u8,
    multiplied: Rate,
    divided: Rate,
    decimals_out: u8,
) -> Result<(RawAmount, String), MoneyError> {
    let power = |a: u32, b: u8| {
        let exponent = a.checked_add(u32::from(b)).ok_or(MoneyError::Overflow)?;
        U512::from(10).checked_pow(U512::from(exponent)).ok_or(MoneyError::Overflow)
    };
    let product = |a: U512, b: u128, power: U512| {
        a.checked_mul(U512::from(b)).and_then(|p| p.checked_mul(power)).ok_or(MoneyError::Overflow)
    };
    // Powers of ten that stand on both sides are taken out first: 512 bits must do for any amount.
    let (over, under) = (power(divided.scale, decimals_out)?, power(multiplied.scale, decimals)?);
    let common = over.min(under);
    let reduce = |n: U512| n.checked_div(common).ok_or(MoneyError::Overflow);
    let (over, under) = (reduce(over)?, reduce(under)?);
    let numerator = product(widen(raw.0), multiplied.mantissa, over)?;
    let divisor = product(U512::from(1), divided.mantissa, under)?;
    let quotient = numerator.checked_div(divisor).ok_or(MoneyError::Overflow)?;
    let rest = numerator.checked_rem(divisor).ok_or(MoneyError::Overflow)?;
    let tokens = U256::checked_from_limbs_slice(quotient.as_limbs())
        .map(RawAmount)
        .ok_or(MoneyError::Overflow)?;
    Ok((tokens, format!("{rest}/{divisor}")))
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
    credits_at_price_rounded_down(raw, decimals, Rate::ONE, rate)
}

/// `⌊raw × price × rate × 10⁹ ÷ 10^decimals⌋`: what `raw` base units buy at a price in dollars for a
/// whole token and `rate` credits for a dollar. One division, rounded down.
///
/// # Errors
/// [`MoneyError::Overflow`] when the result exceeds `i64`.
pub fn credits_at_price_rounded_down(
    raw: RawAmount,
    decimals: u8,
    price: Rate,
    rate: Rate,
) -> Result<Nanocredits, MoneyError> {
    // 256 + 94 + 96 + 30 bits: cannot exceed 512, and is checked all the same.
    let product =
        [U512::from(price.mantissa), U512::from(rate.mantissa), U512::from(NANO_PER_CREDIT)]
            .into_iter()
            .try_fold(widen(raw.0), U512::checked_mul)
            .ok_or(MoneyError::Overflow)?;
    let exponent = [price.scale, rate.scale]
        .into_iter()
        .try_fold(u32::from(decimals), u32::checked_add)
        .ok_or(MoneyError::Overflow)?;
    let divisor = U512::from(10).checked_pow(U512::from(exponent)).ok_or(MoneyError::Overflow)?;
    let nano = product.checked_div(divisor).ok_or(MoneyError::Overflow)?;
    i64::try_from(nano).map(Nanocredits).map_err(|_| MoneyError::Overflow)
}
