//! What people look at: findings, which change nothing and are never removed; and how the providers
//! of a chain stand.
//!
//! A finding is written by the commit that it is about, or not at all: [`note_in`] in its
//! transaction, and the line in the log once that is durable ([`Noted::say`]).

use super::db::{Row, Tx, Value, bulk};
use super::engine::Store;
use super::errors::StoreError;
use super::events::{of_finding, tell};
use super::rows::to_int;
use crate::domain::finding::{FindingKind, Gone, NewFinding, Severity, of_deposit};
use crate::domain::ids::{ChainId, DepositId};
use crate::domain::said;
use crate::planted::{Fault, planted};
use crate::store::db::query::query;

/// Something that a person should look at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ChainFinding {
    /// What people name it by.
    pub id: i64,
    /// Chain, if it is about one.
    pub chain: Option<ChainId>,
    /// Kind, such as `providers_disagree`; one of an earlier version may be unknown to this one.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// `info`, `warning` or `error`.
    pub severity: String,
    /// `open`, `explained` or `gone`.
    pub state: String,
    /// JSON; both answers, where two contradict each other.
    pub detail: serde_json::Value,
    /// When it was found.
    pub found_at_ms: i64,
    /// When it was found no more.
    pub gone_at_ms: Option<i64>,
    /// When somebody said what it was.
    pub explained_at_ms: Option<i64>,
    /// Who did.
    pub operator: Option<String>,
    /// What it was.
    pub explanation: Option<String>,
}

/// Findings that a transaction has written. They are said once it is durable.
#[derive(Debug, Default)]
#[must_use = "say them after the commit"]
pub(super) struct Noted(Vec<NewFinding>);

impl Noted {
    /// One line each, after the commit.
    pub(super) fn say(self) {
        for found in self.0 {
            let (chain, detail) = (found.chain.map(tracing::field::display), &found.detail);
            macro_rules! say {
                ($level:ident) => {
                    tracing::$level!(chain.id = chain, finding.kind = found.kind.as_str(),
                        finding.subject = found.subject, finding.detail = %detail,
                        "finding: a person should look at this")
                };
            }
            match found.kind.severity() {
                Severity::Info => say!(info),
                Severity::Warning => say!(warn),
                Severity::Error => say!(error),
            }
        }
    }
}

/// Writes findings in a transaction. One that stands already (open, or explained) is no news.
pub(super) async fn note_in(
    tx: &mut Tx,
    findings: &[NewFinding],
    now_ms: i64,
) -> Result<Noted, StoreError> {
    let (mut noted, mut events) = (Vec::new(), Vec::new());
    for found in findings {
        if planted(Fault::LostFinding) {
            break;
        }
        // NOT EXISTS, so that no number is used up by one that stands.
        let new = query(
            "INSERT INTO findings (chain_id, kind, subject, severity, state, detail, found_at_ms)
             SELECT $1, $2, $3, $4, 'open', $5, $6
             WHERE NOT EXISTS (SELECT 1 FROM findings
                               WHERE COALESCE(chain_id, 0) = COALESCE($1, 0) AND kind = $2
                                 AND subject = $3 AND state <> 'gone')
             ON CONFLICT DO NOTHING",
        )
        .bind(chain_value(found.chain)?)
        .bind(found.kind.as_str())
        .bind(&found.subject)
        .bind(found.kind.severity().as_str())
        .bind(found.detail.to_string())
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
        if new > 0 {
            events.push(of_finding(found, now_ms)?);
            noted.push(found.clone());
        }
    }
    tell(tx, events).await?;
    Ok(Noted(noted))
}

/// Closes findings in a transaction: they are found no more. Returns how many stood.
pub(super) async fn gone_in(tx: &mut Tx, gone: &[Gone], now_ms: i64) -> Result<u64, StoreError> {
    let mut closed: u64 = 0;
    for gone in gone {
        let stood = query(
            "UPDATE findings SET state = 'gone', gone_at_ms = $4
             WHERE COALESCE(chain_id, 0) = COALESCE($1, 0) AND kind = $2 AND subject = $3
               AND state <> 'gone'",
        )
        .bind(chain_value(gone.chain)?)
        .bind(gone.kind.as_str())
        .bind(&gone.subject)
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
        closed = closed.saturating_add(stood);
    }
    Ok(closed)
}

/// Closes what providers disagreed about or could not prove, of deposits that are in doubt no more.
pub(super) async fn undisputed(
    tx: &mut Tx,
    chain: i64,
    deposits: impl IntoIterator<Item = DepositId>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let kinds = [FindingKind::ProvidersDisagree, FindingKind::BlockUnproved];
    let rows = deposits
        .into_iter()
        .flat_map(|id| kinds.map(|kind| (id, kind.as_str())))
        .map(|(id, kind)| vec![chain.into(), kind.into(), of_deposit(id).into()])
        .collect();
    let stand = bulk(
        "SELECT f.finding_id FROM {each}
         JOIN findings f ON COALESCE(f.chain_id, 0) = r.column1 AND f.kind = r.column2
                        AND f.subject = r.column3
         WHERE f.state <> 'gone'",
        rows,
    )
    .fetch_all(tx)
    .await?;
    let rows = stand
        .iter()
        .map(|row| Ok(vec![row.int("findings", "finding_id")?.into(), now_ms.into()]))
        .collect::<Result<_, StoreError>>()?;
    bulk(
        "UPDATE findings SET state = 'gone', gone_at_ms = r.column2
         FROM ({rows}) AS r WHERE findings.finding_id = r.column1",
        rows,
    )
    .execute(tx)
    .await
    .map_err(StoreError::from)
}

fn chain_value(chain: Option<ChainId>) -> Result<Value, StoreError> {
    Ok(chain.map(|chain| to_int(chain.0, "chain id")).transpose()?.into())
}

/// How a provider of a chain stands, by the daemon that follows the chain.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ProviderRow {
    /// Name.
    pub provider: String,
    /// `ok`, or why it is not asked first.
    pub state: String,
    /// The height of its tip.
    pub head: Option<u64>,
    /// The height of its `safe` block, as it told last.
    pub safe: Option<u64>,
    /// The height of its `finalized` block, as it told last.
    pub finalized: Option<u64>,
    /// How long its answers took lately.
    pub latency_ms: u64,
    /// Failures in a row.
    pub failures: u64,
    /// When this was written.
    pub updated_at_ms: i64,
}

/// All columns of findings.
macro_rules! select_findings {
    () => {
        "SELECT finding_id, chain_id, kind, subject, severity, state, detail, found_at_ms,
                gone_at_ms, explained_at_ms, operator, explanation FROM findings"
    };
}

impl Store {
    /// Notes how the providers of a chain stand.
    pub async fn note_providers(
        &self,
        chain: ChainId,
        providers: &[ProviderRow],
    ) -> Result<(), StoreError> {
        let chain = to_int(chain.0, "chain id")?;
        let mut tx = self.begin().await?;
        query("DELETE FROM providers WHERE chain_id = $1").bind(chain).execute(&mut tx).await?;
        for row in providers {
            let height = |n: Option<u64>| n.map(|n| to_int(n, "block")).transpose();
            query(
                "INSERT INTO providers (chain_id, provider, state, head_number, latency_ms,
                                        failures, updated_at_ms, safe_number, finalized_number)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            )
            .bind(chain)
            .bind(&row.provider)
            .bind(&row.state)
            .bind(height(row.head)?)
            .bind(to_int(row.latency_ms, "latency")?)
            .bind(to_int(row.failures, "number of failures")?)
            .bind(row.updated_at_ms)
            .bind(height(row.safe)?)
            .bind(height(row.finalized)?)
            .execute(&mut tx)
            .await?;
        }
        Self::commit(tx).await
    }

    /// How the providers of a chain stand.
    pub async fn providers(&self, chain: ChainId) -> Result<Vec<ProviderRow>, StoreError> {
        query(
            "SELECT provider, state, head_number, latency_ms, failures, updated_at_ms,
                    safe_number, finalized_number
             FROM providers WHERE chain_id = $1 ORDER BY provider",
        )
        .bind(to_int(chain.0, "chain id")?)
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(|row| {
            let height = |column| match row.opt_int("providers", column)? {
                None => Ok(None),
                Some(_) => row.uint("providers", column).map(Some),
            };
            Ok(ProviderRow {
                provider: row.text("providers", "provider")?,
                state: row.text("providers", "state")?,
                head: height("head_number")?,
                safe: height("safe_number")?,
                finalized: height("finalized_number")?,
                latency_ms: row.uint("providers", "latency_ms")?,
                failures: row.uint("providers", "failures")?,
                updated_at_ms: row.int("providers", "updated_at_ms")?,
            })
        })
        .collect()
    }

    /// Notes a finding that belongs to no other commit. True when it is new.
    pub async fn note(&self, finding: &NewFinding, now_ms: i64) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let noted = note_in(&mut tx, std::slice::from_ref(finding), now_ms).await?;
        let is_new = !noted.0.is_empty();
        Self::commit(tx).await?;
        noted.say();
        Ok(is_new)
    }

    /// Closes a finding that is found no more. True when it stood.
    pub async fn gone(&self, gone: &Gone, now_ms: i64) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let closed = gone_in(&mut tx, std::slice::from_ref(gone), now_ms).await?;
        Self::commit(tx).await?;
        Ok(closed > 0)
    }

    /// The subjects of a chain's findings of one kind that stand: open, or explained.
    pub async fn standing_findings(
        &self,
        chain: Option<ChainId>,
        kind: FindingKind,
    ) -> Result<Vec<String>, StoreError> {
        query(
            "SELECT subject FROM findings
             WHERE COALESCE(chain_id, 0) = COALESCE($1, 0) AND kind = $2 AND state <> 'gone'
             ORDER BY finding_id",
        )
        .bind(chain_value(chain)?)
        .bind(kind.as_str())
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(|row| row.text("findings", "subject"))
        .collect()
    }

    /// Findings, the open ones first, each the newest first.
    pub async fn findings(&self, limit: i64) -> Result<Vec<ChainFinding>, StoreError> {
        query(concat!(
            select_findings!(),
            " ORDER BY CASE state WHEN 'open' THEN 0 ELSE 1 END, found_at_ms DESC, finding_id DESC
              LIMIT $1"
        ))
        .bind(limit)
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(finding_of)
        .collect()
    }

    /// A finding by its id.
    pub async fn finding(&self, id: i64) -> Result<Option<ChainFinding>, StoreError> {
        query(concat!(select_findings!(), " WHERE finding_id = $1"))
            .bind(id)
            .fetch_optional(&self.db)
            .await?
            .as_ref()
            .map(finding_of)
            .transpose()
    }

    /// A chain's finding of one kind about one subject, if it stands: open, or explained.
    pub async fn standing_finding(
        &self,
        chain: Option<ChainId>,
        kind: FindingKind,
        subject: &str,
    ) -> Result<Option<ChainFinding>, StoreError> {
        query(concat!(
            select_findings!(),
            " WHERE COALESCE(chain_id, 0) = COALESCE($1, 0) AND kind = $2 AND subject = $3
                AND state <> 'gone'"
        ))
        .bind(chain_value(chain)?)
        .bind(kind.as_str())
        .bind(subject)
        .fetch_optional(&self.db)
        .await?
        .as_ref()
        .map(finding_of)
        .transpose()
    }

    /// A person says what an open finding was. False when it is not open.
    pub async fn explain_finding(
        &self,
        id: i64,
        operator: &str,
        explanation: &str,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        said::by(operator, explanation).map_err(StoreError::Refused)?;
        let explained = query(
            "UPDATE findings SET state = 'explained', explained_at_ms = $4, operator = $2,
               explanation = $3
             WHERE finding_id = $1 AND state = 'open'",
        )
        .bind(id)
        .bind(operator)
        .bind(explanation)
        .bind(now_ms)
        .execute(&self.db)
        .await?;
        Ok(explained > 0)
    }
}

fn finding_of(row: &Row) -> Result<ChainFinding, StoreError> {
    const TABLE: &str = "findings";
    let chain = row.opt_int(TABLE, "chain_id")?.map(|_| row.uint(TABLE, "chain_id"));
    Ok(ChainFinding {
        id: row.int(TABLE, "finding_id")?,
        chain: chain.transpose()?.map(ChainId),
        kind: row.text(TABLE, "kind")?,
        subject: row.text(TABLE, "subject")?,
        severity: row.text(TABLE, "severity")?,
        state: row.text(TABLE, "state")?,
        detail: row.parsed(TABLE, "detail")?,
        found_at_ms: row.int(TABLE, "found_at_ms")?,
        gone_at_ms: row.opt_int(TABLE, "gone_at_ms")?,
        explained_at_ms: row.opt_int(TABLE, "explained_at_ms")?,
        operator: row.opt_text(TABLE, "operator")?,
        explanation: row.opt_text(TABLE, "explanation")?,
    })
}
