//! Is the live chain the configured one? Asked before a provider is asked anything else.
//!
//! Wrong decimals credit a millionfold, a wrong chain id credits play money; both are found here,
//! each as one sentence. What a node cannot say now is told apart from what it says otherwise: the
//! first is waited for, the second never becomes right. Nothing is changed and nothing is stored.

use alloy::primitives::{Address, Bytes};
use alloy::sol;
use alloy::sol_types::SolCall;
use serde_json::{Value, json};

use crate::chain::answer::{Answer, Verdict, Wanted};
use crate::chain::rpc::node::RpcSource;
use crate::chain::source::{ChainSource, SourceError, Tag, check_chain_id, equal};
use crate::domain::finality::{Finality, Policy};
use crate::domain::oracle::abi::{Aggregator, UniswapV3Pool};
use crate::domain::oracle::source::{Reads, SourceSpec};
use crate::domain::pricing::Token;

sol!(Erc20, "contracts-abi/erc20.json");

/// A node whose tip is older may lack what is on the chain by now.
const RECENT_MS: i64 = 3_600_000;

/// Asks everything that must be true of a chain before it is followed, and what it can do.
pub async fn check_chain(source: &RpcSource, wanted: &Wanted<'_>) -> Vec<Answer> {
    let first = check_chain_id(source, wanted).await;
    let is_here = matches!(first.verdict, Verdict::Right(_));
    let mut asking = Asking { source, answers: vec![first] };
    if is_here {
        asking.everything(wanted).await;
    }
    asking.answers
}

/// The questions to one provider, one after the other.
struct Asking<'a> {
    source: &'a RpcSource,
    answers: Vec<Answer>,
}

impl Asking<'_> {
    fn must(&mut self, question: impl Into<String>, verdict: Verdict) {
        self.answers.push(Answer::new(question, verdict, true));
    }

    /// What it may lack: others can do it in its place, or it is waited for where it is needed.
    fn may(&mut self, question: impl Into<String>, verdict: Verdict) {
        let needed = matches!(verdict, Verdict::Wrong(_));
        self.answers.push(Answer::new(question, verdict, needed));
    }

    async fn everything(&mut self, wanted: &Wanted<'_>) {
        let tip = match self.source.latest().await {
            Ok(tip) => tip,
            Err(error) => return self.must("tip", error.into()),
        };
        let begins = match wanted.start {
            Some(start) if start > tip.number => Verdict::Unknown(format!(
                "the chain's tip is block {}, the configuration says start_block = {start}: nothing would be seen until then",
                tip.number
            )),
            _ => Verdict::Right(format!("block {}", tip.number)),
        };
        self.must("tip", begins);
        let is_recent = wanted.now_ms.saturating_sub(tip.time_ms) < RECENT_MS;
        for token in wanted.tokens {
            self.token(token, wanted.known.contains(&token.address), is_recent).await;
        }
        self.prices(&wanted.prices).await;
        let wrong = |a: &Answer| matches!(a.verdict, Verdict::Wrong(_));
        if self.answers.iter().any(wrong) && self.is_syncing().await {
            for answer in self.answers.iter_mut().filter(|a| wrong(a)) {
                let text = answer.verdict.text();
                answer.verdict = Verdict::Unknown(format!("{text} (the node is still syncing)"));
            }
        }
        self.tags(wanted.policy).await;
        if wanted.proof {
            let verdict = self.proof(tip.parent_hash, wanted.proof_may_lack).await;
            self.may("receipts root", verdict);
        }
    }

    /// A node that does not know the question is not syncing.
    async fn is_syncing(&self) -> bool {
        let answer = self.source.ask::<Value>("eth_syncing", ()).await;
        answer.is_ok_and(|said| said != Value::Bool(false))
    }

    async fn tags(&mut self, policy: &Policy) {
        for (tag, finality, name) in [
            (Tag::Safe, Finality::Safe, "safe tag"),
            (Tag::Finalized, Finality::Finalized, "finalized tag"),
        ] {
            let needed = policy.tiers().iter().any(|tier| tier.finality == finality);
            let verdict = match self.source.tagged(tag).await {
                Ok(Some(header)) => Verdict::Right(format!("block {}", header.number)),
                Ok(None) if needed => Verdict::Unknown("it has no such block".to_owned()),
                Err(error) if needed => error.into(),
                Ok(None) | Err(SourceError::Refused { .. }) => {
                    Verdict::Right("not supported, and not needed".to_owned())
                }
                Err(error) => Verdict::Right(format!("not needed ({error})")),
            };
            self.may(name, verdict);
        }
    }

    async fn token(&mut self, token: &Token, is_known: bool, is_recent: bool) {
        let key = |what: &str| format!("token {} {what}", token.symbol);
        let code = self.source.ask::<Bytes>("eth_getCode", (token.address, "latest")).await;
        let found = match code {
            Ok(code) if !code.is_empty() => Verdict::Right(format!("{} bytes", code.len())),
            Ok(_) => {
                let none = format!("there is no contract at {}", token.address);
                // A node that lags may not have come to it yet.
                if is_recent { Verdict::Wrong(none) } else { Verdict::Unknown(none) }
            }
            Err(error) => error.into(),
        };
        let is_there = matches!(found, Verdict::Right(_));
        self.must(key("code"), found);
        if !is_there {
            return;
        }
        let decimals = view(self.source, token.address, Erc20::decimalsCall {}).await;
        let decimals = decimals.map(|found| equal(found, token.decimals, "decimals"));
        self.must(key("decimals"), decimals.unwrap_or_else(|unknown| unknown));
        let symbol = view(self.source, token.address, Erc20::symbolCall {}).await;
        let symbol = symbol.map(|found| {
            if is_known {
                Verdict::Right(found)
            } else {
                equal(found, token.symbol.clone(), "symbol")
            }
        });
        self.must(key("symbol"), symbol.unwrap_or_else(|unknown| unknown));
    }

    /// Can the receipts of a block be proved, as `verify = "receipts-root"` needs? Asked of a block
    /// that is not the newest: receipts may be indexed a moment later.
    async fn proof(&self, block: alloy::primitives::B256, may_lack: bool) -> Verdict {
        match self.source.proof(block).await {
            Ok(Some(proof)) => {
                Verdict::Right(format!("{} receipts hash to block {block}", proof.receipts.len()))
            }
            Ok(None) => Verdict::Unknown(format!("it does not show the receipts of block {block}")),
            Err(SourceError::Unproved { why, .. }) if may_lack => Verdict::Right(format!(
                "block {block} cannot be proved ({why}): it is checked in the other way that is configured"
            )),
            Err(error) => error.into(),
        }
    }

    /// Are the contracts of price sources what the configuration says? A feed of another pair, or
    /// with other decimals, has cost others millions: it is not asked. One that does not answer now is
    /// waited for where its price is needed, and nowhere else.
    async fn prices(&mut self, specs: &[&SourceSpec]) {
        let source = self.source;
        for spec in specs {
            let hash = spec.hash();
            let mut say = |what: &str, verdict: Verdict| {
                let question = format!("price source {} {what}", spec.name);
                let answer = Answer::new(question, verdict, false);
                self.answers.push(Answer { price_source: Some(hash), ..answer });
            };
            match &spec.reads {
                Reads::Chainlink(feed) => {
                    let at = feed.address;
                    let found = view(source, at, Aggregator::descriptionCall {}).await;
                    let found = found.map(|f| equal(f, feed.description.clone(), "description"));
                    say("description", found.unwrap_or_else(|unknown| unknown));
                    let found = view(source, at, Aggregator::decimalsCall {}).await;
                    let found = found.map(|f| equal(f, feed.decimals, "decimals"));
                    say("decimals", found.unwrap_or_else(|unknown| unknown));
                    for (feed, _) in feed.feeds() {
                        let round = view(source, feed, Aggregator::latestRoundDataCall {}).await;
                        let said = round.map(|r| format!("{} by round {}", r.answer, r.roundId));
                        let said = said.map_or_else(|unknown| unknown, Verdict::Right);
                        say(&format!("answer of {feed}"), said);
                    }
                }
                Reads::UniswapV3(pool) | Reads::UniswapV3After(pool) => {
                    let (first, second) = if pool.base_is_token0() {
                        (pool.base, pool.quote)
                    } else {
                        (pool.quote, pool.base)
                    };
                    let found = view(source, pool.address, UniswapV3Pool::token0Call {}).await;
                    let found = found.map(|f| equal(f, first, "the lower address"));
                    say("token0", found.unwrap_or_else(|unknown| unknown));
                    let found = view(source, pool.address, UniswapV3Pool::token1Call {}).await;
                    let found = found.map(|f| equal(f, second, "the higher address"));
                    say("token1", found.unwrap_or_else(|unknown| unknown));
                }
                Reads::Pyth(_) | Reads::Http(_) | Reads::Fixed { .. } => {}
            }
        }
    }
}

/// Calls a view function. That a contract does not answer it is no contradiction: a node may lack
/// its state.
async fn view<C: SolCall>(
    source: &RpcSource,
    contract: Address,
    call: C,
) -> Result<C::Return, Verdict> {
    let request = json!({ "to": contract, "data": Bytes::from(call.abi_encode()) });
    let bytes: Bytes = source.ask("eth_call", (request, "latest")).await?;
    C::abi_decode_returns(&bytes)
        .map_err(|_| Verdict::Unknown(format!("{contract} does not answer {}", C::SIGNATURE)))
}
