//! What was seen in the adopted blocks: sightings, and the deposits that they are of.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256};

use crate::domain::deposit::{Event, HoldReason, IgnoreReason, Stage, Verdict};
use crate::domain::finding::{FindingKind, NewFinding, of_deposit};
use crate::domain::ids::{AddressId, ChainId, DepositId};
use crate::domain::transfer::{Content, Sighting};
use crate::store::chain::scanned::{Seen, SightingToStore};
use crate::store::db::query::query;
use crate::store::db::{Tx, Value, bulk};
use crate::store::deposits::stages::{Standing, stage_of, standings};
use crate::store::errors::StoreError;
use crate::store::events::tell_seen;
use crate::store::findings::undisputed;
use crate::store::rows::{amount_bytes, to_int};

/// Milliseconds in a day, for the quota of the worthless.
const DAY_MS: i64 = 86_400_000;

/// Whose an address is: it, and its namespace.
type Owners = BTreeMap<AddressId, (Address, i64)>;

/// Records what two say: it takes the place of what one said, unless a receipt has confirmed that.
const OVERRULE_SIGHTINGS: &str = "INSERT INTO sightings
       (chain_id, block_hash, log_index, block_number, deposit_id, tx_hash, token, recipient,
        sender, raw_amount, malformed, topics, data, provider, seen_at_ms) {rows}
     ON CONFLICT (chain_id, block_hash, log_index)
       DO UPDATE SET deposit_id = excluded.deposit_id, tx_hash = excluded.tx_hash,
         token = excluded.token, recipient = excluded.recipient, sender = excluded.sender,
         raw_amount = excluded.raw_amount, malformed = excluded.malformed,
         topics = excluded.topics, data = excluded.data, provider = excluded.provider
       WHERE (sightings.deposit_id <> excluded.deposit_id
          OR sightings.tx_hash <> excluded.tx_hash OR sightings.token <> excluded.token
          OR sightings.recipient <> excluded.recipient
          OR COALESCE(sightings.sender, excluded.tx_hash)
             <> COALESCE(excluded.sender, excluded.tx_hash)
          OR COALESCE(sightings.raw_amount, excluded.token)
             <> COALESCE(excluded.raw_amount, excluded.token))
         AND NOT EXISTS (SELECT 1 FROM deposits d WHERE d.deposit_id = sightings.deposit_id
               AND d.block_hash = sightings.block_hash AND d.log_index = sightings.log_index
               AND d.stage IN ('confirmed', 'priced', 'credited'))
         AND NOT EXISTS (SELECT 1 FROM credits k WHERE k.deposit_id = sightings.deposit_id
               AND k.block_hash = sightings.block_hash
               AND k.log_index = sightings.log_index)";

/// Records what one says: of a log that is known, only of which deposit it is.
const INSERT_SIGHTINGS: &str = "INSERT INTO sightings
       (chain_id, block_hash, log_index, block_number, deposit_id, tx_hash, token, recipient,
        sender, raw_amount, malformed, topics, data, provider, seen_at_ms) {rows}
     ON CONFLICT (chain_id, block_hash, log_index)
       DO UPDATE SET deposit_id = excluded.deposit_id
       WHERE sightings.deposit_id <> excluded.deposit_id
         AND sightings.tx_hash = excluded.tx_hash
         AND NOT EXISTS (SELECT 1 FROM deposits d WHERE d.deposit_id = sightings.deposit_id
               AND d.block_hash = sightings.block_hash AND d.log_index = sightings.log_index
               AND d.stage IN ('confirmed', 'priced', 'credited'))
         AND NOT EXISTS (SELECT 1 FROM credits k WHERE k.deposit_id = sightings.deposit_id
               AND k.block_hash = sightings.block_hash
               AND k.log_index = sightings.log_index)";

/// Records sightings and walks their deposits. Returns how many deposits changed, and what somebody
/// should look at.
pub(in crate::store) async fn record(
    tx: &mut Tx,
    chain: i64,
    seen: Seen<'_>,
    now_ms: i64,
) -> Result<(usize, Vec<NewFinding>), StoreError> {
    let Seen { sightings, provider, overrules, unlisted_per_day, .. } = seen;
    let mut known = standings(tx, sightings.iter().map(|s| s.sighting.deposit.id())).await?;
    let owners = owners(tx, sightings).await?;
    let taken = taken(tx, chain, sightings, overrules).await?;
    let mut changed: usize = 0;
    let (mut deposits, mut facts, mut moved) = (Vec::new(), Vec::new(), Vec::new());
    let (mut contradicted, mut told) = (Vec::new(), Vec::new());
    for SightingToStore { sighting, verdict } in sightings {
        let id = sighting.deposit.id();
        let place = (sighting.key.block_hash, sighting.key.log_index);
        let seen = Event::Seen(*verdict);
        let taken = taken.contains(&place);
        match known.get(&id).copied() {
            None => {
                let worthless = *verdict == Verdict::Ignore(IgnoreReason::UnlistedToken);
                if worthless
                    && !within_quota(tx, sighting.address_id, unlisted_per_day, now_ms).await?
                {
                    continue;
                }
                let stage = seen_as(Stage::Orphaned, seen, taken)?;
                contradicted.extend(found_taken(chain, sighting, stage, provider));
                let namespace = owner(&owners, sighting)?;
                deposits.push(deposit_row(chain, sighting, id, namespace, stage, now_ms)?);
                told.push(id);
                let raw = sighting.amount();
                known.insert(id, Standing { stage, place, raw, canonical: true });
                changed = changed.saturating_add(1);
            }
            Some(Standing { stage, place: stands, raw, canonical }) => {
                // The same log again is no news, unless its block was orphaned meanwhile, its
                // token was listed, or what it says was corrected.
                let listed = stage == Stage::Ignored(IgnoreReason::UnlistedToken)
                    && *verdict == Verdict::Accept;
                let gone = matches!(stage, Stage::Orphaned | Stage::Reversed);
                let corrected = overrules && raw != sighting.amount();
                let news = stands != place || gone || listed || corrected;
                // One that stands somewhere does not leave it for a place that is another one's.
                let mut stays = stage == Stage::Credited || (taken && !gone && !listed);
                // A transaction is in one block: one's word does not move it to another one.
                let open = stage == Stage::Pending || stage.is_held_for_its_receipt();
                stays |= canonical && stands.0 != place.0 && open && !overrules;
                if news && !stays {
                    let next = seen_as(stage, seen, taken)?;
                    contradicted.extend(found_taken(chain, sighting, next, provider));
                    moved.push((id, sighting, stage, next));
                    told.push(id);
                    let raw = sighting.amount();
                    known.insert(id, Standing { stage: next, place, raw, canonical: true });
                    changed = changed.saturating_add(1);
                }
            }
        }
        if !taken {
            facts.push(sighting_row(chain, sighting, id, provider, now_ms)?);
        }
    }
    bulk(
        "INSERT INTO deposits
           (deposit_id, chain_id, tx_hash, token, recipient, shape, n, address_id, namespace_id,
            block_hash, block_number, log_index, raw_amount, stage, reason,
            first_seen_at_ms, updated_at_ms, due_number) {rows}",
        deposits,
    )
    .execute(tx)
    .await?;
    let ignored = moved.iter().filter(|(.., next)| matches!(next, Stage::Ignored(_)));
    undisputed(tx, chain, ignored.map(|(id, ..)| *id), now_ms).await?;
    for (id, sighting, from, next) in moved {
        move_deposit(tx, id, sighting, from, next, now_ms).await?;
    }
    tell_seen(tx, told.into_iter(), now_ms).await?;
    // What a receipt has confirmed, no later answer moves.
    let insert = if overrules { OVERRULE_SIGHTINGS } else { INSERT_SIGHTINGS };
    bulk(insert, facts).execute(tx).await?;
    Ok((changed, contradicted))
}

/// The places of sightings at which another transaction's log is recorded: one of the two was never
/// there, or somebody numbers logs in a way of its own. The first stays. Two who say so may put
/// another one in its place once its own deposit is held, because nobody else has it, orphaned, or
/// stands elsewhere.
async fn taken(
    tx: &mut Tx,
    chain: i64,
    sightings: &[SightingToStore],
    overrules: bool,
) -> Result<BTreeSet<(B256, u64)>, StoreError> {
    let rows = sightings
        .iter()
        .map(|SightingToStore { sighting: s, .. }| {
            let log_index = to_int(s.key.log_index, "log index")?;
            let (block, tx_hash) = (s.key.block_hash, s.deposit.tx_hash);
            Ok(vec![chain.into(), block.into(), log_index.into(), tx_hash.into()])
        })
        .collect::<Result<_, StoreError>>()?;
    let mut taken = BTreeSet::new();
    let found = bulk(
        "SELECT s.block_hash, s.log_index, d.stage, d.reason,
                CAST(CASE WHEN d.block_hash = s.block_hash AND d.log_index = s.log_index
                          THEN 1 ELSE 0 END AS BIGINT) AS stands
         FROM {each}
         JOIN sightings s ON s.chain_id = r.column1 AND s.block_hash = r.column2
                         AND s.log_index = r.column3
         JOIN deposits d ON d.deposit_id = s.deposit_id
         WHERE s.tx_hash <> r.column4",
        rows,
    )
    .fetch_all(tx)
    .await?;
    for row in found {
        let stage = stage_of(&row)?;
        let stands = row.int("deposits", "stands")? == 1;
        let disowned = !stands || stage == Stage::Orphaned || stage.is_held_for_its_receipt();
        if !(overrules && disowned) {
            taken.insert((
                row.b256("sightings", "block_hash")?,
                row.uint("sightings", "log_index")?,
            ));
        }
    }
    Ok(taken)
}

/// The stage of a deposit that was seen. In a place that is another transaction's it is not pending:
/// its own log is not recorded, and what two say of it must come first.
fn seen_as(stage: Stage, seen: Event, taken: bool) -> Result<Stage, StoreError> {
    let next = stage.next(seen)?;
    if taken && next == Stage::Pending {
        return Ok(next.next(Event::Hold(HoldReason::ProvidersDisagree))?);
    }
    Ok(next)
}

/// What to say of a deposit whose place another transaction has: nothing else tells of it, before its
/// receipts are compared.
fn found_taken(
    chain: i64,
    sighting: &Sighting,
    stage: Stage,
    provider: &str,
) -> Option<NewFinding> {
    let is_held = stage == Stage::Held(HoldReason::ProvidersDisagree);
    is_held.then(|| NewFinding {
        chain: u64::try_from(chain).ok().map(ChainId),
        kind: FindingKind::ProvidersDisagree,
        subject: of_deposit(sighting.deposit.id()),
        detail: serde_json::json!({
            "tx_hash": sighting.deposit.tx_hash, "block_hash": sighting.key.block_hash,
            "log_index": sighting.key.log_index, "provider": provider,
            "why": "another transaction is recorded at the same place",
        }),
    })
}

fn deposit_row(
    chain: i64,
    sighting: &Sighting,
    id: DepositId,
    namespace_id: i64,
    stage: Stage,
    now_ms: i64,
) -> Result<Vec<Value>, StoreError> {
    let key = &sighting.deposit;
    Ok(vec![
        id.0.into(),
        chain.into(),
        key.tx_hash.into(),
        key.token.into(),
        key.recipient.into(),
        key.shape.as_str().into(),
        i64::from(key.n).into(),
        i64::from(sighting.address_id.0).into(),
        namespace_id.into(),
        sighting.key.block_hash.into(),
        to_int(sighting.block_number, "block")?.into(),
        to_int(sighting.key.log_index, "log index")?.into(),
        amount_bytes(sighting.amount()).into(),
        stage.as_str().into(),
        stage.reason().into(),
        now_ms.into(),
        now_ms.into(),
        to_int(sighting.block_number, "block")?.into(),
    ])
}

fn sighting_row(
    chain: i64,
    sighting: &Sighting,
    id: DepositId,
    provider: &str,
    now_ms: i64,
) -> Result<Vec<Value>, StoreError> {
    let (sender, amount, malformed, topics, data) = match &sighting.content {
        Content::Transfer { sender, amount } => {
            (Some(sender.to_vec()), Some(amount_bytes(*amount)), None, None, None)
        }
        Content::Malformed { why, topics, data } => {
            let topics = topics.iter().flat_map(|t| t.0).collect::<Vec<u8>>();
            (None, None, Some(why.as_str()), Some(topics), Some(data.to_vec()))
        }
    };
    Ok(vec![
        chain.into(),
        sighting.key.block_hash.into(),
        to_int(sighting.key.log_index, "log index")?.into(),
        to_int(sighting.block_number, "block")?.into(),
        id.0.into(),
        sighting.deposit.tx_hash.into(),
        sighting.deposit.token.into(),
        sighting.deposit.recipient.into(),
        sender.into(),
        amount.into(),
        malformed.into(),
        topics.into(),
        data.into(),
        provider.into(),
        now_ms.into(),
    ])
}

/// Points a deposit at another sighting: after a reorg its block, log index and amount may differ.
async fn move_deposit(
    tx: &mut Tx,
    id: DepositId,
    sighting: &Sighting,
    from: Stage,
    to: Stage,
    now_ms: i64,
) -> Result<(), StoreError> {
    query(
        "UPDATE deposits SET block_hash = $2, block_number = $3, log_index = $4, raw_amount = $5,
           stage = $6, reason = $7, updated_at_ms = COALESCE($8, updated_at_ms),
           record_seq = NULL, due_by = 'new', due_number = $3
         WHERE deposit_id = $1",
    )
    .bind(id.0)
    .bind(sighting.key.block_hash)
    .bind(to_int(sighting.block_number, "block")?)
    .bind(to_int(sighting.key.log_index, "log index")?)
    .bind(amount_bytes(sighting.amount()))
    .bind(to.as_str())
    .bind(to.reason())
    // How long it has been pending counts from when it became so.
    .bind((from != to).then_some(now_ms))
    .execute(tx)
    .await?;
    Ok(())
}

/// Takes one from an address's quota for the day, or counts what did not fit.
async fn within_quota(
    tx: &mut Tx,
    address: AddressId,
    per_day: i64,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let day = now_ms.div_euclid(DAY_MS);
    query(
        "INSERT INTO unlisted_quota (address_id, day, recorded, dropped) VALUES ($1, $2, 0, 0)
         ON CONFLICT DO NOTHING",
    )
    .bind(i64::from(address.0))
    .bind(day)
    .execute(&mut *tx)
    .await?;
    let recorded = query(
        "UPDATE unlisted_quota SET recorded = recorded + 1
         WHERE address_id = $1 AND day = $2 AND recorded < $3",
    )
    .bind(i64::from(address.0))
    .bind(day)
    .bind(per_day)
    .execute(&mut *tx)
    .await?;
    if recorded > 0 {
        return Ok(true);
    }
    query("UPDATE unlisted_quota SET dropped = dropped + 1 WHERE address_id = $1 AND day = $2")
        .bind(i64::from(address.0))
        .bind(day)
        .execute(&mut *tx)
        .await?;
    Ok(false)
}

/// The namespace that is paid. An id is no proof of it: whoever read the book read it from a database that
/// may have gone back since.
fn owner(owners: &Owners, paid: &Sighting) -> Result<i64, StoreError> {
    let (id, recipient) = (paid.address_id, paid.deposit.recipient);
    match owners.get(&id) {
        Some((address, namespace)) if *address == recipient => Ok(*namespace),
        _ => Err(StoreError::WentBack(format!(
            "address {recipient} (id {}) is missing, or another one",
            id.0
        ))),
    }
}

/// The owners of the addresses that were paid.
async fn owners(tx: &mut Tx, sightings: &[SightingToStore]) -> Result<Owners, StoreError> {
    let ids: BTreeSet<AddressId> = sightings.iter().map(|s| s.sighting.address_id).collect();
    bulk(
        "SELECT address_id, address, namespace_id FROM addresses WHERE address_id {keys}",
        ids.into_iter().map(|id| vec![i64::from(id.0).into()]).collect(),
    )
    .fetch_all(tx)
    .await?
    .iter()
    .map(|row| {
        let id = AddressId(row.uint32("addresses", "address_id")?);
        Ok((id, (row.address("addresses", "address")?, row.int("addresses", "namespace_id")?)))
    })
    .collect()
}
