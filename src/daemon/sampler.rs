//! The loop that samples tickers, for all chains, while this daemon holds its lease.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::health::{Health, Who};
use super::keeper::Seat;
use crate::chain::rpc::RpcSource;
use crate::clock::Clock;
use crate::domain::oracle::Oracle;
use crate::store::Store;
use crate::tasks::market::Market;
use crate::tasks::sample::sample;

/// What the loop works with.
pub(super) struct Sampler {
    pub(super) market: Arc<Market<RpcSource>>,
    pub(super) oracle: Arc<Oracle>,
    /// Pause between two samples.
    pub(super) pause: Duration,
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) health: Health,
    pub(super) seat: Seat,
    pub(super) stop: CancellationToken,
}

impl Sampler {
    pub(super) async fn run(mut self) {
        // Sources that give no price now; each is said once until it gives one again.
        let mut silent: BTreeSet<String> = BTreeSet::new();
        while let Some(lease) = self.lease().await {
            let store = self.store.holding(lease);
            let (web, clock) = (&self.market.web, self.clock.as_ref());
            match sample(&self.oracle, web, &store, clock).await {
                Ok((_, failed)) => {
                    for (source, why) in &failed {
                        if !silent.contains(source) {
                            tracing::warn!(price.source = source, why, "a ticker gives no price");
                        }
                    }
                    let now: BTreeSet<String> = failed.into_iter().map(|(s, _)| s).collect();
                    for source in silent.difference(&now) {
                        tracing::info!(price.source = source, "the ticker gives prices again");
                    }
                    silent = now;
                }
                Err(error) if error.is_unavailable() => {
                    let judge = if error.is_away() { Who::Keeper } else { Who::Task };
                    self.health.lost(&error, judge);
                }
                Err(error) => tracing::warn!(error = %error, "samples were not stored"),
            }
            let pause = tokio::time::sleep(self.pause);
            if self.stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    /// The lease, as soon as it is held; `None` when the daemon stops.
    async fn lease(&mut self) -> Option<crate::store::Lease> {
        let seat = &mut self.seat;
        let health = &self.health;
        self.stop
            .run_until_cancelled(async {
                health.ready().await;
                seat.lease.wait_for(Option::is_some).await.ok().and_then(|lease| lease.clone())
            })
            .await?
    }
}
