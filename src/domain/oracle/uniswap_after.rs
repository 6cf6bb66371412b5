//! How a Uniswap v3 pool went on after an instant at which its price of the moment was off.
//!
//! One swap of a stranger moves the price of the moment for everybody who pays in that block, and is
//! undone in the next one by whoever earns by it; a market that moved stays where it went. So the
//! minutes after the instant are cut into pieces, and the median of their mean ticks is looked at: a
//! few blocks cannot move it, however far they go, neither away nor back. A piece without enough
//! liquidity, in which a price costs nothing, says nothing.
//!
//! The pool remembers these minutes. Whoever asks it, in the state of whatever block, gets the same.

use alloy::primitives::U256;
use alloy::sol_types::SolCall;

use super::tick_math::sqrt_ratio_at_tick;
use super::uniswap_v3::{OTHERWISE, Pool, liquidity, sums, unreadable};
use crate::domain::money::Rate;
use crate::domain::oracle::abi::UniswapV3Pool;
use crate::domain::oracle::reading::{Call, Calls, PriceInstant, Reading, Reject};

/// How long it is looked at, in seconds of the chain's time from the instant on. Whoever wants a pool to
/// stay off must hold it for half of that against all who trade it back, and whoever pays waits
/// not much longer than for a final block. Part of the formula: another number is another formula.
pub const AFTER_S: u32 = 300;
/// The same in milliseconds.
pub const AFTER_MS: i64 = AFTER_S as i64 * 1_000;
/// Into so many pieces it is cut: an odd number, of whole seconds each, and longer than a block.
const PIECES: u32 = 15;
/// Length of a piece, in seconds.
const PIECE_S: u32 = AFTER_S / PIECES;

impl Pool {
    /// What is asked in the state of a block that came so many seconds after the instant.
    pub fn after_call(&self, ended_s: u32) -> Call {
        let data = UniswapV3Pool::observeCall { secondsAgos: agos(ended_s) }.abi_encode();
        Call { to: self.address, data: data.into() }
    }

    /// The price that it had in most of the time after the instant.
    pub(super) fn read_after(&self, calls: &Calls, at: &PriceInstant) -> Result<Reading, Reject> {
        let ended = calls.block_time_ms.saturating_sub(at.time_ms).checked_div(1_000);
        let ended = ended.and_then(|s| u32::try_from(s).ok()).filter(|s| *s >= AFTER_S);
        let ended = ended.ok_or_else(|| unreadable("it was not asked late enough"))?;
        let [called] = calls.calls.as_slice() else {
            return Err(unreadable("observe was not asked"));
        };
        if !called.asks(&self.after_call(ended)) {
            return Err(unreadable(OTHERWISE));
        }
        let sums = sums(&called.answer, &agos(ended), ended)?;
        let mut ticks = Vec::with_capacity(sums.len());
        for (from, to) in sums.iter().zip(sums.iter().skip(1)) {
            if liquidity(from.1, to.1, PIECE_S) >= self.min_liquidity.0 {
                ticks.push(to.0.wrapping_sub(from.0).div_euclid(i64::from(PIECE_S)));
            }
        }
        let liquid = ticks.len();
        if liquid.saturating_mul(2) <= sums.len().saturating_sub(1) {
            let why = format!("for most of the {AFTER_S} s after it, it had too little liquidity");
            return Err(Reject::new("illiquid", why));
        }
        ticks.sort_unstable();
        let middle = ticks.get(liquid.checked_div(2).unwrap_or(0)).copied().unwrap_or(i64::MAX);
        let tick = i32::try_from(middle).map_err(unreadable)?;
        let sqrt: Option<U256> = sqrt_ratio_at_tick(tick);
        let updated_ms = at.time_ms.saturating_add(AFTER_MS);
        let detail = format!("median tick {tick} of the {AFTER_S} s after it");
        Ok(Reading { price: self.price(sqrt)?, as_of_ms: at.time_ms, updated_ms, detail })
    }

    /// True where the price that it had after the instant is as near to its mean as the price of the
    /// moment must be.
    pub fn came_back(&self, after: Rate, mean: Rate) -> bool {
        after.distance_bps(mean) <= u64::from(self.spot_max_bps)
    }
}

/// The ends of the pieces, in seconds before the block that is asked.
fn agos(ended_s: u32) -> Vec<u32> {
    let ago = |piece: u32| ended_s.saturating_sub(piece.saturating_mul(PIECE_S));
    (0..=PIECES).map(ago).collect()
}

#[cfg(test)]
mod tests {
    use alloy::primitives::aliases::{I56, U160};
    use alloy::primitives::{B256, Bytes};

    use super::super::uniswap_v3::tests;
    use super::*;
    use crate::domain::ids::{BlockRef, ChainId};
    use crate::domain::oracle::reading::{CallAnswer, Called};
    use crate::domain::oracle::source::{Evidence, Reads, SourceSpec, read};

    const AT_S: i64 = 1_700_000_000;
    /// Two cents, where both tokens have 18 decimals.
    const TICK: i64 = -39_122;

    fn pool() -> SourceSpec {
        let pool = Pool { history_s: 600, ..tests::pool(1_000_000) };
        let (name, venue) = ("pool".to_owned(), "pool".to_owned());
        SourceSpec { name, venue, via: None, guard: false, reads: Reads::UniswapV3(pool) }
    }

    /// The pool's tick and liquidity in each second after the instant, asked about in a block that comes
    /// so many seconds after it.
    fn asked(asked_s: u32, tick_at: impl Fn(i64) -> i64, liquidity: impl Fn(i64) -> u128) -> Calls {
        let after = pool().after().unwrap();
        let Reads::UniswapV3After(pool) = &after.reads else { panic!("{after:?}") };
        let calls = [pool.after_call(asked_s)].into_iter().map(|call| {
            let ask = UniswapV3Pool::observeCall::abi_decode(&call.data).unwrap();
            let ends: Vec<i64> =
                ask.secondsAgos.iter().map(|ago| i64::from(asked_s) - i64::from(*ago)).collect();
            let ticks = ends.iter().map(|end| I56::try_from((0..*end).map(&tick_at).sum::<i64>()));
            let per = |s: i64| (U256::from(1) << 128) / U256::from(liquidity(s));
            let sums = ends.iter().map(|end| (0..*end).map(per).fold(U256::ZERO, |a, b| a + b));
            let observed = UniswapV3Pool::observeReturn {
                tickCumulatives: ticks.map(Result::unwrap).collect(),
                secondsPerLiquidityCumulativeX128s: sums.map(|s| s.to::<U160>()).collect(),
            };
            let bytes: Bytes = UniswapV3Pool::observeCall::abi_encode_returns(&observed).into();
            Called { to: call.to, data: call.data, answer: CallAnswer::Returned(bytes) }
        });
        Calls {
            chain_id: ChainId(1),
            block_number: 9,
            block_hash: B256::repeat_byte(9),
            block_time_ms: (AT_S + i64::from(asked_s)) * 1_000,
            next_time_ms: None,
            late: true,
            calls: calls.collect(),
        }
    }

    fn said(calls: Calls) -> Result<String, &'static str> {
        let block = BlockRef { number: 7, hash: B256::repeat_byte(7) };
        let at = PriceInstant { chain: ChainId(1), block, time_ms: AT_S * 1_000 };
        let said = read(&pool().after().unwrap(), &Evidence::Calls(calls), &at);
        said.map(|r| r.price.to_string()).map_err(|reject| reject.code)
    }

    /// A tick that is this far off from one second to another.
    fn moved(by: i64, from: i64, to: i64) -> impl Fn(i64) -> i64 {
        move |s| if (from..to).contains(&s) { TICK + by } else { TICK }
    }

    const DEEP: fn(i64) -> u128 = |_| 1_000_000_000;

    #[test]
    fn most_of_the_time_decides_and_no_few_blocks() {
        let near = said(asked(300, |_| TICK, DEEP)).unwrap();
        assert!(near.starts_with("0.0200"), "{near}");
        // A block or two, however far; nearly half of the time; from which block it is asked.
        for (by, from, to) in
            [(2_000, 0, 12), (900_000, 0, 24), (-800_000, 150, 162), (2_000, 0, 140)]
        {
            for asked_s in [300, 301, 333, 5_000] {
                let got = said(asked(asked_s, moved(by, from, to), DEEP));
                assert_eq!(got.as_deref(), Ok(near.as_str()), "{by} {from} {to} {asked_s}");
            }
        }
        // More than half of it: it is off, and one block that goes far the other way changes nothing.
        for (from, to) in [(0, 160), (140, 300), (0, 300)] {
            let stays = said(asked(400, moved(2_000, from, to), DEEP)).unwrap();
            assert!(stays.starts_with("0.024"), "{stays}");
        }
        let back_once = |s| if (288..300).contains(&s) { TICK - 840_000 } else { TICK + 2_000 };
        assert!(said(asked(400, back_once, DEEP)).unwrap().starts_with("0.024"));
        // One piece that no pool can have shows that it is none.
        assert_eq!(said(asked(400, moved(-900_000, 280, 300), DEEP)), Err("unreadable"));
    }

    #[test]
    fn what_has_no_liquidity_says_nothing() {
        let thin = |from: i64, to: i64| move |s| if (from..to).contains(&s) { 1 } else { DEEP(s) };
        let near = said(asked(300, |_| TICK, DEEP));
        // One block in which it was gone, and its price anywhere.
        assert_eq!(said(asked(300, moved(900_000, 40, 52), thin(40, 52))), near);
        assert_eq!(said(asked(300, |_| TICK, thin(0, 160))), Err("illiquid"));
        let zeros = |mut calls: Calls| {
            let CallAnswer::Returned(bytes) = &calls.calls[0].answer else { panic!() };
            let mut answer = UniswapV3Pool::observeCall::abi_decode_returns(bytes).unwrap();
            answer.secondsPerLiquidityCumulativeX128s.fill(U160::ZERO);
            let bytes = UniswapV3Pool::observeCall::abi_encode_returns(&answer);
            calls.calls[0].answer = CallAnswer::Returned(bytes.into());
            calls
        };
        assert_eq!(said(zeros(asked(300, |_| TICK, DEEP))), Err("illiquid"));
        // Deeper than any pool, for one piece.
        assert_eq!(said(asked(300, |_| TICK, |_| u128::MAX)), near);
        let mut deeper = asked(300, |_| TICK, |_| u128::MAX);
        let CallAnswer::Returned(bytes) = &deeper.calls[0].answer else { panic!() };
        let mut answer = UniswapV3Pool::observeCall::abi_decode_returns(bytes).unwrap();
        answer.secondsPerLiquidityCumulativeX128s[0] += U160::from(1);
        let bytes = UniswapV3Pool::observeCall::abi_encode_returns(&answer);
        deeper.calls[0].answer = CallAnswer::Returned(bytes.into());
        assert_eq!(said(deeper), Err("illiquid"));
    }

    #[test]
    fn another_question_is_no_answer() {
        let good = asked(300, |_| TICK, DEEP);
        let early = Calls { block_time_ms: (AT_S + 299) * 1_000, ..good.clone() };
        assert_eq!(said(early), Err("unreadable"));
        let of_another_time = Calls { block_time_ms: (AT_S + 301) * 1_000, ..good.clone() };
        assert_eq!(said(of_another_time), Err("unreadable"));
        let at_the_block = Calls { late: false, ..good.clone() };
        assert_eq!(said(at_the_block), Err("wrong_block"));
        let none = Calls { calls: Vec::new(), ..good.clone() };
        assert_eq!(said(none), Err("unreadable"));
        let mut forgotten = good;
        forgotten.calls[0].answer = CallAnswer::Reverted("OLD".into());
        assert_eq!(said(forgotten), Err("too_young"));
    }

    #[test]
    fn its_answers_are_not_those_of_the_instant() {
        let after = pool().after().unwrap();
        assert_ne!(after.hash(), pool().hash());
        assert!(after.is_after() && after.after().is_none() && after.calls().is_empty());
        assert_eq!(after.chain(), Some(ChainId(1)));
    }
}
