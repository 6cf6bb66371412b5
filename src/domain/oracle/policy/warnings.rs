//! What somebody who relies on a pair's sources should know of them.

use std::collections::BTreeSet;

use super::PairPolicy;
use crate::domain::oracle::SourceSpec;

impl PairPolicy {
    /// What somebody who relies on it should know.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.unsigned().into_iter().chain(self.undated()).collect()
    }

    /// Nobody signs what a ticker says, and of two sources each moves the price.
    fn unsigned(&self) -> Option<String> {
        let ticker =
            |s: &&SourceSpec| matches!(s.reads, crate::domain::oracle::Reads::Http(_)) && !s.guard;
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
    #[must_use]
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
