//! A local chain for the demo and the tests: anvil, our test contracts, and somebody who pays.
//!
//! Accounts are the node's own unlocked ones, so that no private key is here either. It is never
//! used by the daemon: nothing but `cli::demo` and the tests may name it.

mod anvil;
mod contracts;
pub mod error;
mod fixtures;
mod local;
mod market;
mod payer;
#[cfg(unix)]
mod postgres;
pub mod proxy;
#[cfg(unix)]
mod watchdog;
mod web;

use std::ops::Deref;

use alloy::primitives::{Bytes, TxHash};
use serde_json::Value;

use crate::devnet::error::DevnetError;

#[cfg(unix)]
pub use crate::devnet::postgres::home::{PostgresError, PostgresSource};
pub use anvil::{Anvil, AnvilError, AnvilOptions};
pub use contracts::{Adversary, Relay, TestNFT, TestProxy, TestToken, TestUSDC, TestUSDT, Tokens};
pub use local::{DevReceipt, LocalChain};
pub use market::{
    Feed, IUniswapV3Factory, IUniswapV3Pool, Pool, PoolActor, PoolOptions, TestAggregator,
    TestFeedProxy, sqrt_price_x96,
};
pub use payer::Payer;
#[cfg(unix)]
pub use postgres::{Postgres, PostgresOptions, StopMode};

pub use web::{Handler, WebServer};

/// anvil, and what only anvil can do; the rest is in [`LocalChain`], which this stands for.
#[derive(Debug)]
pub struct Devnet {
    /// The process.
    pub anvil: Anvil,
    chain: LocalChain,
}

impl Deref for Devnet {
    type Target = LocalChain;

    fn deref(&self) -> &LocalChain {
        &self.chain
    }
}

impl Devnet {
    /// Starts anvil and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be found, installed or started.
    pub async fn start(options: AnvilOptions) -> Result<Self, DevnetError> {
        let anvil = Anvil::start(options).await?;
        let chain = LocalChain::at(anvil.http(), anvil.ws()).await?;
        Ok(Self { anvil, chain })
    }

    /// Another anvil with the same blocks, hash by hash. From here on each mines its own, so that
    /// the two are the branches of a fork.
    ///
    /// # Errors
    /// When it cannot be started, or one of the two refuses.
    pub async fn twin(&self) -> Result<Self, DevnetError> {
        let options = AnvilOptions { port: 0, state: None, ..self.anvil.options().clone() };
        let twin = Self::start(options).await?;
        twin.load(&self.dump().await?).await?;
        Ok(twin)
    }

    /// The whole chain, with the state after each block: a chain without it cannot be reorganised.
    pub async fn dump(&self) -> Result<Bytes, DevnetError> {
        Ok(self.rpc.ask("anvil_dumpState", (true,)).await?)
    }

    /// Takes over a chain that was dumped. Meant for an anvil that has mined nothing: it does not
    /// forget blocks of its own above the dump's tip. The pool is not part of a dump.
    ///
    /// # Errors
    /// When anvil refuses it.
    pub async fn load(&self, dump: &Bytes) -> Result<(), DevnetError> {
        Ok(self.rpc.ask::<bool>("anvil_loadState", (dump,)).await.map(drop)?)
    }

    /// Mines at each transaction, or not.
    pub async fn automine(&self, on: bool) -> Result<(), DevnetError> {
        Ok(self.rpc.ask::<Value>("evm_setAutomine", (on,)).await.map(drop)?)
    }

    /// Mines one block with this timestamp, in seconds. Time goes on from there.
    ///
    /// # Errors
    /// When it is not after the tip's.
    pub async fn mine_at(&self, timestamp: u64) -> Result<(), DevnetError> {
        self.rpc.ask::<Value>("evm_setNextBlockTimestamp", (timestamp,)).await?;
        self.mine(1).await
    }

    /// Puts signed bytes into the pool.
    ///
    /// # Errors
    /// When anvil refuses them.
    pub async fn send_raw(&self, raw: &Bytes) -> Result<TxHash, DevnetError> {
        Ok(self.rpc.ask("eth_sendRawTransaction", (raw,)).await?)
    }
}

impl LocalChain {
    /// The signed bytes of a transaction, to have it mined again with the same hash.
    ///
    /// # Errors
    /// When the chain does not know it.
    pub async fn raw(&self, tx: TxHash) -> Result<Bytes, DevnetError> {
        Ok(self.rpc.ask("eth_getRawTransactionByHash", (tx,)).await?)
    }

    /// Replaces the newest `depth` blocks; each transaction goes into the block at its offset, 0
    /// being the first replaced one. Those left out are dropped.
    pub async fn reorg(&self, depth: u64, txs: &[(Bytes, u64)]) -> Result<(), DevnetError> {
        Ok(self.rpc.ask::<Value>("anvil_reorg", (depth, txs)).await.map(drop)?)
    }
    /// Replaces the blocks from this height on: every transaction stays at its height, but for these.
    pub async fn reorg_without(&self, from: u64, dropped: &[TxHash]) -> Result<(), DevnetError> {
        let height = self.height().await?;
        let mut kept = Vec::new();
        for (offset, number) in (0u64..).zip(from..=height) {
            for tx in self.transactions(number).await? {
                if !dropped.contains(&tx) {
                    kept.push((self.raw(tx).await?, offset));
                }
            }
        }
        self.reorg(height.saturating_sub(from).saturating_add(1), &kept).await
    }
}
