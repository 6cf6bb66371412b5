//! A market on a local chain: Chainlink-style feeds, and Uniswap v3 pools from Uniswap's own code.
//!
//! The feeds are test contracts of ours. Uniswap's factory, which contains the pool's code, is read
//! at run time from the pinned npm package: it is not ours to distribute.

use alloy::primitives::aliases::{I24, U24, U80, U160};
use alloy::primitives::{Address, Bytes, I256, U256};
use alloy::sol;
use alloy::sol_types::SolCall;
use serde::Deserialize;

use super::LocalChain;
use super::contracts::{TestToken, with_arguments};
use super::fixtures::Fixture;
use super::local::GAS_TO_CREATE;
use crate::devnet::error::DevnetError;

sol!(TestAggregator, "anvil-fixtures/artifacts/TestAggregator.json");
sol!(TestFeedProxy, "anvil-fixtures/artifacts/TestFeedProxy.json");
sol!(PoolActor, "anvil-fixtures/artifacts/PoolActor.json");

sol! {
    /// What is used here of Uniswap's factory.
    interface IUniswapV3Factory {
        function createPool(address tokenA, address tokenB, uint24 fee) returns (address pool);
        function getPool(address tokenA, address tokenB, uint24 fee) view returns (address pool);
    }

    /// What is used here, and looked at by tests, of Uniswap's pool.
    interface IUniswapV3Pool {
        function initialize(uint160 sqrtPriceX96);
        function increaseObservationCardinalityNext(uint16 observationCardinalityNext);
        function token0() view returns (address);
        function token1() view returns (address);
        function tickSpacing() view returns (int24);
        function liquidity() view returns (uint128);
        function slot0() view returns (
            uint160 sqrtPriceX96,
            int24 tick,
            uint16 observationIndex,
            uint16 observationCardinality,
            uint16 observationCardinalityNext,
            uint8 feeProtocol,
            bool unlocked
        );
        function observe(uint32[] secondsAgos) view returns (
            int56[] tickCumulatives,
            uint160[] secondsPerLiquidityCumulativeX128s
        );
    }
}

const FACTORY: Fixture = Fixture {
    package: "@uniswap/v3-core",
    file: "artifacts/contracts/UniswapV3Factory.sol/UniswapV3Factory.json",
};

/// The highest tick of any pool; the lowest is its negative.
const TICK_MAX: i32 = 887_272;
/// What an actor is given of each token, as a power of two: more than a pool can ever take.
const PURSE_BITS: u32 = 200;

/// A Chainlink-style feed.
#[derive(Debug, Clone, Copy)]
pub struct Feed {
    /// What is read.
    pub proxy: Address,
    /// What it points to now: the newest phase.
    pub aggregator: Address,
}

/// How a pool begins.
#[derive(Debug, Clone, Copy)]
pub struct PoolOptions {
    /// In millionths: 500, 3000 or 10000.
    pub fee: u32,
    /// The price of token0 in token1, as [`sqrt_price_x96`] makes it.
    pub sqrt_price_x96: U256,
    /// Over all prices.
    pub liquidity: u128,
    /// How many observations it can keep, one per block with a trade; at most 600.
    pub observations: u16,
}

/// A Uniswap v3 pool, and who provides its liquidity and trades in it.
#[derive(Debug, Clone, Copy)]
pub struct Pool {
    /// The pool.
    pub address: Address,
    /// The token with the lower address.
    pub token0: Address,
    /// The other one.
    pub token1: Address,
    /// A [`PoolActor`] with plenty of both.
    pub actor: Address,
}

/// The square root of `amount1 / amount0` as pools write it, for raw units of the two that are worth
/// the same. Nothing may be worth nothing.
pub fn sqrt_price_x96(amount0: u64, amount1: u64) -> U256 {
    (U256::from(amount1) << 192_u32).checked_div(U256::from(amount0)).unwrap_or_default().root(2)
}

impl LocalChain {
    /// Deploys a feed without any round.
    pub async fn deploy_feed(&self, decimals: u8, description: &str) -> Result<Feed, DevnetError> {
        let aggregator = self.deploy_aggregator(decimals, description).await?;
        let arguments = TestFeedProxy::constructorCall { aggregator_: aggregator };
        let proxy = self.deploy(with_arguments(&TestFeedProxy::BYTECODE, &arguments)).await?;
        Ok(Feed { proxy, aggregator })
    }

    /// Replaces a feed's aggregator by one without any round.
    pub async fn next_phase(
        &self,
        feed: &mut Feed,
        decimals: u8,
        description: &str,
    ) -> Result<(), DevnetError> {
        feed.aggregator = self.deploy_aggregator(decimals, description).await?;
        let call = TestFeedProxy::setAggregatorCall { aggregator_: feed.aggregator };
        self.transact(feed.proxy, call).await.map(drop)
    }

    async fn deploy_aggregator(
        &self,
        decimals: u8,
        description: &str,
    ) -> Result<Address, DevnetError> {
        let arguments = TestAggregator::constructorCall {
            decimals_: decimals,
            description_: description.into(),
            version_: U256::from(4), // as most feeds say
        };
        self.deploy(with_arguments(&TestAggregator::BYTECODE, &arguments)).await
    }

    /// The next round of a feed, answered now.
    pub async fn answer(&self, feed: &Feed, answer: i128) -> Result<(), DevnetError> {
        let call = TestAggregator::submitCall { answer: I256::unchecked_from(answer) };
        self.transact(feed.aggregator, call).await.map(drop)
    }

    /// Sets a round of an aggregator, without the phase in its id, and makes it the latest.
    pub async fn set_round(
        &self,
        aggregator: Address,
        round: u64,
        answer: I256,
        started_at: u64,
        updated_at: u64,
    ) -> Result<(), DevnetError> {
        let call = TestAggregator::setRoundCall {
            roundId: U80::from(round),
            answer,
            startedAt: U256::from(started_at),
            updatedAt: U256::from(updated_at),
        };
        self.transact(aggregator, call).await.map(drop)
    }

    /// Deploys Uniswap's factory.
    ///
    /// # Errors
    /// When it cannot be installed, or the transaction fails.
    pub async fn deploy_factory(&self) -> Result<Address, DevnetError> {
        let code = tokio::task::spawn_blocking(factory_code).await;
        let code = code.map_err(|e| DevnetError::Uniswap(e.to_string()))?;
        self.deploy(code.map_err(DevnetError::Uniswap)?).await
    }

    /// Creates a pool of two tokens that have an open `mint`, with liquidity over all prices.
    ///
    /// # Errors
    /// When a transaction fails, as when there is such a pool already.
    pub async fn deploy_pool(
        &self,
        factory: Address,
        (token_a, token_b): (Address, Address),
        options: PoolOptions,
    ) -> Result<Pool, DevnetError> {
        let (token0, token1) = (token_a.min(token_b), token_a.max(token_b));
        let fee = U24::saturating_from(options.fee);
        let call = IUniswapV3Factory::createPoolCall { tokenA: token0, tokenB: token1, fee };
        self.transact_with_more(factory, call).await?;
        let call = IUniswapV3Factory::getPoolCall { tokenA: token0, tokenB: token1, fee };
        let address = self.view(factory, call).await?;
        let call = IUniswapV3Pool::initializeCall {
            sqrtPriceX96: U160::saturating_from(options.sqrt_price_x96),
        };
        self.transact(address, call).await?;
        let call = IUniswapV3Pool::increaseObservationCardinalityNextCall {
            observationCardinalityNext: options.observations,
        };
        self.transact_with_more(address, call).await?;

        let actor = self.deploy(PoolActor::BYTECODE.clone()).await?;
        let value = U256::ONE << PURSE_BITS;
        for token in [token0, token1] {
            self.transact(token, TestToken::mintCall { to: actor, value }).await?;
        }
        let spacing = self.view(address, IUniswapV3Pool::tickSpacingCall {}).await?;
        let tick = I24::unchecked_from(TICK_MAX) / spacing * spacing;
        let call = PoolActor::mintCall {
            pool: address,
            tickLower: -tick,
            tickUpper: tick,
            amount: options.liquidity,
        };
        self.transact(actor, call).await?;
        Ok(Pool { address, token0, token1, actor })
    }

    /// A pool of Uniswap's own in which a token of 18 decimals costs two cents of a dollar of six,
    /// with room for a minute of observations.
    pub async fn deploy_two_cent_pool(
        &self,
        token: Address,
        dollar: Address,
    ) -> Result<Pool, DevnetError> {
        const TOKEN: u64 = 1_000_000_000_000_000_000;
        const CENTS: u64 = 20_000;
        let (amount0, amount1) = if token < dollar { (TOKEN, CENTS) } else { (CENTS, TOKEN) };
        let options = PoolOptions {
            fee: 3_000,
            sqrt_price_x96: sqrt_price_x96(amount0, amount1),
            liquidity: u128::from(TOKEN),
            observations: 60,
        };
        let factory = self.deploy_factory().await?;
        self.deploy_pool(factory, (token, dollar), options).await
    }

    /// Sells so many raw units of token0 for token1, or of token1 for token0, at any price.
    pub async fn swap(
        &self,
        pool: &Pool,
        zero_for_one: bool,
        amount: u128,
    ) -> Result<(), DevnetError> {
        let call = PoolActor::swapCall {
            pool: pool.address,
            zeroForOne: zero_for_one,
            amountSpecified: I256::unchecked_from(amount),
            sqrtPriceLimitX96: U160::ZERO,
        };
        self.transact(pool.actor, call).await.map(drop)
    }

    /// Moves the price by a swap and back to exactly what it was, in one transaction.
    ///
    /// # Errors
    /// When the transaction fails, as when the amount is too small to move the price.
    pub async fn there_and_back(
        &self,
        pool: &Pool,
        zero_for_one: bool,
        amount: u128,
    ) -> Result<(), DevnetError> {
        let call = PoolActor::thereAndBackCall {
            pool: pool.address,
            zeroForOne: zero_for_one,
            amountSpecified: I256::unchecked_from(amount),
        };
        self.transact(pool.actor, call).await.map(drop)
    }

    /// For calls that create contracts or fill much storage.
    async fn transact_with_more(&self, to: Address, call: impl SolCall) -> Result<(), DevnetError> {
        let data = call.abi_encode().into();
        let tx = self.send_with(GAS_TO_CREATE, self.payer(), Some(to), data).await?;
        self.mined(tx).await.map(drop)
    }
}

fn factory_code() -> Result<Bytes, String> {
    #[derive(Deserialize)]
    struct Artifact {
        bytecode: Bytes,
    }
    let text = std::fs::read(FACTORY.path()?).map_err(|e| e.to_string())?;
    let artifact: Artifact = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    Ok(artifact.bytecode)
}
