//! Uniswap v3's `TickMath`: the square root of 1.0001^tick, exactly as the pools compute it.
//!
//! Integers only. The constants are those of `TickMath.getSqrtRatioAtTick` in Uniswap/v3-core
//! (contracts/libraries/TickMath.sol): √1.0001^-(2^i) as Q128.128 numbers. What a tick means for a
//! pair of tokens is said in [`super::uniswap_v3`].

use alloy::primitives::{U256, uint};

/// The highest tick; the lowest is its negative.
pub const TICK_MAX: i32 = 887_272;

/// √1.0001^-(2^i) × 2^128, for the bits of a tick from 1 up; bit 0 stands alone below.
const BY_BIT: [U256; 19] = uint!([
    0xFFF97272373D413259A46990580E213A_U256,
    0xFFF2E50F5F656932EF12357CF3C7FDCC_U256,
    0xFFE5CACA7E10E4E61C3624EAA0941CD0_U256,
    0xFFCB9843D60F6159C9DB58835C926644_U256,
    0xFF973B41FA98C081472E6896DFB254C0_U256,
    0xFF2EA16466C96A3843EC78B326B52861_U256,
    0xFE5DEE046A99A2A811C461F1969C3053_U256,
    0xFCBE86C7900A88AEDCFFC83B479AA3A4_U256,
    0xF987A7253AC413176F2B074CF7815E54_U256,
    0xF3392B0822B70005940C7A398E4B70F3_U256,
    0xE7159475A2C29B7443B29C7FA6E889D9_U256,
    0xD097F3BDFD2022B8845AD8F792AA5825_U256,
    0xA9F746462D870FDF8A65DC1F90E061E5_U256,
    0x70D869A156D2A1B890BB3DF62BAF32F7_U256,
    0x31BE135F97D08FD981231505542FCFA6_U256,
    0x9AA508B5B7A84E1C677DE54F3E99BC9_U256,
    0x5D6AF8DEDB81196699C329225EE604_U256,
    0x2216E584F5FA1EA926041BEDFE98_U256,
    0x48A170391F7DC42444E8FA2_U256,
]);
const BIT_0: U256 = uint!(0xFFFCB933BD6FAD37AA2D162D1A594001_U256);
const ONE: U256 = uint!(0x100000000000000000000000000000000_U256);

/// √1.0001^tick × 2^96, as a pool computes it; `None` beyond [`TICK_MAX`].
pub fn sqrt_ratio_at_tick(tick: i32) -> Option<U256> {
    let height = tick.unsigned_abs();
    if height > TICK_MAX.unsigned_abs() {
        return None;
    }
    let mut ratio = if height & 1 == 1 { BIT_0 } else { ONE };
    for (bit, factor) in (1u32..).zip(BY_BIT) {
        if height.checked_shr(bit)? & 1 == 1 {
            ratio = ratio.checked_mul(factor)?.wrapping_shr(128);
        }
    }
    if tick > 0 {
        ratio = U256::MAX.checked_div(ratio)?;
    }
    // From Q128.128 to Q128.96, rounded up, so that a price rounds down to its own tick.
    let rest = ratio & uint!(0xFFFFFFFF_U256);
    ratio.wrapping_shr(32).checked_add(U256::from(u8::from(!rest.is_zero())))
}

#[cfg(test)]
mod tests {
    use alloy::primitives::U512;

    use super::*;

    /// The ends as TickMath.sol names them, and values of its own tests (TickMath.spec.ts).
    #[test]
    fn known_ratios() {
        let table = [
            (-887_272, "4295128739"),
            (-887_271, "4295343490"),
            (0, "79228162514264337593543950336"),
            (887_271, "1461373636630004318706518188784493106690254656249"),
            (887_272, "1461446703485210103287273052203988822378723970342"),
        ];
        for (tick, expected) in table {
            assert_eq!(sqrt_ratio_at_tick(tick).unwrap().to_string(), expected, "{tick}");
        }
        assert_eq!(sqrt_ratio_at_tick(887_273), None);
        assert_eq!(sqrt_ratio_at_tick(i32::MIN), None);
    }

    /// Each tick's price is 1.0001 times that of the tick below, to nine digits: a wrong constant
    /// would show where its bit changes.
    #[test]
    fn neighbours_are_one_basis_point_apart() {
        let square = |tick: i32| {
            let root = U512::from(sqrt_ratio_at_tick(tick).unwrap());
            root * root
        };
        let mut ticks: Vec<i32> =
            (0..20).map(|bit| (1 << bit) - 1).filter(|t| *t < 500_000).collect();
        ticks.extend((0..500_000).step_by(997));
        for tick in ticks.iter().flat_map(|t| [*t, -*t - 1]) {
            let (below, above) = (square(tick), square(tick + 1));
            let billionths = (above * U512::from(1_000_000_000u64)) / below;
            let apart = billionths.to_string().parse::<i64>().unwrap() - 1_000_100_000;
            assert!(apart.abs() <= 2, "{tick}: {billionths}");
        }
    }
}
