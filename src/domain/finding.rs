//! What somebody should look at: the kinds of findings, how bad each is, and what it means.
//!
//! A finding is *open* until what opened it finds it no more (*gone*), or until a person has said what
//! it was (*explained*). One that comes back after it was gone is a new one. Findings change nothing:
//! what a machine can decide, it decides without them.

use std::fmt;

use super::ids::{ChainId, DepositId};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Somebody should look at it, today or tomorrow.
    Warning,
    /// Money waits, or was credited and taken back: somebody should look at it now.
    Error,
}

impl Severity {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// The table of kinds: a variant, how it is stored, its severity, and what it means, for people.
macro_rules! kinds {
    ($($variant:ident $name:literal $severity:ident $means:literal;)*) => {
        /// What was found.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FindingKind {
            $(#[doc = $means] $variant,)*
        }

        impl FindingKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As it is stored and shown.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// How bad it is.
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)* }
            }

            /// What it means and what to do, in a sentence or two for people.
            pub fn means(self) -> &'static str {
                match self { $(Self::$variant => $means,)* }
            }
        }
    };
}

kinds! {
    ForkContested "fork_contested" Error
        "The providers of a chain contradict each other about a block, and none has a majority. Nothing of that fork is credited until they agree. Remove the provider that is wrong, or add another one.";
    BlockContradicted "block_contradicted" Error
        "An old block is recorded at another height, or with another hash, than providers show now. It is replaced when two providers say the same, and then this goes away. The provider that showed the recorded one was wrong, or lied.";
    LogWasHidden "log_was_hidden" Warning
        "The first provider left out a payment that another one showed later. The payment was recorded then. Ask the operator of the first provider why.";
    LogNotShown "log_not_shown" Warning
        "A payment was recorded from one provider's answer, and another one does not show it. Nothing is credited on one answer alone. Compare both with a block explorer.";
    LogCountDiffers "log_count_differs" Info
        "Two providers showed different numbers of transfers in the same blocks. Payments to our addresses are compared one by one besides.";
    ProvidersDisagree "providers_disagree" Error
        "The providers say different things about a payment, so it is held. It goes on when two of them agree. Compare their answers with a block explorer, and remove the provider that is wrong.";
    BlockUnproved "block_unproved" Error
        "A payment's block cannot be proved: what its providers show hashes in no way that is known, so the payment is held (unproved) and asked for again every minute. Two people can release it: topupd holds resolve ID --release. Where a chain's blocks cannot be proved at all, give it another verify, or a second one to fall back on: verify = [\"receipts-root\", \"second-provider\"]. It goes away when the payment goes on.";
    BlockTimeWasWrong "block_time_was_wrong" Warning
        "One provider told another time of a block than two others. The time was corrected unless a credit rests on it already.";
    CreditReversed "credit_reversed" Error
        "A credit was taken back, because its block is not in the chain any more. If the payment is mined again, it is credited again.";
    ChainStalled "chain_stalled" Error
        "Payments on this chain are deep enough, and none of them went on for ten minutes. The detail says what they wait for: mostly a second provider. It goes away when one goes on.";
    ChainStill "chain_still" Warning
        "No new block of this chain was followed for ten minutes. Either the chain or its providers stand still, or none of them can be followed. It goes away with the next block.";
    LookStill "look_still" Warning
        "Old blocks could not be looked at for ten minutes: neither again, for payments that were hidden, nor for an address or a token that was registered late, whose payments wait for it. The detail says why: mostly a second provider is away, or contradicts itself. It goes away when it goes on.";
    ChainLeft "chain_not_configured" Error
        "Payments or backfills of a chain are not finished, and the configuration that a daemon was started with does not have the chain any more. They wait until it is configured again. It goes away at the next start with the chain, or when nothing of it is left.";
    ChainHalted "chain_halted" Error
        "A provider shows a fork that is deeper than can be taken back. The chain stands still until an operator decides.";
    LogsInDoubt "logs_in_doubt" Warning
        "A block's bloom filter expects transfers that no provider shows, and no provider has receipts that explain it. The block is read again for some minutes, and by the second pass; this goes away when somebody shows them. Otherwise compare it with a block explorer, and add a provider that keeps receipts.";
    FollowedAlone "followed_alone" Warning
        "Only one provider of a chain answers. The chain is followed for half of reorg_window more, and then it waits. It goes away when another provider has the same blocks again.";
    CursorUnknown "cursor_unknown" Error
        "No provider has the block that a chain was followed to. It is read again from the highest block that they have, or it stands still when something above that was credited: see topupd status and topupd chain resume.";
    TokenChanged "token_changed" Warning
        "The code of a token's contract, or the contract behind its proxy, is another one than before. Check with the token's issuer.";
    OutflowOfImportedAddress "outflow_of_imported_address" Warning
        "Money left an imported address. Its owner could pass the same coins round, so later payments to it are held (custody_doubt). The detail says who shows it; where it is disputed, two providers contradict each other. Look where it went; then: topupd holds resolve ID --accept-outflows.";
    DatabaseWentBack "database_went_back" Error
        "The database is not as a daemon left it: it is on another server, or rows that were committed are missing, as after an asynchronous failover or a restored backup. The detail says from where to where it went. Payments are read again from the chains and credited again by themselves. What people registered or decided last may be lost: lost_namespaces and lost_addresses name what the daemon remembers of it, each address with its namespace. No address is derived until somebody has looked: register again what is missing, then explain this finding.";
    LogPaused "log_paused" Warning
        "Nothing is added to the log of all records, and nothing is signed: the database was put back, or is a copy. Crediting goes on. Stop whatever runs on another copy, then: topupd log resume --restored. It goes away when the log goes on.";
    LogFork "log_fork" Error
        "The log is not a continuation of what was signed before: an older backup was restored, its end was deleted, or another database is signed with the same key. Nothing is signed any more, and the log is paused; crediting goes on. The detail says what was signed. Find out which database is the right one; if it is this one: topupd log resume --restored. It goes away when the log goes on.";
    LogStopped "log_stopped" Error
        "Nothing is added to the log of all records: a record is missing or changed, what is stored of the log is damaged, the key is not the registered one, or the last checkpoint cannot be kept. Crediting goes on. The detail says which; topupd ledger verify says more. It goes away when the log goes on.";
    TokenStopped "token_stopped" Warning
        "A token's contract says that it is paused or deprecated. It goes away when the contract says so no more.";
    AddressFrozen "address_frozen" Error
        "The issuer of a token has frozen one of our addresses: what lies there cannot be moved. Payments to it that the token still lets through are credited as before, and are stuck as well. Give the payer another address (topupd address new NAMESPACE), stop showing the old one, and ask the issuer. It goes away when the token's contract no longer says so.";
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that somebody should look at, as a task decided it; a commit writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFinding {
    /// The chain, if it is about one.
    pub chain: Option<ChainId>,
    /// What was found.
    pub kind: FindingKind,
    /// What it is about: one of a chain, a kind and a subject stands at a time.
    pub subject: String,
    /// JSON; both answers, where two contradict each other.
    pub detail: serde_json::Value,
}

/// A finding that is found no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// The chain, if it was about one.
    pub chain: Option<ChainId>,
    /// What had been found.
    pub kind: FindingKind,
    /// What it was about.
    pub subject: String,
}

/// The subject of a finding about a deposit.
pub fn of_deposit(id: DepositId) -> String {
    id.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own_and_says_what_it_means() {
        let names: std::collections::BTreeSet<_> =
            FindingKind::ALL.iter().map(|k| k.as_str()).collect();
        assert_eq!(names.len(), FindingKind::ALL.len());
        for kind in FindingKind::ALL {
            assert!(kind.means().ends_with('.'), "{kind}");
        }
    }
}
