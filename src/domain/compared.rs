//! A price that people let pass, beside what the market says: how far it is from that, and whether they
//! must say the number twice.

use super::money::Rate;
use super::oracle::policy::Body;
use crate::domain::oracle::policy::pair::median;

/// How people let a price pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passes {
    /// They give it themselves, for one deposit.
    ByHand,
    /// The market's price of a stablecoin counts, though it is below its floor.
    Market,
    /// It opened a breaker, which is closed.
    Breaker,
}

/// A price that people let pass, beside those of the market.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// How it passes.
    pub passes: Passes,
    /// Pair.
    pub pair: String,
    /// The price.
    pub price: Rate,
    /// What was decided of the pair at its block, with each source, and when.
    pub quotes: Option<(Body, i64)>,
    /// An operator rejected what sources said there.
    pub rejected: bool,
    /// What it is compared with; none where the pair never had a price.
    pub base: Option<Base>,
    /// Farthest that it may be from that, in basis points.
    pub bound_bps: u32,
}

/// What a price is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// The price that was accepted at its block.
    Accepted(Rate),
    /// The median of the quotes at its block.
    Median(Rate),
    /// The last price of the market before it, and its instant.
    Last(Rate, i64),
    /// The median of the day before it.
    Day(Rate),
}

impl Base {
    /// The price.
    pub const fn price(self) -> Rate {
        match self {
            Self::Accepted(price)
            | Self::Median(price)
            | Self::Last(price, _)
            | Self::Day(price) => price,
        }
    }

    /// What sources said together: those that count, or, where none does, all that said a price.
    pub fn said(body: &Body) -> Option<Self> {
        let counting = || median(body.survivors().filter_map(|p| p.price).collect());
        let any = || median(body.parts.iter().filter_map(|p| p.price).collect());
        match body.price {
            Some(price) => Some(Self::Accepted(price)),
            None => body.median.or_else(counting).or_else(any).map(Self::Median),
        }
    }
}

impl Compared {
    /// How far it is from what it is compared with, in basis points.
    pub fn apart_bps(&self) -> Option<u64> {
        self.base.map(|base| self.price.distance_bps(base.price()))
    }

    /// True when whoever decides must repeat the number: it is farther off than prices may jump, or
    /// there is nothing that it could be compared with. What opened a breaker always is.
    pub fn is_beyond_the_bound(&self) -> bool {
        self.passes == Passes::Breaker
            || self.apart_bps().is_none_or(|apart| apart > u64::from(self.bound_bps))
    }

    /// True when it was said often enough: beyond the bound twice, and wherever the number is repeated,
    /// it is the same.
    pub fn is_said(&self, repeated: Option<Rate>) -> bool {
        match repeated {
            Some(again) => again == self.price,
            None => !self.is_beyond_the_bound(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_said_twice_beyond_the_bound_and_is_the_same_wherever_it_is_repeated() {
        let rate = |text: &str| text.parse::<Rate>().unwrap();
        let one = Some(Base::Last(Rate::ONE, 0));
        for (passes, base, price, beyond) in [
            (Passes::ByHand, one, "1", false),
            (Passes::ByHand, one, "1.1", false),
            (Passes::ByHand, one, "1.1001", true),
            (Passes::ByHand, one, "0.9", false),
            (Passes::ByHand, one, "0.8999", true),
            (Passes::ByHand, None, "1", true),
            (Passes::Market, one, "0.9", false),
            (Passes::Market, one, "0.8999", true),
            (Passes::Market, None, "0.9", true),
            (Passes::Breaker, one, "1", true),
            (Passes::Breaker, None, "1", true),
        ] {
            let price = rate(price);
            let pair = "X/USD".to_owned();
            let (quotes, rejected) = (None, false);
            let seen = Compared { passes, pair, price, quotes, rejected, base, bound_bps: 1_000 };
            assert_eq!(seen.is_beyond_the_bound(), beyond, "{seen:?}");
            assert_eq!(seen.is_said(None), !beyond, "{seen:?}");
            assert!(seen.is_said(Some(price)) && !seen.is_said(Some(rate("0.01"))), "{seen:?}");
        }
    }
}
