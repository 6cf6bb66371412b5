//! Tables: answers that a pool can give, and answers that none can.

use alloy::primitives::{B256, I256};
use alloy::sol_types::SolValue;

use super::*;
use crate::domain::ids::BlockRef;
use crate::domain::oracle::reading::Called;

/// Two cents, where both tokens have 18 decimals.
const TICK: i32 = -39_122;
const WINDOW_S: u32 = 600;

/// A pool that must be as deep as this.
pub(in crate::domain::oracle) fn pool(min_liquidity: u64) -> Pool {
    Pool {
        chain_id: ChainId(1),
        address: Address::repeat_byte(1),
        base: Address::repeat_byte(2),
        base_decimals: 18,
        quote: Address::repeat_byte(3),
        quote_decimals: 18,
        window_s: WINDOW_S,
        history_s: 2 * WINDOW_S,
        min_cardinality: 2,
        min_liquidity: RawAmount(U256::from(min_liquidity)),
        spot_max_bps: 500,
    }
}

/// An answer, with numbers of any size.
#[derive(Clone)]
struct Answer {
    min_liquidity: u64,
    ticks: [I256; 3],
    seconds: [U256; 3],
    sqrt: U256,
    fee_protocol: U256,
}

fn int(number: i128) -> I256 {
    I256::try_from(number).unwrap()
}

/// Three sums, a window apart each.
fn stepping(from: U256, step: U256) -> [U256; 3] {
    [from, from.wrapping_add(step), from.wrapping_add(step).wrapping_add(step)]
}

/// Of a pool that is at a tick all the time.
fn at_tick(tick: i128) -> [I256; 3] {
    [0, 1, 2].map(|i| int(7_000_000 + i * tick * i128::from(WINDOW_S)))
}

/// Of a pool with a liquidity of a million million million, all the time.
fn good() -> Answer {
    let step = (U256::from(WINDOW_S) << 128) / U256::from(1_000_000_000_000_000_000_u64);
    Answer {
        min_liquidity: 1_000_000,
        ticks: at_tick(TICK.into()),
        seconds: stepping(U256::from(9), step),
        sqrt: sqrt_ratio_at_tick(TICK).unwrap(),
        fee_protocol: U256::ZERO,
    }
}

fn said(answer: &Answer) -> Result<String, String> {
    let pool = pool(answer.min_liquidity);
    let observed = (answer.ticks.to_vec(), answer.seconds.to_vec()).abi_encode_params();
    let one = U256::from(1);
    let slot0 = (answer.sqrt, int(TICK.into()), one, U256::from(9), U256::from(9));
    let slot0 = [slot0.abi_encode_params(), (answer.fee_protocol, one).abi_encode_params()];
    let answers = [observed, slot0.concat()];
    let calls = pool.calls().into_iter().zip(answers).map(|(call, bytes)| Called {
        to: call.to,
        data: call.data,
        answer: CallAnswer::Returned(bytes.into()),
    });
    let block = BlockRef { number: 7, hash: B256::repeat_byte(7) };
    let at = PriceInstant { chain: ChainId(1), block, time_ms: 1_700_000_000_000 };
    let calls = Calls {
        chain_id: ChainId(1),
        block_number: block.number,
        block_hash: block.hash,
        block_time_ms: at.time_ms,
        next_time_ms: None,
        late: false,
        calls: calls.collect(),
    };
    pool.read(&calls, &at).map(|r| r.price.to_string()).map_err(|reject| reject.to_string())
}

/// What wraps by design, and what is as far out as a pool can be, counts.
#[test]
fn what_a_pool_can_answer_is_read() {
    let price = said(&good()).unwrap();
    assert!(price.starts_with("0.0200"), "{price}");
    let window = U256::from(WINDOW_S);
    let step = good().seconds[1] - good().seconds[0];
    let wraps = |from: U256| {
        let sums = stepping(from, step);
        Answer { seconds: sums.map(|sum| sum & U256::from(U160::MAX)), ..good() }
    };
    let highest = U256::from(U160::MAX);
    let rows = [
        ("it wraps within the window", wraps(highest - step - step / U256::from(2))),
        ("it wraps before the window", wraps(highest)),
        ("the deepest pool", Answer { seconds: stepping(U256::ZERO, window), ..good() }),
        (
            "no liquidity, and none is wanted",
            Answer { min_liquidity: 0, seconds: stepping(U256::ZERO, window << 128), ..good() },
        ),
        ("PancakeSwap", Answer { fee_protocol: U256::from(209_718_400), ..good() }),
    ];
    for (what, answer) in rows {
        assert_eq!(said(&answer).as_deref(), Ok(price.as_str()), "{what}");
    }
    for tick in [-TICK_MAX, TICK_MAX] {
        let ticks = at_tick(tick.into());
        let why = said(&Answer { ticks, sqrt: sqrt_ratio_at_tick(tick).unwrap(), ..good() });
        assert!(!why.is_err_and(|why| why.contains("no pool")), "{tick}");
    }
}

#[test]
fn what_no_pool_can_answer_is_no_answer() {
    let seconds = |seconds: [U256; 3]| Answer { min_liquidity: 0, seconds, ..good() };
    let small = |sums: [u64; 3]| seconds(sums.map(U256::from));
    let ticks = |ticks: [I256; 3]| Answer { ticks, ..good() };
    let sqrt = |sqrt: U256| Answer { sqrt, ..good() };
    let (one, window) = (U256::from(1), U256::from(WINDOW_S));
    let deep = "illiquid: observe's second list grows by ";
    let still = "illiquid: observe says nothing of the pool's liquidity";
    let mean = "unreadable: observe's first list changes by ";
    let number = "unreadable: observe answered a number that is none of (int56[],uint160[])";
    let slot0 = "unreadable: slot0 says sqrtPriceX96 = ";
    let [lowest, highest] = [-TICK_MAX, TICK_MAX].map(|tick| sqrt_ratio_at_tick(tick).unwrap());
    let at = |i: usize, sum: U256| {
        let mut sums = good().seconds;
        sums[i] += sum;
        seconds(sums)
    };
    let mut backwards = good().seconds;
    backwards.reverse();
    let too_long: [i128; 2] = [1 << 55, -(1 << 55) - 1];
    let rows = [
        (small([1_000, 1_001, 1_002]), format!("{deep}1 in 600 s: a mean liquidity beyond 128")),
        (small([0, 600, 1_199]), format!("{deep}599 in 600 s: a mean liquidity beyond")),
        // What it must remember, too.
        (small([0, 599, 1_199]), format!("{deep}599 in 600 s: a mean liquidity beyond")),
        (small([0, 0, 0]), still.to_owned()),
        (small([5, 5, 5]), still.to_owned()),
        (small([0, 600, 600]), still.to_owned()),
        (seconds([U256::from(U160::MAX); 3]), still.to_owned()),
        (seconds(backwards), deep.to_owned()),
        (seconds(stepping(U256::ZERO, (window << 128) + one)), deep.to_owned()),
        (at(0, one << 160), number.to_owned()),
        (at(2, one << 160), number.to_owned()),
        (seconds(good().seconds.map(|sum| sum + (one << 255))), number.to_owned()),
        (ticks(at_tick(i128::from(TICK_MAX) + 1)), format!("{mean}532363800 in 600 s: a mean")),
        (ticks(at_tick(-i128::from(TICK_MAX) - 1)), format!("{mean}-532363800 in 600 s: a")),
        (ticks([int((1 << 55) - 1), int(0), int(0)]), mean.to_owned()),
        (ticks([int(0), int(0), int(-(1 << 55))]), mean.to_owned()),
        (ticks([int(too_long[0]), int(0), int(0)]), number.to_owned()),
        (ticks([int(0), int(0), int(too_long[1])]), number.to_owned()),
        (ticks(at_tick(TICK.into()).map(|sum| sum + int(1 << 56))), number.to_owned()),
        (sqrt(U256::ZERO), slot0.to_owned()),
        (sqrt(lowest - one), slot0.to_owned()),
        (sqrt(highest + one), slot0.to_owned()),
        (sqrt(good().sqrt + (one << 160)), "unreadable: slot0 answered a number".to_owned()),
    ];
    for (i, (answer, why)) in rows.iter().enumerate() {
        let said = said(answer).unwrap_err();
        assert!(said.starts_with(why.as_str()), "{i}: {said}");
    }
}
