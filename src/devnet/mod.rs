//! A local chain for the demo and the tests: anvil, our test contracts, and somebody who pays.
//!
//! Accounts are anvil's own unlocked ones, so that no private key is here either. It is never used
//! by the daemon: nothing but `cli::demo` and the tests may name it.

mod anvil;
mod contracts;
#[cfg(unix)]
mod postgres;

use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, TxHash};
use alloy::sol_types::SolCall;
use serde::Deserialize;
use serde_json::{Value, json};

pub use anvil::{Anvil, AnvilError, AnvilOptions};
pub use contracts::{Adversary, Relay, TestNFT, TestProxy, TestToken, TestUSDC, TestUSDT, Tokens};
#[cfg(unix)]
pub use postgres::{Postgres, PostgresError, PostgresOptions, PostgresSource, StopMode};

use crate::chain::rpc::RpcSource;
use crate::chain::{ChainSource, SourceError};

/// Gas given to every transaction: more than any of ours needs, so that none asks for an estimate.
const GAS: u64 = 5_000_000;
const TIMEOUT: Duration = Duration::from_secs(20);

/// Why the local chain did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DevnetError {
    /// anvil itself.
    #[error(transparent)]
    Anvil(#[from] AnvilError),
    /// A request.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A transaction failed or vanished.
    #[error("transaction {tx}: {why}")]
    Transaction {
        /// Which.
        tx: TxHash,
        /// Why.
        why: &'static str,
    },
}

/// A receipt, as far as the demo and the tests read it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DevReceipt {
    /// Where it was mined.
    pub block_hash: B256,
    /// 1 for success.
    pub status: alloy::primitives::U64,
    /// What it created.
    pub contract_address: Option<Address>,
    /// How many logs it has.
    pub logs: Vec<Value>,
}

/// A local chain.
#[derive(Debug)]
pub struct Devnet {
    /// The process.
    pub anvil: Anvil,
    /// A way to ask it.
    pub rpc: RpcSource,
    /// Unlocked accounts with ether.
    pub accounts: Vec<Address>,
}

impl Devnet {
    /// Starts anvil and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be found, installed or started.
    pub async fn start(options: AnvilOptions) -> Result<Self, DevnetError> {
        let anvil = Anvil::start(options).await?;
        let rpc = RpcSource::new("anvil".into(), anvil.http(), None, TIMEOUT)?;
        let accounts = rpc.ask("eth_accounts", ()).await?;
        Ok(Self { anvil, rpc, accounts })
    }

    /// The account that deploys and pays, unless another is named.
    #[must_use]
    pub fn payer(&self) -> Address {
        self.accounts.first().copied().unwrap_or_default()
    }

    /// Puts a transaction into the pool.
    ///
    /// # Errors
    /// When anvil refuses it.
    pub async fn send_data(
        &self,
        from: Address,
        to: Option<Address>,
        data: Bytes,
    ) -> Result<TxHash, DevnetError> {
        let mut tx = json!({ "from": from, "data": data, "gas": format!("{GAS:#x}") });
        if let (Some(to), Some(fields)) = (to, tx.as_object_mut()) {
            fields.insert("to".into(), json!(to));
        }
        Ok(self.rpc.ask("eth_sendTransaction", (tx,)).await?)
    }

    /// Puts a call into the pool, from the payer.
    ///
    /// # Errors
    /// When anvil refuses it.
    pub async fn send<C: SolCall>(&self, to: Address, call: C) -> Result<TxHash, DevnetError> {
        self.send_data(self.payer(), Some(to), call.abi_encode().into()).await
    }

    /// A receipt, or `None` while the transaction is not mined.
    ///
    /// # Errors
    /// When anvil does not answer.
    pub async fn receipt(&self, tx: TxHash) -> Result<Option<DevReceipt>, DevnetError> {
        Ok(self.rpc.ask("eth_getTransactionReceipt", (tx,)).await?)
    }

    /// Sends a call and waits until it is mined and has succeeded. Mines a block if nobody does.
    ///
    /// # Errors
    /// When it fails.
    pub async fn transact<C: SolCall>(
        &self,
        to: Address,
        call: C,
    ) -> Result<(TxHash, DevReceipt), DevnetError> {
        let tx = self.send(to, call).await?;
        Ok((tx, self.mined(tx).await?))
    }

    /// Waits for a transaction that was sent.
    ///
    /// # Errors
    /// When it fails or does not get mined.
    pub async fn mined(&self, tx: TxHash) -> Result<DevReceipt, DevnetError> {
        for attempt in 0u32..500 {
            if let Some(receipt) = self.receipt(tx).await? {
                if receipt.status != alloy::primitives::U64::from(1) {
                    return Err(DevnetError::Transaction { tx, why: "it was reverted" });
                }
                return Ok(receipt);
            }
            if attempt % 20 == 19 {
                self.mine(1).await?;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(DevnetError::Transaction { tx, why: "it is not mined" })
    }

    /// Deploys a contract from its creation code.
    ///
    /// # Errors
    /// When its constructor fails.
    pub async fn deploy(&self, code: Bytes) -> Result<Address, DevnetError> {
        let tx = self.send_data(self.payer(), None, code).await?;
        let none = DevnetError::Transaction { tx, why: "it created no contract" };
        self.mined(tx).await?.contract_address.ok_or(none)
    }

    /// Mines blocks.
    ///
    /// # Errors
    /// When anvil does not answer.
    pub async fn mine(&self, blocks: u64) -> Result<(), DevnetError> {
        Ok(self.rpc.ask::<_, Value>("anvil_mine", (blocks,)).await.map(drop)?)
    }

    /// Mines at each transaction, or not.
    ///
    /// # Errors
    /// When anvil does not answer.
    pub async fn automine(&self, on: bool) -> Result<(), DevnetError> {
        Ok(self.rpc.ask::<_, Value>("evm_setAutomine", (on,)).await.map(drop)?)
    }

    /// Height of the tip.
    ///
    /// # Errors
    /// When anvil does not answer.
    pub async fn height(&self) -> Result<u64, DevnetError> {
        Ok(self.rpc.latest().await?.number)
    }

    /// The signed bytes of a transaction, to have it mined again with the same hash.
    ///
    /// # Errors
    /// When the chain does not know it.
    pub async fn raw(&self, tx: TxHash) -> Result<Bytes, DevnetError> {
        Ok(self.rpc.ask("eth_getRawTransactionByHash", (tx,)).await?)
    }

    /// Puts signed bytes into the pool.
    ///
    /// # Errors
    /// When anvil refuses them.
    pub async fn send_raw(&self, raw: &Bytes) -> Result<TxHash, DevnetError> {
        Ok(self.rpc.ask("eth_sendRawTransaction", (raw,)).await?)
    }

    /// Replaces the newest `depth` blocks; each transaction goes into the block at its offset, 0
    /// being the first replaced one. Those left out are dropped.
    ///
    /// # Errors
    /// When anvil refuses.
    pub async fn reorg(&self, depth: u64, txs: &[(Bytes, u64)]) -> Result<(), DevnetError> {
        Ok(self.rpc.ask::<_, Value>("anvil_reorg", (depth, txs)).await.map(drop)?)
    }

    /// Calls a view function.
    ///
    /// # Errors
    /// When it reverts or answers something else.
    pub async fn view<C: SolCall>(&self, to: Address, call: C) -> Result<C::Return, DevnetError> {
        let request = json!({ "to": to, "data": Bytes::from(call.abi_encode()) });
        let answer: Bytes = self.rpc.ask("eth_call", (request, "latest")).await?;
        C::abi_decode_returns(&answer).map_err(|e| {
            DevnetError::Source(SourceError::Invalid {
                provider: "anvil".into(),
                method: "eth_call",
                why: e.to_string(),
            })
        })
    }
}
