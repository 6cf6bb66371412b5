//! Finds the block of a time on a chain that is not followed here.

use crate::chain::source::{ChainSource, SourceError};
use crate::domain::chain::Header;

/// Headers looked at to find a block.
const SEARCH_MAX: u32 = 64;

/// The last block of a chain at or before a time, with the time of the block after it; why there is
/// none yet, otherwise.
pub(in crate::tasks) async fn last_block_at<S: ChainSource>(
    source: &S,
    time_ms: i64,
) -> Result<Result<(Header, i64), String>, SourceError> {
    let tip = source.latest().await?;
    if tip.time_ms <= time_ms {
        return Ok(Err("its chain has no block after the payment yet".into()));
    }
    let missing = || format!("{} does not show its blocks", source.provider());
    // Between a block at or before the time and one after it; where to look is guessed by time.
    let (mut low, mut high) = (None::<Header>, tip);
    let mut step = 1u64;
    for turn in 0..SEARCH_MAX {
        let at = match &low {
            Some(low) if high.number == low.number.saturating_add(1) => {
                return Ok(Ok((*low, high.time_ms)));
            }
            // Every other time in the middle: blocks need not come evenly.
            Some(low) if turn % 2 == 1 => low.number.saturating_add(
                high.number.saturating_sub(low.number).checked_div(2).unwrap_or(1).max(1),
            ),
            Some(low) => between(low, &high, time_ms),
            None if high.number == 0 => return Ok(Err("its chain began later".into())),
            None => {
                let back = high.number.saturating_sub(step);
                step = step.saturating_mul(4);
                back
            }
        };
        let Some(header) = source.header_at(at).await? else { return Ok(Err(missing())) };
        if header.time_ms <= time_ms {
            low = Some(header);
        } else {
            high = header;
        }
    }
    Ok(Err("its block of that time was not found".into()))
}

/// A height strictly between two, where the time should be if blocks come evenly.
fn between(low: &Header, high: &Header, time_ms: i64) -> u64 {
    let part = |ms: i64| u128::from(u64::try_from(ms).unwrap_or(0));
    let span = part(high.time_ms.saturating_sub(low.time_ms)).max(1);
    let into = part(time_ms.saturating_sub(low.time_ms));
    let blocks = high.number.saturating_sub(low.number);
    let guess = u128::from(blocks).saturating_mul(into).checked_div(span).unwrap_or(0);
    let guess = low.number.saturating_add(u64::try_from(guess).unwrap_or(u64::MAX));
    guess.clamp(low.number.saturating_add(1), high.number.saturating_sub(1))
}
