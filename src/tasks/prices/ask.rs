//! One provider is asked about contracts at a block, and every question has an answer or none has.
//!
//! What the answers mean, and whether anybody else gives them too, is not known here.

use crate::chain::source::{CallOutcome, ChainSource, SourceError};
use crate::domain::chain::Header;
use crate::domain::ids::ChainId;
use crate::domain::oracle::reading::{Call, Called, Calls};
use crate::domain::oracle::source::{Evidence, SourceSpec};

/// Asks one provider about a source in the state after one block of its chain; why there is no
/// answer, otherwise. Stores nothing: for whoever looks at a price now.
///
/// # Errors
/// When the provider does not answer at all.
pub async fn asked_at<S: ChainSource>(
    source: &S,
    spec: &SourceSpec,
    chain: ChainId,
    header: &Header,
) -> Result<Result<Evidence, String>, SourceError> {
    let asked = spec.calls();
    let questions: Vec<_> = asked.iter().map(|call| (header.hash, call.clone())).collect();
    let outcomes = source.call_at(&questions).await?;
    Ok(answered(asked, outcomes)
        .map(|calls| {
            Evidence::Calls(Calls {
                chain_id: chain,
                block_number: header.number,
                block_hash: header.hash,
                block_time_ms: header.time_ms,
                next_time_ms: None,
                late: false,
                calls,
            })
        })
        .map_err(|(_, why)| why))
}

/// Questions with their answers, if each has one; else whether the state is gone, and why.
pub(in crate::tasks) fn answered(
    asked: Vec<Call>,
    outcomes: Vec<CallOutcome>,
) -> Result<Vec<Called>, (bool, String)> {
    if asked.len() != outcomes.len() {
        return Err((false, "answers are missing".into()));
    }
    asked
        .into_iter()
        .zip(outcomes)
        .map(|(call, outcome)| match outcome {
            CallOutcome::Answered(answer) => Ok(Called { to: call.to, data: call.data, answer }),
            CallOutcome::NoState(why) => Err((true, format!("{}: {why}", call.name()))),
            CallOutcome::Failed(why) => Err((false, format!("{}: {why}", call.name()))),
        })
        .collect()
}
