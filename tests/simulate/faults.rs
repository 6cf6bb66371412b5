//! What is wrong with a provider: for a while, as a liar, or for good though it is honest.

use alloy::primitives::B256;

/// What is wrong with a provider at the moment.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// So many blocks behind.
    pub lag: u64,
    /// Stands still at this block.
    pub stuck: Option<B256>,
    /// Of a hundred answers, so many fail.
    pub failing: u64,
    /// Of a hundred answers about logs, so many say that the range is too large.
    pub too_large: u64,
    /// Of a hundred answers, so many ask for patience.
    pub limiting: u64,
    /// It cannot be reached at all.
    pub away: bool,
    /// Of a hundred blocks, it lies about so many.
    pub lies: u64,
    /// Blocks of its own making, on top of the true chain.
    pub inventing: u64,
    /// Claims so many empty blocks on top of its tip, linked to it and to each other.
    pub claims: u64,
    /// They are as far apart as blocks are, and so of the future.
    pub claims_future: bool,
    /// Calls its tip final.
    pub all_final: bool,
    /// Of a hundred blocks, it doubles the prices in so many.
    pub doubles: u64,
}

/// What is odd about an honest provider, for good.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quirks {
    /// Answers `[]` for a block that it does not know, as some nodes do.
    pub empty_for_unknown: bool,
    /// Says in its logs when the block was mined.
    pub tells_time: bool,
    /// It says so in milliseconds where seconds are meant.
    pub log_times_ms: bool,
    /// Has no index of transactions: no receipt by hash.
    pub no_receipts: bool,
    /// Has no receipts by block.
    pub no_block_receipts: bool,
    /// Knows a block's logs so many steps after the block.
    pub indexes_late: u64,
    /// Refuses ranges of more blocks than this.
    pub refuses_above: Option<(u64, Refusal)>,
    /// It is not there before this step.
    pub away_until: u64,
    /// Keeps the state of so many blocks only; of all, when 0.
    pub keeps: u64,
    /// Has no logs of some blocks, the same ones as others of its kind. Their receipts it has.
    pub omits: bool,
    /// Cannot prove the receipts of some blocks, the same ones as all others.
    pub unproved: bool,
    /// Counts logs from the beginning of the transaction, not of the block.
    pub per_tx_index: bool,
}

/// How a range is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// In words that mean nothing to us.
    UnknownWords,
}

/// What a liar does to a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    HideAll,
    HideOne,
    Invent,
    InventFirst,
    Amount,
    Twice,
    Shift,
    /// Counts logs from the beginning of each transaction.
    PerTx,
    /// A log at a place that no block has.
    FarIndex,
    /// A log of an older block stands in this one, too.
    Repeat,
    /// Another time of the block.
    Time,
    /// A slightly other time of the block.
    TimeNear,
    OtherHash,
}

pub const ALL_LIES: [Lie; 14] = [
    Lie::HideAll,
    Lie::HideOne,
    Lie::Invent,
    Lie::InventFirst,
    Lie::Amount,
    Lie::Twice,
    Lie::Shift,
    Lie::PerTx,
    Lie::FarIndex,
    Lie::Repeat,
    Lie::Time,
    Lie::TimeNear,
    Lie::OtherHash,
    Lie::HideAll,
];

impl Lie {
    /// A log that is there may not be shown by it.
    pub fn hides(self) -> bool {
        matches!(self, Self::HideAll | Self::HideOne)
    }
}
