// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// A stand-in for the implementation behind Circle's USDC. Use it through `TestProxy`, with
/// `initialize(...)` as the proxy's init data.
///
/// Like the real one:
/// - the address that emits the logs and holds the balances is the proxy; this contract is only its code,
///   set up by `initialize` and not by a constructor;
/// - 6 decimals, functions return `true`;
/// - the zero address can neither be paid nor pay, and neither can one that is black-listed;
/// - moving 0 needs no allowance.
///
/// Unlike the real one, on purpose:
/// - everybody may mint (`Transfer` from the zero address, without the real `Mint` event beside it);
/// - everybody may black-list, and no event says so;
/// - no pause (`TestUSDT` has one), no permit, no EIP-3009 `transferWithAuthorization`;
/// - `initialize` takes three arguments instead of eight.
contract TestUSDC {
    string public name;
    string public symbol;
    uint8 public decimals;
    bool public initialized;
    uint256 public totalSupply;
    mapping(address => uint256) public balanceOf;
    mapping(address => mapping(address => uint256)) public allowance;
    mapping(address => bool) public isBlacklisted;

    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);

    /// For USDC: ("USD Coin", "USDC", 6).
    function initialize(string calldata name_, string calldata symbol_, uint8 decimals_) external {
        require(!initialized, "USDC: already initialized");
        initialized = true;
        name = name_;
        symbol = symbol_;
        decimals = decimals_;
    }

    function transfer(address to, uint256 value) external returns (bool) {
        _move(msg.sender, to, value);
        return true;
    }

    function transferFrom(address from, address to, uint256 value) external returns (bool) {
        require(allowance[from][msg.sender] >= value, "USDC: allowance");
        allowance[from][msg.sender] -= value;
        _move(from, to, value);
        return true;
    }

    function approve(address spender, uint256 value) external returns (bool) {
        allowance[msg.sender][spender] = value;
        emit Approval(msg.sender, spender, value);
        return true;
    }

    function mint(address to, uint256 value) external returns (bool) {
        require(to != address(0), "USDC: mint to zero");
        totalSupply += value;
        balanceOf[to] += value;
        emit Transfer(address(0), to, value);
        return true;
    }

    function blacklist(address account) external {
        isBlacklisted[account] = true;
    }

    function unBlacklist(address account) external {
        isBlacklisted[account] = false;
    }

    function _move(address from, address to, uint256 value) private {
        require(from != address(0) && to != address(0), "USDC: zero address");
        require(!isBlacklisted[from] && !isBlacklisted[to], "Blacklistable: account is blacklisted");
        require(balanceOf[from] >= value, "USDC: balance");
        balanceOf[from] -= value;
        balanceOf[to] += value;
        emit Transfer(from, to, value);
    }
}
