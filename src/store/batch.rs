//! What one commit adds to the ledger: decided row by row, written table by table.
//!
//! Writers take the row of `ledger_head` first, so numbers have no gaps and hashes have one line
//! of descent. Which postings there are to be is decided by the commits that use this.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::B256;

use super::db::{Lock, Tx, Value, bulk, query};
use super::engine::Store;
use super::errors::StoreError;
use super::rows::{amount_bytes, to_int};
use super::stages::set_stages;
use crate::domain::deposit::{Event, HoldReason, Stage};
use crate::domain::ids::{DepositId, PostingId};
use crate::domain::ledger::{
    CreditFacts, Draft, KIND_DEPOSIT_REVERSAL, KIND_TREASURY_SETTLEMENT, is_house_account,
    namespace_account,
};
use crate::domain::money::Nanocredits;
use crate::domain::pricing::Price;
use crate::domain::seal::Canonical;

/// What one commit adds to the ledger: decided row by row, written table by table.
pub(super) struct Batch {
    /// By the store's clock, with the ledger's head in hand.
    pub(super) now_ms: i64,
    /// The time of its postings: now, and never before the posting before.
    pub(super) recorded_at_ms: i64,
    seq: i64,
    hash: B256,
    /// Balances by account, as they will be; `None` for an account that is not there yet.
    balances: BTreeMap<String, Option<Nanocredits>>,
    accounts: BTreeMap<String, i64>,
    /// Accounts of no namespace that entries name.
    house: BTreeSet<String>,
    postings: Vec<Vec<Value>>,
    entries: Vec<Vec<Value>>,
    lots: Vec<Vec<Value>>,
    events: Vec<Vec<Value>>,
    credits: Vec<Vec<Value>>,
    credited: Vec<Vec<Value>>,
    obligations: Vec<Vec<Value>>,
    held: Vec<(DepositId, Stage)>,
}

impl Batch {
    /// Takes the end of the chain of hashes until the transaction ends: whoever writes to the
    /// ledger, of whatever chain, comes here first and alone.
    pub(super) async fn begin(tx: &mut Tx, store: &Store) -> Result<Self, StoreError> {
        let head = query("SELECT seq, hash FROM ledger_head WHERE only_row = 1")
            .locked(Lock::Update)
            .fetch_one(&mut *tx)
            .await
            .map_err(StoreError::doing("take the ledger's head"))?;
        let seq = head.int("ledger_head", "seq")?;
        // Read when nobody else can write to the ledger any more: the head may have been waited for.
        let (now_ms, recorded_at_ms) = store.now_after(tx, seq).await?;
        Ok(Self {
            now_ms,
            recorded_at_ms,
            seq,
            hash: head.b256("ledger_head", "hash")?,
            balances: BTreeMap::new(),
            accounts: BTreeMap::new(),
            house: BTreeSet::new(),
            postings: Vec::new(),
            entries: Vec::new(),
            lots: Vec::new(),
            events: Vec::new(),
            credits: Vec::new(),
            credited: Vec::new(),
            obligations: Vec::new(),
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
    pub(super) fn hold(&mut self, id: DepositId, reason: HoldReason) -> Result<(), StoreError> {
        self.held.push((id, Stage::Priced.next(Event::Hold(reason))?));
        Ok(())
    }

    pub(super) fn credited(
        &mut self,
        id: DepositId,
        facts: &CreditFacts,
        seq: i64,
    ) -> Result<(), StoreError> {
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
    pub(super) fn post(
        &mut self,
        id: DepositId,
        draft: Draft,
        facts: &CreditFacts,
        namespace_id: i64,
        price: &Price,
    ) -> Result<Option<i64>, StoreError> {
        let credits = price.credits;
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
        // What was converted, the treasury has yet to buy.
        if let Some(into) = price.conversion.as_ref().and_then(|c| c.into.as_ref()) {
            self.obligations.push(vec![
                seq.into(),
                to_int(facts.deposit.chain.0, "chain id")?.into(),
                (&price.asset).into(),
                amount_bytes(price.raw).into(),
                i64::from(price.decimals).into(),
                (&into.asset).into(),
                amount_bytes(into.tokens).into(),
                i64::from(into.decimals).into(),
                effective_at_ms.into(),
            ]);
        }
        self.credited(id, facts, seq)?;
        Ok(Some(seq))
    }

    /// Adds a posting that changes a namespace's balance.
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
        let seq = self.append_posting(draft)?;
        self.balances.insert(account.clone(), Some(balance));
        self.accounts.insert(account, namespace_id);
        Ok(Some(seq))
    }

    /// Adds a posting with its entries and its event.
    pub(super) fn append_posting(&mut self, draft: Draft) -> Result<i64, StoreError> {
        let seq = self
            .seq
            .checked_add(1)
            .ok_or_else(|| StoreError::Refused("the ledger has no sequence number left".into()))?;
        let posting = draft.seal(seq, self.hash, self.recorded_at_ms);
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
            if is_house_account(&entry.account) {
                self.house.insert(entry.account.clone());
            }
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
            self.recorded_at_ms.into(),
        ]);
        (self.seq, self.hash) = (seq, posting.hash);
        Ok(seq)
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
        let house = self.house.into_iter().map(|account| vec![account.into()]).collect();
        for (sql, rows) in [
            ("INSERT INTO accounts (account) {rows} ON CONFLICT DO NOTHING", house),
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
                "INSERT INTO obligations (posting_seq, chain_id, asset, raw_amount, decimals,
                                          into_asset, tokens, token_decimals, effective_at_ms)
                 {rows}",
                self.obligations,
            ),
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
    match posting_kind {
        KIND_DEPOSIT_REVERSAL => "deposit.reversed",
        KIND_TREASURY_SETTLEMENT => "treasury.settled",
        _ => "deposit.credited",
    }
}

/// The id under which a receiver recognises an event it has had before.
pub(super) fn event_id(kind: &str, posting: PostingId) -> B256 {
    let mut bytes = Canonical::new("topupd/event/v1");
    bytes.text(kind).bytes(posting.0.as_slice());
    bytes.finish()
}
