//! What a daemon looks at when the database is open, before any task runs.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::health::Health;
use crate::chain::pool::Pool;
use crate::chain::rpc::node::RpcSource;
use crate::clock::Clock;
use crate::config::{ChainConfig, Config};
use crate::daemon::parts::{Chains, Start, StartError, market, pool, retrying, web};
use crate::domain::oracle::source::SourceSpec;
use crate::store::{Store, StoreError};
use crate::tasks::admit::admit;
use crate::tasks::prices::market::Market;

/// How long the start waits for the providers' answers.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// Looks at each chain, and says what a person should know, before any task runs.
pub(super) async fn get_ready(
    config: &Config,
    start: &Start,
    store: &Store,
    health: &Health,
    clock: &dyn Clock,
) -> Result<(Chains, Arc<Market<RpcSource>>), StartError> {
    let mut chains = Chains::new();
    if start.tasks {
        for chain in &config.chains {
            chains.push((chain.clone(), Arc::new(pool(chain)?)));
        }
        first_look(&chains, clock).await?;
        say_which_pairs_wait(config, &chains);
        retrying(health, || store.sync_epochs(&config.epochs, clock.now_ms())).await?;
        retrying(health, || say_left_chains(config, store, clock.now_ms())).await?;
        if store.is_open_to_others() {
            tracing::warn!(
                "other users of this machine can read or write the database; to protect it, chmod 600, which new ones have"
            );
        }
        retrying(health, || say_other_key(config, store)).await?;
    }
    let market = Arc::new(market(&chains, web(config)?));
    Ok((chains, market))
}

/// Says which chains the configuration lacks though something of them is under way.
async fn say_left_chains(config: &Config, store: &Store, now_ms: i64) -> Result<(), StoreError> {
    let left = store.left_chains(&config.chain_ids()).await?;
    store.note_left_chains(&left, now_ms).await?;
    for chain in left {
        tracing::warn!(chain.id = %chain.chain, why = %chain, "payments wait for a chain");
    }
    Ok(())
}

/// Refuses an account key that no address may come from, and says when another one is in use.
async fn say_other_key(config: &Config, store: &Store) -> Result<(), StoreError> {
    let Some(xpub) = &config.account_xpub else { return Ok(()) };
    if let Some(why) = store.known_key(xpub).await?.differs() {
        tracing::warn!(why, "`topupd address new` refuses it without --new-wallet");
    }
    Ok(())
}

/// Checks all providers once. One that does not answer soon is left for later, and so is a chain
/// that nobody serves now; only where every provider of a chain contradicts the configuration,
/// waiting does not help.
async fn first_look(
    chains: &[(ChainConfig, Arc<Pool<RpcSource>>)],
    clock: &dyn Clock,
) -> Result<(), StartError> {
    let all = chains.iter().flat_map(|(chain, pool)| {
        pool.all().map(move |source| async move {
            let check = admit(&chain.rules, pool, source, clock);
            if tokio::time::timeout(FIRST_LOOK, check).await.is_err() {
                pool.refuse(source, format!("no answer in {} s", FIRST_LOOK.as_secs()), false);
            }
        })
    });
    join_all(all).await;
    for (chain, pool) in chains {
        let (name, why) = (&chain.rules.name, pool.refused().unwrap_or_default());
        if pool.all_wrong() {
            return Err(StartError::Mismatch { chain: name.clone(), why });
        }
        if !pool.all().any(|source| pool.is_admitted(source)) {
            tracing::warn!(
                chain.name = name,
                why,
                "the chain waits for a provider that can be asked; other chains go on"
            );
        }
    }
    Ok(())
}

/// Of a source that every provider shows to be another one than is configured, there is no price.
fn say_which_pairs_wait(config: &Config, chains: &[(ChainConfig, Arc<Pool<RpcSource>>)]) {
    let is_usable = |spec: &SourceSpec| {
        let pool = chains.iter().find(|(chain, _)| Some(chain.rules.id) == spec.chain());
        let Some((_, pool)) = pool else { return true };
        let (mut admitted, hash) =
            (pool.all().filter(|s| pool.is_admitted(s)).peekable(), spec.hash());
        admitted.peek().is_none() || admitted.any(|s| pool.contradicts(s, hash).is_none())
    };
    for policy in config.oracle.oracle.pairs() {
        if let Some(why) = policy.lacks(is_usable) {
            tracing::error!(why, "there is no price of a pair");
        }
    }
}
