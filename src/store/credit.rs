//! Commit 3: postings.
//!
//! Writers take the row of `ledger_head` first, so numbers have no gaps and hashes have one line
//! of descent. A posting, its entries, lot, balance, event and the deposit's stage are one commit.

use std::collections::BTreeMap;

use alloy::primitives::B256;

use super::db::{Lock, Row, Tx, Value, bulk, query};
use super::engine::Store;
use super::errors::StoreError;
use super::leases::LeasedStore;
use super::ledger::{entry_row, posting_row};
use super::rows::{corrupt, to_int};
use super::stages::{set_stages, stage_of};
use crate::domain::deposit::{Event, HoldReason, Stage};
use crate::domain::ids::{BlockRef, ChainId, DepositId, DepositKey, PostingId, Shape, SightingKey};
use crate::domain::ledger::{
    ACCOUNT_ISSUED_PAID, CreditFacts, Draft, KIND_DEPOSIT_REVERSAL, Posting, Written, draft_credit,
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

impl LeasedStore {
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
        if deposits.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.begin_held().await?;
        let mut batch = Batch::begin(&mut tx, now_ms).await?;
        let mut ready: Vec<(DepositId, Priced, Draft)> = Vec::new();
        let mut priced = priced(&mut tx, deposits).await?;
        for id in deposits {
            let Some(deposit) = priced.remove(id) else {
                if is_priced(&mut tx, *id).await? {
                    batch.hold(*id, HoldReason::Conflict)?;
                    tracing::error!(deposit.id = %id, "held: the rows it rests on disagree");
                }
                continue;
            };
            let draft = draft_credit(&deposit.facts, &deposit.price)
                .map_err(|e| StoreError::Refused(format!("cannot write the evidence: {e}")))?;
            ready.push((*id, deposit, draft));
        }
        batch.read_balances(&mut tx, ready.iter().map(|(_, d, _)| &d.facts.namespace)).await?;
        let mut stored = stored_postings(&mut tx, ready.iter().map(|(_, _, d)| d.id)).await?;
        let mut posted = Vec::with_capacity(ready.len());
        for (id, Priced { facts, namespace_id, price }, draft) in ready {
            let written = match stored.remove(&draft.id) {
                Some(stored) => match draft.differs_from(&stored) {
                    Some(field) => {
                        batch.hold(id, HoldReason::Conflict)?;
                        Written::Conflict { field }
                    }
                    None => {
                        batch.credited(id, &facts, stored.seq)?;
                        Written::Exists { seq: stored.seq }
                    }
                },
                None => match batch.post(id, draft, &facts, namespace_id, price.credits)? {
                    Some(seq) => Written::Created { seq },
                    None => {
                        batch.hold(id, HoldReason::Overflow)?;
                        continue;
                    }
                },
            };
            let (namespace, credits) = (facts.namespace, price.credits);
            posted.push(Posted { deposit: id, namespace, credits, written });
        }
        batch.write(&mut tx).await?;
        Store::commit(tx).await?;
        Ok(posted)
    }
}

struct Priced {
    facts: CreditFacts,
    namespace_id: i64,
    price: Price,
}

/// True when a deposit is priced, and its block canonical: then it should have been readable.
async fn is_priced(tx: &mut Tx, id: DepositId) -> Result<bool, StoreError> {
    let row = query(
        "SELECT 1 AS one FROM deposits d
         JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = d.block_hash
         WHERE d.deposit_id = $1 AND d.stage = 'priced' AND b.canonical = 1",
    )
    .bind(id.0)
    .fetch_optional(tx)
    .await
    .map_err(StoreError::doing("read a deposit"))?;
    Ok(row.is_some())
}

/// Priced deposits with their fixed prices, read in the transaction that credits them. Every row
/// that one rests on must agree: one that was changed by hand is not credited.
async fn priced(tx: &mut Tx, ids: &[DepositId]) -> Result<BTreeMap<DepositId, Priced>, StoreError> {
    bulk(
        "WITH d AS MATERIALIZED (SELECT * FROM deposits WHERE deposit_id {keys})
         SELECT d.deposit_id, d.namespace_id, d.chain_id, d.tx_hash, d.token, d.recipient, d.n, d.stage, d.reason,
                d.block_hash, d.block_number, d.log_index, n.name, s.sender,
                c.policy, c.head_number, c.head_hash, c.receipt_provider, c.log_provider, c.verify,
                (SELECT COUNT(*) FROM credits k WHERE k.deposit_id = d.deposit_id
                   AND k.reversed_by IS NOT NULL) AS reversals,
                p.epoch_id, p.rule, p.asset, p.raw_amount, p.decimals, p.credits_per_token,
                p.credits_nano, e.body_hash, b.block_time_ms, b.canonical
         FROM d
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
         WHERE d.stage = 'priced' AND b.canonical = 1",
        ids.iter().map(|id| vec![id.0.into()]).collect(),
    )
    .fetch_all(tx)
    .await
    .map_err(StoreError::doing("read priced deposits"))?
    .iter()
    .map(|row| Ok((DepositId(row.b256("deposits", "deposit_id")?), priced_row(row)?)))
    .collect()
}

fn priced_row(row: &Row) -> Result<Priced, StoreError> {
    stage_of(row)?;
    let chain = ChainId(row.uint("deposits", "chain_id")?);
    let block: BlockRef = row.block_ref("deposits")?;
    let rate = row.parsed("prices", "credits_per_token")?;
    let valuation = match row.text("prices", "rule")?.as_str() {
        "par" => Valuation::Par { credits_per_usd: rate },
        "fixed" => Valuation::Fixed { credits_per_token: rate },
        _ => return Err(corrupt("prices", "rule", "not a rule")),
    };
    Ok(Priced {
        namespace_id: row.int("deposits", "namespace_id")?,
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
            log_provider: row.opt_text("confirmations", "log_provider")?,
            verify: row.opt_text("confirmations", "verify")?,
            reversals: row.uint32("credits", "reversals")?,
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
    })
}

/// What one commit adds to the ledger: decided row by row, written table by table.
pub(super) struct Batch {
    now_ms: i64,
    seq: i64,
    hash: B256,
    /// Balances by account, as they will be; `None` for an account that is not there yet.
    balances: BTreeMap<String, Option<Nanocredits>>,
    accounts: BTreeMap<String, i64>,
    postings: Vec<Vec<Value>>,
    entries: Vec<Vec<Value>>,
    lots: Vec<Vec<Value>>,
    events: Vec<Vec<Value>>,
    credits: Vec<Vec<Value>>,
    credited: Vec<Vec<Value>>,
    held: Vec<(DepositId, Stage)>,
}

impl Batch {
    /// Takes the end of the chain of hashes until the transaction ends: whoever writes to the
    /// ledger, of whatever chain, comes here first and alone.
    pub(super) async fn begin(tx: &mut Tx, now_ms: i64) -> Result<Self, StoreError> {
        let head = query("SELECT seq, hash FROM ledger_head WHERE only_row = 1")
            .locked(Lock::Update)
            .fetch_one(tx)
            .await
            .map_err(StoreError::doing("take the ledger's head"))?;
        Ok(Self {
            now_ms,
            seq: head.int("ledger_head", "seq")?,
            hash: head.b256("ledger_head", "hash")?,
            balances: BTreeMap::new(),
            accounts: BTreeMap::new(),
            postings: Vec::new(),
            entries: Vec::new(),
            lots: Vec::new(),
            events: Vec::new(),
            credits: Vec::new(),
            credited: Vec::new(),
            held: Vec::new(),
        })
    }

    pub(super) async fn read_balances(
        &mut self,
        tx: &mut Tx,
        namespaces: impl Iterator<Item = &String>,
    ) -> Result<(), StoreError> {
        self.balances = namespaces.map(|name| (namespace_account(name), None)).collect();
        let names = self.balances.keys().map(|account| vec![account.into()]).collect();
        let rows = bulk("SELECT account, balance_nano FROM accounts WHERE account {keys}", names)
            .fetch_all(tx)
            .await
            .map_err(StoreError::doing("read balances"))?;
        for row in rows {
            let balance = Nanocredits(row.int("accounts", "balance_nano")?);
            self.balances.insert(row.text("accounts", "account")?, Some(balance));
        }
        Ok(())
    }

    /// A priced deposit that cannot be posted waits for a person.
    fn hold(&mut self, id: DepositId, reason: HoldReason) -> Result<(), StoreError> {
        self.held.push((id, Stage::Priced.next(Event::Hold(reason))?));
        Ok(())
    }

    fn credited(&mut self, id: DepositId, facts: &CreditFacts, seq: i64) -> Result<(), StoreError> {
        self.credited.push(vec![id.0.into(), seq.into(), self.now_ms.into()]);
        self.credits.push(vec![
            seq.into(),
            id.0.into(),
            facts.sighting.block_hash.into(),
            to_int(facts.sighting.log_index, "log index")?.into(),
        ]);
        Ok(())
    }

    /// Adds the posting of a credit with everything that belongs to it. `None` where an `i64` does
    /// not hold the balance any more.
    fn post(
        &mut self,
        id: DepositId,
        draft: Draft,
        facts: &CreditFacts,
        namespace_id: i64,
        credits: Nanocredits,
    ) -> Result<Option<i64>, StoreError> {
        let effective_at_ms = draft.effective_at_ms;
        let Some(seq) = self.append(draft, &facts.namespace, namespace_id, credits)? else {
            return Ok(None);
        };
        self.lots.push(vec![
            seq.into(),
            namespace_id.into(),
            "paid".into(),
            0i64.into(),
            credits.0.into(),
            credits.0.into(),
            effective_at_ms.into(),
        ]);
        self.credited(id, facts, seq)?;
        Ok(Some(seq))
    }

    /// Adds a posting that changes a namespace's balance, with its entries and its event.
    pub(super) fn append(
        &mut self,
        draft: Draft,
        namespace: &str,
        namespace_id: i64,
        change: Nanocredits,
    ) -> Result<Option<i64>, StoreError> {
        let account = namespace_account(namespace);
        let before = self.balances.get(&account).copied().flatten().unwrap_or(Nanocredits::ZERO);
        let Some(balance) = before.checked_add(change) else { return Ok(None) };
        let seq = self
            .seq
            .checked_add(1)
            .ok_or_else(|| StoreError::Refused("the ledger has no sequence number left".into()))?;
        let posting = draft.seal(seq, self.hash, self.now_ms);
        self.postings.push(vec![
            seq.into(),
            posting.id.0.into(),
            (&posting.kind).into(),
            posting.deposit.0.into(),
            posting.effective_at_ms.into(),
            posting.recorded_at_ms.into(),
            (&posting.evidence).into(),
            posting.prev_hash.into(),
            posting.hash.into(),
        ]);
        for (leg, entry) in (0i64..).zip(&posting.entries) {
            self.entries.push(vec![
                seq.into(),
                leg.into(),
                (&entry.account).into(),
                entry.side.as_str().into(),
                entry.amount.0.into(),
            ]);
        }
        let event = event_kind(&posting.kind);
        self.events.push(vec![
            event_id(event, posting.id).into(),
            event.into(),
            seq.into(),
            self.now_ms.into(),
        ]);
        self.balances.insert(account.clone(), Some(balance));
        self.accounts.insert(account, namespace_id);
        (self.seq, self.hash) = (seq, posting.hash);
        Ok(Some(seq))
    }

    pub(super) async fn write(self, tx: &mut Tx) -> Result<(), StoreError> {
        const DOING: &str = "write postings";
        set_stages(tx, &self.held, self.now_ms).await?;
        if self.postings.is_empty() && self.credited.is_empty() {
            return Ok(());
        }
        let accounts = self
            .accounts
            .into_iter()
            .map(|(account, namespace_id)| {
                let balance = self.balances.get(&account).copied().flatten();
                let balance = balance.unwrap_or(Nanocredits::ZERO);
                vec![account.into(), namespace_id.into(), balance.0.into()]
            })
            .collect();
        query("INSERT INTO accounts (account) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(ACCOUNT_ISSUED_PAID)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::doing(DOING))?;
        for (sql, rows) in [
            (
                "INSERT INTO accounts (account, namespace_id, balance_nano) {rows}
                 ON CONFLICT (account) DO UPDATE SET balance_nano = excluded.balance_nano",
                accounts,
            ),
            (
                "INSERT INTO postings (seq, posting_id, kind, deposit_id, effective_at_ms,
                                       recorded_at_ms, evidence, prev_hash, hash) {rows}",
                self.postings,
            ),
            (
                "INSERT INTO entries (posting_seq, leg, account, side, amount_nano) {rows}",
                self.entries,
            ),
            (
                "INSERT INTO lots (posting_seq, namespace_id, kind, priority, amount_nano,
                                   remaining_nano, effective_at_ms) {rows}",
                self.lots,
            ),
            (
                "INSERT INTO credits (posting_seq, deposit_id, block_hash, log_index) {rows}
                 ON CONFLICT DO NOTHING",
                self.credits,
            ),
            ("INSERT INTO outbox (event_id, kind, posting_seq, created_at_ms) {rows}", self.events),
            (
                "UPDATE deposits SET stage = 'credited', posting_seq = r.column2,
                   updated_at_ms = r.column3
                 FROM ({rows}) AS r WHERE deposits.deposit_id = r.column1",
                self.credited,
            ),
        ] {
            bulk(sql, rows).execute(tx).await.map_err(StoreError::doing(DOING))?;
        }
        query("UPDATE ledger_head SET seq = $1, hash = $2 WHERE only_row = 1")
            .bind(self.seq)
            .bind(self.hash)
            .execute(tx)
            .await
            .map_err(StoreError::doing(DOING))?;
        Ok(())
    }
}

/// What a posting of this kind is announced as.
pub(super) fn event_kind(posting_kind: &str) -> &'static str {
    if posting_kind == KIND_DEPOSIT_REVERSAL { "deposit.reversed" } else { "deposit.credited" }
}

/// The id under which a receiver recognises an event it has had before.
pub(super) fn event_id(kind: &str, posting: PostingId) -> B256 {
    let mut bytes = Canonical::new("topupd/event/v1");
    bytes.text(kind).bytes(posting.0.as_slice());
    bytes.finish()
}

/// Postings that were written before, with their entries.
async fn stored_postings(
    tx: &mut Tx,
    ids: impl Iterator<Item = PostingId>,
) -> Result<BTreeMap<PostingId, Posting>, StoreError> {
    const DOING: &str = "look up postings";
    let rows = bulk(
        "SELECT seq, posting_id, kind, deposit_id, effective_at_ms, recorded_at_ms, evidence,
                prev_hash, hash FROM postings WHERE posting_id {keys}",
        ids.map(|id| vec![id.0.into()]).collect(),
    )
    .fetch_all(tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    let mut postings = BTreeMap::new();
    for row in rows {
        let mut posting = posting_row(&row)?;
        posting.entries = query(
            "SELECT account, side, amount_nano FROM entries WHERE posting_seq = $1 ORDER BY leg",
        )
        .bind(posting.seq)
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::doing(DOING))?
        .iter()
        .map(entry_row)
        .collect::<Result<_, _>>()?;
        postings.insert(posting.id, posting);
    }
    Ok(postings)
}
