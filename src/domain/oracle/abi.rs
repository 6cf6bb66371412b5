//! What contracts that say prices are asked: their interfaces, as their authors published them.

use alloy::sol;

sol! {
    /// AggregatorV3Interface.sol, smartcontractkit/chainlink.
    #[derive(Debug)]
    interface Aggregator {
        function decimals() external view returns (uint8);
        function description() external view returns (string);
        function latestRoundData() external view returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound);
        function getRoundData(uint80 roundId) external view returns (uint80 id, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound);
    }
}

sol! {
    /// IUniswapV3PoolState.sol and IUniswapV3PoolDerivedState.sol, Uniswap/v3-core; but that PancakeSwap's
    /// pools, which are the same otherwise, have a uint32 as `feeProtocol`.
    #[derive(Debug)]
    interface UniswapV3Pool {
        function token0() external view returns (address);
        function token1() external view returns (address);
        function slot0() external view returns (uint160 sqrtPriceX96, int24 tick, uint16 observationIndex, uint16 observationCardinality, uint16 observationCardinalityNext, uint32 feeProtocol, bool unlocked);
        function observe(uint32[] secondsAgos) external view returns (int56[] tickCumulatives, uint160[] secondsPerLiquidityCumulativeX128s);
    }
}
