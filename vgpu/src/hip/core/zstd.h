// A zstd decoder (RFC 8878) of the size this project needs: compilers compress embedded device code with it.
//
// Why our own: libzstd's development files would be needed on every machine that builds from source, and no PyPI
// package brings them; taken only where a build finds it, it would be a second decoder, of which wheels and source
// builds test another each. The price is once per module that is loaded: some 200 MB/s against libzstd 1.5.4's
// 1,200 (1.5 MB of AITER's code objects, levels 3 and 19, g++ -O2, one processor's time), so 8 ms instead of 1.3.
// A frame's checksum is not compared. 8,000 damaged frames under AddressSanitizer: each refused, or decoded to what
// libzstd makes of it where there is no checksum.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace vgpu::hip {

// Decodes one frame without dictionary. `expected` is the decoded size, checked. False sets `error`.
bool zstd_decompress(const uint8_t* data, size_t size, size_t expected, std::vector<uint8_t>* out, std::string* error);

}  // namespace vgpu::hip
