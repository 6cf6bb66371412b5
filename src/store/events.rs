//! What is announced: events, written by the commit that they tell of.
//!
//! An event is no record: it repeats what rows say at that moment, for whoever listens, and nothing is computed from
//! it. It gets its number in the feed later. One moment has one id, so that telling it again tells nothing new.

use alloy::primitives::B256;
use serde_json::{Value as Json, json};

use super::db::{Bulk, Row, Tx, Value, bulk};
use super::errors::StoreError;
use super::rows::to_int;
use crate::domain::account::New;
use crate::domain::deposit::Stage;
use crate::domain::finding::NewFinding;
use crate::domain::ids::{ChainId, DepositId};
use crate::domain::journal::{Event, EventKind, event_id};
use crate::domain::seal::Canonical;

/// An event that is to be written.
#[derive(Debug, Clone)]
pub(super) struct NewEvent {
    pub(super) id: B256,
    pub(super) kind: EventKind,
    /// Row id of the namespace it is about, if it is about one.
    pub(super) namespace_id: Option<i64>,
    /// Chain it is about, likewise; as it is stored.
    pub(super) chain_id: Option<i64>,
    /// The key that people know it by.
    pub(super) subject: String,
    pub(super) payload: Json,
    pub(super) at_ms: i64,
}

/// Writes events. One that was told already is not told again.
pub(super) async fn tell(tx: &mut Tx, events: Vec<NewEvent>) -> Result<(), StoreError> {
    telling(events).execute(tx).await.map_err(StoreError::from)
}

/// The statement that writes them.
pub(super) fn telling(events: Vec<NewEvent>) -> Bulk {
    let rows = events
        .into_iter()
        .map(|event| {
            vec![
                event.id.into(),
                event.kind.as_str().into(),
                event.namespace_id.into(),
                event.chain_id.into(),
                event.subject.into(),
                event.payload.to_string().into(),
                event.at_ms.into(),
            ]
        })
        .collect();
    bulk(
        "INSERT INTO events_new (event_id, kind, namespace_id, chain_id, subject, payload, at_ms) {rows}
         ON CONFLICT (event_id) DO NOTHING",
        rows,
    )
}

/// The id of an event that no record makes: of its kind, of what it is about, and of the moment.
fn moment_id(kind: EventKind, subject: &[u8], word: &str, at: &[u8]) -> B256 {
    let mut key = Canonical::new("topupd/moment/v1");
    key.bytes(subject).text(word).bytes(at);
    event_id(kind, key.finish().as_slice())
}

/// Tells of deposits that come to one of these stages and were not there before; before their rows are changed.
/// Other stages are told by the records that bring them about, or not at all.
pub(super) async fn tell_stages(
    tx: &mut Tx,
    stages: &[(DepositId, Stage)],
    now_ms: i64,
) -> Result<(), StoreError> {
    let rows: Vec<Vec<Value>> = stages
        .iter()
        .filter(|(_, stage)| told_as(*stage).is_some())
        .map(|(id, stage)| vec![id.0.into(), stage.as_str().into(), stage.reason().into()])
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let found = bulk(
        "SELECT d.deposit_id, d.namespace_id, d.chain_id, d.tx_hash, d.token, d.recipient, d.n, d.raw_amount,
                d.block_hash, d.block_number, n.name, r.column2 AS to_stage, r.column3 AS to_reason
         FROM {each}
         JOIN deposits d ON d.deposit_id = r.column1
         JOIN namespaces n ON n.namespace_id = d.namespace_id
         WHERE d.stage <> r.column2 OR COALESCE(d.reason, '') <> COALESCE(r.column3, '')",
        rows,
    )
    .fetch_all(tx)
    .await?;
    tell_all(tx, &found, now_ms).await
}

/// Tells of deposits that stand where they were seen now; after their rows are written.
pub(super) async fn tell_seen(
    tx: &mut Tx,
    deposits: impl Iterator<Item = DepositId>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let rows: Vec<Vec<Value>> = deposits.map(|id| vec![id.0.into()]).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let found = bulk(
        "SELECT d.deposit_id, d.namespace_id, d.chain_id, d.tx_hash, d.token, d.recipient, d.n, d.raw_amount,
                d.block_hash, d.block_number, n.name, d.stage AS to_stage, d.reason AS to_reason
         FROM {each}
         JOIN deposits d ON d.deposit_id = r.column1
         JOIN namespaces n ON n.namespace_id = d.namespace_id
         WHERE d.stage IN ('pending', 'held')",
        rows,
    )
    .fetch_all(tx)
    .await?;
    tell_all(tx, &found, now_ms).await
}

/// In the order of the deposits' ids, whatever the engine found first.
async fn tell_all(tx: &mut Tx, found: &[Row], now_ms: i64) -> Result<(), StoreError> {
    let events = found.iter().map(|row| of_deposit(row, now_ms));
    let mut events: Vec<NewEvent> = events.collect::<Result<_, _>>()?;
    events.sort_by(|a, b| a.subject.cmp(&b.subject));
    tell(tx, events).await
}

/// What coming to a stage is told as.
fn told_as(stage: Stage) -> Option<EventKind> {
    match stage {
        Stage::Confirmed => Some(EventKind::DepositConfirmed),
        Stage::Held(_) => Some(EventKind::DepositHeld),
        Stage::Pending
        | Stage::Priced
        | Stage::Credited
        | Stage::Orphaned
        | Stage::Ignored(_)
        | Stage::Reversed => None,
    }
}

fn of_deposit(row: &Row, now_ms: i64) -> Result<NewEvent, StoreError> {
    let id = row.b256("deposits", "deposit_id")?;
    let block = row.b256("deposits", "block_hash")?;
    let chain_id = row.int("deposits", "chain_id")?;
    let (stage, reason) =
        (row.text("deposits", "to_stage")?, row.opt_text("deposits", "to_reason")?);
    let kind =
        Stage::parse(&stage, reason.as_deref()).and_then(told_as).unwrap_or(EventKind::DepositSeen);
    let at = match kind {
        // A deposit is seen once in a block.
        EventKind::DepositSeen => block.to_vec(),
        _ => now_ms.to_be_bytes().to_vec(),
    };
    let payload = json!({
        "deposit_id": id,
        "namespace": row.text("namespaces", "name")?,
        "chain": ChainId(row.uint("deposits", "chain_id")?).to_string(),
        "tx_hash": row.b256("deposits", "tx_hash")?,
        "token": row.address("deposits", "token")?.to_checksum(None),
        "address": row.address("deposits", "recipient")?.to_checksum(None),
        "n": row.uint32("deposits", "n")?,
        "raw_amount": row.amount("deposits", "raw_amount")?,
        "block_number": row.uint("deposits", "block_number")?,
        "block_hash": block,
        "stage": stage,
        "reason": reason,
    });
    Ok(NewEvent {
        id: moment_id(kind, id.as_slice(), reason.as_deref().unwrap_or_default(), &at),
        kind,
        namespace_id: Some(row.int("deposits", "namespace_id")?),
        chain_id: Some(chain_id),
        subject: id.to_string(),
        payload,
        at_ms: now_ms,
    })
}

/// The event of a record that was written now. `namespace` is empty for one of the house.
pub(super) fn of_record(told: &Event, new: &New, namespace: &str) -> Result<NewEvent, StoreError> {
    let record = &new.record;
    let is_house = record.journal.is_house();
    let outcome: Json =
        serde_json::from_str(&record.outcome).map_err(|e| StoreError::Impossible(e.to_string()))?;
    let chain = new
        .effects
        .credits
        .first()
        .map(|credit| credit.chain)
        .or_else(|| new.effects.settlements.first().map(|settled| settled.chain));
    let payload = json!({
        "namespace": (!is_house).then_some(namespace),
        "record_id": record.id,
        "record_seq": record.seq,
        "subject": record.subject,
        "outcome": outcome,
        "effective_at_ms": record.effective_at_ms,
        "recorded_at_ms": record.recorded_at_ms,
    });
    Ok(NewEvent {
        id: told.id,
        kind: told.kind,
        namespace_id: (!is_house).then_some(record.journal.0),
        chain_id: chain.map(|chain| to_int(chain.0, "chain id")).transpose()?,
        subject: record.subject.clone(),
        payload,
        at_ms: record.recorded_at_ms,
    })
}

/// The event of a finding that was opened now.
pub(super) fn of_finding(found: &NewFinding, now_ms: i64) -> Result<NewEvent, StoreError> {
    let word = found.kind.as_str();
    let chain_id = found.chain.map(|chain| to_int(chain.0, "chain id")).transpose()?;
    let mut about = Canonical::new("topupd/finding/v1");
    about.i64(chain_id.unwrap_or(0)).text(&found.subject);
    let payload = json!({
        "kind": word, "chain": found.chain.map(|chain| chain.to_string()), "subject": found.subject,
        "severity": found.kind.severity().as_str(), "detail": found.detail,
    });
    Ok(NewEvent {
        id: moment_id(
            EventKind::FindingOpened,
            about.finish().as_slice(),
            word,
            &now_ms.to_be_bytes(),
        ),
        kind: EventKind::FindingOpened,
        namespace_id: None,
        chain_id,
        subject: found.subject.clone(),
        payload,
        at_ms: now_ms,
    })
}

/// The event of a chain that stands still, or is watched with less than it should be.
pub(super) fn of_chain(chain: ChainId, why: &str, now_ms: i64) -> Result<NewEvent, StoreError> {
    let chain_id = to_int(chain.0, "chain id")?;
    let id =
        moment_id(EventKind::ChainDegraded, &chain_id.to_be_bytes(), why, &now_ms.to_be_bytes());
    Ok(NewEvent {
        id,
        kind: EventKind::ChainDegraded,
        namespace_id: None,
        chain_id: Some(chain_id),
        subject: chain.to_string(),
        payload: json!({ "chain": chain.to_string(), "why": why }),
        at_ms: now_ms,
    })
}
