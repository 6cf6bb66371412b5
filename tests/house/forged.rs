//! What somebody with topupd's code does by hand to a database: the steps of `attempts` that are no statement.

use alloy::primitives::{B256, U256};
use topupd::domain::journal::{Cause, DepositCorrection, DepositCredit, Kind, Record};
use topupd::domain::money::RawAmount;
use topupd::domain::pricing::epoch_hash;

use super::forger::Forger;
use super::support::*;
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

pub async fn doubled_without_proof(f: &mut Forger) {
    f.rewrite(1, doubled_and_unproved).await;
    let cause = rows_follow(f).await;
    let id = Cell::Bytes(cause.deposit_key().id().0.to_vec());
    let tx = Cell::Bytes(cause.tx_hash.to_vec());
    for (sql, of) in [
        ("UPDATE confirmations SET verify = 'same-provider' WHERE deposit_id = $1", id),
        ("DELETE FROM receipt_proofs WHERE tx_hash = $1", tx),
    ] {
        assert_eq!(f.sql.execute_with(sql, &[of]).await.unwrap(), 1);
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
