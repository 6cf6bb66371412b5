// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ConstructorPayer} from "./ConstructorPayer.sol";
import {TokenCalls} from "./lib/TokenCalls.sol";

/// Holds tokens and pays them out when anybody asks: the exchange's hot wallet, the batch payer and the
/// smart account, whose transfers are not to be seen in the transaction's `to`, `from` or input. One log
/// per payment, all of them the token's; it emits none of its own.
///
/// Unlike a real one, on purpose: no owner, no limits. Give it tokens by `mint` before it pays.
contract Relay {
    /// What the inner call of `payWithInnerRevert` ends with, after its transfer went through.
    error Undone();

    function pay(address token, address to, uint256 amount) external {
        TokenCalls.pay(token, to, amount);
    }

    /// One token, many payments; the same recipient may occur more than once.
    function payMany(address token, address[] calldata to, uint256[] calldata amounts) external {
        require(to.length == amounts.length, "relay: lengths differ");
        for (uint256 i = 0; i < to.length; i++) {
            TokenCalls.pay(token, to[i], amounts[i]);
        }
    }

    /// Several tokens and recipients in one transaction, in the order given.
    function payAssorted(address[] calldata tokens, address[] calldata to, uint256[] calldata amounts) external {
        require(tokens.length == to.length && to.length == amounts.length, "relay: lengths differ");
        for (uint256 i = 0; i < tokens.length; i++) {
            TokenCalls.pay(tokens[i], to[i], amounts[i]);
        }
    }

    /// A transfer that is undone inside a transaction that succeeds, and one that stays. Only the latter
    /// leaves a log; who reads calldata or traces sees two. Fails if the inner transfer fails by itself,
    /// so that a test cannot pass because the balance was too low.
    function payWithInnerRevert(address token, address to, uint256 amountReverted, uint256 amountOk) external {
        try this.payThenRevert(token, to, amountReverted) {
            assert(false);
        } catch (bytes memory reason) {
            require(bytes4(reason) == Undone.selector, "relay: the inner payment failed by itself");
        }
        TokenCalls.pay(token, to, amountOk);
    }

    /// The inner call of `payWithInnerRevert`. Always reverts.
    function payThenRevert(address token, address to, uint256 amount) external {
        TokenCalls.pay(token, to, amount);
        revert Undone();
    }

    /// The payment is made by the constructor of a new contract; see `ConstructorPayer`.
    function deployAndPay(address token, address to, uint256 amount) external returns (address) {
        return address(new ConstructorPayer(token, to, amount));
    }
}
