//! The clock of testers: on a testnet the time of a database, of all daemons on it, and of its local chains is
//! moved ahead together. On mainnet there is no such thing.
//!
//! The order matters. The database moves first, then every daemon that is alive has to have asked it once, and
//! only then the chains follow: a block is never later than the clock of a daemon that reads it. Doing it again
//! after it was broken off finishes it: a chain is moved *to* a time, never by a length.

use std::collections::BTreeSet;
use std::time::Duration;

use alloy::primitives::U256;

use super::ServiceError;
use crate::chain::pool::Pool;
use crate::chain::rpc::node::RpcSource;
use crate::chain::source::{ChainSource, SourceError};
use crate::config::{ChainConfig, Config};
use crate::daemon::parts::{StartError, pool};
use crate::domain::ids::Network;
use crate::store::{MovedClock, Store};
use crate::view::clock::{ChainClock, Clock};
use crate::view::{At, Chain};

/// Pause between two looks at whether the daemons know of it.
const LOOK: Duration = Duration::from_millis(100);
/// After so many looks it is said who is waited for.
const SAY_AFTER: u32 = 20;
/// What the clients whose time can be moved say of themselves.
const LOCAL_CLIENT: &str = "anvil/";

/// What time it is, and where each chain is.
///
/// # Errors
/// When the database fails. A provider that does not answer is part of the answer.
pub async fn show(store: &Store, config: &Config) -> Result<Clock, ServiceError> {
    let mut chains = Vec::new();
    for (chain, pool) in &providers(config)? {
        for source in pool.all() {
            chains.push(look(chain, source).await.0);
        }
    }
    Ok(view(store.moved_clock().await?, chains))
}

/// Moves the clock ahead. `waits` is told whom it waits for, when that takes longer.
///
/// # Errors
/// On mainnet; where a configured chain is not a local one, because its blocks would look old for good; where a
/// provider does not answer; when the database fails. Nothing was moved then, unless the sentence says so.
pub async fn advance(
    store: &Store,
    config: &Config,
    by: Duration,
    waits: impl Fn(&str),
) -> Result<Clock, ServiceError> {
    if store.network() != Network::Testnet {
        let why = "time can only be moved on a testnet, and this database is a mainnet's";
        return Err(ServiceError::refused("clock_is_mainnet", why));
    }
    let providers = providers(config)?;
    let each = || providers.iter().flat_map(|(chain, pool)| pool.all().map(move |s| (*chain, s)));
    for (chain, source) in each() {
        let (at, answers) = look(chain, source).await;
        if let Err(error) = answers {
            let why = format!("chain {}: {error}; nothing was moved", at.name);
            return Err(ServiceError::Unavailable { code: "provider_silent", why });
        }
        if !at.can_be_moved {
            let why = format!(
                "chain {}: provider {} is {}, and only the time of a local chain (anvil) can be moved; its blocks would look old for good. Leave the chain out of the configuration to move the time of the others; nothing was moved",
                at.name, at.provider, at.client
            );
            return Err(ServiceError::refused("chain_is_not_local", why));
        }
    }
    let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    store.advance_clock(by_ms).await?;
    // Read after the commit: who asks later than this knows of it.
    let moved = store.moved_clock().await?;
    until_all_know(store, config, moved, waits).await?;
    let mut chains = Vec::new();
    for (chain, source) in each() {
        if let Err(error) = follow(source, moved.now_ms).await {
            let why = format!(
                "the database's clock was moved to {}, and chain {} does not follow: {error}. Advance by 0s when it answers again",
                At(moved.now_ms),
                chain.rules.name
            );
            return Err(ServiceError::Unavailable { code: "provider_silent", why });
        }
        chains.push(look(chain, source).await.0);
    }
    Ok(view(store.moved_clock().await?, chains))
}

fn view(clock: MovedClock, chains: Vec<ChainClock>) -> Clock {
    let ahead_seconds = clock.offset_ms.div_euclid(1_000);
    Clock { time: At(clock.now_ms), ahead_seconds, chains }
}

/// Every chain with its providers.
fn providers(config: &Config) -> Result<Vec<(&ChainConfig, Pool<RpcSource>)>, ServiceError> {
    let of = |chain| Ok((chain, pool(chain)?));
    let all = config.chains.iter().map(of).collect::<Result<_, StartError>>();
    all.map_err(|error| ServiceError::refused("provider_not_usable", error.to_string()))
}

/// Where a chain is, as one of its providers sees it.
async fn look(chain: &ChainConfig, source: &RpcSource) -> (ChainClock, Result<(), SourceError>) {
    let asked = async {
        let client: String = source.ask("web3_clientVersion", ()).await?;
        Ok((client, source.latest().await?.time_ms))
    };
    let answer: Result<(String, i64), SourceError> = asked.await;
    let (latest_block_at, can_be_moved, client, answers) = match answer {
        Ok((client, time_ms)) => {
            (Some(At(time_ms)), client.starts_with(LOCAL_CLIENT), client, Ok(()))
        }
        Err(error) => (None, false, error.to_string(), Err(error)),
    };
    let (name, provider) = (chain.rules.name.clone(), source.provider().to_owned());
    let chain = Chain(chain.rules.id);
    (ChainClock { chain, name, provider, latest_block_at, can_be_moved, client }, answers)
}

/// Waits until each daemon that is alive has asked the database what time it is. One that is not heard of for
/// as long as a lease is not alive.
async fn until_all_know(
    store: &Store,
    config: &Config,
    moved: MovedClock,
    waits: impl Fn(&str),
) -> Result<(), ServiceError> {
    let lease_ms = i64::try_from(config.daemon.lease.as_millis()).unwrap_or(i64::MAX);
    let mut looks: u32 = 0;
    loop {
        let now_ms = store.server_ms().await?;
        let unaware: BTreeSet<String> = store
            .daemons()
            .await?
            .into_iter()
            .filter(|daemon| daemon.seen_at_ms <= moved.server_ms)
            .filter(|daemon| now_ms.saturating_sub(daemon.seen_at_ms) <= lease_ms)
            .map(|daemon| daemon.holder)
            .collect();
        if unaware.is_empty() {
            return Ok(());
        }
        looks = looks.saturating_add(1);
        if looks == SAY_AFTER {
            let names: Vec<String> = unaware.into_iter().collect();
            waits(&format!("waiting until {} knows of it", names.join(", ")));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Has a local chain mine a block of this time, unless it is as far already: another provider may be the same
/// node under another name.
async fn follow(source: &RpcSource, to_ms: i64) -> Result<(), SourceError> {
    let seconds = to_ms.div_euclid(1_000);
    if source.latest().await?.time_ms.div_euclid(1_000) >= seconds {
        return Ok(());
    }
    let at = U256::from(u64::try_from(seconds).unwrap_or_default());
    let set = source.ask::<serde_json::Value>("evm_setNextBlockTimestamp", (at,)).await;
    // Refused where a block came in between that is later: then it is as far.
    if let Err(error) = set
        && source.latest().await?.time_ms.div_euclid(1_000) < seconds
    {
        return Err(error);
    }
    source.ask::<serde_json::Value>("evm_mine", ()).await.map(drop)
}
