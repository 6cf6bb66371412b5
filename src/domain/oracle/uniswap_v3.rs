//! A Uniswap v3 pool's time-weighted average price, in exact integers.
//!
//! `observe` gives the sums of ticks and of seconds per liquidity at three times; their differences
//! are the mean tick and the harmonic mean of the liquidity, rounded as Uniswap's OracleLibrary
//! (v3-periphery) rounds them. The oldest of the three times is further back than the window, so
//! that a pool that is too young answers `OLD`. It does not look at fees or single positions. What no
//! pool can answer (adapters that show another exchange as one make their numbers up) is no answer.
//! Where the price of the moment is off, [`super::uniswap_after`] says how it went on.

use alloy::primitives::aliases::U160;
use alloy::primitives::{Address, Bytes, U256, U512};
use alloy::sol_types::SolCall;
use serde::{Deserialize, Serialize};

use super::tick_math::{TICK_MAX, sqrt_ratio_at_tick};
use crate::domain::ids::ChainId;
use crate::domain::money::{Rate, RawAmount};
use crate::domain::oracle::abi::UniswapV3Pool;
use crate::domain::oracle::reading::{
    Call, CallAnswer, Calls, PriceInstant, Reading, Reject, as_of,
};

/// Of answers to other questions than the pool's.
pub(super) const OTHERWISE: &str = "the pool was asked something else";

/// A pool, and which side of it is priced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Chain.
    pub chain_id: ChainId,
    /// The pool.
    pub address: Address,
    /// Contract of the token that is priced.
    pub base: Address,
    /// Its decimals.
    pub base_decimals: u8,
    /// Contract of the token that it is priced in.
    pub quote: Address,
    /// Its decimals.
    pub quote_decimals: u8,
    /// Length of the mean, in seconds.
    pub window_s: u32,
    /// The pool must remember this many seconds; at least the window.
    pub history_s: u32,
    /// Least number of observations that the pool keeps.
    pub min_cardinality: u16,
    /// Least harmonic mean of the liquidity in range over the window.
    pub min_liquidity: RawAmount,
    /// Farthest that the price of the moment may be from the mean, in basis points.
    pub spot_max_bps: u32,
}

/// The times asked about, in seconds before the block read.
struct Agos {
    /// Start of what the pool must remember, start of the window, its end.
    times: [u32; 3],
    /// Read late: a second after the window's end, for the tick of that moment.
    after: Option<u32>,
}

impl Agos {
    fn all(&self) -> Vec<u32> {
        self.times.into_iter().chain(self.after).collect()
    }
}

impl Pool {
    /// True when the priced token is the pool's first: Uniswap sorts the two by address.
    pub fn base_is_token0(&self) -> bool {
        self.base < self.quote
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.questions(&Agos { times: [self.history_s, self.window_s, 0], after: None })
    }

    /// What is asked in the state of a later block about the window that ended so many seconds
    /// before it.
    pub fn late_calls(&self, ended_s: u32) -> Vec<Call> {
        self.questions(&self.late_agos(ended_s))
    }

    fn late_agos(&self, ended_s: u32) -> Agos {
        let ago = |seconds: u32| seconds.saturating_add(ended_s);
        let times = [ago(self.history_s), ago(self.window_s), ended_s];
        Agos { times, after: ended_s.checked_sub(1) }
    }

    fn questions(&self, agos: &Agos) -> Vec<Call> {
        let ask = |data: Vec<u8>| Call { to: self.address, data: data.into() };
        vec![
            ask(UniswapV3Pool::observeCall { secondsAgos: agos.all() }.abi_encode()),
            ask(UniswapV3Pool::slot0Call {}.abi_encode()),
        ]
    }

    pub(super) fn read(&self, calls: &Calls, at: &PriceInstant) -> Result<Reading, Reject> {
        let as_of_ms = as_of(calls, at);
        let agos = if calls.late {
            let ended = calls.block_time_ms.saturating_sub(as_of_ms).checked_div(1_000);
            let ended = ended.and_then(|s| u32::try_from(s).ok());
            self.late_agos(ended.ok_or_else(|| Reject::new("unreadable", "too long ago"))?)
        } else {
            Agos { times: [self.history_s, self.window_s, 0], after: None }
        };
        let asked = self.questions(&agos);
        let [observed, slot0] = calls.calls.as_slice() else {
            return Err(Reject::new("unreadable", "observe and slot0 were not asked"));
        };
        if [observed, slot0].into_iter().zip(&asked).any(|(called, call)| !called.asks(call)) {
            return Err(unreadable(OTHERWISE));
        }
        let slot0 = returned("slot0", &slot0.answer)?;
        let slot0 = decoded::<UniswapV3Pool::slot0Call>(slot0)?;
        let spot_sqrt = U256::from(slot0.sqrtPriceX96);
        let [lowest, highest] = [-TICK_MAX, TICK_MAX].map(sqrt_ratio_at_tick);
        if Some(spot_sqrt) < lowest || Some(spot_sqrt) > highest {
            let why = format!("slot0 says sqrtPriceX96 = {spot_sqrt}, which no pool can be at");
            return Err(unreadable(why));
        }
        if slot0.observationCardinality < self.min_cardinality {
            let why = format!(
                "the pool keeps {} observations; at least {} are wanted",
                slot0.observationCardinality, self.min_cardinality
            );
            return Err(Reject::new("low_cardinality", why));
        }
        let sums = sums(&observed.answer, &agos.all(), self.history_s)?;
        let [_, (start, liquid_start), (end, liquid_end), ..] = sums.as_slice() else {
            return Err(Reject::new("unreadable", "observe answered too little"));
        };
        let liquidity = liquidity(*liquid_start, *liquid_end, self.window_s);
        if liquidity < self.min_liquidity.0 {
            let why =
                format!("mean liquidity {liquidity}; at least {} is wanted", self.min_liquidity.0);
            return Err(Reject::new("illiquid", why));
        }
        let mean = end.wrapping_sub(*start).checked_div_euclid(i64::from(self.window_s));
        let tick = mean
            .and_then(|t| i32::try_from(t).ok())
            .ok_or_else(|| Reject::new("unreadable", "the mean tick is out of range"))?;
        let price = self.price(sqrt_ratio_at_tick(tick))?;
        let spot = match sums.get(3) {
            // The tick of the second after the instant: what the instant's block left behind.
            Some((after, _)) => {
                let tick = i32::try_from(after.wrapping_sub(*end)).ok();
                self.price(tick.and_then(sqrt_ratio_at_tick))?
            }
            None => self.price(Some(spot_sqrt))?,
        };
        let detail = format!("mean tick {tick} over {} s, spot {spot}", self.window_s);
        let mean = Reading { price, as_of_ms, updated_ms: as_of_ms, detail };
        let apart = spot.distance_bps(price);
        if apart > u64::from(self.spot_max_bps) {
            let why = format!(
                "the price of the moment, {spot}, is {apart} bp from the mean, {price}; at most {} are allowed",
                self.spot_max_bps
            );
            return Err(Reject { mean: Some(Box::new(mean)), ..Reject::new("spot_off", why) });
        }
        Ok(mean)
    }

    /// The price of a whole base token in whole quote tokens at √(token1/token0) × 2^96.
    pub(super) fn price(&self, sqrt: Option<U256>) -> Result<Rate, Reject> {
        let price = || {
            let root = U512::from(sqrt?);
            let (square, one) = (root.checked_mul(root)?, U512::from(1).checked_shl(192)?);
            let (over, under) = if self.base_is_token0() { (square, one) } else { (one, square) };
            let power = |d: u8| U512::from(10).checked_pow(U512::from(d));
            let over = over.checked_mul(power(self.base_decimals)?)?;
            let under = under.checked_mul(power(self.quote_decimals)?)?;
            Rate::ratio_rounded_down(over, under)
        };
        price().ok_or_else(|| Reject::new("unreadable", "the price is out of range"))
    }
}

/// The two sums that `observe` answers for each of these times, from the oldest on; what the pool must
/// remember is said where it does not.
pub(super) fn sums(
    observed: &CallAnswer,
    agos: &[u32],
    oldest_s: u32,
) -> Result<Vec<(i64, U160)>, Reject> {
    let observed = match observed {
        // Oracle.sol: the oldest observation is younger than what was asked for.
        CallAnswer::Reverted(why) if why.contains("OLD") => {
            let why = format!("the pool remembers less than {oldest_s} s");
            return Err(Reject::new("too_young", why));
        }
        answer => returned("observe", answer)?,
    };
    let observed = decoded::<UniswapV3Pool::observeCall>(observed)?;
    let ticks = observed.tickCumulatives.iter().map(|t| i64::try_from(*t));
    let ticks = ticks.collect::<Result<Vec<i64>, _>>().map_err(unreadable)?;
    let seconds = observed.secondsPerLiquidityCumulativeX128s;
    let times = agos.len();
    if (ticks.len(), seconds.len()) != (times, times) {
        let why = format!(
            "observe answered {} and {} numbers about {times} times",
            ticks.len(),
            seconds.len()
        );
        return Err(Reject::new("unreadable", why));
    }
    let sums: Vec<(i64, U160)> = ticks.into_iter().zip(seconds).collect();
    let then = agos.iter().skip(1).zip(sums.iter().skip(1));
    for ((from_ago, from), (to_ago, to)) in agos.iter().zip(&sums).zip(then) {
        possible(*from, *to, from_ago.saturating_sub(*to_ago))?;
    }
    Ok(sums)
}

/// What Oracle.sol's `transform` lets the sums grow by in so many seconds: a tick has its bounds, and a
/// liquidity at most 128 bits, and counts as one where there is none. What grows by less or by more was
/// not said by a pool; taken at its word, it would be deeper than any.
fn possible(from: (i64, U160), to: (i64, U160), seconds: u32) -> Result<(), Reject> {
    let ticks = to.0.wrapping_sub(from.0);
    if ticks.unsigned_abs() > u64::from(TICK_MAX.unsigned_abs()).saturating_mul(seconds.into()) {
        let why = format!(
            "observe's first list changes by {ticks} in {seconds} s: a mean tick beyond {TICK_MAX}, which no pool can have"
        );
        return Err(unreadable(why));
    }
    let grown = grown(from.1, to.1);
    let least = U256::from(seconds);
    let what = if grown < least && grown.is_zero() {
        "observe says nothing of the pool's liquidity: its second list stands still".to_owned()
    } else if grown < least {
        format!(
            "observe's second list grows by {grown} in {seconds} s: a mean liquidity beyond 128 bits, which no pool can have"
        )
    } else if grown > least.wrapping_shl(128) {
        format!(
            "observe's second list grows by {grown} in {seconds} s: faster than without any liquidity, which no pool can"
        )
    } else {
        return Ok(());
    };
    Err(Reject::new("illiquid", what))
}

/// The sums overflow on purpose, and wrap: only their difference means something.
fn grown(from: U160, to: U160) -> U256 {
    U256::from(to.wrapping_sub(from))
}

/// OracleLibrary.consult: `window × (2^160 − 1) ÷ (difference << 32)`.
pub(super) fn liquidity(start: U160, end: U160, window_s: u32) -> U256 {
    let window = U256::from(window_s).saturating_mul(U256::from(U160::MAX));
    // A sum that stands still, which is no answer, must never count as endless liquidity.
    window.checked_div(grown(start, end).wrapping_shl(32)).unwrap_or(U256::ZERO)
}

/// What a function returned, where each number is one of its type: without looking, what is too long for
/// a type is cut to it.
fn decoded<C: SolCall>(returned: &[u8]) -> Result<C::Return, Reject> {
    C::abi_decode_returns_validate(returned).map_err(|error| match error {
        alloy::sol_types::Error::TypeCheckFail { expected_type, .. } => {
            let function = C::SIGNATURE.split('(').next().unwrap_or_default();
            unreadable(format!("{function} answered a number that is none of {expected_type}"))
        }
        error => unreadable(error),
    })
}

fn returned<'a>(function: &str, answer: &'a CallAnswer) -> Result<&'a Bytes, Reject> {
    match answer {
        CallAnswer::Returned(bytes) => Ok(bytes),
        CallAnswer::Reverted(why) => Err(Reject::reverted(function, why)),
    }
}

pub(super) fn unreadable(error: impl std::fmt::Display) -> Reject {
    Reject::new("unreadable", error.to_string())
}

#[cfg(test)]
pub(super) mod tests;
