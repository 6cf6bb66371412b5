// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {TestAggregator} from "./TestAggregator.sol";

/// The address of a Chainlink feed (`EACAggregatorProxy`): it stays when the aggregator behind it is
/// replaced, which begins a new phase. It serves as an L2 sequencer's uptime feed too: answer 0 is up,
/// 1 is down, `startedAt` is since when.
///
/// Like the real one: a round's id is the phase in the upper 16 of 80 bits and the aggregator's round in
/// the lower 64; rounds of old phases stay readable; decimals and description are the current
/// aggregator's, so they may change with the phase; a phase that never was reverts without a reason.
///
/// Unlike the real one, on purpose: everybody may set the aggregator, at once and without a proposal; no
/// access control on reading; none of the deprecated getters.
contract TestFeedProxy {
    TestAggregator public aggregator;
    uint16 public phaseId;
    mapping(uint16 => TestAggregator) public phaseAggregators;

    constructor(TestAggregator aggregator_) {
        setAggregator(aggregator_);
    }

    function setAggregator(TestAggregator aggregator_) public {
        aggregator = aggregator_;
        phaseId += 1;
        phaseAggregators[phaseId] = aggregator_;
    }

    function decimals() external view returns (uint8) {
        return aggregator.decimals();
    }

    function description() external view returns (string memory) {
        return aggregator.description();
    }

    function version() external view returns (uint256) {
        return aggregator.version();
    }

    function latestRoundData()
        external
        view
        returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound)
    {
        (roundId, answer, startedAt, updatedAt, answeredInRound) = aggregator.latestRoundData();
        (roundId, answeredInRound) = (_id(phaseId, roundId), _id(phaseId, answeredInRound));
    }

    function getRoundData(uint80 id)
        external
        view
        returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound)
    {
        uint16 phase = uint16(id >> 64);
        (roundId, answer, startedAt, updatedAt, answeredInRound) = phaseAggregators[phase].getRoundData(uint64(id));
        (roundId, answeredInRound) = (_id(phase, roundId), _id(phase, answeredInRound));
    }

    function _id(uint16 phase, uint80 round) private pure returns (uint80) {
        return (uint80(phase) << 64) | uint64(round);
    }
}
