//! Ask the contracts of tokens whether their issuer has frozen one of our addresses.
//!
//! A few addresses at a time, in turn: those that were ever paid on the chain, and the treasury's. What is
//! found is for people; it holds nothing back and moves nothing. One provider of several neither finds nor
//! takes back anything, and they take turns at being asked first, so that none hides anything for long.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256};

use crate::chain::pool::Pool;
use crate::chain::source::{CallOutcome, ChainSource, SourceError};
use crate::clock::Clock;
use crate::domain::chain_rules::ChainRules;
use crate::domain::finding::{FindingKind, Gone, NewFinding};
use crate::domain::frozen::{FUNCTIONS, question, says};
use crate::domain::ids::BlockRef;
use crate::domain::oracle::reading::Call;
use crate::planted::{Fault, planted};
use crate::store::{LeasedStore, StoreError};

/// So many addresses are asked about at a time.
pub const AT_ONCE: i64 = 8;
/// The pause between two of these.
pub const PAUSE_MS: i64 = 15_000;
/// The pause before a new round.
pub const ROUND_MS: i64 = 600_000;
/// Which functions a token has is asked again after so long: its contract may become another one.
const KNOWN_MS: i64 = 86_400_000;
/// The same where somebody did not say.
const UNKNOWN_MS: i64 = 600_000;

/// What is kept between activations: all of it is asked again after a restart.
#[derive(Debug, Default)]
pub struct Freezes {
    treasury: Option<Address>,
    /// By token: the functions that it has, and until when that is taken as known.
    functions: BTreeMap<Address, (BTreeSet<&'static str>, i64)>,
    /// Who has said nothing of use about which token: said once.
    said: BTreeSet<(String, Address)>,
}

/// An address of ours.
#[derive(Debug, Clone)]
struct Ours {
    address: Address,
    /// None of the treasury's.
    namespace: Option<String>,
}

/// One question: whether this token's issuer has frozen this address.
#[derive(Debug, Clone)]
struct Asked {
    token: Address,
    symbol: String,
    ours: Ours,
    functions: BTreeSet<&'static str>,
}

impl Asked {
    fn subject(&self) -> String {
        format!("{} by token {}", self.ours.address, self.token)
    }
}

/// What a provider says otherwise than it stands, and who says the same.
struct News {
    asked: Asked,
    is_frozen: bool,
    providers: Vec<String>,
}

/// Asks about the addresses whose turn it is. Returns how many findings were opened or closed.
///
/// # Errors
/// When the database fails. A provider that fails is noted in the pool.
pub async fn check_frozen<S: ChainSource>(
    rules: &ChainRules,
    pool: &Pool<S>,
    store: &LeasedStore,
    clock: &dyn Clock,
    freezes: &mut Freezes,
) -> Result<usize, StoreError> {
    let now = clock.now_ms();
    let Some(turn) = store.frozen_turn(rules.id).await? else { return Ok(0) };
    let pause = if turn.to == 0 { ROUND_MS } else { PAUSE_MS };
    if (0..pause).contains(&now.saturating_sub(turn.at_ms)) {
        return Ok(0);
    }
    let paid = store.paid_addresses(rules.id, turn.to, AT_ONCE).await?;
    // One that is full may be the last one: then the next one is empty, and ends the round.
    let is_full = i64::try_from(paid.len()).is_ok_and(|n| n >= AT_ONCE);
    let to = paid.last().filter(|_| is_full).map_or(0, |last| last.id);
    let treasury = freezes.treasury.filter(|_| turn.to == 0);
    let treasury = treasury.map(|address| Ours { address, namespace: None });
    let paid = paid.into_iter().map(|p| Ours { address: p.address, namespace: Some(p.namespace) });
    let ours: Vec<Ours> = treasury.into_iter().chain(paid).collect();
    let Some(first) = ours.first() else {
        if turn.to != 0 {
            store.commit_frozen(rules.id, &[], &[], 0, now).await?;
        }
        return Ok(0);
    };
    let step = Step { rules, pool, block: turn.block, now, freezes };
    let Some((findings, gone)) = step.ask(first.address, &ours, store).await? else {
        return Ok(0);
    };
    store.commit_frozen(rules.id, &findings, &gone, to, now).await?;
    Ok(findings.len().saturating_add(gone.len()))
}

impl Freezes {
    /// Nothing is known yet. The treasury's address is asked about like ours.
    pub fn new(treasury: Option<Address>) -> Self {
        Self { treasury, ..Self::default() }
    }

    fn say(&mut self, chain: &str, provider: &str, token: Address, why: &str) {
        if self.said.insert((provider.to_owned(), token)) {
            tracing::warn!(chain.name = chain, provider, token = %token, why,
                "cannot tell whether the token's issuer has frozen addresses of ours");
        }
    }
}

/// One activation.
struct Step<'a, S> {
    rules: &'a ChainRules,
    pool: &'a Pool<S>,
    block: BlockRef,
    now: i64,
    freezes: &'a mut Freezes,
}

impl<S: ChainSource> Step<'_, S> {
    /// What is found and what is gone; `None` where nobody said anything.
    async fn ask(
        mut self,
        any: Address,
        ours: &[Ours],
        store: &LeasedStore,
    ) -> Result<Option<(Vec<NewFinding>, Vec<Gone>)>, StoreError> {
        let mut order = self.pool.order(self.now);
        let turns = u64::try_from(order.len()).unwrap_or(u64::MAX);
        let turn = self.block.number.checked_rem(turns).unwrap_or_default();
        order.rotate_left(usize::try_from(turn).unwrap_or_default());
        self.learn(&order, any).await;
        let asked = self.asked(ours);
        let Some((first, said)) = self.first(&order, &asked).await else { return Ok(None) };
        let (chain, kind) = (Some(self.rules.id), FindingKind::AddressFrozen);
        let stand: BTreeSet<String> =
            store.standing_findings(chain, kind).await?.into_iter().collect();
        let mut news: Vec<News> = asked
            .into_iter()
            .zip(said)
            .filter_map(|(asked, said)| Some((asked, said?)))
            .filter(|(asked, is_frozen)| stand.contains(&asked.subject()) != *is_frozen)
            .map(|(asked, is_frozen)| News {
                asked,
                is_frozen,
                providers: vec![first.provider().to_owned()],
            })
            .collect();
        self.agree(first, &mut news).await;
        let (mut findings, mut gone) = (Vec::new(), Vec::new());
        for news in news {
            let subject = news.asked.subject();
            if news.is_frozen {
                let detail = self.detail(&news);
                findings.push(NewFinding { chain, kind, subject, detail });
            } else {
                gone.push(Gone { chain, kind, subject });
            }
        }
        Ok(Some((findings, gone)))
    }

    /// Which functions the tokens have, where that is not known: those that anybody shows.
    async fn learn(&mut self, order: &[&S], any: Address) {
        let now = self.now;
        let due: Vec<Address> = self.rules.tokens.iter().map(|token| token.address).collect();
        let known = |token: &Address| {
            let until = self.freezes.functions.get(token).map(|(_, until)| *until);
            until.is_some_and(|until| (now..=now.saturating_add(KNOWN_MS)).contains(&until))
        };
        let due: Vec<Address> = due.into_iter().filter(|token| !known(token)).collect();
        let pairs: Vec<(Address, &'static str)> =
            due.iter().flat_map(|token| FUNCTIONS.map(|function| (*token, function))).collect();
        if pairs.is_empty() || order.is_empty() {
            return;
        }
        let until = |after: i64| now.saturating_add(after);
        let mut found: BTreeMap<Address, (BTreeSet<&'static str>, i64)> =
            due.into_iter().map(|token| (token, (BTreeSet::new(), until(KNOWN_MS)))).collect();
        let calls = self.calls(pairs.iter().map(|(token, f)| question(*token, f, any)));
        for source in order {
            let outcomes = match source.call_at(&calls).await {
                Ok(outcomes) => outcomes,
                Err(error) => {
                    self.pool.record_failure(source, &error, now);
                    Vec::new()
                }
            };
            let mut outcomes = outcomes.into_iter();
            for (token, function) in &pairs {
                let Some((functions, known_until)) = found.get_mut(token) else { continue };
                match outcomes.next() {
                    Some(CallOutcome::Answered(answer)) => {
                        if says(&answer).is_ok() {
                            functions.insert(function);
                        }
                    }
                    Some(CallOutcome::NoState(_) | CallOutcome::Failed(_)) | None => {
                        *known_until = until(UNKNOWN_MS);
                    }
                }
            }
        }
        self.freezes.functions.extend(found);
    }

    fn calls(&self, calls: impl Iterator<Item = Call>) -> Vec<(B256, Call)> {
        calls.map(|call| (self.block.hash, call)).collect()
    }

    /// Each of our addresses in each token that has such a function.
    fn asked(&self, ours: &[Ours]) -> Vec<Asked> {
        let functions = |token| {
            let (functions, _) = self.freezes.functions.get(token)?;
            (!functions.is_empty()).then(|| functions.clone())
        };
        let tokens: Vec<_> = self
            .rules
            .tokens
            .iter()
            .filter_map(|token| Some((token, functions(&token.address)?)))
            .collect();
        ours.iter()
            .flat_map(|ours| {
                tokens.iter().map(|(token, functions)| Asked {
                    token: token.address,
                    symbol: token.symbol.clone(),
                    ours: ours.clone(),
                    functions: functions.clone(),
                })
            })
            .collect()
    }

    /// What the first provider says that says anything.
    async fn first<'s>(
        &mut self,
        order: &[&'s S],
        asked: &[Asked],
    ) -> Option<(&'s S, Vec<Option<bool>>)> {
        if asked.is_empty() {
            return None;
        }
        for source in order {
            match self.answers(source, asked).await {
                Ok(said) if said.iter().any(Option::is_some) => return Some((source, said)),
                Ok(_) => {}
                Err(error) => self.pool.record_failure(source, &error, self.now),
            }
        }
        None
    }

    /// What one provider says of each, where it says something.
    async fn answers(
        &mut self,
        source: &S,
        asked: &[Asked],
    ) -> Result<Vec<Option<bool>>, SourceError> {
        let questions = asked.iter().flat_map(|a| {
            a.functions.iter().map(|function| question(a.token, function, a.ours.address))
        });
        let mut outcomes = source.call_at(&self.calls(questions)).await?.into_iter();
        let mut all = Vec::with_capacity(asked.len());
        for a in asked {
            let mut said: Option<bool> = None;
            for _ in &a.functions {
                let answer = match outcomes.next() {
                    Some(CallOutcome::Answered(answer)) => says(&answer),
                    Some(CallOutcome::NoState(why) | CallOutcome::Failed(why)) => Err(why),
                    None => Err("an answer is missing".into()),
                };
                match answer {
                    Ok(is_frozen) => said = Some(is_frozen || said == Some(true)),
                    Err(why) => {
                        self.freezes.say(&self.rules.name, source.provider(), a.token, &why);
                    }
                }
            }
            all.push(said);
        }
        Ok(all)
    }

    /// Leaves what a second provider says, too, where there is one.
    async fn agree(&mut self, first: &S, news: &mut Vec<News>) {
        if self.pool.len() < 2 || planted(Fault::FrozenByOne) {
            return;
        }
        for other in self.pool.others(self.now, Some(first.provider())) {
            let open: Vec<&mut News> = news.iter_mut().filter(|n| n.providers.len() < 2).collect();
            if open.is_empty() {
                return;
            }
            let asked: Vec<Asked> = open.iter().map(|n| n.asked.clone()).collect();
            let said = match self.answers(other, &asked).await {
                Ok(said) => said,
                Err(error) => {
                    self.pool.record_failure(other, &error, self.now);
                    continue;
                }
            };
            for (news, said) in open.into_iter().zip(said) {
                if said == Some(news.is_frozen) {
                    news.providers.push(other.provider().to_owned());
                } else if said.is_some() {
                    let why = format!("{} says otherwise", first.provider());
                    let token = news.asked.token;
                    self.freezes.say(&self.rules.name, other.provider(), token, &why);
                }
            }
        }
        news.retain(|news| news.providers.len() > 1);
    }

    fn detail(&self, news: &News) -> serde_json::Value {
        let asked = &news.asked;
        serde_json::json!({
            "symbol": asked.symbol, "token": asked.token.to_string(),
            "address": asked.ours.address.to_string(), "namespace": asked.ours.namespace, "functions": asked.functions,
            "block_number": self.block.number, "block_hash": self.block.hash,
            "providers": news.providers,
        })
    }
}
