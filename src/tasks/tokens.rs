//! Notice when a token's contract becomes another one: its code, the implementation behind its
//! proxy, or that its issuer has paused or deprecated it.
//!
//! Only noticed and reported. `Transfer` from the listed address stays the rule for what is seen,
//! whatever stands behind it.

use crate::chain::pool::Pool;
use crate::chain::source::ChainSource;
use crate::clock::Clock;
use crate::domain::chain_rules::ChainRules;
use crate::domain::finding::{FindingKind, Gone, NewFinding};
use crate::store::{LeasedStore, StoreError};

/// How often a token is looked at: once a day.
const EVERY_MS: i64 = 86_400_000;

/// Looks at the tokens that are due. Returns how many were found to be changed.
///
/// # Errors
/// When the database fails. A provider that fails is noted in the pool.
pub async fn check_tokens<S: ChainSource>(
    rules: &ChainRules,
    pool: &Pool<S>,
    store: &LeasedStore,
    clock: &dyn Clock,
) -> Result<usize, StoreError> {
    let now = clock.now_ms();
    let mut changed: usize = 0;
    for pin in store.token_pins(rules.id).await? {
        let fresh =
            pin.checked_at_ms.is_some_and(|at| (0..EVERY_MS).contains(&now.saturating_sub(at)));
        let Some(token) = rules.token(&pin.token).filter(|_| !fresh) else { continue };
        let Some(source) = pool.order(now).into_iter().next() else { return Ok(changed) };
        let code = match source.code(token.address).await {
            Ok(code) => code,
            Err(error) => {
                pool.record_failure(source, &error, now);
                return Ok(changed);
            }
        };
        let found = (code.hash, code.implementation);
        let about = format!("{} {}: ", token.symbol, token.address);
        let finding = |kind, what: &str, detail| NewFinding {
            chain: Some(rules.id),
            kind,
            subject: format!("{about}{what}"),
            detail,
        };
        let mut findings = Vec::new();
        if let Some(pinned) = pin.code
            && pinned != found
        {
            changed = changed.saturating_add(1);
            let detail = serde_json::json!({
                "provider": source.provider(),
                "was": { "code_hash": pinned.0, "implementation": pinned.1 },
                "is": { "code_hash": found.0, "implementation": found.1 },
            });
            let what = format!("code {} implementation {}", found.0, found.1);
            findings.push(finding(FindingKind::TokenChanged, &what, detail));
        }
        for flag in &code.flags {
            let detail = serde_json::json!({ "provider": source.provider(), "says": flag });
            findings.push(finding(FindingKind::TokenStopped, flag, detail));
        }
        // What its contract said before and says no more.
        let (chain, kind) = (Some(rules.id), FindingKind::TokenStopped);
        let mut gone = store.standing_findings(chain, kind).await?;
        gone.retain(|subject| {
            subject.strip_prefix(&about).is_some_and(|flag| !code.flags.contains(&flag))
        });
        let gone: Vec<Gone> =
            gone.into_iter().map(|subject| Gone { chain, kind, subject }).collect();
        store.pin_token(rules.id, pin.token, found, &findings, &gone, now).await?;
    }
    Ok(changed)
}
