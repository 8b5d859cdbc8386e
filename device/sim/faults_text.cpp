// SPDX-License-Identifier: Apache-2.0
// Rules as text. Hostile input: every word is checked, and nothing is kept that was not there.
#include "core/printable.hpp"
#include "core/units.hpp"
#include "device/sim/engine.hpp"
#include "device/sim/faults.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

namespace spillway::sim {
namespace {

constexpr std::size_t kRulesMax = 10000;
constexpr std::size_t kFileBytesMax = std::size_t{1} << 20;
constexpr std::size_t kWordMax = 64;  // longer words resemble nothing
constexpr double kSlowMax = 1e6;

struct ErrorName {
  const char* name;
  int number;
};
constexpr ErrorName kErrors[] = {
#define SPW_FAULT_ERROR(constant, number, name) {#name, number},
    SPW_CU_RESULTS(SPW_FAULT_ERROR)
#undef SPW_FAULT_ERROR
};
constexpr const char* kWords[] = {
    "nth=", "bytes>=", "probability=", "error=", "late", "slow=", "stuck", "take="};

/// How many letters must be changed, added or left out to make `b` of `a`.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({changed, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

class Nearest {
 public:
  explicit Nearest(std::string_view word)
      : word_(word), best_distance_(std::max<std::size_t>(2, word.size() / 3) + 1) {}
  void offer(const char* candidate) {
    if (word_.size() > kWordMax) return;
    const std::size_t d = distance(word_, candidate);
    if (d >= best_distance_) return;
    best_distance_ = d;
    best_ = candidate;
  }
  [[nodiscard]] std::string text() const {
    return best_ == nullptr ? std::string() : fmt::format("; did you mean `{}`?", best_);
  }

 private:
  std::string_view word_;
  std::size_t best_distance_;
  const char* best_ = nullptr;
};

bool enqueues_work(Api api) {
  switch (api) {
    case Api::cuMemcpy:
    case Api::cuMemcpyHtoD:
    case Api::cuMemcpyDtoH:
    case Api::cuMemcpyDtoD:
    case Api::cuMemcpyAsync:
    case Api::cuMemcpyHtoDAsync:
    case Api::cuMemcpyDtoHAsync:
    case Api::cuMemcpyDtoDAsync:
    case Api::cuMemcpyPeerAsync:
    case Api::cuMemsetD8:
    case Api::cuMemsetD32:
    case Api::cuMemsetD8Async:
    case Api::cuMemsetD16Async:
    case Api::cuMemsetD32Async:
    case Api::cuLaunchKernel:
    case Api::cuLaunchKernelEx:
    case Api::cuLaunchHostFunc:
    case Api::cuGraphLaunch:
    case Api::cuEventRecordWithFlags:
    case Api::cuStreamWaitEvent:
    case Api::cuStreamWaitValue32:
    case Api::cuStreamWriteValue32:
      return true;
    default:
      return false;
  }
}

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

/// The next word of a line; empty at its end.
std::string_view take_word(std::string_view* line) {
  while (!line->empty() && is_blank(line->front())) line->remove_prefix(1);
  std::size_t size = 0;
  while (size < line->size() && !is_blank((*line)[size])) ++size;
  const std::string_view word = line->substr(0, size);
  line->remove_prefix(size);
  return word;
}

template <typename T>
bool read_number(std::string_view text, T* value) {
  const char* const end = text.data() + text.size();
  const std::from_chars_result read = std::from_chars(text.data(), end, *value);
  return !text.empty() && read.ec == std::errc() && read.ptr == end;
}

class RuleReader {
 public:
  RuleReader(std::string_view source, std::size_t line) : source_(source), line_(line) {}

  Result<FaultRule> read(std::string_view text) {
    const std::string_view function = take_word(&text);
    SPW_RETURN_IF_ERROR(read_function(function));
    for (std::string_view word = take_word(&text); !word.empty(); word = take_word(&text))
      SPW_RETURN_IF_ERROR(read_word(word));
    if (effects_ == 0) return bad("one of error=, slow=, stuck and take=", "none");
    if (late_) {
      if (rule_.effect != FaultRule::Effect::kFail) return bad("error= before `late`", "none");
      if (!cu::is_sticky(static_cast<cu::Result>(rule_.error)))
        return bad("an error that arises on the device, such as 700 or 719, with `late`",
                   std::to_string(rule_.error));
      rule_.effect = FaultRule::Effect::kFailLate;
    }
    const bool of_work = rule_.effect == FaultRule::Effect::kFailLate ||
                         rule_.effect == FaultRule::Effect::kSlow ||
                         rule_.effect == FaultRule::Effect::kStuck;
    if (of_work && rule_.api >= 0 && !enqueues_work(static_cast<Api>(rule_.api)))
      return bad("a function that enqueues work with late, slow= or stuck", quoted(function));
    return rule_;
  }

 private:
  static std::string quoted(std::string_view text) {
    return fmt::format("`{}`", printable(text, kWordMax));
  }
  [[nodiscard]] Status bad(std::string_view expected, std::string_view found) const {
    return Status(
        Code::kBadInput,
        fmt::format(
            "{}: line {}: expected {}, found {}", printable(source_, 256), line_, expected, found));
  }

  Status read_function(std::string_view word) {
    if (word == "*") return Status();
    Nearest nearest(word);
    for (int i = 0; i < static_cast<int>(Api::kCount); ++i) {
      const char* const name = name_of(static_cast<Api>(i));
      if (word == name) {
        rule_.api = i;
        // These two are the other's short form.
        if (static_cast<Api>(i) == Api::cuStreamCreate)
          rule_.api = static_cast<int>(Api::cuStreamCreateWithPriority);
        if (static_cast<Api>(i) == Api::cuEventRecord)
          rule_.api = static_cast<int>(Api::cuEventRecordWithFlags);
        return Status();
      }
      nearest.offer(name);
    }
    return bad("a function of the driver or `*`", quoted(word) + nearest.text());
  }

  Status read_word(std::string_view word) {
    // One bit for each word, so that none comes twice.
    for (std::size_t i = 0; i < std::size(kWords); ++i) {
      const std::string_view key = kWords[i];
      const bool takes_value = key.back() == '=';
      if (takes_value ? word.substr(0, key.size()) != key : word != key) continue;
      if ((seen_ >> i & 1u) != 0) return bad(fmt::format("`{}` once", key), quoted(word));
      seen_ |= 1u << i;
      return read_value(key, word.substr(key.size()), word);
    }
    Nearest nearest(word.substr(0, word.find('=') == word.npos ? word.size() : word.find('=') + 1));
    for (const char* key : kWords) nearest.offer(key);
    return bad("nth=, bytes>=, probability=, error=, late, slow=, stuck or take=",
               quoted(word) + nearest.text());
  }

  Status read_value(std::string_view key, std::string_view value, std::string_view word) {
    if (key == "late") {
      late_ = true;
      return Status();
    }
    if (key == "nth=") {
      if (!read_number(value, &rule_.nth) || rule_.nth == 0)
        return bad("a whole number from 1 after nth=", quoted(value));
      return Status();
    }
    if (key == "bytes>=") return read_bytes(key, value, &rule_.bytes_min);
    if (key == "probability=") {
      if (!read_number(value, &rule_.probability) || !(rule_.probability >= 0) ||
          !(rule_.probability <= 1))
        return bad("a number from 0 to 1 after probability=", quoted(value));
      return Status();
    }
    if (++effects_ > 1) return bad("one effect", fmt::format("{} after another", quoted(word)));
    if (key == "error=") {
      rule_.effect = FaultRule::Effect::kFail;
      return read_error(value);
    }
    if (key == "slow=") {
      rule_.effect = FaultRule::Effect::kSlow;
      if (!read_number(value, &rule_.factor) || !(rule_.factor >= 1) || !(rule_.factor <= kSlowMax))
        return bad("a factor from 1 to 1000000 after slow=", quoted(value));
      return Status();
    }
    if (key == "stuck") {
      rule_.effect = FaultRule::Effect::kStuck;
      return Status();
    }
    rule_.effect = FaultRule::Effect::kTakeMemory;
    return read_bytes(key, value, &rule_.bytes);
  }

  Status read_bytes(std::string_view key, std::string_view value, std::uint64_t* bytes) {
    const Result<std::uint64_t> read = parse_bytes(value);
    if (!read.ok()) return bad(fmt::format("a size like 1MiB after {}", key), quoted(value));
    *bytes = read.value();
    return Status();
  }

  Status read_error(std::string_view value) {
    if (read_number(value, &rule_.error)) {
      if (rule_.error >= 1 && rule_.error <= 999) return Status();
      return bad("an error from 1 to 999 after error=", quoted(value));
    }
    Nearest nearest(value);
    for (const ErrorName& error : kErrors) {
      if (error.number == 0) continue;
      if (value == error.name) {
        rule_.error = error.number;
        return Status();
      }
      nearest.offer(error.name);
    }
    return bad("a name of cuda.h or a number after error=", quoted(value) + nearest.text());
  }

  std::string_view source_;
  std::size_t line_;
  FaultRule rule_;
  unsigned seen_ = 0;
  int effects_ = 0;
  bool late_ = false;
};

Result<std::string> read_file(const char* path) {
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  const std::unique_ptr<std::FILE, Close> file(std::fopen(path, "rb"));
  if (file == nullptr)
    return Status(Code::kIo, fmt::format("{}: cannot be opened", printable(path, 256)));
  std::string text;
  char buffer[4096];
  for (std::size_t got = 0; (got = std::fread(buffer, 1, sizeof(buffer), file.get())) != 0;) {
    text.append(buffer, got);
    if (text.size() > kFileBytesMax)
      return Status(Code::kBadInput,
                    fmt::format("{}: expected at most {} bytes of fault rules, found more",
                                printable(path, 256),
                                kFileBytesMax));
  }
  if (std::ferror(file.get()) != 0)
    return Status(Code::kIo, fmt::format("{}: cannot be read", printable(path, 256)));
  return text;
}

}  // namespace

Result<std::vector<FaultRule>> parse_faults(std::string_view text, std::string_view source) {
  std::vector<FaultRule> rules;
  for (std::size_t line = 1; !text.empty(); ++line) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view rest = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    rest = rest.substr(0, rest.find('#'));
    while (!rest.empty()) {
      const std::size_t part = std::min(rest.find(';'), rest.size());
      std::string_view rule = rest.substr(0, part);
      rest.remove_prefix(std::min(part + 1, rest.size()));
      std::string_view probe = rule;
      if (take_word(&probe).empty()) continue;
      if (rules.size() == kRulesMax)
        return Status(Code::kBadInput,
                      fmt::format("{}: line {}: expected at most {} rules, found more",
                                  printable(source, 256),
                                  line,
                                  kRulesMax));
      SPW_ASSIGN_OR_RETURN(const FaultRule read, RuleReader(source, line).read(rule));
      rules.push_back(read);
    }
  }
  return rules;
}

Result<std::vector<FaultRule>> faults_from_environment() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing of ours changes the environment
  const char* const value = std::getenv("SPILLWAY_SIM_FAULTS");
  if (value == nullptr || *value == '\0') return std::vector<FaultRule>();
  if (std::string_view(value).find_first_of(" \t\n") != std::string_view::npos)
    return parse_faults(value, "SPILLWAY_SIM_FAULTS");
  SPW_ASSIGN_OR_RETURN(const std::string text, read_file(value));
  return parse_faults(text, value);
}

}  // namespace spillway::sim
