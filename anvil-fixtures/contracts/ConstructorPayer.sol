// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {TokenCalls} from "./lib/TokenCalls.sol";

/// Pays from its CONSTRUCTOR: while it runs there is no code at the paying address yet, and when an
/// account deploys it directly, the transaction that carries the transfer has no `to`. It mints what it
/// pays, so the token must have an open `mint`: two logs, the mint's and the payment's.
contract ConstructorPayer {
    constructor(address token, address to, uint256 amount) {
        TokenCalls.must(token, abi.encodeWithSignature("mint(address,uint256)", address(this), amount));
        TokenCalls.pay(token, to, amount);
    }
}
