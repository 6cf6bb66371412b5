//! What proves receipts that payments were confirmed by: kept with the confirmation, checked by
//! `ledger verify`; and which payments two people let go on without such a proof.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::B256;

use crate::domain::ids::{ChainId, DepositId, DepositKey, Shape};
use crate::domain::journal::DepositCredit;
use crate::domain::receipt_proof::ReceiptProof;
use crate::domain::transfer::Content;
use crate::store::db::query::query;
use crate::store::db::{Row, Tx, bulk};
use crate::store::deposits::open_deposit::Confirmation;
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::rows::{corrupt, to_int};
use crate::store::verify::{Check, claim};

/// Proofs read at a time: a receipt of many logs is large.
const PAGE: i64 = 32;
const OTHER_TIME: &str = "the block's header has another time";
/// The same, where payments are credited by them: they were read from the chain a short while ago, and fit there.
const PAGE_OF_CREDITS: usize = 256;
/// What the acts say that release a deposit whose block cannot be proved, so that they release it from
/// nothing else.
pub(in crate::store) const HELD_UNPROVED: &str = r#"{"held":"unproved"}"#;

/// Keeps what proves the receipts of these confirmations.
pub(in crate::store) async fn keep(
    tx: &mut Tx,
    confirmations: impl Iterator<Item = &Confirmation>,
) -> Result<(), StoreError> {
    let mut rows = Vec::new();
    let mut kept: BTreeSet<(B256, B256)> = BTreeSet::new();
    for Confirmation { deposit, proof, .. } in confirmations {
        let Some(proof) = proof else { continue };
        let (block, tx_hash) = (deposit.block.hash, deposit.key.tx_hash);
        if !kept.insert((block, tx_hash)) {
            continue;
        }
        rows.push(vec![
            to_int(deposit.key.chain.0, "chain id")?.into(),
            block.into(),
            tx_hash.into(),
            proof.header.to_vec().into(),
            to_int(proof.index, "place of a receipt")?.into(),
            proof.receipt.to_vec().into(),
            proof.nodes_in_one().into(),
        ]);
    }
    // One that is there already proves the same.
    bulk(
        "INSERT INTO receipt_proofs
           (chain_id, block_hash, tx_hash, header, receipt_index, receipt, nodes) {rows}
         ON CONFLICT DO NOTHING",
        rows,
    )
    .execute(tx)
    .await
    .map_err(StoreError::from)
}

/// Every proof leads from its block's hash to a receipt which shows the transfers that were confirmed
/// by it.
pub(in crate::store) async fn proofs(tx: &mut Tx) -> Check<()> {
    let mut after = (-1i64, B256::ZERO, B256::ZERO);
    loop {
        let page = query(
            "SELECT chain_id, block_hash, tx_hash, header, receipt_index, receipt, nodes
             FROM receipt_proofs WHERE (chain_id, block_hash, tx_hash) > ($1, $2, $3)
             ORDER BY chain_id, block_hash, tx_hash LIMIT $4",
        )
        .bind(after.0)
        .bind(after.1)
        .bind(after.2)
        .bind(PAGE)
        .fetch_all(&mut *tx)
        .await?;
        if page.is_empty() {
            return Ok(Ok(()));
        }
        let places: Vec<Place> = page.iter().map(place).collect::<Result<_, _>>()?;
        let confirmed = confirmed_by(tx, &places).await?;
        for (row, place) in page.iter().zip(places) {
            after = place;
            let (_, block, tx_hash) = place;
            let name = format!("transaction {tx_hash}, block {block}");
            let proof = match proof(row)? {
                Some(proof) => proof,
                None => {
                    claim!(false, "receipt_proofs", name, "its nodes cannot be read");
                    continue;
                }
            };
            if let Err(why) = proof.logs(block) {
                claim!(false, "receipt_proofs", name, why);
            }
            for (deposit, content, time_ms) in confirmed.get(&place).into_iter().flatten() {
                if !proof.is_of(*time_ms) {
                    let problem =
                        format!("{OTHER_TIME}, of that which deposit {} rests on", deposit.id());
                    claim!(false, "blocks", format!("block {block}"), problem);
                }
                if let Err(why) = proof.shows(block, deposit, content) {
                    let problem = format!("{why} that deposit {} rests on", deposit.id());
                    claim!(false, "receipt_proofs", name, problem);
                }
            }
        }
    }
}

/// A chain, a block and a transaction.
type Place = (i64, B256, B256);

fn place(row: &Row) -> Result<Place, StoreError> {
    const TABLE: &str = "receipt_proofs";
    Ok((row.int(TABLE, "chain_id")?, row.b256(TABLE, "block_hash")?, row.b256(TABLE, "tx_hash")?))
}

fn proof(row: &Row) -> Result<Option<ReceiptProof>, StoreError> {
    const TABLE: &str = "receipt_proofs";
    let bytes = |column| {
        row.opt_bytes(TABLE, column)?.ok_or_else(|| corrupt(TABLE, "header", "is missing"))
    };
    let Some(nodes) = ReceiptProof::nodes_of(&bytes("nodes")?) else { return Ok(None) };
    Ok(Some(ReceiptProof {
        header: bytes("header")?.into(),
        index: row.uint(TABLE, "receipt_index")?,
        receipt: bytes("receipt")?.into(),
        nodes,
    }))
}

/// The transfers that were confirmed by each of these proofs.
async fn confirmed_by(
    tx: &mut Tx,
    places: &[Place],
) -> Result<BTreeMap<Place, Vec<(DepositKey, Content, i64)>>, StoreError> {
    let rows = bulk(
        "SELECT DISTINCT s.chain_id, s.block_hash, s.tx_hash, d.token, d.recipient, d.n,
                s.raw_amount, s.sender, b.block_time_ms
         FROM {each}
         JOIN sightings s ON s.chain_id = r.column1 AND s.block_hash = r.column2
                         AND s.tx_hash = r.column3
         JOIN confirmations c ON c.deposit_id = s.deposit_id AND c.block_hash = s.block_hash
                             AND c.log_index = s.log_index AND c.verify = 'receipts-root'
         JOIN deposits d ON d.deposit_id = s.deposit_id AND d.chain_id = s.chain_id
         JOIN blocks b ON b.chain_id = s.chain_id AND b.block_hash = s.block_hash
         WHERE d.shape = 'transfer' AND s.malformed IS NULL",
        places.iter().map(|p| vec![p.0.into(), p.1.into(), p.2.into()]).collect(),
    )
    .fetch_all(tx)
    .await?;
    let mut confirmed: BTreeMap<Place, Vec<_>> = BTreeMap::new();
    for row in &rows {
        let place = place(row)?;
        let deposit = DepositKey {
            chain: ChainId(row.uint("sightings", "chain_id")?),
            tx_hash: place.2,
            token: row.address("deposits", "token")?,
            recipient: row.address("deposits", "recipient")?,
            shape: Shape::Transfer,
            n: row.uint32("deposits", "n")?,
        };
        let sender = row.address("sightings", "sender")?;
        let amount = row.amount("sightings", "raw_amount")?;
        let time_ms = row.int("blocks", "block_time_ms")?;
        let transfer = (deposit, Content::Transfer { sender, amount }, time_ms);
        confirmed.entry(place).or_default().push(transfer);
    }
    Ok(confirmed)
}

impl Store {
    /// Which of these deposits two people released in the block that they stand in, though it cannot
    /// be proved.
    pub async fn released_unproved(
        &self,
        ids: impl Iterator<Item = DepositId>,
    ) -> Result<BTreeSet<DepositId>, StoreError> {
        let ids: Vec<DepositId> = ids.collect();
        let mut tx = self.db.begin_read().await?;
        let released = released_unproved_in(&mut tx, &ids).await?;
        Self::abandon(tx).await?;
        Ok(released)
    }
}

/// The same in a transaction.
pub(in crate::store) async fn released_unproved_in(
    tx: &mut Tx,
    ids: &[DepositId],
) -> Result<BTreeSet<DepositId>, StoreError> {
    if ids.is_empty() {
        return Ok(BTreeSet::new());
    }
    bulk(
        "SELECT DISTINCT d.deposit_id FROM {each}
         JOIN deposits d ON d.deposit_id = r.column1
         JOIN operator_acts p ON p.deposit_id = d.deposit_id AND p.block_hash = d.block_hash
         JOIN operator_acts q ON q.approves = p.act_id
         WHERE p.kind = 'propose_release' AND p.latch = r.column2",
        ids.iter().map(|id| vec![id.0.into(), HELD_UNPROVED.into()]).collect(),
    )
    .fetch_all(tx)
    .await?
    .iter()
    .map(|row| Ok(DepositId(row.b256("deposits", "deposit_id")?)))
    .collect()
}

/// Of credits that rest on a proof: those that it does not show, and why.
pub(in crate::store) async fn not_shown(
    tx: &mut Tx,
    credits: &[&DepositCredit],
) -> Result<BTreeMap<DepositId, &'static str>, StoreError> {
    let mut by_place: BTreeMap<Place, Vec<&DepositCredit>> = BTreeMap::new();
    for cause in credits {
        let chain = to_int(cause.chain_id.0, "chain id")?;
        by_place.entry((chain, cause.block_hash, cause.tx_hash)).or_default().push(cause);
    }
    let places: Vec<Place> = by_place.keys().copied().collect();
    let mut not = BTreeMap::new();
    for page in places.chunks(PAGE_OF_CREDITS) {
        let rows = bulk(
            "SELECT y.chain_id, y.block_hash, y.tx_hash, y.header, y.receipt_index, y.receipt, y.nodes
             FROM {each}
             JOIN receipt_proofs y ON y.chain_id = r.column1 AND y.block_hash = r.column2
                                  AND y.tx_hash = r.column3",
            page.iter().map(|p| vec![p.0.into(), p.1.into(), p.2.into()]).collect(),
        )
        .fetch_all(&mut *tx)
        .await?;
        for row in &rows {
            let (proof, place) = (proof(row)?, place(row)?);
            for cause in by_place.remove(&place).into_iter().flatten() {
                let (key, amount) = (cause.deposit_key(), cause.raw_amount);
                let content = Content::Transfer { sender: cause.sender, amount };
                let shown = match &proof {
                    Some(proof) if !proof.is_of(cause.block_time_ms) => Err(OTHER_TIME),
                    Some(proof) => proof.shows(cause.block_hash, &key, &content),
                    None => Err("the nodes of its proof cannot be read"),
                };
                if let Err(why) = shown {
                    not.insert(key.id(), why);
                }
            }
        }
    }
    for cause in by_place.into_values().flatten() {
        not.insert(cause.deposit_key().id(), "its proof is gone");
    }
    Ok(not)
}
