// Bit-level views of numbers, and the vocabulary shared by the semantic functions.
#pragma once
#include <cstdint>
#include <cstring>

namespace vgpu::sem {

// Values as in the MODE register's round fields.
enum class Round : uint8_t { nearest_even = 0, plus_inf = 1, minus_inf = 2, zero = 3 };

// The 8-bit floating formats differ between gfx942 (no infinity, 0x80 is the only NaN) and gfx950 (OCP).
enum class Fp8 : uint8_t { fnuz, ocp };

inline uint32_t bits_of(float x) { uint32_t u; std::memcpy(&u, &x, 4); return u; }
inline uint64_t bits_of(double x) { uint64_t u; std::memcpy(&u, &x, 8); return u; }
inline float float_of(uint32_t u) { float x; std::memcpy(&x, &u, 4); return x; }
inline double double_of(uint64_t u) { double x; std::memcpy(&x, &u, 8); return x; }

constexpr uint32_t kNanF32 = 0x7fc00000u;  // what AMD hardware makes of an invalid operation (x86 sets the sign)
constexpr uint64_t kNanF64 = 0x7ff8000000000000ull;
constexpr uint16_t kNanF16 = 0x7e00u;

inline bool is_nan_f32(uint32_t u) { return (u & 0x7fffffffu) > 0x7f800000u; }
inline bool is_nan_f64(uint64_t u) { return (u & 0x7fffffffffffffffull) > 0x7ff0000000000000ull; }
inline bool is_nan_f16(uint32_t u) { return (u & 0x7fffu) > 0x7c00u; }
inline bool is_denorm_f32(uint32_t u) { return (u & 0x7f800000u) == 0 && (u & 0x007fffffu) != 0; }

// Denormals to zero of the same sign, as the MODE register's denormal fields ask for inputs and outputs.
inline uint32_t flush_f32(uint32_t u) { return (u & 0x7f800000u) ? u : (u & 0x80000000u); }
inline uint16_t flush_f16(uint16_t u) { return (u & 0x7c00u) ? u : static_cast<uint16_t>(u & 0x8000u); }

}  // namespace vgpu::sem
