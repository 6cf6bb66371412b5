//! What conversions owe the treasury, and what its purchases settled of that.
//!
//! An obligation is written with the credit that makes it, in its namespace's journal. A purchase, as the chain shows
//! it, settles open obligations of the same two assets, the oldest first, one record of the house each. A credit that
//! was reversed owes nothing any more, unless it was settled before: whoever reverses one, or settles, takes the row of
//! the obligation first.

use super::db::{Row, Tx, Value, bulk};
use super::engine::Store;
use super::errors::StoreError;
use super::ledger::{Batch, RecordPlace, load_records};
use super::rows::{amount_bytes, corrupt, to_int};
use crate::domain::account::{Owing, Purchase, Refusal, Written};
use crate::domain::ids::{ChainId, DepositId};
use crate::domain::journal::{
    Cause, JournalId, Kind, Outcome, RecordId, Settled as Did, TreasurySettlement,
};
use crate::domain::money::{Nanodollars, RawAmount};
use crate::store::db::query::{Lock, query};

/// What a conversion owes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obligation {
    /// Place of its credit.
    pub place: RecordPlace,
    /// Id of that record.
    pub record_id: RecordId,
    /// Whose credit.
    pub namespace: String,
    /// The deposit that was converted.
    pub deposit: DepositId,
    /// Chain of the deposit.
    pub chain: ChainId,
    /// Stablecoin that came in.
    pub asset: String,
    /// How much: the whole payment, also where a part of its tokens was carried over.
    pub raw: RawAmount,
    /// Its decimals.
    pub decimals: u8,
    /// Asset owed.
    pub into_asset: String,
    /// How much, without what was carried over.
    pub tokens: RawAmount,
    /// Its decimals.
    pub token_decimals: u8,
    /// What these tokens are owed for, without what was carried over.
    pub usd: Nanodollars,
    /// Tokens that were bought for this payment before its credit was corrected.
    pub carried: RawAmount,
    /// Since when.
    pub effective_at_ms: i64,
    /// How much of the tokens was settled.
    pub settled: RawAmount,
    /// Its credit was reversed.
    pub void: bool,
}

impl Obligation {
    /// Tokens still owed.
    pub fn open(&self) -> RawAmount {
        let open = self.tokens.checked_sub(self.settled).unwrap_or_default();
        // Less than a billionth of a dollar makes no entry, and is not waited for.
        let settled = self.usd.share_rounded_down(self.settled, self.tokens);
        if self.void || (self.settled > RawAmount::ZERO && settled == Ok(self.usd)) {
            return RawAmount::ZERO;
        }
        open
    }

    fn owing(&self) -> Owing {
        Owing {
            record_id: self.record_id,
            asset: self.asset.clone(),
            into_asset: self.into_asset.clone(),
            tokens: self.tokens,
            usd: self.usd,
            settled: self.settled,
            void: self.void,
        }
    }
}

/// What a purchase settled of one obligation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledPart {
    /// Number of the house's record.
    pub seq: i64,
    /// What was settled.
    pub cause: TreasurySettlement,
    /// What that did.
    pub did: Did,
}

/// What a purchase settled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settled {
    /// Numbers of the house's records that were written now.
    pub records: Vec<i64>,
    /// All parts of the purchase, those settled earlier too.
    pub parts: Vec<SettledPart>,
    /// Tokens of the purchase that settle nothing yet.
    pub left: RawAmount,
}

/// Obligations, out of these rows.
macro_rules! select_obligations {
    ($from:literal) => {
        concat!(
            "SELECT o.journal_id, o.seq, q.record_id, k.deposit_id, n.name, o.chain_id, o.asset, o.raw_amount,
                    o.decimals, o.into_asset, o.tokens, o.token_decimals, o.usd_nano, o.effective_at_ms,
                    o.settled_tokens, o.carried_tokens, k.reversed_by
             FROM ",
            $from,
            " JOIN records q ON q.journal_id = o.journal_id AND q.seq = o.seq
             JOIN credits k ON k.journal_id = o.journal_id AND k.seq = o.seq
             JOIN namespaces n ON n.namespace_id = o.journal_id
             ORDER BY o.effective_at_ms, o.journal_id, o.seq"
        )
    };
}

impl Store {
    /// Obligations, oldest first; only open ones unless `all`.
    pub async fn obligations(&self, all: bool) -> Result<Vec<Obligation>, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let found = obligations(&mut tx).await?;
        Self::abandon(tx).await?;
        Ok(found.into_iter().filter(|o| all || o.open() > RawAmount::ZERO).collect())
    }

    /// Writes a purchase, and settles with it what is open, oldest first. Again with the same
    /// purchase: settles with what it has left. What belongs to an obligation is filled in for each.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where the transaction was recorded with other amounts; nothing is
    /// written then.
    pub async fn settle_treasury(&self, whole: &TreasurySettlement) -> Result<Settled, StoreError> {
        let mut tx = self.begin_registering().await?;
        let mut batch = Batch::of_house(&mut tx, self).await?;
        record(&mut tx, whole, batch.now_ms).await?;
        let mut settled = Settled { parts: parts(&mut tx, whole).await?, ..Settled::default() };
        let used = settled
            .parts
            .iter()
            .try_fold(RawAmount::ZERO, |sum, part| sum.checked_add(part.cause.settled_tokens))
            .ok_or_else(|| corrupt("settlements", "tokens", "do not fit 256 bits"))?;
        let left = whole.purchase_tokens.checked_sub(used);
        let mut left =
            left.ok_or_else(|| corrupt("settlements", "tokens", "exceed the purchase"))?;
        let is_known = |owed: &Obligation| {
            settled.parts.iter().any(|part| {
                (part.cause.obligation_journal, part.cause.obligation_seq)
                    == (owed.place.journal, owed.place.seq)
            })
        };
        let mut open = obligations(&mut tx).await?;
        open.retain(|owed| {
            (&owed.asset, &owed.into_asset) == (&whole.asset, &whole.into_asset)
                && owed.open() > RawAmount::ZERO
                && !is_known(owed)
        });
        let open = take(&mut tx, open, left).await?;
        let house = batch.account(JournalId::HOUSE)?;
        house.load_purchase(whole.chain_id, whole.tx_hash, purchase(whole, used));
        for owed in &open {
            house.load_owing(owed.place.journal, owed.place.seq, owed.owing());
        }
        for owed in &open {
            let part = owed.open().min(left);
            if part == RawAmount::ZERO {
                continue;
            }
            let cause = part_of(whole, owed, part);
            let cause_of = Cause::TreasurySettled(Box::new(cause.clone()));
            let draft = batch.draft(JournalId::HOUSE, cause_of, None)?;
            load_records(&mut tx, &mut batch, [(JournalId::HOUSE, &draft)].into_iter()).await?;
            match batch.add(JournalId::HOUSE, &draft)? {
                Ok(Written::Created(new)) => {
                    let Outcome::Settled(did) = new.outcome else { continue };
                    let seq = new.record.seq;
                    left = left.checked_sub(part).unwrap_or_default();
                    settled.records.push(seq);
                    settled.parts.push(SettledPart { seq, cause, did });
                }
                // Too little to be an entry; or it was settled by this purchase before.
                Err(Refusal::MovesNothing) | Ok(Written::Exists { .. }) => {}
                Ok(Written::Conflict { seq, field }) => {
                    return Err(StoreError::Refused(format!(
                        "record {seq} of the house settles the same with another {field}; nothing was changed"
                    )));
                }
                Err(why) => return Err(StoreError::Refused(why.to_string())),
            }
        }
        self.commit_with(tx, batch).await?;
        settled.left = left;
        Ok(settled)
    }
}

/// Takes the rows of the oldest of these that so many tokens can settle, and reads them again: one may have been
/// settled or reversed meanwhile.
async fn take(
    tx: &mut Tx,
    open: Vec<Obligation>,
    mut tokens: RawAmount,
) -> Result<Vec<Obligation>, StoreError> {
    let mut wanted = Vec::new();
    for owed in open {
        if tokens == RawAmount::ZERO {
            break;
        }
        tokens = tokens.checked_sub(owed.open()).unwrap_or_default();
        wanted.push(owed.place);
    }
    let keys: Vec<Vec<Value>> =
        wanted.iter().map(|p| vec![p.journal.0.into(), p.seq.into()]).collect();
    bulk(
        "SELECT o.seq FROM {each}
         JOIN obligations o ON o.journal_id = r.column1 AND o.seq = r.column2
         ORDER BY o.journal_id, o.seq",
        keys.clone(),
    )
    .locked(Lock::Update)
    .fetch_all(&mut *tx)
    .await?;
    // Another statement: it sees what was committed while these were waited for.
    let rows = bulk(
        select_obligations!(
            "{each} JOIN obligations o ON o.journal_id = r.column1 AND o.seq = r.column2"
        ),
        keys,
    )
    .fetch_all(tx)
    .await?;
    let mut found = rows.iter().map(obligation).collect::<Result<Vec<_>, _>>()?;
    found.sort_by_key(|owed| (owed.effective_at_ms, owed.place));
    Ok(found)
}

/// The purchase as the house's account has it, where it has settled something before.
fn purchase(whole: &TreasurySettlement, used: RawAmount) -> Option<Purchase> {
    (used > RawAmount::ZERO).then(|| Purchase {
        block_hash: whole.block_hash,
        asset: whole.asset.clone(),
        paid: whole.purchase_paid,
        decimals: whole.purchase_decimals,
        into_asset: whole.into_asset.clone(),
        tokens: whole.purchase_tokens,
        used,
    })
}

/// The cause of one obligation's part.
fn part_of(whole: &TreasurySettlement, owed: &Obligation, part: RawAmount) -> TreasurySettlement {
    TreasurySettlement {
        obligation_journal: owed.place.journal,
        obligation_seq: owed.place.seq,
        obligation_record_id: owed.record_id,
        obligation_usd_nano: owed.usd,
        tokens: owed.tokens,
        settled_tokens: part,
        ..whole.clone()
    }
}

/// Writes the purchase, or makes sure that it was written as it is.
async fn record(tx: &mut Tx, whole: &TreasurySettlement, now_ms: i64) -> Result<(), StoreError> {
    let chain = to_int(whole.chain_id.0, "chain id")?;
    let evidence = serde_json::json!({
        "treasury": whole.treasury, "providers": whole.providers,
        "block_number": whole.block_number,
    });
    query(
        "INSERT INTO purchases (chain_id, tx_hash, block_hash, asset, paid, decimals, into_asset,
                                tokens, evidence, recorded_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING",
    )
    .bind(chain)
    .bind(whole.tx_hash)
    .bind(whole.block_hash)
    .bind(&whole.asset)
    .bind(amount_bytes(whole.purchase_paid))
    .bind(i64::from(whole.purchase_decimals))
    .bind(&whole.into_asset)
    .bind(amount_bytes(whole.purchase_tokens))
    .bind(evidence.to_string())
    .bind(now_ms)
    .execute(&mut *tx)
    .await?;
    let row = query(
        "SELECT block_hash, asset, paid, decimals, into_asset, tokens FROM purchases
         WHERE chain_id = $1 AND tx_hash = $2",
    )
    .bind(chain)
    .bind(whole.tx_hash)
    .fetch_one(tx)
    .await?;
    let stored = (
        row.b256("purchases", "block_hash")?,
        row.text("purchases", "asset")?,
        row.amount("purchases", "paid")?,
        row.uint8("purchases", "decimals")?,
        row.text("purchases", "into_asset")?,
        row.amount("purchases", "tokens")?,
    );
    let shown = (
        whole.block_hash,
        whole.asset.clone(),
        whole.purchase_paid,
        whole.purchase_decimals,
        whole.into_asset.clone(),
        whole.purchase_tokens,
    );
    if stored == shown {
        return Ok(());
    }
    Err(StoreError::Refused(format!(
        "transaction {} was recorded with another block or other amounts; nothing was changed",
        whole.tx_hash
    )))
}

/// What a purchase settled before.
async fn parts(tx: &mut Tx, whole: &TreasurySettlement) -> Result<Vec<SettledPart>, StoreError> {
    query(
        "SELECT s.seq, q.cause, q.outcome FROM settlements s
         JOIN records q ON q.journal_id = 0 AND q.seq = s.seq
         WHERE s.chain_id = $1 AND s.tx_hash = $2 ORDER BY s.seq",
    )
    .bind(to_int(whole.chain_id.0, "chain id")?)
    .bind(whole.tx_hash)
    .fetch_all(tx)
    .await?
    .iter()
    .map(|row| {
        const KIND: Kind = Kind::TreasurySettled;
        let bad = |column: &str, why: &str| corrupt("records", column, why);
        let cause = Cause::from_json(KIND, &row.text("records", "cause")?)
            .map_err(|e| bad("cause", &e.to_string()))?;
        let outcome = Outcome::from_json(KIND, &row.text("records", "outcome")?)
            .map_err(|e| bad("outcome", &e.to_string()))?;
        match (cause, outcome) {
            (Cause::TreasurySettled(cause), Outcome::Settled(did)) => {
                Ok(SettledPart { seq: row.int("settlements", "seq")?, cause: *cause, did })
            }
            _ => Err(bad("kind", "is not that of a settlement")),
        }
    })
    .collect()
}

async fn obligations(tx: &mut Tx) -> Result<Vec<Obligation>, StoreError> {
    query(select_obligations!("obligations o"))
        .fetch_all(tx)
        .await?
        .iter()
        .map(obligation)
        .collect()
}

fn obligation(row: &Row) -> Result<Obligation, StoreError> {
    const TABLE: &str = "obligations";
    Ok(Obligation {
        place: RecordPlace {
            journal: JournalId(row.int(TABLE, "journal_id")?),
            seq: row.int(TABLE, "seq")?,
        },
        record_id: RecordId(row.b256("records", "record_id")?),
        namespace: row.text("namespaces", "name")?,
        deposit: DepositId(row.b256("credits", "deposit_id")?),
        chain: ChainId(row.uint(TABLE, "chain_id")?),
        asset: row.text(TABLE, "asset")?,
        raw: row.amount(TABLE, "raw_amount")?,
        decimals: row.uint8(TABLE, "decimals")?,
        into_asset: row.text(TABLE, "into_asset")?,
        tokens: row.amount(TABLE, "tokens")?,
        token_decimals: row.uint8(TABLE, "token_decimals")?,
        usd: Nanodollars(row.int(TABLE, "usd_nano")?),
        carried: row.amount(TABLE, "carried_tokens")?,
        effective_at_ms: row.int(TABLE, "effective_at_ms")?,
        settled: row.amount(TABLE, "settled_tokens")?,
        void: !row.is_null("reversed_by"),
    })
}
