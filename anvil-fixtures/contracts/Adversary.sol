// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {TokenCalls} from "./lib/TokenCalls.sol";

/// Resembles no real token. It has what is needed to be LISTED as one (`decimals`, `symbol`,
/// `balanceOf`), and then emits whatever log a test wants, from its own address: a `Transfer` with dirty
/// address topics, with short or long data, with three indexed arguments or none, with amounts no
/// balance backs, or many of them in one transaction.
///
/// Deliberately there is no `transfer`: nothing here ever moves, so every `Transfer` it emits is a lie.
contract Adversary {
    string public constant name = "Adversary";
    string public constant symbol = "ODD";
    uint8 public constant decimals = 6;
    uint256 public constant totalSupply = 0;

    function balanceOf(address) external pure returns (uint256) {
        return 0;
    }

    /// Emits exactly this log: LOG0 to LOG4 by the number of topics; reverts above four.
    function emitLog(bytes32[] calldata topics, bytes calldata data) external {
        _emit(topics, data);
    }

    /// One log per index, in order.
    function emitMany(bytes32[][] calldata topics, bytes[] calldata data) external {
        require(topics.length == data.length, "adversary: lengths differ");
        for (uint256 i = 0; i < topics.length; i++) {
            _emit(topics[i], data[i]);
        }
    }

    /// Address poisoning: moves 0 of a real token between two strangers, `times` times. The token
    /// itself emits the `Transfer(from, to, 0)`.
    function zeroTransferFrom(address token, address from, address to, uint256 times) external {
        for (uint256 i = 0; i < times; i++) {
            TokenCalls.payFrom(token, from, to, 0);
        }
    }

    function _emit(bytes32[] calldata topics, bytes memory data) private {
        require(topics.length <= 4, "adversary: more than four topics");
        bytes32[4] memory t;
        for (uint256 i = 0; i < topics.length; i++) t[i] = topics[i];
        (bytes32 a, bytes32 b, bytes32 c, bytes32 d) = (t[0], t[1], t[2], t[3]);
        uint256 count = topics.length;
        assembly {
            let start := add(data, 32)
            let size := mload(data)
            switch count
            case 0 { log0(start, size) }
            case 1 { log1(start, size, a) }
            case 2 { log2(start, size, a, b) }
            case 3 { log3(start, size, a, b, c) }
            default { log4(start, size, a, b, c, d) }
        }
    }
}
