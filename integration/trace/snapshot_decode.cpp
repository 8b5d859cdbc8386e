// SPDX-License-Identifier: Apache-2.0
// From the pickle's dicts to the snapshot model. Field names are those of
// torch/csrc/cuda/memory_snapshot.cpp, old and new.
#include "integration/trace/snapshot_model.hpp"
#include "integration/trace/utf8.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_map>
#include <unordered_set>

namespace spillway {
namespace {

constexpr std::uint64_t kBytesMax = std::uint64_t{1} << 48;   // 256 TiB in one piece is no device
constexpr std::uint64_t kTimeMaxUs = std::uint64_t{1} << 53;  // 285 years
constexpr std::size_t kEventsMax = std::size_t{1} << 30;

class SnapshotDecoder {
 public:
  SnapshotDecoder(const PickleDocument& document,
                  const std::string& source_name,
                  SnapshotStacks& stacks)
      : document_(document), source_name_(source_name), stacks_(stacks) {
    constexpr std::array<std::pair<std::string_view, SnapshotAction>, 9> kActions = {{
        {"alloc", SnapshotAction::kAlloc},
        {"free_requested", SnapshotAction::kFreeRequested},
        {"free_completed", SnapshotAction::kFreeCompleted},
        {"free", SnapshotAction::kFree},
        {"segment_alloc", SnapshotAction::kMap},
        {"segment_map", SnapshotAction::kMap},
        {"segment_free", SnapshotAction::kUnmap},
        {"segment_unmap", SnapshotAction::kUnmap},
        {"oom", SnapshotAction::kOom},
    }};
    for (const auto& [name, action] : kActions) {
      const StringId id = document.key_id(name);
      if (id.valid()) actions_.emplace_back(id, action);
    }
  }

  Result<SnapshotModel> run(int device) {
    const auto segments = document_.find(document_.root(), "segments");
    const auto traces = document_.find(document_.root(), "device_traces");
    if (!segments || !traces || !segments->is_sequence() || !traces->is_sequence())
      return bad(0,
                 "expected a memory snapshot (a dict with the lists segments and device_traces), "
                 "found other data");
    SPW_RETURN_IF_ERROR(choose_device(*traces, *segments, device));
    if (model_.device < document_.size(*traces))
      SPW_RETURN_IF_ERROR(read_events(document_.item(*traces, model_.device)));
    SPW_RETURN_IF_ERROR(read_segments(*segments));
    if (const auto list = document_.find(document_.root(), "external_annotations"))
      read_annotations(*list);
    if (const auto settings = document_.find(document_.root(), "allocator_settings"))
      read_settings(*settings);
    number_annotations();
    return std::move(model_);
  }

 private:
  Status bad(std::uint64_t offset, const std::string& text) const {
    return {Code::kBadInput, source_name_ + ": offset " + std::to_string(offset) + ": " + text};
  }

  Status choose_device(PickleValue traces, PickleValue segments, int device) {
    const std::size_t count = document_.size(traces);
    if (device >= 0) {
      if (static_cast<std::size_t>(device) >= count || device > 0xfffe)
        return {Code::kNotFound,
                source_name_ + ": expected device " + std::to_string(device) + ", found " +
                    std::to_string(count) + " devices"};
      model_.device = static_cast<std::uint16_t>(device);
      return {};
    }
    std::size_t best = 0;
    std::size_t with_events = 0;
    for (std::size_t i = 0; i < std::min<std::size_t>(count, 0xffff); ++i) {
      const std::size_t events = document_.size(document_.item(traces, i));
      if (events != 0) ++with_events;
      if (events > document_.size(document_.item(traces, best))) best = i;
    }
    // Without a history, the device of the first segment.
    if (with_events == 0 && document_.size(segments) != 0)
      best = std::min<std::size_t>(uint_of(document_.item(segments, 0), device_key_).value_or(0),
                                   0xfffe);
    model_.device = static_cast<std::uint16_t>(best);
    if (with_events > 1)
      model_.notes.push_back("events of " + std::to_string(with_events - 1) +
                             " other devices were left out");
    return {};
  }

  std::optional<std::uint64_t> uint_of(PickleValue dict, StringId key) const {
    const auto value = document_.find(dict, key);
    return value ? document_.as_uint(*value) : std::nullopt;
  }

  /// An integer field that must be there, below `limit`.
  Status require(PickleValue dict,
                 StringId key,
                 std::string_view name,
                 std::uint64_t limit,
                 std::uint64_t* out) const {
    const auto value = uint_of(dict, key);
    if (value && *value <= limit) {
      *out = *value;
      return {};
    }
    return bad(document_.offset(dict),
               "expected " + std::string(name) + " to be a whole number from 0 to " +
                   std::to_string(limit));
  }

  std::uint32_t stream_of(PickleValue dict) {
    const std::uint64_t handle = uint_of(dict, stream_key_).value_or(0);
    if (handle == last_stream_handle_) return last_stream_;
    const auto [place, fresh] =
        streams_.try_emplace(handle, static_cast<std::uint32_t>(model_.streams.size()));
    if (fresh) model_.streams.push_back(handle);
    last_stream_handle_ = handle;
    return last_stream_ = place->second;
  }

  std::uint32_t stack_of(PickleValue dict) {
    const auto frames = document_.find(dict, frames_key_);
    return frames ? stacks_.add(*frames) : 0;
  }

  SnapshotAction action_of(PickleValue value) const {
    const auto id = document_.as_string_id(value);
    for (const auto& [text, action] : actions_)
      if (id && *id == text) return action;
    return SnapshotAction::kOther;
  }

  Status read_events(PickleValue list) {
    if (!list.is_sequence())
      return bad(0, "expected the events of a device to be a list, found something else");
    const std::size_t count = document_.size(list);
    if (count > kEventsMax)
      return bad(document_.offset(list), "expected at most 2^30 events, found more");
    model_.events.reserve(count);
    for (std::size_t i = 0; i < count; ++i)
      SPW_RETURN_IF_ERROR(read_event(list, document_.item(list, i)));
    return {};
  }

  Status read_event(PickleValue list, PickleValue dict) {
    const auto action = document_.find(dict, action_key_);
    if (!action)
      return bad(document_.offset(dict.is_container() ? dict : list),
                 "expected an event to be a dict with an action, found something else");
    SnapshotEvent event;
    event.action = action_of(*action);
    if (const auto time = uint_of(dict, time_key_)) {
      if (!first_time_us_) first_time_us_ = *time;
      const std::uint64_t since = *time < *first_time_us_ ? 0 : *time - *first_time_us_;
      last_time_us_ = std::max(last_time_us_, std::min(since, kTimeMaxUs));
    }
    event.time_us = last_time_us_;
    if (event.action == SnapshotAction::kOther) {
      read_user_defined(dict);
      ++other_count_;
    } else if (event.action == SnapshotAction::kOom) {
      SPW_RETURN_IF_ERROR(require(dict, size_key_, "size", kBytesMax, &event.bytes));
      event.address =
          uint_of(dict, device_free_key_).value_or(uint_of(dict, addr_key_).value_or(0));
    } else {
      SPW_RETURN_IF_ERROR(require(dict, size_key_, "size", kBytesMax, &event.bytes));
      SPW_RETURN_IF_ERROR(
          require(dict, addr_key_, "addr", ~std::uint64_t{0} - kBytesMax, &event.address));
    }
    event.stream = stream_of(dict);
    event.stack = stack_of(dict);
    if (const auto metadata = document_.find(dict, metadata_key_)) {
      const auto id = document_.as_string_id(*metadata);
      if (id && !document_.text(*id).empty()) event.metadata = *id;
    }
    model_.events.push_back(event);
    return {};
  }

  /// The first form that annotations had: events of their own.
  void read_user_defined(PickleValue dict) {
    const auto stage = document_.find(dict, "stage");
    const auto name = document_.find(dict, "name");
    if (!stage || !name) return;
    const auto id = document_.as_string_id(*name);
    const auto text = document_.as_string(*stage);
    if (!id || (text != "START" && text != "END")) return;
    add_annotation(*id, text == "START", static_cast<std::uint32_t>(model_.events.size()));
  }

  void add_annotation(StringId name, bool start, std::uint32_t position) {
    SnapshotAnnotation annotation;
    annotation.name = name;
    annotation.start = start;
    annotation.position = position;
    const std::string_view text = document_.text(name);
    annotation.optimizer = text.find("Optimizer.step") != std::string_view::npos ||
                           text.find("Optimizer.zero_grad") != std::string_view::npos;
    model_.annotations.push_back(annotation);
  }

  /// Annotations carry a time only. A start stands before the first event that is not earlier, an
  /// end after the last one that is not later; order of the list is kept.
  void read_annotations(PickleValue list) {
    std::uint32_t position = 0;
    for (std::size_t i = 0; i < document_.size(list) && list.is_sequence(); ++i) {
      const PickleValue dict = document_.item(list, i);
      const auto name = document_.find(dict, "name");
      const auto stage = document_.find(dict, "stage");
      const auto id = name ? document_.as_string_id(*name) : std::nullopt;
      const auto time = uint_of(dict, time_key_);
      if (!id || !time || !stage ||
          uint_of(dict, device_key_).value_or(model_.device) != model_.device)
        continue;
      const bool start = document_.as_string(*stage) == "START";
      if (!start && document_.as_string(*stage) != "END") continue;
      const std::uint64_t since =
          *time < first_time_us_.value_or(0) ? 0 : *time - first_time_us_.value_or(0);
      const auto before = [start](const SnapshotEvent& event, std::uint64_t at) {
        return start ? event.time_us < at : event.time_us <= at;
      };
      const auto place =
          std::lower_bound(model_.events.begin(), model_.events.end(), since, before);
      position = std::max(position, static_cast<std::uint32_t>(place - model_.events.begin()));
      add_annotation(*id, start, position);
    }
  }

  /// Gives each start and its end one number; drops ends without a start.
  void number_annotations() {
    std::stable_sort(model_.annotations.begin(),
                     model_.annotations.end(),
                     [](const auto& a, const auto& b) { return a.position < b.position; });
    std::unordered_map<std::uint32_t, std::vector<std::uint32_t>> open;
    std::vector<SnapshotAnnotation> matched;
    std::uint32_t last = 0;
    for (SnapshotAnnotation annotation : model_.annotations) {
      auto& numbers = open[annotation.name.value];
      if (annotation.start) {
        annotation.number = ++last;
        numbers.push_back(last);
      } else if (!numbers.empty()) {
        annotation.number = numbers.back();
        numbers.pop_back();
      } else {
        continue;
      }
      matched.push_back(annotation);
    }
    if (matched.size() != model_.annotations.size())
      model_.notes.push_back(std::to_string(model_.annotations.size() - matched.size()) +
                             " annotations end without a start and were left out");
    model_.annotations = std::move(matched);
    if (other_count_ != 0)
      model_.notes.push_back(std::to_string(other_count_) +
                             " events are neither memory nor annotations (snapshot, user_defined)");
  }

  Status read_segments(PickleValue list) {
    // A list that stands in the pickle twice is read once: otherwise a small file could ask for
    // endless work.
    std::unordered_set<std::size_t> seen;
    for (std::size_t i = 0; i < document_.size(list); ++i) {
      const PickleValue dict = document_.item(list, i);
      if (dict.kind() != PickleKind::kDict || !seen.insert(document_.container_index(dict)).second)
        return bad(document_.offset(list),
                   "expected segments to be distinct dicts, found something else");
      if (uint_of(dict, device_key_).value_or(model_.device) != model_.device) continue;
      SnapshotSegment segment;
      SPW_RETURN_IF_ERROR(
          require(dict, address_key_, "address", ~std::uint64_t{0} - kBytesMax, &segment.address));
      SPW_RETURN_IF_ERROR(require(dict, total_size_key_, "total_size", kBytesMax, &segment.bytes));
      segment.stream = stream_of(dict);
      model_.segments.push_back(segment);
      const auto blocks = document_.find(dict, blocks_key_);
      if (!blocks || !blocks->is_sequence()) continue;
      if (document_.size(*blocks) != 0 && !seen.insert(document_.container_index(*blocks)).second)
        return bad(document_.offset(dict),
                   "expected segments to have their own lists of blocks, found a shared one");
      SPW_RETURN_IF_ERROR(read_blocks(dict, *blocks, segment));
    }
    return {};
  }

  Status read_blocks(PickleValue segment_dict, PickleValue blocks, const SnapshotSegment& segment) {
    std::uint64_t next_address = segment.address;
    for (std::size_t i = 0; i < document_.size(blocks); ++i) {
      const PickleValue dict = document_.item(blocks, i);
      const auto state_value = document_.find(dict, state_key_);
      if (!state_value)
        return bad(document_.offset(segment_dict), "expected blocks to be dicts with a state");
      SnapshotBlock block;
      SPW_RETURN_IF_ERROR(require(dict, size_key_, "size", kBytesMax, &block.block_bytes));
      block.bytes = block.block_bytes;
      // Old snapshots leave the address out: blocks follow each other.
      block.address = uint_of(dict, address_key_).value_or(next_address);
      next_address = block.address + block.block_bytes;
      const std::string_view state = document_.as_string(*state_value).value_or("");
      if (state.substr(0, 6) != "active") continue;
      block.pending_free = state == "active_pending_free" || state == "active_awaiting_free";
      const auto requested = uint_of(dict, requested_size_key_);
      if (requested && *requested != 0 && *requested <= block.block_bytes) block.bytes = *requested;
      block.stream = segment.stream;
      block.stack = stack_of(dict);
      model_.blocks.push_back(block);
    }
    return {};
  }

  void read_settings(PickleValue dict) {
    if (dict.kind() != PickleKind::kDict) return;
    for (std::size_t i = 0; i < std::min<std::size_t>(document_.size(dict), 64); ++i) {
      const std::string key =
          clean_utf8(document_.as_string(document_.key(dict, i)).value_or(""), 128);
      const std::string text = setting_text(key, document_.entry(dict, i));
      if (!key.empty() && !text.empty()) model_.settings.emplace_back(key, text);
    }
  }

  /// "" for a value that is the default.
  std::string setting_text(const std::string& key, PickleValue value) const {
    if (const auto text = document_.as_string(value)) return clean_utf8(*text);
    if (const auto flag = document_.as_bool(value)) return *flag ? "true" : "";
    if (const auto number = document_.as_int(value)) {
      const bool is_default =
          *number == 0 || *number == -1 || (*number == 1 && key == "pinned_num_register_threads");
      return is_default ? "" : std::to_string(*number);
    }
    if (value.kind() == PickleKind::kFloat) {
      const double number = document_.as_float(value).value_or(0);
      return number == 0 || !std::isfinite(number) ? "" : std::to_string(number);
    }
    if (value.kind() != PickleKind::kDict) return "";
    std::string joined;
    for (std::size_t i = 0; i < std::min<std::size_t>(document_.size(value), 64); ++i) {
      const auto number = document_.as_int(document_.entry(value, i));
      const auto name = document_.as_string(document_.key(value, i));
      if (!number || *number == 0 || !name) continue;
      joined += (joined.empty() ? "" : ",") + clean_utf8(*name, 64) + ":" + std::to_string(*number);
    }
    return joined;
  }

  const PickleDocument& document_;
  const std::string& source_name_;
  SnapshotStacks& stacks_;
  SnapshotModel model_;
  std::vector<std::pair<StringId, SnapshotAction>> actions_;
  std::unordered_map<std::uint64_t, std::uint32_t> streams_{{0, 0}};
  std::uint64_t last_stream_handle_ = 0;
  std::uint32_t last_stream_ = 0;
  std::optional<std::uint64_t> first_time_us_;
  std::uint64_t last_time_us_ = 0;
  std::size_t other_count_ = 0;

  const StringId action_key_ = document_.key_id("action");
  const StringId addr_key_ = document_.key_id("addr");
  const StringId device_free_key_ = document_.key_id("device_free");
  const StringId address_key_ = document_.key_id("address");
  const StringId size_key_ = document_.key_id("size");
  const StringId requested_size_key_ = document_.key_id("requested_size");
  const StringId total_size_key_ = document_.key_id("total_size");
  const StringId stream_key_ = document_.key_id("stream");
  const StringId time_key_ = document_.key_id("time_us");
  const StringId frames_key_ = document_.key_id("frames");
  const StringId metadata_key_ = document_.key_id("user_metadata");
  const StringId device_key_ = document_.key_id("device");
  const StringId blocks_key_ = document_.key_id("blocks");
  const StringId state_key_ = document_.key_id("state");
};

}  // namespace

Result<SnapshotModel> decode_snapshot(const PickleDocument& document,
                                      const std::string& source_name,
                                      int device,
                                      SnapshotStacks& stacks) {
  return SnapshotDecoder(document, source_name, stacks).run(device);
}

}  // namespace spillway
