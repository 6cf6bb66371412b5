//! What a payment is worth in credits, in dollars and in tokens: computed again from what a cause says.

use crate::domain::conversion::Conversion;
use crate::domain::money::{MoneyError, Nanocredits, Nanodollars, Rate, RawAmount};
use crate::domain::rounding::{credits_at_price_rounded_down, credits_rounded_down};
use crate::domain::terms::Rule;

/// A payment and its price, as a cause holds them.
#[derive(Debug, Clone, Copy)]
pub struct Worth<'a> {
    /// Asset that the token was taken as.
    pub asset: &'a str,
    /// Amount, base units.
    pub raw: RawAmount,
    /// Its decimals.
    pub decimals: u8,
    /// Word of the rule.
    pub rule: &'a str,
    /// Credits per whole token; for market rules, the rate that the last step used.
    pub rate: Rate,
    /// The market prices and the arithmetic, for rules that need them.
    pub conversion: Option<&'a Conversion>,
    /// The result.
    pub credits: Nanocredits,
}

/// What a conversion makes the treasury owe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// Asset owed.
    pub asset: String,
    /// How much of it, base units.
    pub tokens: RawAmount,
    /// Its decimals.
    pub decimals: u8,
    /// What it is owed for: the stablecoins that came in, at their face, rounded down.
    pub usd: Nanodollars,
}

impl Worth<'_> {
    /// True when the credits are what the rule, its rate and its prices give, and there are any.
    pub fn holds(&self) -> bool {
        let (raw, decimals, rate) = (self.raw, self.decimals, self.rate);
        let market = Rule::parse(self.rule).map(Rule::is_market);
        self.credits > Nanocredits::ZERO
            && match (self.conversion, market) {
                (None, Some(false)) => {
                    credits_rounded_down(raw, decimals, rate) == Ok(self.credits)
                }
                (Some(conversion), Some(true)) => {
                    conversion.into.is_some() == (self.rule == Rule::Convert.as_str())
                        && conversion.holds(raw, decimals, self.asset, rate, self.credits)
                }
                _ => false,
            }
    }

    /// What the payment is in dollars, rounded down: a stablecoin at its face, a token at its market
    /// price. `None` where no rule says what a token is in dollars.
    pub fn usd(&self) -> Result<Option<Nanodollars>, MoneyError> {
        match Rule::parse(self.rule) {
            Some(Rule::Par | Rule::Convert) => {
                Nanodollars::at_face_rounded_down(self.raw, self.decimals).map(Some)
            }
            Some(Rule::Market) => {
                let leg = self.conversion.and_then(|c| c.legs.first());
                let price = leg.ok_or(MoneyError::Overflow)?.applied;
                credits_at_price_rounded_down(self.raw, self.decimals, price, Rate::ONE)
                    .map(|same| Some(Nanodollars(same.0)))
            }
            Some(Rule::Fixed) | None => Ok(None),
        }
    }

    /// What the treasury owes for it; `None` where nothing was converted.
    pub fn owed(&self) -> Result<Option<Owed>, MoneyError> {
        let Some(into) = self.conversion.and_then(|c| c.into.as_ref()) else { return Ok(None) };
        Ok(Some(Owed {
            asset: into.asset.clone(),
            tokens: into.tokens,
            decimals: into.decimals,
            usd: Nanodollars::at_face_rounded_down(self.raw, self.decimals)?,
        }))
    }
}
