//! What people look at: findings, once each, which change nothing and are never removed; and how
//! the providers of a chain stand.

use super::db::query;
use super::engine::Store;
use super::errors::StoreError;
use super::rows::to_int;
use crate::domain::ids::ChainId;

/// Something that a person should look at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ChainFinding {
    /// Chain.
    pub chain: ChainId,
    /// Kind, such as `providers_disagree`, `credit_reversed`, `log_was_hidden`, `token_changed`.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// JSON; both answers, where two contradict each other.
    pub detail: serde_json::Value,
    /// When it was found.
    pub found_at_ms: i64,
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
    /// How long its answers took lately.
    pub latency_ms: u64,
    /// Failures in a row.
    pub failures: u64,
    /// When this was written.
    pub updated_at_ms: i64,
}

impl Store {
    /// Notes how the providers of a chain stand.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_providers(
        &self,
        chain: ChainId,
        providers: &[ProviderRow],
    ) -> Result<(), StoreError> {
        const DOING: &str = "note the providers";
        let chain = to_int(chain.0, "chain id")?;
        let mut tx = self.begin().await?;
        query("DELETE FROM providers WHERE chain_id = $1")
            .bind(chain)
            .execute(&mut tx)
            .await
            .map_err(StoreError::doing(DOING))?;
        for row in providers {
            let head = row.head.map(|n| to_int(n, "block")).transpose()?;
            query(
                "INSERT INTO providers (chain_id, provider, state, head_number, latency_ms,
                                        failures, updated_at_ms)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(chain)
            .bind(&row.provider)
            .bind(&row.state)
            .bind(head)
            .bind(to_int(row.latency_ms, "latency")?)
            .bind(to_int(row.failures, "number of failures")?)
            .bind(row.updated_at_ms)
            .execute(&mut tx)
            .await
            .map_err(StoreError::doing(DOING))?;
        }
        Self::commit(tx).await
    }

    /// How the providers of a chain stand.
    ///
    /// # Errors
    /// When the database fails or a row cannot be read.
    pub async fn providers(&self, chain: ChainId) -> Result<Vec<ProviderRow>, StoreError> {
        query(
            "SELECT provider, state, head_number, latency_ms, failures, updated_at_ms
             FROM providers WHERE chain_id = $1 ORDER BY provider",
        )
        .bind(to_int(chain.0, "chain id")?)
        .fetch_all(&self.db)
        .await
        .map_err(StoreError::doing("read the providers"))?
        .iter()
        .map(|row| {
            Ok(ProviderRow {
                provider: row.text("providers", "provider")?,
                state: row.text("providers", "state")?,
                head: match row.opt_int("providers", "head_number")? {
                    None => None,
                    Some(_) => Some(row.uint("providers", "head_number")?),
                },
                latency_ms: row.uint("providers", "latency_ms")?,
                failures: row.uint("providers", "failures")?,
                updated_at_ms: row.int("providers", "updated_at_ms")?,
            })
        })
        .collect()
    }

    /// Notes a finding. True when it is new.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note(
        &self,
        chain: ChainId,
        kind: &str,
        subject: &str,
        detail: &serde_json::Value,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let noted = query(
            "INSERT INTO findings (chain_id, kind, subject, detail, found_at_ms)
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(to_int(chain.0, "chain id")?)
        .bind(kind)
        .bind(subject)
        .bind(detail.to_string())
        .bind(now_ms)
        .execute(&self.db)
        .await
        .map_err(StoreError::doing("note a finding"))?;
        if noted > 0 {
            tracing::error!(chain.id = %chain, finding.kind = kind, finding.subject = subject, finding.detail = %detail,
                "finding: a person should look at this");
        }
        Ok(noted > 0)
    }

    /// Findings, newest first.
    ///
    /// # Errors
    /// When the database fails or a row cannot be read.
    pub async fn findings(&self, limit: i64) -> Result<Vec<ChainFinding>, StoreError> {
        query(
            "SELECT chain_id, kind, subject, detail, found_at_ms FROM findings
             ORDER BY found_at_ms DESC, chain_id, kind, subject LIMIT $1",
        )
        .bind(limit)
        .fetch_all(&self.db)
        .await
        .map_err(StoreError::doing("list findings"))?
        .iter()
        .map(|row| {
            Ok(ChainFinding {
                chain: ChainId(row.uint("findings", "chain_id")?),
                kind: row.text("findings", "kind")?,
                subject: row.text("findings", "subject")?,
                detail: row.parsed("findings", "detail")?,
                found_at_ms: row.int("findings", "found_at_ms")?,
            })
        })
        .collect()
    }
}
