//! What somebody with topupd's code does by hand to a database: the steps of `attempts` that are no statement.

use alloy::primitives::{B256, U256};
use topupd::domain::journal::{
    Cause, DepositCorrection, DepositCredit, Genesis, Kind, LogKey, Record,
};
use topupd::domain::log::history::{first_key, handed_over};
use topupd::domain::log::key::PrivateKey;
use topupd::domain::money::RawAmount;
use topupd::domain::pricing::epoch_hash;

use super::attempts::Work;
use super::forger::Forger;
use super::support::*;
use super::tampering::{a_ledger, copy_of};
use crate::database::Cell;

fn credit_of(cause: &mut Cause) -> Option<&mut DepositCredit> {
    match cause {
        Cause::DepositCredited(credit) => Some(credit),
        _ => None,
    }
}

/// The last credit: its amount is twice what it was, and all that follows from that.
pub fn doubled(causes: &mut [Cause]) {
    let credit = causes.iter_mut().rev().find_map(credit_of).unwrap();
    credit.raw_amount = RawAmount(credit.raw_amount.0 * U256::from(2));
    let (raw, decimals, asset) = (credit.raw_amount, credit.decimals, credit.asset.clone());
    let conversion = credit.conversion.as_mut().unwrap();
    let (tokens, remainder) = conversion.tokens(raw, decimals, &asset).unwrap();
    let into = conversion.into.as_mut().unwrap();
    (into.tokens, into.remainder) = (tokens, remainder);
    credit.credits_nano =
        conversion.credits(raw, decimals, &asset, credit.credits_per_token).unwrap();
}

/// The same, as if nobody had proved it.
pub fn doubled_and_unproved(causes: &mut [Cause]) {
    doubled(causes);
    let credit = causes.iter_mut().rev().find_map(credit_of).unwrap();
    (credit.verify, credit.receipt_index) = (Some("same-provider".into()), None);
}

/// The same, with the word that it was proved.
pub fn doubled_and_said_to_be_proved(causes: &mut [Cause]) {
    doubled(causes);
    causes.iter_mut().rev().find_map(credit_of).unwrap().receipt_index = None;
}

/// Gives the rows below the last credit what its cause says now.
async fn rows_follow(f: &mut Forger) -> DepositCredit {
    let records = f.records(1).await;
    let last = records.iter().rfind(|r| r.kind == Kind::DepositCredited).unwrap();
    let cause: DepositCredit = serde_json::from_str(&last.cause).unwrap();
    let id = Cell::Bytes(cause.deposit_key().id().0.to_vec());
    let raw = Cell::Bytes(cause.raw_amount.0.to_be_bytes::<32>().to_vec());
    for table in ["sightings", "deposits", "prices"] {
        let sql = format!("UPDATE {table} SET raw_amount = $1 WHERE deposit_id = $2");
        f.sql.execute_with(&sql, &[raw.clone(), id.clone()]).await.unwrap();
    }
    let body = Cell::Text(serde_json::to_string(&cause.conversion).unwrap());
    let credits = Cell::Int(cause.credits_nano.0);
    for (sql, value) in [
        ("UPDATE prices SET credits_nano = $1 WHERE deposit_id = $2", credits),
        ("UPDATE conversions SET body = $1 WHERE deposit_id = $2", body),
    ] {
        assert_eq!(f.sql.execute_with(sql, &[value, id.clone()]).await.unwrap(), 1);
    }
    cause
}

pub async fn doubled_below(f: &mut Forger) {
    f.rewrite(1, doubled).await;
    rows_follow(f).await;
}

pub async fn doubled_without_proof(f: &mut Forger, change: fn(&mut [Cause])) {
    f.rewrite(1, change).await;
    let cause = rows_follow(f).await;
    let id = Cell::Bytes(cause.deposit_key().id().0.to_vec());
    let tx = Cell::Bytes(cause.tx_hash.to_vec());
    let said = Cell::Text(cause.verify.unwrap());
    for (sql, with) in [
        ("UPDATE confirmations SET verify = $1 WHERE deposit_id = $2", vec![said, id]),
        ("DELETE FROM receipt_proofs WHERE tx_hash = $1", vec![tx]),
    ] {
        assert_eq!(f.sql.execute_with(sql, &with).await.unwrap(), 1);
    }
}

pub fn other_outcome(mut records: Vec<Record>) -> Vec<Record> {
    let last = records.iter_mut().rfind(|r| r.kind == Kind::DepositCredited).unwrap();
    let before = last.outcome.clone();
    last.outcome = last.outcome.replace("\"repaid_nano\":0", "\"repaid_nano\":1");
    assert_ne!(last.outcome, before);
    records
}

pub fn other_sender(mut records: Vec<Record>) -> Vec<Record> {
    let last = records.iter_mut().rfind(|r| r.kind == Kind::DepositCredited).unwrap();
    let mut cause: DepositCredit = serde_json::from_str(&last.cause).unwrap();
    cause.sender = USDT;
    cause.screenings = None;
    last.cause = serde_json::to_string(&cause).unwrap();
    records
}

pub fn a_little_earlier(mut records: Vec<Record>) -> Vec<Record> {
    let [.., before, last] = &mut records[..] else { panic!() };
    assert!(last.recorded_at_ms > before.recorded_at_ms && last.kind == Kind::DepositCredited);
    last.recorded_at_ms -= 1;
    records
}

fn correction_of(cause: &mut Cause) -> Option<&mut DepositCorrection> {
    match cause {
        Cause::DepositCorrected(correction) => Some(correction),
        _ => None,
    }
}

/// The last correction gives more: at another rate, with all that follows from that.
pub fn corrected_higher(causes: &mut [Cause]) {
    let again = &mut causes.iter_mut().rev().find_map(correction_of).unwrap().again;
    again.credits_per_token = "101".parse().unwrap();
    let conversion = again.conversion.as_ref().unwrap();
    let (raw, decimals, rate) = (again.raw_amount, again.decimals, again.credits_per_token);
    again.credits_nano = conversion.credits(raw, decimals, &again.asset, rate).unwrap();
}

pub fn other_approver(mut records: Vec<Record>) -> Vec<Record> {
    let last = records.iter_mut().rfind(|r| r.kind == Kind::DepositCorrected).unwrap();
    let before = last.cause.clone();
    last.cause = last.cause.replace("\"approver\":\"bob\"", "\"approver\":\"eve\"");
    last.operator = Some("eve".into());
    assert_ne!(last.cause, before);
    records
}

pub fn without_keys(mut records: Vec<Record>) -> Vec<Record> {
    let all = records.len();
    records.retain(|r| r.kind != Kind::XpubRegistered);
    assert!(records.len() < all);
    for (seq, record) in (1..).zip(&mut records) {
        record.seq = seq;
    }
    records
}

pub async fn other_epoch(f: &mut Forger) {
    let sql = "SELECT body FROM epochs WHERE epoch_id = 'before'";
    let body = f.sql.texts(sql).await.remove(0).replace("1000", "1001");
    let hash: B256 = epoch_hash(&body);
    let cells = [Cell::Text(body), Cell::Bytes(hash.to_vec())];
    let sql = "UPDATE epochs SET body = $1, body_hash = $2 WHERE epoch_id = 'before'";
    assert_eq!(f.sql.execute_with(sql, &cells).await.unwrap(), 1);
}

const LOG: &str = "example.com/topupd";

fn log_key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed(LOG.parse().unwrap(), [seed; 32]).unwrap()
}

/// Adds a record of the house for each cause, as somebody with topupd's code does who does not ask it.
fn noted(mut records: Vec<Record>, causes: [LogKey; 2]) -> Vec<Record> {
    let genesis = Genesis(records[0].prev);
    for cause in causes.map(Cause::LogKey) {
        let last = records.last().unwrap();
        records.push(Record {
            seq: last.seq + 1,
            id: cause.record_id(genesis),
            kind: Kind::LogKey,
            subject: cause.subject(),
            cause: cause.to_json().unwrap(),
            outcome: "{}".into(),
            effective_at_ms: last.recorded_at_ms,
            operator: None,
            key_id: None,
            entries: Vec::new(),
            ..last.clone()
        });
    }
    records
}

/// The log's key, and another one in its place, which signs for itself.
fn with_another_log_key(records: Vec<Record>) -> Vec<Record> {
    let (ours, theirs) = (log_key(1), log_key(9));
    let signature = handed_over(&theirs, theirs.public()).signature;
    let other = LogKey { signature, ..handed_over(&ours, theirs.public()) };
    noted(records, [first_key(ours.public()), other])
}

fn with_a_log_key_handed_over(records: Vec<Record>) -> Vec<Record> {
    let (ours, next) = (log_key(1), log_key(9));
    noted(records, [first_key(ours.public()), handed_over(&ours, next.public())])
}

/// The same without any signature.
pub async fn a_log_key_of_nobody(f: &mut Forger) {
    let unsigned = |records| {
        let (ours, theirs) = (log_key(1), log_key(9));
        let other = LogKey { signature: None, ..handed_over(&ours, theirs.public()) };
        noted(records, [first_key(ours.public()), other])
    };
    f.reseal(0, unsigned).await;
    waiting(f).await;
}

/// Both wait for their leaves, as all records do.
async fn waiting(f: &mut Forger) {
    for before in [1, 0] {
        f.run(&format!(
            "INSERT INTO unlogged (journal_id, seq)
             SELECT 0, seq - {before} FROM journals WHERE journal_id = 0"
        ))
        .await;
    }
}

pub async fn another_log_key(f: &mut Forger) {
    f.reseal(0, with_another_log_key).await;
    waiting(f).await;
}

/// What only its holder can do.
pub async fn a_log_key_handed_over(f: &mut Forger) {
    f.reseal(0, with_a_log_key_handed_over).await;
    waiting(f).await;
}

/// What names another key to `ledger verify` names it to the script for auditors.
#[tokio::test]
async fn the_script_wants_the_signature_of_the_key_before() {
    if crate::ENGINE != Engine::Sqlite {
        return; // it reads files
    }
    let original = a_ledger().await;
    type Hand = for<'a> fn(&'a mut Forger) -> Work<'a>;
    let hows: [(Hand, bool); 3] = [
        (|f| Box::pin(a_log_key_handed_over(f)), true),
        (|f| Box::pin(another_log_key(f)), false),
        (|f| Box::pin(a_log_key_of_nobody(f)), false),
    ];
    for (how, holds) in hows {
        let house = copy_of(&original).await;
        how(&mut Forger::of(&house).await).await;
        house.store.close().await;
        let (code, said) = script(&house.database.path());
        // No daemon has met that key: all that is left to say of the one that was handed over.
        let why = if holds { "log_state: public_key" } else { "signed by the key before" };
        assert!(code == Some(1) && said.contains(why), "{holds}: {said}");
    }
}
