//! The tokens that the scan of a chain asks for, and what their contracts were when last looked at.

use alloy::primitives::{Address, B256};

use crate::domain::finding::{Gone, NewFinding};
use crate::domain::ids::ChainId;
use crate::store::chain::backfills::{BackfillKind, request_scanned};
use crate::store::db::query::query;
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::findings::{gone_in, note_in};
use crate::store::leases::LeasedStore;
use crate::store::rows::to_int;

/// A token that the scan of a chain asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPin {
    /// Contract.
    pub token: Address,
    /// The hash of its code and its implementation, when it was last looked at.
    pub code: Option<(B256, Address)>,
    /// When that was.
    pub checked_at_ms: Option<i64>,
}

impl Store {
    /// The tokens that the scan of a chain asks for.
    pub async fn token_pins(&self, chain: ChainId) -> Result<Vec<TokenPin>, StoreError> {
        query(
            "SELECT token, code_hash, implementation, checked_at_ms FROM chain_tokens
             WHERE chain_id = $1 ORDER BY token",
        )
        .bind(to_int(chain.0, "chain id")?)
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(|row| {
            let code = if row.is_null("code_hash") {
                None
            } else {
                let implementation = row.address("chain_tokens", "implementation")?;
                Some((row.b256("chain_tokens", "code_hash")?, implementation))
            };
            Ok(TokenPin {
                token: row.address("chain_tokens", "token")?,
                code,
                checked_at_ms: row.opt_int("chain_tokens", "checked_at_ms")?,
            })
        })
        .collect()
    }
}

impl LeasedStore {
    /// Registers the tokens that the scan of a chain asks for from now on. Those that are new to a
    /// chain which was scanned before are looked for in its old blocks. Returns the new ones.
    pub async fn sync_tokens(
        &self,
        chain: ChainId,
        tokens: &[Address],
        now_ms: i64,
    ) -> Result<Vec<Address>, StoreError> {
        let mut tx = self.begin_held().await?;
        // One that another daemon scanned without must be looked for again when it is back.
        let kept = query("SELECT token FROM chain_tokens WHERE chain_id = $1")
            .bind(to_int(chain.0, "chain id")?)
            .fetch_all(&mut tx)
            .await?;
        for row in kept {
            let token = row.address("chain_tokens", "token")?;
            if !tokens.contains(&token) {
                query("DELETE FROM chain_tokens WHERE chain_id = $1 AND token = $2")
                    .bind(to_int(chain.0, "chain id")?)
                    .bind(token.to_vec())
                    .execute(&mut tx)
                    .await?;
            }
        }
        let mut added = Vec::new();
        for token in tokens {
            let new = query(
                "INSERT INTO chain_tokens (chain_id, token, since_ms) VALUES ($1, $2, $3)
                 ON CONFLICT DO NOTHING",
            )
            .bind(to_int(chain.0, "chain id")?)
            .bind(token.to_vec())
            .bind(now_ms)
            .execute(&mut tx)
            .await?;
            if new > 0 {
                added.push(*token);
                let kind = BackfillKind::Token(*token);
                request_scanned(&mut tx, kind, &[], Some(chain), now_ms).await?;
            }
        }
        Store::commit(tx).await?;
        Ok(added)
    }

    /// Notes what a token's code is, what somebody should look at about it, and what is so no more.
    pub async fn pin_token(
        &self,
        chain: ChainId,
        token: Address,
        (hash, implementation): (B256, Address),
        findings: &[NewFinding],
        gone: &[Gone],
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin_held().await?;
        let noted = note_in(&mut tx, findings, now_ms).await?;
        gone_in(&mut tx, gone, now_ms).await?;
        query(
            "UPDATE chain_tokens SET code_hash = $3, implementation = $4, checked_at_ms = $5
             WHERE chain_id = $1 AND token = $2",
        )
        .bind(to_int(chain.0, "chain id")?)
        .bind(token.to_vec())
        .bind(hash)
        .bind(implementation.to_vec())
        .bind(now_ms)
        .execute(&mut tx)
        .await?;
        Store::commit(tx).await?;
        noted.say();
        Ok(())
    }
}
