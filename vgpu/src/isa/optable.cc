#include "isa/optable.h"

#include <cstdlib>
#include <cstring>
#include <vector>

namespace vgpu::isa {
namespace {

struct Row {
  Enc enc;
  uint16_t op;
  uint8_t archs;
  const char* mnemonic;
  const char* shape;
};

constexpr Row kRows[] = {
#define ROW(enc, op, archs, mnemonic, shape) {Enc::enc, op, archs, mnemonic, shape},
#include "isa/optable.inc"
#undef ROW
};

std::string strip_suffix(std::string name) {
  if (name.size() > 4) {
    const std::string tail = name.substr(name.size() - 4);
    if (tail == "_e32" || tail == "_e64") name.resize(name.size() - 4);
  }
  return name;
}

struct Tables {
  std::vector<OpInfo> rows;
  // [arch][enc] -> opcode -> row
  std::vector<const OpInfo*> index[2][kEncodings];

  Tables() {
    rows.reserve(sizeof kRows / sizeof kRows[0]);
    for (const Row& row : kRows) {
      OpInfo info{row.enc, row.op, row.archs, row.mnemonic, strip_suffix(row.mnemonic), {}, 0};
      for (const char* p = row.shape; *p;) {
        char* end = nullptr;
        const char role = *p;
        info.operands[info.count++] = {role, static_cast<uint8_t>(std::strtoul(p + 1, &end, 10))};
        p = *end == ',' ? end + 1 : end;
      }
      rows.push_back(std::move(info));
    }
    for (const OpInfo& info : rows) {
      for (int arch = 0; arch < 2; ++arch) {
        if (!(info.archs >> arch & 1)) continue;
        auto& list = index[arch][static_cast<int>(info.enc)];
        if (list.size() <= info.op) list.resize(info.op + 1, nullptr);
        list[info.op] = &info;
      }
    }
  }
};

const Tables& tables() {
  static const Tables instance;
  return instance;
}

}  // namespace

const OpInfo* find_op(Arch arch, Enc enc, unsigned op) {
  const auto& list = tables().index[static_cast<int>(arch)][static_cast<int>(enc)];
  return op < list.size() ? list[op] : nullptr;
}

const OpInfo* op_rows(size_t* count) {
  *count = tables().rows.size();
  return tables().rows.data();
}

}  // namespace vgpu::isa
