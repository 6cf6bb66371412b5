//! How a demo ends: every payment held against the chain and the ledger, and what to try next.

use std::collections::BTreeSet;
use std::path::Path;

use alloy::primitives::{Bytes, TxHash, U256};
use alloy::sol_types::SolCall;

use crate::cli::demo::market::proof;
use crate::cli::demo::state::Demo;
use crate::cli::error::CliError;
use crate::cli::print::print;
use crate::cli::words::table;
use crate::daemon::Daemon;
use crate::devnet::TestToken;
use crate::domain::deposit::Stage;
use crate::domain::money::{RawAmount, display_total};
use crate::store::DepositRow;

impl Demo {
    /// Holds every payment against the chain and the ledger, prints what holds, and returns what
    /// does not.
    pub(in crate::cli) async fn judge(
        &mut self,
        wanted: Option<u64>,
        outcome: Result<(), CliError>,
    ) -> Result<Vec<String>, CliError> {
        self.screen.close();
        let paid = self.order.len();
        let deposits = self.deposits().await?;
        let mut problems: Vec<String> = outcome.err().map(|e| e.to_string()).into_iter().collect();
        match wanted {
            Some(n) if u64::try_from(paid) != Ok(n) => {
                problems.push(format!("stopped after {paid} of {n} payments"));
            }
            Some(_) => problems.extend(self.compare(&deposits).await?),
            None => {}
        }
        let summary = self.totals(&deposits).await?;
        let requests = self.daemon.as_ref().map(Daemon::requests);
        let requests =
            requests.map_or_else(String::new, |n| format!(", {n} requests to the chain"));
        print(&format!("\n{summary}{} reorgs{requests}", self.reorgs))?;
        match self.store.verify_all().await?.both() {
            Ok((v, _)) => print(&format!(
                "ledger verify: holds; {} credits given, {} records, {} credits in all",
                v.credits,
                v.records,
                display_total(v.total_nano)
            ))
            .map(drop)?,
            Err(why) => problems.push(format!("ledger verify: {why}")),
        }
        if self.market.is_some() {
            let (lines, wrong) = proof(&self.config, &self.store).await?;
            for line in &lines {
                print(line)?;
            }
            problems.extend(wrong);
        }
        if problems.is_empty() && wanted.is_some() {
            print(&format!("all {paid} payments were credited exactly once"))?;
        }
        Ok(problems)
    }

    /// Stops the daemon, the chain and the database's server.
    pub(in crate::cli) async fn stop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.shutdown().await;
        }
        self.store.close().await;
        self.net.anvil.kill();
        drop(self.server.take());
    }

    /// Every payment has exactly one deposit, credited with its amount to its namespace; and no
    /// deposit is without a payment.
    async fn compare(&self, deposits: &[DepositRow]) -> Result<Vec<String>, CliError> {
        let mut problems = Vec::new();
        let mut seen: BTreeSet<TxHash> = BTreeSet::new();
        for deposit in deposits {
            let Some(payment) = self.payments.get(&deposit.tx_hash) else {
                problems.push(format!("deposit {} was paid by nobody", deposit.id));
                continue;
            };
            if !seen.insert(deposit.tx_hash) {
                problems.push(format!("transaction {} has two deposits", deposit.tx_hash));
            }
            let same = deposit.stage == Stage::Credited
                && deposit.raw == payment.amount
                && deposit.recipient == payment.to
                && deposit.token == payment.token.address
                && deposit.namespace == payment.namespace;
            if !same {
                problems
                    .push(format!("deposit {} is {} and not as paid", deposit.id, deposit.stage));
            }
        }
        for tx in self.order.iter().filter(|tx| !seen.contains(*tx)) {
            let how = match self.net.receipt(*tx).await? {
                None => "is not mined".to_owned(),
                Some(r) if r.status.is_zero() => {
                    format!("was reverted in block {}", r.block_number)
                }
                Some(r) => format!("is mined in block {}", r.block_number),
            };
            problems.push(format!("payment {tx} was never seen; it {how}"));
        }
        Ok(problems)
    }

    /// Per token: what was sent, what the chain says arrived, and what was credited for.
    async fn totals(&self, deposits: &[DepositRow]) -> Result<String, CliError> {
        let mut rows =
            vec![["TOKEN", "SENT", "RECEIVED", "CREDITED FOR"].map(str::to_owned).to_vec()];
        let sum = |amounts: &mut dyn Iterator<Item = RawAmount>| {
            amounts.fold(RawAmount::ZERO, |a, b| a.checked_add(b).unwrap_or(a))
        };
        for token in &self.rules.tokens {
            let mut received = RawAmount::ZERO;
            for (address, _) in &self.addresses {
                let call = TestToken::balanceOfCall(*address);
                let balance = RawAmount(self.net.view(token.address, call).await?);
                received = received.checked_add(balance).unwrap_or(received);
            }
            let sent = sum(&mut self
                .payments
                .values()
                .filter(|p| p.token.address == token.address)
                .map(|p| p.amount));
            let credited = sum(&mut deposits
                .iter()
                .filter(|d| d.token == token.address && d.stage == Stage::Credited)
                .map(|d| d.raw));
            let show = |amount: RawAmount| amount.display(token.decimals);
            rows.push(vec![token.symbol.clone(), show(sent), show(received), show(credited)]);
        }
        Ok(table(&rows))
    }
}

/// What to paste into another terminal while the chain is there.
pub(in crate::cli) fn look_around(demo: &Demo) -> String {
    let mut lines =
        vec!["while this runs, try in another terminal (Ctrl-C here ends it):".to_owned()];
    for arguments in ["status", "deposits list", "ledger balance acme", "ledger verify"] {
        lines.push(command(&demo.path, arguments));
    }
    if let (Some(token), Some((to, name))) = (demo.rules.tokens.first(), demo.addresses.first()) {
        let unit = U256::from(10).pow(U256::from(token.decimals));
        let value = unit.saturating_mul(U256::from(25));
        let data = Bytes::from(TestToken::transferCall { to: *to, value }.abi_encode());
        lines.push(format!("# pay {} {} to {name} yourself:", 25, token.symbol));
        lines.push(format!(
            r#"curl -s {} -H 'content-type: application/json' -d '{{"jsonrpc":"2.0","id":1,"method":"eth_sendTransaction","params":[{{"from":"{}","to":"{}","data":"{data}"}}]}}'; echo"#,
            demo.net.anvil.http(),
            demo.net.payer(),
            token.address,
        ));
    }
    lines.join("\n  ")
}

/// What to try when the chain is gone. The database is `left` where --dir keeps it.
pub(in crate::cli) fn afterwards(payments: u64, left: bool, demo: &Demo) -> String {
    let program = program();
    let again = format!(
        "the chain is gone; to look around while it is there: {program} demo --payments {payments} --keep"
    );
    if !left {
        return again;
    }
    let show = |arguments| command(&demo.path, arguments);
    format!(
        "its database is left, to look at:\n  {}\n  {}\n  {}\n{again}",
        show("deposits list"),
        show("ledger balance acme"),
        show("ledger verify")
    )
}

/// A command line of this program with this configuration.
pub(in crate::cli) fn command(config: &Path, arguments: &str) -> String {
    format!("{} --config {} {arguments}", program(), quoted(&config.to_string_lossy()))
}

/// This program, as a shell in any directory finds it.
fn program() -> String {
    let name = std::env::args().next().unwrap_or_default();
    if !name.contains('/') && !name.is_empty() {
        return name; // found on PATH
    }
    let path = std::env::current_exe().unwrap_or_else(|_| name.into());
    quoted(&path.to_string_lossy())
}

/// As one word of a POSIX shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
