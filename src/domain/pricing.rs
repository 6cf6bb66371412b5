//! What a payment is worth: epochs, the assets they accept, and the exact number of credits.
//!
//! Stablecoins at par or tokens at a fixed rate are priced here. What needs a market price is
//! recognised here and valued in [`super::conversion`].

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, U256};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::conversion::{Conversion, Leg, value};
use super::deposit::{HoldReason, IgnoreReason, Verdict};
use super::ids::ChainId;
use super::money::{MoneyError, Nanocredits, Rate, RawAmount};
use super::seal::Canonical;
use super::transfer::{Content, Sighting};
use crate::domain::rounding::credits_rounded_down;
use crate::domain::terms::{Dust, NoPrice, Rule, Terms, Valuation};

/// A token contract that may be credited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Chain it lives on.
    pub chain: ChainId,
    /// Its contract.
    pub address: Address,
    /// What `symbol()` must answer.
    pub symbol: String,
    /// Which asset of the epochs it is: two bridged forms of one coin share one.
    pub asset: String,
    /// What `decimals()` must answer.
    pub decimals: u8,
}

/// Which era a rule belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Credits without worth.
    Testnet,
    /// Before the token generation event: stablecoins buy credits.
    PreTge,
    /// After it: payment is in $RTITY.
    PostTge,
}

impl Phase {
    /// The word used in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Testnet => "testnet",
            Self::PreTge => "pre_tge",
            Self::PostTge => "post_tge",
        }
    }
}

/// A dated pricing rule. Append-only: a posting names its epoch and the hash of its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Its name.
    pub id: String,
    /// In force from this instant (inclusive) until the next epoch starts. Epoch milliseconds.
    pub starts_at_ms: i64,
    /// Which era.
    pub phase: Phase,
    /// The accepted assets.
    pub accept: BTreeMap<String, Terms>,
}

impl Epoch {
    /// The text that is stored and hashed: JSON with keys in declared and sorted order.
    pub fn body(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// The hash under which a posting names an epoch's text.
pub fn epoch_hash(body: &str) -> B256 {
    let mut bytes = Canonical::new("topupd/epoch/v1");
    bytes.text(body);
    bytes.finish()
}

/// What differs between two texts of an epoch, key by key: the stored value and the configured one.
pub fn differences(stored: &str, configured: &str) -> Vec<String> {
    fn walk(key: &str, stored: &Value, configured: &Value, found: &mut Vec<String>) {
        let (Value::Object(old), Value::Object(new)) = (stored, configured) else {
            if stored != configured {
                let shown = |value: &Value| match value {
                    Value::Null => "nothing".to_owned(),
                    Value::Number(ms) if key == "starts_at_ms" => {
                        let ms =
                            ms.as_i64().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
                        ms.map_or_else(|| value.to_string(), |time| time.to_string())
                    }
                    other => other.to_string(),
                };
                let key = key.trim_end_matches("_ms");
                found.push(format!("{key} was {} and is {}", shown(stored), shown(configured)));
            }
            return;
        };
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in keys {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            let of =
                |map: &serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or_default();
            walk(&key, &of(old), &of(new), found);
        }
    }
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let mut found = Vec::new();
    walk("", &parsed(stored), &parsed(configured), &mut found);
    found
}

/// All epochs, in order of their start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EpochBook(Vec<Epoch>);

impl EpochBook {
    /// Sorts and checks the epochs.
    ///
    /// # Errors
    /// A sentence naming two epochs with one id or one start.
    pub fn new(mut epochs: Vec<Epoch>) -> Result<Self, String> {
        epochs.sort_by_key(|e| e.starts_at_ms);
        for pair in epochs.windows(2) {
            if let [a, b] = pair
                && a.starts_at_ms == b.starts_at_ms
            {
                return Err(format!("{:?} and {:?} start at the same instant", a.id, b.id));
            }
        }
        let mut ids: Vec<&str> = epochs.iter().map(|e| e.id.as_str()).collect();
        ids.sort_unstable();
        for pair in ids.windows(2) {
            if let [a, b] = pair
                && a == b
            {
                return Err(format!("{a:?} is used twice as an id"));
            }
        }
        Ok(Self(epochs))
    }

    /// The epoch in force at an instant (of a block, in epoch milliseconds).
    pub fn at(&self, time_ms: i64) -> Option<&Epoch> {
        self.0.iter().rev().find(|e| e.starts_at_ms <= time_ms)
    }

    /// The epoch that ends another, if any does.
    pub fn after(&self, epoch: &Epoch) -> Option<&Epoch> {
        self.0.iter().find(|e| e.starts_at_ms > epoch.starts_at_ms)
    }

    /// All, earliest first.
    pub fn all(&self) -> &[Epoch] {
        &self.0
    }
}

/// What the rules say of a transfer the moment it is seen. `token` is `None` for a contract that
/// is not configured; `time_ms` is the block's.
pub fn judge(
    sighting: &Sighting,
    token: Option<&Token>,
    epochs: &EpochBook,
    time_ms: i64,
) -> Verdict {
    // First, because what an unlisted contract emits is recorded under a quota, whatever it is.
    let Some(token) = token else { return Verdict::Ignore(IgnoreReason::UnlistedToken) };
    let (sender, amount) = match &sighting.content {
        Content::Malformed { why, .. } => {
            return Verdict::Ignore(IgnoreReason::Malformed(*why));
        }
        Content::Transfer { sender, amount } => (*sender, *amount),
    };
    if amount == RawAmount::ZERO {
        return Verdict::Ignore(IgnoreReason::ZeroValue);
    }
    if sender == sighting.deposit.recipient {
        return Verdict::Ignore(IgnoreReason::SelfTransfer);
    }
    // Without an epoch it is confirmed first and held then: the money is real.
    let Some(epoch) = epochs.at(time_ms) else { return Verdict::Accept };
    match epoch.accept.get(&token.asset) {
        None => Verdict::Ignore(IgnoreReason::NotAccepted),
        Some(terms) if terms.dust == Dust::Ignore && terms.is_dust(amount, token.decimals) => {
            Verdict::Ignore(IgnoreReason::BelowMinimum)
        }
        Some(_) => Verdict::Accept,
    }
}

/// A fixed price, and everything needed to compute it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// Epoch.
    pub epoch_id: String,
    /// Rule.
    pub rule: Rule,
    /// Credits per whole token, or, for market rules, the rate that the last step used: per token
    /// or per dollar.
    pub rate: Rate,
    /// The asset it was taken as.
    pub asset: String,
    /// What was paid.
    pub raw: RawAmount,
    /// In which unit.
    pub decimals: u8,
    /// What it gives, rounded down.
    pub credits: Nanocredits,
    /// The market prices and the arithmetic, where the rule needs them.
    pub conversion: Option<Conversion>,
}

/// The sum of the dust of one namespace, chain and token. Payments are added in the order of the
/// chain, so that the answer does not depend on when somebody looks, until they reach the minimum of
/// the last one's epoch. What was added up by then is released together, and the next sum starts from
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DustSum(pub RawAmount);

impl DustSum {
    /// Adds the next payment. True when all that was added since the last time is enough.
    pub fn add(&mut self, raw: RawAmount, minimum: RawAmount) -> bool {
        // A sum beyond 256 bits is more than any minimum.
        self.0 = self.0.checked_add(raw).unwrap_or(RawAmount(U256::MAX));
        let enough = self.0 >= minimum;
        if enough {
            self.0 = RawAmount::ZERO;
        }
        enough
    }
}

/// Prices a confirmed payment at its block's time. Dust that accumulates is priced like any other
/// payment: [`DustSum`] says when. `legs` are the market prices of that time, for rules that need
/// them ([`super::conversion::needed`]).
///
/// # Errors
/// [`NoPrice`], with the reason.
pub fn price(
    raw: RawAmount,
    token: &Token,
    epochs: &EpochBook,
    time_ms: i64,
    legs: &[Leg],
) -> Result<Price, NoPrice> {
    let epoch = epochs.at(time_ms).ok_or(NoPrice::Hold(HoldReason::NoEpoch))?;
    price_in(raw, token, epoch, legs)
}

/// The same by the rules of an epoch, whether it is in force then or not: two people can decide that a
/// payment belongs to another one.
///
/// # Errors
/// [`NoPrice`], with the reason.
pub fn price_in(
    raw: RawAmount,
    token: &Token,
    epoch: &Epoch,
    legs: &[Leg],
) -> Result<Price, NoPrice> {
    let terms = epoch.accept.get(&token.asset).ok_or(NoPrice::Ignore(IgnoreReason::NotAccepted))?;
    if terms.dust == Dust::Ignore && terms.is_dust(raw, token.decimals) {
        return Err(NoPrice::Ignore(IgnoreReason::BelowMinimum));
    }
    let (credits, rate, conversion) = match &terms.valuation {
        Valuation::Par { credits_per_usd: rate } | Valuation::Fixed { credits_per_token: rate } => {
            match credits_rounded_down(raw, token.decimals, *rate) {
                Err(
                    MoneyError::Overflow
                    | MoneyError::NotDecimal(_)
                    | MoneyError::TooLong(_)
                    | MoneyError::TooPrecise { .. },
                ) => return Err(NoPrice::Hold(HoldReason::Overflow)),
                Ok(Nanocredits::ZERO) => return Err(NoPrice::Ignore(IgnoreReason::BelowMinimum)),
                Ok(credits) => (credits, *rate, None),
            }
        }
        Valuation::Market { .. } | Valuation::Convert { .. } => {
            let (credits, rate, conversion) =
                value(raw, token.decimals, &token.asset, terms, &epoch.accept, legs)?;
            (credits, rate, Some(conversion))
        }
    };
    Ok(Price {
        epoch_id: epoch.id.clone(),
        rule: terms.valuation.rule(),
        rate,
        asset: token.asset.clone(),
        raw,
        decimals: token.decimals,
        credits,
        conversion,
    })
}

#[cfg(test)]
mod tests;
