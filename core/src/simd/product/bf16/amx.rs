//! Intel's matrix unit (AMX): a tile register holds 16 rows of 64 bytes, and `TDPBF16PS` adds the product of a left tile and
//! a right tile to a 16 x 16 tile of f32. Four tiles of sums are held at once: each tile loaded is used twice.

use std::arch::{asm, x86_64::__cpuid_count};

use super::{SIDE, Sums, TILE};

/// Whether the CPU has the instructions, and the system grants the registers.
pub(super) fn usable() -> bool {
    const MATRIX_BF16: u32 = 1 << 22;
    const MATRIX_TILE: u32 = 1 << 24;
    if cfg!(miri) {
        return false;
    }
    let leaf = __cpuid_count(7, 0);
    leaf.edx & MATRIX_BF16 != 0 && leaf.edx & MATRIX_TILE != 0 && granted()
}

/// Asks Linux for the tile registers: their state is large, and a process has it only if it asks.
#[cfg(target_os = "linux")]
fn granted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: a system call that takes two numbers, touches no memory of ours, and can only fail.
    let result = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) };
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn granted() -> bool {
    false
}

/// The shapes of the eight tile registers: all of them whole.
#[repr(C, align(64))]
struct Shapes([u8; 64]);

static SHAPES: Shapes = {
    let mut bytes = [0; 64];
    bytes[0] = 1; // the palette
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = 64; // bytes of a row
        bytes[48 + tile] = SIDE as u8;
        tile += 1;
    }
    Shapes(bytes)
};

/// Runs `work` with the tile registers configured, as [`multiply_block`] needs them.
///
/// # Safety
///
/// The process may use the registers: [`usable`].
pub(super) unsafe fn with_tiles(work: impl FnOnce()) {
    // SAFETY: the caller vouches for the registers; they are configured on the thread that uses them, and given back below.
    // `SHAPES` is the 64 bytes that the instruction reads.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &SHAPES, options(nostack, readonly)) };
    work();
    // SAFETY: gives the registers' state up; nothing of it is used any more.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// The sums of one block: two rows of tiles from the left, two columns of tiles from the right.
///
/// # Safety
///
/// The tile registers are configured as [`SHAPES`] says, `steps` is at least 1, and each operand has `2 * steps` tiles.
pub(super) unsafe fn multiply_block(left: &[f32], right: &[f32], steps: usize, sums: &mut Sums) {
    let half = steps * TILE;
    assert!(left.len() == 2 * half && right.len() == 2 * half, "tiles of a block");
    // SAFETY: in step s of `steps`, each of the four pointers is s tiles (1024 bytes each) into its half of an operand, and a
    // load reads 16 rows of 64 bytes from there: inside the half. The stores write rows of 64 bytes, 128 apart, into the
    // four quarters of `sums`. The compiler uses no tile registers of its own.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloadd tmm4, [{upper} + {row}]",
            "tileloadd tmm6, [{first} + {row}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{second} + {row}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{lower} + {row}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {upper}, 1024",
            "add {lower}, 1024",
            "add {first}, 1024",
            "add {second}, 1024",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{sums} + {line}], tmm0",
            "tilestored [{sums} + {line} + 64], tmm1",
            "tilestored [{sums} + {line} + 2048], tmm2",
            "tilestored [{sums} + {line} + 2112], tmm3",
            upper = inout(reg) left.as_ptr() => _,
            lower = inout(reg) left[half..].as_ptr() => _,
            first = inout(reg) right.as_ptr() => _,
            second = inout(reg) right[half..].as_ptr() => _,
            steps = inout(reg) steps => _,
            row = in(reg) 64_usize,
            sums = in(reg) sums.0.as_mut_ptr(),
            line = in(reg) 128_usize,
            options(nostack),
        );
    }
}
