//! What somebody who relies on a pair's sources should know of them.

use std::collections::BTreeSet;

use alloy::primitives::U256;

use crate::domain::money::Rate;
use crate::domain::oracle::policy::pair::PairPolicy;
use crate::domain::oracle::source::{Reads, SourceSpec};

/// So far off is twice the price; and no fall is ever farther.
const ALL_BPS: u32 = 10_000;
/// A pool with less of it is as good as empty: some base units of its tokens.
const DUST: u32 = 1_000_000;
const HOUR_S: u32 = 3_600;
const WEEK_S: u32 = 7 * 24 * HOUR_S;

impl PairPolicy {
    /// What somebody who relies on it should know.
    pub fn warnings(&self) -> Vec<String> {
        let of_sources = self.sources.iter().filter_map(|source| {
            let text = open(source)?;
            Some(format!("{}: {}: {text}", self.pair, source.name))
        });
        let of_pair = self.open().into_iter().map(|text| format!("{}: {text}", self.pair));
        self.unsigned().into_iter().chain(self.undated()).chain(of_pair).chain(of_sources).collect()
    }

    /// What its bounds let pass that are so wide that they are none.
    fn open(&self) -> Vec<String> {
        let half = "0.5".parse::<Rate>().ok();
        // That of tickers is said above; and of a fixed price everybody knows it.
        let makes = |is: fn(&Reads) -> bool| self.sources.iter().any(|s| !s.guard && is(&s.reads));
        let alone = self.quorum <= 1
            && !makes(|reads| matches!(reads, Reads::Http(_)))
            && makes(|reads| !matches!(reads, Reads::Fixed { .. }));
        let cases = [
            (
                alone,
                "quorum = 1: any of its sources alone makes a price, and none contradicts it; ask for a quorum of 2".to_owned(),
            ),
            (
                self.outlier_floor_bps >= ALL_BPS,
                format!("outlier_floor_bps = {}: no answer is ever an outlier", self.outlier_floor_bps),
            ),
            (
                self.dispersion_max_bps >= ALL_BPS,
                format!("dispersion_max_bps = {}: sources that say twice what others say do not disagree", self.dispersion_max_bps),
            ),
            (
                self.spread_max_s > HOUR_S,
                format!("spread_max_s = {}: a price of more than an hour before or after the payment counts", self.spread_max_s),
            ),
            (
                self.jump_max_bps >= ALL_BPS,
                format!("jump_max_bps = {}: a price that falls to nothing is no jump", self.jump_max_bps),
            ),
            (
                self.jump_window_s == 0,
                "jump_window_s = 0: no price is compared with the one before".to_owned(),
            ),
            (
                self.day_max_bps >= ALL_BPS,
                format!("day_max_bps = {}: a price that is nothing of that of the day before passes", self.day_max_bps),
            ),
            (
                self.hold_below.zip(half).is_some_and(|(floor, half)| floor < half),
                "hold_below is less than 0.5: a stablecoin that has lost half of its value is credited".to_owned(),
            ),
        ];
        cases.into_iter().filter_map(|(is_open, text)| is_open.then_some(text)).collect()
    }

    /// Nobody signs what a ticker says, and of two sources each moves the price.
    fn unsigned(&self) -> Option<String> {
        let ticker = |s: &&SourceSpec| matches!(s.reads, Reads::Http(_)) && !s.guard;
        let tickers: Vec<&str> =
            self.sources.iter().filter(ticker).map(|s| s.name.as_str()).collect();
        let name = tickers.first()?;
        let (pair, most) = (&self.pair, self.dispersion_max_bps);
        let remedy = "mark it guard = true, or ask for a quorum of 3";
        match self.quorum {
            0 | 1 => Some(format!(
                "{pair}: a quorum of 1, which may be a ticker: {name} alone can make a price, and nobody signs what it says; {remedy}"
            )),
            2 => Some(format!(
                "{pair}: a quorum of 2 of which {}: nobody signs what {name} says, and it can move a price by half of up to {most} bp; {remedy}",
                match tickers.as_slice() {
                    [_] => "one is a ticker".to_owned(),
                    all => format!("two may be tickers ({})", all.join(", ")),
                }
            )),
            _ => None,
        }
    }

    /// A source that does not say of when its price is looks fresh when it is frozen.
    fn undated(&self) -> Option<String> {
        let counts = || self.sources.iter().filter(|s| !s.guard);
        let name = &counts().find(|s| !s.is_dated())?.name;
        let dated: BTreeSet<&str> =
            counts().filter(|s| s.is_dated()).map(|s| s.venue.as_str()).collect();
        let (pair, quorum) = (&self.pair, self.quorum);
        (dated.len() < usize::try_from(quorum).unwrap_or(usize::MAX)).then(|| {
            format!(
                "{pair}: {name} is needed for the quorum of {quorum}, and does not say of when its price is: frozen, it looks as fresh as ever; give it a time, or add a source that has one"
            )
        })
    }

    /// What follows for payments where some of its sources cannot be used.
    pub fn lacks(&self, usable: impl Fn(&SourceSpec) -> bool) -> Option<String> {
        let left = self.sources.iter().filter(|s| !s.guard && usable(s));
        let left: BTreeSet<&str> = left.map(|s| s.venue.as_str()).collect();
        let (pair, quorum, left) = (&self.pair, self.quorum, left.len());
        (left < usize::try_from(quorum).unwrap_or(usize::MAX)).then(|| {
            format!(
                "{pair}: {left} of its sources can be used, and {quorum} must agree: payments that need its price wait"
            )
        })
    }
}

/// What a source lets pass, whose own bounds are so wide that they are none.
fn open(source: &SourceSpec) -> Option<String> {
    match &source.reads {
        Reads::Chainlink(feed) => {
            let grace = feed.sequencer.as_ref().map(|sequencer| sequencer.grace_s);
            if feed.heartbeat_s > WEEK_S {
                let heartbeat = feed.heartbeat_s;
                return Some(format!(
                    "heartbeat_s = {heartbeat}: a feed that stands still for more than a week counts"
                ));
            }
            (grace == Some(0)).then(|| {
                "grace_s = 0: the feed counts at once when the sequencer is back, before it is updated".to_owned()
            })
        }
        Reads::UniswapV3(pool) | Reads::UniswapV3After(pool) => {
            let (least, most) = (pool.min_liquidity.0, pool.spot_max_bps);
            if least < U256::from(DUST) {
                return Some(format!(
                    "min_liquidity = \"{least}\": a pool that is as good as empty counts, whose price anybody can move for almost nothing"
                ));
            }
            (most >= ALL_BPS).then(|| {
                format!("spot_max_bps = {most}: the pool counts however far its price of the moment is from the mean")
            })
        }
        Reads::Pyth(feed) => {
            let (most, after) = (feed.confidence_max_bps, feed.after_max_s);
            if most >= ALL_BPS {
                return Some(format!(
                    "confidence_max_bps = {most}: a price that the feed is not sure of at all counts"
                ));
            }
            if after > HOUR_S {
                return Some(format!(
                    "after_max_s = {after}: a price of more than an hour after the payment counts"
                ));
            }
            let signers =
                feed.signers.as_ref().filter(|s| s.least == 1 && s.addresses.len() > 1)?;
            let many = signers.addresses.len();
            Some(format!("signers.least = 1: any one of {many} signers alone makes a price"))
        }
        Reads::Http(ticker) => (ticker.max_age_s > HOUR_S).then(|| {
            format!(
                "max_age_s = {}: a price of more than an hour before or after the payment counts",
                ticker.max_age_s
            )
        }),
        Reads::Fixed { .. } => None,
    }
}
