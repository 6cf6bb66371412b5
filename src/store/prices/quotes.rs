//! Raw answers of price sources, who gave them, and how far each source has been asked.
//!
//! An answer is a fact under the hash of its source and contents: the same answer of a second
//! provider is the same row with a second witness. What an answer means is not known here.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256};

use crate::domain::ids::{BlockRef, ChainId};
use crate::domain::oracle::source::{Evidence, quote_id};
use crate::store::db::query::query;
use crate::store::db::{On, Row, Tx, bulk};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::leases::LeasedStore;
use crate::store::rows::{corrupt, to_int};

/// How long a sample is kept that no price rests on.
const SAMPLE_KEEP_MS: i64 = 8 * 24 * 3_600 * 1_000;

/// The longest pause before a source is asked again.
pub const RETRY_MAX_MS: i64 = 300_000;

/// A block that is priced, for a payment or on schedule, and whose sources have not all been asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuoteBlock {
    /// The block.
    pub block: BlockRef,
    /// Its time.
    pub time_ms: i64,
}

/// An answer to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewQuote {
    /// Source.
    pub source: String,
    /// Hash of its description.
    pub source_hash: B256,
    /// The block that is priced; none for a sample.
    pub block: Option<(ChainId, B256)>,
    /// The time it was asked about.
    pub at_ms: i64,
    /// The answer.
    pub evidence: Evidence,
    /// Who gave it.
    pub provider: String,
}

/// An answer as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredQuote {
    /// Its id.
    pub id: B256,
    /// Source.
    pub source: String,
    /// Hash of its description.
    pub source_hash: B256,
    /// The block that is priced; none for a sample.
    pub block: Option<(ChainId, B256)>,
    /// The time it was asked about.
    pub at_ms: i64,
    /// The answer, as it was hashed.
    pub evidence: String,
    /// When it was stored.
    pub recorded_at_ms: i64,
    /// Who gave it.
    pub providers: Vec<String>,
}

impl StoredQuote {
    /// The answer.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the row is not what was written.
    pub fn evidence(&self) -> Result<Evidence, StoreError> {
        if quote_id(self.source_hash, self.block, &self.evidence) != self.id {
            return Err(corrupt("quotes", "evidence", "quote_id is not the hash of evidence"));
        }
        serde_json::from_str(&self.evidence)
            .map_err(|e| corrupt("quotes", "evidence", &e.to_string()))
    }
}

/// How far a source has been asked about a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// The block that is priced.
    pub block_hash: B256,
    /// Hash of the source's description, or of all sources of an asset.
    pub source_hash: B256,
    /// How often it was asked.
    pub tries: u32,
    /// What is wrong, while it is not done; or what was found for good.
    pub why: Option<String>,
    /// When it was first asked.
    pub first_try_at_ms: i64,
    /// When it is asked again.
    pub next_try_at_ms: i64,
    /// When it was done.
    pub done_at_ms: Option<i64>,
}

impl Capture {
    /// True while it is not asked again. A time that is too far away was written by a daemon whose
    /// clock was ahead: it holds nobody up.
    pub fn rests(&self, now_ms: i64) -> bool {
        let left = self.next_try_at_ms.saturating_sub(now_ms);
        (1..=RETRY_MAX_MS).contains(&left)
    }
}

/// Quotes, a row for each witness, followed by the given conditions.
macro_rules! select_quotes {
    ($conditions:literal) => {
        concat!(
            "SELECT q.quote_id, q.source, q.source_hash, q.chain_id, q.block_hash, q.at_ms,
                    q.evidence, q.recorded_at_ms, w.provider
             FROM quotes q LEFT JOIN quote_witnesses w ON w.quote_id = q.quote_id ",
            $conditions
        )
    };
}

impl Store {
    /// Blocks of a chain with open payments in these tokens, at `up_to` or below, for which the
    /// sources under this hash are not done, the oldest first; those that rest until later are left
    /// out.
    pub async fn blocks_to_quote(
        &self,
        chain: ChainId,
        token: Address,
        plan: B256,
        now_ms: i64,
        limit: i64,
    ) -> Result<Vec<QuoteBlock>, StoreError> {
        // The list of stages is, word for word, that of the index over what is open.
        query(
            "SELECT DISTINCT b.block_number, b.block_hash, b.block_time_ms
             FROM deposits d
             JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = d.block_hash
             LEFT JOIN captures c ON c.chain_id = d.chain_id AND c.block_hash = d.block_hash
                                 AND c.source_hash = $3
             WHERE d.chain_id = $1 AND d.token = $2 AND b.canonical = 1
               AND d.stage IN ('pending', 'confirmed', 'priced', 'held')
               AND d.stage <> 'priced' AND c.done_at_ms IS NULL
               AND (c.next_try_at_ms IS NULL OR c.next_try_at_ms NOT BETWEEN $4 AND $5)
             ORDER BY b.block_number LIMIT $6",
        )
        .bind(to_int(chain.0, "chain id")?)
        .bind(token)
        .bind(plan)
        .bind(now_ms.saturating_add(1))
        .bind(now_ms.saturating_add(RETRY_MAX_MS))
        .bind(limit)
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(|row| {
            let time_ms = row.int("blocks", "block_time_ms")?;
            Ok(QuoteBlock { block: row.block_ref("blocks")?, time_ms })
        })
        .collect()
    }

    /// How far each source has been asked about a payment's block.
    pub async fn captures(&self, chain: ChainId, block: B256) -> Result<Vec<Capture>, StoreError> {
        query(
            "SELECT block_hash, source_hash, tries, why, first_try_at_ms, next_try_at_ms, done_at_ms
             FROM captures WHERE chain_id = $1 AND block_hash = $2",
        )
        .bind(to_int(chain.0, "chain id")?)
        .bind(block)
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(|row| {
            Ok(Capture {
                block_hash: row.b256("captures", "block_hash")?,
                source_hash: row.b256("captures", "source_hash")?,
                tries: row.uint32("captures", "tries")?,
                why: row.opt_text("captures", "why")?,
                first_try_at_ms: row.int("captures", "first_try_at_ms")?,
                next_try_at_ms: row.int("captures", "next_try_at_ms")?,
                done_at_ms: row.opt_int("captures", "done_at_ms")?,
            })
        })
        .collect()
    }

    /// What sources answered about a payment's block.
    pub async fn quotes_of(
        &self,
        chain: ChainId,
        block: B256,
    ) -> Result<Vec<StoredQuote>, StoreError> {
        let rows = query(select_quotes!(
            "WHERE q.chain_id = $1 AND q.block_hash = $2 ORDER BY q.quote_id, w.provider"
        ))
        .bind(to_int(chain.0, "chain id")?)
        .bind(block)
        .fetch_all(&self.db)
        .await?;
        gathered(&rows)
    }

    /// The samples of a source from one instant to another, both inclusive, oldest first.
    pub async fn samples(
        &self,
        source_hash: B256,
        from_ms: i64,
        to_ms: i64,
        limit: i64,
    ) -> Result<Vec<StoredQuote>, StoreError> {
        samples(&self.db, source_hash, (from_ms, to_ms), limit).await
    }

    /// Answers by their ids.
    pub async fn quotes_by_id(
        &self,
        ids: &[B256],
    ) -> Result<BTreeMap<B256, StoredQuote>, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let found = quotes_by_id(&mut tx, ids).await?;
        Self::abandon(tx).await?;
        Ok(found)
    }
}

/// The samples of a source of a span of time, both ends inclusive, oldest first.
pub(in crate::store) async fn samples(
    on: impl Into<On<'_>>,
    source_hash: B256,
    (from_ms, to_ms): (i64, i64),
    limit: i64,
) -> Result<Vec<StoredQuote>, StoreError> {
    let rows = query(select_quotes!(
        "WHERE q.source_hash = $1 AND q.at_ms >= $2 AND q.at_ms <= $3
         ORDER BY q.at_ms, q.quote_id LIMIT $4"
    ))
    .bind(source_hash)
    .bind(from_ms)
    .bind(to_ms)
    .bind(limit)
    .fetch_all(on)
    .await?;
    let mut samples = gathered(&rows)?;
    samples.sort_by_key(|q| q.at_ms);
    Ok(samples)
}

/// Answers by their ids.
pub(in crate::store) async fn quotes_by_id(
    tx: &mut Tx,
    ids: &[B256],
) -> Result<BTreeMap<B256, StoredQuote>, StoreError> {
    let mut rows = bulk(
        select_quotes!("WHERE q.quote_id {keys}"),
        ids.iter().map(|id| vec![(*id).into()]).collect(),
    )
    .fetch_all(tx)
    .await?
    .into_iter()
    .map(|row| Ok((row.b256("quotes", "quote_id")?, row)))
    .collect::<Result<Vec<_>, StoreError>>()?;
    // The witnesses of one answer side by side.
    rows.sort_by_key(|(id, _)| *id);
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    Ok(gathered(&rows)?.into_iter().map(|quote| (quote.id, quote)).collect())
}

impl LeasedStore {
    /// Stores answers, and how far sources have been asked: all of it or nothing.
    pub async fn commit_quotes(
        &self,
        chain: ChainId,
        quotes: &[NewQuote],
        captures: &[Capture],
        now_ms: i64,
    ) -> Result<(), StoreError> {
        if quotes.is_empty() && captures.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin_held().await?;
        insert(&mut tx, quotes, now_ms).await?;
        let chain_id = to_int(chain.0, "chain id")?;
        let rows = captures
            .iter()
            .map(|c| {
                vec![
                    chain_id.into(),
                    c.block_hash.into(),
                    c.source_hash.into(),
                    i64::from(c.tries).into(),
                    c.why.as_deref().into(),
                    c.first_try_at_ms.into(),
                    c.next_try_at_ms.into(),
                    c.done_at_ms.into(),
                ]
            })
            .collect();
        bulk(
            "INSERT INTO captures (chain_id, block_hash, source_hash, tries, why, first_try_at_ms,
                                   next_try_at_ms, done_at_ms) {rows}
             ON CONFLICT (chain_id, block_hash, source_hash) DO UPDATE SET
               tries = excluded.tries, why = excluded.why,
               next_try_at_ms = excluded.next_try_at_ms, done_at_ms = excluded.done_at_ms",
            rows,
        )
        .execute(&mut tx)
        .await?;
        // A source that was reopened while the others were asked keeps its block open.
        let plans = captures.iter().filter(|c| c.tries == 0).map(|c| c.block_hash);
        for block in plans {
            query(
                "UPDATE captures SET done_at_ms = NULL
                 WHERE chain_id = $1 AND block_hash = $2 AND tries = 0 AND EXISTS
                   (SELECT 1 FROM captures o WHERE o.chain_id = $1 AND o.block_hash = $2
                      AND o.tries > 0 AND o.done_at_ms IS NULL)",
            )
            .bind(chain_id)
            .bind(block)
            .execute(&mut tx)
            .await?;
        }
        Store::commit(tx).await
    }

    /// Has a source asked again about a payment's block.
    pub async fn reopen_captures(
        &self,
        chain: ChainId,
        block: B256,
        source_hash: B256,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin_held().await?;
        // Those that were never tried stand for all sources of an asset.
        query(
            "UPDATE captures SET done_at_ms = NULL, next_try_at_ms = $4
             WHERE chain_id = $1 AND block_hash = $2 AND (source_hash = $3 OR tries = 0)",
        )
        .bind(to_int(chain.0, "chain id")?)
        .bind(block)
        .bind(source_hash)
        .bind(now_ms)
        .execute(&mut tx)
        .await?;
        Store::commit(tx).await
    }

    /// Stores samples, and forgets old ones that no price rests on.
    pub async fn commit_samples(
        &self,
        samples: &[NewQuote],
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin_held().await?;
        insert(&mut tx, samples, now_ms).await?;
        // Nothing that an open payment may still be priced by.
        let oldest = query(
            "SELECT MIN(b.block_time_ms) AS oldest FROM deposits d
             JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = d.block_hash
             WHERE d.stage IN ('pending', 'confirmed', 'priced', 'held')",
        )
        .fetch_one(&mut tx)
        .await?
        .opt_int("blocks", "oldest")?;
        let before = now_ms.saturating_sub(SAMPLE_KEEP_MS).min(oldest.unwrap_or(i64::MAX));
        for sql in [
            "DELETE FROM quote_witnesses WHERE quote_id IN (SELECT quote_id FROM quotes
              WHERE block_hash IS NULL AND used = 0 AND at_ms < $1)",
            "DELETE FROM quotes WHERE block_hash IS NULL AND used = 0 AND at_ms < $1",
        ] {
            query(sql).bind(before).execute(&mut tx).await?;
        }
        Store::commit(tx).await
    }
}

async fn insert(tx: &mut Tx, quotes: &[NewQuote], now_ms: i64) -> Result<(), StoreError> {
    let (mut rows, mut witnesses) = (Vec::new(), Vec::new());
    let mut once = std::collections::BTreeSet::new();
    for quote in quotes {
        let text = quote.evidence.text();
        let id = quote_id(quote.source_hash, quote.block, &text);
        let (chain, block) = match quote.block {
            Some((chain, block)) => (Some(to_int(chain.0, "chain id")?), Some(block.to_vec())),
            None => (None, None),
        };
        if once.insert((id, "")) {
            rows.push(vec![
                id.into(),
                (&quote.source).into(),
                quote.source_hash.into(),
                chain.into(),
                block.into(),
                quote.at_ms.into(),
                text.into(),
                now_ms.into(),
            ]);
        }
        if once.insert((id, quote.provider.as_str())) {
            witnesses.push(vec![id.into(), (&quote.provider).into(), now_ms.into()]);
        }
    }
    bulk(
        "INSERT INTO quotes (quote_id, source, source_hash, chain_id, block_hash, at_ms, evidence,
                             recorded_at_ms) {rows} ON CONFLICT DO NOTHING",
        rows,
    )
    .execute(&mut *tx)
    .await?;
    bulk(
        "INSERT INTO quote_witnesses (quote_id, provider, recorded_at_ms) {rows}
         ON CONFLICT DO NOTHING",
        witnesses,
    )
    .execute(&mut *tx)
    .await
    .map_err(StoreError::from)
}

/// One quote of the rows of its witnesses.
fn gathered(rows: &[Row]) -> Result<Vec<StoredQuote>, StoreError> {
    let mut quotes: Vec<StoredQuote> = Vec::new();
    for row in rows {
        let id = row.b256("quotes", "quote_id")?;
        let provider = row.opt_text("quote_witnesses", "provider")?;
        match quotes.last_mut().filter(|q| q.id == id) {
            Some(quote) => quote.providers.extend(provider),
            None => quotes.push(StoredQuote {
                id,
                source: row.text("quotes", "source")?,
                source_hash: row.b256("quotes", "source_hash")?,
                block: match row.is_null("block_hash") {
                    true => None,
                    false => {
                        let chain = ChainId(row.uint("quotes", "chain_id")?);
                        Some((chain, row.b256("quotes", "block_hash")?))
                    }
                },
                at_ms: row.int("quotes", "at_ms")?,
                evidence: row.text("quotes", "evidence")?,
                recorded_at_ms: row.int("quotes", "recorded_at_ms")?,
                providers: provider.into_iter().collect(),
            }),
        }
    }
    Ok(quotes)
}
