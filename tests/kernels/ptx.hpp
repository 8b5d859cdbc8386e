// SPDX-License-Identifier: Apache-2.0
// Reads the PTX of our kernels as far as two questions need it: which instructions could give other
// bits than the host's, and how many instructions the loop over values takes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <regex>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace spillway::test {

/// Opcodes ("fma.rn.f32") of the text that contract, approximate or flush, in order.
inline std::vector<std::string> inexact_opcodes(const std::string& ptx) {
  std::vector<std::string> found;
  std::istringstream lines(ptx);
  std::string line;
  // After a label, a brace or a predicate; what an inline assembly has put on one line counts too.
  static const std::regex kOpcode(R"((^|[;{:]|@!?%\w+)\s*([a-z][a-z0-9_]*(\.[a-z0-9_:]+)+))");
  while (std::getline(lines, line)) {
    line = line.substr(0, line.find("//"));
    for (std::sregex_iterator it(line.begin(), line.end(), kOpcode), end; it != end; ++it) {
      const std::string opcode = (*it)[2];
      const auto has = [&](const char* part) { return opcode.find(part) != std::string::npos; };
      const bool is_mad =
          opcode.rfind("mad", 0) == 0 && (has(".f32") || has(".f64") || has(".f16"));
      if (opcode.rfind("fma", 0) == 0 || is_mad || has(".approx") || has(".ftz"))
        found.push_back(opcode);
    }
  }
  return found;
}

/// The body of one `.entry`, split at labels and branches.
class PtxKernel {
 public:
  struct Instruction {
    std::string opcode;  // without predicate
    std::string text;
    std::string target;  // of a branch
    bool is_conditional = false;
  };

  /// Nothing when the text has no such entry.
  static std::optional<PtxKernel> find(const std::string& ptx, const std::string& name) {
    const std::size_t at = ptx.find(".entry " + name + "(");
    if (at == std::string::npos) return std::nullopt;
    const std::size_t begin = ptx.find("\n{", at);
    const std::size_t end = ptx.find("\n}", begin);
    if (begin == std::string::npos || end == std::string::npos) return std::nullopt;
    PtxKernel kernel;
    std::istringstream lines(ptx.substr(begin + 2, end - begin - 2));
    std::string line;
    while (std::getline(lines, line)) kernel.take(line.substr(0, line.find("//")));
    return kernel;
  }

  /// What an instruction counts: 64-bit integers are worked on in halves, their products take four;
  /// moves are names of registers, most of which vanish.
  static int weight(const Instruction& one) {
    const std::string& opcode = one.opcode;
    if (opcode.rfind("mov", 0) == 0) return 0;
    const bool wide = opcode.find("64") != std::string::npos;
    if (!wide || opcode.rfind("cvt", 0) == 0 || opcode.rfind("ld", 0) == 0 ||
        opcode.rfind("st", 0) == 0)
      return 1;
    return opcode.rfind("mul.lo", 0) == 0 ? 4 : 2;
  }

  struct Loop {
    int instructions = 0;  // weighted, along the cheapest way through
    int loads = 0;         // global, on that way
    int stores = 0;
    int marks = 0;
    int mixes = 0;  // 8-byte words that enter a fingerprint
  };
  /// Of the innermost loops that read or write global memory, the one with the most accesses: that
  /// over the values of a whole tile. The way through it is the cheapest of those that meet most of
  /// the opcodes that begin with `mark`: no escapes, and with the right mark no groups with NaN;
  /// with `fingerprint`, of those that take most words into it.
  [[nodiscard]] Loop steady_loop(bool fingerprint, const std::string& mark = "") const {
    Loop best;
    for (std::size_t end = 0; end < code_.size(); ++end) {
      const auto begin = label_at(code_[end].target);
      if (!begin || *begin > end) continue;
      bool innermost = true;
      for (std::size_t i = *begin; i < end && innermost; ++i) {
        const auto inner = label_at(code_[i].target);
        innermost = !(inner && *inner <= i && *inner >= *begin);
      }
      if (!innermost) continue;
      const Loop loop = cheapest(*begin, end, fingerprint, mark);
      if (loop.loads + loop.stores > best.loads + best.stores) best = loop;
    }
    return best;
  }

 private:
  void take(const std::string& line) {
    static const std::regex kLabel(R"(^\s*(\$[\w$]+):)");
    static const std::regex kInstruction(R"(^\s*(@!?%\w+\s+)?([a-z][\w.:]*)\s*([^;]*);)");
    std::smatch match;
    if (std::regex_search(line, match, kLabel)) {
      labels_[match[1]] = code_.size();
      return;
    }
    if (!std::regex_search(line, match, kInstruction)) return;
    Instruction one;
    one.opcode = match[2];
    one.text = line;
    one.is_conditional = match[1].matched;
    if (one.opcode.rfind("bra", 0) == 0) {
      one.target = match[3];
      while (!one.target.empty() && one.target.back() <= ' ') one.target.pop_back();
    }
    code_.push_back(one);
  }
  [[nodiscard]] std::optional<std::size_t> label_at(const std::string& label) const {
    const auto at = labels_.find(label);
    if (label.empty() || at == labels_.end()) return std::nullopt;
    return at->second;
  }

  /// From `begin` over forward branches to `end`, the branch back.
  [[nodiscard]] Loop cheapest(std::size_t begin,
                              std::size_t end,
                              bool fingerprint,
                              const std::string& mark) const {
    struct Way {
      bool reached = false;
      std::int64_t price = 0;
      Loop loop;
    };
    std::vector<Way> ways(end - begin + 2);
    ways[0].reached = true;
    const auto offer = [&](std::size_t to, const Way& way) {
      if (to < begin || to > end + 1) return;
      Way& there = ways[to - begin];
      if (!there.reached || way.price < there.price) there = way;
    };
    for (std::size_t i = begin; i <= end; ++i) {
      if (!ways[i - begin].reached) continue;
      Way way = ways[i - begin];
      const Instruction& one = code_[i];
      way.loop.instructions += weight(one);
      way.price += weight(one);
      if (one.opcode.rfind("ld.global", 0) == 0) ++way.loop.loads;
      if (one.opcode.rfind("st.global", 0) == 0) ++way.loop.stores;
      // The second factor of mix(), as nvcc prints it.
      if (one.text.find("-7723592293110705685") != std::string::npos) {
        ++way.loop.mixes;
        if (fingerprint) way.price -= 1000000;
      }
      if (!mark.empty() && one.opcode.rfind(mark, 0) == 0) {
        ++way.loop.marks;
        way.price -= 1000;
      }
      if (i == end) return way.loop;
      if (!one.target.empty()) {
        if (const auto to = label_at(one.target); to && *to > i) offer(*to, way);
        if (!one.is_conditional) continue;
      }
      if (one.opcode == "ret" && !one.is_conditional) continue;
      offer(i + 1, way);
    }
    return {};
  }

  std::vector<Instruction> code_;
  std::map<std::string, std::size_t> labels_;  // index of the instruction behind
};

}  // namespace spillway::test
