//! A Uniswap v3 pool's time-weighted average price, in exact integers.
//!
//! `observe` gives the sums of ticks and of seconds per liquidity at three times; their differences
//! are the mean tick and the harmonic mean of the liquidity, rounded as Uniswap's OracleLibrary
//! (v3-periphery) rounds them. The oldest of the three times is further back than the window, so
//! that a pool that is too young answers `OLD`. It does not look at fees or single positions. Where
//! the price of the moment is off, [`super::uniswap_after`] says how it went on.

use alloy::primitives::{Address, Bytes, U256, U512, aliases::U160};
use alloy::sol;
use alloy::sol_types::SolCall;
use serde::{Deserialize, Serialize};

use super::tick_math::sqrt_ratio_at_tick;
use super::{Call, CallAnswer, Calls, Instant, Reading, Reject, as_of};
use crate::domain::ids::ChainId;
use crate::domain::money::{Rate, RawAmount};

/// Of answers to other questions than the pool's.
pub(super) const OTHERWISE: &str = "the pool was asked something else";

sol! {
    /// IUniswapV3PoolState.sol and IUniswapV3PoolDerivedState.sol, Uniswap/v3-core.
    #[derive(Debug)]
    interface UniswapV3Pool {
        function token0() external view returns (address);
        function token1() external view returns (address);
        function slot0() external view returns (uint160 sqrtPriceX96, int24 tick, uint16 observationIndex, uint16 observationCardinality, uint16 observationCardinalityNext, uint8 feeProtocol, bool unlocked);
        function observe(uint32[] secondsAgos) external view returns (int56[] tickCumulatives, uint160[] secondsPerLiquidityCumulativeX128s);
    }
}

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

impl Pool {
    /// True when the priced token is the pool's first: Uniswap sorts the two by address.
    #[must_use]
    pub fn base_is_token0(&self) -> bool {
        self.base < self.quote
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.questions(&Agos { times: [self.history_s, self.window_s, 0], after: None })
    }

    /// What is asked in the state of a later block about the window that ended so many seconds
    /// before it.
    #[must_use]
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
        let times = agos.times.iter().copied().chain(agos.after).collect();
        vec![
            ask(UniswapV3Pool::observeCall { secondsAgos: times }.abi_encode()),
            ask(UniswapV3Pool::slot0Call {}.abi_encode()),
        ]
    }

    pub(super) fn read(&self, calls: &Calls, at: &Instant) -> Result<Reading, Reject> {
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
        let slot0 = UniswapV3Pool::slot0Call::abi_decode_returns(slot0).map_err(unreadable)?;
        if slot0.observationCardinality < self.min_cardinality {
            let why = format!(
                "the pool keeps {} observations; at least {} are wanted",
                slot0.observationCardinality, self.min_cardinality
            );
            return Err(Reject::new("low_cardinality", why));
        }
        let times = agos.times.len().saturating_add(usize::from(agos.after.is_some()));
        let sums = sums(&observed.answer, times, self.history_s)?;
        let [_, (start, liquid_start), (end, liquid_end), ..] = sums.as_slice() else {
            return Err(Reject::new("unreadable", "observe answered too little"));
        };
        let liquidity = liquidity(*liquid_start, *liquid_end, self.window_s)?;
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
            None => self.price(Some(U256::from(slot0.sqrtPriceX96)))?,
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

/// The two sums that `observe` answers for each of so many times, the oldest of which is so many
/// seconds ago.
pub(super) fn sums(
    observed: &CallAnswer,
    times: usize,
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
    let observed = UniswapV3Pool::observeCall::abi_decode_returns(observed).map_err(unreadable)?;
    let ticks = observed.tickCumulatives.iter().map(|t| i64::try_from(*t));
    let ticks = ticks.collect::<Result<Vec<i64>, _>>().map_err(unreadable)?;
    let seconds = observed.secondsPerLiquidityCumulativeX128s;
    if (ticks.len(), seconds.len()) != (times, times) {
        let why = format!(
            "observe answered {} and {} numbers about {times} times",
            ticks.len(),
            seconds.len()
        );
        return Err(Reject::new("unreadable", why));
    }
    Ok(ticks.into_iter().zip(seconds).collect())
}

/// OracleLibrary.consult: `window × (2^160 − 1) ÷ (difference << 32)`.
pub(super) fn liquidity(start: U160, end: U160, window_s: u32) -> Result<U256, Reject> {
    // The sums overflow on purpose, and wrap: only their difference means something.
    let difference = U256::from(end.wrapping_sub(start)).wrapping_shl(32);
    let window = U256::from(window_s).saturating_mul(U256::from(U160::MAX));
    // A pool's liquidity has 128 bits, so that its sum grows with every second. One that does
    // not (adapters that show a v4 pool as a v3 one answer zeros) says nothing of liquidity.
    window.checked_div(difference).ok_or_else(|| {
        let why = "observe says nothing of the pool's liquidity: its second list stands still";
        Reject::new("illiquid", why)
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
