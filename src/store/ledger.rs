//! Commit 3: postings. And the ledger as people ask for it.
//!
//! Writers take the row of `ledger_head` first, so numbers have no gaps and hashes have one line
//! of descent. A posting, its entries, lot, balance, event and the deposit's stage are one commit.

use alloy::primitives::B256;

use super::engine::{Store, StoreError, Tx};
use super::rows::{Cells, corrupt};
use super::scan::{set_stage, stage_of};
use crate::domain::deposit::{Event, HoldReason, Stage};
use crate::domain::ids::{
    BlockRef, ChainId, DepositId, DepositKey, NamespaceName, PostingId, Shape, SightingKey,
};
use crate::domain::ledger::{
    ACCOUNT_ISSUED_PAID, CreditFacts, Draft, Entry, Posting, Side, Written, draft_credit,
    namespace_account,
};
use crate::domain::money::Nanocredits;
use crate::domain::pricing::{Price, Valuation};
use crate::domain::seal::Canonical;

/// A deposit that was credited by a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// Deposit.
    pub deposit: DepositId,
    /// To whom.
    pub namespace: String,
    /// How much.
    pub credits: Nanocredits,
    /// What the ledger answered.
    pub written: Written,
}

/// A line of a namespace's history.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct HistoryRow {
    /// Place in the ledger.
    pub seq: i64,
    /// When it takes effect.
    pub effective_at_ms: i64,
    /// When it was written.
    pub recorded_at_ms: i64,
    /// Kind of posting.
    pub kind: String,
    /// Change, in nanocredits.
    pub change_nano: Nanocredits,
    /// Balance after it, in nanocredits.
    pub balance_nano: Nanocredits,
    /// Deposit behind it.
    pub deposit_id: DepositId,
    /// Evidence, as JSON.
    #[serde(skip)]
    pub evidence: String,
}

impl Store {
    /// Credits priced deposits. One that is priced no more is passed over.
    ///
    /// A posting that conflicts with one written before is answered as such and not written; the
    /// others of the batch are.
    ///
    /// # Errors
    /// When the database fails; nothing is written then.
    pub async fn commit_credits(
        &self,
        deposits: &[DepositId],
        now_ms: i64,
    ) -> Result<Vec<Posted>, StoreError> {
        const DOING: &str = "commit postings";
        if deposits.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.begin().await?;
        let head = sqlx::query("SELECT seq, hash FROM ledger_head")
            .fetch_one(&mut *tx)
            .await
            .map_err(StoreError::doing(DOING))?;
        let mut seq = head.int("ledger_head", "seq")?;
        let mut hash = head.b256("ledger_head", "hash")?;
        let mut posted = Vec::with_capacity(deposits.len());
        for id in deposits {
            let Some(Priced { facts, price }) = priced(&mut tx, *id).await? else {
                if is_priced(&mut tx, *id).await? {
                    hold(&mut tx, *id, HoldReason::Conflict, now_ms).await?;
                    tracing::error!(deposit.id = %id, "held: the rows it rests on disagree");
                }
                continue;
            };
            let draft = draft_credit(&facts, &price)
                .map_err(|e| StoreError::Refused(format!("cannot write the evidence: {e}")))?;
            let written = match stored_posting(&mut tx, draft.id).await? {
                Some(stored) => match draft.differs_from(&stored) {
                    Some(field) => {
                        hold(&mut tx, *id, HoldReason::Conflict, now_ms).await?;
                        Written::Conflict { field }
                    }
                    None => Written::Exists { seq: stored.seq },
                },
                None => {
                    let Some(balance) =
                        balance_after(&mut tx, &facts.namespace, price.credits).await?
                    else {
                        hold(&mut tx, *id, HoldReason::Overflow, now_ms).await?;
                        continue;
                    };
                    seq = seq.checked_add(1).ok_or_else(|| {
                        StoreError::Refused("the ledger has no sequence number left".into())
                    })?;
                    hash = write(&mut tx, draft, seq, hash, &facts, balance, now_ms).await?;
                    Written::Created { seq }
                }
            };
            if let Written::Created { seq } | Written::Exists { seq } = written {
                sqlx::query(
                    "UPDATE deposits SET stage = 'credited', posting_seq = $2, updated_at_ms = $3
                     WHERE deposit_id = $1",
                )
                .bind(id.0.to_vec())
                .bind(seq)
                .bind(now_ms)
                .execute(&mut *tx)
                .await
                .map_err(StoreError::doing(DOING))?;
            }
            posted.push(Posted {
                deposit: *id,
                namespace: facts.namespace,
                credits: price.credits,
                written,
            });
        }
        sqlx::query("UPDATE ledger_head SET seq = $1, hash = $2")
            .bind(seq)
            .bind(hash.to_vec())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::doing(DOING))?;
        Self::commit(tx).await?;
        Ok(posted)
    }

    /// A namespace's balance.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the namespace is unknown.
    pub async fn balance(&self, namespace: &NamespaceName) -> Result<Nanocredits, StoreError> {
        let row = sqlx::query(
            "SELECT COALESCE(a.balance_nano, 0) AS balance_nano FROM namespaces n
             LEFT JOIN accounts a ON a.namespace_id = n.namespace_id WHERE n.name = $1",
        )
        .bind(namespace.as_str())
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::doing("read a balance"))?
        .ok_or_else(|| StoreError::Refused(format!("no namespace is called {namespace}")))?;
        Ok(Nanocredits(row.int("accounts", "balance_nano")?))
    }

    /// A namespace's postings, oldest first, each with the balance after it.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the namespace is unknown.
    pub async fn history(&self, namespace: &NamespaceName) -> Result<Vec<HistoryRow>, StoreError> {
        self.balance(namespace).await?; // names an unknown namespace
        let rows = sqlx::query(
            "SELECT p.seq, p.effective_at_ms, p.recorded_at_ms, p.kind, p.deposit_id, p.evidence,
                    e.side, e.amount_nano
             FROM entries e JOIN postings p ON p.seq = e.posting_seq
             WHERE e.account = $1 ORDER BY p.seq, e.leg",
        )
        .bind(namespace_account(namespace.as_str()))
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::doing("read a history"))?;
        let mut balance = Nanocredits::ZERO;
        rows.iter()
            .map(|row| {
                let amount = Nanocredits(row.int("entries", "amount_nano")?);
                let change = match side(&row.text("entries", "side")?)? {
                    Side::Credit => Some(amount),
                    Side::Debit => Nanocredits::ZERO.checked_sub(amount),
                };
                let too_large = || corrupt("entries", "amount_nano", "the balance overflows");
                let change = change.ok_or_else(too_large)?;
                balance = balance.checked_add(change).ok_or_else(too_large)?;
                Ok(HistoryRow {
                    seq: row.int("postings", "seq")?,
                    effective_at_ms: row.int("postings", "effective_at_ms")?,
                    recorded_at_ms: row.int("postings", "recorded_at_ms")?,
                    kind: row.text("postings", "kind")?,
                    change_nano: change,
                    balance_nano: balance,
                    deposit_id: DepositId(row.b256("postings", "deposit_id")?),
                    evidence: row.text("postings", "evidence")?,
                })
            })
            .collect()
    }
}

struct Priced {
    facts: CreditFacts,
    price: Price,
}

/// True when a deposit is priced, and its block canonical: then it should have been readable.
async fn is_priced(tx: &mut Tx, id: DepositId) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT 1 FROM deposits d
         JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = d.block_hash
         WHERE d.deposit_id = $1 AND d.stage = 'priced' AND b.canonical = 1",
    )
    .bind(id.0.to_vec())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("read a deposit"))?;
    Ok(row.is_some())
}

/// A priced deposit that cannot be posted waits for a person.
async fn hold(
    tx: &mut Tx,
    id: DepositId,
    reason: HoldReason,
    now_ms: i64,
) -> Result<(), StoreError> {
    let held = Stage::Priced.next(Event::Hold(reason))?;
    set_stage(tx, id, Stage::Priced, held, now_ms).await
}

/// A priced deposit with its fixed price, read in the transaction that credits it. Every row it
/// rests on must agree: one that was changed by hand is not credited.
async fn priced(tx: &mut Tx, id: DepositId) -> Result<Option<Priced>, StoreError> {
    let row = sqlx::query(
        "SELECT d.chain_id, d.tx_hash, d.token, d.recipient, d.n, d.stage, d.reason,
                d.block_hash, d.block_number, d.log_index, n.name, s.sender,
                c.policy, c.head_number, c.head_hash, c.receipt_provider,
                p.epoch_id, p.rule, p.asset, p.raw_amount, p.decimals, p.credits_per_token,
                p.credits_nano, e.body_hash, b.block_time_ms, b.canonical
         FROM deposits d
         JOIN namespaces n ON n.namespace_id = d.namespace_id
         JOIN addresses a ON a.address_id = d.address_id AND a.address = d.recipient
                         AND a.namespace_id = d.namespace_id
         JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = d.block_hash
         JOIN sightings s ON s.chain_id = d.chain_id AND s.block_hash = d.block_hash
                         AND s.log_index = d.log_index AND s.deposit_id = d.deposit_id
                         AND s.raw_amount = d.raw_amount AND s.malformed IS NULL
         JOIN confirmations c ON c.deposit_id = d.deposit_id AND c.block_hash = d.block_hash
                             AND c.log_index = d.log_index
         JOIN prices p ON p.deposit_id = d.deposit_id AND p.block_hash = d.block_hash
                      AND p.log_index = d.log_index AND p.raw_amount = d.raw_amount
         JOIN epochs e ON e.epoch_id = p.epoch_id
         WHERE d.deposit_id = $1 AND d.stage = 'priced' AND b.canonical = 1",
    )
    .bind(id.0.to_vec())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("read a priced deposit"))?;
    let Some(row) = row else { return Ok(None) };
    stage_of(&row)?;
    let chain = ChainId(row.uint("deposits", "chain_id")?);
    let block: BlockRef = row.block_ref("deposits")?;
    let rate = row.parsed("prices", "credits_per_token")?;
    let valuation = match row.text("prices", "rule")?.as_str() {
        "par" => Valuation::Par { credits_per_usd: rate },
        "fixed" => Valuation::Fixed { credits_per_token: rate },
        _ => return Err(corrupt("prices", "rule", "not a rule")),
    };
    Ok(Some(Priced {
        facts: CreditFacts {
            namespace: row.text("namespaces", "name")?,
            deposit: DepositKey {
                chain,
                tx_hash: row.b256("deposits", "tx_hash")?,
                token: row.address("deposits", "token")?,
                recipient: row.address("deposits", "recipient")?,
                shape: Shape::Transfer,
                n: row.uint32("deposits", "n")?,
            },
            sighting: SightingKey {
                chain,
                block_hash: block.hash,
                log_index: row.uint("deposits", "log_index")?,
            },
            block_number: block.number,
            block_time_ms: row.int("blocks", "block_time_ms")?,
            sender: row.address("sightings", "sender")?,
            finality: row.text("confirmations", "policy")?,
            head: BlockRef {
                number: row.uint("confirmations", "head_number")?,
                hash: row.b256("confirmations", "head_hash")?,
            },
            receipt_provider: row.text("confirmations", "receipt_provider")?,
            epoch_hash: row.b256("epochs", "body_hash")?,
        },
        price: Price {
            epoch_id: row.text("prices", "epoch_id")?,
            valuation,
            asset: row.text("prices", "asset")?,
            raw: row.amount("prices", "raw_amount")?,
            decimals: row.uint8("prices", "decimals")?,
            credits: Nanocredits(row.int("prices", "credits_nano")?),
        },
    }))
}

/// The namespace's balance with `credits` more; `None` where an `i64` does not hold it.
async fn balance_after(
    tx: &mut Tx,
    namespace: &str,
    credits: Nanocredits,
) -> Result<Option<Nanocredits>, StoreError> {
    let row = sqlx::query("SELECT balance_nano FROM accounts WHERE account = $1")
        .bind(namespace_account(namespace))
        .fetch_optional(&mut **tx)
        .await
        .map_err(StoreError::doing("read a balance"))?;
    let balance = match row {
        Some(row) => Nanocredits(row.int("accounts", "balance_nano")?),
        None => Nanocredits::ZERO,
    };
    Ok(balance.checked_add(credits))
}

/// Writes a posting with everything that belongs to it, and returns its hash.
async fn write(
    tx: &mut Tx,
    draft: Draft,
    seq: i64,
    prev_hash: B256,
    facts: &CreditFacts,
    balance: Nanocredits,
    now_ms: i64,
) -> Result<B256, StoreError> {
    const DOING: &str = "write a posting";
    let posting = draft.seal(seq, prev_hash, now_ms);
    let amount = posting.entries.first().map_or(Nanocredits::ZERO, |e| e.amount);
    sqlx::query(
        "INSERT INTO postings (seq, posting_id, kind, deposit_id, effective_at_ms, recorded_at_ms,
                               evidence, prev_hash, hash)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(posting.seq)
    .bind(posting.id.0.to_vec())
    .bind(&posting.kind)
    .bind(posting.deposit.0.to_vec())
    .bind(posting.effective_at_ms)
    .bind(posting.recorded_at_ms)
    .bind(&posting.evidence)
    .bind(posting.prev_hash.to_vec())
    .bind(posting.hash.to_vec())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    sqlx::query("INSERT INTO accounts (account) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(ACCOUNT_ISSUED_PAID)
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing(DOING))?;
    sqlx::query(
        "INSERT INTO accounts (account, namespace_id, balance_nano)
         SELECT $1, namespace_id, $3 FROM namespaces WHERE name = $2
         ON CONFLICT (account) DO UPDATE SET balance_nano = excluded.balance_nano",
    )
    .bind(namespace_account(&facts.namespace))
    .bind(&facts.namespace)
    .bind(balance.0)
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    for (leg, entry) in (0i64..).zip(&posting.entries) {
        sqlx::query(
            "INSERT INTO entries (posting_seq, leg, account, side, amount_nano)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(seq)
        .bind(leg)
        .bind(&entry.account)
        .bind(entry.side.as_str())
        .bind(entry.amount.0)
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing(DOING))?;
    }
    sqlx::query(
        "INSERT INTO lots (posting_seq, namespace_id, kind, priority, amount_nano, remaining_nano,
                           effective_at_ms)
         SELECT $1, namespace_id, 'paid', 0, $3, $3, $4 FROM namespaces WHERE name = $2",
    )
    .bind(seq)
    .bind(&facts.namespace)
    .bind(amount.0)
    .bind(posting.effective_at_ms)
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    sqlx::query(
        "INSERT INTO outbox (event_id, kind, posting_seq, created_at_ms) VALUES ($1, $2, $3, $4)",
    )
    .bind(event_id(posting.id).to_vec())
    .bind("deposit.credited")
    .bind(seq)
    .bind(now_ms)
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    Ok(posting.hash)
}

/// The id under which a receiver recognises an event it has had before.
pub(super) fn event_id(posting: PostingId) -> B256 {
    let mut bytes = Canonical::new("topupd/event/v1");
    bytes.text("deposit.credited").bytes(posting.0.as_slice());
    bytes.finish()
}

async fn stored_posting(tx: &mut Tx, id: PostingId) -> Result<Option<Posting>, StoreError> {
    const DOING: &str = "look up a posting";
    let row = sqlx::query(
        "SELECT seq, posting_id, kind, deposit_id, effective_at_ms, recorded_at_ms, evidence,
                prev_hash, hash FROM postings WHERE posting_id = $1",
    )
    .bind(id.0.to_vec())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    let Some(row) = row else { return Ok(None) };
    let mut posting = posting_row(&row)?;
    let entries = sqlx::query(
        "SELECT account, side, amount_nano FROM entries WHERE posting_seq = $1 ORDER BY leg",
    )
    .bind(posting.seq)
    .fetch_all(&mut **tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    posting.entries = entries.iter().map(entry_row).collect::<Result<_, _>>()?;
    Ok(Some(posting))
}

/// A posting without its entries.
pub(super) fn posting_row(row: &sqlx::sqlite::SqliteRow) -> Result<Posting, StoreError> {
    Ok(Posting {
        seq: row.int("postings", "seq")?,
        id: PostingId(row.b256("postings", "posting_id")?),
        kind: row.text("postings", "kind")?,
        deposit: DepositId(row.b256("postings", "deposit_id")?),
        effective_at_ms: row.int("postings", "effective_at_ms")?,
        recorded_at_ms: row.int("postings", "recorded_at_ms")?,
        evidence: row.text("postings", "evidence")?,
        entries: Vec::new(),
        prev_hash: row.b256("postings", "prev_hash")?,
        hash: row.b256("postings", "hash")?,
    })
}

pub(super) fn entry_row(row: &sqlx::sqlite::SqliteRow) -> Result<Entry, StoreError> {
    Ok(Entry {
        account: row.text("entries", "account")?,
        side: side(&row.text("entries", "side")?)?,
        amount: Nanocredits(row.int("entries", "amount_nano")?),
    })
}

fn side(text: &str) -> Result<Side, StoreError> {
    match text {
        "debit" => Ok(Side::Debit),
        "credit" => Ok(Side::Credit),
        _ => Err(corrupt("entries", "side", "not a side")),
    }
}
