//! What a credit rests on: its cause, built from rows.
//!
//! The commit that credits a deposit builds the cause here, and so does `ledger verify`, of the same place: where the
//! two differ, a row was changed since. Rows that do not agree with each other give no cause. It decides no amount:
//! the price was fixed before, and is a row like the others.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256};

use crate::domain::conversion::Conversion;
use crate::domain::ids::{BlockRef, ChainId, DepositId, DepositKey, Shape, SightingKey};
use crate::domain::journal::{CreditFacts, DepositCredit, JournalId};
use crate::domain::money::Nanocredits;
use crate::domain::pricing::{EpochBook, Price, Token, price};
use crate::domain::terms::Rule;
use crate::store::db::{Row, Tx, bulk};
use crate::store::deposits::screenings::{acts_about, answers_about};
use crate::store::errors::StoreError;
use crate::store::rows::{corrupt, to_int};

/// Where a deposit is credited: on which of its sightings, and after how many credits that were undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct Place {
    pub(in crate::store) deposit: DepositId,
    pub(in crate::store) block_hash: B256,
    pub(in crate::store) log_index: u64,
    pub(in crate::store) reversals: u32,
}

/// The cause that the rows of a place give.
#[derive(Debug, Clone)]
pub(in crate::store) struct Grounds {
    /// Of the namespace that the deposit and its address belong to.
    pub(in crate::store) journal: JournalId,
    /// Without what was said and decided about the payment: [`SaidAbout`] adds that.
    pub(in crate::store) cause: DepositCredit,
    /// The block that it stands in is canonical.
    pub(in crate::store) canonical: bool,
}

/// The grounds of these places, of those whose rows are all there and agree.
pub(in crate::store) async fn grounds(
    tx: &mut Tx,
    places: impl Iterator<Item = Place>,
) -> Result<BTreeMap<Place, Grounds>, StoreError> {
    let rows = places
        .map(|place| {
            Ok(vec![
                place.deposit.0.into(),
                place.block_hash.into(),
                to_int(place.log_index, "log index")?.into(),
                i64::from(place.reversals).into(),
            ])
        })
        .collect::<Result<_, StoreError>>()?;
    // One row of each of six tables is joined, and all others are looked up: PostgreSQL plans a join of all twelve for a
    // quarter of a second, on each connection several times.
    bulk(
        "SELECT d.deposit_id, d.namespace_id, d.chain_id, d.tx_hash, d.token, d.recipient, d.n,
                s.block_hash, s.block_number, s.log_index, s.sender,
                c.policy, c.head_number, c.head_hash, c.receipt_provider, c.log_provider, c.verify, c.reversals,
                p.epoch_id, p.rule, p.asset, p.raw_amount, p.decimals, p.credits_per_token, p.credits_nano,
                b.block_time_ms, b.canonical,
                (SELECT n.name FROM namespaces n WHERE n.namespace_id = d.namespace_id) AS name,
                (SELECT a.address_id FROM addresses a WHERE a.address_id = d.address_id
                    AND a.address = d.recipient AND a.namespace_id = d.namespace_id) AS bound,
                (SELECT y.receipt_index FROM receipt_proofs y
                  WHERE y.chain_id = d.chain_id AND y.block_hash = r.column2
                    AND y.tx_hash = d.tx_hash AND c.verify = 'receipts-root') AS receipt_index,
                (SELECT v.body FROM conversions v WHERE v.deposit_id = d.deposit_id
                    AND v.block_hash = r.column2 AND v.log_index = r.column3) AS conversion,
                (SELECT e.body_hash FROM epochs e WHERE e.epoch_id = p.epoch_id) AS body_hash
         FROM {each}
         JOIN deposits d ON d.deposit_id = r.column1
         JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = r.column2
         JOIN sightings s ON s.chain_id = d.chain_id AND s.block_hash = r.column2
                         AND s.log_index = r.column3 AND s.deposit_id = d.deposit_id
                         AND s.block_number = b.block_number AND s.tx_hash = d.tx_hash
                         AND s.token = d.token AND s.recipient = d.recipient
                         AND s.malformed IS NULL AND s.topics IS NULL AND s.data IS NULL
         JOIN confirmations c ON c.deposit_id = d.deposit_id AND c.block_hash = r.column2
                             AND c.log_index = r.column3 AND c.reversals = r.column4
                             AND COALESCE(c.log_provider, '') = COALESCE(s.provider, '')
         JOIN prices p ON p.deposit_id = d.deposit_id AND p.block_hash = r.column2
                      AND p.log_index = r.column3 AND p.raw_amount = s.raw_amount",
        rows,
    )
    .fetch_all(tx)
    .await?
    .iter()
    .filter(|row| ["name", "bound", "body_hash"].iter().all(|column| !row.is_null(column)))
    .map(|row| {
        let of_place = ground(row)?;
        let cause = &of_place.cause;
        let place = Place {
            deposit: DepositId(row.b256("deposits", "deposit_id")?),
            block_hash: cause.block_hash,
            log_index: cause.log_index,
            reversals: cause.reversals,
        };
        Ok((place, of_place))
    })
    .collect()
}

fn ground(row: &Row) -> Result<Grounds, StoreError> {
    let chain = ChainId(row.uint("deposits", "chain_id")?);
    let block: BlockRef = row.block_ref("sightings")?;
    let rule = Rule::parse(&row.text("prices", "rule")?)
        .ok_or_else(|| corrupt("prices", "rule", "not a rule"))?;
    let conversion = conversion(row)?;
    if rule.is_market() != conversion.is_some() {
        return Err(corrupt("conversions", "body", "is there without a market rule, or missing"));
    }
    let facts = CreditFacts {
        namespace: row.text("namespaces", "name")?,
        deposit: DepositKey {
            chain,
            tx_hash: row.b256("deposits", "tx_hash")?,
            token: row.address("deposits", "token")?,
            recipient: row.address("deposits", "recipient")?,
            shape: Shape::Transfer,
            n: row.uint32("deposits", "n")?,
        },
        sighting: SightingKey {
            chain,
            block_hash: block.hash,
            log_index: row.uint("sightings", "log_index")?,
        },
        block_number: block.number,
        block_time_ms: row.int("blocks", "block_time_ms")?,
        sender: row.address("sightings", "sender")?,
        finality: row.text("confirmations", "policy")?,
        head: BlockRef {
            number: row.uint("confirmations", "head_number")?,
            hash: row.b256("confirmations", "head_hash")?,
        },
        receipt_provider: row.text("confirmations", "receipt_provider")?,
        log_provider: row.opt_text("confirmations", "log_provider")?,
        verify: row.opt_text("confirmations", "verify")?,
        receipt_index: match row.is_null("receipt_index") {
            true => None,
            false => Some(row.uint("receipt_proofs", "receipt_index")?),
        },
        reversals: row.uint32("confirmations", "reversals")?,
        epoch_hash: row.b256("epochs", "body_hash")?,
        screenings: None,
        acts: None,
    };
    let price = Price {
        epoch_id: row.text("prices", "epoch_id")?,
        rule,
        rate: row.parsed("prices", "credits_per_token")?,
        conversion,
        asset: row.text("prices", "asset")?,
        raw: row.amount("prices", "raw_amount")?,
        decimals: row.uint8("prices", "decimals")?,
        credits: Nanocredits(row.int("prices", "credits_nano")?),
    };
    Ok(Grounds {
        journal: JournalId(row.int("deposits", "namespace_id")?),
        cause: DepositCredit::of(facts, price),
        canonical: row.int("blocks", "canonical")? == 1,
    })
}

/// True when the epoch in force at the block's time gives just this price.
pub(in crate::store) fn follows(epochs: &EpochBook, cause: &DepositCredit) -> bool {
    let token = Token {
        chain: cause.chain_id,
        address: cause.token,
        symbol: String::new(),
        asset: cause.asset.clone(),
        decimals: cause.decimals,
    };
    let legs = cause.conversion.as_ref().map(|c| c.legs.as_slice()).unwrap_or_default();
    let again = price(cause.raw_amount, &token, epochs, cause.block_time_ms, legs);
    again.is_ok_and(|Price { epoch_id, rule, rate, credits, conversion, .. }| {
        (epoch_id.as_str(), rule.as_str(), rate)
            == (cause.epoch.as_str(), cause.rule.as_str(), cause.credits_per_token)
            && (credits, conversion.as_ref()) == (cause.credits_nano, cause.conversion.as_ref())
    })
}

/// The arithmetic of a price that rests on the market.
pub(in crate::store) fn conversion(row: &Row) -> Result<Option<Conversion>, StoreError> {
    row.opt_text("conversions", "conversion")?
        .map(|text| {
            serde_json::from_str(&text).map_err(|e| corrupt("conversions", "body", &e.to_string()))
        })
        .transpose()
}

/// What was said and decided about payments until now: the hashes of the rows, by payment and block.
#[derive(Debug, Default)]
pub(in crate::store) struct SaidAbout {
    answers: BTreeMap<(DepositId, B256, Address), Vec<B256>>,
    acts: BTreeMap<(DepositId, B256), Vec<B256>>,
}

impl SaidAbout {
    /// Of these deposits; `asked` are those among them that somebody was asked about.
    pub(in crate::store) async fn read(
        tx: &mut Tx,
        deposits: impl Iterator<Item = DepositId>,
        asked: impl Iterator<Item = DepositId>,
    ) -> Result<Self, StoreError> {
        let answers = answers_about(tx, asked).await?;
        let acts = acts_about(tx, deposits).await?;
        Ok(Self { answers, acts })
    }

    /// Completes a cause with all that was said of its sender, in its block, and decided about it there.
    pub(in crate::store) fn add_to(&mut self, deposit: DepositId, cause: &mut DepositCredit) {
        cause.screenings = self.answers.remove(&(deposit, cause.block_hash, cause.sender));
        cause.acts = self.acts.remove(&(deposit, cause.block_hash));
    }
}
