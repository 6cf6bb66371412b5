//! One round of a Chainlink feed: its number, what it says, and how it is asked.

use alloy::primitives::aliases::U80;
use alloy::primitives::{Address, Bytes, I256, U256};
use alloy::sol_types::SolCall;

use crate::domain::oracle::abi::Aggregator;
use crate::domain::oracle::reading::{Call, Reject};

/// Round numbers within a phase are 64 bits of an id.
pub(super) const PHASE_BITS: usize = 64;

/// A round, as far as it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// `phase << 64 | round`.
    pub id: U80,
    /// Answer.
    pub answer: I256,
    /// When it began, epoch milliseconds.
    pub started_ms: i64,
    /// When it was answered.
    pub updated_ms: i64,
}

impl Round {
    /// The round's number within its phase.
    pub fn number(&self) -> u64 {
        self.id.wrapping_to()
    }

    /// Since when a price is in force: since it was answered.
    pub fn since_answer(&self) -> i64 {
        self.updated_ms
    }

    /// Since when a sequencer's state is: on OP-stack chains, the uptime feed updates the round of
    /// a state again and again while it lasts, and only its start stands still.
    pub fn since_start(&self) -> i64 {
        self.started_ms
    }

    /// Its phase.
    pub fn phase(&self) -> u16 {
        self.id.wrapping_shr(PHASE_BITS).wrapping_to()
    }
}

/// Since when a round is in force, epoch milliseconds.
pub type Since = fn(&Round) -> i64;

/// A round's id from its phase and number.
pub fn round_id(phase: u16, number: u64) -> U80 {
    U80::from(phase).wrapping_shl(PHASE_BITS) | U80::from(number)
}

/// The question for the newest round.
pub fn latest_round(feed: Address) -> Call {
    Call { to: feed, data: Aggregator::latestRoundDataCall {}.abi_encode().into() }
}

/// The question for one round.
pub fn round(feed: Address, id: U80) -> Call {
    Call { to: feed, data: Aggregator::getRoundDataCall { roundId: id }.abi_encode().into() }
}

/// Reads the answer to [`latest_round`] or [`round`]; they have one shape.
///
/// # Errors
/// [`Reject`] for what is not a round.
pub fn decode(returned: &Bytes) -> Result<Round, Reject> {
    let bad = |why: String| Reject::new("unreadable", why);
    let round = Aggregator::latestRoundDataCall::abi_decode_returns(returned)
        .map_err(|e| bad(format!("not a round: {e}")))?;
    let ms = |seconds: U256| {
        i64::try_from(seconds)
            .ok()
            .and_then(|s| s.checked_mul(1_000))
            .ok_or_else(|| bad(format!("{seconds} is not a time")))
    };
    Ok(Round {
        id: round.roundId,
        answer: round.answer,
        started_ms: ms(round.startedAt)?,
        updated_ms: ms(round.updatedAt)?,
    })
}

/// `phase/round`, as people write it.
pub(super) fn shown(id: U80) -> String {
    let round = Round { id, answer: I256::ZERO, started_ms: 0, updated_ms: 0 };
    format!("{}/{}", round.phase(), round.number())
}
