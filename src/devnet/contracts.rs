//! The test contracts, from the committed artifacts, and the three tokens deployed together.

use alloy::primitives::{Address, Bytes, U256};
use alloy::sol;
use alloy::sol_types::{SolCall, SolConstructor};

use super::LocalChain;
use crate::devnet::error::DevnetError;

sol!(TestUSDT, "anvil-fixtures/artifacts/TestUSDT.json");
sol!(TestUSDC, "anvil-fixtures/artifacts/TestUSDC.json");
sol!(TestProxy, "anvil-fixtures/artifacts/TestProxy.json");
sol!(TestToken, "anvil-fixtures/artifacts/TestToken.json");
sol!(TestNFT, "anvil-fixtures/artifacts/TestNFT.json");
sol!(Relay, "anvil-fixtures/artifacts/Relay.json");
sol!(Adversary, "anvil-fixtures/artifacts/Adversary.json");

/// What the payer is given of each token, in whole tokens.
const PURSE: u64 = 1_000_000_000;

/// The three tokens that payments come in.
#[derive(Debug, Clone, Copy)]
pub struct Tokens {
    /// Tether-like: 6 decimals, returns nothing, may take a fee.
    pub usdt: Address,
    /// USDC-like: 6 decimals, behind a proxy.
    pub usdc: Address,
    /// $RTITY: 18 decimals.
    pub rtity: Address,
}

impl LocalChain {
    /// Deploys the tokens and fills the payer's purse.
    pub async fn deploy_tokens(&self) -> Result<Tokens, DevnetError> {
        let usdt = self.deploy(TestUSDT::BYTECODE.clone()).await?;
        let implementation = self.deploy(TestUSDC::BYTECODE.clone()).await?;
        let initialize = TestUSDC::initializeCall {
            name_: "USD Coin".into(),
            symbol_: "USDC".into(),
            decimals_: 6,
        };
        let proxy =
            TestProxy::constructorCall { implementation, initData: initialize.abi_encode().into() };
        let usdc = self.deploy(with_arguments(&TestProxy::BYTECODE, &proxy)).await?;
        let rtity = self.deploy_token("Resultity", "RTITY", 18).await?;
        let to = self.payer();
        for (token, decimals) in [(usdt, 6u64), (usdc, 6), (rtity, 18)] {
            let amount = U256::from(PURSE).saturating_mul(U256::from(10).pow(U256::from(decimals)));
            self.transact(token, TestToken::mintCall { to, value: amount }).await?;
        }
        Ok(Tokens { usdt, usdc, rtity })
    }

    /// Deploys a plain token, such as one that only looks like another.
    pub async fn deploy_token(
        &self,
        name: &str,
        symbol: &str,
        decimals: u8,
    ) -> Result<Address, DevnetError> {
        let arguments = TestToken::constructorCall {
            name_: name.into(),
            symbol_: symbol.into(),
            decimals_: decimals,
        };
        self.deploy(with_arguments(&TestToken::BYTECODE, &arguments)).await
    }
}

/// Creation code with the constructor's arguments after it.
pub(super) fn with_arguments(code: &Bytes, arguments: &impl SolConstructor) -> Bytes {
    [code.as_ref(), &arguments.abi_encode()].concat().into()
}
