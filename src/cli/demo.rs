//! `demo`: a local chain, tokens, payers and reorgs around the real daemon, on SQLite unless told
//! otherwise; or around daemons that are started elsewhere.
//!
//! The daemon under it is the one that `run` starts, with a configuration file that is written and
//! read like any other. At the end every payment is held against the chain and the ledger (`demo_end`).

pub(in crate::cli) mod end;
pub(in crate::cli) mod market;
pub(in crate::cli) mod screen;
pub(in crate::cli) mod setup;
pub(in crate::cli) mod state;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::primitives::{Address, Bytes, TxHash, U256};
use alloy::sol_types::SolCall;
use clap::Args;
use tempfile::TempDir;

use super::run::{Signals, holder};
use crate::cli::demo::end::{afterwards, command, look_around};
use crate::cli::demo::market::{DemoMarket, PAST_S};
use crate::cli::demo::screen::Screen;
use crate::cli::demo::setup::{Local, configuration, database, fill_purses, folder, log_key};
use crate::cli::demo::state::{Demo, Payment};
use crate::cli::error::CliError;
use crate::cli::print::print;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::daemon::Daemon;
use crate::daemon::parts::Start;
use crate::devnet::error::DevnetError;
use crate::devnet::{AnvilOptions, Devnet, Payer, TestToken};
use crate::domain::deposit::Stage;
use crate::domain::finality::Finality;
use crate::domain::ids::NamespaceName;
use crate::domain::money::RawAmount;
use crate::store::{DepositFilter, DepositRow, Store};

const NAMESPACES: [&str; 3] = ["acme", "bolt", "cafe"];
const ADDRESSES_EACH: usize = 2;
/// Deepest reorg: one less than the fewest confirmations, so that none reaches a credit.
const REORG_MAX: u64 = 3;
/// A run that makes no progress for this long has failed: long, for a machine that is busy with other
/// things, and for daemons that are started, stopped and killed elsewhere.
const STALL: Duration = Duration::from_secs(240);

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// End when so many payments are credited; without it, at Ctrl-C.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    payments: Option<u64>,
    /// After the last payment, keep the chain and the daemon running until Ctrl-C, to look around.
    #[arg(long, requires = "payments")]
    keep: bool,
    /// Milliseconds between blocks.
    #[arg(long, value_name = "MS", default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    block_ms: u64,
    /// Seed of everything random, to see the same payments again.
    #[arg(long)]
    seed: Option<u64>,
    /// Keep the configuration and the database here.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where the database is: `postgres` for a throwaway server, or the URL of an empty database;
    /// without it, a SQLite file.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Only the chain and the payers: start the daemons yourself, with `topupd run` and the
    /// configuration in --dir.
    #[arg(long, requires = "dir")]
    no_daemon: bool,
    /// Cross the TGE: stablecoins are converted at market price, a source goes away and comes back,
    /// and in the end every conversion is computed again.
    #[arg(long)]
    tge: bool,
}

fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::Failed(error.to_string())
}

impl From<DevnetError> for CliError {
    fn from(error: DevnetError) -> Self {
        failed(error)
    }
}

pub(super) async fn demo(args: DemoArgs) -> Result<ExitCode, CliError> {
    let mut signals = Signals::new()?;
    let seed = args.seed.unwrap_or_else(|| SystemClock.now_ms().unsigned_abs());
    // Dropping the future drops anvil and the temporary directory with it.
    let (mut demo, _dir) = tokio::select! {
        demo = Demo::start(&args, seed) => demo?,
        () = signals.any() => return match args.payments {
            Some(n) => Err(failed(format!("stopped before the first of {n} payments"))),
            None => Ok(ExitCode::SUCCESS),
        },
    };
    let tick = Duration::from_millis(args.block_ms);
    let outcome = tokio::select! {
        outcome = demo.play(args.payments, tick) => outcome,
        () = signals.any() => Ok(()),
    };
    let problems = demo.judge(args.payments, outcome).await?;
    if problems.is_empty() && args.keep {
        print(&look_around(&demo))?;
        tokio::select! {
            outcome = demo.idle(tick) => outcome?,
            () = signals.any() => {}
        }
    }
    demo.stop().await;
    if !problems.is_empty() {
        for problem in &problems {
            print(&format!("PROBLEM: {problem}"))?;
        }
        return Err(failed(format!("the demo failed; again with --seed {seed}")));
    }
    if let Some(n) = args.payments.filter(|_| !args.keep) {
        print(&afterwards(n, args.dir.is_some() && args.database.is_none(), &demo))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The namespaces, and who has which address.
async fn register(
    store: &Store,
    config: &Config,
    now_ms: i64,
) -> Result<Vec<(Address, &'static str)>, CliError> {
    let xpub = config.account_xpub.as_ref().ok_or_else(|| failed("no account_xpub"))?;
    let mut addresses = Vec::new();
    for name in NAMESPACES {
        let namespace: NamespaceName = name.parse().map_err(CliError::Failed)?;
        store.add_namespace(&namespace, now_ms).await?;
        for _ in 0..ADDRESSES_EACH {
            let row = store.new_address(&namespace, xpub, now_ms).await?;
            addresses.push((row.address, name));
        }
    }
    Ok(addresses)
}

impl Demo {
    async fn start(args: &DemoArgs, seed: u64) -> Result<(Self, Option<TempDir>), CliError> {
        let (dir, temporary) = folder(args.dir.as_deref(), "topupd-demo-")?;
        let path = dir.join("topupd.toml");
        if path.exists() || dir.join("topupd.db").exists() {
            return Err(CliError::BadInput(format!(
                "--dir {} holds a demo already: its chain is gone, so give another directory",
                dir.display()
            )));
        }
        print("starting a local chain and deploying USDT, USDC and RTITY …")?;
        let now_s =
            u64::try_from(SystemClock.now_ms()).unwrap_or(0).checked_div(1_000).unwrap_or(0);
        let timestamp = args.tge.then(|| now_s.saturating_sub(PAST_S));
        let net = Devnet::start(AnvilOptions { timestamp, ..AnvilOptions::default() }).await?;
        let tokens = net.deploy_tokens().await?;
        let mut market = if args.tge {
            print("deploying price feeds and a Uniswap pool; starting an exchange and a Hermes …")?;
            Some(DemoMarket::start(&net, &tokens).await?)
        } else {
            None
        };
        fill_purses(&net, &tokens).await?;
        net.automine(false).await?;
        let setup_height = net.height().await?;
        // The first account is left to whoever looks on.
        let payer = Payer::new(&net, net.accounts.get(1..).unwrap_or_default()).await?;
        let (url, server) = database(args.database.as_deref(), &dir).await?;
        // Complete before it is there: somebody may wait for it to start a daemon.
        let unfinished = dir.join(".topupd.toml");
        let local = Local {
            by: "demo",
            database: &url,
            log_key: &log_key(&dir)?,
            // There is one provider, this machine's own.
            providers: format!(
                r#"{{ name = "anvil", http = "{}", ws = "{}" }}"#,
                net.anvil.http(),
                net.anvil.ws()
            ),
            verify: "same-provider",
            finality: r#"{ up_to_usd = "100", confirmations = 4 }, { confirmations = 8 }"#.into(),
            epoch: "demo",
        };
        let mut text = configuration(&tokens, &local);
        text.push_str(&market.as_mut().map(DemoMarket::configuration).unwrap_or_default());
        std::fs::write(&unfinished, text).map_err(failed)?;
        let config = Config::load(&unfinished, [])?;
        let store = Store::open(&config.database, config.network, SystemClock.now_ms()).await?;
        let clock = store.clock();
        if let Some(market) = &market {
            market.go_by(Arc::clone(&clock));
        }
        store.sync_epochs(&config.epochs, clock.now_ms()).await?;
        let addresses = register(&store, &config, clock.now_ms()).await?;
        std::fs::rename(&unfinished, &path).map_err(failed)?;
        let daemon = if args.no_daemon {
            None
        } else {
            let start = Start { holder: holder(&config), tasks: true, create: false };
            Some(Daemon::start(&config, Arc::new(SystemClock), start).await?)
        };
        let chain = config.chains.first().ok_or_else(|| failed("no chain"))?;
        let who = match &daemon {
            Some(_) => "the daemon watches".to_owned(),
            None => {
                format!("start daemons with: {}\nthey watch", command(&path, "run"))
            }
        };
        print(&format!(
            "{who} {} on {}; {} addresses of {}; seed {seed}\nconfiguration and database: {}",
            chain.rules.id,
            net.anvil.http(),
            addresses.len(),
            NAMESPACES.join(", "),
            dir.display(),
        ))?;
        let demo = Self {
            rules: chain.rules.clone(),
            config: config.clone(),
            path,
            random: fastrand::Rng::with_seed(seed),
            net,
            daemon,
            store,
            market,
            server,
            addresses,
            payer,
            setup_height,
            payments: BTreeMap::new(),
            order: Vec::new(),
            screen: Screen::new(),
            reorgs: 0,
        };
        if args.payments.is_none() {
            print(&look_around(&demo))?;
        }
        Ok((demo, temporary))
    }

    /// Pays, mines and reorganises until all is paid and credited.
    async fn play(&mut self, wanted: Option<u64>, tick: Duration) -> Result<(), CliError> {
        let mut progress = (0usize, Instant::now());
        loop {
            let paid = u64::try_from(self.order.len()).unwrap_or(u64::MAX);
            let left = wanted.map_or(u64::MAX, |n| n.saturating_sub(paid));
            // Faster for a large number, so that it ends in reasonable time.
            let most = wanted.map_or(2, |n| (n / 40).clamp(2, 50));
            // Some are kept for after the TGE, and for when a source is away.
            let kept = self.market.as_ref().map_or(0, |m| m.kept(wanted.unwrap_or(0)));
            for _ in 0..self.random.u64(0..=most).min(left.saturating_sub(kept)) {
                self.pay().await?;
            }
            self.net.mine(1).await?;
            self.payer.send_again(&self.net, false).await?;
            if self.random.u8(0..10) == 0 {
                self.reorganise().await?;
            }
            tokio::time::sleep(tick).await;
            self.follow_clock().await?;
            let (credited, held) = self.show().await?;
            if let Some(market) = &mut self.market
                && let Some(news) = market.tick(self.net.time_ms().await?, held)
            {
                self.screen.say(news);
            }
            let over = self.market.as_ref().is_none_or(DemoMarket::is_over);
            if left == 0 && over && credited == self.order.len() {
                return Ok(());
            }
            if credited != progress.0 {
                progress = (credited, Instant::now());
            }
            if left == 0 && progress.1.elapsed() > STALL {
                let seconds = STALL.as_secs();
                return Err(failed(format!("no payment was credited for {seconds} s")));
            }
        }
    }

    /// Mines, so that what somebody pays by hand is credited too.
    async fn idle(&mut self, tick: Duration) -> Result<(), CliError> {
        loop {
            self.follow_clock().await?;
            self.net.mine(1).await?;
            tokio::time::sleep(tick).await;
        }
    }

    /// Somebody may move the clock, and the chain with it.
    async fn follow_clock(&mut self) -> Result<(), CliError> {
        self.store.clock_ms().await?;
        match &mut self.market {
            Some(market) => market.keep_fresh(&self.net).await,
            None => Ok(()),
        }
    }

    /// One random payment into the pool.
    async fn pay(&mut self) -> Result<(), CliError> {
        let pick = |random: &mut fastrand::Rng, n: usize| random.usize(0..n.max(1));
        let token = pick(&mut self.random, self.rules.tokens.len());
        let address = pick(&mut self.random, self.addresses.len());
        let sender = pick(&mut self.random, self.net.accounts.len().saturating_sub(1));
        let (Some(token), Some((to, namespace)), Some(sender)) = (
            self.rules.tokens.get(token).cloned(),
            self.addresses.get(address).copied(),
            self.net.accounts.get(sender.saturating_add(1)).copied(),
        ) else {
            return Err(failed("nothing to pay with"));
        };
        // Cents up to 500 tokens, so that both tiers of the finality policy are seen.
        let cents = U256::from(self.random.u64(1..=50_000));
        let unit = U256::from(10).pow(U256::from(token.decimals.saturating_sub(2)));
        let amount = RawAmount(cents.saturating_mul(unit));
        let call = TestToken::transferCall { to, value: amount.0 };
        let data = call.abi_encode().into();
        let (tx, raw_tx) = self.payer.pay(&self.net, sender, token.address, data).await?;
        self.screen
            .paid(&format!("{} {}", amount.display(token.decimals), token.symbol), namespace);
        self.payments.insert(tx, Payment { raw_tx, sender, token, to, amount, namespace });
        self.order.push(tx);
        Ok(())
    }

    /// Replaces the newest blocks. Their payments are moved, re-ordered or dropped; dropped ones
    /// are sent again, as a wallet does.
    async fn reorganise(&mut self) -> Result<(), CliError> {
        let height = self.net.height().await?;
        let depth = self.random.u64(1..=REORG_MAX).min(height.saturating_sub(self.setup_height));
        if depth == 0 {
            return Ok(());
        }
        let floor = height.saturating_sub(depth);
        // Each sender's payments stay in the order of their nonces; between senders any order goes.
        // What somebody pays by hand, nobody would send again: it is never dropped.
        let mut affected: BTreeMap<Option<Address>, Vec<(TxHash, Bytes)>> = BTreeMap::new();
        for number in floor.saturating_add(1)..=height {
            for tx in self.net.transactions(number).await? {
                let (sender, raw) = match self.payments.get(&tx) {
                    Some(payment) => (Some(payment.sender), payment.raw_tx.clone()),
                    None => (None, self.net.raw(tx).await?),
                };
                affected.entry(sender).or_default().push((tx, raw));
            }
        }
        let all: Vec<TxHash> = affected.values().flatten().map(|(tx, _)| *tx).collect();
        let mut queue: Vec<(Bytes, u64)> = Vec::new();
        let mut waiting: Vec<Vec<Bytes>> = Vec::new();
        for (sender, mut txs) in affected {
            if sender.is_some() && self.random.u8(0..4) == 0 {
                txs.pop(); // dropped
            }
            waiting.push(txs.into_iter().rev().map(|(_, raw)| raw).collect());
        }
        let mut offset = 0;
        while let Some(from) = self.pick_waiting(&waiting) {
            queue.extend(waiting.get_mut(from).and_then(Vec::pop).map(|raw| (raw, offset)));
            if self.random.bool() {
                offset = offset.saturating_add(1).min(depth.saturating_sub(1));
            }
        }
        self.net.reorg(depth, &queue).await?;
        self.reorgs = self.reorgs.saturating_add(1);
        let mut dropped = 0usize;
        for tx in &all {
            if self.net.receipt(*tx).await?.is_none() {
                dropped = dropped.saturating_add(1);
            }
        }
        self.payer.send_again(&self.net, true).await?;
        self.screen.say(&format!(
            "reorg: the newest {depth} block(s) were replaced; {} payment(s) moved, {dropped} dropped and sent again",
            all.len().saturating_sub(dropped)
        ));
        Ok(())
    }

    fn pick_waiting(&mut self, waiting: &[Vec<Bytes>]) -> Option<usize> {
        let some: Vec<usize> =
            waiting.iter().enumerate().filter(|(_, w)| !w.is_empty()).map(|(i, _)| i).collect();
        self.random.choice(some)
    }

    pub(super) async fn deposits(&self) -> Result<Vec<DepositRow>, CliError> {
        let filter = DepositFilter { limit: i64::MAX, ..DepositFilter::default() };
        Ok(self.store.deposits(&filter).await?)
    }

    /// Shows where each payment stands; returns how many are credited, and how many wait for a price.
    async fn show(&mut self) -> Result<(usize, usize), CliError> {
        let deposits = self.deposits().await?;
        for deposit in &deposits {
            let Some(payment) = self.payments.get(&deposit.tx_hash) else { continue };
            let (token, seen) = (&payment.token.address, deposit.first_seen_at_ms);
            let wanted = match self.rules.finality(deposit.raw, token, seen) {
                Finality::Confirmations(n) => n,
                Finality::Safe | Finality::Finalized => 64,
            };
            let amount = payment.amount.display(payment.token.decimals);
            let what = format!("{amount:>10} {:<5} → {}", payment.token.symbol, payment.namespace);
            self.screen.deposit(deposit, &what, wanted);
        }
        let credited = deposits.iter().filter(|d| d.stage == Stage::Credited).count();
        let held = |d: &&DepositRow| matches!(d.stage, Stage::Held(r) if r.is_about_market());
        self.screen.total(credited, self.order.len());
        Ok((credited, deposits.iter().filter(held).count()))
    }
}
