// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// One phase of a Chainlink feed: what a feed's proxy (`TestFeedProxy`) points to.
///
/// Like Chainlink's FluxAggregator: a round that nobody set makes `getRoundData` and `latestRoundData`
/// revert with "No data present". Its successors, which stand behind today's feeds, answer zeros
/// instead: a test that wants those sets a round to zeros.
///
/// Unlike any real one, on purpose:
/// - everybody may answer, and may set any round to anything, earlier and later ones in any order;
/// - the latest round is the one set last, so a round id can go backwards;
/// - a round is always answered in itself; no events, and none of the deprecated getters.
contract TestAggregator {
    struct Round {
        bool exists;
        int256 answer;
        uint256 startedAt;
        uint256 updatedAt;
    }

    uint8 public immutable decimals;
    string public description;
    uint256 public immutable version;
    uint80 public latestRound;
    mapping(uint80 => Round) private rounds;

    constructor(uint8 decimals_, string memory description_, uint256 version_) {
        decimals = decimals_;
        description = description_;
        version = version_;
    }

    /// The next round, answered now.
    function submit(int256 answer) external {
        setRound(latestRound + 1, answer, block.timestamp, block.timestamp);
    }

    function setRound(uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt) public {
        rounds[roundId] = Round(true, answer, startedAt, updatedAt);
        latestRound = roundId;
    }

    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80) {
        return getRoundData(latestRound);
    }

    function getRoundData(uint80 id)
        public
        view
        returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound)
    {
        Round memory round = rounds[id];
        require(round.exists, "No data present");
        return (id, round.answer, round.startedAt, round.updatedAt, id);
    }
}
