// SHA-256 (FIPS 180-4), for the names of code objects.
#ifndef JAX_AITER_FFI_SHA256_H_
#define JAX_AITER_FFI_SHA256_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace jax_aiter {

std::array<uint8_t, 32> Sha256(const uint8_t* data, size_t size);

}  // namespace jax_aiter

#endif  // JAX_AITER_FFI_SHA256_H_
