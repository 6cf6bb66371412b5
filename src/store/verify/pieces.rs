//! The pieces of an account that the records of a page need, as they were before the page.
//!
//! A journal is read in pages, and what is behind one is forgotten: a credit that is undone a year later is
//! fetched again. Its rows were compared with its record when that was read, so they can be relied on; what
//! changes with time (what a lot has left, whether a credit stands, what is settled) is put together from
//! rows of before the page only.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::B256;

use crate::domain::account::{Account, Credit, DepositState, Lot, Obligation, Owing, Purchase};
use crate::domain::ids::{ChainId, DepositId};
use crate::domain::journal::{Cause, JournalId, Kind, Outcome, Record, RecordId};
use crate::domain::money::{Nanocredits, RawAmount};
use crate::store::db::{Row, Tx, Value, bulk};
use crate::store::errors::StoreError;
use crate::store::ledger::{lot_columns, lot_row, obligation_row};
use crate::store::rows::{corrupt, to_int};

/// What the causes of one journal's records in a page name.
#[derive(Debug, Default)]
struct Named {
    ids: Vec<RecordId>,
    deposits: BTreeSet<DepositId>,
    /// Credits that are undone.
    credits: BTreeSet<i64>,
    owing: BTreeSet<(i64, i64)>,
    /// As the first settlement in the page says.
    purchases: BTreeMap<(ChainId, B256), Purchase>,
}

/// Fetches what these records of one journal need; `first` is the place of the first of them.
pub(super) async fn load(
    tx: &mut Tx,
    account: &mut Account,
    first: i64,
    records: &[&Record],
) -> Result<(), StoreError> {
    let journal = account.row().journal;
    let named = named(records);
    for id in &named.ids {
        account.load_record(*id, None);
    }
    load_deposits(tx, account, journal, first, &named.deposits).await?;
    load_credits(tx, account, journal, first, &named.credits).await?;
    if journal.is_house() {
        load_owing(tx, account, first, &named.owing).await?;
        load_purchases(tx, account, first, &named.purchases).await?;
    }
    Ok(())
}

/// What cannot be read names nothing: the fold says so of it.
fn named(records: &[&Record]) -> Named {
    let mut named = Named::default();
    for record in records {
        named.ids.push(record.id);
        if record.kind == Kind::DepositCredited {
            // The fold says whether it is; most records are of this kind, and each is read once.
            named.deposits.extend(record.subject.parse::<DepositId>().ok());
            continue;
        }
        match Cause::from_json(record.kind, &record.cause) {
            Ok(Cause::DepositReversed(cause)) => {
                named.deposits.insert(cause.deposit);
                named.credits.insert(cause.reverses_seq);
            }
            Ok(Cause::DepositCorrected(cause)) => {
                named.deposits.insert(cause.deposit);
                named.credits.insert(cause.corrects_seq);
            }
            Ok(Cause::TreasurySettled(cause)) => {
                named.owing.insert((cause.obligation_journal.0, cause.obligation_seq));
                named.purchases.entry((cause.chain_id, cause.tx_hash)).or_insert_with(|| {
                    Purchase {
                        block_hash: cause.block_hash,
                        asset: cause.asset.clone(),
                        paid: cause.purchase_paid,
                        decimals: cause.purchase_decimals,
                        into_asset: cause.into_asset.clone(),
                        tokens: cause.purchase_tokens,
                        used: RawAmount::ZERO,
                    }
                });
            }
            _ => {}
        }
    }
    named
}

/// Which credit of each deposit stood before the page, and how many had been undone.
async fn load_deposits(
    tx: &mut Tx,
    account: &mut Account,
    journal: JournalId,
    first: i64,
    deposits: &BTreeSet<DepositId>,
) -> Result<(), StoreError> {
    let rows = bulk(
        "SELECT k.journal_id, k.seq, k.deposit_id, k.reversed_by FROM credits k
         WHERE k.deposit_id {keys}",
        deposits.iter().map(|id| vec![id.0.into()]).collect(),
    )
    .fetch_all(tx)
    .await?;
    let mut states: BTreeMap<DepositId, DepositState> =
        deposits.iter().map(|id| (*id, DepositState::default())).collect();
    for row in &rows {
        let seq = row.int("credits", "seq")?;
        if row.int("credits", "journal_id")? != journal.0 || seq >= first {
            continue;
        }
        let state = states.entry(DepositId(row.b256("credits", "deposit_id")?)).or_default();
        match row.opt_int("credits", "reversed_by")? {
            Some(by) if by < first => state.reversals = state.reversals.saturating_add(1),
            _ => state.standing = Some(seq),
        }
    }
    for (deposit, state) in states {
        account.load_deposit(deposit, state);
    }
    Ok(())
}

/// Credits that are undone in the page, with their lots and what they owe.
async fn load_credits(
    tx: &mut Tx,
    account: &mut Account,
    journal: JournalId,
    first: i64,
    credits: &BTreeSet<i64>,
) -> Result<(), StoreError> {
    for seq in credits {
        account.load_credit(*seq, None);
        account.load_obligation(*seq, None);
    }
    let keys = || -> Vec<Vec<Value>> {
        let before = credits.iter().filter(|seq| **seq < first);
        before.map(|seq| vec![journal.0.into(), (*seq).into()]).collect()
    };
    let rows = bulk(
        "SELECT k.seq, k.deposit_id, k.block_hash, k.log_index, k.reversed_by,
                q.record_id, q.seal, d.chain_id
         FROM {each}
         JOIN credits k ON k.journal_id = r.column1 AND k.seq = r.column2
         JOIN records q ON q.journal_id = k.journal_id AND q.seq = k.seq
         JOIN deposits d ON d.deposit_id = k.deposit_id",
        keys(),
    )
    .fetch_all(tx)
    .await?;
    for row in &rows {
        let credit = Credit {
            seq: row.int("credits", "seq")?,
            record_id: RecordId(row.b256("records", "record_id")?),
            seal: row.b256("records", "seal")?,
            deposit: DepositId(row.b256("credits", "deposit_id")?),
            chain: ChainId(row.uint("deposits", "chain_id")?),
            block_hash: row.b256("credits", "block_hash")?,
            log_index: row.uint("credits", "log_index")?,
            reversed_by: row.opt_int("credits", "reversed_by")?.filter(|by| *by < first),
        };
        account.load_credit(credit.seq, Some(credit));
    }
    for lot in lots(tx, keys(), first).await? {
        account.load_lot(lot);
    }
    let rows = bulk(
        "SELECT o.seq, o.into_asset, o.tokens, o.token_decimals, o.usd_nano, o.settled_tokens,
                o.carried_tokens, o.carried_usd_nano
         FROM {each} JOIN obligations o ON o.journal_id = r.column1 AND o.seq = r.column2",
        keys(),
    )
    .fetch_all(tx)
    .await?;
    for row in &rows {
        // What was settled by then, the record that undoes it says; it is compared with the house's.
        let owed = Obligation { settled: RawAmount::ZERO, ..obligation_row(row)? };
        account.load_obligation(row.int("obligations", "seq")?, Some(owed));
    }
    Ok(())
}

/// Lots with what they had left before the page.
async fn lots(tx: &mut Tx, keys: Vec<Vec<Value>>, first: i64) -> Result<Vec<Lot>, StoreError> {
    let moves = bulk(
        "SELECT m.lot_seq, m.seq, m.amount_nano
         FROM {each} JOIN lot_moves m ON m.journal_id = r.column1 AND m.lot_seq = r.column2",
        keys.clone(),
    )
    .fetch_all(tx)
    .await?;
    let mut moved: BTreeMap<i64, i64> = BTreeMap::new();
    for row in &moves {
        if row.int("lot_moves", "seq")? >= first {
            continue;
        }
        let sum = moved.entry(row.int("lot_moves", "lot_seq")?).or_default();
        *sum = sum.saturating_add(row.int("lot_moves", "amount_nano")?);
    }
    bulk(
        concat!(
            "SELECT ",
            lot_columns!(),
            " FROM {each} JOIN lots l ON l.journal_id = r.column1 AND l.lot_seq = r.column2"
        ),
        keys,
    )
    .fetch_all(tx)
    .await?
    .iter()
    .map(|row| {
        let lot = lot_row(row)?;
        let moved = Nanocredits(moved.get(&lot.seq).copied().unwrap_or(0));
        let remaining = lot.amount.checked_add(moved);
        let remaining =
            remaining.ok_or_else(|| corrupt("lot_moves", "amount_nano", "do not fit a lot"))?;
        Ok(Lot { remaining, ..lot })
    })
    .collect()
}

/// What conversions owed before the page, as the house's journal sees it. Whether one of them is void a
/// namespace's journal says, and no order is known between the two: the sums are compared at the end.
async fn load_owing(
    tx: &mut Tx,
    account: &mut Account,
    first: i64,
    owing: &BTreeSet<(i64, i64)>,
) -> Result<(), StoreError> {
    let keys = || owing.iter().map(|(j, seq)| vec![(*j).into(), (*seq).into()]).collect();
    let parts = bulk(
        "SELECT s.journal_id, s.credit_seq, s.seq, s.tokens
         FROM {each} JOIN settlements s ON s.journal_id = r.column1 AND s.credit_seq = r.column2",
        keys(),
    )
    .fetch_all(tx)
    .await?;
    let mut settled: BTreeMap<(i64, i64), RawAmount> = BTreeMap::new();
    for row in &parts {
        const TABLE: &str = "settlements";
        if row.int(TABLE, "seq")? >= first {
            continue;
        }
        let key = (row.int(TABLE, "journal_id")?, row.int(TABLE, "credit_seq")?);
        add(settled.entry(key).or_default(), row.amount(TABLE, "tokens")?)?;
    }
    let rows = bulk(
        "SELECT q.journal_id, q.seq, q.record_id, q.kind, q.cause, q.outcome
         FROM {each} JOIN records q ON q.journal_id = r.column1 AND q.seq = r.column2",
        keys(),
    )
    .fetch_all(tx)
    .await?;
    for row in &rows {
        let key = (row.int("records", "journal_id")?, row.int("records", "seq")?);
        let Some(owed) = owed(row)? else { continue };
        let settled = settled.get(&key).copied().unwrap_or_default();
        account.load_owing(JournalId(key.0), key.1, Owing { settled, ..owed });
    }
    Ok(())
}

/// What a credit's conversion owes, by its record alone: its journal is read later, and its rows are not
/// compared yet. None where it owes nothing, or cannot be read.
fn owed(row: &Row) -> Result<Option<Owing>, StoreError> {
    const TABLE: &str = "records";
    let Ok(kind) = Kind::parse(&row.text(TABLE, "kind")?) else { return Ok(None) };
    let cause = Cause::from_json(kind, &row.text(TABLE, "cause")?);
    let outcome = Outcome::from_json(kind, &row.text(TABLE, "outcome")?);
    let (asset, conversion, did) = match (cause, outcome) {
        (Ok(Cause::DepositCredited(cause)), Ok(Outcome::Credited(did, _))) => {
            (cause.asset, cause.conversion, did)
        }
        (Ok(Cause::DepositCorrected(cause)), Ok(Outcome::Corrected(did, _))) => {
            (cause.again.asset, cause.again.conversion, did.credited)
        }
        _ => return Ok(None),
    };
    let into = conversion.and_then(|conversion| conversion.into);
    let (Some(into), Some(tokens)) = (into, did.owed_tokens) else { return Ok(None) };
    Ok(Some(Owing {
        record_id: RecordId(row.b256(TABLE, "record_id")?),
        asset,
        into_asset: into.asset,
        tokens,
        usd: did.owed_usd_nano,
        settled: RawAmount::ZERO,
        void: false,
    }))
}

/// Purchases with what they had settled before the page. What else there is to say of one, its row says,
/// which is compared with each settlement.
async fn load_purchases(
    tx: &mut Tx,
    account: &mut Account,
    first: i64,
    purchases: &BTreeMap<(ChainId, B256), Purchase>,
) -> Result<(), StoreError> {
    let keys = purchases
        .keys()
        .map(|(chain, tx_hash)| Ok(vec![to_int(chain.0, "chain id")?.into(), (*tx_hash).into()]))
        .collect::<Result<_, StoreError>>()?;
    let rows = bulk(
        "SELECT s.seq, s.chain_id, s.tx_hash, s.tokens FROM {each}
         JOIN settlements s ON s.chain_id = r.column1 AND s.tx_hash = r.column2",
        keys,
    )
    .fetch_all(tx)
    .await?;
    let mut used: BTreeMap<(ChainId, B256), RawAmount> = BTreeMap::new();
    for row in &rows {
        const TABLE: &str = "settlements";
        if row.int(TABLE, "seq")? < first {
            let key = (ChainId(row.uint(TABLE, "chain_id")?), row.b256(TABLE, "tx_hash")?);
            add(used.entry(key).or_default(), row.amount(TABLE, "tokens")?)?;
        }
    }
    for ((chain, tx_hash), purchase) in purchases {
        let used = used.get(&(*chain, *tx_hash)).copied();
        let known = used.map(|used| Purchase { used, ..purchase.clone() });
        account.load_purchase(*chain, *tx_hash, known);
    }
    Ok(())
}

fn add(sum: &mut RawAmount, part: RawAmount) -> Result<(), StoreError> {
    let more = sum.checked_add(part);
    *sum = more.ok_or_else(|| corrupt("settlements", "tokens", "do not fit 256 bits"))?;
    Ok(())
}
