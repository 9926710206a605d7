//! How a matrix product is cut for a device: the rule by the device's kind, and what may be faster on one device or another.
//!
//! All tiles of one family sum up each value of C in one order, whatever their size, so that a choice among them changes no bit
//! of a result.

use serde::{Deserialize, Serialize};

use super::matmul::Kind;
use super::{COMMON, HALF, Kernel, Tuning, word};

/// What a workgroup computes of C. An invocation owns blocks of 4 x 4 values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Tile {
    /// Tiles of A and B in workgroup memory, `depth` of k at a time; sums in the order of k.
    Shared {
        /// Rows and columns of C.
        rows: u32,
        cols: u32,
        /// Blocks of an invocation, down and across.
        row_quads: u32,
        col_quads: u32,
        depth: u32,
    },
    /// Operands straight from memory; sums of four along k, in their order.
    Registers {
        /// Blocks of an invocation, one below the other.
        quads: u32,
        /// Invocations of a workgroup.
        lanes: u32,
        /// The most of them that lie side by side in C, a power of two.
        across: u32,
    },
}

const fn shared([rows, cols]: [u32; 2], [row_quads, col_quads]: [u32; 2], depth: u32) -> Tile {
    Tile::Shared { rows, cols, row_quads, col_quads, depth }
}

/// The rule's shared tiles, for few and for many of them.
const SMALL: Tile = shared([32, 32], [1, 1], 16);
const LARGE: Tile = shared([64, 64], [2, 2], 16);

/// The shared tiles that are tried, the likeliest first: large ones because they read each operand less often, smaller ones for
/// products of which there are few, thin ones for the narrow side of an adapter.
const SHARED: [Tile; 14] = [
    SMALL,
    LARGE,
    shared([128, 128], [2, 2], 16),
    shared([128, 64], [2, 2], 16),
    shared([64, 128], [2, 2], 16),
    shared([64, 32], [2, 1], 16),
    shared([32, 64], [1, 2], 16),
    shared([128, 8], [1, 1], 16),
    shared([128, 16], [1, 1], 16),
    shared([8, 128], [1, 1], 16),
    shared([64, 64], [2, 1], 16),
    shared([32, 32], [1, 1], 32),
    shared([128, 128], [2, 2], 8),
    shared([64, 64], [2, 2], 8),
];

/// Invocations of a workgroup without shared tiles, and the most of them side by side.
const REGISTERS_ACROSS: [(u32, u32); 4] = [(8, 8), (8, 2), (16, 16), (32, 32)];

/// A tile's side up to this is no waste, however small C is; one below it is for C that is no larger.
const SMALL_SIDE: usize = 32;

impl Tile {
    /// Invocations of a workgroup.
    pub(crate) fn invocations(self) -> u32 {
        match self {
            Self::Shared { rows, cols, row_quads, col_quads, .. } => rows / (4 * row_quads) * (cols / (4 * col_quads)),
            Self::Registers { lanes, .. } => lanes,
        }
    }

    /// Workgroup memory in bytes: lines of four values, and one more in each row, which keeps rows off each other's banks.
    pub(crate) fn shared_bytes(self) -> u32 {
        match self {
            Self::Shared { rows, cols, depth, .. } => depth * (rows / 4 + 1 + cols / 4 + 1) * 16,
            Self::Registers { .. } => 0,
        }
    }

    /// Whether a device of these limits runs it.
    pub(crate) fn fits(self, limits: &wgpu::Limits) -> bool {
        self.invocations() <= limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x)
            && self.shared_bytes() <= limits.max_compute_workgroup_storage_size
    }

    /// Rows and columns of C that a workgroup computes.
    fn size(self, kind: &Kind) -> [usize; 2] {
        match self {
            Self::Shared { rows, cols, .. } => [rows as usize, cols as usize],
            Self::Registers { quads, lanes, .. } => {
                let across = self.across(kind);
                [(4 * quads * (lanes / across)) as usize, 4 * across as usize]
            }
        }
    }

    /// Invocations side by side in C, no more than it is wide.
    fn across(self, kind: &Kind) -> u32 {
        match self {
            Self::Shared { cols, col_quads, .. } => cols / (4 * col_quads),
            Self::Registers { across, .. } => word(kind.n.div_ceil(4).next_power_of_two()).min(across),
        }
    }

    /// Workgroups of a product.
    pub(crate) fn groups(self, kind: &Kind) -> usize {
        let [rows, cols] = self.size(kind);
        kind.m.div_ceil(rows) * kind.n.div_ceil(cols) * kind.chunks
    }

    /// The kernel for a product.
    pub(crate) fn kernel(self, kind: &Kind) -> Kernel {
        let a_minor = if kind.a_transposed { kind.m } else { kind.k };
        let b_minor = if kind.b_transposed { kind.k } else { kind.n };
        let mut constants = vec![
            ("A_TRANSPOSED", u32::from(kind.a_transposed)),
            ("B_TRANSPOSED", u32::from(kind.b_transposed)),
            ("A_VEC", u32::from(a_minor.is_multiple_of(4))),
            ("B_VEC", u32::from(b_minor.is_multiple_of(4))),
            ("C_VEC", u32::from(kind.n.is_multiple_of(4))),
            ("BIAS", u32::from(kind.bias)),
            ("ADDEND", u32::from(kind.addend)),
            (HALF, u32::from(kind.half)),
            ("WORKGROUP", self.invocations()),
            ("ACROSS", self.across(kind)),
        ];
        match self {
            Self::Shared { rows, cols, row_quads, col_quads, depth } => {
                let blocks = (rows / 4 + cols / 4) * (depth / 4);
                constants.extend([
                    ("DOWN", rows / (4 * row_quads)),
                    ("ROW_QUADS", row_quads),
                    ("COL_QUADS", col_quads),
                    ("DEPTH", depth),
                    ("FETCHES", blocks.div_ceil(self.invocations())),
                ]);
                Kernel { name: "matmul_workgroup", parts: WORKGROUP, constants, vector: false }
            }
            Self::Registers { quads, .. } => {
                constants.push(("QUADS", quads));
                Kernel { name: "matmul_registers", parts: REGISTERS, constants, vector: false }
            }
        }
    }
}

const WORKGROUP: &[&str] = &[COMMON, include_str!("matmul.wgsl"), include_str!("matmul_workgroup.wgsl")];
const REGISTERS: &[&str] = &[COMMON, include_str!("matmul.wgsl"), include_str!("matmul_registers.wgsl")];

/// What the kernels of all tiles are made of.
pub(crate) fn sources() -> impl Iterator<Item = &'static str> {
    WORKGROUP.iter().chain(REGISTERS).copied()
}

impl Tuning {
    /// Whether a device of these limits runs the rule's shared tiles.
    pub(crate) fn shares(limits: &wgpu::Limits) -> bool {
        SMALL.fits(limits) && LARGE.fits(limits)
    }

    /// The tile by rule: the larger shared one where there are enough of those to keep the device busy.
    pub(crate) fn tile(&self, kind: &Kind) -> Tile {
        if !self.shared_tiles {
            let across = 1 << self.lanes.ilog2();
            return Tile::Registers { quads: self.tile_quads, lanes: self.lanes, across };
        }
        if LARGE.groups(kind) >= self.enough_tiles as usize { LARGE } else { SMALL }
    }

    /// The tiles of the rule's family that a device of these limits runs.
    pub(crate) fn tiles(&self, limits: &wgpu::Limits) -> Vec<Tile> {
        let tiles: Vec<Tile> = if self.shared_tiles {
            SHARED.to_vec()
        } else {
            let registers = |quads| REGISTERS_ACROSS.map(|(lanes, across)| Tile::Registers { quads, lanes, across });
            [1, 2].into_iter().flat_map(registers).collect()
        };
        tiles.into_iter().filter(|tile| tile.fits(limits)).collect()
    }
}

impl Kind {
    /// Whether `tile` is neither much larger than C nor thin without need.
    pub(crate) fn suits(&self, tile: Tile) -> bool {
        let suits = |side: usize, len: usize| match side {
            side if side > SMALL_SIDE => side < 2 * len,
            side => side == SMALL_SIDE || len <= SMALL_SIDE || matches!(tile, Tile::Registers { .. }),
        };
        let [rows, cols] = tile.size(self);
        suits(rows, self.m) && suits(cols, self.n)
    }
}
