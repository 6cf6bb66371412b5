//! What was said of a payment before it is credited: facts, asked once, and looked at by every commit
//! that lets a payment go on.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256};

use crate::domain::ids::DepositId;
use crate::domain::screening::{Check, Outcome, Question, Said, Wanted, answer_hash, judged};
use crate::planted::{Fault, planted};
use crate::store::acts::rows::acts_of_all;
use crate::store::db::query::query;
use crate::store::db::{Row, Tx, bulk};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::leases::LeasedStore;
use crate::store::rows::corrupt;
use crate::store::verify::{Check as Checked, claim};

/// Answers read at a time.
const PAGE: i64 = 500;
/// What the acts say that release a payment from its screening, so that they release it from nothing
/// else.
pub(in crate::store) const HELD_SCREENING: &str = r#"{"held":"screening"}"#;

/// What one check said of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Screening {
    /// Payment.
    pub deposit: DepositId,
    /// Its block then.
    pub block: B256,
    /// Who paid there.
    pub sender: Address,
    /// Who was asked, and what.
    pub by: Wanted,
    /// What follows.
    pub outcome: Outcome,
    /// The answer as it came, or why there is none.
    pub answer: String,
    /// When.
    pub at_ms: i64,
}

impl Screening {
    /// The hash by which a credit names it.
    pub fn hash(&self) -> B256 {
        let (place, said) = ((self.block, self.sender), (&self.by, self.outcome));
        answer_hash(self.deposit, place, said, &self.answer, self.at_ms)
    }
}

/// How far a payment is screened where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Screened {
    /// Who paid.
    pub sender: Address,
    /// Two people released it.
    pub released: bool,
    /// What was said.
    pub said: Vec<Said>,
}

/// What follows for a payment now, if it is known how far it is screened; none while an answer is
/// missing.
pub(in crate::store) fn verdict(
    known: Option<&Screened>,
    checks: &[Wanted],
    now_ms: i64,
) -> Option<Outcome> {
    match known {
        _ if planted(Fault::Unscreened) => Some(Outcome::Clear),
        Some(known) if known.released => Some(Outcome::Clear),
        known => judged(known.map_or(&[][..], |known| &known.said), checks, now_ms),
    }
}

impl Store {
    /// How far these payments are screened, each in the block that it stands in.
    pub async fn screened(
        &self,
        deposits: &[DepositId],
    ) -> Result<BTreeMap<DepositId, Screened>, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let all = screened(&mut tx, deposits).await?;
        Self::abandon(tx).await?;
        Ok(all)
    }

    /// Everything that was said of a payment, in all its blocks, oldest first.
    pub async fn screenings_of(&self, deposit: DepositId) -> Result<Vec<Screening>, StoreError> {
        query(
            "SELECT deposit_id, block_hash, sender, asked, outcome, question, answer, at_ms
             FROM screenings WHERE deposit_id = $1 ORDER BY at_ms, asked, outcome, question",
        )
        .bind(deposit.0)
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(screening)
        .collect()
    }
}

impl LeasedStore {
    /// Keeps what was said. What was said already stays as it is.
    pub async fn commit_screenings(&self, screenings: &[Screening]) -> Result<(), StoreError> {
        if screenings.is_empty() {
            return Ok(());
        }
        let rows = screenings
            .iter()
            .map(|s| {
                vec![
                    s.deposit.0.into(),
                    s.block.into(),
                    s.sender.into(),
                    s.by.asked.as_str().into(),
                    s.outcome.as_str().into(),
                    (&s.by.question).into(),
                    // PostgreSQL takes no NUL in a text.
                    s.answer.replace('\0', " ").into(),
                    s.at_ms.into(),
                ]
            })
            .collect();
        let mut tx = self.begin_held().await?;
        bulk(
            "INSERT INTO screenings
               (deposit_id, block_hash, sender, asked, outcome, question, answer, at_ms) {rows}
             ON CONFLICT DO NOTHING",
            rows,
        )
        .execute(&mut tx)
        .await?;
        Store::commit(tx).await
    }
}

/// How far payments are screened, each in the block that it stands in.
pub(in crate::store) async fn screened(
    tx: &mut Tx,
    deposits: &[DepositId],
) -> Result<BTreeMap<DepositId, Screened>, StoreError> {
    let rows = bulk(
        "WITH d AS MATERIALIZED (SELECT * FROM deposits WHERE deposit_id {keys})
         SELECT d.deposit_id, s.sender, x.asked, x.question, x.outcome, x.at_ms,
           (SELECT COUNT(*) FROM operator_acts p JOIN operator_acts q ON q.approves = p.act_id
             WHERE p.kind = 'propose_release' AND p.latch = '{\"held\":\"screening\"}'
               AND p.deposit_id = d.deposit_id AND p.block_hash = d.block_hash) AS released
         FROM d
         JOIN sightings s ON s.chain_id = d.chain_id AND s.block_hash = d.block_hash
                         AND s.log_index = d.log_index AND s.deposit_id = d.deposit_id
         LEFT JOIN screenings x ON x.deposit_id = d.deposit_id AND x.block_hash = d.block_hash
                               AND x.sender = s.sender
         WHERE s.sender IS NOT NULL",
        deposits.iter().map(|id| vec![id.0.into()]).collect(),
    )
    .fetch_all(tx)
    .await?;
    let mut all: BTreeMap<DepositId, Screened> = BTreeMap::new();
    for row in &rows {
        let id = DepositId(row.b256("deposits", "deposit_id")?);
        let sender = row.address("sightings", "sender")?;
        let released = row.int("operator_acts", "released")? > 0;
        let this = all.entry(id).or_insert(Screened { sender, released, said: Vec::new() });
        if !row.is_null("asked") {
            this.said.push(said(row)?);
        }
    }
    Ok(all)
}

fn said(row: &Row) -> Result<Said, StoreError> {
    let wrong = |column| corrupt("screenings", column, "is no word of ours");
    let asked = Check::parse(&row.text("screenings", "asked")?).ok_or_else(|| wrong("asked"))?;
    let outcome = Outcome::parse(&row.text("screenings", "outcome")?);
    let by = Wanted { asked, question: row.text("screenings", "question")? };
    let at_ms = row.int("screenings", "at_ms")?;
    Ok(Said { by, outcome: outcome.ok_or_else(|| wrong("outcome"))?, at_ms })
}

fn screening(row: &Row) -> Result<Screening, StoreError> {
    let Said { by, outcome, at_ms } = said(row)?;
    Ok(Screening {
        deposit: DepositId(row.b256("screenings", "deposit_id")?),
        block: row.b256("screenings", "block_hash")?,
        sender: row.address("screenings", "sender")?,
        by,
        outcome,
        answer: row.text("screenings", "answer")?,
        at_ms,
    })
}

/// All that was said of payments, by payment, block, and sender there: the hashes of the rows, in order. A credit
/// rests on them beside its price.
pub(in crate::store) async fn answers_about(
    tx: &mut Tx,
    deposits: impl IntoIterator<Item = DepositId>,
) -> Result<BTreeMap<(DepositId, B256, Address), Vec<B256>>, StoreError> {
    let rows = bulk(
        "SELECT deposit_id, block_hash, sender, asked, outcome, question, answer, at_ms
         FROM screenings WHERE deposit_id {keys}",
        deposits.into_iter().map(|id| vec![id.0.into()]).collect(),
    )
    .fetch_all(tx)
    .await?;
    let mut all: BTreeMap<_, Vec<B256>> = BTreeMap::new();
    for row in &rows {
        let said = screening(row)?;
        all.entry((said.deposit, said.block, said.sender)).or_default().push(said.hash());
    }
    all.values_mut().for_each(|hashes| hashes.sort());
    Ok(all)
}

/// All that people decided about payments, by payment and block.
pub(in crate::store) async fn acts_about(
    tx: &mut Tx,
    deposits: impl IntoIterator<Item = DepositId>,
) -> Result<BTreeMap<(DepositId, B256), Vec<B256>>, StoreError> {
    let ids = deposits.into_iter().map(|id| vec![id.0.into()]).collect();
    let mut all: BTreeMap<_, Vec<B256>> = BTreeMap::new();
    for act in acts_of_all(tx, ids).await? {
        if let Some(deposit) = act.deposit {
            all.entry((deposit, act.block_hash)).or_default().push(act.hash());
        }
    }
    all.values_mut().for_each(|hashes| hashes.sort());
    Ok(all)
}

/// Every answer over HTTP says what was made of it, and what was credited has no hit that two people
/// did not see.
pub(in crate::store) async fn screenings(tx: &mut Tx) -> Checked<()> {
    let mut after = (B256::ZERO, B256::ZERO, Vec::new(), [(); 3].map(|()| String::new()), i64::MIN);
    loop {
        let (deposit, block, sender, [asked, outcome, question], at_ms) = after.clone();
        let page = query(
            "SELECT deposit_id, block_hash, sender, asked, outcome, question, answer, at_ms
             FROM screenings
             WHERE (deposit_id, block_hash, sender, asked, outcome, question, at_ms)
                   > ($1, $2, $3, $4, $5, $6, $7)
             ORDER BY deposit_id, block_hash, sender, asked, outcome, question, at_ms LIMIT $8",
        )
        .bind(deposit)
        .bind(block)
        .bind(sender)
        .bind(asked.as_str())
        .bind(outcome.as_str())
        .bind(question.as_str())
        .bind(at_ms)
        .bind(PAGE)
        .fetch_all(&mut *tx)
        .await?;
        if page.is_empty() {
            break;
        }
        for row in &page {
            let said = screening(row)?;
            let (asked, outcome) = (said.by.asked, said.outcome.as_str());
            let name = format!("deposit {}, {}", said.deposit, asked.as_str());
            if asked == Check::Http && said.outcome != Outcome::NoAnswer {
                let question: Result<Question, _> = serde_json::from_str(&said.by.question);
                let read = question.map(|question| question.read_text(&said.answer));
                let same = matches!(read, Ok(Ok(outcome)) if outcome == said.outcome);
                claim!(same, "screenings", name, "the answer does not say what was made of it");
            }
            let words = [asked.as_str().to_owned(), outcome.to_owned(), said.by.question];
            after = (said.deposit.0, said.block, said.sender.to_vec(), words, said.at_ms);
        }
    }
    let passed = query(
        "SELECT d.deposit_id FROM screenings x
         JOIN deposits d ON d.deposit_id = x.deposit_id AND d.block_hash = x.block_hash
         JOIN sightings s ON s.chain_id = d.chain_id AND s.block_hash = d.block_hash
                         AND s.log_index = d.log_index AND s.sender = x.sender
         WHERE x.outcome = 'hit' AND d.stage = 'credited'
           AND NOT EXISTS (SELECT 1 FROM operator_acts p
                             JOIN operator_acts q ON q.approves = p.act_id
                                                 AND q.operator <> p.operator
                            WHERE p.kind = 'propose_release' AND p.latch = $1
                              AND p.deposit_id = d.deposit_id AND p.block_hash = d.block_hash)
         LIMIT 1",
    )
    .bind(HELD_SCREENING)
    .fetch_optional(&mut *tx)
    .await?;
    if let Some(row) = passed {
        let name = format!("deposit {}", row.b256("deposits", "deposit_id")?);
        claim!(false, "screenings", name, "is a hit, and went on though nobody released it");
    }
    Ok(Ok(()))
}
