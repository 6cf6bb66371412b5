//! Where a deposit stands, and the one `match` that says what may follow.
//!
//! A stage is derived from facts and events, never set by hand. The data a stage needs (the
//! sighting, the price, the posting) is stored beside it by the same commit; this file knows only
//! which stage follows which.

use std::fmt;

use super::transfer::Malformation;

/// Why a machine may not finish a deposit. It is known, safe and not lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldReason {
    /// The receipt's transfers to us are not the ones recorded, even after reading the block anew.
    ReceiptMismatch,
    /// Deep enough for long, and the provider shows no receipt for it in its block.
    ReceiptMissing,
    /// The provider that showed the log and those asked for the receipt say different things.
    ProvidersDisagree,
    /// Its block's receipts hash to the block's hash in no way that is known.
    Unproved,
    /// No epoch is in force at the block's time.
    NoEpoch,
    /// Its token is configured no more. The money is real; put the token back.
    NoToken,
    /// The credits would not fit an `i64` of nanocredits.
    Overflow,
    /// Below the minimum; waits until enough of it has accumulated.
    Dust,
    /// Its posting exists already with other contents: somebody changed a row.
    Conflict,
    /// Too few sources gave a price of its block's time.
    NoPrice,
    /// Sources gave prices that are too far apart.
    PricesDisagree,
    /// The price moved too far from those accepted before; an operator must let it pass.
    Breaker,
    /// The stablecoin is far below its dollar; an operator decides.
    Depegged,
    /// No new money, as far as a machine can tell: it comes from an address that is registered here,
    /// or was credited further on before its address was registered. Two people release it.
    InternalTransfer,
    /// Money has left the imported address: its owner could pass the same coins round. An operator
    /// looks first.
    CustodyDoubt,
    /// A check that is asked before a credit says that people must look, or nothing. Two release it.
    Screening,
}

impl HoldReason {
    /// True while a deposit waits for something that its price depends on; it goes on by itself.
    pub const fn is_about_price(self) -> bool {
        matches!(
            self,
            Self::NoEpoch
                | Self::NoToken
                | Self::Dust
                | Self::NoPrice
                | Self::PricesDisagree
                | Self::Breaker
                | Self::Depegged
        )
    }

    /// True for the holds of dust that was added up: it waits for more, or, with the rest of its sum, for
    /// a price.
    pub const fn is_of_counted_dust(self) -> bool {
        matches!(self, Self::Dust) || self.is_about_market()
    }

    /// True while it waits for somebody to say that it is new money, and money that may be taken.
    pub const fn is_about_origin(self) -> bool {
        matches!(self, Self::InternalTransfer | Self::CustodyDoubt | Self::Screening)
    }

    /// True while two people can let it go on, though a machine cannot know that it is right.
    pub const fn can_be_released(self) -> bool {
        self.is_about_origin() || matches!(self, Self::Unproved)
    }

    /// True while two people can decide: a price, or that it goes on.
    pub const fn can_be_approved(self) -> bool {
        self.is_about_market() || self.can_be_released()
    }

    /// True while it waits for a market price.
    pub const fn is_about_market(self) -> bool {
        matches!(self, Self::NoPrice | Self::PricesDisagree | Self::Breaker | Self::Depegged)
    }
}

/// The holds that wait for a market price.
pub const MARKET_HOLDS: [HoldReason; 4] =
    [HoldReason::NoPrice, HoldReason::PricesDisagree, HoldReason::Breaker, HoldReason::Depegged];

/// Why a transfer to us is recorded and never credited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IgnoreReason {
    /// Moves nothing: anybody can emit one, for anybody (zero-value `transferFrom` spoofing).
    ZeroValue,
    /// From the deposit address to itself: nothing arrives.
    SelfTransfer,
    /// The contract is not a configured token, whatever symbol it shows.
    UnlistedToken,
    /// The token is known, but not accepted in the epoch of its block.
    NotAccepted,
    /// Less than the epoch's minimum, or less than one nanocredit.
    BelowMinimum,
    /// Not an ERC-20 transfer.
    Malformed(Malformation),
}

/// Where a deposit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Seen in a canonical block.
    Pending,
    /// Deep enough, and its receipt says the same.
    Confirmed,
    /// Its price is fixed and stored.
    Priced,
    /// Its posting is in the ledger.
    Credited,
    /// It was credited, its block turned out not to be canonical, and a posting undid the credit.
    Reversed,
    /// Seen, but in no canonical block now.
    Orphaned,
    /// A rule stops it; see the reason.
    Held(HoldReason),
    /// Will not be credited; see the reason.
    Ignored(IgnoreReason),
}

/// What happened to a deposit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It stands in a canonical block.
    Seen(Verdict),
    /// Its block is canonical no more.
    Orphaned,
    /// Deep enough, and the receipt shows exactly the transfers recorded.
    ReceiptAgreed,
    /// A rule stops it.
    Hold(HoldReason),
    /// A rule found at pricing that it is worth nothing.
    Ignore(IgnoreReason),
    /// What it was confirmed by does not count where it is credited: it is confirmed again.
    ConfirmAgain,
    /// Its price was computed and is being stored.
    PriceFixed,
    /// Its posting is being written.
    Posted,
    /// The posting that undoes its credit is being written.
    CreditUndone,
}

/// What the rules say of a transfer the moment it is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Goes on to be confirmed.
    Accept,
    /// Recorded, never credited.
    Ignore(IgnoreReason),
}

/// An event that cannot happen in a stage: a bug of ours or a changed row, never the world's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a deposit that is {stage} cannot take the event {event:?}")]
pub struct IllegalTransition {
    /// Where it stood.
    pub stage: Stage,
    /// What was to happen.
    pub event: Event,
}

impl Stage {
    /// True for stages that dust has after it was counted.
    pub const fn is_counted_dust(self) -> bool {
        matches!(self, Self::Held(reason) if reason.is_of_counted_dust())
    }

    /// The stage that follows.
    ///
    /// # Errors
    /// [`IllegalTransition`] for every pair not listed.
    pub fn next(self, event: Event) -> Result<Self, IllegalTransition> {
        use Event as E;
        use HoldReason as H;
        use Stage as S;
        match (self, event) {
            // Money that was credited stays credited until a posting undoes it: one answer about
            // a fork is not enough for that.
            (S::Credited, E::Orphaned | E::Seen(_)) => Ok(S::Credited),
            (S::Credited, E::CreditUndone) => Ok(S::Reversed),
            (S::Reversed, E::Orphaned) => Ok(S::Reversed),
            (_, E::Orphaned) => Ok(S::Orphaned),

            (S::Pending | S::Orphaned | S::Reversed, E::Seen(Verdict::Accept)) => Ok(S::Pending),
            (S::Pending | S::Orphaned | S::Reversed, E::Seen(Verdict::Ignore(reason))) => {
                Ok(S::Ignored(reason))
            }
            // A block read anew: its logs are judged again, and may be other than first answered.
            (
                S::Held(
                    H::ReceiptMismatch | H::ReceiptMissing | H::ProvidersDisagree | H::Unproved,
                )
                | S::Ignored(_),
                E::Seen(verdict),
            ) => Ok(match verdict {
                Verdict::Accept => S::Pending,
                Verdict::Ignore(reason) => S::Ignored(reason),
            }),

            (
                S::Pending
                | S::Held(
                    H::ReceiptMismatch | H::ReceiptMissing | H::ProvidersDisagree | H::Unproved,
                ),
                E::ReceiptAgreed,
            ) => Ok(S::Confirmed),
            (
                S::Pending
                | S::Held(
                    H::ReceiptMismatch | H::ReceiptMissing | H::ProvidersDisagree | H::Unproved,
                ),
                E::Hold(
                    reason @ (H::ReceiptMismatch
                    | H::ReceiptMissing
                    | H::ProvidersDisagree
                    | H::Unproved
                    | H::InternalTransfer
                    | H::CustodyDoubt
                    | H::Screening),
                ),
            ) => Ok(S::Held(reason)),
            // Its receipt has agreed already; what is asked is whether its money may be credited.
            (S::Held(from), E::ReceiptAgreed) if from.is_about_origin() => Ok(S::Confirmed),
            (S::Held(from), E::Hold(reason))
                if from.is_about_origin() && reason.is_about_origin() =>
            {
                Ok(S::Held(reason))
            }

            // Waiting for a price: priced, found worthless, or held for another reason than before.
            (from, E::PriceFixed) if from.waits_for_price() => Ok(S::Priced),
            (from, E::Ignore(reason)) if from.waits_for_price() => Ok(S::Ignored(reason)),
            (from, E::Hold(reason))
                if from.waits_for_price() && (reason.is_about_price() || reason == H::Overflow) =>
            {
                Ok(S::Held(reason))
            }

            (S::Priced, E::Posted) => Ok(S::Credited),
            (S::Priced, E::ConfirmAgain) => Ok(S::Pending),
            // The namespace's balance would not fit, or the posting contradicts an older one.
            (S::Priced, E::Hold(reason @ (H::Overflow | H::Conflict))) => Ok(S::Held(reason)),
            // Where it comes from was asked once more, right before. Then its price is fixed already.
            (S::Priced, E::Hold(reason)) if reason.is_about_origin() => Ok(S::Held(reason)),
            (S::Held(from), E::PriceFixed) if from.is_about_origin() => Ok(S::Priced),
            _ => Err(self.illegal(event)),
        }
    }

    /// True while it is held because its receipt is missing, or says something else than was recorded.
    pub const fn is_held_for_its_receipt(self) -> bool {
        use HoldReason as H;
        matches!(self, Self::Held(H::ReceiptMismatch | H::ReceiptMissing | H::ProvidersDisagree))
    }

    /// True when a price is what comes next.
    const fn waits_for_price(self) -> bool {
        match self {
            Self::Confirmed => true,
            Self::Held(reason) => reason.is_about_price(),
            _ => false,
        }
    }

    const fn illegal(self, event: Event) -> IllegalTransition {
        IllegalTransition { stage: self, event }
    }

    /// The word stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Priced => "priced",
            Self::Credited => "credited",
            Self::Reversed => "reversed",
            Self::Orphaned => "orphaned",
            Self::Held(_) => "held",
            Self::Ignored(_) => "ignored",
        }
    }

    /// The reason stored and shown, for stages that have one.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Held(reason) => Some(reason.as_str()),
            Self::Ignored(reason) => Some(reason.as_str()),
            _ => None,
        }
    }

    /// Reads a stage back from its two words; `None` where they are not ours.
    pub fn parse(stage: &str, reason: Option<&str>) -> Option<Self> {
        ALL_STAGES.iter().find(|s| s.as_str() == stage && s.reason() == reason).copied()
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            Some(reason) => write!(f, "{} ({reason})", self.as_str()),
            None => f.write_str(self.as_str()),
        }
    }
}

impl HoldReason {
    /// The word stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReceiptMismatch => "receipt_mismatch",
            Self::ReceiptMissing => "receipt_missing",
            Self::ProvidersDisagree => "providers_disagree",
            Self::Unproved => "unproved",
            Self::NoEpoch => "no_epoch",
            Self::NoToken => "no_token",
            Self::Overflow => "overflow",
            Self::Dust => "dust",
            Self::Conflict => "conflict",
            Self::NoPrice => "no_price",
            Self::PricesDisagree => "prices_disagree",
            Self::Breaker => "breaker",
            Self::Depegged => "depegged",
            Self::InternalTransfer => "internal_transfer",
            Self::CustodyDoubt => "custody_doubt",
            Self::Screening => "screening",
        }
    }
}

impl IgnoreReason {
    /// The word stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ZeroValue => "zero_value",
            Self::SelfTransfer => "self_transfer",
            Self::UnlistedToken => "unlisted_token",
            Self::NotAccepted => "not_accepted",
            Self::BelowMinimum => "below_minimum",
            Self::Malformed(Malformation::TopicCount) => "malformed_topic_count",
            Self::Malformed(Malformation::DataLength) => "malformed_data_length",
            Self::Malformed(Malformation::DirtyTopic) => "malformed_dirty_topic",
        }
    }
}

/// Every stage with every reason, for reading rows and for walking the transitions in tests.
pub const ALL_STAGES: [Stage; 30] = [
    Stage::Pending,
    Stage::Confirmed,
    Stage::Priced,
    Stage::Credited,
    Stage::Reversed,
    Stage::Orphaned,
    Stage::Held(HoldReason::ReceiptMismatch),
    Stage::Held(HoldReason::ReceiptMissing),
    Stage::Held(HoldReason::ProvidersDisagree),
    Stage::Held(HoldReason::Unproved),
    Stage::Held(HoldReason::NoEpoch),
    Stage::Held(HoldReason::NoToken),
    Stage::Held(HoldReason::Overflow),
    Stage::Held(HoldReason::Dust),
    Stage::Held(HoldReason::Conflict),
    Stage::Held(HoldReason::NoPrice),
    Stage::Held(HoldReason::PricesDisagree),
    Stage::Held(HoldReason::Breaker),
    Stage::Held(HoldReason::Depegged),
    Stage::Held(HoldReason::InternalTransfer),
    Stage::Held(HoldReason::CustodyDoubt),
    Stage::Held(HoldReason::Screening),
    Stage::Ignored(IgnoreReason::ZeroValue),
    Stage::Ignored(IgnoreReason::SelfTransfer),
    Stage::Ignored(IgnoreReason::UnlistedToken),
    Stage::Ignored(IgnoreReason::NotAccepted),
    Stage::Ignored(IgnoreReason::BelowMinimum),
    Stage::Ignored(IgnoreReason::Malformed(Malformation::TopicCount)),
    Stage::Ignored(IgnoreReason::Malformed(Malformation::DataLength)),
    Stage::Ignored(IgnoreReason::Malformed(Malformation::DirtyTopic)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_reads_back() {
        for stage in ALL_STAGES {
            assert_eq!(Stage::parse(stage.as_str(), stage.reason()), Some(stage));
        }
        assert_eq!(Stage::parse("held", None), None);
        assert_eq!(Stage::parse("pending", Some("dust")), None);
        assert_eq!(Stage::parse("melted", None), None);
    }

    #[test]
    fn the_straight_walk() {
        let walk = [Event::ReceiptAgreed, Event::PriceFixed, Event::Posted];
        let end = walk.iter().try_fold(Stage::Pending, |stage, event| stage.next(*event));
        assert_eq!(end, Ok(Stage::Credited));
    }

    #[test]
    fn only_a_priced_deposit_can_be_posted_and_only_a_posting_undoes_a_credit() {
        let seen = Event::Seen(Verdict::Accept);
        for stage in ALL_STAGES {
            assert_eq!(stage.next(Event::Posted).is_ok(), stage == Stage::Priced, "{stage}");
            let undone = stage.next(Event::CreditUndone);
            assert_eq!(undone.is_ok(), stage == Stage::Credited, "{stage}");
            let again = stage.next(Event::ConfirmAgain);
            assert_eq!(again.is_ok(), stage == Stage::Priced, "{stage}");
        }
        for event in [seen, Event::Orphaned] {
            assert_eq!(Stage::Credited.next(event), Ok(Stage::Credited));
        }
        for event in [Event::ReceiptAgreed, Event::PriceFixed, Event::Hold(HoldReason::Dust)] {
            assert!(Stage::Credited.next(event).is_err());
        }
    }

    #[test]
    fn an_orphan_starts_again_from_the_beginning() {
        let finished = [Stage::Credited, Stage::Reversed];
        for stage in ALL_STAGES.into_iter().filter(|s| !finished.contains(s)) {
            let orphan = stage.next(Event::Orphaned).unwrap();
            assert_eq!(orphan, Stage::Orphaned);
            assert_eq!(orphan.next(Event::Seen(Verdict::Accept)), Ok(Stage::Pending));
        }
        assert_eq!(Stage::Reversed.next(Event::Seen(Verdict::Accept)), Ok(Stage::Pending));
    }
}
