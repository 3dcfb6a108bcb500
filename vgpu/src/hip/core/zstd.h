// A zstd decoder (RFC 8878) of the size this project needs: compilers compress embedded device code with it,
// and a dependency on a system library would be one more thing for users to install.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace vgpu::hip {

// Decodes one frame without dictionary. `expected` is the decoded size, checked. False sets `error`.
bool zstd_decompress(const uint8_t* data, size_t size, size_t expected, std::vector<uint8_t>* out, std::string* error);

}  // namespace vgpu::hip
