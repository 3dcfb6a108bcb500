// Matrix instructions (MFMA, SMFMAC) over register arrays: register r of an operand holds its 64 lanes at p[r*64 ..].
//
// Lane layout. A instruction computes `blocks` products of an MxK by a KxN matrix. Each lane holds E = M*K*blocks/64
// consecutive k of one row of A (column of B): lane = i + M*(block + blocks*(k/E)), element k%E, packed little-endian.
// D of the f32/i32 forms: 16 lanes wide and more: lane = column + N*g, register 4q+r is row 4*(64/N)*q + 4*g + r of its
// block (so row = 8*(r/4) + 4*(lane/32) + r%4 for 32x32); blocks follow one another in registers. 4x4: lane =
// column + 4*block, register = row. f64 16x16: row = 4*register + lane/16. f64 4x4: lane = column + 4*block + 16*row.
// 8-bit operands of the gfx950 f8f6f4 forms hold two runs of 16 k, half of K apart.
//
// Precision model. On gfx942, unless the launch asks for fused multiply-adds: the rule in matrix/silicon_rule.h for xf32, f16, bf16, fp8 and
// bf8. Else f32 results start from C and take one fused multiply-add per k, in ascending k, rounded to nearest even; bf16, f16 and
// fp8 operands are exact in f32. For gfx950 no rule is published: a few last-place bits may differ from its hardware. Denormals are
// kept and MODE is ignored, as on CDNA3.
// xf32 truncates its operands to 19 bits (10 mantissa bits). i32 wraps, or saturates under clamp. f64 uses f64 fma.
#pragma once
#include <cstdint>

namespace vgpu::sem {

enum class Arch : uint8_t { gfx942, gfx950 };

struct MfmaCtl {
  uint8_t cbsz = 0;      // A broadcast size (multi-block shapes); A's format for f8f6f4
  uint8_t abid = 0;      // which A block is broadcast; SMFMAC: which part of the index register
  uint8_t blgp = 0;      // B lane-group pattern; for f64 neg bits of A, B, C; B's format for f8f6f4
  bool fp8_ocp = false;  // gfx950
  bool clamp = false;
  bool silicon = false;  // gfx942's published arithmetic in place of fused multiply-adds
  uint8_t scale_a_byte = 0, scale_b_byte = 0;  // v_mfma_scale_*: which byte of the scale register
  const uint32_t* scale_a = nullptr;           // 64 lanes; nullptr = no scaling (1.0)
  const uint32_t* scale_b = nullptr;
  const uint32_t* index = nullptr;             // SMFMAC: 64 lanes of sparsity indices (src2); c is the old D
};

// `d` is `c` or disjoint from the sources. EXEC is ignored.
using MfmaFn = void (*)(uint32_t* d, const uint32_t* a, const uint32_t* b, const uint32_t* c, const MfmaCtl& ctl);

struct MfmaInfo {
  const char* name;  // LLVM's mnemonic
  MfmaFn fn;
  uint16_t m, n, k, blocks;
  uint8_t a_regs, b_regs, c_regs;  // dwords per lane; D has c_regs
  bool on_gfx942, on_gfx950, sparse;
};

const MfmaInfo* find_mfma(const char* name, Arch arch);  // nullptr: not executable on this architecture
const MfmaInfo* all_mfma(int* count);

}  // namespace vgpu::sem
