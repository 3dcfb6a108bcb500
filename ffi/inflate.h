// Decompression of a raw DEFLATE stream (RFC 1951).
//
// Why our own: code objects arrive compressed in the executable and are unpacked when it is instantiated, on an XLA
// thread without the Python interpreter. Linking zlib would need its development files on every machine that builds
// from source, and no PyPI package provides them, while taking it only where a build finds it would make two decoders of
// one, of which wheels and source builds test another each. DEFLATE decoding is small and is fuzzed against Python's zlib.
// The price is once per code object and process, when it is loaded: some 120 MB/s against zlib 1.2.13's 240 (python -m
// benchmarks.inflate, AITER's code objects), so 1.2 ms instead of 0.7 for one of 160 kB.
#ifndef JAX_AITER_FFI_INFLATE_H_
#define JAX_AITER_FFI_INFLATE_H_

#include <cstddef>
#include <cstdint>

namespace jax_aiter {

// Unpacks `in` into exactly `out_size` bytes at `out`. False if the stream is malformed, ends early, leaves input
// unused or does not have that length; `out` then holds undefined bytes. Never reads or writes outside either range.
bool Inflate(const uint8_t* in, size_t in_size, uint8_t* out, size_t out_size);

// DEFLATE cannot expand by more than this factor, so a larger declared size is refused before allocating for it.
inline constexpr size_t kMaxInflateRatio = 1032;

}  // namespace jax_aiter

#endif  // JAX_AITER_FFI_INFLATE_H_
