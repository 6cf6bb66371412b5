//! Is the live chain the configured one? Asked before anything is trusted.
//!
//! Wrong decimals credit a millionfold, a wrong chain id credits play money; both are found here,
//! each as one sentence. Nothing is changed and nothing is stored.

use alloy::primitives::{Address, Bytes};
use alloy::sol;
use alloy::sol_types::SolCall;
use serde_json::json;

use super::rpc::RpcSource;
use super::{ChainSource, SourceError, Tag};
use crate::domain::finality::{Finality, Policy};
use crate::domain::ids::ChainId;
use crate::domain::oracle::chainlink::Aggregator;
use crate::domain::oracle::uniswap_v3::UniswapV3Pool;
use crate::domain::oracle::{Reads, SourceSpec};
use crate::domain::pricing::Token;

sol!(Erc20, "contracts-abi/erc20.json");

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What was asked, such as `chain id` or `token USDC decimals`.
    pub question: String,
    /// What the chain says, or what is wrong.
    pub verdict: Result<String, String>,
}

/// Asks everything that must be true of a chain before it is followed. Of `known` tokens the
/// symbol is only shown: their addresses were looked up, and issuers rename what they issue.
///
/// # Errors
/// When the provider does not answer at all.
pub async fn check_chain(
    source: &RpcSource,
    chain: ChainId,
    tokens: &[Token],
    known: &[Address],
    policy: &Policy,
    start: Option<u64>,
) -> Result<Vec<Answer>, SourceError> {
    let mut answers = Vec::new();
    let mut add = |question: String, verdict| answers.push(Answer { question, verdict });

    add("chain id".into(), equal(source.chain_id().await?, chain.0, "chain_id"));
    let tip = source.latest().await?;
    let begins = match start {
        Some(start) if start > tip.number => Err(format!(
            "the chain's tip is block {}, the configuration says start_block = {start}: nothing would be seen until then",
            tip.number
        )),
        _ => Ok(format!("block {}", tip.number)),
    };
    add("tip".into(), begins);
    for tag in [Tag::Safe, Tag::Finalized] {
        let name = format!("{tag:?}").to_lowercase();
        let needed = policy.tiers().iter().any(|tier| {
            tier.finality == if tag == Tag::Safe { Finality::Safe } else { Finality::Finalized }
        });
        let verdict = match (source.tagged(tag).await, needed) {
            (Ok(Some(header)), _) => Ok(format!("block {}", header.number)),
            (Ok(None), false) | (Err(SourceError::Refused { .. }), false) => {
                Ok("not supported, and not needed".to_owned())
            }
            (Ok(None), true) => Err("the chain has no such block".to_owned()),
            (Err(error @ SourceError::Refused { .. }), true) => Err(error.to_string()),
            (Err(error), _) => return Err(error),
        };
        add(format!("{name} tag"), verdict);
    }
    add("websocket".into(), source.check_websocket().await.map(str::to_owned));
    for token in tokens {
        let key = |what: &str| format!("token {} {what}", token.symbol);
        let code: Bytes = source.ask("eth_getCode", (token.address, "latest")).await?;
        if code.is_empty() {
            let none = format!("there is no contract at {}", token.address);
            add(key("code"), Err(none));
            continue;
        }
        add(key("code"), Ok(format!("{} bytes", code.len())));
        let decimals = view(source, token.address, Erc20::decimalsCall {}).await?;
        add(key("decimals"), decimals.and_then(|found| equal(found, token.decimals, "decimals")));
        let symbol = view(source, token.address, Erc20::symbolCall {}).await?;
        let symbol = match symbol {
            Ok(found) if known.contains(&token.address) => Ok(found),
            symbol => symbol.and_then(|found| equal(found, token.symbol.clone(), "symbol")),
        };
        add(key("symbol"), symbol);
    }
    Ok(answers)
}

/// Can the receipts of a block be proved on this chain, as `verify = "receipts-root"` needs?
///
/// # Errors
/// When the provider does not answer.
pub async fn check_proof(source: &RpcSource) -> Result<Answer, SourceError> {
    let tip = source.latest().await?;
    let verdict = match source.proof(tip.hash).await {
        Ok(Some(proof)) => {
            Ok(format!("{} receipts hash to block {}", proof.receipts.len(), tip.number))
        }
        Ok(None) => Err(format!("it does not show the receipts of block {}", tip.number)),
        Err(
            error @ (SourceError::Invalid { .. }
            | SourceError::Refused { .. }
            | SourceError::Unproved { .. }),
        ) => Err(error.to_string()),
        Err(error) => return Err(error),
    };
    Ok(Answer { question: "receipts root".into(), verdict })
}

fn equal<T: PartialEq + std::fmt::Display>(
    found: T,
    configured: T,
    key: &str,
) -> Result<String, String> {
    if found == configured {
        Ok(found.to_string())
    } else {
        Err(format!("the chain says {found}, the configuration says {key} = {configured}"))
    }
}

/// Asks the contracts of price sources whether they are what the configuration says: a feed of
/// another pair, or with other decimals, has cost others millions.
///
/// # Errors
/// When the provider does not answer at all.
pub async fn check_prices(
    source: &RpcSource,
    specs: &[&SourceSpec],
) -> Result<Vec<Answer>, SourceError> {
    let mut answers = Vec::new();
    let mut add = |question: String, verdict| answers.push(Answer { question, verdict });
    for spec in specs {
        let key = |what: &str| format!("price source {} {what}", spec.name);
        match &spec.reads {
            Reads::Chainlink(feed) => {
                let at = feed.address;
                let found = view(source, at, Aggregator::descriptionCall {}).await?;
                let wanted = feed.description.clone();
                add(key("description"), found.and_then(|f| equal(f, wanted, "description")));
                let found = view(source, at, Aggregator::decimalsCall {}).await?;
                add(key("decimals"), found.and_then(|f| equal(f, feed.decimals, "decimals")));
                for (feed, _) in feed.feeds() {
                    let round = view(source, feed, Aggregator::latestRoundDataCall {}).await?;
                    let said = round.map(|r| format!("{} by round {}", r.answer, r.roundId));
                    add(key(&format!("answer of {feed}")), said);
                }
            }
            Reads::UniswapV3(pool) => {
                let (first, second) = if pool.base_is_token0() {
                    (pool.base, pool.quote)
                } else {
                    (pool.quote, pool.base)
                };
                let found = view(source, pool.address, UniswapV3Pool::token0Call {}).await?;
                add(key("token0"), found.and_then(|f| equal(f, first, "the lower address")));
                let found = view(source, pool.address, UniswapV3Pool::token1Call {}).await?;
                add(key("token1"), found.and_then(|f| equal(f, second, "the higher address")));
            }
            Reads::Pyth(_) | Reads::Http(_) | Reads::Fixed { .. } => {}
        }
    }
    Ok(answers)
}

/// Calls a view function. A contract that does not have it is an answer, not a failure.
async fn view<C: SolCall>(
    source: &RpcSource,
    contract: Address,
    call: C,
) -> Result<Result<C::Return, String>, SourceError> {
    let request = json!({ "to": contract, "data": Bytes::from(call.abi_encode()) });
    match source.ask::<Bytes>("eth_call", (request, "latest")).await {
        Ok(bytes) => Ok(C::abi_decode_returns(&bytes)
            .map_err(|_| format!("{contract} does not answer {}", C::SIGNATURE))),
        Err(error @ SourceError::Refused { .. }) => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}
