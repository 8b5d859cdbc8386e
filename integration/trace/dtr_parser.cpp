// SPDX-License-Identifier: Apache-2.0
// One JSON object per line, numbers as texts or numbers. A call's results come on lines of their
// own; the parser waits for the last of them. A storage lives as long as any of its tensors has a
// name.
#include "integration/trace/dtr_parser.hpp"

#include "integration/trace/utf8.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

namespace spillway {
namespace {

constexpr std::uint64_t kBytesMax = std::uint64_t{1} << 48;
constexpr std::uint64_t kTotalMax = std::uint64_t{1}
                                    << 60;  // of bytes ever made, and of the clock in ns
constexpr std::size_t kNameMaxBytes = 1024;
constexpr std::size_t kResultsMax = 4096;
constexpr std::uint32_t kTensorsMax = std::numeric_limits<std::uint32_t>::max() - 1;

/// One line, by field. Texts and numbers are both kept as text: the logs write numbers either way.
struct DtrLine {
  std::string instruction, name, memory, time, alias, annotation, dst, src;
  std::vector<std::string> args, result, mutate;

  void clear() {
    for (std::string* text : {&instruction, &name, &memory, &time, &alias, &annotation, &dst, &src})
      text->clear();
    for (std::vector<std::string>* list : {&args, &result, &mutate}) list->clear();
  }
};

/// Takes a flat object whose entries are texts, numbers or lists of these; stops at anything
/// deeper.
class DtrLineSax {
 public:
  explicit DtrLineSax(DtrLine& line) : line_(line) {}

  bool null() { return true; }
  bool boolean(bool) { return true; }
  bool number_integer(std::int64_t number) { return text(std::to_string(number)); }
  bool number_unsigned(std::uint64_t number) { return text(std::to_string(number)); }
  bool number_float(double, const std::string& number) { return text(number); }
  bool string(std::string& value) { return text(std::move(value)); }
  bool binary(std::vector<std::uint8_t>&) { return false; }
  bool start_object(std::size_t) { return ++depth_ == 1; }
  bool end_object() { return true; }
  bool start_array(std::size_t) {
    in_list_ = true;
    return ++depth_ == 2;
  }
  bool end_array() {
    --depth_;
    in_list_ = false;
    return true;
  }
  bool key(std::string& name) {
    field_ = nullptr;
    list_ = nullptr;
    if (name == "INSTRUCTION")
      field_ = &line_.instruction;
    else if (name == "NAME")
      field_ = &line_.name;
    else if (name == "MEMORY")
      field_ = &line_.memory;
    else if (name == "TIME")
      field_ = &line_.time;
    else if (name == "ALIAS")
      field_ = &line_.alias;
    else if (name == "ANNOTATION")
      field_ = &line_.annotation;
    else if (name == "DST")
      field_ = &line_.dst;
    else if (name == "SRC")
      field_ = &line_.src;
    else if (name == "ARGS")
      list_ = &line_.args;
    else if (name == "RESULT")
      list_ = &line_.result;
    else if (name == "MUTATE")
      list_ = &line_.mutate;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) {
    error_position_ = position;
    return false;
  }
  [[nodiscard]] std::optional<std::size_t> error_position() const { return error_position_; }

 private:
  bool text(std::string value) {
    if (in_list_) {
      if (list_ != nullptr) list_->push_back(std::move(value));
    } else if (field_ != nullptr) {
      *field_ = std::move(value);
    }
    return depth_ != 0;
  }

  DtrLine& line_;
  std::string* field_ = nullptr;
  std::vector<std::string>* list_ = nullptr;
  int depth_ = 0;
  bool in_list_ = false;
  std::optional<std::size_t> error_position_;
};

class DtrParser {
 public:
  DtrParser(BufferedInput& input, DtrLogSink& sink) : input_(input), sink_(sink) {}

  Result<DtrLogFacts> run() {
    for (;;) {
      SPW_ASSIGN_OR_RETURN(const bool ended, input_.at_end());
      if (ended) break;
      offset_ = input_.offset();
      SPW_ASSIGN_OR_RETURN(const std::string_view text, input_.line());
      if (text.find_first_not_of(" \t") == std::string_view::npos) continue;
      SPW_RETURN_IF_ERROR(parse(text));
      SPW_RETURN_IF_ERROR(execute());
    }
    offset_ = input_.offset();
    if (!started_) return bad("expected a line ANNOTATE START, found the end of the file");
    SPW_RETURN_IF_ERROR(expect_complete());
    return facts_;
  }

 private:
  struct Storage {
    std::uint64_t bytes = 0;
    std::uint64_t names = 0;  // that refer to any of its tensors
  };
  struct PendingResult {
    std::string name;
    std::optional<std::uint64_t> bytes;
    std::optional<std::size_t> alias;  // index of an argument
    bool alias_known = false;
  };

  Status bad(const std::string& text) const {
    return {Code::kBadInput,
            input_.source().name() + ": offset " + std::to_string(offset_) + ": " + text};
  }
  static std::string quoted(const std::string& text) { return "\"" + clean_utf8(text, 64) + "\""; }

  Status parse(std::string_view text) {
    line_.clear();
    DtrLineSax sax(line_);
    if (nlohmann::json::sax_parse(text.begin(), text.end(), &sax)) return {};
    // Names that are not UTF-8 are made so; whatever else is wrong stays wrong.
    line_.clear();
    DtrLineSax second(line_);
    const std::string clean = clean_utf8(text, 3 * text.size());
    if (nlohmann::json::sax_parse(clean.begin(), clean.end(), &second)) return {};
    offset_ += std::min<std::uint64_t>(second.error_position().value_or(0), text.size());
    return bad(
        second.error_position()
            ? "expected one JSON object on the line, found something else"
            : "expected a flat JSON object of texts and lists of texts, found other nesting");
  }

  Status number(const std::string& text,
                const char* what,
                std::uint64_t limit,
                std::uint64_t* value) const {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
    if (error == std::errc() && end == text.data() + text.size() && !text.empty() &&
        *value <= limit)
      return {};
    return bad(std::string("expected ") + what + " to be a whole number from 0 to " +
               std::to_string(limit) + ", found " + quoted(text));
  }

  Status find(const std::string& name, DtrValue* value) const {
    const auto place = names_.find(name);
    if (place == names_.end())
      return bad("expected the name of a live tensor, found " + quoted(name));
    *value = place->second;
    return {};
  }

  Status bind(const std::string& name, const DtrValue& value) {
    if (name.empty() || name.size() > kNameMaxBytes)
      return bad("expected a name of 1 to 1024 bytes, found " + quoted(name));
    if (!names_.emplace(name, value).second)
      return bad("expected a new name, found " + quoted(name) + " a second time");
    ++storages_[value.storage].names;
    return {};
  }

  void release(const std::string& name) {
    const auto place = names_.find(name);
    if (place == names_.end()) return;  // the logs release names that they never made
    const DtrValue value = place->second;
    names_.erase(place);
    sink_.on_forget(value, --storages_[value.storage].names == 0);
  }

  Status make_storage(std::uint64_t bytes, DtrMade* made) {
    if ((total_bytes_ += bytes) > kTotalMax)
      return bad("expected storages below 2^60 bytes together, found more");
    SPW_RETURN_IF_ERROR(make_tensor(static_cast<std::uint32_t>(storages_.size()), made));
    storages_.push_back({bytes, 0});
    made->bytes = bytes;
    made->view = false;
    return {};
  }

  Status make_tensor(std::uint32_t storage, DtrMade* made) {
    if (tensor_count_ == kTensorsMax) return bad("expected fewer than 2^32 tensors, found more");
    made->value = {tensor_count_++, storage};
    made->view = true;
    return {};
  }

  Status expect_complete() const {
    if (pending_constant_)
      return bad("expected MEMORY of constant " + quoted(*pending_constant_) + " next");
    if (pending_call_)
      return bad(
          "expected MEMORY and ALIAS of every result of the call before, found another line");
    return {};
  }

  Status execute() {
    const std::string& what = line_.instruction;
    if (what == "ANNOTATE") return annotate();
    if (!started_) return {};
    if (what == "MEMORY") return memory();
    if (what == "ALIAS") return alias();
    SPW_RETURN_IF_ERROR(expect_complete());
    if (what == "CONSTANT") {
      pending_constant_ = line_.name;
      return {};
    }
    if (what == "CALL") return call();
    if (what == "MUTATE") return mutate();
    if (what == "COPY") {
      DtrValue source;
      SPW_RETURN_IF_ERROR(find(line_.src, &source));
      SPW_RETURN_IF_ERROR(bind(line_.dst, source));
      sink_.on_name(source);
      return {};
    }
    if (what == "COPY_FROM") return copy_from();
    if (what == "RELEASE") {
      release(line_.name);
      return {};
    }
    return bad("expected an INSTRUCTION of a DTR log, found " + quoted(what));
  }

  Status annotate() {
    if (line_.annotation == "START" && !started_) {
      started_ = true;
      sink_.on_start(clean_utf8(line_.name));
    } else if (line_.annotation == "BACKWARD") {
      sink_.on_backward();
    }
    return {};
  }

  Status memory() {
    std::uint64_t bytes = 0;
    SPW_RETURN_IF_ERROR(number(line_.memory, "MEMORY", kBytesMax, &bytes));
    if (pending_constant_) {
      if (line_.name != *pending_constant_)
        return bad("expected MEMORY of " + quoted(*pending_constant_) + ", found " +
                   quoted(line_.name));
      pending_constant_.reset();
      return constant(bytes);
    }
    PendingResult* result = pending_result();
    if (result == nullptr || result->bytes)
      return bad("expected MEMORY of a result of the call before, found " + quoted(line_.name));
    result->bytes = bytes;
    return finish_call_if_complete();
  }

  Status alias() {
    PendingResult* result = pending_result();
    if (result == nullptr || result->alias_known)
      return bad("expected ALIAS of a result of the call before, found " + quoted(line_.name));
    result->alias_known = true;
    if (line_.alias != "-1") {
      std::uint64_t index = 0;
      SPW_RETURN_IF_ERROR(number(line_.alias, "ALIAS", kBytesMax, &index));
      if (index >= call_args_.size())
        return bad("expected ALIAS to be -1 or the index of an argument, found " +
                   quoted(line_.alias));
      result->alias = index;
    }
    return finish_call_if_complete();
  }

  PendingResult* pending_result() {
    if (!pending_call_) return nullptr;
    for (PendingResult& result : results_)
      if (result.name == line_.name && !(result.bytes && result.alias_known)) return &result;
    return nullptr;
  }

  Status constant(std::uint64_t bytes) {
    DtrMade made;
    SPW_RETURN_IF_ERROR(make_storage(bytes, &made));
    SPW_RETURN_IF_ERROR(bind(line_.name, made.value));
    sink_.on_constant(clean_utf8(line_.name), made);
    return {};
  }

  /// Checks the arguments and keeps the call until its results are known.
  Status begin_call() {
    call_name_ = clean_utf8(line_.name, kNameMaxBytes);
    SPW_RETURN_IF_ERROR(number(line_.time, "TIME", kTotalMax, &call_time_ns_));
    if ((clock_ns_ += call_time_ns_) > kTotalMax)
      return bad("expected times below 2^60 ns together, found more");
    call_args_.clear();
    for (const std::string& name : line_.args) {
      DtrValue value;
      SPW_RETURN_IF_ERROR(find(name, &value));
      call_args_.push_back(value);
    }
    return {};
  }

  Status call() {
    SPW_RETURN_IF_ERROR(begin_call());
    results_.clear();
    if (line_.result.size() > kResultsMax)
      return bad("expected at most 4096 results, found " + std::to_string(line_.result.size()));
    for (std::string& name : line_.result)
      results_.push_back({std::move(name), std::nullopt, std::nullopt, false});
    pending_call_ = true;
    return finish_call_if_complete();
  }

  void tell_call() { sink_.on_call({call_name_, call_time_ns_, call_args_, made_}); }

  Status finish_call_if_complete() {
    // Results come in order, so the last one tells; and each line is looked at once.
    for (; complete_results_ < results_.size(); ++complete_results_) {
      const PendingResult& result = results_[complete_results_];
      if (!result.bytes || !result.alias_known) return {};
    }
    pending_call_ = false;
    complete_results_ = 0;
    made_.assign(results_.size(), DtrMade{});
    for (std::size_t i = 0; i < results_.size(); ++i) {
      const PendingResult& result = results_[i];
      if (result.alias) {
        const std::uint32_t storage = call_args_[*result.alias].storage;
        SPW_RETURN_IF_ERROR(make_tensor(storage, &made_[i]));
        made_[i].bytes = storages_[storage].bytes;
      } else {
        SPW_RETURN_IF_ERROR(make_storage(*result.bytes, &made_[i]));
      }
      SPW_RETURN_IF_ERROR(bind(result.name, made_[i].value));
    }
    tell_call();
    results_.clear();
    return {};
  }

  Status mutate() {
    SPW_RETURN_IF_ERROR(begin_call());
    std::vector<std::size_t> mutated;
    for (const std::string& text : line_.mutate) {
      std::uint64_t index = 0;
      SPW_RETURN_IF_ERROR(number(text, "an entry of MUTATE", kBytesMax, &index));
      if (index >= call_args_.size())
        return bad("expected MUTATE to name arguments by index, found " + quoted(text));
      mutated.push_back(index);
    }
    ++facts_.mutate_count;
    made_.assign(mutated.size(), DtrMade{});
    for (std::size_t i = 0; i < mutated.size(); ++i)
      SPW_RETURN_IF_ERROR(make_storage(storages_[call_args_[mutated[i]].storage].bytes, &made_[i]));
    tell_call();
    for (std::size_t i = 0; i < mutated.size(); ++i) {
      const std::string& name = line_.args[mutated[i]];
      release(name);
      SPW_RETURN_IF_ERROR(bind(name, made_[i].value));
    }
    return {};
  }

  Status copy_from() {
    DtrValue source;
    SPW_RETURN_IF_ERROR(find(line_.src, &source));
    // Named before the release: both names may point to one tensor.
    ++storages_[source.storage].names;
    sink_.on_name(source);
    release(line_.dst);
    --storages_[source.storage].names;
    return bind(line_.dst, source);
  }

  BufferedInput& input_;
  DtrLogSink& sink_;
  DtrLine line_;
  std::uint64_t offset_ = 0;  // of the line at work
  bool started_ = false;
  std::uint64_t clock_ns_ = 0;
  std::uint64_t total_bytes_ = 0;
  std::uint32_t tensor_count_ = 0;
  DtrLogFacts facts_;
  std::unordered_map<std::string, DtrValue> names_;
  std::vector<Storage> storages_;
  std::optional<std::string> pending_constant_;
  bool pending_call_ = false;
  std::string call_name_;
  std::uint64_t call_time_ns_ = 0;
  std::vector<DtrValue> call_args_;
  std::vector<PendingResult> results_;
  std::vector<DtrMade> made_;
  std::size_t complete_results_ = 0;
};

}  // namespace

Result<DtrLogFacts> parse_dtr_log(BufferedInput& input, DtrLogSink& sink) {
  return DtrParser(input, sink).run();
}

}  // namespace spillway
