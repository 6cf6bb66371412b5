//! Takes samples of tickers on a schedule, so that a payment is priced with the first sample at or
//! after its block, even when it is priced later.

use crate::clock::Clock;
use crate::domain::oracle::Oracle;
use crate::domain::oracle::source::{Evidence, Reads, SourceSpec};
use crate::oracle::Web;
use crate::store::{LeasedStore, NewQuote, StoreError};

/// The name of the task's lease: one daemon takes samples for all.
pub const SAMPLE_TASK: &str = "sample prices";

/// The tickers of all pairs, each once.
pub fn tickers(oracle: &Oracle) -> Vec<&SourceSpec> {
    let pairs: Vec<String> = oracle.pairs().map(|p| p.pair.clone()).collect();
    let sources = oracle.sources(&pairs);
    sources.into_iter().filter(|s| matches!(s.reads, Reads::Http(_))).collect()
}

/// Asks every ticker once, and stores what they answer, whatever it is. Returns why each of those
/// that gave no answer did not, and how many did.
pub async fn sample(
    oracle: &Oracle,
    web: &Web,
    store: &LeasedStore,
    clock: &dyn Clock,
) -> Result<(usize, Vec<(String, String)>), StoreError> {
    let sources = tickers(oracle);
    let asked = sources
        .iter()
        .map(|source| async move { (*source, web.ask(source, clock.now_ms(), clock).await) });
    let (mut samples, mut silent) = (Vec::new(), Vec::new());
    for (source, answer) in futures_util::future::join_all(asked).await {
        match answer {
            None => {}
            Some(Err(why)) => silent.push((source.name.clone(), why)),
            Some(Ok(body)) => {
                if let Reads::Http(ticker) = &source.reads
                    && let Err(reject) = ticker.sample(&body)
                {
                    silent.push((source.name.clone(), reject.to_string()));
                }
                samples.push(NewQuote {
                    source: source.name.clone(),
                    source_hash: source.hash(),
                    block: None,
                    at_ms: body.at_ms,
                    evidence: Evidence::Body(body),
                    provider: source.venue.clone(),
                });
            }
        }
    }
    let taken = samples.len();
    store.commit_samples(&samples, clock.now_ms()).await?;
    Ok((taken, silent))
}
