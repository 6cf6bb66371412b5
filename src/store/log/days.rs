//! Sums over the entries of each account by UTC day, as far as the log goes. Only the sequencer writes them, so
//! that no two writers wait for a row of an account of the house.

use std::collections::BTreeMap;

use super::stop::{Failed, Stop};
use crate::domain::journal::{Record, Side, Unit};
use crate::store::db::{Row, Tx, Value, bulk};
use crate::store::errors::StoreError;
use crate::store::rows::corrupt;

const TABLE: &str = "account_days";
const DAY_MS: i64 = 86_400_000;

/// An account, its unit, and the days since 1970.
pub(super) type Day = (String, Unit, i64);

/// What the entries of a day come to, in billionths of the unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) debit: i128,
    pub(super) credit: i128,
}

/// Adds the entries of a record to the day on which it was recorded.
pub(super) fn add(days: &mut BTreeMap<Day, Sums>, record: &Record) -> Result<(), Failed> {
    let day = record.recorded_at_ms.div_euclid(DAY_MS);
    for entry in &record.entries {
        let key = (entry.account.clone(), entry.amount.unit(), day);
        let sums = days.entry(key).or_default();
        let sum = match entry.side {
            Side::Debit => &mut sums.debit,
            Side::Credit => &mut sums.credit,
        };
        *sum = plus(*sum, i128::from(entry.amount.nano()))?;
    }
    Ok(())
}

fn plus(one: i128, other: i128) -> Result<i128, Failed> {
    one.checked_add(other)
        .ok_or_else(|| Stop::Damaged("the sums of an account are beyond all bounds".into()).into())
}

/// Adds to the sums that are stored.
pub(super) async fn store(tx: &mut Tx, days: BTreeMap<Day, Sums>) -> Result<(), Failed> {
    let keys: Vec<Vec<Value>> = days.keys().map(key_of).collect();
    let found = bulk(
        "SELECT d.account, d.unit, d.day, d.debit, d.credit FROM {each}
         JOIN account_days d ON d.account = r.column1 AND d.unit = r.column2 AND d.day = r.column3",
        keys,
    )
    .fetch_all(tx)
    .await?;
    let mut sums = days;
    for row in &found {
        let (day, before) = day_of(row)?;
        let sum = sums.entry(day).or_default();
        sum.debit = plus(sum.debit, before.debit)?;
        sum.credit = plus(sum.credit, before.credit)?;
    }
    let rows = sums.iter().map(|(day, sum)| {
        let mut row = key_of(day);
        row.extend([sum.debit, sum.credit].map(|sum| sum.to_be_bytes().to_vec().into()));
        row
    });
    bulk(
        "INSERT INTO account_days (account, unit, day, debit, credit) {rows}
         ON CONFLICT (account, unit, day) DO UPDATE
           SET debit = excluded.debit, credit = excluded.credit",
        rows.collect(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

fn key_of((account, unit, day): &Day) -> Vec<Value> {
    vec![account.into(), unit.as_str().into(), (*day).into()]
}

/// A row as it is stored.
pub(super) fn day_of(row: &Row) -> Result<(Day, Sums), StoreError> {
    let unit = row.text(TABLE, "unit")?;
    let unit = Unit::parse(&unit).ok_or_else(|| corrupt(TABLE, "unit", &unit))?;
    let sum = |column: &'static str| {
        let bytes: [u8; 16] = row
            .bytes(TABLE, column)?
            .try_into()
            .map_err(|_| corrupt(TABLE, column, "not 16 bytes"))?;
        Ok::<_, StoreError>(i128::from_be_bytes(bytes))
    };
    let sums = Sums { debit: sum("debit")?, credit: sum("credit")? };
    Ok(((row.text(TABLE, "account")?, unit, row.int(TABLE, "day")?), sums))
}
