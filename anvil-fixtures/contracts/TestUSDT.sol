// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// A stand-in for Tether's USDT on Ethereum.
///
/// Like the real one:
/// - 6 decimals, and `decimals()` has the return type `uint256`;
/// - `transfer`, `transferFrom` and `approve` return NOTHING (not `true`);
/// - a fee can be switched on. The recipient then gets less than was sent, and a second `Transfer`
///   carries the fee to the owner. The fee's log comes BEFORE the recipient's, in the real order, so
///   switching the fee on moves the log index of the payment;
/// - paused: nothing moves. Black-listed: may not send, but may still receive;
/// - an allowance must be set to zero before it is set to another value; the maximal one is not used up;
/// - moving 0 needs no allowance, so anybody can emit `Transfer(victim, anybody, 0)` (address poisoning).
///
/// Unlike the real one, on purpose:
/// - everybody may mint, set the fee, pause and black-list: a test needs no key of the owner;
/// - `mint` emits a `Transfer` from the zero address (real issuance emits `Issue` and no `Transfer`);
/// - the fee may be up to 100 %, and `maxFee` is in raw units (really: below 20 bps and 50 whole USDT);
/// - what is asked of the owner emits no event, there is no `deprecate`, `redeem` or `destroyBlackFunds`;
/// - failures revert; the original burns all gas by `assert`.
contract TestUSDT {
    string public constant name = "Tether USD";
    string public constant symbol = "USDT";
    uint256 public constant decimals = 6;

    /// Receives the fees: the deployer.
    address public immutable owner = msg.sender;

    uint256 public totalSupply;
    uint256 public basisPointsRate;
    uint256 public maximumFee;
    bool public paused;
    mapping(address => uint256) public balanceOf;
    mapping(address => mapping(address => uint256)) public allowance;
    mapping(address => bool) public isBlackListed;

    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);

    function transfer(address to, uint256 value) external {
        _move(msg.sender, to, value);
    }

    function transferFrom(address from, address to, uint256 value) external {
        uint256 allowed = allowance[from][msg.sender];
        if (allowed != type(uint256).max) {
            require(allowed >= value, "USDT: allowance");
            allowance[from][msg.sender] = allowed - value;
        }
        _move(from, to, value);
    }

    function approve(address spender, uint256 value) external {
        require(value == 0 || allowance[msg.sender][spender] == 0, "USDT: reset the allowance first");
        allowance[msg.sender][spender] = value;
        emit Approval(msg.sender, spender, value);
    }

    /// `bps`: hundredths of a percent, 10000 at most. `maxFee`: raw units; with 0 there is no fee.
    function setParams(uint256 bps, uint256 maxFee) external {
        require(bps <= 10_000, "USDT: fee above 100 %");
        basisPointsRate = bps;
        maximumFee = maxFee;
    }

    function pause() external {
        paused = true;
    }

    function unpause() external {
        paused = false;
    }

    function addBlackList(address user) external {
        isBlackListed[user] = true;
    }

    function removeBlackList(address user) external {
        isBlackListed[user] = false;
    }

    function mint(address to, uint256 value) external {
        totalSupply += value;
        balanceOf[to] += value;
        emit Transfer(address(0), to, value);
    }

    function _move(address from, address to, uint256 value) private {
        require(!paused, "USDT: paused");
        require(!isBlackListed[from], "USDT: sender is black-listed");
        require(balanceOf[from] >= value, "USDT: balance");
        uint256 fee = value * basisPointsRate / 10_000;
        if (fee > maximumFee) fee = maximumFee;
        balanceOf[from] -= value;
        balanceOf[to] += value - fee;
        if (fee > 0) {
            balanceOf[owner] += fee;
            emit Transfer(from, owner, fee);
        }
        emit Transfer(from, to, value - fee);
    }
}
