//! Faults that are planted on purpose, and crashes at a chosen commit or statement: how the simulator proves that
//! it would notice. Compiled in for tests only (feature `planted`); without it every question here
//! is answered no at compile time.
//!
//! What is planted is set for the thread that runs a simulation and for no other.

/// A deliberate fault, each one a mistake that somebody could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The provider that showed the log may confirm it, too.
    OwnWitness,
    /// A receipt that says something else confirms as well.
    AnyReceipt,
    /// One provider's receipt overrules what was recorded.
    OneOverrules,
    /// The witness need not see the block that deep itself.
    ShallowWitness,
    /// The time of the block is not compared.
    AnyTime,
    /// A tag of one provider is enough.
    OneTag,
    /// Where receipts are proved, one provider's word about the depth of a block is enough.
    DepthOfOne,
    /// One provider's word that a block cannot be proved has its payments checked otherwise.
    FallbackOfOne,
    /// One provider's newest header fixes the time of a late reading for everybody.
    LateTimeOfOne,
    /// The second pass moves on without recording what it found.
    BlindRecheck,
    /// The second pass asks the same provider again.
    SameRecheck,
    /// The last log of an answer is dropped.
    LostLog,
    /// Credits of orphaned blocks are left to stand.
    NoReversal,
    /// A credit whose block was orphaned is not noted.
    ForgottenOrphan,
    /// Addresses that are registered late are not looked for in old blocks.
    NoBackfill,
    /// Addresses that are registered while a step is under way are not looked for in what it scanned.
    NewerUnread,
    /// A backfill leaves out the last block of each step.
    ShortBackfill,
    /// Tokens that are configured late are not looked for in old blocks.
    NoTokenBackfill,
    /// Scan records are not cut at a reorg.
    UncutScans,
    /// What is held is never looked at again.
    HeldForEver,
    /// One provider's answer about a price is enough.
    OnePrice,
    /// Payments that are priced together have one price, whatever their blocks.
    SharedPrice,
    /// Money that comes from our own addresses, or may be passed round, is credited like any other.
    InternalMoney,
    /// What a check says of a payment decides nothing.
    Unscreened,
    /// What somebody let pass once counts for ever.
    OldAnswer,
    /// Price sources are not asked anew when a block turns out to be of another time.
    StaleQuotes,
    /// The cursor goes where one provider leads it.
    CursorAlone,
    /// A block without logs whose bloom filter expects some is believed when a second one says so.
    VoteOnDoubt,
    /// A range that is refused in words that nobody knows is asked for again as it is.
    UnknownWords,
    /// A process that dies between a commit and its finding loses the finding for ever.
    LostFinding,
    /// Sums of dust stand, whatever becomes of what they count.
    StaleDust,
    /// Later prices are compared with prices by hand too.
    HandsInHistory,
    /// A credit whose block is not canonical any more can be corrected.
    CorrectedOrphan,
    /// By the rules of another epoch, a corrected credit counts at the market's price, though one by hand had its place.
    HandForgotten,
    /// A proposal can be approved though a newer one took its place.
    StaleProposal,
    /// A price beyond its bound passes though its number was said once.
    SaidOnce,
    /// One provider's word that an address of ours is frozen is enough.
    FrozenByOne,
    /// A clock that is set back dates postings before the ones before them.
    Backdated,
}

/// Every fault, for a simulator that plants them one by one. [`Fault::LateTimeOfOne`],
/// [`Fault::FallbackOfOne`], [`Fault::StaleDust`], [`Fault::Unscreened`], [`Fault::OldAnswer`] and [`Fault::FrozenByOne`] are
/// caught by tests of their own in `house`: no story was found that tells them.
/// So is [`Fault::HandsInHistory`]: no story has operators who price a payment on hold. And [`Fault::NewerUnread`]: a
/// story registers while logs are read, and hardly ever where they are not matched again at once.
pub const ALL: [Fault; 30] = [
    Fault::OwnWitness,
    Fault::AnyReceipt,
    Fault::OneOverrules,
    Fault::ShallowWitness,
    Fault::AnyTime,
    Fault::OneTag,
    Fault::BlindRecheck,
    Fault::SameRecheck,
    Fault::LostLog,
    Fault::NoReversal,
    Fault::ForgottenOrphan,
    Fault::NoBackfill,
    Fault::ShortBackfill,
    Fault::NoTokenBackfill,
    Fault::UncutScans,
    Fault::HeldForEver,
    Fault::OnePrice,
    Fault::SharedPrice,
    Fault::StaleQuotes,
    Fault::LostFinding,
    Fault::CursorAlone,
    Fault::VoteOnDoubt,
    Fault::UnknownWords,
    Fault::InternalMoney,
    Fault::DepthOfOne,
    Fault::Backdated,
    Fault::StaleProposal,
    Fault::SaidOnce,
    Fault::CorrectedOrphan,
    Fault::HandForgotten,
];

#[cfg(feature = "planted")]
mod set {
    use std::cell::Cell;

    use super::Fault;

    thread_local! {
        static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
        static COMMITS: Cell<Option<u32>> = const { Cell::new(None) };
        static STATEMENTS: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// Plants a fault in this thread, or takes it out.
    pub fn plant(fault: Option<Fault>) {
        FAULT.set(fault);
    }

    /// Lets so many commits of this thread succeed and the next one fail; `None` lets all succeed.
    pub fn crash_after(commits: Option<u32>) {
        COMMITS.set(commits);
    }

    /// Lets so many statements of transactions of this thread run, and no more; `None` lets all run.
    pub fn die_after(statements: Option<u32>) {
        STATEMENTS.set(statements);
    }

    /// True when the process is dead.
    pub(crate) fn dies() -> bool {
        match STATEMENTS.get() {
            None => false,
            Some(0) => true,
            Some(left) => {
                STATEMENTS.set(left.checked_sub(1));
                false
            }
        }
    }

    pub(crate) fn planted(fault: Fault) -> bool {
        FAULT.get() == Some(fault)
    }

    /// True when the process is to die instead of committing.
    pub(crate) fn crashes() -> bool {
        match COMMITS.get() {
            None => false,
            Some(0) => true,
            Some(left) => {
                COMMITS.set(left.checked_sub(1));
                false
            }
        }
    }
}

#[cfg(not(feature = "planted"))]
mod set {
    use super::Fault;

    pub(crate) const fn planted(_: Fault) -> bool {
        false
    }

    pub(crate) const fn crashes() -> bool {
        false
    }

    pub(crate) const fn dies() -> bool {
        false
    }
}

#[cfg(feature = "planted")]
pub use set::{crash_after, die_after, plant};
pub(crate) use set::{crashes, dies, planted};
