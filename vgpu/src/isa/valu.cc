// Operand fetch, modifiers and write-back of vector instructions.
#include "isa/valu.h"

#include <immintrin.h>

#include "sem/convert.h"

namespace vgpu::isa {
namespace {

constexpr uint32_t kSign = 0x80000000u;

void broadcast(uint32_t* tmp, uint32_t x) {
  const __m256i y = _mm256_set1_epi32(static_cast<int>(x));
  for (int i = 0; i < 64; i += 8) _mm256_store_si256(reinterpret_cast<__m256i*>(tmp + i), y);
}

uint32_t select_part(uint32_t x, unsigned sel, bool sext) {
  switch (sel) {
    case 0: case 1: case 2: case 3: {
      const uint32_t part = x >> (8 * sel) & 0xff;
      return sext ? static_cast<uint32_t>(static_cast<int8_t>(part)) : part;
    }
    case 4: case 5: {
      const uint32_t part = x >> (16 * (sel - 4)) & 0xffff;
      return sext ? static_cast<uint32_t>(static_cast<int16_t>(part)) : part;
    }
    default: return x;
  }
}

// Applies the modifiers of source i to a private copy.
const uint32_t* modify(const Op& op, int i, const uint32_t* p, uint32_t* tmp) {
  const Inst& inst = op.inst;
  const bool abs = inst.abs >> i & 1, neg = inst.neg >> i & 1, high = inst.op_sel >> i & 1;
  const char type = op.type[i];
  const bool half = type == 'h' || type == 'w';
  const unsigned sel = inst.sdwa && i < 2 ? inst.src_sel[i] : 6;
  if (!abs && !neg && !(high && half) && sel == 6) return p;
  const int n = op.width[i] * 64;
  if (p != tmp) std::memcpy(tmp, p, n * 4);
  if (sel != 6) {
    const bool sext = inst.sext >> i & 1;
    for (int l = 0; l < 64; ++l) tmp[l] = select_part(tmp[l], sel, sext);
  }
  if (high && half)
    for (int l = 0; l < 64; ++l) tmp[l] >>= 16;
  const uint32_t sign = half ? 0x8000u : kSign;
  uint32_t* top = type == 'd' ? tmp + 64 : tmp;
  if (abs)
    for (int l = 0; l < 64; ++l) top[l] &= ~sign;
  if (neg)
    for (int l = 0; l < 64; ++l) top[l] ^= sign;
  return tmp;
}

float scale_f32(float x, unsigned omod) { return omod == 1 ? x * 2 : omod == 2 ? x * 4 : x * 0.5f; }

// Clamps to [0, 1]. A NaN becomes 0 under DX10_CLAMP and stays otherwise.
template <class T>
T clamp01(T x, bool dx10) {
  if (x != x) return dx10 ? T(0) : x;
  return x > T(0) ? (x < T(1) ? x : T(1)) : T(0);
}

// Denormal f16 or f64 values become zeros of their sign.
void flush(char type, uint32_t* p) {
  if (type == 'h') {
    for (int l = 0; l < 64; ++l) p[l] = (p[l] & 0x7c00) ? p[l] : p[l] & ~0x3ffu;
  } else {
    for (int l = 0; l < 64; ++l) {
      const uint32_t keep = (p[64 + l] & 0x7ff00000u) ? ~0u : 0u;
      p[l] &= keep;
      p[64 + l] &= keep | kSign;
    }
  }
}
bool follows_mode64(char type) { return type == 'h' || type == 'd'; }

void output_modifiers(const Wave& w, const Op& op, uint32_t* out) {
  const unsigned omod = op.inst.omod;
  const bool clamp = op.inst.clamp, dx10 = w.mode & kModeDx10Clamp;
  switch (op.dtype) {
    case 'f':
      for (int l = 0; l < 64; ++l) {
        float x = as_f32(out[l]);
        if (omod) x = scale_f32(x, omod);
        if (clamp) x = clamp01(x, dx10);
        out[l] = as_u32(x);
      }
      break;
    case 'h':
      for (int l = 0; l < 64; ++l) {
        float x = sem::f16_to_f32(static_cast<uint16_t>(out[l]));
        if (omod) x = scale_f32(x, omod);
        if (clamp) x = clamp01(x, dx10);
        out[l] = sem::f32_to_f16(x);
      }
      break;
    case 'd':
      for (int l = 0; l < 64; ++l) {
        double x = as_f64(pair(out, l));
        if (omod) x = omod == 1 ? x * 2 : omod == 2 ? x * 4 : x * 0.5;
        if (clamp) x = clamp01(x, dx10);
        set_pair(out, l, as_u64(x));
      }
      break;
    default: break;  // integer clamp is the kernel's own
  }
}

// Places a result narrower than the register according to dst_sel / op_sel.
void merge_part(const Op& op, uint32_t* out, const uint32_t* old) {
  const Inst& inst = op.inst;
  if (inst.sdwa) {
    const unsigned sel = inst.dst_sel;
    if (sel == 6) return;
    const unsigned shift = sel < 4 ? 8 * sel : 16 * (sel - 4);
    const uint32_t ones = sel < 4 ? 0xffu : 0xffffu;
    for (int l = 0; l < 64; ++l) {
      const uint32_t part = (out[l] & ones) << shift;
      uint32_t rest = 0;
      if (inst.dst_unused == 2) {
        rest = old[l] & ~(ones << shift);
      } else if (inst.dst_unused == 1 && (out[l] & (ones ^ ones >> 1))) {
        rest = static_cast<uint32_t>(~0ull << (shift + (sel < 4 ? 8 : 16)));  // sign above the field, zeros below
      }
      out[l] = part | rest;
    }
    return;
  }
  if (op.dtype != 'h' && op.dtype != 'w') return;
  if (inst.op_sel >> 3 & 1) {
    for (int l = 0; l < 64; ++l) out[l] = out[l] << 16 | (old[l] & 0xffff);
  } else if (op.flags & kKeepHigh) {
    for (int l = 0; l < 64; ++l) out[l] = (out[l] & 0xffff) | (old[l] & 0xffff0000u);
  }
}

}  // namespace

F64Scope::F64Scope(const Wave& wave, bool wanted) : w(wave), active(wanted && !wave.same_mxcsr) {
  if (active) _mm_setcsr(w.mxcsr64);
}
F64Scope::~F64Scope() {
  if (active) _mm_setcsr(w.mxcsr32);
}

void write_lanes(uint32_t* dst, const uint32_t* src, uint64_t mask) {
  if (mask == ~0ull) {
    for (int i = 0; i < 64; i += 8)
      _mm256_store_si256(reinterpret_cast<__m256i*>(dst + i), _mm256_load_si256(reinterpret_cast<const __m256i*>(src + i)));
    return;
  }
  const __m256i lane_bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  for (int i = 0; i < 64; i += 8) {
    const __m256i m = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(mask >> i & 0xff)), lane_bit);
    _mm256_maskstore_epi32(reinterpret_cast<int*>(dst + i), _mm256_cmpeq_epi32(m, lane_bit),
                           _mm256_load_si256(reinterpret_cast<const __m256i*>(src + i)));
  }
}

const uint32_t* fetch(const Wave& w, const Op& op, int i, uint32_t* tmp) {
  const unsigned code = op.inst.src[i];
  if (op.kind[i] == Src::Vgpr) return w.vreg(code);
  if (op.width[i] == 1) {
    broadcast(tmp, src32(w, op, i));
  } else {
    const uint64_t x = src64(w, op, i);
    broadcast(tmp, static_cast<uint32_t>(x));
    broadcast(tmp + 64, static_cast<uint32_t>(x >> 32));
  }
  return tmp;
}

void exec_lanes_plain(Wave& w, const Op& op) {
  alignas(32) uint32_t tmp[3][128], out[128];
  Lanes v;
  v.out = out;
  v.cin = v.cout = 0;
  v.clamp = op.inst.clamp;
  v.w = &w;
  v.op = &op;
  v.a = op.sources > 0 ? fetch(w, op, 0, tmp[0]) : nullptr;
  v.b = op.sources > 1 ? fetch(w, op, 1, tmp[1]) : nullptr;
  v.c = op.sources > 2 ? fetch(w, op, 2, tmp[2]) : nullptr;
  reinterpret_cast<Lane>(const_cast<void*>(op.lane))(v);
  uint32_t* dst = w.vreg(op.inst.vdst);
  const uint64_t mask = w.exec();
  write_lanes(dst, out, mask);
  if (op.dwidth == 2) write_lanes(dst + 64, out + 64, mask);
}

void exec_lanes(Wave& w, const Op& op) {
  alignas(32) uint32_t tmp[3][128], out[128];
  const Inst& inst = op.inst;
  if ((w.mode & kModeFp16Ovfl) && op.dtype == 'h' && op.type[0] == 'h')
    fail("f16 arithmetic with MODE.FP16_OVFL set is not supported");
  const F64Scope scope(w, op.aux & kF64Control);
  const uint64_t exec = w.exec();
  uint64_t mask = exec;
  Lanes v;
  v.out = out;
  v.cout = 0;
  v.clamp = inst.clamp;
  v.w = &w;
  v.op = &op;
  const uint32_t* p[3] = {nullptr, nullptr, nullptr};
  for (int i = 0; i < op.sources; ++i) p[i] = fetch(w, op, i, tmp[i]);
  if (inst.dpp) {
    int8_t from[64];
    dpp_sources(inst.dpp_ctrl, from);
    const uint32_t* whole = p[0];
    for (int l = 0; l < 64; ++l) {
      const int f = from[l];
      const bool valid = f >= 0 && (exec >> f & 1);
      for (int d = 0; d < op.width[0]; ++d) tmp[0][d * 64 + l] = valid ? whole[d * 64 + f] : 0;
      const bool enabled = (inst.row_mask >> (l / 16) & 1) && (inst.bank_mask >> (l / 4 % 4) & 1);
      if (!enabled || (!valid && !inst.bound_ctrl)) mask &= ~(1ull << l);
    }
    p[0] = tmp[0];
  }
  for (int i = 0; i < op.sources; ++i) p[i] = modify(op, i, p[i], tmp[i]);
  const bool moves_bits = op.dtype == 'u' && op.type[0] == 'h';  // v_pack_b32_f16
  if ((op.aux & kF64Control) && !(w.mode & 0x40) && !moves_bits) {
    for (int i = 0; i < op.sources; ++i) {
      if (!follows_mode64(op.type[i])) continue;
      if (p[i] != tmp[i]) std::memcpy(tmp[i], p[i], op.width[i] * 256);
      flush(op.type[i], tmp[i]);
      p[i] = tmp[i];
    }
  }
  v.a = p[0];
  v.b = p[1];
  v.c = p[2];
  v.cin = op.aux & kHasCin ? src64(w, op, op.aux >> kCinShift) : 0;
  reinterpret_cast<Lane>(const_cast<void*>(op.lane))(v);
  if (op.dtype == 'm') {  // compare
    w.set_s64(inst.sdst, v.cout & mask);
    if (op.aux & kWritesExec) w.set_s64(kExecLo, v.cout & mask);
    return;
  }
  if (inst.omod || inst.clamp) output_modifiers(w, op, out);
  if (follows_mode64(op.dtype) && !(w.mode & 0x80)) flush(op.dtype, out);
  uint32_t* dst = w.vreg(inst.vdst);
  merge_part(op, out, dst);
  write_lanes(dst, out, mask);
  if (op.dwidth == 2) write_lanes(dst + 64, out + 64, mask);
  // Inactive lanes read as 0 in the carry mask.
  if (op.aux & kHasCout) w.set_s64(inst.sdst, v.cout & mask);
}

}  // namespace vgpu::isa
