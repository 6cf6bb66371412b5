//! `trigger`: makes a real chain of events on a local chain, for somebody who tests what listens to them.
//!
//! It pays as anybody could, from the node's own accounts, and waits until the daemon that follows the chain has
//! told the event. It writes nothing into the database, and knows no shortcut.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use alloy::primitives::{Address, TxHash, U256};
use alloy::sol_types::SolCall;
use clap::Args;
use serde_json::json;

use super::devnet::{parse_length, raw};
use super::dialect::dialect;
use crate::cli::error::CliError;
use crate::cli::open::open;
use crate::cli::print::{Output, print};
use crate::cli::words::time;
use crate::config::{ChainConfig, Config};
use crate::devnet::{LocalChain, TestToken};
use crate::domain::ids::NamespaceName;
use crate::domain::journal::EventKind;
use crate::output::note;
use crate::store::{DepositFilter, FeedEvent, Store};

/// Pause between two blocks, and between two looks at the feed.
const PAUSE: Duration = Duration::from_millis(250);
/// Most events that are read at once.
const EVENTS_MAX: i64 = 1_000;
/// Whose addresses are looked at.
const ADDRESSES_MAX: i64 = 1_000;

#[derive(Debug, Args)]
pub(super) struct TriggerArgs {
    /// The event: deposit.seen, deposit.confirmed, deposit.credited, deposit.held, deposit.reversed, or
    /// finding.opened.
    #[arg(value_name = "EVENT", value_parser = event)]
    event: EventKind,
    /// Who is paid; otherwise the namespace with the oldest address.
    #[arg(long, value_name = "NAME")]
    namespace: Option<NamespaceName>,
    /// The token; otherwise the first configured one.
    #[arg(long, value_name = "SYMBOL")]
    token: Option<String>,
    /// How much, in tokens.
    #[arg(long, default_value = "25")]
    amount: String,
    /// How long to wait for it.
    #[arg(long, value_name = "LENGTH", default_value = "2m", value_parser = parse_length)]
    within: Duration,
    #[command(flatten)]
    output: Output,
}

fn event(text: &str) -> Result<EventKind, String> {
    let kind = EventKind::ALL.into_iter().find(|kind| kind.as_str() == text);
    match kind.ok_or("there is no such event; see --help")? {
        EventKind::DepositCorrected => {
            Err("a correction takes two people: topupd ledger correct".into())
        }
        EventKind::TreasurySettled => {
            Err("a settlement takes a purchase of $RTITY: topupd treasury settle".into())
        }
        EventKind::ChainDegraded => {
            Err("take a provider away, as in anvil-fixtures/scenarios/lying-provider.toml".into())
        }
        kind => Ok(kind),
    }
}

/// What it works with.
struct Local {
    net: LocalChain,
    store: Store,
    output: Output,
    /// The last event that was looked at.
    feed_no: i64,
    until: Instant,
}

pub(super) async fn trigger(config: Config, args: TriggerArgs) -> Result<ExitCode, CliError> {
    let store = open(&config).await?;
    let (chain, net) = local_chain(&config).await?;
    let token = match &args.token {
        Some(symbol) => chain.rules.tokens.iter().find(|token| token.symbol == *symbol),
        None => chain.rules.tokens.first(),
    };
    let token = token.ok_or_else(|| {
        let all: Vec<&str> = chain.rules.tokens.iter().map(|t| t.symbol.as_str()).collect();
        CliError::BadInput(format!("--token: chain {} has {}", chain.rules.name, all.join(", ")))
    })?;
    let addresses = store.addresses(args.namespace.as_ref(), ADDRESSES_MAX).await?;
    let to = addresses.first().map(|row| row.address).ok_or_else(|| {
        CliError::BadInput(
            "nobody can be paid: no address is registered (topupd address new)".into(),
        )
    })?;
    let value = raw(&args.amount, token.decimals)?.0;
    let feed_no = store.log_state().await?.feed_no;
    let until = Instant::now() + args.within;
    let mut local = Local { net, store, output: args.output, feed_no, until };
    let from = if args.event == EventKind::DepositHeld {
        // Coins that go round between our own addresses are no new money: they are held.
        let all = local.store.addresses(None, ADDRESSES_MAX).await?;
        let own = all.iter().map(|row| row.address).find(|address| *address != to);
        let own = own.ok_or_else(|| {
            CliError::BadInput("a payment is held when it comes from another deposit address, and there is none (topupd address new)".into())
        })?;
        local.open_purse(own).await?;
        own
    } else {
        local.net.payer()
    };
    local.net.transact(token.address, TestToken::mintCall { to: from, value }).await?;
    let call = TestToken::transferCall { to, value };
    let tx = local.net.send_data(from, Some(token.address), call.abi_encode().into()).await?;
    note(&format!("paid {} {} to {to}: {tx}", args.amount, token.symbol));
    match args.event {
        EventKind::DepositReversed | EventKind::FindingOpened => {
            local.until_told(tx, EventKind::DepositCredited).await?;
            local.drop_from_chain(tx).await?;
            note(&format!("a reorg took {tx} out of the chain"));
            local.until_told(tx, args.event).await?;
        }
        event => local.until_told(tx, event).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The first configured chain that is a local one.
async fn local_chain(config: &Config) -> Result<(&ChainConfig, LocalChain), CliError> {
    let mut why = "no chain is configured".to_owned();
    for chain in &config.chains {
        for (options, _) in &chain.providers {
            let net = match LocalChain::at(options.http.clone(), options.http.clone()).await {
                Ok(net) => net,
                Err(error) => {
                    why = error.to_string();
                    continue;
                }
            };
            let client: String = net.rpc.ask("web3_clientVersion", ()).await.unwrap_or_default();
            if client.starts_with("anvil/") {
                return Ok((chain, net));
            }
            why = format!("chain {}: {} is {client:?}", chain.rules.name, options.name);
        }
    }
    Err(CliError::BadInput(format!(
        "events are made on a local chain (anvil) only: {why}. topupd demo or topupd devnet run start one"
    )))
}

impl Local {
    /// Lets this process send from an address that has no key here, and gives it what fees cost.
    async fn open_purse(&self, address: Address) -> Result<(), CliError> {
        let ether = U256::from(10).pow(U256::from(18));
        let failed = |e: crate::chain::source::SourceError| CliError::Failed(e.to_string());
        let () = self.net.rpc.ask("anvil_impersonateAccount", (address,)).await.map_err(failed)?;
        let () = self.net.rpc.ask("anvil_setBalance", (address, ether)).await.map_err(failed)?;
        Ok(())
    }

    /// Mines until the daemon has told this of the payment; prints each event of it on the way.
    async fn until_told(&mut self, tx: TxHash, wanted: EventKind) -> Result<(), CliError> {
        loop {
            let filter = DepositFilter { tx: Some(tx), limit: 1, ..DepositFilter::default() };
            let deposit = self.store.deposits(&filter).await?.pop();
            let subject = deposit.as_ref().map(|d| d.id.to_string());
            // Not before the payment is known: its events would be passed over.
            let events = match &subject {
                Some(_) => self.store.feed(self.feed_no, EVENTS_MAX).await?,
                None => Vec::new(),
            };
            for event in events {
                self.feed_no = event.feed_no;
                let is_wanted = event.kind == wanted.as_str();
                // What a finding is about, its payload says.
                let is_ours = Some(&event.subject) == subject.as_ref()
                    || (is_wanted && wanted == EventKind::FindingOpened);
                if is_ours {
                    self.say(&event)?;
                    if is_wanted {
                        return Ok(());
                    }
                }
            }
            if Instant::now() > self.until {
                let stands = deposit.map_or_else(
                    || "no daemon has seen it; is one running with this configuration (topupd run)?".to_owned(),
                    |d| format!("it is {}, with {} confirmations; topupd deposits show {} says what it waits for", d.stage, d.confirmations, d.id),
                );
                let why = format!("{} was not told of {tx} in time: {stands}", wanted.as_str());
                return Err(CliError::Failed(why));
            }
            self.net.mine(1).await?;
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn say(&self, event: &FeedEvent) -> Result<(), CliError> {
        let text = if self.output.is_data() {
            dialect(json!({
                "event_id": event.id, "kind": event.kind, "subject": event.subject,
                "feed_no": event.feed_no, "told_at_ms": event.at_ms, "payload": event.payload,
            }))
            .to_string()
        } else {
            format!("{}  {}  {}", time(event.at_ms), event.kind, event.subject)
        };
        print(&text).map(drop)
    }

    /// Replaces the blocks from that of the transaction on by others without it.
    async fn drop_from_chain(&self, tx: TxHash) -> Result<(), CliError> {
        let gone = || CliError::Failed(format!("{tx} is not in the chain"));
        let block = self.net.receipt(tx).await?.ok_or_else(gone)?.block_number;
        Ok(self.net.reorg_without(block.saturating_to(), &[tx]).await?)
    }
}
