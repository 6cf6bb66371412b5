//! From a payment and market prices to credits: two legs over the dollar, or one pool directly.
//!
//! After the TGE a credit is defined by tokens. A stablecoin payment is worth exactly what the tokens
//! that it converts to are worth, so both go through one function, [`ConvertedInto::credits`], and give
//! equal credits to the nanocredit. Every division is rounded down, and there are two at most:
//! stablecoin to tokens, tokens to credits. Whether a price may be used is decided in
//! [`super::oracle::policy`].

use std::collections::BTreeMap;

use alloy::primitives::B256;
use serde::{Deserialize, Serialize};

use super::deposit::{HoldReason, IgnoreReason};
use super::money::{MoneyError, Nanocredits, Rate, RawAmount};
use crate::domain::rounding::{credits_at_price_rounded_down, tokens_rounded_down};
use crate::domain::terms::{NoPrice, Terms, Valuation};

/// Which arithmetic a conversion was made by; part of every one.
pub const FORMULA: &str = "topupd/conversion/v1";

/// The name of a pair.
pub fn pair(base: &str, quote: &str) -> String {
    format!("{base}/{quote}")
}

/// The pair of an asset in dollars.
pub fn in_usd(asset: &str) -> String {
    pair(asset, "USD")
}

/// Which way a payment was valued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// No conversion: the asset's own price in dollars.
    Market,
    /// Stablecoin to dollars, dollars to tokens.
    Usd,
    /// Stablecoin to tokens at a price between the two.
    Direct,
}

/// A price that a conversion uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leg {
    /// Pair.
    pub pair: String,
    /// The accepted price.
    pub price: Rate,
    /// What it counts for: a stablecoin's price, but one dollar at most.
    pub applied: Rate,
    /// Hash of the accepted price.
    pub price_hash: B256,
}

/// How a payment became credits at market prices. Part of the posting's evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversion {
    /// [`FORMULA`].
    pub formula: String,
    /// Which way.
    pub path: Path,
    /// The prices. On the direct path the stablecoin's dollar price stands here too: it had to be
    /// above the floor, and is not computed with.
    pub legs: Vec<Leg>,
    /// The tokens it was converted into; none where the payment was valued as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub into: Option<ConvertedInto>,
}

/// The tokens that a stablecoin payment was converted into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvertedInto {
    /// Asset.
    pub asset: String,
    /// Decimals of its tokens.
    pub decimals: u8,
    /// Tokens, base units, rounded down.
    pub tokens: RawAmount,
    /// What rounding down left: this part of one base unit.
    pub remainder: String,
    /// How the tokens became credits: `fixed`, per token, or `market`, per dollar.
    pub rule: String,
}

/// The pairs that must have a price before a payment can be valued; none for fixed rules.
/// `configured` says which pairs there are: a pair of token and stablecoin is the direct path.
pub fn needed(
    asset: &str,
    terms: &Terms,
    accept: &BTreeMap<String, Terms>,
    configured: impl Fn(&str) -> bool,
) -> Vec<String> {
    match &terms.valuation {
        Valuation::Par { .. } | Valuation::Fixed { .. } => Vec::new(),
        Valuation::Market { .. } => vec![in_usd(asset)],
        Valuation::Convert { into, .. } => {
            let direct = pair(into, asset);
            let token = accept.get(into).map(|t| &t.valuation);
            let priced = matches!(token, Some(Valuation::Market { .. }));
            let direct = configured(&direct).then_some(direct);
            let over_usd = (direct.is_none() || priced).then(|| in_usd(into));
            [in_usd(asset)].into_iter().chain(direct).chain(over_usd).collect()
        }
    }
}

/// Values a payment at these prices.
///
/// # Errors
/// [`NoPrice`], with the reason.
pub fn value(
    raw: RawAmount,
    decimals: u8,
    asset: &str,
    terms: &Terms,
    accept: &BTreeMap<String, Terms>,
    legs: &[Leg],
) -> Result<(Nanocredits, Rate, Conversion), NoPrice> {
    let missing = NoPrice::Hold(HoldReason::NoPrice);
    let mut conversion = Conversion {
        formula: FORMULA.to_owned(),
        path: Path::Market,
        legs: legs.to_vec(),
        into: None,
    };
    let rate = match &terms.valuation {
        Valuation::Market { credits_per_usd } => *credits_per_usd,
        Valuation::Convert { into, into_decimals } => {
            let valuation = accept.get(into).map(|t| &t.valuation).ok_or(missing)?;
            let (rule, rate) = match valuation {
                Valuation::Fixed { credits_per_token } => ("fixed", *credits_per_token),
                Valuation::Market { credits_per_usd } => ("market", *credits_per_usd),
                Valuation::Par { .. } | Valuation::Convert { .. } => return Err(missing),
            };
            let direct = legs.iter().any(|l| l.pair == pair(into, asset));
            conversion.path = if direct { Path::Direct } else { Path::Usd };
            conversion.into = Some(ConvertedInto {
                asset: into.clone(),
                decimals: *into_decimals,
                tokens: RawAmount::ZERO,
                remainder: String::new(),
                rule: rule.to_owned(),
            });
            let (tokens, remainder) =
                conversion.tokens(raw, decimals, asset).map_err(|e| no_price(&e))?;
            if let Some(into) = &mut conversion.into {
                (into.tokens, into.remainder) = (tokens, remainder);
            }
            rate
        }
        Valuation::Par { .. } | Valuation::Fixed { .. } => return Err(missing),
    };
    match conversion.credits(raw, decimals, asset, rate) {
        Err(error) => Err(no_price(&error)),
        Ok(Nanocredits::ZERO) => Err(NoPrice::Ignore(IgnoreReason::BelowMinimum)),
        Ok(credits) => Ok((credits, rate, conversion)),
    }
}

fn no_price(_: &MoneyError) -> NoPrice {
    NoPrice::Hold(HoldReason::Overflow)
}

impl Conversion {
    /// The applied price of a pair.
    fn leg(&self, pair: &str) -> Result<Rate, MoneyError> {
        let leg = self.legs.iter().find(|l| l.pair == pair);
        leg.map(|l| l.applied).ok_or(MoneyError::Overflow)
    }

    /// The tokens that so much of a stablecoin converts to, and what rounding leaves.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`], or where a leg is missing.
    pub fn tokens(
        &self,
        raw: RawAmount,
        decimals: u8,
        asset: &str,
    ) -> Result<(RawAmount, String), MoneyError> {
        let into = self.into.as_ref().ok_or(MoneyError::Overflow)?;
        let (multiplied, divided) = match self.path {
            Path::Market => return Err(MoneyError::Overflow),
            Path::Usd => (self.leg(&in_usd(asset))?, self.leg(&in_usd(&into.asset))?),
            Path::Direct => (Rate::ONE, self.leg(&pair(&into.asset, asset))?),
        };
        tokens_rounded_down(raw, decimals, multiplied, divided, into.decimals)
    }

    /// The credits, computed from the stored prices and amounts alone.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`], or where a leg is missing.
    pub fn credits(
        &self,
        raw: RawAmount,
        decimals: u8,
        asset: &str,
        rate: Rate,
    ) -> Result<Nanocredits, MoneyError> {
        match &self.into {
            None => {
                let price = self.leg(&in_usd(asset))?;
                credits_at_price_rounded_down(raw, decimals, price, rate)
            }
            Some(into) => {
                let price = match into.rule.as_str() {
                    "fixed" => Rate::ONE,
                    "market" => self.leg(&in_usd(&into.asset))?,
                    _ => return Err(MoneyError::Overflow),
                };
                into.credits(into.tokens, price, rate)
            }
        }
    }

    /// True when tokens, remainder and credits follow from the rest.
    pub fn holds(
        &self,
        raw: RawAmount,
        decimals: u8,
        asset: &str,
        rate: Rate,
        credits: Nanocredits,
    ) -> bool {
        let tokens_hold = match (&self.into, self.path) {
            (None, Path::Market) => true,
            (Some(into), Path::Usd | Path::Direct) => {
                self.tokens(raw, decimals, asset) == Ok((into.tokens, into.remainder.clone()))
            }
            _ => false,
        };
        tokens_hold
            && self.formula == FORMULA
            && self.credits(raw, decimals, asset, rate) == Ok(credits)
    }
}

impl ConvertedInto {
    /// What tokens are worth: at `rate` credits for each dollar at this price, or, at a price of
    /// one, for each token. A payment in tokens goes through the same arithmetic.
    pub fn credits(
        &self,
        tokens: RawAmount,
        price: Rate,
        rate: Rate,
    ) -> Result<Nanocredits, MoneyError> {
        credits_at_price_rounded_down(tokens, self.decimals, price, rate)
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{U256, U512};
    use proptest::prelude::*;

    use super::*;
    use crate::domain::rounding::credits_rounded_down;
    use crate::domain::terms::Dust;

    /// A number with 1 to 18 digits and up to 28 of them after the point; most are of a size that a
    /// price might have.
    fn some_price() -> impl Strategy<Value = Rate> {
        let scale = prop_oneof![1 => 0i32..=28, 3 => 12i32..=24];
        (1u64..10u64.pow(18), 0u32..=17, scale).prop_filter_map(
            "a rate holds it",
            |(digits, fewer, scale)| {
                let mantissa = u128::from(digits / 10u64.pow(fewer)).max(1);
                Rate::from_parts(mantissa, -scale)
            },
        )
    }

    /// Amounts of any size up to 256 bits, as likely small as large; most of them a payment that
    /// somebody might make.
    fn some_amount(decimals: u8) -> impl Strategy<Value = RawAmount> {
        let any_size = (any::<[u8; 32]>(), 0usize..256)
            .prop_map(|(bytes, less)| RawAmount(U256::from_be_bytes(bytes) >> less));
        let unit = U256::from(10).pow(U256::from(decimals));
        let payment = (1u64..10u64.pow(12)).prop_map(move |millionths| {
            RawAmount(U256::from(millionths) * unit / U256::from(1_000_000))
        });
        prop_oneof![1 => any_size, 3 => payment]
    }

    fn some_case() -> impl Strategy<Value = (Way, RawAmount)> {
        some_way().prop_flat_map(|way| some_amount(way.decimals).prop_map(move |raw| (way, raw)))
    }

    /// One way from a stablecoin to credits, with the accepted price of each pair.
    #[derive(Debug, Clone, Copy)]
    struct Way {
        market: bool,
        direct: bool,
        decimals: u8,
        token_decimals: u8,
        stablecoin: Rate,
        token: Rate,
        between: Rate,
        rate: Rate,
    }

    fn some_way() -> impl Strategy<Value = Way> {
        let prices = (some_price(), some_price(), some_price(), some_price());
        (any::<[bool; 2]>(), 0u8..=24, 0u8..=24, prices).prop_map(
            |([market, direct], decimals, token_decimals, prices)| {
                let (stablecoin, token, between, rate) = prices;
                Way { market, direct, decimals, token_decimals, stablecoin, token, between, rate }
            },
        )
    }

    impl Way {
        fn accept(&self) -> BTreeMap<String, Terms> {
            let into_decimals = self.token_decimals;
            let terms = |valuation| Terms { valuation, minimum: None, dust: Dust::Ignore };
            let convert = Valuation::Convert { into: "RTITY".into(), into_decimals };
            let token = match self.market {
                true => Valuation::Market { credits_per_usd: self.rate },
                false => Valuation::Fixed { credits_per_token: self.rate },
            };
            BTreeMap::from([("USDC".into(), terms(convert)), ("RTITY".into(), terms(token))])
        }

        /// The legs that a payment in an asset needs, and no others.
        fn legs(&self, asset: &str) -> Vec<Leg> {
            let accept = self.accept();
            needed(asset, &accept[asset], &accept, |pair| self.direct && pair == "RTITY/USDC")
                .into_iter()
                .map(|pair| {
                    let (price, most) = match pair.as_str() {
                        "USDC/USD" => (self.stablecoin, Rate::ONE),
                        "RTITY/USD" => (self.token, self.token),
                        _ => (self.between, self.between),
                    };
                    Leg { pair, price, applied: price.min(most), price_hash: B256::ZERO }
                })
                .collect()
        }

        fn value(
            &self,
            asset: &str,
            raw: RawAmount,
        ) -> Result<(Nanocredits, Option<Conversion>), NoPrice> {
            let accept = self.accept();
            let decimals = if asset == "USDC" { self.decimals } else { self.token_decimals };
            match &accept[asset].valuation {
                // As in [`super::super::pricing::price`].
                Valuation::Fixed { credits_per_token } => {
                    match credits_rounded_down(raw, decimals, *credits_per_token) {
                        Err(error) => Err(no_price(&error)),
                        Ok(Nanocredits::ZERO) => Err(NoPrice::Ignore(IgnoreReason::BelowMinimum)),
                        Ok(credits) => Ok((credits, None)),
                    }
                }
                _ => value(raw, decimals, asset, &accept[asset], &accept, &self.legs(asset))
                    .map(|(credits, _, conversion)| (credits, Some(conversion))),
            }
        }

        /// `a × 10^decimals_in` of what was paid against `tokens × price`, at one scale: both sides
        /// of "never more than was paid", exact.
        fn sides(&self, raw: RawAmount, tokens: U256) -> Option<(U512, U512)> {
            let (paid_at, per) = match self.direct {
                true => (Rate::ONE, self.between),
                false => (self.stablecoin.min(Rate::ONE), self.token),
            };
            let times = |amount: U256, rate: Rate, power: u32| {
                U512::from(amount)
                    .checked_mul(U512::from(rate.mantissa))?
                    .checked_mul(U512::from(10).checked_pow(U512::from(power))?)
            };
            let (over, under) = (
                per.scale + u32::from(self.token_decimals),
                paid_at.scale + u32::from(self.decimals),
            );
            let common = over.min(under);
            Some((times(raw.0, paid_at, over - common)?, times(tokens, per, under - common)?))
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 100_000, max_global_rejects: 1_000_000, ..ProptestConfig::default()
        })]

        /// A stablecoin payment gives exactly the credits of a payment of the tokens that it converts
        /// to, at the same prices; the tokens are never worth more than what was paid, and one base
        /// unit more would be.
        #[test]
        fn a_stablecoin_gives_what_its_tokens_give((way, raw) in some_case()) {
            let overflow = NoPrice::Hold(HoldReason::Overflow);
            let nothing = NoPrice::Ignore(IgnoreReason::BelowMinimum);
            let mut how = Conversion {
                formula: FORMULA.into(),
                path: if way.direct { Path::Direct } else { Path::Usd },
                legs: way.legs("USDC"),
                into: Some(ConvertedInto {
                    asset: "RTITY".into(),
                    decimals: way.token_decimals,
                    tokens: RawAmount::ZERO,
                    remainder: String::new(),
                    rule: if way.market { "market" } else { "fixed" }.into(),
                }),
            };
            let converted = way.value("USDC", raw);
            let Ok((tokens, remainder)) = how.tokens(raw, way.decimals, "USDC") else {
                prop_assert_eq!(converted, Err(overflow));
                return Ok(());
            };
            let paid_in_tokens = way.value("RTITY", tokens);
            match (&converted, &paid_in_tokens) {
                (Ok((credits, Some(conversion))), Ok((same, _))) => {
                    prop_assert_eq!(credits, same);
                    if let Some(into) = &mut how.into {
                        (into.tokens, into.remainder) = (tokens, remainder);
                    }
                    prop_assert_eq!(conversion, &how);
                    prop_assert!(how.holds(raw, way.decimals, "USDC", way.rate, *credits));
                    let more = Nanocredits(credits.0.wrapping_add(1));
                    prop_assert!(!how.holds(raw, way.decimals, "USDC", way.rate, more));
                }
                (Err(why), Err(same)) => {
                    prop_assert_eq!(why, same);
                    prop_assert!([overflow, nothing].contains(why));
                }
                _ => prop_assert!(false, "{:?} and {:?}", converted, paid_in_tokens),
            }
            // Both sides fit 512 bits, or the tokens would not have been computed.
            let (paid, worth) = way.sides(raw, tokens.0).expect("512 bits");
            prop_assert!(worth <= paid);
            if let Some((paid, beyond)) =
                tokens.0.checked_add(U256::from(1)).and_then(|one| way.sides(raw, one))
            {
                prop_assert!(beyond > paid);
            }
        }
    }

    #[test]
    fn what_a_payment_needs_to_be_priced() {
        let mut way = Way {
            market: false,
            direct: false,
            decimals: 6,
            token_decimals: 18,
            stablecoin: Rate::ONE,
            token: "0.02".parse().unwrap(),
            between: "0.02".parse().unwrap(),
            rate: "50".parse().unwrap(),
        };
        let pairs = |way: &Way| -> Vec<String> {
            way.legs("USDC").into_iter().map(|leg| leg.pair).collect()
        };
        assert_eq!(pairs(&way), ["USDC/USD", "RTITY/USD"]);
        way.direct = true;
        assert_eq!(pairs(&way), ["USDC/USD", "RTITY/USDC"], "the dollar's floor still counts");
        way.market = true;
        assert_eq!(pairs(&way), ["USDC/USD", "RTITY/USDC", "RTITY/USD"]);
        way.direct = false;
        assert_eq!(pairs(&way), ["USDC/USD", "RTITY/USD"]);
    }
}
