// CRC-32 (as zlib.crc32) and base64 (RFC 4648): the checksum of an encoded plan and its form as an attribute.
//
// The attribute is base64 because XLA prints attributes into a text and parses them again; raw bytes would be escaped
// to up to three characters each there.
#ifndef JAX_AITER_FFI_TEXT_CODEC_H_
#define JAX_AITER_FFI_TEXT_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace jax_aiter {

uint32_t Crc32(const uint8_t* data, size_t size);

// False unless `text` is canonical, padded base64.
bool DecodeBase64(std::string_view text, std::vector<uint8_t>* out);

}  // namespace jax_aiter

#endif  // JAX_AITER_FFI_TEXT_CODEC_H_
