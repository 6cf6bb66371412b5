//! A pool whose price of the moment was off: when its mean counts all the same.
//!
//! One swap moves the price of the moment for everybody who pays in that block, and nobody's mean. So
//! the mean may make up for the one source that is missing, and no more than one may: beside sources
//! that are in no doubt, where it is as near to them as sources must be to each other, and where the pool
//! was near its mean again in most of the minutes that followed. Where enough others answer it is not
//! asked for, so that it never changes a price that there would be without it.

use alloy::primitives::B256;

use super::{Body, Part};
use crate::domain::money::Rate;
use crate::domain::oracle::policy::pair::{
    Input, Outcome, PairPolicy, difference, is_dated, is_outlier, median, short, spread, survivors,
};
use crate::domain::oracle::source::{Reads, SourceSpec};
use crate::domain::oracle::uniswap_after::AFTER_S;

impl Input {
    /// The same; where it is in doubt and says something all the same, with how it went on.
    pub fn with_after(self, after: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Read(id, Err(doubt)) if doubt.mean.is_some() => {
                Self::Doubted(id, doubt, Box::new(after()))
            }
            other => other,
        }
    }

    /// Why a mean does not count for ever, if what it said is known.
    pub fn stayed_off(&self, source: &SourceSpec) -> Option<String> {
        let (Self::Doubted(_, doubt, after), Reads::UniswapV3(pool)) = (self, &source.reads) else {
            return None;
        };
        match after.as_ref() {
            Self::Read(_, Ok(after)) if pool.came_back(after.price, doubt.mean.as_ref()?.price) => {
                None
            }
            Self::Read(_, Ok(after)) => Some(format!(
                "it was not back in most of the {AFTER_S} s after the payment, but at {}",
                after.price
            )),
            Self::Read(_, Err(reject)) => Some(format!("looked at again, {reject}")),
            _ => None,
        }
    }
}

/// What becomes of a mean.
enum Verdict {
    /// It counts, by this answer, in which it is so much.
    Counts(B256, Rate),
    /// Not before this is known.
    Waits(String),
    /// It does not, for this reason.
    Not(String),
}

/// Has one mean count where one source is missing.
pub(super) fn make_up(
    policy: &PairPolicy,
    body: &mut Body,
    inputs: &[Input],
) -> Result<(), Outcome> {
    let sound = survivors(body);
    let with_one = sound.len().saturating_add(1);
    let dated = body.survivors().any(|part| is_dated(policy, part));
    let enough = usize::try_from(policy.quorum).is_ok_and(|quorum| with_one >= quorum) && dated;
    if !enough || sound.is_empty() {
        return Err(short(policy, body));
    }
    let venues: Vec<String> = body.survivors().map(|part| part.venue.clone()).collect();
    let may = |part: &Part| !part.guard && !venues.contains(&part.venue);
    match one_counts(policy, body, inputs, &sound, may)? {
        true => Ok(()),
        false => Err(short(policy, body)),
    }
}

/// Has one guard see to the price by its mean where no other one does. Two means in one price would be
/// one that the other makes credible.
pub(super) fn guards(
    policy: &PairPolicy,
    body: &mut Body,
    inputs: &[Input],
    price: Rate,
) -> Result<bool, Outcome> {
    if body.parts.iter().any(|part| part.after_id.is_some()) {
        return Ok(false);
    }
    one_counts(policy, body, inputs, &[price], |part| part.guard)
}

/// The first of these that does counts, and it is waited for until that is known; where none does, each
/// says why.
fn one_counts(
    policy: &PairPolicy,
    body: &mut Body,
    inputs: &[Input],
    sound: &[Rate],
    may: impl Fn(&Part) -> bool,
) -> Result<bool, Outcome> {
    let instant_ms = body.instant_ms;
    let mut whys = Vec::new();
    for (i, (source, input)) in policy.sources.iter().zip(inputs).enumerate() {
        let Some(part) = body.parts.get_mut(i).filter(|part| may(part)) else { continue };
        let Some(verdict) = verdict(policy, source, part, input, sound, instant_ms) else {
            continue;
        };
        match verdict {
            Verdict::Counts(id, after) => {
                let detail = part.detail.take().unwrap_or_default();
                part.detail =
                    Some(format!("{detail}, and {after} in most of {AFTER_S} s after it"));
                (part.rejected, part.after_id) = (None, Some(id));
                return Ok(true);
            }
            Verdict::Waits(why) => {
                let off = part.rejected.as_deref().unwrap_or_default();
                return Err(Outcome::Later(format!("{}: {off}; {why}", part.source)));
            }
            Verdict::Not(why) => whys.push((i, why)),
        }
    }
    for (i, why) in whys {
        if let Some(rejected) = body.parts.get_mut(i).and_then(|part| part.rejected.as_mut()) {
            *rejected = format!("{rejected}; {why}");
        }
    }
    Ok(false)
}

/// What becomes of one; `None` where it is not one of these.
fn verdict(
    policy: &PairPolicy,
    source: &SourceSpec,
    part: &Part,
    input: &Input,
    sound: &[Rate],
    instant_ms: i64,
) -> Option<Verdict> {
    let Input::Doubted(_, _, after) = input else { return None };
    let says = part.price?;
    if let Some(why) = spread(policy, part, instant_ms) {
        return Some(Verdict::Not(why));
    }
    let (beside, most) = (median(sound.to_vec())?, policy.dispersion_max_bps);
    let apart = says.distance_bps(beside);
    if apart > u64::from(most) {
        let why = format!("its mean is {apart} bp from {beside}; at most {most} are allowed");
        return Some(Verdict::Not(why));
    }
    if evicts(policy, sound, says)? {
        let why = format!(
            "with its mean, {apart} bp from {beside}, one of the prices would be an outlier"
        );
        return Some(Verdict::Not(why));
    }
    if let Some(why) = input.stayed_off(source) {
        return Some(Verdict::Not(why));
    }
    Some(match after.as_ref() {
        Input::Read(Some(id), Ok(after)) => Verdict::Counts(*id, after.price),
        Input::NotYet(why) => Verdict::Waits(format!(
            "its mean counts if it was back in most of the {AFTER_S} s after the payment: {why}"
        )),
        Input::Missing(why) => Verdict::Not(why.clone()),
        Input::Read(..) | Input::Doubted(..) => return None,
    })
}

/// True where one would be an outlier among all, itself or another one.
fn evicts(policy: &PairPolicy, sound: &[Rate], says: Rate) -> Option<bool> {
    let all: Vec<Rate> = sound.iter().copied().chain([says]).collect();
    let middle = median(all.clone())?;
    let mad = median(all.iter().map(|p| difference(*p, middle)).collect())?;
    Some(all.iter().any(|p| is_outlier(*p, middle, mad, policy.outlier_floor_bps)))
}

#[cfg(test)]
mod tests;
