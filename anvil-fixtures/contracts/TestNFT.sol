// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// An ERC-721, because its `Transfer` has the SAME topic0 as that of an ERC-20: the signature
/// `Transfer(address,address,uint256)` does not say what is indexed. Here the third argument is indexed
/// too, so the log has four topics and no data. Who decodes it as an ERC-20 reads the token's id, or
/// nothing, as an amount.
///
/// Unlike a real one, on purpose: everybody may mint; no approvals, no safe transfers, no metadata.
contract TestNFT {
    string public constant name = "Test NFT";
    string public constant symbol = "TNFT";
    mapping(uint256 => address) public ownerOf;
    mapping(address => uint256) public balanceOf;

    event Transfer(address indexed from, address indexed to, uint256 indexed id);

    function mint(address to, uint256 id) external {
        require(ownerOf[id] == address(0), "NFT: exists");
        require(to != address(0), "NFT: zero address");
        ownerOf[id] = to;
        balanceOf[to] += 1;
        emit Transfer(address(0), to, id);
    }

    function transferFrom(address from, address to, uint256 id) external {
        require(msg.sender == from && ownerOf[id] == from, "NFT: not the owner");
        require(to != address(0), "NFT: zero address");
        ownerOf[id] = to;
        balanceOf[from] -= 1;
        balanceOf[to] += 1;
        emit Transfer(from, to, id);
    }

    /// ERC-165 and ERC-721.
    function supportsInterface(bytes4 id) external pure returns (bool) {
        return id == 0x01ffc9a7 || id == 0x80ac58cd;
    }
}
