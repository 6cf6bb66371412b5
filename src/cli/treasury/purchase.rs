//! A purchase of the treasury, read from the chain: what one final transaction moved to and from
//! its address.
//!
//! As many providers must show it as the chain's `verify` asks for. What it settles is decided in
//! the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::primitives::{Address, B256};

use crate::chain::read::Receipt;
use crate::chain::source::ChainSource;
use crate::cli::chain::chain_named;
use crate::cli::error::CliError;
use crate::cli::open::clock_of;
use crate::clock::Clock;
use crate::config::{ChainConfig, Config};
use crate::daemon::admit_providers;
use crate::daemon::parts::{market, pool};
use crate::domain::chain::Header;
use crate::domain::finality::Finality;
use crate::domain::ids::ChainId;
use crate::domain::money::RawAmount;
use crate::domain::terms::Valuation;
use crate::domain::transfer::clean_transfer;
use crate::oracle::Web;
use crate::tasks::logs::consistent;
use crate::tasks::prices::market::asked_final;

/// A purchase.
pub(in crate::cli) struct Purchase {
    pub(in crate::cli) tx: B256,
    pub(in crate::cli) chain: ChainId,
    pub(in crate::cli) chain_name: String,
    pub(in crate::cli) block: Header,
    pub(in crate::cli) treasury: Address,
    /// Who showed it.
    pub(in crate::cli) providers: Vec<String>,
    /// The asset bought.
    pub(in crate::cli) asset: String,
    pub(in crate::cli) tokens: RawAmount,
    pub(in crate::cli) decimals: u8,
    /// The stablecoin paid.
    pub(in crate::cli) paid_asset: String,
    pub(in crate::cli) paid: RawAmount,
    pub(in crate::cli) paid_decimals: u8,
}

/// Reads a purchase.
///
/// # Errors
/// Bad input for a transaction that is none; a failure while its chain cannot say.
pub(in crate::cli) async fn read_purchase(
    config: &Config,
    name: &str,
    tx: B256,
) -> Result<Purchase, CliError> {
    let treasury = config.oracle.treasury.ok_or_else(|| {
        CliError::BadInput(
            "treasury.address is not configured: purchases arrive there and are paid from there; add [treasury] address = \"0x…\"".into(),
        )
    })?;
    let chain = chain_named(config, name)?;
    let shown = Shown::read(chain, tx, clock_of(config).await?.as_ref()).await?;
    let (tokens, paid) = moved(config, chain, treasury, tx, &shown.receipt)?;
    Ok(Purchase {
        tx,
        chain: chain.rules.id,
        chain_name: name.to_owned(),
        block: shown.block,
        treasury,
        providers: shown.providers,
        asset: tokens.asset,
        tokens: tokens.net,
        decimals: tokens.decimals,
        paid_asset: paid.asset,
        paid: paid.net,
        paid_decimals: paid.decimals,
    })
}

/// What enough providers show of a transaction.
struct Shown {
    receipt: Receipt,
    block: Header,
    providers: Vec<String>,
}

impl Shown {
    /// Asks one provider after the other, until enough of them say the same.
    async fn read(chain: &ChainConfig, tx: B256, clock: &dyn Clock) -> Result<Self, CliError> {
        let (rules, name) = (&chain.rules, &chain.rules.name);
        let pool = Arc::new(pool(chain)?);
        admit_providers(chain, &pool, clock).await?;
        let wanted =
            market(&[(chain.clone(), Arc::clone(&pool))], Web::default()).witnesses(rules.id);
        let finality = rules.policy.strictest();
        let (mut all, mut others): (Vec<Self>, Vec<String>) = (Vec::new(), Vec::new());
        for source in pool.order(clock.now_ms()) {
            let (receipt, block) = match testimony(source, tx, finality).await {
                Ok(shows) => shows,
                Err(why) => {
                    others.push(why);
                    continue;
                }
            };
            let provider = source.provider().to_owned();
            match all.iter_mut().find(|s| s.receipt == receipt && s.block.hash == block.hash) {
                Some(same) => same.providers.push(provider),
                None => all.push(Self { receipt, block, providers: vec![provider] }),
            }
            if let Some(at) = all.iter().position(|s| s.providers.len() >= wanted) {
                return Ok(all.swap_remove(at));
            }
        }
        if all.len() > 1 {
            let who: Vec<_> = all.iter().map(|s| s.providers.join(" and ")).collect();
            others.push(format!("{} contradict each other", who.join(" and ")));
        }
        let one = all.first().map_or(0, |s| s.providers.len());
        Err(CliError::Failed(format!(
            "{one} of {wanted} wanted providers of {name} show transaction {tx} as final: {}",
            if others.is_empty() { "add another provider".to_owned() } else { others.join("; ") }
        )))
    }
}

/// A provider's receipt and header of a transaction that it sees as final; why not, otherwise.
async fn testimony<S: ChainSource>(
    source: &S,
    tx: B256,
    finality: Finality,
) -> Result<(Receipt, Header), String> {
    let who = source.provider();
    let said = |e: crate::chain::source::SourceError| e.to_string();
    let receipt = source.receipt(tx).await.map_err(said)?;
    let receipt = receipt.ok_or_else(|| format!("{who} does not have it in any block"))?;
    consistent(who, &receipt.logs).map_err(said)?;
    let header = source.header(receipt.block_hash).await.map_err(said)?;
    let header = header.ok_or_else(|| format!("{who} does not show its block"))?;
    match asked_final(source, header.block(), finality).await.map_err(said)? {
        Some(true) => Ok((receipt, header)),
        Some(false) => Err(format!("{who} has another block in its place")),
        None => {
            let number = header.number;
            Err(format!("{who}: block {number} is not final yet ({finality}); try again later"))
        }
    }
}

/// How much of an asset came or went.
struct Net {
    asset: String,
    decimals: u8,
    net: RawAmount,
}

/// What came in and went out of one asset.
#[derive(Default)]
struct Flow {
    decimals: Option<u8>,
    received: RawAmount,
    sent: RawAmount,
}

/// The tokens that the treasury received and the stablecoin that it paid: one asset each way.
fn moved(
    config: &Config,
    chain: &ChainConfig,
    treasury: Address,
    tx: B256,
    receipt: &Receipt,
) -> Result<(Net, Net), CliError> {
    let bad = |why: String| CliError::BadInput(format!("transaction {tx} is no purchase: {why}"));
    if !receipt.succeeded {
        return Err(bad("it failed".into()));
    }
    let mut flows: BTreeMap<&str, Flow> = BTreeMap::new();
    for log in &receipt.logs {
        let Some(token) = chain.rules.token(&log.address) else { continue };
        let Some((sender, recipient, amount)) = clean_transfer(log) else { continue };
        if sender != treasury && recipient != treasury {
            continue;
        }
        let flow = flows.entry(token.asset.as_str()).or_default();
        if *flow.decimals.get_or_insert(token.decimals) != token.decimals {
            return Err(bad(format!("it moves tokens of {} with other decimals", token.asset)));
        }
        let mut add = |ours: bool, sum: fn(&mut Flow) -> &mut RawAmount| {
            let sum = sum(flow);
            let more = if ours { amount } else { RawAmount::ZERO };
            *sum = sum.checked_add(more).ok_or_else(|| bad("its amounts overflow".into()))?;
            Ok::<(), CliError>(())
        };
        add(recipient == treasury, |f| &mut f.received)?;
        add(sender == treasury, |f| &mut f.sent)?;
    }
    let (mut came, mut went) = (Vec::new(), Vec::new());
    for (asset, flow) in flows {
        let (asset, decimals) = (asset.to_owned(), flow.decimals.unwrap_or(0));
        match (flow.received.checked_sub(flow.sent), flow.sent.checked_sub(flow.received)) {
            (Some(RawAmount::ZERO), _) => {}
            (Some(net), _) => came.push(Net { asset, decimals, net }),
            (None, Some(net)) => went.push(Net { asset, decimals, net }),
            (None, None) => {}
        }
    }
    let listed = |all: &[Net]| {
        let all: Vec<_> =
            all.iter().map(|n| format!("{} {}", n.net.display(n.decimals), n.asset)).collect();
        if all.is_empty() { "nothing".to_owned() } else { all.join(" and ") }
    };
    let what = format!("{treasury} received {} and paid {}", listed(&came), listed(&went));
    let (Ok([tokens]), Ok([paid])) = (<[Net; 1]>::try_from(came), <[Net; 1]>::try_from(went))
    else {
        return Err(bad(format!("{what}; it must receive one asset and pay one")));
    };
    let converts = config.epochs.all().iter().any(|epoch| {
        let valuation = epoch.accept.get(&paid.asset).map(|terms| &terms.valuation);
        matches!(valuation, Some(Valuation::Convert { into, .. }) if *into == tokens.asset)
    });
    if !converts {
        return Err(bad(format!("{what}; no epoch converts {} into {}", paid.asset, tokens.asset)));
    }
    Ok((tokens, paid))
}
