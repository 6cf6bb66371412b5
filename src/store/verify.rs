//! `ledger verify`: every posting, balance and credit computed again from what is stored.
//!
//! It trusts no derived value: hashes, amounts, balances and ids are recomputed, and every row a
//! posting rests on (deposit, sighting, block, confirmation, price, epoch, lot, event) must say
//! what the posting's evidence says. It repairs nothing.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256};
use sqlx::sqlite::SqliteRow;

use super::engine::{Store, StoreError, Tx};
use super::ledger::{entry_row, event_id, posting_row};
use super::rows::Cells;
use crate::domain::ids::SightingKey;
use crate::domain::ledger::{
    ACCOUNT_ISSUED_PAID, DepositCredit, Entry, Posting, Side, genesis, namespace_account,
};
use crate::domain::pricing::epoch_hash;
use crate::domain::wallet::AccountXpub;

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
    /// Postings whose block is canonical no more: the reorg was deeper than the policy.
    pub on_orphaned_blocks: i64,
}

type Check<T> = Result<Result<T, Finding>, StoreError>;

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
        let mut tx = self.reader.begin().await.map_err(StoreError::doing(DOING))?;
        let stamped = sqlx::query("SELECT network FROM installation")
            .fetch_one(&mut *tx)
            .await
            .map_err(StoreError::doing(DOING))?
            .text("installation", "network")?;
        claim!(stamped == self.network.as_str(), "installation", "row 1", "another network");
        holds!(epochs(&mut tx).await?);

        let mut seq: i64 = 0;
        let mut hash = genesis(self.network);
        let mut orphaned: i64 = 0;
        let mut sums: BTreeMap<String, i128> = BTreeMap::new();
        let mut derived: BTreeSet<Address> = BTreeSet::new();
        loop {
            let page = holds!(page(&mut tx, seq).await?);
            if page.is_empty() {
                break;
            }
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
                holds!(rests_on(&posting, &evidence, &row)?);
                if derived.insert(evidence.recipient) {
                    holds!(derives(&evidence, &row)?);
                }
                if row.int("blocks", "canonical")? == 0 {
                    orphaned = orphaned.saturating_add(1);
                }
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
        }
        holds!(head(&mut tx, seq, hash).await?);
        holds!(counts(&mut tx, seq).await?);
        let total = holds!(balances(&mut tx, &sums).await?);
        Ok(Ok(Verified {
            postings: seq,
            head: hash,
            total_nano: total,
            on_orphaned_blocks: orphaned,
        }))
    }
}

/// Every epoch's hash and start follow from its text.
async fn epochs(tx: &mut Tx) -> Check<()> {
    let rows = sqlx::query("SELECT epoch_id, starts_at_ms, body, body_hash FROM epochs")
        .fetch_all(&mut **tx)
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
async fn page(tx: &mut Tx, after: i64) -> Check<Vec<(Posting, SqliteRow)>> {
    const DOING: &str = "read postings";
    let rows = sqlx::query(
        "SELECT p.seq, p.posting_id, p.kind, p.deposit_id, p.effective_at_ms, p.recorded_at_ms,
                p.evidence, p.prev_hash, p.hash,
                d.chain_id, d.tx_hash, d.token, d.recipient, d.shape, d.n, d.stage, d.posting_seq,
                d.block_hash, d.block_number, d.log_index, d.raw_amount, d.namespace_id,
                n.name, a.address, a.namespace_id AS address_namespace_id,
                s.deposit_id AS s_deposit_id, s.tx_hash AS s_tx_hash, s.token AS s_token,
                s.recipient AS s_recipient, s.raw_amount AS s_raw_amount, s.sender,
                s.block_number AS s_block_number,
                b.block_number AS b_block_number, b.block_time_ms, b.canonical,
                c.head_number, c.policy, c.head_hash, c.receipt_provider,
                a.origin, a.derivation_index, w.account_xpub,
                r.epoch_id, r.rule, r.asset, r.raw_amount AS r_raw_amount, r.decimals,
                r.credits_per_token, r.rounding, r.credits_nano,
                e.body, e.body_hash,
                (SELECT x.epoch_id FROM epochs x WHERE x.starts_at_ms <= b.block_time_ms
                  ORDER BY x.starts_at_ms DESC LIMIT 1) AS epoch_in_force,
                l.kind AS lot_kind, l.amount_nano, l.remaining_nano, l.priority,
                l.effective_at_ms AS l_effective_at_ms, l.expires_at_ms,
                l.namespace_id AS l_namespace_id, o.event_id, o.kind AS event_kind
         FROM postings p
         LEFT JOIN deposits d ON d.deposit_id = p.deposit_id
         LEFT JOIN namespaces n ON n.namespace_id = d.namespace_id
         LEFT JOIN addresses a ON a.address_id = d.address_id
         LEFT JOIN wallets w ON w.wallet_id = a.wallet_id
         LEFT JOIN sightings s ON s.chain_id = d.chain_id AND s.block_hash = d.block_hash
                              AND s.log_index = d.log_index
         LEFT JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = d.block_hash
         LEFT JOIN confirmations c ON c.deposit_id = d.deposit_id
                              AND c.block_hash = d.block_hash AND c.log_index = d.log_index
         LEFT JOIN prices r ON r.deposit_id = d.deposit_id
                              AND r.block_hash = d.block_hash AND r.log_index = d.log_index
         LEFT JOIN epochs e ON e.epoch_id = r.epoch_id
         LEFT JOIN lots l ON l.posting_seq = p.seq
         LEFT JOIN outbox o ON o.posting_seq = p.seq
         WHERE p.seq > $1 ORDER BY p.seq LIMIT $2",
    )
    .bind(after)
    .bind(PAGE)
    .fetch_all(&mut **tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    let mut postings = Vec::with_capacity(rows.len());
    for row in rows {
        postings.push((posting_row(&row)?, row));
    }
    let Some((last, _)) = postings.last() else { return Ok(Ok(postings)) };
    let legs = sqlx::query(
        "SELECT posting_seq, leg, account, side, amount_nano FROM entries
         WHERE posting_seq > $1 AND posting_seq <= $2 ORDER BY posting_seq, leg",
    )
    .bind(after)
    .bind(last.seq)
    .fetch_all(&mut **tx)
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

/// Every row a posting rests on says what its evidence says.
fn rests_on(posting: &Posting, evidence: &DepositCredit, row: &SqliteRow) -> Check<()> {
    let deposit = format!("deposit {}", posting.deposit);
    for (table, column) in [
        ("deposits", "stage"),
        ("addresses", "address"),
        ("sightings", "sender"),
        ("blocks", "block_time_ms"),
        ("confirmations", "policy"),
        ("prices", "rule"),
        ("epochs", "body"),
        ("lots", "lot_kind"),
        ("outbox", "event_kind"),
    ] {
        use sqlx::{Row, ValueRef};
        let missing = row.try_get_raw(column).is_ok_and(|v| v.is_null());
        if missing {
            let problem = "the row that a posting rests on is missing".to_owned();
            return Ok(Err(Finding { table, row: deposit, problem }));
        }
    }

    claim!(
        row.text("deposits", "stage")? == "credited",
        "deposits",
        deposit,
        "stage is not credited"
    );
    claim!(
        row.int("deposits", "posting_seq")? == posting.seq,
        "deposits",
        deposit,
        "posting_seq is another posting"
    );
    let key = (
        row.uint("deposits", "chain_id")?,
        row.b256("deposits", "tx_hash")?,
        row.address("deposits", "token")?,
        row.address("deposits", "recipient")?,
        row.text("deposits", "shape")?,
        row.uint32("deposits", "n")?,
    );
    let claimed = (
        evidence.chain_id.0,
        evidence.tx_hash,
        evidence.token,
        evidence.recipient,
        "transfer".to_owned(),
        evidence.n,
    );
    claim!(
        key == claimed,
        "deposits",
        deposit,
        "chain, transaction, token, recipient, shape or n differ from the evidence"
    );
    let place = SightingKey {
        chain: evidence.chain_id,
        block_hash: row.b256("deposits", "block_hash")?,
        log_index: row.uint("deposits", "log_index")?,
    };
    claim!(
        place == evidence.sighting_key(),
        "deposits",
        deposit,
        "block_hash or log_index differs from the evidence"
    );
    claim!(
        row.uint("deposits", "block_number")? == evidence.block_number,
        "deposits",
        deposit,
        "block_number differs from the evidence"
    );
    claim!(
        row.amount("deposits", "raw_amount")? == evidence.raw_amount,
        "deposits",
        deposit,
        "raw_amount differs from the evidence"
    );
    claim!(
        row.text("namespaces", "name")? == evidence.namespace,
        "deposits",
        deposit,
        "namespace differs from the evidence"
    );
    claim!(
        row.address("addresses", "address")? == evidence.recipient,
        "addresses",
        evidence.recipient,
        "address differs from the recipient credited"
    );
    claim!(
        row.int("addresses", "address_namespace_id")? == row.int("deposits", "namespace_id")?,
        "addresses",
        evidence.recipient,
        "bound to another namespace than was credited"
    );

    let sighting = (
        row.b256("sightings", "s_deposit_id")?,
        row.b256("sightings", "s_tx_hash")?,
        row.address("sightings", "s_token")?,
        row.address("sightings", "s_recipient")?,
        row.amount("sightings", "s_raw_amount")?,
        row.address("sightings", "sender")?,
        row.uint("sightings", "s_block_number")?,
    );
    let claimed = (
        posting.deposit.0,
        evidence.tx_hash,
        evidence.token,
        evidence.recipient,
        evidence.raw_amount,
        evidence.sender,
        evidence.block_number,
    );
    claim!(sighting == claimed, "sightings", deposit, "differs from the evidence");
    let block = (row.uint("blocks", "b_block_number")?, row.int("blocks", "block_time_ms")?);
    claim!(
        block == (evidence.block_number, evidence.block_time_ms),
        "blocks",
        evidence.block_hash,
        "number or time differs from the evidence"
    );
    let confirmation = (
        row.text("confirmations", "policy")?,
        row.uint("confirmations", "head_number")?,
        row.b256("confirmations", "head_hash")?,
        row.text("confirmations", "receipt_provider")?,
    );
    let claimed = (
        evidence.finality.clone(),
        evidence.head_number,
        evidence.head_hash,
        evidence.receipt_provider.clone(),
    );
    claim!(confirmation == claimed, "confirmations", deposit, "differs from the evidence");

    let price = (
        row.text("prices", "epoch_id")?,
        row.text("prices", "rule")?,
        row.text("prices", "asset")?,
        row.amount("prices", "r_raw_amount")?,
        row.uint8("prices", "decimals")?,
        row.text("prices", "credits_per_token")?,
        row.text("prices", "rounding")?,
        row.int("prices", "credits_nano")?,
    );
    let claimed = (
        evidence.epoch.clone(),
        evidence.rule.clone(),
        evidence.asset.clone(),
        evidence.raw_amount,
        evidence.decimals,
        evidence.credits_per_token.to_string(),
        evidence.rounding.clone(),
        evidence.credits_nano.0,
    );
    claim!(price == claimed, "prices", deposit, "differs from the evidence");
    claim!(
        row.b256("epochs", "body_hash")? == evidence.epoch_hash,
        "epochs",
        evidence.epoch,
        "is not the text the posting names"
    );
    claim!(
        row.text("epochs", "epoch_in_force")? == evidence.epoch,
        "epochs",
        evidence.epoch,
        "was not in force at the block's time"
    );
    claim!(
        rate_in(&row.text("epochs", "body")?, evidence),
        "epochs",
        evidence.epoch,
        "does not give the rate that the posting used"
    );

    let lot = (
        row.text("lots", "lot_kind")?,
        row.int("lots", "amount_nano")?,
        row.int("lots", "remaining_nano")?,
        row.int("lots", "priority")?,
        row.int("lots", "l_effective_at_ms")?,
        row.opt_int("lots", "expires_at_ms")?,
        row.int("lots", "l_namespace_id")?,
    );
    // Nothing burns credits yet, so every paid lot is whole.
    let amount = evidence.credits_nano.0;
    let namespace = row.int("deposits", "namespace_id")?;
    let claimed = ("paid".to_owned(), amount, amount, 0, posting.effective_at_ms, None, namespace);
    claim!(lot == claimed, "lots", format!("seq {}", posting.seq), "differs from its posting");
    let event = (row.b256("outbox", "event_id")?, row.text("outbox", "event_kind")?);
    claim!(
        event == (event_id(posting.id), "deposit.credited".to_owned()),
        "outbox",
        format!("seq {}", posting.seq),
        "is not the posting's event"
    );
    Ok(Ok(()))
}

/// A derived address is the child of its account key that it is said to be.
fn derives(evidence: &DepositCredit, row: &SqliteRow) -> Check<()> {
    let address = evidence.recipient;
    let Some(xpub) = row.opt_text("wallets", "account_xpub")? else {
        let imported = row.text("addresses", "origin")? == "imported";
        claim!(imported, "addresses", address, "is derived, and its account key is missing");
        return Ok(Ok(()));
    };
    let index = row.uint32("addresses", "derivation_index")?;
    let child = AccountXpub::parse(&xpub).and_then(|xpub| xpub.address(index));
    claim!(
        child == Ok(address),
        "addresses",
        address,
        format!("is not child {index} of its account key")
    );
    claim!(
        row.text("addresses", "origin")? == "derived",
        "addresses",
        address,
        "has an account key, and is not derived"
    );
    Ok(Ok(()))
}

/// True when the epoch's text gives the asset the rule and rate of the evidence.
fn rate_in(body: &str, evidence: &DepositCredit) -> bool {
    let json: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let terms = json.get("accept").and_then(|accept| accept.get(&evidence.asset));
    let word = |key: &str| terms.and_then(|t| t.get(key)).and_then(|v| v.as_str());
    let rate = word("credits_per_usd").or_else(|| word("credits_per_token"));
    word("valuation") == Some(&evidence.rule)
        && rate == Some(&evidence.credits_per_token.to_string())
}

async fn head(tx: &mut Tx, seq: i64, hash: B256) -> Check<()> {
    let row = sqlx::query("SELECT seq, hash FROM ledger_head")
        .fetch_one(&mut **tx)
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

/// Nothing claims a posting that is not there.
async fn counts(tx: &mut Tx, postings: i64) -> Check<()> {
    let row = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM deposits WHERE posting_seq IS NOT NULL) AS deposits,
                (SELECT COUNT(*) FROM lots) AS lots, (SELECT COUNT(*) FROM outbox) AS outbox",
    )
    .fetch_one(&mut **tx)
    .await
    .map_err(StoreError::doing("count what rests on postings"))?;
    for table in ["deposits", "lots", "outbox"] {
        if row.int(table, table)? != postings {
            let problem =
                format!("{} rows claim one of {postings} postings", row.int(table, table)?);
            return Ok(Err(Finding { table, row: "count".into(), problem }));
        }
    }
    Ok(Ok(()))
}

/// Stored balances are the sums of the entries. Returns what all namespaces hold together.
async fn balances(tx: &mut Tx, sums: &BTreeMap<String, i128>) -> Check<i128> {
    let rows = sqlx::query(
        "SELECT a.account, a.balance_nano, n.name FROM accounts a
         LEFT JOIN namespaces n ON n.namespace_id = a.namespace_id ORDER BY a.account",
    )
    .fetch_all(&mut **tx)
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
            claim!(account == ACCOUNT_ISSUED_PAID, "accounts", account, "belongs to no namespace");
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
