// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// Calls on tokens that may return nothing (USDT) or `true` (the others). A plain Solidity call would
/// revert on the former, where it misses the promised return value.
library TokenCalls {
    function pay(address token, address to, uint256 amount) internal {
        must(token, abi.encodeWithSignature("transfer(address,uint256)", to, amount));
    }

    function payFrom(address token, address from, address to, uint256 amount) internal {
        must(token, abi.encodeWithSignature("transferFrom(address,address,uint256)", from, to, amount));
    }

    /// Fails unless there is code at `token`, the call succeeds, and it returns nothing or `true`.
    function must(address token, bytes memory data) internal {
        require(token.code.length > 0, "no token there");
        (bool ok, bytes memory out) = token.call(data);
        if (!ok) {
            assembly {
                revert(add(out, 32), mload(out))
            }
        }
        require(out.length == 0 || abi.decode(out, (bool)), "token said false");
    }
}
