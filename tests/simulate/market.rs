//! Prices on the simulated chain: feeds that answer otherwise in every block, so that a credit at the
//! price of another block, or at a liar's price, is not the one that is expected.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::primitives::{Address, B256, I256, U256, aliases::U80};
use alloy::sol_types::SolCall;
use topupd::domain::money::Rate;
use topupd::domain::oracle::chainlink::{Aggregator, Feed, round_id};
use topupd::domain::oracle::policy::PairPolicy;
use topupd::domain::oracle::{Call, CallAnswer, Oracle, Reads, SourceSpec};
use topupd::domain::pricing::{Dust, Epoch, EpochBook, Phase, Terms, Valuation};

use super::rules::token;
use super::story::{CHAIN, GENESIS_MS};
use super::world::Payment;

const USDC: Address = Address::repeat_byte(0xf1);
const USDT: Address = Address::repeat_byte(0xf2);
const RTITY: [Address; 2] = [Address::repeat_byte(0xf3), Address::repeat_byte(0xf4)];

/// What a feed answers in the state after a block, with eight digits: within a hundredth of a dollar
/// or of two cents. Even, so that the median of two is one of the same digits.
pub fn answer(feed: Address, block: B256) -> u64 {
    let around = if RTITY.contains(&feed) { 1_000_000 } else { 50_000_000u64 };
    let mut word = [0; 8];
    word.copy_from_slice(&block[..8]);
    let wobble = u64::from_be_bytes(word).rotate_left(u32::from(feed[0])) % 20_000;
    2 * (around * (990_000 + wobble) / 1_000_000)
}

/// What a payment is worth in a block, in nanocredits. By hand: not one line of it is topupd's.
pub fn worth(payment: &Payment, block: B256) -> u128 {
    let amount = u128::from(payment.amount);
    let dollars = |feed| u128::from(answer(feed, block).min(100_000_000));
    if payment.token == token(0) {
        let rtity = RTITY.map(|feed| u128::from(answer(feed, block)));
        let tokens = amount * 10u128.pow(12) * dollars(USDC) / ((rtity[0] + rtity[1]) / 2);
        tokens * 50 / 10u128.pow(9)
    } else {
        amount * dollars(USDT) * 1_000 * 10u128.pow(9) / 10u128.pow(14)
    }
}

/// The question and its answer: each block has a round of its own, numbered by its height and one.
pub fn asked(call: &Call) -> Option<u64> {
    let id = Aggregator::getRoundDataCall::abi_decode(&call.data).ok()?.roundId;
    Some((id & U80::from(u64::MAX)).to::<u64>())
}

pub fn round(answer: u64, number: u64, time_ms: i64) -> CallAnswer {
    let time = U256::from(time_ms / 1_000);
    let id = round_id(1, number);
    let answer = I256::try_from(answer).unwrap();
    let round = Aggregator::latestRoundDataReturn {
        roundId: id,
        answer,
        startedAt: time,
        updatedAt: time,
        answeredInRound: id,
    };
    CallAnswer::Returned(Aggregator::latestRoundDataCall::abi_encode_returns(&round).into())
}

fn policy(pair: &str, feeds: &[Address]) -> PairPolicy {
    let source = |(i, address): (u8, &Address)| SourceSpec {
        name: format!("feed {i}"),
        venue: format!("feed {i}"),
        via: None,
        guard: false,
        reads: Reads::Chainlink(Feed {
            chain_id: CHAIN,
            address: *address,
            decimals: 8,
            description: String::new(),
            heartbeat_s: 3_600,
            sequencer: None,
        }),
    };
    PairPolicy {
        pair: pair.into(),
        hold_below: pair.starts_with("USD").then(|| "0.97".parse::<Rate>().unwrap()),
        quorum: u32::try_from(feeds.len()).unwrap(),
        outlier_floor_bps: 500,
        dispersion_max_bps: 500,
        spread_max_s: 60,
        jump_max_bps: 1_000,
        jump_window_s: 3_600,
        day_max_bps: 1_000,
        sources: (0..).zip(feeds).map(source).collect(),
    }
}

pub fn oracle() -> Arc<Oracle> {
    let pairs =
        [policy("USDC/USD", &[USDC]), policy("USDT/USD", &[USDT]), policy("RTITY/USD", &RTITY)];
    let pairs: BTreeMap<_, _> = pairs.into_iter().map(|p| (p.pair.clone(), p)).collect();
    Arc::new(Oracle::new(pairs, 60_000).with_schedule(120_000))
}

/// One coin is converted, the other one is worth its dollars. Much later, all of it gives more.
pub fn epochs() -> EpochBook {
    let terms = |valuation| Terms { valuation, minimum: None, dust: Dust::Ignore };
    let epoch = |id: &str, starts_at_ms, per_usd: &str, per_token: &str| {
        let convert = Valuation::Convert { into: "RTITY".into(), into_decimals: 18 };
        let usdt = Valuation::Market { credits_per_usd: per_usd.parse().unwrap() };
        let rtity = Valuation::Fixed { credits_per_token: per_token.parse().unwrap() };
        let accept = [("USDC", convert), ("USDT", usdt), ("RTITY", rtity)];
        let accept = accept.map(|(asset, valuation)| (asset.to_owned(), terms(valuation))).into();
        Epoch { id: id.into(), starts_at_ms, phase: Phase::PostTge, accept }
    };
    let far = GENESIS_MS + 3_600_000 * 24 * 100;
    let two = [epoch("one", GENESIS_MS, "1000", "50"), epoch("two", far, "2000", "100")];
    EpochBook::new(two.into()).unwrap()
}
