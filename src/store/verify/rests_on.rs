//! What credits rest on: each cause is built again by the function that the commit used, from the rows that
//! there are, and must be the one that was sealed; and every record that is announced has its event.
//!
//! A page's credits are looked at together. Nothing is kept from one page to the next but how many credits
//! were found of which sort, and the epochs.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256};

use super::finding::{Findings, Remedy};
use super::missing::named_row;
use crate::domain::finality::Verify;
use crate::domain::ids::DepositId;
use crate::domain::journal::{
    DepositCorrection, DepositCredit, EventKind, Record, first_difference,
};
use crate::domain::pricing::EpochBook;
use crate::domain::wallet::AccountXpub;
use crate::store::db::{Tx, bulk};
use crate::store::deposits::screenings::{acts_about, answers_about};
use crate::store::errors::StoreError;
use crate::store::ledger::corrections::correction_causes;
use crate::store::ledger::grounds::{Place, follows, grounds};
use crate::store::prices::epochs::stored_epochs;

/// Deposit addresses whose derivation was checked and is remembered.
const DERIVED_MAX: usize = 65_536;

/// A credit's cause, under the name of its record.
struct Cause {
    name: String,
    journal: i64,
    seq: i64,
    cause: DepositCredit,
}

/// A correction's cause, under the name of its record.
struct Corrected {
    name: String,
    journal: i64,
    seq: i64,
    cause: DepositCorrection,
}

/// What the records of a page rest on.
#[derive(Default)]
pub(super) struct RestsOn {
    credits: Vec<Cause>,
    corrections: Vec<Corrected>,
    events: Vec<(B256, EventKind, String)>,
    epochs: Option<EpochBook>,
    derived: BTreeSet<Address>,
    /// Credits that stand though their block is canonical no more.
    pub(super) on_orphaned_blocks: i64,
    /// Credits whose receipt is proved.
    pub(super) proved: i64,
}

impl RestsOn {
    pub(super) fn credit(&mut self, record: &Record, name: &str, cause: DepositCredit) {
        let (journal, seq) = (record.journal.0, record.seq);
        self.credits.push(Cause { name: name.to_owned(), journal, seq, cause });
    }

    pub(super) fn correction(&mut self, record: &Record, name: &str, cause: DepositCorrection) {
        let (journal, seq) = (record.journal.0, record.seq);
        self.corrections.push(Corrected { name: name.to_owned(), journal, seq, cause });
    }

    pub(super) fn announce(&mut self, id: B256, kind: EventKind, name: &str) {
        self.events.push((id, kind, name.to_owned()));
    }

    /// Looks at all that was noted.
    pub(super) async fn check(
        &mut self,
        tx: &mut Tx,
        found: &mut Findings,
    ) -> Result<(), StoreError> {
        let credits = std::mem::take(&mut self.credits);
        let corrections = std::mem::take(&mut self.corrections);
        let events = std::mem::take(&mut self.events);
        for checked in [
            self.grounds(tx, found, &credits).await,
            answers(tx, found, &credits).await,
            self.stages(tx, found, &credits).await,
            self.derives(tx, found, &credits).await,
            corrected(tx, found, &corrections).await,
            self.corrected_stages(tx, found, &corrections).await,
            announced(tx, found, &events).await,
        ] {
            if let Err(error) = checked {
                found.unreadable(error)?;
            }
        }
        Ok(())
    }

    /// The rows of each credit give the cause that was sealed, and the epoch gives the price.
    async fn grounds(
        &mut self,
        tx: &mut Tx,
        found: &mut Findings,
        credits: &[Cause],
    ) -> Result<(), StoreError> {
        if credits.is_empty() {
            return Ok(());
        }
        if self.epochs.is_none() {
            self.epochs = Some(stored_epochs(&mut *tx).await?);
        }
        let built = grounds(tx, credits.iter().map(|credit| place(&credit.cause))).await?;
        for Cause { name, journal, cause, .. } in credits {
            let deposit = cause.deposit_key().id();
            let Some(ground) = built.get(&place(cause)) else {
                let (table, problem) = named_row(tx, cause).await?;
                let problem = format!("{problem}, and record {name} rests on it");
                found.add(table, format!("deposit {deposit}"), problem, Remedy::PutBack);
                continue;
            };
            if ground.journal.0 != *journal {
                let problem = format!("belongs to another namespace than record {name} credited");
                found.add("deposits", format!("deposit {deposit}"), problem, Remedy::PutBack);
            }
            if let Some(key) = differs(cause, &ground.cause) {
                let problem = format!("{key} is not what record {name} was sealed with");
                found.add(table_of(&key), format!("deposit {deposit}"), problem, Remedy::PutBack);
            }
            if !self.epochs.as_ref().is_some_and(|epochs| follows(epochs, cause)) {
                let problem = format!("does not give what record {name} credits");
                found.add("epochs", &cause.epoch, problem, Remedy::PutBack);
            }
            let said_to_be_proved = cause.verify.as_deref() == Some(Verify::ReceiptsRoot.as_str());
            if cause.receipt_index.is_some() {
                self.proved = self.proved.saturating_add(1);
            } else if said_to_be_proved {
                let problem = format!(
                    "record {name} says that its receipt was proved, and no proof is there"
                );
                found.add("receipt_proofs", format!("deposit {deposit}"), problem, Remedy::PutBack);
            }
        }
        Ok(())
    }

    /// A credit that stands is where its deposit stands. What the cause does not say, because it is always the
    /// same, or says once for two rows, is compared here too.
    async fn stages(
        &mut self,
        tx: &mut Tx,
        found: &mut Findings,
        credits: &[Cause],
    ) -> Result<(), StoreError> {
        let rows = bulk(
            "SELECT k.journal_id, k.seq, k.reversed_by, d.stage, d.reason, d.block_hash, d.block_number,
                    d.log_index, d.raw_amount, d.record_seq, d.shape, b.canonical, p.rounding,
                    s.provider
             FROM {each}
             JOIN credits k ON k.journal_id = r.column1 AND k.seq = r.column2
             JOIN deposits d ON d.deposit_id = k.deposit_id
             LEFT JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = k.block_hash
             LEFT JOIN prices p ON p.deposit_id = k.deposit_id AND p.block_hash = k.block_hash
                               AND p.log_index = k.log_index
             LEFT JOIN sightings s ON s.chain_id = d.chain_id AND s.block_hash = k.block_hash
                                  AND s.log_index = k.log_index",
            credits.iter().map(|c| vec![c.journal.into(), c.seq.into()]).collect(),
        )
        .fetch_all(tx)
        .await?;
        let mut stored = BTreeMap::new();
        for row in rows {
            stored.insert((row.int("credits", "journal_id")?, row.int("credits", "seq")?), row);
        }
        for Cause { name, journal, seq, cause } in credits {
            let Some(row) = stored.get(&(*journal, *seq)) else { continue };
            let label = format!("deposit {}", cause.deposit_key().id());
            let rounding = row.opt_text("prices", "rounding")?;
            let provider = row.opt_text("sightings", "provider")?;
            for (same, table, column) in [
                (row.text("deposits", "shape")? == "transfer", "deposits", "shape"),
                (rounding.is_none_or(|how| how == cause.rounding), "prices", "rounding"),
                (provider == cause.log_provider, "sightings", "provider"),
            ] {
                if !same {
                    let problem = format!("{column} is not what record {name} credited");
                    found.add(table, &label, problem, Remedy::PutBack);
                }
            }
            if !row.is_null("reversed_by") {
                continue;
            }
            if !row.is_null("canonical") && row.int("blocks", "canonical")? == 0 {
                self.on_orphaned_blocks = self.on_orphaned_blocks.saturating_add(1);
            }
            let claims = [
                (row.text("deposits", "stage")? == "credited", "stage"),
                (row.is_null("reason"), "reason"),
                (row.opt_int("deposits", "record_seq")? == Some(*seq), "record_seq"),
                (row.b256("deposits", "block_hash")? == cause.block_hash, "block_hash"),
                (row.uint("deposits", "block_number")? == cause.block_number, "block_number"),
                (row.uint("deposits", "log_index")? == cause.log_index, "log_index"),
                (row.amount("deposits", "raw_amount")? == cause.raw_amount, "raw_amount"),
            ];
            for (_, column) in claims.iter().filter(|(same, _)| !same) {
                let problem = format!("{column} is not what record {name} credited");
                found.add("deposits", &label, problem, Remedy::PutBack);
            }
        }
        Ok(())
    }

    /// A corrected credit that stands is what its deposit names.
    async fn corrected_stages(
        &mut self,
        tx: &mut Tx,
        found: &mut Findings,
        corrections: &[Corrected],
    ) -> Result<(), StoreError> {
        let rows = bulk(
            "SELECT k.journal_id, k.seq, k.block_hash AS credited_in, k.log_index AS credited_at, d.stage,
                    d.record_seq, d.block_hash, d.block_number, d.log_index, d.raw_amount,
                    b.canonical, b.block_number AS credited_height
             FROM {each}
             JOIN credits k ON k.journal_id = r.column1 AND k.seq = r.column2
             JOIN deposits d ON d.deposit_id = k.deposit_id
             LEFT JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = k.block_hash
             WHERE k.reversed_by IS NULL",
            corrections.iter().map(|c| vec![c.journal.into(), c.seq.into()]).collect(),
        )
        .fetch_all(tx)
        .await?;
        for row in &rows {
            let place = (row.int("credits", "journal_id")?, row.int("credits", "seq")?);
            let of = corrections.iter().find(|c| (c.journal, c.seq) == place);
            let Some(Corrected { name, seq, cause, .. }) = of else { continue };
            if !row.is_null("canonical") && row.int("blocks", "canonical")? == 0 {
                self.on_orphaned_blocks = self.on_orphaned_blocks.saturating_add(1);
            }
            let claims = [
                (row.text("deposits", "stage")? == "credited", "stage"),
                (row.opt_int("deposits", "record_seq")? == Some(*seq), "record_seq"),
                (
                    row.b256("deposits", "block_hash")? == row.b256("credits", "credited_in")?,
                    "block_hash",
                ),
                (
                    row.opt_int("blocks", "credited_height")?.is_none_or(|height| {
                        row.int("deposits", "block_number").is_ok_and(|n| n == height)
                    }),
                    "block_number",
                ),
                (
                    row.uint("deposits", "log_index")? == row.uint("credits", "credited_at")?,
                    "log_index",
                ),
                (row.amount("deposits", "raw_amount")? == cause.again.raw_amount, "raw_amount"),
            ];
            for (_, column) in claims.iter().filter(|(same, _)| !same) {
                let problem = format!("{column} is not what record {name} credited");
                let label = format!("deposit {}", cause.deposit);
                found.add("deposits", label, problem, Remedy::PutBack);
            }
        }
        Ok(())
    }

    /// A derived address is the child of its account key that it is said to be.
    async fn derives(
        &mut self,
        tx: &mut Tx,
        found: &mut Findings,
        credits: &[Cause],
    ) -> Result<(), StoreError> {
        if self.derived.len() > DERIVED_MAX {
            self.derived.clear();
        }
        let paid: BTreeSet<Address> = credits.iter().map(|c| c.cause.recipient).collect();
        let new: Vec<_> = paid.difference(&self.derived).map(|a| vec![(*a).into()]).collect();
        let rows = bulk(
            "SELECT a.address, a.derivation_index, w.account_xpub FROM {each}
             JOIN addresses a ON a.address = r.column1 JOIN wallets w ON w.wallet_id = a.wallet_id",
            new,
        )
        .fetch_all(tx)
        .await?;
        for row in &rows {
            let address = row.address("addresses", "address")?;
            let index = row.uint32("addresses", "derivation_index")?;
            let xpub = row.text("wallets", "account_xpub")?;
            let child = AccountXpub::parse(&xpub).and_then(|xpub| xpub.address(index));
            if child != Ok(address) {
                let problem = format!("is not child {index} of its account key");
                found.add("addresses", address, problem, Remedy::PutBack);
            }
        }
        self.derived.extend(paid);
        Ok(())
    }
}

fn place(cause: &DepositCredit) -> Place {
    Place {
        deposit: cause.deposit_key().id(),
        block_hash: cause.block_hash,
        log_index: cause.log_index,
        reversals: cause.reversals,
    }
}

/// The first field of what was sealed that the rows do not give. What was said and decided about a
/// payment is compared apart: more may have been since.
fn differs(sealed: &DepositCredit, rows: &DepositCredit) -> Option<String> {
    let sealed = DepositCredit { screenings: None, acts: None, ..sealed.clone() };
    if sealed == *rows {
        return None;
    }
    let text = |cause: &DepositCredit| serde_json::to_string(cause).unwrap_or_default();
    Some(first_difference(&text(&sealed), &text(rows)).unwrap_or_default())
}

/// The table that a field of a cause comes from.
fn table_of(key: &str) -> &'static str {
    match key.split('.').next().unwrap_or_default() {
        "namespace" => "namespaces",
        "block_number" | "block_time_ms" => "blocks",
        "sender" | "log_provider" => "sightings",
        "finality" | "head_number" | "head_hash" | "receipt_provider" | "verify" => "confirmations",
        "receipt_index" => "receipt_proofs",
        "epoch_hash" => "epochs",
        "conversion" => "conversions",
        "chain_id" | "tx_hash" | "token" | "recipient" | "n" => "deposits",
        _ => "prices",
    }
}

/// The answers and the acts that credits name are there as they were.
async fn answers(tx: &mut Tx, found: &mut Findings, credits: &[Cause]) -> Result<(), StoreError> {
    let naming = || {
        let names = |c: &&Cause| c.cause.screenings.is_some() || c.cause.acts.is_some();
        credits.iter().filter(names)
    };
    let ids = || -> Vec<DepositId> { naming().map(|c| c.cause.deposit_key().id()).collect() };
    let said = answers_about(tx, ids()).await?;
    let decided = acts_about(tx, ids()).await?;
    for Cause { name, cause, .. } in naming() {
        let id = cause.deposit_key().id();
        let said = said.get(&(id, cause.block_hash, cause.sender));
        let decided = decided.get(&(id, cause.block_hash));
        for (table, named, rows) in
            [("screenings", &cause.screenings, said), ("operator_acts", &cause.acts, decided)]
        {
            let there = |hash: &B256| rows.is_some_and(|rows| rows.contains(hash));
            if !named.iter().flatten().all(there) {
                let problem = format!("one that record {name} rests on is gone, or was changed");
                found.add(table, format!("deposit {id}"), problem, Remedy::PutBack);
            }
        }
    }
    Ok(())
}

/// The acts of each correction give the cause that was sealed, and what it gives follows from the epoch, the
/// prices and what was paid.
async fn corrected(
    tx: &mut Tx,
    found: &mut Findings,
    corrections: &[Corrected],
) -> Result<(), StoreError> {
    let mut built = correction_causes(tx, corrections.iter().map(|c| c.cause.act)).await?;
    for Corrected { name, cause, .. } in corrections {
        let label = format!("act {}", cause.act);
        match built.remove(&cause.act) {
            None => {
                let problem = format!("the act that record {name} was approved by is gone");
                found.add("operator_acts", label, problem, Remedy::PutBack);
            }
            Some(Err(why)) => {
                let problem = format!("{}, and record {name} rests on it", why.problem);
                found.add(why.table, label, problem, Remedy::PutBack);
            }
            Some(Ok(rows)) if rows != *cause => {
                let text = |cause| serde_json::to_string(cause).unwrap_or_default();
                let field = first_difference(&text(cause), &text(&rows)).unwrap_or_default();
                let problem = format!("{field} is not what record {name} was sealed with");
                found.add("operator_acts", label, problem, Remedy::PutBack);
            }
            Some(Ok(_)) => {}
        }
    }
    Ok(())
}

/// Each record that is announced has its event, once.
async fn announced(
    tx: &mut Tx,
    found: &mut Findings,
    events: &[(B256, EventKind, String)],
) -> Result<(), StoreError> {
    let keys = || events.iter().map(|(id, ..)| vec![(*id).into()]).collect::<Vec<_>>();
    let mut stored: BTreeMap<B256, Vec<String>> = BTreeMap::new();
    for sql in [
        "SELECT event_id, kind FROM events_new WHERE event_id {keys}",
        "SELECT event_id, kind FROM events WHERE event_id {keys}",
    ] {
        let rows = bulk(sql, keys()).fetch_all(&mut *tx).await;
        for row in &rows? {
            let id = row.b256("events", "event_id")?;
            stored.entry(id).or_default().push(row.text("events", "kind")?);
        }
    }
    for (id, kind, name) in events {
        let kinds = stored.get(id).map(Vec::as_slice).unwrap_or_default();
        if kinds.len() != 1 || kinds.first().is_none_or(|stored| stored != kind.as_str()) {
            let problem = "the event of the record is gone, stands twice, or is of another kind";
            found.add("events", name, problem, Remedy::PutBack);
        }
    }
    Ok(())
}
