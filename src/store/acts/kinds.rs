//! What people decide about a payment that is held.

use alloy::primitives::B256;

use crate::domain::money::Rate;
use crate::domain::oracle::policy::Manual;

/// A held deposit that was looked at longer ago than this is looked at again.
pub const HELD_REST_MS: i64 = 60_000;

/// What an operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Look at the deposit again now.
    Retry,
    /// Take the market's price of its stablecoin, though it is below the floor.
    AcceptMarket {
        /// The stablecoin's pair in dollars.
        pair: String,
        /// The price, as whoever decides was shown it.
        price: Rate,
        /// The same number again, where it is beyond the bound.
        repeated: Option<Rate>,
    },
    /// Price it by hand; waits for another operator.
    ProposePrice {
        /// Pair.
        pair: String,
        /// Its price.
        price: Rate,
        /// The same number again, where it is beyond the bound.
        repeated: Option<Rate>,
    },
    /// Say that it is new money, though a machine cannot tell, or that its providers' word is enough,
    /// though its block cannot be proved; waits for another operator.
    ProposeRelease,
    /// Accept what has left its address by now.
    AcceptOutflows,
    /// Approve the price or the release that another operator proposed.
    Approve {
        /// The act that proposed it.
        proposal: i64,
        /// Its hash, as the operator saw it.
        hash: B256,
        /// The number that it proposes, where that is beyond the bound.
        repeated: Option<Rate>,
    },
}

/// What an operator decides about a price that opened a latch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// It passes; whoever decides says its number.
    Pass {
        /// The number.
        repeated: Option<Rate>,
    },
    /// It was wrong.
    Reject,
}

/// An act by which the market's price of a stablecoin is accepted below its floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiver {
    /// Its number.
    pub act: i64,
    /// The price that it accepts; acts of before accept whatever the market says.
    pub price: Option<Rate>,
}

/// A price that two operators gave a deposit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManualPrice {
    /// Pair.
    pub pair: String,
    /// Price.
    pub price: Rate,
    /// The two acts.
    pub manual: Manual,
}
