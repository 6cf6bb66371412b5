//! Samples tickers, for all chains, while this daemon holds that lease.
//!
//! It goes by the tickers that are configured here, and leaves them to others where these have a newer configuration.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::driver::{Failure, Next, Step, Task};
use crate::chain::rpc::node::RpcSource;
use crate::clock::Clock;
use crate::domain::oracle::Oracle;
use crate::domain::pricing::EpochBook;
use crate::store::{Lease, Store, StoreError};
use crate::tasks::prices::market::Market;
use crate::tasks::prices::sample::sample;

/// What a step works with.
pub(super) struct Sampler {
    pub(super) market: Arc<Market<RpcSource>>,
    pub(super) oracle: Arc<Oracle>,
    pub(super) epochs: Arc<EpochBook>,
    /// Pause between two samples.
    pub(super) pause: Duration,
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    /// Sources that give no price now; each is said once until it gives one again.
    pub(super) silent: BTreeSet<String>,
}

impl Task for Sampler {
    async fn step(&mut self, lease: &Lease) -> Result<Step, Failure> {
        match self.store.check_epochs(&self.epochs).await {
            Ok(_) => {}
            // Samples are stored without a look at the epochs, and new ones may need other tickers.
            Err(error @ (StoreError::Refused(_) | StoreError::EpochChanged { .. })) => {
                return Err(Failure::Outdated(error.to_string()));
            }
            Err(error) => return Err(error.into()),
        }
        let store = self.store.holding(lease.clone());
        let (web, clock) = (&self.market.web, self.clock.as_ref());
        let (taken, failed) = sample(&self.oracle, web, &store, clock).await?;
        for (source, why) in &failed {
            if !self.silent.contains(source) {
                tracing::warn!(price.source = source, why, "a ticker gives no price");
            }
        }
        let now: BTreeSet<String> = failed.into_iter().map(|(source, _)| source).collect();
        for source in self.silent.difference(&now) {
            tracing::info!(price.source = source, "the ticker gives prices again");
        }
        self.silent = now;
        Ok(Step::new(Next::Tick(self.pause)).committed(taken > 0))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::ids::Network;
    use crate::domain::pricing::{Epoch, Phase};
    use crate::store::Acquired;

    fn epochs(ids: &[&str]) -> Arc<EpochBook> {
        let epochs = ids.iter().zip(1..).map(|(id, starts_at_ms)| Epoch {
            id: (*id).to_owned(),
            starts_at_ms,
            phase: Phase::PreTge,
            accept: BTreeMap::new(),
        });
        Arc::new(EpochBook::new(epochs.collect()).unwrap())
    }

    #[tokio::test]
    async fn samples_are_left_to_who_knows_every_epoch() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("topupd.db").display());
        let store = Store::open(&url.parse().unwrap(), Network::Testnet, 1).await.unwrap();
        let second = Duration::from_secs(1);
        let lease = store.acquire("sample prices", "we", second, true).await.unwrap();
        let Acquired::Ours(lease) = lease else { panic!("{lease:?}") };
        let mut sampler = Sampler {
            market: Arc::default(),
            oracle: Arc::default(),
            epochs: epochs(&["one"]),
            pause: second,
            store: store.clone(),
            clock: store.clock(),
            silent: BTreeSet::new(),
        };
        // One that is not registered, as after a database went back, the keeper registers again.
        sampler.step(&lease).await.unwrap();
        store.sync_epochs(&epochs(&["one"]), 2).await.unwrap();
        sampler.step(&lease).await.unwrap();
        store.sync_epochs(&epochs(&["one", "two"]), 3).await.unwrap();
        let done = sampler.step(&lease).await;
        assert!(matches!(&done, Err(Failure::Outdated(why)) if why.contains("two")), "{done:?}");
        sampler.epochs = epochs(&["one", "two"]);
        sampler.step(&lease).await.unwrap();
        store.close().await;
    }
}
