//! Postings: balanced, immutable, numbered without gaps, each sealed to the one before.
//!
//! Here a credit becomes a posting, a posting becomes its hash, and a stored posting is checked
//! against what it claims. Nothing here reads or writes a database, and nothing updates a posting:
//! corrections are new postings.

use alloy::primitives::{Address, B256, U256, U512};
use serde::{Deserialize, Serialize};

use super::conversion::Conversion;
use super::finality::confirmations;
use super::ids::{BlockRef, ChainId, DepositId, DepositKey, Network, PostingId, SightingKey};
use super::money::{NANO_PER_CREDIT, Nanocredits, Rate, RawAmount, credits_rounded_down};
use super::pricing::{Price, Rule};
use super::seal::Canonical;

/// A deposit credited to its namespace.
pub const KIND_DEPOSIT_CREDIT: &str = "deposit_credit";
/// Such a credit undone, because its block is not canonical any more.
pub const KIND_DEPOSIT_REVERSAL: &str = "deposit_reversal";

/// A part of what conversions owe, bought by the treasury.
pub const KIND_TREASURY_SETTLEMENT: &str = "treasury_settlement";

/// What conversions owe, at the stablecoins they brought in. In billionths of a dollar, a stablecoin
/// taken at its face: the accounts under `treasury/usd/` have no credits in them.
pub const ACCOUNT_TREASURY_OBLIGATIONS: &str = "treasury/usd/obligations";
/// What the treasury paid for tokens.
pub const ACCOUNT_TREASURY_PURCHASES: &str = "treasury/usd/purchases";
/// The difference between the two: a debit is a loss.
pub const ACCOUNT_TREASURY_SLIPPAGE: &str = "treasury/usd/slippage";

/// True for an account that belongs to no namespace.
#[must_use]
pub fn is_house_account(account: &str) -> bool {
    [
        ACCOUNT_ISSUED_PAID,
        ACCOUNT_TREASURY_OBLIGATIONS,
        ACCOUNT_TREASURY_PURCHASES,
        ACCOUNT_TREASURY_SLIPPAGE,
    ]
    .contains(&account)
}

/// The house account that stands against credits sold.
pub const ACCOUNT_ISSUED_PAID: &str = "house/issued/paid";

/// The account of a namespace: what the house owes it.
#[must_use]
pub fn namespace_account(name: &str) -> String {
    format!("namespace/{name}")
}

/// The side of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Debit: the house's issue of credits.
    Debit,
    /// Credit: what a namespace may spend grows.
    Credit,
}

impl Side {
    /// The word stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debit => "debit",
            Self::Credit => "credit",
        }
    }
}

/// One leg of a posting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Account.
    pub account: String,
    /// Side.
    pub side: Side,
    /// Always positive.
    pub amount: Nanocredits,
}

/// Everything a deposit's credit was decided on. Stored as the posting's evidence; enough to
/// compute the amount again without the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DepositCredit {
    /// Namespace credited.
    pub namespace: String,
    /// Chain (EIP-155).
    pub chain_id: ChainId,
    /// Transaction.
    pub tx_hash: B256,
    /// Token contract.
    pub token: Address,
    /// Deposit address.
    pub recipient: Address,
    /// Which of the transaction's transfers of that token to that address.
    pub n: u32,
    /// Block of the sighting credited.
    pub block_hash: B256,
    /// Its height.
    pub block_number: u64,
    /// Its time, epoch milliseconds: the price instant.
    pub block_time_ms: i64,
    /// Index of the log in that block.
    pub log_index: u64,
    /// Who paid, by the token's word.
    pub sender: Address,
    /// Rule of finality that the block satisfied, such as `12 confirmations`.
    pub finality: String,
    /// Height of the canonical tip when it did.
    pub head_number: u64,
    /// Hash of that tip.
    pub head_hash: B256,
    /// Who showed the receipt that was read again.
    pub receipt_provider: String,
    /// Who showed the log; not in postings of before version 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_provider: Option<String>,
    /// How the receipt was checked: `second-provider`, `receipts-root` or `same-provider`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<String>,
    /// The receipt's place in its block, where it was proved by `receipts-root`: the proof is kept in
    /// `receipt_proofs`. Left out where none was kept, as before schema version 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_index: Option<u64>,
    /// How many times this deposit was credited and reversed before; left out when never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reversals: Option<u32>,
    /// Amount in the log, base units.
    pub raw_amount: RawAmount,
    /// Decimals of the token.
    pub decimals: u8,
    /// Asset the token was taken as.
    pub asset: String,
    /// Epoch in force.
    pub epoch: String,
    /// Hash of the epoch's text.
    pub epoch_hash: B256,
    /// Rule: `par`, `fixed`, `market` or `convert`.
    pub rule: String,
    /// Credits per whole token under that rule; for market rules, the rate that the last step used.
    pub credits_per_token: Rate,
    /// The market prices and the arithmetic, for rules that need them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversion: Option<Conversion>,
    /// Always `down`.
    pub rounding: String,
    /// The result, in nanocredits.
    pub credits_nano: Nanocredits,
    /// The hashes of what was said when the payment was asked about: all that was said of its sender, in
    /// its block, before it was credited. Left out where nothing was, as before schema version 18.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub screenings: Option<Vec<B256>>,
    /// The hashes of what people decided about it in its block before it was credited. Left out in the
    /// same way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acts: Option<Vec<B256>>,
}

impl DepositCredit {
    /// The deposit this credits.
    #[must_use]
    pub fn deposit_key(&self) -> DepositKey {
        DepositKey {
            chain: self.chain_id,
            tx_hash: self.tx_hash,
            token: self.token,
            recipient: self.recipient,
            shape: super::ids::Shape::Transfer,
            n: self.n,
        }
    }

    /// The sighting it was credited on.
    #[must_use]
    pub fn sighting_key(&self) -> SightingKey {
        SightingKey { chain: self.chain_id, block_hash: self.block_hash, log_index: self.log_index }
    }
}

/// Where a credit comes from: the facts beside its price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreditFacts {
    /// Namespace to credit.
    pub namespace: String,
    /// Deposit.
    pub deposit: DepositKey,
    /// Sighting.
    pub sighting: SightingKey,
    /// Height of its block.
    pub block_number: u64,
    /// Time of its block.
    pub block_time_ms: i64,
    /// Who paid.
    pub sender: Address,
    /// Rule of finality satisfied.
    pub finality: String,
    /// Canonical tip when it was.
    pub head: BlockRef,
    /// Who showed the receipt.
    pub receipt_provider: String,
    /// Who showed the log.
    pub log_provider: Option<String>,
    /// How the receipt was checked.
    pub verify: Option<String>,
    /// The receipt's place in its block, where its proof is kept.
    pub receipt_index: Option<u64>,
    /// How many credits of this deposit were reversed.
    pub reversals: u32,
    /// Hash of the epoch's stored text.
    pub epoch_hash: B256,
    /// Hashes of what was said when it was asked about.
    pub screenings: Option<Vec<B256>>,
    /// Hashes of what people decided about it.
    pub acts: Option<Vec<B256>>,
}

/// A posting before it has a place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Id: the same cause always gives the same.
    pub id: PostingId,
    /// Kind.
    pub kind: &'static str,
    /// Deposit.
    pub deposit: DepositId,
    /// When it takes effect: the block's time.
    pub effective_at_ms: i64,
    /// JSON of the evidence.
    pub evidence: String,
    /// Legs, balanced.
    pub entries: Vec<Entry>,
}

/// A posting as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    /// Place in the ledger, from 1, without gaps.
    pub seq: i64,
    /// Id.
    pub id: PostingId,
    /// Kind.
    pub kind: String,
    /// Deposit.
    pub deposit: DepositId,
    /// When it takes effect.
    pub effective_at_ms: i64,
    /// When it was written.
    pub recorded_at_ms: i64,
    /// JSON of the evidence.
    pub evidence: String,
    /// Legs.
    pub entries: Vec<Entry>,
    /// Hash of the posting before, or the genesis.
    pub prev_hash: B256,
    /// Seal over all of the above.
    pub hash: B256,
}

/// The answer to "write this".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It is new, at this place.
    Created {
        /// Its place.
        seq: i64,
    },
    /// It was there already, just as asked.
    Exists {
        /// Its place.
        seq: i64,
    },
    /// Another body was written under this id before. Nothing was changed.
    Conflict {
        /// The first field that differs.
        field: &'static str,
    },
}

/// The `prev_hash` of the first posting. Binds a ledger to its network, so that a testnet posting
/// cannot be spliced into a mainnet ledger.
#[must_use]
pub fn genesis(network: Network) -> B256 {
    let mut bytes = Canonical::new("topupd/ledger/v1");
    bytes.text(network.as_str());
    bytes.finish()
}

/// The id of the posting that credits a deposit after so many reversals. There is at most one that
/// is not reversed.
#[must_use]
pub fn credit_posting_id(deposit: DepositId, reversals: u32) -> PostingId {
    let mut bytes = Canonical::new("topupd/posting/v1");
    bytes.text(KIND_DEPOSIT_CREDIT).bytes(deposit.0.as_slice());
    if reversals > 0 {
        bytes.u64(u64::from(reversals));
    }
    PostingId(bytes.finish())
}

/// Drafts the posting that credits a priced deposit.
///
/// # Errors
/// Never in practice: every field serialises.
pub fn draft_credit(facts: &CreditFacts, price: &Price) -> Result<Draft, serde_json::Error> {
    let deposit = facts.deposit.id();
    let evidence = DepositCredit {
        namespace: facts.namespace.clone(),
        chain_id: facts.deposit.chain,
        tx_hash: facts.deposit.tx_hash,
        token: facts.deposit.token,
        recipient: facts.deposit.recipient,
        n: facts.deposit.n,
        block_hash: facts.sighting.block_hash,
        block_number: facts.block_number,
        block_time_ms: facts.block_time_ms,
        log_index: facts.sighting.log_index,
        sender: facts.sender,
        finality: facts.finality.clone(),
        head_number: facts.head.number,
        head_hash: facts.head.hash,
        receipt_provider: facts.receipt_provider.clone(),
        log_provider: facts.log_provider.clone(),
        verify: facts.verify.clone(),
        receipt_index: facts.receipt_index,
        reversals: (facts.reversals > 0).then_some(facts.reversals),
        raw_amount: price.raw,
        decimals: price.decimals,
        asset: price.asset.clone(),
        epoch: price.epoch_id.clone(),
        epoch_hash: facts.epoch_hash,
        rule: price.rule.as_str().to_owned(),
        credits_per_token: price.rate,
        conversion: price.conversion.clone(),
        rounding: "down".to_owned(),
        credits_nano: price.credits,
        screenings: facts.screenings.clone(),
        acts: facts.acts.clone(),
    };
    Ok(Draft {
        id: credit_posting_id(deposit, facts.reversals),
        kind: KIND_DEPOSIT_CREDIT,
        deposit,
        effective_at_ms: facts.block_time_ms,
        evidence: serde_json::to_string(&evidence)?,
        entries: credit_entries(&facts.namespace, price.credits),
    })
}

fn credit_entries(namespace: &str, amount: Nanocredits) -> Vec<Entry> {
    vec![
        Entry { account: ACCOUNT_ISSUED_PAID.to_owned(), side: Side::Debit, amount },
        Entry { account: namespace_account(namespace), side: Side::Credit, amount },
    ]
}

/// Why a credit was undone. Stored as the evidence of the posting that does it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DepositReversal {
    /// Namespace that was credited.
    pub namespace: String,
    /// Place of the posting undone.
    pub reverses_seq: i64,
    /// Its id.
    pub reverses_posting_id: B256,
    /// Its hash.
    pub reverses_hash: B256,
    /// Chain (EIP-155).
    pub chain_id: ChainId,
    /// The block credited, which is not canonical any more.
    pub block_hash: B256,
    /// Its height.
    pub block_number: u64,
    /// The block that is canonical at that height instead.
    pub canonical_hash: B256,
    /// Height of the canonical tip when this was decided.
    pub head_number: u64,
    /// Hash of that tip.
    pub head_hash: B256,
    /// Rule of finality that the other block has satisfied since.
    pub finality: String,
    /// Who says so.
    pub providers: Vec<String>,
    /// What is taken back, in nanocredits.
    pub credits_nano: Nanocredits,
}

/// Drafts the posting that undoes a credit. Takes effect when it is written: the credits were
/// there until then.
///
/// # Errors
/// Never in practice: every field serialises.
pub fn draft_reversal(
    deposit: DepositId,
    reversal: &DepositReversal,
    now_ms: i64,
) -> Result<Draft, serde_json::Error> {
    Ok(Draft {
        id: reversal_posting_id(PostingId(reversal.reverses_posting_id)),
        kind: KIND_DEPOSIT_REVERSAL,
        deposit,
        effective_at_ms: now_ms,
        evidence: serde_json::to_string(reversal)?,
        entries: reversal_entries(&reversal.namespace, reversal.credits_nano),
    })
}

/// The id of the posting that undoes a credit: there is one at most.
#[must_use]
pub fn reversal_posting_id(reversed: PostingId) -> PostingId {
    let mut bytes = Canonical::new("topupd/posting/v1");
    bytes.text(KIND_DEPOSIT_REVERSAL).bytes(reversed.0.as_slice());
    PostingId(bytes.finish())
}

fn reversal_entries(namespace: &str, amount: Nanocredits) -> Vec<Entry> {
    vec![
        Entry { account: namespace_account(namespace), side: Side::Debit, amount },
        Entry { account: ACCOUNT_ISSUED_PAID.to_owned(), side: Side::Credit, amount },
    ]
}

/// What a purchase of the treasury settled of one conversion. Stored as the evidence of the posting
/// that says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreasurySettlement {
    /// Place of the credit whose conversion owes.
    pub obligation_seq: i64,
    /// Its id.
    pub obligation_posting_id: B256,
    /// The stablecoin that came in.
    pub asset: String,
    /// How much of it, base units.
    pub raw_amount: RawAmount,
    /// Its decimals.
    pub decimals: u8,
    /// The asset owed.
    pub into_asset: String,
    /// How much of it, base units.
    pub tokens: RawAmount,
    /// Chain of the purchase (EIP-155).
    pub chain_id: ChainId,
    /// Its transaction.
    pub tx_hash: B256,
    /// Block of the transaction.
    pub block_hash: B256,
    /// Its height.
    pub block_number: u64,
    /// Its time.
    pub block_time_ms: i64,
    /// The treasury's address.
    pub treasury: Address,
    /// Who showed the receipt.
    pub providers: Vec<String>,
    /// Stablecoin paid by the whole purchase, base units.
    pub purchase_paid: RawAmount,
    /// Its decimals on that chain.
    pub purchase_decimals: u8,
    /// Tokens received by the whole purchase, base units.
    pub purchase_tokens: RawAmount,
    /// Tokens of it that settle this conversion.
    pub settled_tokens: RawAmount,
    /// What these tokens were owed for, in billionths of a dollar, rounded down.
    pub owed_nano: Nanocredits,
    /// What was paid for them, likewise.
    pub paid_nano: Nanocredits,
}

impl TreasurySettlement {
    /// `⌊raw × part ÷ whole⌋` in billionths of a dollar, a stablecoin taken at its face.
    #[must_use]
    pub fn nano(raw: RawAmount, decimals: u8, part: RawAmount, whole: RawAmount) -> Option<i64> {
        let product = [part.0, U256::from(NANO_PER_CREDIT)]
            .into_iter()
            .try_fold(U512::from(raw.0), |p, n| p.checked_mul(U512::from(n)))?;
        let unit = U512::from(10).checked_pow(U512::from(decimals))?;
        i64::try_from(product.checked_div(U512::from(whole.0).checked_mul(unit)?)?).ok()
    }

    /// True when the two values follow from the amounts.
    #[must_use]
    pub fn holds(&self) -> bool {
        let part = self.settled_tokens;
        let owed = Self::nano(self.raw_amount, self.decimals, part, self.tokens);
        let paid =
            Self::nano(self.purchase_paid, self.purchase_decimals, part, self.purchase_tokens);
        part <= self.tokens
            && part <= self.purchase_tokens
            && (owed, paid) == (Some(self.owed_nano.0), Some(self.paid_nano.0))
    }

    fn entries(&self) -> Vec<Entry> {
        let entry = |account: &str, side, amount: i64| Entry {
            account: account.to_owned(),
            side,
            amount: Nanocredits(amount),
        };
        let (owed, paid) = (self.owed_nano.0, self.paid_nano.0);
        let lost = paid.saturating_sub(owed);
        let slip = if lost > 0 { Side::Debit } else { Side::Credit };
        [
            entry(ACCOUNT_TREASURY_OBLIGATIONS, Side::Debit, owed),
            entry(ACCOUNT_TREASURY_PURCHASES, Side::Credit, paid),
            entry(ACCOUNT_TREASURY_SLIPPAGE, slip, lost.saturating_abs()),
        ]
        .into_iter()
        .filter(|e| e.amount > Nanocredits::ZERO)
        .collect()
    }
}

/// Drafts the posting of a settlement. `deposit` is the one whose conversion owes. Takes effect at
/// the purchase.
///
/// # Errors
/// Never in practice: every field serialises.
pub fn draft_settlement(
    deposit: DepositId,
    settlement: &TreasurySettlement,
) -> Result<Draft, serde_json::Error> {
    Ok(Draft {
        id: settlement_posting_id(settlement),
        kind: KIND_TREASURY_SETTLEMENT,
        deposit,
        effective_at_ms: settlement.block_time_ms,
        evidence: serde_json::to_string(settlement)?,
        entries: settlement.entries(),
    })
}

/// The id of the posting by which a purchase settles a conversion: there is one at most.
#[must_use]
pub fn settlement_posting_id(settlement: &TreasurySettlement) -> PostingId {
    let mut bytes = Canonical::new("topupd/posting/v1");
    bytes
        .text(KIND_TREASURY_SETTLEMENT)
        .bytes(settlement.obligation_posting_id.as_slice())
        .u64(settlement.chain_id.0)
        .bytes(settlement.tx_hash.as_slice());
    PostingId(bytes.finish())
}

/// What a posting was decided on, by its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// Of [`KIND_DEPOSIT_CREDIT`].
    Credit(Box<DepositCredit>),
    /// Of [`KIND_DEPOSIT_REVERSAL`].
    Reversal(Box<DepositReversal>),
    /// Of [`KIND_TREASURY_SETTLEMENT`].
    Settlement(Box<TreasurySettlement>),
}

impl Draft {
    /// Puts the draft in its place and seals it.
    #[must_use]
    pub fn seal(self, seq: i64, prev_hash: B256, recorded_at_ms: i64) -> Posting {
        let mut posting = Posting {
            seq,
            id: self.id,
            kind: self.kind.to_owned(),
            deposit: self.deposit,
            effective_at_ms: self.effective_at_ms,
            recorded_at_ms,
            evidence: self.evidence,
            entries: self.entries,
            prev_hash,
            hash: B256::ZERO,
        };
        posting.hash = posting.seal_hash();
        posting
    }

    /// Compares with what was written under this id before: the first field that differs, if any.
    #[must_use]
    pub fn differs_from(&self, stored: &Posting) -> Option<&'static str> {
        if stored.kind != self.kind {
            Some("kind")
        } else if stored.deposit != self.deposit {
            Some("deposit_id")
        } else if stored.effective_at_ms != self.effective_at_ms {
            Some("effective_at_ms")
        } else if stored.evidence != self.evidence {
            Some("evidence")
        } else if stored.entries != self.entries {
            Some("entries")
        } else {
            None
        }
    }
}

/// Why a stored posting does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A number is missing or out of order.
    #[error("seq is {found}, expected {expected}")]
    Sequence {
        /// What was expected.
        expected: i64,
        /// What is there.
        found: i64,
    },
    /// It does not name the hash of the posting before.
    #[error("prev_hash is not the hash of the posting before it")]
    Link,
    /// Its contents do not give its hash.
    #[error("hash does not match its contents: a field was changed")]
    Seal,
    /// Debits and credits differ, or an amount is not positive.
    #[error("entries do not balance")]
    Unbalanced,
    /// The evidence cannot be read.
    #[error("evidence cannot be read: {0}")]
    Evidence(String),
    /// The evidence contradicts the posting or itself.
    #[error("{0} does not follow from the evidence")]
    Contradiction(&'static str),
}

impl Posting {
    /// The hash over everything else in the posting.
    #[must_use]
    pub fn seal_hash(&self) -> B256 {
        let mut bytes = Canonical::new("topupd/posting-seal/v1");
        bytes
            .bytes(self.prev_hash.as_slice())
            .i64(self.seq)
            .bytes(self.id.0.as_slice())
            .text(&self.kind)
            .bytes(self.deposit.0.as_slice())
            .i64(self.effective_at_ms)
            .i64(self.recorded_at_ms)
            .text(&self.evidence)
            .u64(u64::try_from(self.entries.len()).unwrap_or(u64::MAX));
        for entry in &self.entries {
            bytes.text(&entry.account).text(entry.side.as_str()).i64(entry.amount.0);
        }
        bytes.finish()
    }

    /// Checks this posting by itself and against the one before it, recomputing the amount from
    /// the evidence, and returns that evidence.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn check(&self, expected_seq: i64, prev_hash: B256) -> Result<Evidence, Broken> {
        if self.seq != expected_seq {
            return Err(Broken::Sequence { expected: expected_seq, found: self.seq });
        }
        if self.prev_hash != prev_hash {
            return Err(Broken::Link);
        }
        if self.hash != self.seal_hash() {
            return Err(Broken::Seal);
        }
        if !balanced(&self.entries) {
            return Err(Broken::Unbalanced);
        }
        match self.kind.as_str() {
            KIND_DEPOSIT_CREDIT => self.check_credit(),
            KIND_DEPOSIT_REVERSAL => self.check_reversal(),
            KIND_TREASURY_SETTLEMENT => self.check_settlement(),
            _ => Err(Broken::Contradiction("kind")),
        }
    }

    fn check_reversal(&self) -> Result<Evidence, Broken> {
        let evidence: DepositReversal =
            serde_json::from_str(&self.evidence).map_err(|e| Broken::Evidence(e.to_string()))?;
        let reversed = PostingId(evidence.reverses_posting_id);
        let claims = [
            (reversal_posting_id(reversed) == self.id, "posting_id"),
            ((1..self.seq).contains(&evidence.reverses_seq), "reverses_seq"),
            (evidence.canonical_hash != evidence.block_hash, "canonical_hash"),
            (!evidence.providers.is_empty(), "providers"),
            (
                reversal_entries(&evidence.namespace, evidence.credits_nano) == self.entries,
                "entries",
            ),
        ];
        match claims.iter().find(|(holds, _)| !holds) {
            Some((_, claim)) => Err(Broken::Contradiction(claim)),
            None => Ok(Evidence::Reversal(Box::new(evidence))),
        }
    }

    fn check_settlement(&self) -> Result<Evidence, Broken> {
        let evidence: TreasurySettlement =
            serde_json::from_str(&self.evidence).map_err(|e| Broken::Evidence(e.to_string()))?;
        let claims = [
            (settlement_posting_id(&evidence) == self.id, "posting_id"),
            ((1..self.seq).contains(&evidence.obligation_seq), "obligation_seq"),
            (evidence.block_time_ms == self.effective_at_ms, "effective_at_ms"),
            (evidence.holds(), "owed_nano or paid_nano"),
            (evidence.entries() == self.entries, "entries"),
        ];
        match claims.iter().find(|(holds, _)| !holds) {
            Some((_, claim)) => Err(Broken::Contradiction(claim)),
            None => Ok(Evidence::Settlement(Box::new(evidence))),
        }
    }

    fn check_credit(&self) -> Result<Evidence, Broken> {
        let evidence: DepositCredit =
            serde_json::from_str(&self.evidence).map_err(|e| Broken::Evidence(e.to_string()))?;
        let claims = [
            (evidence.deposit_key().id() == self.deposit, "deposit_id"),
            (
                credit_posting_id(self.deposit, evidence.reversals.unwrap_or(0)) == self.id,
                "posting_id",
            ),
            (evidence.block_time_ms == self.effective_at_ms, "effective_at_ms"),
            (evidence.rounding == "down", "rounding"),
            (deep_enough(&evidence), "finality"),
            (amount_follows(&evidence), "credits_nano"),
            (credit_entries(&evidence.namespace, evidence.credits_nano) == self.entries, "entries"),
        ];
        match claims.iter().find(|(holds, _)| !holds) {
            Some((_, claim)) => Err(Broken::Contradiction(claim)),
            None => Ok(Evidence::Credit(Box::new(evidence))),
        }
    }
}

/// True when the credits are what the rule, its rate and its prices give.
fn amount_follows(evidence: &DepositCredit) -> bool {
    let (raw, decimals, rate) =
        (evidence.raw_amount, evidence.decimals, evidence.credits_per_token);
    let market = Rule::parse(&evidence.rule).map(Rule::is_market);
    match (&evidence.conversion, market) {
        (None, Some(false)) => {
            credits_rounded_down(raw, decimals, rate) == Ok(evidence.credits_nano)
        }
        (Some(conversion), Some(true)) => {
            conversion.into.is_some() == (evidence.rule == Rule::Convert.as_str())
                && conversion.holds(raw, decimals, &evidence.asset, rate, evidence.credits_nano)
        }
        _ => false,
    }
}

/// True when the head named was as far above the block as the rule asks. What a tag stood for is
/// not in the evidence; then the head must at least not be below the block.
fn deep_enough(evidence: &DepositCredit) -> bool {
    let wanted = evidence.finality.strip_suffix(" confirmations");
    let wanted = wanted.map_or(Some(1), |n| n.parse::<u64>().ok());
    wanted.is_some_and(|n| confirmations(evidence.block_number, evidence.head_number) >= n)
}

/// True when debits equal credits and every amount is positive.
#[must_use]
pub fn balanced(entries: &[Entry]) -> bool {
    let sum = |side: Side| {
        entries.iter().filter(|e| e.side == side).try_fold(0i128, |sum, e| {
            (e.amount > Nanocredits::ZERO).then_some(())?;
            sum.checked_add(i128::from(e.amount.0))
        })
    };
    matches!((sum(Side::Debit), sum(Side::Credit)), (Some(d), Some(c)) if d == c && d > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Shape;

    fn draft() -> Draft {
        let deposit = DepositKey {
            chain: ChainId(31337),
            tx_hash: B256::repeat_byte(0x11),
            token: Address::repeat_byte(0x22),
            recipient: Address::repeat_byte(0x33),
            shape: Shape::Transfer,
            n: 0,
        };
        let facts = CreditFacts {
            namespace: "acme".into(),
            deposit,
            sighting: SightingKey {
                chain: ChainId(31337),
                block_hash: B256::repeat_byte(0x44),
                log_index: 3,
            },
            block_number: 9,
            block_time_ms: 1_700_000_000_000,
            sender: Address::repeat_byte(0x66),
            finality: "3 confirmations".into(),
            head: BlockRef { number: 11, hash: B256::repeat_byte(0x77) },
            receipt_provider: "main".into(),
            log_provider: None,
            verify: None,
            receipt_index: None,
            reversals: 0,
            epoch_hash: B256::repeat_byte(0x55),
            screenings: None,
            acts: None,
        };
        let price = Price {
            epoch_id: "pre-tge".into(),
            rule: Rule::Par,
            rate: "1000".parse().unwrap(),
            asset: "USDC".into(),
            raw: RawAmount(U256::from(12_500_000)),
            decimals: 6,
            credits: Nanocredits(12_500_000_000_000),
            conversion: None,
        };
        draft_credit(&facts, &price).unwrap()
    }

    fn posting() -> Posting {
        draft().seal(1, genesis(Network::Testnet), 1_700_000_001_000)
    }

    #[test]
    fn a_sealed_posting_holds() {
        let Ok(Evidence::Credit(evidence)) = posting().check(1, genesis(Network::Testnet)) else {
            panic!("does not hold")
        };
        assert_eq!(evidence.credits_nano.to_string(), "12500");
    }

    /// Golden vectors, computed apart by a script over the documented encoding: if one of these changes, every existing ledger stops verifying.
    #[test]
    fn hashes_are_pinned() {
        assert_eq!(
            [
                genesis(Network::Testnet).to_string(),
                genesis(Network::Mainnet).to_string(),
                posting().id.to_string(),
                posting().hash.to_string()
            ],
            GOLDEN
        );
    }
    const GOLDEN: [&str; 4] = [
        "0xb5a56a8212733308d867e78ec0b1a90c1ca181cf35292081234ab4afa3df87c4",
        "0x9279fae8680951e368498292cfa2fc6654814f6b10f177b0f9986e1827a0b8d6",
        "0x7a772537ecd9c502a5a9037e4b16f62f6c45eb54cf8cc56319b44ec037cfe9f2",
        "0x78d280946cde7bb979c4aeefa6f2a8dee8f09f639e0e5c8082f15d3f7491a0b3",
    ];

    #[test]
    fn networks_do_not_mix() {
        let broken = posting().check(1, genesis(Network::Mainnet)).unwrap_err();
        assert_eq!(broken, Broken::Link);
    }

    #[test]
    fn any_changed_field_breaks_the_seal() {
        let g = genesis(Network::Testnet);
        let changes: Vec<fn(&mut Posting)> = vec![
            |p| p.id = PostingId(B256::ZERO),
            |p| p.kind.push('x'),
            |p| p.deposit = DepositId(B256::ZERO),
            |p| p.effective_at_ms += 1,
            |p| p.recorded_at_ms += 1,
            |p| p.evidence = p.evidence.replace("12500000", "12500001"),
            |p| p.entries[0].account.push('x'),
            |p| p.entries[0].amount.0 += 1,
            |p| p.entries.swap(0, 1),
            |p| p.hash = B256::ZERO,
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut p = posting();
            change(&mut p);
            assert_eq!(p.check(1, g), Err(Broken::Seal), "change {i}");
        }
    }

    /// Somebody who can recompute hashes still cannot post more than the evidence gives.
    #[test]
    fn a_resealed_lie_is_found_by_the_evidence() {
        let g = genesis(Network::Testnet);
        let reseal = |change: fn(&mut Posting)| {
            let mut p = posting();
            change(&mut p);
            p.hash = p.seal_hash();
            p.check(1, g).unwrap_err()
        };
        let broken = reseal(|p| p.entries.iter_mut().for_each(|e| e.amount.0 += 1));
        assert_eq!(broken, Broken::Contradiction("entries"));
        let broken = reseal(|p| p.entries[0].amount.0 += 1);
        assert_eq!(broken, Broken::Unbalanced);
        let broken = reseal(|p| p.evidence = p.evidence.replace("12500000\"", "12500001\""));
        assert_eq!(broken, Broken::Contradiction("credits_nano"));
        let broken =
            reseal(|p| p.evidence = p.evidence.replace("\"head_number\":11", "\"head_number\":10"));
        assert_eq!(broken, Broken::Contradiction("finality"));
        let broken = reseal(|p| p.evidence = p.evidence.replace("\"n\":0", "\"n\":1"));
        assert_eq!(broken, Broken::Contradiction("deposit_id"));
    }

    #[test]
    fn again_means_exists_or_names_the_difference() {
        let stored = posting();
        assert_eq!(draft().differs_from(&stored), None);
        let mut other = draft();
        other.evidence = other.evidence.replace("12500000", "12500001");
        assert_eq!(other.differs_from(&stored), Some("evidence"));
    }

    #[test]
    fn a_reversal_takes_back_what_was_credited_and_only_once() {
        let credit = posting();
        let evidence = DepositReversal {
            namespace: "acme".into(),
            reverses_seq: 1,
            reverses_posting_id: credit.id.0,
            reverses_hash: credit.hash,
            chain_id: ChainId(31337),
            block_hash: B256::repeat_byte(0x44),
            block_number: 9,
            canonical_hash: B256::repeat_byte(0x45),
            head_number: 30,
            head_hash: B256::repeat_byte(0x78),
            finality: "3 confirmations".into(),
            providers: vec!["main".into(), "second".into()],
            credits_nano: Nanocredits(12_500_000_000_000),
        };
        let seal = |e: &DepositReversal| {
            draft_reversal(credit.deposit, e, 7).unwrap().seal(2, credit.hash, 7)
        };
        assert!(seal(&evidence).check(2, credit.hash).is_ok());
        let same = DepositReversal { canonical_hash: evidence.block_hash, ..evidence.clone() };
        assert_eq!(seal(&same).check(2, credit.hash), Err(Broken::Contradiction("canonical_hash")));
        assert_ne!(credit_posting_id(credit.deposit, 1), credit.id);
        let sums: i64 = credit
            .entries
            .iter()
            .chain(&seal(&evidence).entries)
            .filter(|e| e.account == "namespace/acme")
            .map(|e| if e.side == Side::Credit { e.amount.0 } else { -e.amount.0 })
            .sum();
        assert_eq!(sums, 0);
    }

    #[test]
    fn balance_rules() {
        let entry = |side, n| Entry { account: "a".into(), side, amount: Nanocredits(n) };
        use Side::{Credit, Debit};
        assert!(balanced(&[entry(Debit, 3), entry(Credit, 1), entry(Credit, 2)]));
        assert!(!balanced(&[entry(Debit, 3), entry(Credit, 2)]));
        assert!(!balanced(&[entry(Debit, -3), entry(Credit, -3)]));
        assert!(!balanced(&[entry(Debit, 0), entry(Credit, 0)]));
        assert!(!balanced(&[]));
    }
}
