// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {TokenCalls} from "./lib/TokenCalls.sol";

/// What is used here of a Uniswap v3 pool.
interface IPool {
    function token0() external view returns (address);
    function token1() external view returns (address);
    function slot0() external view returns (uint160, int24, uint16, uint16, uint16, uint8, bool);
    function mint(address recipient, int24 tickLower, int24 tickUpper, uint128 amount, bytes calldata data)
        external
        returns (uint256, uint256);
    function swap(
        address recipient,
        bool zeroForOne,
        int256 amountSpecified,
        uint160 sqrtPriceLimitX96,
        bytes calldata data
    ) external returns (int256, int256);
}

/// Provides liquidity to Uniswap v3 pools and trades in them: the market maker, the trader and the
/// manipulator of an oracle. Pools are paid in callbacks, so it takes a contract; it pays out of its own
/// balance and gets back what it buys. Give it tokens by `mint` first.
///
/// Unlike a real router, on purpose: everybody may use it, nothing limits what a trade costs, and anybody
/// who calls the callbacks as a pool would is paid.
contract PoolActor {
    /// One inside of TickMath's `MIN_SQRT_RATIO` and `MAX_SQRT_RATIO`: the ends of every pool.
    uint160 private constant LOWEST = 4295128740;
    uint160 private constant HIGHEST = 1461446703485210103287273052203988822378723970341;

    function mint(IPool pool, int24 tickLower, int24 tickUpper, uint128 amount) external {
        pool.mint(address(this), tickLower, tickUpper, amount, "");
    }

    /// Stops at the limit even if the amount is not used up; a limit of 0 is none.
    function swap(IPool pool, bool zeroForOne, int256 amountSpecified, uint160 sqrtPriceLimitX96) public {
        if (sqrtPriceLimitX96 == 0) sqrtPriceLimitX96 = zeroForOne ? LOWEST : HIGHEST;
        pool.swap(address(this), zeroForOne, amountSpecified, sqrtPriceLimitX96, "");
    }

    /// Moves the price and puts it back to exactly what it was, within one transaction. Who reads the
    /// price in between would see any price; who reads it after, or an average over time, sees nothing.
    function thereAndBack(IPool pool, bool zeroForOne, int256 amountSpecified) external {
        (uint160 before,,,,,,) = pool.slot0();
        swap(pool, zeroForOne, amountSpecified, 0);
        swap(pool, !zeroForOne, type(int256).max, before);
    }

    function uniswapV3MintCallback(uint256 amount0Owed, uint256 amount1Owed, bytes calldata) external {
        if (amount0Owed > 0) TokenCalls.pay(IPool(msg.sender).token0(), msg.sender, amount0Owed);
        if (amount1Owed > 0) TokenCalls.pay(IPool(msg.sender).token1(), msg.sender, amount1Owed);
    }

    /// The positive one is what the pool is owed.
    function uniswapV3SwapCallback(int256 amount0Delta, int256 amount1Delta, bytes calldata) external {
        if (amount0Delta > 0) TokenCalls.pay(IPool(msg.sender).token0(), msg.sender, uint256(amount0Delta));
        if (amount1Delta > 0) TokenCalls.pay(IPool(msg.sender).token1(), msg.sender, uint256(amount1Delta));
    }
}
