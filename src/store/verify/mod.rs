//! `ledger verify`: every posting, balance and credit computed again from what is stored.
//!
//! It trusts no derived value: hashes, amounts, balances and ids are recomputed, and every row a
//! posting rests on (deposit, sighting, block, confirmation, price, epoch, lot, event) must say
//! what the posting's evidence says. It repairs nothing.

mod again;
mod prices;

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, U256};

use super::db::{Row, Tx, query};
use super::engine::Store;
use super::errors::StoreError;
use super::ledger::{entry_row, posting_row};
use super::proofs::proofs;
use super::rests_on::{derives, rests_on, settles, undoes};
use super::screenings::{rest_on_answers, screenings};
use crate::domain::ledger::{
    ACCOUNT_ISSUED_PAID, Entry, Evidence, Posting, Side, genesis, is_house_account,
    namespace_account,
};
use crate::domain::money::RawAmount;
use crate::domain::pricing::epoch_hash;

pub use again::PriceAgain;

/// Postings read at a time.
const PAGE: i64 = 500;

/// The first row that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Table.
    pub table: &'static str,
    /// Which row.
    pub row: String,
    /// What is wrong.
    pub problem: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}: {}", self.table, self.row, self.problem)
    }
}

/// A ledger that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Number of postings.
    pub postings: i64,
    /// Hash of the last one, or the genesis.
    pub head: B256,
    /// Sum of all namespaces' balances, in nanocredits.
    pub total_nano: i128,
    /// Credits that stand though their block is canonical no more: the reorg was deeper than the
    /// policy, and they will be reversed.
    pub on_orphaned_blocks: i64,
    /// Credits that were undone by a later posting.
    pub reversed: i64,
    /// Credits whose receipt is proved against its block's hash, by what is kept.
    pub proved: i64,
}

pub(super) type Check<T> = Result<Result<T, Finding>, StoreError>;

/// Leaves with a finding unless the claim holds.
macro_rules! claim {
    ($holds:expr, $table:literal, $row:expr, $problem:expr) => {
        if !$holds {
            return Ok(Err(Finding {
                table: $table,
                row: $row.to_string(),
                problem: $problem.to_string(),
            }));
        }
    };
}

pub(super) use claim;

/// Passes a finding on, or takes the value.
macro_rules! holds {
    ($check:expr) => {
        match $check {
            Ok(value) => value,
            Err(finding) => return Ok(Err(finding)),
        }
    };
}

impl Store {
    /// Checks the whole ledger in one snapshot and stops at the first row that does not hold.
    ///
    /// # Errors
    /// When the database fails. A value that cannot be read is a finding, not an error.
    pub async fn verify(&self) -> Check<Verified> {
        match self.verify_rows().await {
            Err(StoreError::Corrupt { table, column, why }) => {
                Ok(Err(Finding { table, row: format!("column {column}"), problem: why }))
            }
            other => other,
        }
    }

    async fn verify_rows(&self) -> Check<Verified> {
        const DOING: &str = "verify the ledger";
        let mut tx = self.db.begin_read().await.map_err(StoreError::doing(DOING))?;
        tx.take_time().await.map_err(StoreError::doing(DOING))?;
        let stamped = query("SELECT network FROM installation")
            .fetch_one(&mut tx)
            .await
            .map_err(StoreError::doing(DOING))?
            .text("installation", "network")?;
        claim!(stamped == self.network.as_str(), "installation", "row 1", "another network");
        holds!(epochs(&mut tx).await?);

        let mut seq: i64 = 0;
        let mut hash = genesis(self.network);
        let (mut orphaned, mut proved) = (0i64, 0i64);
        let (mut reversals, mut settlements, mut obligations) = (0i64, 0i64, 0i64);
        let mut legs: i64 = 0;
        let mut sums: BTreeMap<String, i128> = BTreeMap::new();
        let mut derived: BTreeSet<Address> = BTreeSet::new();
        loop {
            let page = holds!(page(&mut tx, seq).await?);
            if page.is_empty() {
                break;
            }
            let mut naming = Vec::new();
            for (posting, row) in page {
                let expected = seq.saturating_add(1);
                let place = format!("seq {expected}");
                let evidence = match posting.check(expected, hash) {
                    Ok(evidence) => evidence,
                    Err(broken) => {
                        claim!(false, "postings", place, broken);
                        break;
                    }
                };
                match evidence {
                    Evidence::Credit(evidence) => {
                        holds!(rests_on(&posting, &evidence, &row)?);
                        if derived.insert(evidence.recipient) {
                            holds!(derives(&evidence, &row)?);
                        }
                        if evidence.conversion.as_ref().is_some_and(|c| c.into.is_some()) {
                            obligations = obligations.saturating_add(1);
                        }
                        if evidence.receipt_index.is_some() {
                            proved = proved.saturating_add(1);
                        }
                        let standing = row.is_null("reversed_by");
                        if standing && row.int("blocks", "canonical")? == 0 {
                            orphaned = orphaned.saturating_add(1);
                        }
                        if evidence.screenings.is_some() || evidence.acts.is_some() {
                            naming.push((posting.deposit, evidence));
                        }
                    }
                    Evidence::Reversal(evidence) => {
                        holds!(undoes(&posting, &evidence, &row)?);
                        reversals = reversals.saturating_add(1);
                    }
                    Evidence::Settlement(evidence) => {
                        holds!(settles(&posting, &evidence, &row)?);
                        settlements = settlements.saturating_add(1);
                    }
                }
                legs =
                    legs.saturating_add(i64::try_from(posting.entries.len()).unwrap_or(i64::MAX));
                for entry in &posting.entries {
                    let signed = match entry.side {
                        Side::Credit => i128::from(entry.amount.0),
                        Side::Debit => i128::from(entry.amount.0).saturating_neg(),
                    };
                    let sum = sums.entry(entry.account.clone()).or_insert(0);
                    *sum = sum.saturating_add(signed);
                }
                seq = expected;
                hash = posting.hash;
            }
            holds!(rest_on_answers(&mut tx, &naming).await?);
        }
        holds!(head(&mut tx, seq, hash).await?);
        let found = Counted { postings: seq, legs, reversals, settlements, obligations };
        holds!(counts(&mut tx, &found).await?);
        holds!(settled_within(&mut tx).await?);
        holds!(proofs(&mut tx).await?);
        holds!(screenings(&mut tx).await?);
        let total = holds!(balances(&mut tx, &sums).await?);
        Self::abandon(tx).await?;
        Ok(Ok(Verified {
            postings: seq,
            head: hash,
            total_nano: total,
            on_orphaned_blocks: orphaned,
            reversed: reversals,
            proved,
        }))
    }
}

/// Every epoch's hash and start follow from its text.
async fn epochs(tx: &mut Tx) -> Check<()> {
    let rows = query("SELECT epoch_id, starts_at_ms, body, body_hash FROM epochs")
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::doing("verify the epochs"))?;
    for row in rows {
        let id = row.text("epochs", "epoch_id")?;
        let body = row.text("epochs", "body")?;
        let json: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        let hash = row.b256("epochs", "body_hash")?;
        claim!(epoch_hash(&body) == hash, "epochs", id, "body_hash is not the hash of body");
        let starts = row.int("epochs", "starts_at_ms")?;
        let same = json.get("id").and_then(|v| v.as_str()) == Some(&id)
            && json.get("starts_at_ms").and_then(serde_json::Value::as_i64) == Some(starts);
        claim!(same, "epochs", id, "epoch_id or starts_at_ms is not what body says");
    }
    Ok(Ok(()))
}

/// The next postings, each with its entries and with the rows it rests on.
async fn page(tx: &mut Tx, after: i64) -> Check<Vec<(Posting, Row)>> {
    const DOING: &str = "read postings";
    let rows = query(
        "SELECT p.seq, p.posting_id, p.kind, p.deposit_id, p.effective_at_ms, p.recorded_at_ms,
                p.evidence, p.prev_hash, p.hash,
                d.chain_id, d.tx_hash, d.token, d.recipient, d.shape, d.n, d.stage, d.posting_seq,
                d.block_hash, d.block_number, d.log_index, d.raw_amount, d.namespace_id,
                n.name, a.address, a.namespace_id AS address_namespace_id,
                s.deposit_id AS s_deposit_id, s.tx_hash AS s_tx_hash, s.token AS s_token,
                s.recipient AS s_recipient, s.raw_amount AS s_raw_amount, s.sender,
                s.block_number AS s_block_number, s.provider AS s_provider, s.malformed, s.topics, s.data,
                b.block_number AS b_block_number, b.block_time_ms, b.canonical,
                c.head_number, c.policy, c.head_hash, c.receipt_provider, c.log_provider, c.verify,
                j.receipt_index, k.block_hash AS k_block_hash, k.log_index AS k_log_index, k.reversed_by,
                u.posting_seq AS u_posting_seq, u.block_hash AS u_block_hash,
                q.posting_id AS u_posting_id, q.hash AS u_hash, q.kind AS u_kind,
                q.deposit_id AS u_deposit_id, m.amount_nano AS u_amount_nano,
                a.origin, a.derivation_index, w.account_xpub,
                r.epoch_id, r.rule, r.asset, r.raw_amount AS r_raw_amount, r.decimals,
                r.credits_per_token, r.rounding, r.credits_nano, v.body AS conversion,
                g.chain_id AS g_chain_id, g.asset AS g_asset, g.raw_amount AS g_raw_amount,
                g.decimals AS g_decimals, g.into_asset, g.tokens, g.token_decimals,
                g.effective_at_ms AS g_effective_at_ms,
                t.obligation_seq, t.chain_id AS t_chain_id, t.tx_hash AS t_tx_hash,
                t.tokens AS t_tokens, h.block_hash AS h_block_hash, h.asset AS h_asset, h.paid,
                h.decimals AS h_decimals, h.into_asset AS h_into_asset, h.tokens AS h_tokens,
                x.posting_id AS x_posting_id, x.deposit_id AS x_deposit_id,
                y.asset AS y_asset, y.raw_amount AS y_raw_amount, y.decimals AS y_decimals,
                y.into_asset AS y_into_asset, y.tokens AS y_tokens,
                e.body, e.body_hash,
                (SELECT f.epoch_id FROM epochs f WHERE f.starts_at_ms <= b.block_time_ms
                  ORDER BY f.starts_at_ms DESC LIMIT 1) AS epoch_in_force,
                l.kind AS lot_kind, l.amount_nano, l.remaining_nano, l.priority,
                l.effective_at_ms AS l_effective_at_ms, l.expires_at_ms,
                l.namespace_id AS l_namespace_id, o.event_id, o.kind AS event_kind
         FROM postings p
         LEFT JOIN deposits d ON d.deposit_id = p.deposit_id
         LEFT JOIN namespaces n ON n.namespace_id = d.namespace_id
         LEFT JOIN addresses a ON a.address_id = d.address_id
         LEFT JOIN wallets w ON w.wallet_id = a.wallet_id
         LEFT JOIN credits k ON k.posting_seq = p.seq AND k.deposit_id = p.deposit_id
         LEFT JOIN credits u ON u.reversed_by = p.seq
         LEFT JOIN postings q ON q.seq = u.posting_seq
         LEFT JOIN lots m ON m.posting_seq = u.posting_seq
         LEFT JOIN sightings s ON s.chain_id = d.chain_id AND s.block_hash = k.block_hash
                              AND s.log_index = k.log_index
         LEFT JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = k.block_hash
         LEFT JOIN confirmations c ON c.deposit_id = d.deposit_id
                              AND c.block_hash = k.block_hash AND c.log_index = k.log_index
                              AND c.reversals = (SELECT COUNT(*) FROM credits z
                                WHERE z.deposit_id = k.deposit_id AND z.posting_seq < k.posting_seq)
         LEFT JOIN receipt_proofs j ON j.chain_id = d.chain_id AND j.block_hash = k.block_hash
                              AND j.tx_hash = d.tx_hash
         LEFT JOIN prices r ON r.deposit_id = d.deposit_id
                              AND r.block_hash = k.block_hash AND r.log_index = k.log_index
         LEFT JOIN conversions v ON v.deposit_id = d.deposit_id
                              AND v.block_hash = k.block_hash AND v.log_index = k.log_index
         LEFT JOIN obligations g ON g.posting_seq = p.seq
         LEFT JOIN settlements t ON t.posting_seq = p.seq
         LEFT JOIN purchases h ON h.chain_id = t.chain_id AND h.tx_hash = t.tx_hash
         LEFT JOIN postings x ON x.seq = t.obligation_seq
         LEFT JOIN obligations y ON y.posting_seq = t.obligation_seq
         LEFT JOIN epochs e ON e.epoch_id = r.epoch_id
         LEFT JOIN lots l ON l.posting_seq = p.seq
         LEFT JOIN outbox o ON o.posting_seq = p.seq
         WHERE p.seq > $1 ORDER BY p.seq LIMIT $2",
    )
    .bind(after)
    .bind(PAGE)
    .fetch_all(&mut *tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    let mut postings = Vec::with_capacity(rows.len());
    for row in rows {
        postings.push((posting_row(&row)?, row));
    }
    let Some((last, _)) = postings.last() else { return Ok(Ok(postings)) };
    let legs = query(
        "SELECT posting_seq, leg, account, side, amount_nano FROM entries
         WHERE posting_seq > $1 AND posting_seq <= $2 ORDER BY posting_seq, leg",
    )
    .bind(after)
    .bind(last.seq)
    .fetch_all(&mut *tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    let mut entries: BTreeMap<i64, Vec<Entry>> = BTreeMap::new();
    for leg in legs {
        let seq = leg.int("entries", "posting_seq")?;
        let of_posting = entries.entry(seq).or_default();
        let number = i64::try_from(of_posting.len()).unwrap_or(i64::MAX);
        claim!(
            leg.int("entries", "leg")? == number,
            "entries",
            format!("seq {seq}"),
            "legs are not numbered from 0"
        );
        of_posting.push(entry_row(&leg)?);
    }
    for (posting, _) in &mut postings {
        posting.entries = entries.remove(&posting.seq).unwrap_or_default();
    }
    claim!(entries.is_empty(), "entries", "a leg", "belongs to no posting");
    Ok(Ok(postings))
}

async fn head(tx: &mut Tx, seq: i64, hash: B256) -> Check<()> {
    let row = query("SELECT seq, hash FROM ledger_head")
        .fetch_one(&mut *tx)
        .await
        .map_err(StoreError::doing("verify the ledger's head"))?;
    let stored = (row.int("ledger_head", "seq")?, row.b256("ledger_head", "hash")?);
    claim!(
        stored == (seq, hash),
        "ledger_head",
        format!("seq {}", stored.0),
        format!("the last posting is seq {seq} {hash}")
    );
    Ok(Ok(()))
}

/// How many postings of which kind there are.
struct Counted {
    postings: i64,
    legs: i64,
    reversals: i64,
    settlements: i64,
    obligations: i64,
}

/// No more is settled than is owed, and no more by a purchase than it bought.
async fn settled_within(tx: &mut Tx) -> Check<()> {
    let rows = query(
        "SELECT s.obligation_seq, s.chain_id, s.tx_hash, s.tokens, o.tokens AS owed,
                h.tokens AS bought
         FROM settlements s
         JOIN obligations o ON o.posting_seq = s.obligation_seq
         JOIN purchases h ON h.chain_id = s.chain_id AND h.tx_hash = s.tx_hash",
    )
    .fetch_all(tx)
    .await
    .map_err(StoreError::doing("add up settlements"))?;
    let mut sums: BTreeMap<String, (RawAmount, RawAmount)> = BTreeMap::new();
    for row in rows {
        let purchase = row.b256("settlements", "tx_hash")?;
        let obligation = row.int("settlements", "obligation_seq")?;
        let part = row.amount("settlements", "tokens")?;
        for (of, most) in [
            (format!("obligation {obligation}"), row.amount("obligations", "owed")?),
            (format!("purchase {purchase}"), row.amount("purchases", "bought")?),
        ] {
            let (sum, _) = sums.entry(of).or_insert((RawAmount::ZERO, most));
            *sum = sum.checked_add(part).unwrap_or(RawAmount(U256::MAX));
        }
    }
    for (of, (sum, most)) in sums {
        claim!(sum <= most, "settlements", of, "more is settled than there is");
    }
    Ok(Ok(()))
}

/// Nothing claims a posting that is not there.
async fn counts(tx: &mut Tx, found: &Counted) -> Check<()> {
    let Counted { postings, legs, reversals, settlements, obligations } = *found;
    let row = query(
        "SELECT (SELECT COUNT(*) FROM deposits WHERE stage = 'credited') AS deposits,
                (SELECT COUNT(*) FROM credits) AS credits,
                (SELECT COUNT(*) FROM lots) AS lots, (SELECT COUNT(*) FROM outbox) AS outbox,
                (SELECT COUNT(*) FROM entries) AS entries,
                (SELECT COUNT(*) FROM settlements) AS settlements,
                (SELECT COUNT(*) FROM obligations) AS obligations",
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(StoreError::doing("count what rests on postings"))?;
    let credits = postings.saturating_sub(reversals).saturating_sub(settlements);
    let standing = credits.saturating_sub(reversals);
    let expected = [
        ("deposits", standing),
        ("credits", credits),
        ("lots", credits),
        ("outbox", postings),
        ("entries", legs),
        ("settlements", settlements),
        ("obligations", obligations),
    ];
    for (table, expected) in expected {
        let found = row.int(table, table)?;
        if found != expected {
            let problem = format!("{found} rows belong to {postings} postings, not {expected}");
            return Ok(Err(Finding { table, row: "count".into(), problem }));
        }
    }
    Ok(Ok(()))
}

/// Stored balances are the sums of the entries. Returns what all namespaces hold together.
async fn balances(tx: &mut Tx, sums: &BTreeMap<String, i128>) -> Check<i128> {
    let rows = query(
        "SELECT a.account, a.balance_nano, n.name FROM accounts a
         LEFT JOIN namespaces n ON n.namespace_id = a.namespace_id ORDER BY a.account",
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(StoreError::doing("verify the balances"))?;
    let mut total: i128 = 0;
    for row in &rows {
        let account = row.text("accounts", "account")?;
        let Some(sum) = sums.get(&account).copied() else {
            claim!(false, "accounts", account, "no entry names this account");
            continue;
        };
        let Some(name) = row.opt_text("namespaces", "name")? else {
            claim!(is_house_account(&account), "accounts", account, "belongs to no namespace");
            continue;
        };
        claim!(
            account == namespace_account(&name),
            "accounts",
            account,
            format!("belongs to namespace {name}")
        );
        let balance = row.int("accounts", "balance_nano")?;
        claim!(
            i128::from(balance) == sum,
            "accounts",
            account,
            format!("balance_nano is {balance}, its entries sum to {sum}")
        );
        total = total.saturating_add(sum);
    }
    claim!(
        rows.len() == sums.len(),
        "accounts",
        "count",
        "an entry names an account that is not there"
    );
    let issued = sums.get(ACCOUNT_ISSUED_PAID).copied().unwrap_or(0);
    claim!(
        total == issued.saturating_neg(),
        "accounts",
        ACCOUNT_ISSUED_PAID,
        "does not stand against the namespaces' balances"
    );
    Ok(Ok(total))
}
