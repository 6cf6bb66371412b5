//! Which round of a Chainlink feed was in force at a past instant, by its rounds alone.
//!
//! A feed's proxy points to one aggregator after the other, its phases, and keeps the rounds of all of
//! them readable. It does not tell when it changed over, and a new aggregator may have answered long
//! before that, from any round number on. So every phase must show where it stood: not begun, in
//! force, or over for so long that what it said would have been stale. Where that leaves more than one
//! answer, or a phase shows nothing, there is none. Which rounds to ask for is found elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::Address;

use crate::domain::oracle::reading::{CallAnswer, Called, Reject};
use crate::domain::oracle::round::{Round, Since, decode, latest_round, round, round_id, shown};

/// Phases that are told apart, at most: a feed has had a few.
pub const PHASES_MAX: u16 = 16;

/// Numbers whose rounds show together where a phase begins: its first round, and some of those that
/// would be before it. One that is missing may be a gap.
pub fn up_to(first: u64) -> impl Iterator<Item = u64> {
    let halves = std::iter::successors(first.checked_sub(1), |n| Some(n.wrapping_shr(1)));
    [first].into_iter().chain(halves.take_while(|n| *n > 0))
}

/// Numbers whose rounds would be after the last one: where all are missing, it was the last.
pub fn beyond(last: u64) -> impl Iterator<Item = u64> {
    (0..32u32).map(move |bit| last.saturating_add(1u64.wrapping_shl(bit)))
}

/// Where a phase stood.
enum Standing {
    /// It had not answered yet.
    NotBegun,
    /// This round was its newest one.
    InForce(Round),
    /// This was its last round, too long ago to be a price.
    Over(Round),
    /// Its rounds do not show it.
    Unknown,
}

/// What was asked of a feed, and answered.
struct Known<'a> {
    feed: Address,
    rounds: BTreeMap<u128, Round>,
    asked: BTreeSet<&'a [u8]>,
    latest: Round,
    since: Since,
    at_ms: i64,
}

/// The round in force at an instant. A round's answer lasts so long after it; for ever, where that is
/// `None`.
pub(super) fn in_force(
    asked: &[&Called],
    feed: Address,
    at_ms: i64,
    since: Since,
    lasts_ms: Option<i64>,
) -> Result<Round, Reject> {
    let rounds = asked
        .iter()
        .filter_map(|c| match &c.answer {
            CallAnswer::Returned(bytes) => Some(decode(bytes)),
            CallAnswer::Reverted(_) => None,
        })
        .collect::<Result<Vec<_>, _>>()?;
    let newest = latest_round(feed).data;
    let latest = match asked.iter().find(|c| c.data == newest).map(|c| &c.answer) {
        Some(CallAnswer::Returned(bytes)) => decode(bytes)?,
        _ => return Err(Reject::new("unreadable", "the newest round is not known")),
    };
    // A round that is not there answers with zeros on some feeds, and reverts on others.
    let rounds = rounds.into_iter().filter(|r| r.updated_ms > 0);
    let known = Known {
        feed,
        rounds: rounds.map(|r| (r.id.to::<u128>(), r)).collect(),
        asked: asked.iter().map(|c| c.data.as_ref()).collect(),
        latest,
        since,
        at_ms,
    };
    let last = latest.phase();
    if last > PHASES_MAX {
        let why =
            format!("the feed has had {last} aggregators; at most {PHASES_MAX} are told apart");
        return Err(Reject::new("phase", why));
    }
    let (mut candidates, mut over) = (Vec::new(), None);
    for phase in last.min(1)..=last {
        match known.standing(phase, lasts_ms) {
            Standing::NotBegun => {}
            Standing::InForce(round) => candidates.push(round),
            Standing::Over(round) => over = Some(round),
            Standing::Unknown => {
                let why = format!(
                    "cannot prove which aggregator the feed used: the rounds of phase {phase} do not show it"
                );
                return Err(Reject::new("phase", why));
            }
        }
    }
    let Some((first, others)) = candidates.split_first() else {
        return over.ok_or_else(|| Reject::new("missing", "no round of that time is left"));
    };
    match others.iter().find(|other| other.answer != first.answer) {
        // Whichever it was, it said this.
        None => Ok(*candidates.last().unwrap_or(first)),
        Some(other) => {
            let why = format!(
                "cannot prove which aggregator the feed used: rounds {} and {} answered differently",
                shown(first.id),
                shown(other.id)
            );
            Err(Reject::new("phase", why))
        }
    }
}

impl Known<'_> {
    fn standing(&self, phase: u16, lasts_ms: Option<i64>) -> Standing {
        let of = round_id(phase, 0).to::<u128>()..=round_id(phase, u64::MAX).to::<u128>();
        let mut of = self.rounds.range(of).map(|(_, round)| *round).peekable();
        let first = of.peek().copied();
        let before = of.take_while(|r| (self.since)(r) <= self.at_ms).last();
        let Some(round) = before else {
            let shown = |r: Round| up_to(r.number()).skip(1).all(|n| self.absent(phase, n));
            return match first {
                Some(first) if shown(first) => Standing::NotBegun,
                _ => Standing::Unknown,
            };
        };
        let next = round.number().saturating_add(1);
        if self.rounds.contains_key(&round_id(phase, next).to::<u128>()) {
            return Standing::InForce(round);
        }
        let is_last = || beyond(round.number()).all(|n| self.absent(phase, n));
        if round.id != self.latest.id && !is_last() {
            return Standing::Unknown;
        }
        let age = self.at_ms.saturating_sub((self.since)(&round));
        match lasts_ms {
            Some(lasts) if age > lasts => Standing::Over(round),
            _ => Standing::InForce(round),
        }
    }

    /// It was asked for, and is not there.
    fn absent(&self, phase: u16, number: u64) -> bool {
        let id = round_id(phase, number);
        let asked = self.asked.contains(round(self.feed, id).data.as_ref());
        asked && !self.rounds.contains_key(&id.to::<u128>())
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{I256, U256, aliases::U80};
    use alloy::sol_types::SolValue;

    use super::*;

    const FEED: Address = Address::repeat_byte(7);
    const AT: i64 = 1_000_000;

    fn returned(id: U80, answer: i64, updated_s: i64) -> CallAnswer {
        let time = U256::from(updated_s);
        let answer = I256::try_from(answer).unwrap();
        CallAnswer::Returned((id, answer, time, time, id).abi_encode().into())
    }

    /// `(phase, number, answer, seconds since the instant)`; no answer, no round.
    type Asked = (u16, u64, i64, i64);

    /// The last one that is answered is the newest.
    fn read(rounds: &[Asked], lasts_ms: Option<i64>) -> Result<(u16, u64), &'static str> {
        let (mut calls, mut all) = (Vec::new(), rounds.to_vec());
        let at_s = AT / 1_000;
        // One that is missing stands for all that show it.
        for (phase, number, _, _) in
            rounds.iter().filter(|(_, n, answer, _)| *answer == 0 && *n > 0)
        {
            for n in up_to(*number + 1).skip(1).chain(beyond(number - 1)) {
                if !rounds.iter().any(|r| (r.0, r.1) == (*phase, n)) {
                    all.push((*phase, n, 0, 0));
                }
            }
        }
        for (phase, number, answer, off_s) in &all {
            let id = round_id(*phase, *number);
            let call = round(FEED, id);
            let answer = match answer {
                0 => CallAnswer::Reverted("No data present".into()),
                _ => returned(id, *answer, at_s + off_s),
            };
            calls.push(Called { to: FEED, data: call.data, answer });
        }
        let (phase, number, answer, off_s) = *rounds.iter().rfind(|r| r.2 != 0).unwrap();
        let newest = returned(round_id(phase, number), answer, at_s + off_s);
        calls.push(Called { to: FEED, data: latest_round(FEED).data, answer: newest });
        let asked: Vec<&Called> = calls.iter().collect();
        let round = in_force(&asked, FEED, AT, Round::since_answer, lasts_ms);
        round.map(|r| (r.phase(), r.number())).map_err(|r| r.code)
    }

    #[test]
    fn rounds_show_which_one_was_in_force() {
        let lasts = Some(100_000);
        let table: &[(&[Asked], _)] = &[
            // One phase.
            (&[(1, 5, 9, -10)], Ok((1, 5))),
            (&[(1, 5, 9, -10), (1, 6, 8, 10)], Ok((1, 5))),
            (&[(1, 5, 9, 0), (1, 6, 8, 1)], Ok((1, 5))),
            (&[(1, 5, 9, -10), (1, 7, 8, 10)], Err("phase")),
            (&[(1, 5, 9, 10)], Err("phase")),
            (&[(1, 1, 9, 10)], Err("missing")),
            // The newest one is old: whoever asked then got it, and it was stale.
            (&[(1, 5, 9, -500)], Ok((1, 5))),
            // The next phase had not begun, at whichever number.
            (&[(1, 5, 9, -10), (1, 6, 0, 0), (2, 1, 8, 10)], Ok((1, 5))),
            (&[(1, 5, 9, -10), (1, 6, 0, 0), (2, 999, 0, 0), (2, 1000, 8, 10)], Ok((1, 5))),
            (&[(1, 5, 9, -10), (1, 6, 0, 0), (2, 1000, 8, 10)], Err("phase")),
            // It answered before it was used, or after: nobody knows.
            (&[(1, 5, 9, -10), (1, 6, 0, 0), (2, 1, 8, -5)], Err("phase")),
            (&[(1, 5, 9, -10), (1, 6, 9, 10), (2, 1, 8, -5), (2, 2, 8, 15)], Err("phase")),
            // Whichever it was, it said the same.
            (&[(1, 5, 9, -10), (1, 6, 0, 0), (2, 1, 9, -5)], Ok((2, 1))),
            // What was before it is over.
            (&[(1, 5, 9, -101), (1, 6, 0, 0), (2, 1, 8, -5)], Ok((2, 1))),
            (&[(1, 5, 9, -100), (1, 6, 0, 0), (2, 1, 8, -5)], Err("phase")),
            // That it is over must be shown, too.
            (&[(1, 5, 9, -500), (2, 1, 8, -5)], Err("phase")),
            (&[(2, 1, 8, -5)], Err("phase")),
            (&[(1, 1, 0, 0), (2, 1, 8, -5)], Err("phase")),
            // A feed without phases.
            (&[(0, 5, 9, -10), (0, 6, 8, 10)], Ok((0, 5))),
            (&[(17, 1, 9, -10)], Err("phase")),
            // A gap shows neither where a phase begins nor where it ends.
            (&[(1, 5, 9, -10), (1, 6, 0, 0), (1, 7, 8, 10)], Err("phase")),
            (&[(1, 4, 9, -10), (1, 5, 0, 0), (1, 6, 8, -5), (2, 1, 8, 10)], Err("phase")),
        ];
        for (rounds, expected) in table {
            assert_eq!(read(rounds, lasts), *expected, "{rounds:?}");
        }
        let over = [(1, 5, 9, -500), (1, 6, 0, 0), (2, 1, 8, -5)];
        assert_eq!(read(&over, None), Err("phase"), "a state lasts until there is another");
    }
}
