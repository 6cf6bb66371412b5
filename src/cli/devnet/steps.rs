//! How each step of a scenario is done, and how what is expected is compared with what is.

use std::time::{Duration, Instant};

use alloy::primitives::{TxHash, U256};
use alloy::sol_types::SolCall;

use super::scenario::{Expect, Lie, Pay, Reorg, Says, Step};
use super::stage::{Payment, Stage, failed};
use crate::cli::error::CliError;
use crate::devnet::TestToken;
use crate::devnet::proxy::{Fault, Lie as Falsehood};
use crate::domain::money::{Rate, RawAmount};
use crate::output::note;
use crate::service::clock::advance;
use crate::store::DepositFilter;

/// What is waited for has to be so within this time: long, for a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(240);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// Most findings that are looked at.
const FINDINGS_MAX: i64 = 1_000;

impl Stage {
    /// Does a step. What does not hold is an error that says how things stand.
    pub(super) async fn perform(&mut self, step: &Step) -> Result<(), CliError> {
        match step {
            Step::Pay(pay) => self.pay(pay).await,
            Step::Resend(names) => self.resend(names).await,
            Step::Mine(blocks) => Ok(self.net.mine(*blocks).await?),
            Step::Reorg(reorg) => self.reorg(reorg).await,
            Step::Lag { provider, blocks } => self.bend(*provider, [Fault::Behind(*blocks).into()]),
            Step::Lie(lie) => self.lie(lie),
            Step::Away(provider) => self.bend(*provider, [Fault::Drop.into()]),
            Step::Heal(provider) => {
                self.provider(*provider)?.heal();
                Ok(())
            }
            Step::Price { asset, usd } => self.price(asset, usd).await,
            Step::Advance(by) => {
                advance(&self.store, &self.config, *by, note).await?;
                Ok(())
            }
            Step::Wait(expect) => self.wait(expect).await,
            Step::Assert(expect) => match self.differs(expect).await? {
                differs if differs.is_empty() => Ok(()),
                differs => Err(failed(differs.join("; "))),
            },
            Step::Save(file) => self.save(file).await,
        }
    }

    fn provider(&self, number: usize) -> Result<&crate::devnet::proxy::Proxy, CliError> {
        let index = number.saturating_sub(1);
        self.proxies.get(index).ok_or_else(|| failed(format!("there is no provider {number}")))
    }

    fn payment(&self, name: &str) -> Result<&Payment, CliError> {
        self.payments.get(name).ok_or_else(|| failed(format!("no payment is called {name:?}")))
    }

    fn bend<const N: usize>(
        &self,
        provider: usize,
        rules: [crate::devnet::proxy::Rule; N],
    ) -> Result<(), CliError> {
        let proxy = self.provider(provider)?;
        for rule in rules {
            drop(proxy.set(rule));
        }
        Ok(())
    }

    async fn pay(&mut self, pay: &Pay) -> Result<(), CliError> {
        let chain = self.config.chains.first().ok_or_else(|| failed("no chain"))?;
        let token = chain.rules.tokens.iter().find(|t| t.symbol == pay.token).cloned();
        let token = token.ok_or_else(|| {
            failed(format!("there is no token {:?}: USDT, USDC or RTITY", pay.token))
        })?;
        let to = self.addresses.get(&pay.to).copied();
        let to = to.ok_or_else(|| failed(format!("there is no namespace {}", pay.to)))?;
        let amount = raw(&pay.amount, token.decimals)?;
        let payers = self.net.accounts.get(1..).unwrap_or_default();
        let sender = self.random.choice(payers).copied();
        let sender = sender.ok_or_else(|| failed("the node has no accounts"))?;
        let data = TestToken::transferCall { to, value: amount.0 }.abi_encode().into();
        let (tx, raw) = self.payer.pay(&self.net, sender, token.address, data).await?;
        self.payments.insert(pay.name.clone(), Payment { tx, raw, token });
        Ok(())
    }

    async fn resend(&self, names: &[String]) -> Result<(), CliError> {
        for name in names {
            self.net.send_raw(&self.payment(name)?.raw).await?;
        }
        Ok(())
    }

    /// Every transaction stays in the block at its height, but for those that are dropped.
    async fn reorg(&mut self, reorg: &Reorg) -> Result<(), CliError> {
        let height = self.net.height().await?;
        if reorg.depth == 0 || reorg.depth >= height {
            let why = format!("depth {} cannot be: the chain has {height} blocks", reorg.depth);
            return Err(failed(why));
        }
        let mut dropped: Vec<TxHash> = Vec::new();
        for name in &reorg.drop {
            dropped.push(self.payment(name)?.tx);
        }
        let floor = height.saturating_sub(reorg.depth);
        self.net.reorg_without(floor.saturating_add(1), &dropped).await?;
        for (name, tx) in reorg.drop.iter().zip(&dropped) {
            if self.net.receipt(*tx).await?.is_some() {
                return Err(failed(format!("{name} is still in the chain")));
            }
        }
        Ok(())
    }

    fn lie(&self, lie: &Lie) -> Result<(), CliError> {
        let payment = self.payment(&lie.about)?;
        let (tx, of) = (payment.tx, lie.provider);
        match &lie.says {
            Says::Nothing => {
                self.bend(of, [Fault::Logs(Falsehood::Empty).of(tx), Fault::NoReceipt.of(tx)])
            }
            Says::Twice => {
                let twice = Falsehood::LastTwice;
                self.bend(of, [Fault::Logs(twice).of(tx), Fault::Receipt(twice).of(tx)])
            }
            Says::Amount(amount) => {
                let other = Falsehood::Amount(raw(amount, payment.token.decimals)?.0);
                self.bend(of, [Fault::Logs(other).of(tx), Fault::Receipt(other).of(tx)])
            }
        }
    }

    async fn price(&mut self, asset: &str, usd: &str) -> Result<(), CliError> {
        let feed = self.feeds.get(asset).ok_or_else(|| {
            failed(format!("there is no feed of {asset:?}: the file needs a table [market]"))
        })?;
        let answer = i128::try_from(raw(usd, 8)?.0).map_err(|_| failed("the price is too high"))?;
        self.net.answer(feed, answer).await?;
        Ok(())
    }

    async fn wait(&self, expect: &Expect) -> Result<(), CliError> {
        let began = Instant::now();
        loop {
            let differs = self.differs(expect).await?;
            if differs.is_empty() {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                let seconds = PATIENCE.as_secs();
                return Err(failed(format!("after {seconds} s: {}", differs.join("; "))));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What is not as expected.
    async fn differs(&self, expect: &Expect) -> Result<Vec<String>, CliError> {
        let mut differs = Vec::new();
        for (name, wanted) in &expect.stage {
            let tx = self.payment(name)?.tx;
            let filter = DepositFilter { limit: i64::MAX, ..DepositFilter::default() };
            let deposits = self.store.deposits(&filter).await?;
            let is = match deposits.iter().find(|d| d.tx_hash == tx) {
                // Without a reason, any will do.
                Some(d) if d.stage.as_str() == wanted => continue,
                Some(d) => d.stage.to_string(),
                None => "unseen".to_owned(),
            };
            if is != *wanted {
                differs.push(format!("{name} is {is}, not {wanted}"));
            }
        }
        for (name, wanted) in &expect.balance {
            let has = self.store.balance(name).await?.to_string();
            if has != *wanted {
                differs.push(format!("{name} has {has} credits, not {wanted}"));
            }
        }
        let all = self.store.findings(FINDINGS_MAX).await?;
        if let Some(wanted) = &expect.findings {
            let mut open: Vec<&str> =
                all.iter().filter(|f| f.state == "open").map(|f| f.kind.as_str()).collect();
            let mut wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
            open.sort_unstable();
            wanted.sort_unstable();
            if open != wanted {
                differs.push(format!("open findings are {open:?}, not {wanted:?}"));
            }
        }
        for kind in &expect.noted {
            if !all.iter().any(|finding| finding.kind == *kind) {
                differs.push(format!("no {kind} was noted"));
            }
        }
        Ok(differs)
    }
}

/// An amount of a token, in its base units.
pub(in crate::cli) fn raw(amount: &str, decimals: u8) -> Result<RawAmount, CliError> {
    let wrong = |e: &dyn std::fmt::Display| {
        CliError::BadInput(format!("{amount:?} is no amount of a token: {e}"))
    };
    let rate: Rate = amount.parse().map_err(|e| wrong(&e))?;
    let raw = rate.to_raw(decimals).map_err(|e| wrong(&e))?;
    if raw.0 == U256::ZERO {
        return Err(wrong(&"it is 0"));
    }
    Ok(raw)
}
