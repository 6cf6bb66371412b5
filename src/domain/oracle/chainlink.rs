//! Chainlink `AggregatorV3`: which round is in force at an instant, and what it says.
//!
//! Through the feed's proxy, whose round ids are `phase << 64 | round` and exceed 64 bits. What
//! Chainlink's documentation calls deprecated (`answeredInRound`) and unused on most feeds
//! (`minAnswer`, `maxAnswer`) is not looked at. Source: docs.chain.link/data-feeds.

use alloy::primitives::{Address, I256};
use serde::{Deserialize, Serialize};

use super::rounds;
use crate::domain::ids::ChainId;
use crate::domain::money::Rate;
use crate::domain::oracle::reading::{
    Call, CallAnswer, Calls, PriceInstant, Reading, Reject, as_of,
};
use crate::domain::oracle::round::{Round, Since, decode, latest_round, shown};

/// A feed may be late by a tenth of its heartbeat: its transaction must still be mined.
const LATE_TENTH: i64 = 10;

/// A feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    /// Chain.
    pub chain_id: ChainId,
    /// Its proxy.
    pub address: Address,
    /// What `decimals()` must answer.
    pub decimals: u8,
    /// What `description()` must answer, such as `USDC / USD`.
    pub description: String,
    /// It is updated at least this often, in seconds, by Chainlink's list of feeds.
    pub heartbeat_s: u32,
    /// The L2's sequencer uptime feed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequencer: Option<Sequencer>,
}

/// The uptime feed of an L2's sequencer: 0 is up, 1 is down, since `startedAt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequencer {
    /// Its proxy.
    pub address: Address,
    /// After it came back, feeds are not used for so many seconds.
    pub grace_s: u32,
}

impl Feed {
    pub(super) fn calls(&self) -> Vec<Call> {
        let sequencer = self.sequencer.as_ref().map(|s| latest_round(s.address));
        [latest_round(self.address)].into_iter().chain(sequencer).collect()
    }

    /// The feeds whose rounds are asked for one by one when the state of the instant is gone, each
    /// with since when a round of it is in force.
    pub fn feeds(&self) -> Vec<(Address, Since)> {
        let price: (Address, Since) = (self.address, Round::since_answer);
        let uptime = self.sequencer.as_ref().map(|s| (s.address, Round::since_start as Since));
        [price].into_iter().chain(uptime).collect()
    }

    pub(super) fn read(&self, calls: &Calls, at: &PriceInstant) -> Result<Reading, Reject> {
        let as_of_ms = as_of(calls, at);
        let heartbeat = i64::from(self.heartbeat_s).saturating_mul(1_000);
        let late = heartbeat.checked_div(LATE_TENTH).unwrap_or(0);
        let lasts_ms = heartbeat.saturating_add(late);
        let round = in_force(calls, self.address, as_of_ms, Round::since_answer, Some(lasts_ms))?;
        if let Some(sequencer) = &self.sequencer {
            // A state of the sequencer lasts until there is another one.
            let uptime = in_force(calls, sequencer.address, as_of_ms, Round::since_start, None)?;
            sequencer.check(&uptime, as_of_ms)?;
        }
        if round.updated_ms <= 0 {
            return Err(Reject::new("stale", format!("round {} is not answered", shown(round.id))));
        }
        if round.answer <= I256::ZERO {
            let why = format!("round {} answers {}", shown(round.id), round.answer);
            return Err(Reject::new("not_positive", why));
        }
        let age = as_of_ms.saturating_sub(round.updated_ms);
        if age > lasts_ms {
            let seconds = age.checked_div(1_000).unwrap_or(0);
            let why = format!(
                "round {} is {seconds} s old; its heartbeat is {} s",
                shown(round.id),
                self.heartbeat_s
            );
            return Err(Reject::new("stale", why));
        }
        if age < 0 {
            return Err(Reject::new("future", format!("round {} is of later", shown(round.id))));
        }
        let mantissa = u128::try_from(round.answer.into_raw()).ok();
        let exponent = i32::from(self.decimals).saturating_neg();
        let price = mantissa
            .and_then(|mantissa| Rate::from_parts(mantissa, exponent))
            .ok_or_else(|| Reject::new("unreadable", format!("{} is too large", round.answer)))?;
        let detail = format!("round {}", shown(round.id));
        Ok(Reading { price, as_of_ms, updated_ms: round.updated_ms, detail })
    }
}

impl Sequencer {
    fn check(&self, uptime: &Round, at_ms: i64) -> Result<(), Reject> {
        if !uptime.answer.is_zero() {
            return Err(Reject::new("sequencer_down", "the sequencer is down"));
        }
        let grace = i64::from(self.grace_s).saturating_mul(1_000);
        // A feed that was never answered says nothing of the sequencer (Chainlink's own example).
        if uptime.started_ms <= 0 {
            return Err(Reject::new("sequencer_down", "the uptime feed was never answered"));
        }
        if at_ms.saturating_sub(uptime.started_ms) <= grace {
            let why = format!("the sequencer is back for less than {} s", self.grace_s);
            return Err(Reject::new("sequencer_grace", why));
        }
        Ok(())
    }
}

/// The round that was in force at an instant: the newest one of the block read; or, read late, what
/// the feed's rounds show.
fn in_force(
    calls: &Calls,
    feed: Address,
    at_ms: i64,
    since: Since,
    lasts_ms: Option<i64>,
) -> Result<Round, Reject> {
    let mut asked = calls.calls.iter().filter(|c| c.to == feed);
    if calls.late {
        return rounds::in_force(&asked.collect::<Vec<_>>(), feed, at_ms, since, lasts_ms);
    }
    match asked.next().map(|c| &c.answer) {
        Some(CallAnswer::Returned(bytes)) => decode(bytes),
        Some(CallAnswer::Reverted(why)) => {
            Err(Reject::reverted(&format!("latestRoundData of {feed}"), why))
        }
        None => Err(Reject::new("unreadable", "the feed was not asked")),
    }
}
