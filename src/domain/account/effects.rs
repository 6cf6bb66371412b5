//! What rows a cause and its outcome make: entries, lots and their moves, credits, obligations, settlements,
//! addresses and the event, all in natural keys.
//!
//! Nothing is decided here: amounts come from the outcome, names from the cause and the account. The order
//! of entries and of moves is always the same.

use alloy::primitives::B256;

use super::lot::{Consideration, Lot, LotKind};
use super::refusal::Refusal;
use super::state::{Account, Obligation, Owing, Purchase};
use super::{take, treasury};
use crate::domain::ids::{ChainId, DepositId};
use crate::domain::journal::{
    ACCOUNT_ISSUED_PAID, ACCOUNT_TREASURY_OBLIGATIONS, ACCOUNT_TREASURY_PURCHASES,
    ACCOUNT_TREASURY_RECEIVED, ACCOUNT_TREASURY_SLIPPAGE, AddressesBound, Amount, Cause, Credited,
    DepositCorrection, DepositCredit, Draft, Entry, Event, JournalId, Moved, Outcome, RecordId,
    Reversed, Settled, TreasurySettlement, Worth, namespace_account,
};
use crate::domain::money::{Nanocredits, Nanodollars, RawAmount};

/// Why credits of a lot moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MoveReason {
    /// They repaid debt.
    Debt,
    /// The credit that made the lot was undone.
    Reversal,
}

impl MoveReason {
    /// The word stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debt => "debt",
            Self::Reversal => "reversal",
        }
    }

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Debt, Self::Reversal].into_iter().find(|reason| reason.as_str() == word)
    }
}

/// Credits that a lot lost or got back. Its place among the record's moves is its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LotMove {
    /// The lot.
    pub lot: i64,
    /// How many: below zero where it lost them. Never zero.
    pub amount: Nanocredits,
    /// Why.
    pub reason: MoveReason,
}

/// A credit of a deposit, under the record's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreditRow {
    /// Deposit.
    pub deposit: DepositId,
    /// Its chain.
    pub chain: ChainId,
    /// Block of the sighting credited.
    pub block_hash: B256,
    /// Index of the log in that block.
    pub log_index: u64,
}

/// What a credit's conversion owes, under the record's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObligationRow {
    /// Chain of the deposit.
    pub chain: ChainId,
    /// The stablecoin that came in.
    pub asset: String,
    /// How much of it, base units.
    pub raw: RawAmount,
    /// Its decimals.
    pub decimals: u8,
    /// What is owed.
    pub owed: Obligation,
    /// Since when: the block's time.
    pub effective_at_ms: i64,
}

/// What a purchase settled of an obligation, under the record's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettlementRow {
    /// Journal of the credit whose conversion owes.
    pub obligation_journal: JournalId,
    /// Place of that credit.
    pub obligation_seq: i64,
    /// Chain of the purchase.
    pub chain: ChainId,
    /// Its transaction.
    pub tx_hash: B256,
    /// Tokens settled.
    pub tokens: RawAmount,
    /// What they were owed for.
    pub owed_usd: Nanodollars,
    /// What was paid for them.
    pub paid_usd: Nanodollars,
    /// The obligation after it.
    pub owing: Owing,
    /// The purchase after it.
    pub purchase: Purchase,
}

/// All rows that one record makes, beside its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effects {
    /// Journal.
    pub journal: JournalId,
    /// Place of the record: the key of the rows below.
    pub seq: i64,
    /// Its id.
    pub record_id: RecordId,
    /// Legs, in their order.
    pub entries: Vec<Entry>,
    /// Lots that it makes, with what they have left after it.
    pub lots: Vec<Lot>,
    /// Moves of lots, in their order: of those that it makes as well.
    pub lot_moves: Vec<LotMove>,
    /// What older lots have left after it.
    pub remaining: Vec<(i64, Nanocredits)>,
    /// Credits that it gives.
    pub credits: Vec<CreditRow>,
    /// Places of credits that it undoes.
    pub undone: Vec<i64>,
    /// What its conversion owes.
    pub obligations: Vec<ObligationRow>,
    /// Places of credits whose conversions owe nothing any more.
    pub voided: Vec<i64>,
    /// What it settles.
    pub settlements: Vec<SettlementRow>,
    /// Addresses that it binds.
    pub addresses: Option<AddressesBound>,
    /// What it is announced as.
    pub event: Option<Event>,
    /// Balance after it.
    pub balance: Nanocredits,
    /// Debt after it.
    pub debt: Nanocredits,
    /// How many addresses there are after it.
    pub bound: u64,
}

/// The rows that a draft makes, with the outcome that [`super::decide()`] gave at this state of the account.
///
/// # Errors
/// [`Refusal`], where the outcome is of another kind or the account is another one than it was decided at.
pub fn effects(account: &Account, draft: &Draft, outcome: &Outcome) -> Result<Effects, Refusal> {
    let row = &account.row;
    let mut made = Effects {
        journal: row.journal,
        seq: row.head.seq.checked_add(1).ok_or(Refusal::Full)?,
        record_id: draft.id,
        entries: Vec::new(),
        lots: Vec::new(),
        lot_moves: Vec::new(),
        remaining: Vec::new(),
        credits: Vec::new(),
        undone: Vec::new(),
        obligations: Vec::new(),
        voided: Vec::new(),
        settlements: Vec::new(),
        addresses: None,
        event: Event::of_record(draft.kind, draft.id),
        balance: row.posted,
        debt: row.debt,
        bound: row.addresses,
    };
    match (&draft.cause, outcome) {
        (Cause::DepositCredited(cause), Outcome::Credited(did, after)) => {
            made.credited(account, cause, did)?;
            made.after(*after);
        }
        (Cause::DepositReversed(cause), Outcome::Reversed(did, after)) => {
            made.reversed(account, cause.reverses_seq, did)?;
            made.after(*after);
        }
        (Cause::DepositCorrected(cause), Outcome::Corrected(did, after)) => {
            made.reversed(account, cause.corrects_seq, &did.reversed)?;
            made.credited_again(account, cause, &did.credited)?;
            made.after(*after);
        }
        (Cause::TreasurySettled(cause), Outcome::Settled(did)) => {
            made.settled(account, cause, did)?;
        }
        (Cause::AddressesBound(cause), Outcome::Bound(did)) => {
            made.addresses = Some(cause.clone());
            made.bound = did.addresses;
        }
        (
            Cause::XpubRegistered(_)
            | Cause::EpochAdded(_)
            | Cause::PolicyAdded(_)
            | Cause::Act(_)
            | Cause::LogKey(_)
            | Cause::LogResumed(_)
            | Cause::NamespaceOpened(_),
            Outcome::Noted,
        ) => {}
        _ => return Err(Refusal::Contradiction("outcome")),
    }
    if draft.kind.allows(&made.entries) { Ok(made) } else { Err(Refusal::Contradiction("entries")) }
}

impl Effects {
    fn after(&mut self, moved: Moved) {
        (self.balance, self.debt) = (moved.balance_nano, moved.debt_nano);
    }

    /// Adds two legs, where there is an amount.
    fn pair(&mut self, debit: impl Into<String>, credit: impl Into<String>, amount: Amount) {
        if amount.nano() > 0 {
            self.entries.push(Entry::debit(debit, amount));
            self.entries.push(Entry::credit(credit, amount));
        }
    }

    fn credited(
        &mut self,
        account: &Account,
        cause: &DepositCredit,
        did: &Credited,
    ) -> Result<(), Refusal> {
        let row = CreditRow {
            deposit: cause.deposit_key().id(),
            chain: cause.chain_id,
            block_hash: cause.block_hash,
            log_index: cause.log_index,
        };
        self.give(account, row, &cause.worth(), cause.block_time_ms, None, did)
    }

    fn credited_again(
        &mut self,
        account: &Account,
        cause: &DepositCorrection,
        did: &Credited,
    ) -> Result<(), Refusal> {
        let undone = take::standing(account, cause.corrects_seq)?;
        let row = CreditRow {
            deposit: undone.credit.deposit,
            chain: undone.credit.chain,
            block_hash: undone.credit.block_hash,
            log_index: undone.credit.log_index,
        };
        let bought = take::bought(&undone)?;
        let since = undone.lot.effective_at_ms;
        self.give(account, row, &cause.again.worth(), since, bought, did)
    }

    fn give(
        &mut self,
        account: &Account,
        row: CreditRow,
        worth: &Worth<'_>,
        effective_at_ms: i64,
        bought: Option<take::Bought>,
        did: &Credited,
    ) -> Result<(), Refusal> {
        let paid = worth.usd().map_err(Refusal::of_money("the payment in dollars"))?;
        self.pair(
            ACCOUNT_ISSUED_PAID,
            namespace_account(&account.row.name),
            Amount::Credits(did.credits_nano),
        );
        self.pair(
            ACCOUNT_TREASURY_RECEIVED,
            ACCOUNT_TREASURY_OBLIGATIONS,
            Amount::Dollars(did.owed_usd_nano),
        );
        self.lots.push(Lot {
            seq: self.seq,
            kind: LotKind::Paid,
            priority: 0,
            scope: None,
            amount: did.credits_nano,
            remaining: did.remaining_nano,
            effective_at_ms,
            expires_at_ms: None,
            consideration: Some(Consideration {
                asset: worth.asset.to_owned(),
                raw: worth.raw,
                decimals: worth.decimals,
                usd: paid,
            }),
        });
        self.moved(self.seq, did.repaid_nano, MoveReason::Debt)?;
        if let Some(owed) = take::still_owed(worth, bought.clone())? {
            let (carried_tokens, carried_usd) =
                bought.map_or_else(Default::default, |bought| (bought.tokens, bought.usd));
            self.obligations.push(ObligationRow {
                chain: row.chain,
                asset: worth.asset.to_owned(),
                raw: worth.raw,
                decimals: worth.decimals,
                owed: Obligation {
                    asset: owed.asset,
                    tokens: owed.tokens,
                    decimals: owed.decimals,
                    usd: owed.usd,
                    settled: RawAmount::ZERO,
                    carried_tokens,
                    carried_usd,
                },
                effective_at_ms,
            });
        }
        self.credits.push(row);
        Ok(())
    }

    fn reversed(&mut self, account: &Account, seq: i64, did: &Reversed) -> Result<(), Refusal> {
        let undone = take::standing(account, seq)?;
        self.pair(
            namespace_account(&account.row.name),
            ACCOUNT_ISSUED_PAID,
            Amount::Credits(undone.lot.amount),
        );
        self.pair(
            ACCOUNT_TREASURY_OBLIGATIONS,
            ACCOUNT_TREASURY_RECEIVED,
            Amount::Dollars(did.returned_usd_nano),
        );
        self.moved(seq, did.taken_nano, MoveReason::Reversal)?;
        let left = undone.lot.remaining.checked_sub(did.taken_nano);
        self.remaining.push((seq, left.ok_or(Refusal::Overflow("what is left of a lot"))?));
        self.undone.push(seq);
        if undone.obligation.is_some() {
            self.voided.push(seq);
        }
        Ok(())
    }

    /// Adds a move out of a lot, where there is an amount.
    fn moved(&mut self, lot: i64, out: Nanocredits, reason: MoveReason) -> Result<(), Refusal> {
        if out != Nanocredits::ZERO {
            let amount = Nanocredits::ZERO.checked_sub(out);
            let amount = amount.ok_or(Refusal::Overflow("a move of a lot"))?;
            self.lot_moves.push(LotMove { lot, amount, reason });
        }
        Ok(())
    }

    fn settled(
        &mut self,
        account: &Account,
        cause: &TreasurySettlement,
        did: &Settled,
    ) -> Result<(), Refusal> {
        let (owed, paid) = (did.owed_usd_nano, did.paid_usd_nano);
        let lost = paid.checked_sub(owed).ok_or(Refusal::Overflow("the slippage"))?;
        let size = lost.0.checked_abs().ok_or(Refusal::Overflow("the slippage"))?;
        let slippage = if lost > Nanodollars::ZERO { Entry::debit } else { Entry::credit };
        let usd = Amount::Dollars;
        self.entries.extend(
            [
                Entry::debit(ACCOUNT_TREASURY_OBLIGATIONS, usd(owed)),
                Entry::credit(ACCOUNT_TREASURY_PURCHASES, usd(paid)),
                slippage(ACCOUNT_TREASURY_SLIPPAGE, usd(Nanodollars(size))),
            ]
            .into_iter()
            .filter(|entry| entry.amount.nano() > 0),
        );
        let mut owing = treasury::owing(account, cause)?;
        let mut purchase = treasury::purchase(account, cause)?;
        (owing.settled, purchase.used) = (did.settled_tokens, did.used_tokens);
        self.settlements.push(SettlementRow {
            obligation_journal: cause.obligation_journal,
            obligation_seq: cause.obligation_seq,
            chain: cause.chain_id,
            tx_hash: cause.tx_hash,
            tokens: cause.settled_tokens,
            owed_usd: owed,
            paid_usd: paid,
            owing,
            purchase,
        });
        Ok(())
    }
}
