//! What conversions owe the treasury, and what its purchases settled of that.
//!
//! An obligation is written with the credit that makes it. A purchase, as the chain shows it, settles
//! open obligations of the same two assets, the oldest first, one posting each. A credit that was
//! reversed owes nothing any more, unless it was settled before.

use std::collections::BTreeMap;

use alloy::primitives::B256;

use super::batch::Batch;
use super::db::{Row, Tx, query};
use super::engine::Store;
use super::errors::StoreError;
use super::rows::{amount_bytes, corrupt, to_int};
use crate::domain::ids::{ChainId, DepositId};
use crate::domain::ledger::{TreasurySettlement, draft_settlement};
use crate::domain::money::{Nanocredits, RawAmount};

/// What a conversion owes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obligation {
    /// Place of its credit.
    pub posting_seq: i64,
    /// Id of that posting.
    pub posting_id: B256,
    /// The deposit that was converted.
    pub deposit: DepositId,
    /// Chain of the deposit.
    pub chain: ChainId,
    /// Stablecoin that came in.
    pub asset: String,
    /// How much.
    pub raw: RawAmount,
    /// Its decimals.
    pub decimals: u8,
    /// Asset owed.
    pub into_asset: String,
    /// How much.
    pub tokens: RawAmount,
    /// Its decimals.
    pub token_decimals: u8,
    /// Since when.
    pub effective_at_ms: i64,
    /// How much of the tokens was settled.
    pub settled: RawAmount,
    /// Its credit was reversed.
    pub void: bool,
}

impl Obligation {
    /// Tokens still owed.
    #[must_use]
    pub fn open(&self) -> RawAmount {
        let open = self.tokens.checked_sub(self.settled).unwrap_or_default();
        // Less than a billionth of a dollar makes no posting, and is not waited for.
        let worth = TreasurySettlement::nano(self.raw, self.decimals, open, self.tokens);
        if self.void || (self.settled > RawAmount::ZERO && worth == Some(0)) {
            return RawAmount::ZERO;
        }
        open
    }
}

/// What a purchase settled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settled {
    /// Places of the postings written now.
    pub postings: Vec<i64>,
    /// All parts of the purchase, those settled earlier too.
    pub parts: Vec<TreasurySettlement>,
    /// Tokens of the purchase that settle nothing yet.
    pub left: RawAmount,
}

impl Store {
    /// Obligations, oldest first; only open ones unless `all`.
    ///
    /// # Errors
    /// When the database fails or a row cannot be read.
    pub async fn obligations(&self, all: bool) -> Result<Vec<Obligation>, StoreError> {
        let mut tx = self.db.begin_read().await.map_err(StoreError::doing(DOING))?;
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
        let mut batch = Batch::begin(&mut tx, self).await?;
        record(&mut tx, whole, batch.now_ms).await?;
        let mut settled = Settled { parts: parts(&mut tx, whole).await?, ..Settled::default() };
        let used = settled
            .parts
            .iter()
            .try_fold(RawAmount::ZERO, |sum, part| sum.checked_add(part.settled_tokens));
        let left = used.and_then(|used| whole.purchase_tokens.checked_sub(used));
        let mut left =
            left.ok_or_else(|| corrupt("settlements", "tokens", "exceed the purchase"))?;
        let mut rows = Vec::new();
        for owed in obligations(&mut tx).await? {
            let part = owed.open().min(left);
            let same = (&owed.asset, &owed.into_asset) == (&whole.asset, &whole.into_asset);
            let known = settled.parts.iter().any(|p| p.obligation_seq == owed.posting_seq);
            if !same || known || part == RawAmount::ZERO {
                continue;
            }
            let Some(evidence) = part_of(whole, &owed, part) else { continue };
            let draft = draft_settlement(owed.deposit, &evidence)
                .map_err(|e| StoreError::Refused(format!("cannot write the evidence: {e}")))?;
            let seq = batch.append_posting(draft)?;
            rows.push((seq, owed.posting_seq, part));
            left = left.checked_sub(part).unwrap_or_default();
            settled.postings.push(seq);
            settled.parts.push(evidence);
        }
        batch.write(&mut tx).await?;
        for (seq, obligation, part) in rows {
            query(
                "INSERT INTO settlements (posting_seq, obligation_seq, chain_id, tx_hash, tokens)
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(seq)
            .bind(obligation)
            .bind(to_int(whole.chain_id.0, "chain id")?)
            .bind(whole.tx_hash)
            .bind(amount_bytes(part))
            .execute(&mut tx)
            .await
            .map_err(StoreError::doing(DOING))?;
        }
        Self::commit(tx).await?;
        settled.left = left;
        Ok(settled)
    }
}

const DOING: &str = "settle what the treasury is owed";

/// The evidence of one obligation's part; `None` where it is worth less than a billionth of a
/// dollar.
fn part_of(
    whole: &TreasurySettlement,
    owed: &Obligation,
    part: RawAmount,
) -> Option<TreasurySettlement> {
    let owed_nano = TreasurySettlement::nano(owed.raw, owed.decimals, part, owed.tokens)?;
    let paid_nano = TreasurySettlement::nano(
        whole.purchase_paid,
        whole.purchase_decimals,
        part,
        whole.purchase_tokens,
    )?;
    (owed_nano > 0 || paid_nano > 0).then(|| TreasurySettlement {
        obligation_seq: owed.posting_seq,
        obligation_posting_id: owed.posting_id,
        raw_amount: owed.raw,
        decimals: owed.decimals,
        tokens: owed.tokens,
        settled_tokens: part,
        owed_nano: Nanocredits(owed_nano),
        paid_nano: Nanocredits(paid_nano),
        ..whole.clone()
    })
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
    .await
    .map_err(StoreError::doing(DOING))?;
    let row = query(
        "SELECT block_hash, asset, paid, decimals, into_asset, tokens FROM purchases
         WHERE chain_id = $1 AND tx_hash = $2",
    )
    .bind(chain)
    .bind(whole.tx_hash)
    .fetch_one(tx)
    .await
    .map_err(StoreError::doing(DOING))?;
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
async fn parts(
    tx: &mut Tx,
    whole: &TreasurySettlement,
) -> Result<Vec<TreasurySettlement>, StoreError> {
    query(
        "SELECT p.evidence FROM settlements s JOIN postings p ON p.seq = s.posting_seq
         WHERE s.chain_id = $1 AND s.tx_hash = $2 ORDER BY s.posting_seq",
    )
    .bind(to_int(whole.chain_id.0, "chain id")?)
    .bind(whole.tx_hash)
    .fetch_all(tx)
    .await
    .map_err(StoreError::doing(DOING))?
    .iter()
    .map(|row| {
        serde_json::from_str(&row.text("postings", "evidence")?)
            .map_err(|e| corrupt("postings", "evidence", &e.to_string()))
    })
    .collect()
}

async fn obligations(tx: &mut Tx) -> Result<Vec<Obligation>, StoreError> {
    let mut settled: BTreeMap<i64, RawAmount> = BTreeMap::new();
    let rows = query("SELECT obligation_seq, tokens FROM settlements")
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::doing(DOING))?;
    for row in rows {
        let sum = settled.entry(row.int("settlements", "obligation_seq")?).or_default();
        let more = row.amount("settlements", "tokens")?;
        *sum = sum
            .checked_add(more)
            .ok_or_else(|| corrupt("settlements", "tokens", "do not fit 256 bits"))?;
    }
    query(
        "SELECT o.posting_seq, p.posting_id, p.deposit_id, o.chain_id, o.asset, o.raw_amount,
                o.decimals, o.into_asset, o.tokens, o.token_decimals, o.effective_at_ms,
                k.reversed_by
         FROM obligations o
         JOIN postings p ON p.seq = o.posting_seq
         JOIN credits k ON k.posting_seq = o.posting_seq
         ORDER BY o.effective_at_ms, o.posting_seq",
    )
    .fetch_all(tx)
    .await
    .map_err(StoreError::doing(DOING))?
    .iter()
    .map(|row| obligation(row, &settled))
    .collect()
}

fn obligation(row: &Row, settled: &BTreeMap<i64, RawAmount>) -> Result<Obligation, StoreError> {
    let posting_seq = row.int("obligations", "posting_seq")?;
    Ok(Obligation {
        posting_seq,
        posting_id: row.b256("postings", "posting_id")?,
        deposit: DepositId(row.b256("postings", "deposit_id")?),
        chain: ChainId(row.uint("obligations", "chain_id")?),
        asset: row.text("obligations", "asset")?,
        raw: row.amount("obligations", "raw_amount")?,
        decimals: row.uint8("obligations", "decimals")?,
        into_asset: row.text("obligations", "into_asset")?,
        tokens: row.amount("obligations", "tokens")?,
        token_decimals: row.uint8("obligations", "token_decimals")?,
        effective_at_ms: row.int("obligations", "effective_at_ms")?,
        settled: settled.get(&posting_seq).copied().unwrap_or_default(),
        void: !row.is_null("reversed_by"),
    })
}
