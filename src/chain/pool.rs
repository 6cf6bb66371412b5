//! Several providers of one chain: who is asked first, and who is left alone for a while.
//!
//! An order and nothing more. It never asks by itself, never mixes the answers of two providers, and
//! does not judge what is true: that is for whoever compares answers, and tells the pool. Time is an
//! argument.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use alloy::primitives::B256;

use crate::chain::source::{ChainSource, SourceError};
use crate::domain::ids::BlockRef;

/// The first pause after a failure; it doubles with each one that follows.
const REST_MS: i64 = 500;
/// The longest pause after failures.
const REST_MAX_MS: i64 = 60_000;
/// The pause of a provider that limits its rate and does not say for how long.
const RATE_REST_MS: i64 = 1_000;

/// After so long, a source of prices that contradicts its configuration is checked again.
const RECHECK_MS: i64 = 600_000;

/// So many failures in a row, and it is checked again before it is asked: it may come back as
/// another node.
const AWAY: u32 = 3;

/// The providers of a chain.
#[derive(Debug)]
pub struct Pool<S> {
    members: Vec<Member<S>>,
    contested: Mutex<Option<u64>>,
}

#[derive(Debug)]
struct Member<S> {
    source: S,
    /// Lower is asked first.
    priority: u32,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Default)]
struct State {
    entry: Entry,
    /// What it lacks though it is admitted; empty for nothing.
    lacks: String,
    /// The sources of prices that are not as configured by its word, each with why, and since when.
    contradicted: BTreeMap<B256, String>,
    contradicted_at_ms: i64,
    failures: u32,
    rest_until_ms: i64,
    /// It asked to be left alone until then.
    limited_until_ms: i64,
    aside: Option<Aside>,
    /// The tip it answered last.
    head: Option<BlockRef>,
    /// The `safe` and `finalized` heights it answered last.
    safe: Option<u64>,
    finalized: Option<u64>,
    why: Option<String>,
}

/// Whether a provider may be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Entry {
    /// Nobody has checked it yet.
    #[default]
    New,
    /// It did not show that it is on the configured chain.
    Refused {
        why: String,
        /// It showed that it is not.
        wrong: bool,
    },
    /// It did.
    Admitted,
    /// It did, and was away since: it may come back as another one.
    Lapsed,
    /// It is known to be right, and nobody checks it.
    Trusted,
}

/// Why a provider is not asked while another one can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aside {
    /// Its tip is far below that of others.
    Behind {
        /// Its tip.
        at: u64,
        /// Theirs.
        of: u64,
    },
    /// It shows blocks that no other provider has.
    Ahead {
        /// Height of one.
        at: u64,
    },
    /// More of the others have another block there.
    OtherFork {
        /// Height of the block.
        number: u64,
    },
}

impl fmt::Display for Aside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Behind { at, of } => write!(f, "behind: at block {at} of {of}"),
            Self::Ahead { at } => write!(f, "shows block {at}, which no other provider has"),
            Self::OtherFork { number } => write!(f, "on another fork at block {number}"),
        }
    }
}

/// A provider's standing, for people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Standing {
    /// Name.
    pub provider: String,
    /// `ok`, or why it is not asked first.
    pub state: String,
    /// The height of the tip it answered last.
    pub head: Option<u64>,
    /// The height of the `safe` block it answered last.
    pub safe: Option<u64>,
    /// The height of the `finalized` block it answered last.
    pub finalized: Option<u64>,
    /// How long its answers took lately.
    pub latency_ms: u64,
    /// Failures in a row.
    pub failures: u32,
}

impl<S: ChainSource> Pool<S> {
    /// A pool of providers with their priorities, the lowest asked first. None of them is asked
    /// before [`Pool::admit`].
    pub fn new(sources: impl IntoIterator<Item = (S, u32)>) -> Self {
        let members = sources
            .into_iter()
            .map(|(source, priority)| Member { source, priority, state: Mutex::default() })
            .collect();
        Self { members, contested: Mutex::default() }
    }

    /// A pool of providers that are known to be on the right chain, in order of priority.
    pub fn admitted(sources: impl IntoIterator<Item = S>) -> Self {
        let pool = Self::new(sources.into_iter().zip(0u32..));
        for member in &pool.members {
            member.state().entry = Entry::Trusted;
        }
        pool
    }

    /// All providers, in the order of the configuration.
    pub fn all(&self) -> impl Iterator<Item = &S> {
        self.members.iter().map(|m| &m.source)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// True without providers.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// From now on it may be asked. What it lacks all the same is said when it changes, and so is which
    /// sources of prices are not asked there.
    pub fn admit(
        &self,
        source: &S,
        lacks: String,
        contradicted: BTreeMap<B256, String>,
        now_ms: i64,
    ) {
        let Some(mut state) = self.state_of(source) else { return };
        if state.lacks != lacks && !lacks.is_empty() {
            tracing::warn!(
                provider = source.provider(),
                why = lacks,
                "provider is asked, and lacks something"
            );
        }
        state.lacks = lacks;
        if state.contradicted != contradicted {
            for why in contradicted.values() {
                tracing::error!(
                    provider = source.provider(),
                    why,
                    "the price source contradicts the configuration; it is not asked there"
                );
            }
        }
        state.contradicted = contradicted;
        state.contradicted_at_ms = now_ms;
        if let Entry::Refused { .. } = std::mem::replace(&mut state.entry, Entry::Admitted) {
            tracing::info!(
                provider = source.provider(),
                "provider answers as it should; it is asked from now on"
            );
        }
    }

    /// It is not asked, or not any more. Said when the reason changes; of the only provider, whoever
    /// asked it first says so.
    pub fn refuse(&self, source: &S, why: String, wrong: bool) {
        let Some(mut state) = self.state_of(source) else { return };
        let refused = Entry::Refused { why, wrong };
        let is_said = self.members.len() == 1 && state.entry == Entry::New;
        if state.entry != refused && !is_said {
            let Entry::Refused { why, .. } = &refused else { return };
            if wrong {
                tracing::error!(
                    provider = source.provider(),
                    why,
                    "provider is not asked: it contradicts the configuration"
                );
            } else {
                tracing::warn!(
                    provider = source.provider(),
                    why,
                    "provider is not asked yet; it is checked again"
                );
            }
        }
        state.entry = refused;
    }

    /// True once it may be asked.
    pub fn is_admitted(&self, source: &S) -> bool {
        self.state_of(source).is_some_and(|state| state.is_admitted())
    }

    /// Why a source of prices is not asked of a provider: by that one's word it is not what the
    /// configuration says.
    pub fn contradicts(&self, source: &S, price_source: B256) -> Option<String> {
        let why = self.state_of(source)?.contradicted.get(&price_source).cloned()?;
        Some(format!("{}: {why}", source.provider()))
    }

    /// True where a source of prices was set aside so long ago that it is worth asking again.
    pub fn is_to_be_checked(&self, source: &S, now_ms: i64) -> bool {
        self.state_of(source).is_some_and(|state| {
            let age = now_ms.saturating_sub(state.contradicted_at_ms);
            !state.contradicted.is_empty() && !(0..RECHECK_MS).contains(&age)
        })
    }

    /// Why the first of those that are not admitted is not.
    pub fn refused(&self) -> Option<String> {
        self.members.iter().find_map(|m| match &m.state().entry {
            Entry::Refused { why, .. } => Some(format!("{}: {why}", m.source.provider())),
            _ => None,
        })
    }

    /// True when each of them shows that it is not on the configured chain.
    pub fn all_wrong(&self) -> bool {
        let wrong = |m: &Member<S>| matches!(m.state().entry, Entry::Refused { wrong: true, .. });
        !self.members.is_empty() && self.members.iter().all(wrong)
    }

    /// Whom to ask, in this order: first those that work, by priority and then by how fast they
    /// answer, then those that failed or were set aside. One that limits its rate is left out
    /// until its time is over.
    pub fn order(&self, now_ms: i64) -> Vec<&S> {
        let mut order: Vec<_> = self
            .members
            .iter()
            .filter_map(|member| {
                let state = member.state();
                // A clock that was set back must not lock anybody out for long.
                let limited = state.limited_until_ms > now_ms
                    && state.limited_until_ms <= now_ms.saturating_add(REST_MAX_MS);
                let asked = state.is_admitted() && !limited;
                let rests = state.rest_until_ms > now_ms;
                asked.then(|| {
                    let rank = (state.aside.is_some(), rests, member.priority);
                    ((rank, member.source.latency_ms()), &member.source)
                })
            })
            .collect();
        order.sort_by_key(|(rank, _)| *rank);
        order.into_iter().map(|(_, source)| source).collect()
    }

    /// Those of [`Pool::order`] that are not the one of this name.
    pub fn others(&self, now_ms: i64, name: Option<&str>) -> Vec<&S> {
        let mut order = self.order(now_ms);
        order.retain(|source| name != Some(source.provider()));
        order
    }

    /// It answered.
    pub fn good(&self, source: &S) {
        let Some(mut state) = self.state_of(source) else { return };
        if state.failures > 0 {
            state.failures = 0;
            state.rest_until_ms = 0;
            if state.why.take().is_some() {
                tracing::info!(provider = source.provider(), "provider answers again");
            }
        }
    }

    /// It failed to answer, or answered nonsense. Said once until it works again.
    pub fn record_failure(&self, source: &S, error: &SourceError, now_ms: i64) {
        let left = self.working_beside(source);
        let Some(mut state) = self.state_of(source) else { return };
        state.failures = state.failures.saturating_add(1);
        let doublings = state.failures.saturating_sub(1).min(20);
        let rest = REST_MS.saturating_mul(1i64.wrapping_shl(doublings)).min(REST_MAX_MS);
        state.rest_until_ms = now_ms.saturating_add(rest);
        if let SourceError::RateLimited { retry_after_ms, .. } = error {
            let asked = retry_after_ms.and_then(|ms| i64::try_from(ms).ok());
            let wait = asked.unwrap_or(RATE_REST_MS).clamp(0, REST_MAX_MS);
            state.limited_until_ms = now_ms.saturating_add(wait);
        }
        if state.why.is_none() && self.members.len() > 1 {
            if left < 2 {
                tracing::warn!(provider = source.provider(), error = %error,
                    "provider fails; payments need two providers: they are seen, and none is credited until two answer");
            } else {
                tracing::warn!(provider = source.provider(), error = %error,
                    "provider fails; others are asked first");
            }
        }
        state.why = Some(error.to_string());
        let is_away = matches!(error, SourceError::Unavailable { .. });
        if is_away && state.failures >= AWAY && state.entry == Entry::Admitted {
            state.entry = Entry::Lapsed;
        }
    }

    /// Sets it aside, or takes it back. Said when it changes.
    pub fn set_aside(&self, source: &S, aside: Option<Aside>) {
        let Some(mut state) = self.state_of(source) else { return };
        let same = match (&state.aside, &aside) {
            (Some(Aside::Behind { .. }), Some(Aside::Behind { .. }))
            | (Some(Aside::Ahead { .. }), Some(Aside::Ahead { .. }))
            | (Some(Aside::OtherFork { .. }), Some(Aside::OtherFork { .. })) => true,
            (old, new) => old == new,
        };
        if !same {
            match &aside {
                Some(why) => {
                    tracing::warn!(provider = source.provider(), why = %why, "provider set aside");
                }
                None => tracing::info!(provider = source.provider(), "provider taken back"),
            }
        }
        state.aside = aside;
    }

    /// Why it is set aside, if it is.
    pub fn aside(&self, source: &S) -> Option<Aside> {
        self.state_of(source).and_then(|state| state.aside.clone())
    }

    /// Notes the tip it answered.
    pub fn saw(&self, source: &S, head: BlockRef) {
        if let Some(mut state) = self.state_of(source) {
            state.head = Some(head);
        }
    }

    /// Notes the tags it answered; one that it was not asked for stays.
    pub fn saw_tags(&self, source: &S, safe: Option<u64>, finalized: Option<u64>) {
        if let Some(mut state) = self.state_of(source) {
            (state.safe, state.finalized) = (safe.or(state.safe), finalized.or(state.finalized));
        }
    }

    /// The height of a block on which as many providers contradict the chain followed as support
    /// it; `None` while they agree.
    pub fn contested(&self) -> Option<u64> {
        *self.contested.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a block is contested, or none. Returns what was noted before.
    pub fn contest(&self, number: Option<u64>) -> Option<u64> {
        let mut contested = self.contested.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *contested, number)
    }

    /// How each provider stands, in the order of the configuration.
    pub fn standings(&self, now_ms: i64) -> Vec<Standing> {
        self.members
            .iter()
            .map(|member| {
                let state = member.state();
                let said = match (&state.entry, &state.aside, &state.why) {
                    (Entry::New, ..) => "not asked yet".to_owned(),
                    (Entry::Refused { why, .. }, ..) => format!("not admitted: {why}"),
                    (_, Some(aside), _) => aside.to_string(),
                    (_, None, Some(why)) => why.clone(),
                    _ if state.limited_until_ms > now_ms => "limits its rate".to_owned(),
                    _ => "ok".to_owned(),
                };
                Standing {
                    provider: member.source.provider().to_owned(),
                    state: said,
                    head: state.head.map(|head| head.number),
                    safe: state.safe,
                    finalized: state.finalized,
                    latency_ms: member.source.latency_ms(),
                    failures: state.failures,
                }
            })
            .collect()
    }

    /// How many others can be asked and do not fail.
    fn working_beside(&self, source: &S) -> usize {
        let others = self.members.iter().filter(|m| m.source.provider() != source.provider());
        let works =
            |state: &State| state.is_admitted() && state.aside.is_none() && state.why.is_none();
        others.filter(|m| works(&m.state())).count()
    }

    fn state_of(&self, source: &S) -> Option<MutexGuard<'_, State>> {
        self.members.iter().find(|m| m.source.provider() == source.provider()).map(Member::state)
    }
}

impl State {
    const fn is_admitted(&self) -> bool {
        matches!(self.entry, Entry::Admitted | Entry::Trusted)
    }
}

impl<S> Member<S> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
