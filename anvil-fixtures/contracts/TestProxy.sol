// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// An upgradeable proxy, as USDC stands behind one: calls run the implementation's code on this
/// contract's storage, and logs carry this contract's address.
///
/// Like the real ones: the implementation's address is in the EIP-1967 slot, where `eth_getStorageAt`
/// finds it, and an upgrade emits `Upgraded`.
///
/// Unlike the real ones, on purpose: everybody may call `upgradeTo`, there is no admin, so no
/// admin slot either; the constructor emits nothing of its own. (Circle's proxy on Ethereum is older than
/// EIP-1967 and keeps its implementation in a slot of another name.)
contract TestProxy {
    /// keccak256("eip1967.proxy.implementation") - 1
    bytes32 private constant IMPLEMENTATION_SLOT =
        0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc;

    event Upgraded(address indexed implementation);

    /// `initData` is a call to the implementation, made once from here; empty for none.
    constructor(address implementation, bytes memory initData) {
        _set(implementation);
        if (initData.length > 0) {
            (bool ok, bytes memory out) = implementation.delegatecall(initData);
            if (!ok) {
                assembly {
                    revert(add(out, 32), mload(out))
                }
            }
        }
    }

    function upgradeTo(address implementation) external {
        _set(implementation);
        emit Upgraded(implementation);
    }

    /// Not payable: a token wants no ether.
    fallback() external {
        bytes32 slot = IMPLEMENTATION_SLOT;
        assembly {
            calldatacopy(0, 0, calldatasize())
            let ok := delegatecall(gas(), sload(slot), 0, calldatasize(), 0, 0)
            returndatacopy(0, 0, returndatasize())
            switch ok
            case 0 { revert(0, returndatasize()) }
            default { return(0, returndatasize()) }
        }
    }

    function _set(address implementation) private {
        require(implementation.code.length > 0, "proxy: no code there");
        bytes32 slot = IMPLEMENTATION_SLOT;
        assembly {
            sstore(slot, implementation)
        }
    }
}
