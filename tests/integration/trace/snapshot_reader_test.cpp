// SPDX-License-Identifier: Apache-2.0
// PyTorch snapshots: lifetimes rebuilt from both ends, phases and layers from stacks, and the
// recorded files to the byte.
#include "core/tag.hpp"
#include "integration/trace/reader.hpp"
#include "tests/support/gzip.hpp"
#include "tests/support/pickle_writer.hpp"
#include "tests/support/shared_data.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

namespace spillway {
namespace {

using nlohmann::json;

/// Follows lifetimes the simple way: a judge that shares nothing with the reader.
class LifetimeJudge final : public TraceSink {
 public:
  void string(StringId id, std::string_view text) override {
    if (id.index() != texts.size()) ++violations;
    texts.emplace_back(text);
  }
  void record(const Record& record) override {
    ++counts[record.kind];
    if (record.time_ns < last_time_ns) ++violations;
    last_time_ns = record.time_ns;
    switch (record.kind) {
      case RecordKind::kAlloc:
        if (!live.emplace(record.id, record.arg).second ||
            !ever.emplace(record.id, record.arg).second)
          ++violations;
        live_bytes += record.arg;
        peak_bytes = std::max(peak_bytes, live_bytes);
        if ((record.flags & kRecordPreexisting) != 0) preexisting.push_back(record.id);
        break;
      case RecordKind::kFreeRequested:
        if (live.count(record.id) == 0 || !requested.insert({record.id, true}).second) ++violations;
        break;
      case RecordKind::kFreeCompleted:
        if (live.count(record.id) == 0 || requested.count(record.id) == 0) {
          ++violations;
          break;
        }
        live_bytes -= live[record.id];
        live.erase(record.id);
        break;
      case RecordKind::kTag:
        tags[record.id] = unpack_tag(record.arg);
        break;
      case RecordKind::kName:
        names[record.id] = texts.at(record.arg);
        break;
      case RecordKind::kStackOf:
        stacks[record.id] = record.arg;
        break;
      case RecordKind::kFrame:
        frames[record.id] = record.arg;
        break;
      case RecordKind::kRangePush:
        story += texts.at(record.stream) + "+" + texts.at(record.arg) + " ";
        break;
      case RecordKind::kRangePop:
        story += texts.at(record.stream) + "- ";
        break;
      case RecordKind::kRangeStart:
        story += "<" + texts.at(record.arg) + " ";
        break;
      case RecordKind::kRangeEnd:
        story += "> ";
        break;
      case RecordKind::kStep:
        story += "step" + std::to_string(record.id) + " ";
        break;
      case RecordKind::kMeta:
        meta[texts.at(record.id)] = texts.at(record.arg);
        break;
      default:
        break;
    }
  }

  /// "outermost > ... > innermost"
  std::string stack_text(std::uint64_t id) {
    std::string text;
    for (std::uint64_t node = stacks[id]; node != 0; node = frames[node] >> 32)
      text = texts.at(frames[node] & 0xffffffffu) + (text.empty() ? "" : " > ") + text;
    return text;
  }

  std::vector<std::string> texts{""};
  std::map<RecordKind, std::size_t> counts;
  std::map<std::uint64_t, std::uint64_t> live, ever;
  std::map<std::uint64_t, bool> requested;
  std::map<std::uint64_t, Tag> tags;
  std::map<std::uint64_t, std::string> names;
  std::map<std::uint64_t, std::uint64_t> stacks, frames;
  std::map<std::string, std::string> meta;
  std::vector<std::uint64_t> preexisting;
  std::string story;
  std::uint64_t live_bytes = 0, peak_bytes = 0, last_time_ns = 0;
  std::size_t violations = 0;
};

json frame(const std::string& file, int line, const std::string& name) {
  return {{"filename", file}, {"line", line}, {"name", name}};
}
json model_stack(int line) {
  return {frame("??", 0, "at::_ops::mul_Tensor::call(at::Tensor const&)"),
          frame("/u/net/model.py", line, "forward"),
          frame("/v/site-packages/torch/nn/modules/module.py", 1790, "_call_impl"),
          frame("/u/train.py", 9, "<module>")};
}
json backward_stack() {
  return {
      frame("??", 0, "at::_ops::empty_like::call(at::Tensor const&)"),
      frame("??", 0, "at::_ops::clone::call(at::Tensor const&)"),
      frame(
          "F.cpp", 0, "torch::autograd::generated::MulBackward0::apply(std::vector<at::Tensor>&&)"),
      frame("??", 0, "torch::autograd::Engine::thread_main(std::shared_ptr<G> const&)")};
}
json optimizer_stack() {
  return {frame("/v/site-packages/torch/optim/adamw.py", 70, "step"),
          frame("/u/train.py", 12, "<module>")};
}

struct Builder {
  json events = json::array();
  json blocks = json::array();
  json annotations = json::array();
  std::int64_t time_us = 1700000000000000;

  void add(const std::string& action,
           std::int64_t addr,
           std::int64_t size,
           const json& frames = json::array()) {
    events.push_back({{"action", action},
                      {"addr", addr},
                      {"size", size},
                      {"stream", 0},
                      {"time_us", time_us++},
                      {"frames", frames}});
  }
  void alloc(std::int64_t addr, std::int64_t size, const json& frames) {
    add("alloc", addr, size, frames);
  }
  void release(std::int64_t addr, std::int64_t size, const json& frames) {
    add("free_requested", addr, size, frames);
    add("free_completed", addr, size, frames);
  }
  void block(std::int64_t addr,
             std::int64_t size,
             const std::string& state,
             const json& frames = json::array()) {
    blocks.push_back({{"address", addr},
                      {"size", (size + 511) / 512 * 512},
                      {"requested_size", size},
                      {"state", state},
                      {"frames", frames}});
  }
  json snapshot() const {
    const json segment = {{"device", 0},
                          {"address", 4096},
                          {"total_size", 1 << 20},
                          {"stream", 0},
                          {"segment_type", "large"},
                          {"blocks", blocks}};
    return {{"segments", {segment}},
            {"device_traces", {events}},
            {"external_annotations", annotations},
            {"allocator_settings", {{"expandable_segments", true}, {"max_split_size", -1}}}};
  }
};

TraceInfo read(const std::string& bytes, LifetimeJudge& judge) {
  const auto source = memory_source(bytes);
  auto info = read_trace(*source, {}, judge);
  REQUIRE_MESSAGE(info.ok(), info.status().message());
  return std::move(info).value();
}

std::string error_of(const std::string& bytes) {
  LifetimeJudge judge;
  const auto source = memory_source(bytes, "s.pickle");
  const auto info = read_trace(*source, {}, judge);
  return info.ok() ? "accepted" : info.status().message();
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("state before the first event is rebuilt from frees and from the final blocks") {
  Builder b;
  b.release(8192, 700, model_stack(1));  // was there, freed in the history
  b.add("free_completed", 16384, 100);   // was there, its free was requested before
  b.alloc(8192, 900, model_stack(2));    // lives on
  b.alloc(20480, 50, model_stack(3));
  b.add("free_requested", 20480, 50);  // completion is not in the history
  b.block(8192, 900, "active_allocated");
  b.block(20480, 50, "active_pending_free");
  b.block(32768, 1000, "active_allocated");    // was there all along
  b.block(65536, 30, "active_awaiting_free");  // was there, request before, no completion
  b.block(70000, 5000, "inactive");
  for (int protocol : {2, 4}) {
    LifetimeJudge judge;
    const TraceInfo info = read(test::pickle_of(b.snapshot(), protocol), judge);
    CHECK(info.format == "pytorch-snapshot");
    CHECK(judge.violations == 0);
    CHECK(judge.preexisting == std::vector<std::uint64_t>{1, 2, 3, 4});
    CHECK(judge.ever == std::map<std::uint64_t, std::uint64_t>{
                            {1, 700}, {2, 100}, {3, 1000}, {4, 30}, {5, 900}, {6, 50}});
    CHECK(judge.live_bytes == 900 + 50 + 1000 + 30);
    CHECK(judge.peak_bytes == 700 + 100 + 1000 + 30 + 150);
    CHECK(judge.tags[3].kind == BufferKind::kParameter);
    CHECK(judge.tags[3].has(kPreexisting));
    CHECK(judge.tags[3].has(kTagInferred));
    CHECK(judge.meta["allocator_settings.expandable_segments"] == "true");
    CHECK(judge.meta.count("allocator_settings.max_split_size") == 0);
  }
}

TEST_CASE("frees that overlap oddly are requested once and completed once") {
  Builder b;
  b.alloc(8192, 100, model_stack(1));
  b.add("free_requested", 8192, 100);
  b.alloc(8192, 200, model_stack(1));  // the completion of the first is missing
  b.add("free_requested", 8192, 200);
  b.add("free", 8192, 200);
  b.add("free", 8192, 200);  // once more: no such storage
  b.add("free", 16384, 300);
  b.alloc(24576, 400, model_stack(1));
  b.alloc(24576, 500, model_stack(1));
  LifetimeJudge judge;
  const TraceInfo info = read(test::pickle_of(b.snapshot()), judge);
  CHECK(judge.violations == 0);
  CHECK(judge.counts[RecordKind::kFreeRequested] == 4);
  CHECK(judge.counts[RecordKind::kFreeCompleted] == 4);
  CHECK(judge.live_bytes == 500);
  CHECK(info.notes.size() == 3);
}

TEST_CASE("phases, steps and kinds follow from stacks and annotations") {
  Builder b;
  for (int step = 0; step < 2; ++step) {
    b.alloc(8192, 100, model_stack(1));
    b.alloc(16384, 100, backward_stack());
    b.release(8192, 100, backward_stack());
    if (step == 0)
      b.annotations.push_back({{"stage", "START"},
                               {"name", "Optimizer.step#AdamW.step"},
                               {"device", 0},
                               {"time_us", b.time_us}});
    b.alloc(24576, 100, optimizer_stack());
    b.release(32768 + 8192 * step, 100, optimizer_stack());
    if (step == 0)
      b.annotations.push_back({{"stage", "END"},
                               {"name", "Optimizer.step#AdamW.step"},
                               {"device", 0},
                               {"time_us", b.time_us - 1}});
    b.release(24576, 100, optimizer_stack());
    b.release(16384, 100, json::array({frame("/u/train.py", 14, "zero_grad")}));
  }
  LifetimeJudge judge;
  const TraceInfo info = read(test::pickle_of(b.snapshot()), judge);
  CHECK(judge.violations == 0);
  CHECK(judge.story ==
        "step0 spillway+forward spillway- spillway+backward <Optimizer.step#AdamW.step spillway- "
        "spillway+optimizer > spillway- step1 "
        "spillway+forward spillway- spillway+backward spillway- spillway+optimizer spillway- ");
  CHECK(judge.tags[1].kind == BufferKind::kOptimizer);
  CHECK(judge.tags[2].kind == BufferKind::kOptimizer);
  CHECK(judge.tags[3].phase == Phase::kForward);
  CHECK(judge.tags[4].phase == Phase::kBackward);
  CHECK(judge.tags[5].phase == Phase::kOptimizer);
  CHECK(judge.tags[3].kind == BufferKind::kUnknown);
  CHECK(info.inferred.size() == 3);
}

TEST_CASE(
    "a forward pass inside the autograd engine is recompute and stays backward; one outside is a "
    "micro-batch") {
  json recompute = model_stack(1);
  for (const auto& part : backward_stack()) recompute.push_back(part);
  Builder b;
  b.alloc(8192, 100, model_stack(1));
  b.alloc(16384, 100, backward_stack());
  b.alloc(24576, 100, recompute);
  b.alloc(32768, 100, model_stack(1));
  b.alloc(40960, 100, backward_stack());
  LifetimeJudge judge;
  read(test::pickle_of(b.snapshot()), judge);
  CHECK(judge.tags[3].phase == Phase::kBackward);
  CHECK(judge.tags[4].phase == Phase::kForward);
  CHECK(judge.tags[3].micro_batch == 0);
  CHECK(judge.tags[4].micro_batch == 1);
  CHECK(judge.tags[5].micro_batch == 1);
}

TEST_CASE("layers come from stacks that repeat, also those that run several times per layer") {
  Builder b;
  std::int64_t addr = 8192;
  const auto alloc = [&](int line, std::int64_t size) {
    b.alloc(addr += 8192, size, model_stack(line));
  };
  alloc(1, 10000);
  for (int layer = 0; layer < 3; ++layer) {
    alloc(2, 4000);
    alloc(3, 100);
    alloc(3, 100);
  }
  alloc(4, 10000);
  LifetimeJudge judge;
  const TraceInfo info = read(test::pickle_of(b.snapshot()), judge);
  std::string layers;
  for (std::uint64_t id = 1; id <= 11; ++id)
    layers += judge.tags[id].layer == kNoLayer ? "-" : std::to_string(judge.tags[id].layer);
  CHECK(layers == "-000111222-");
  CHECK(std::any_of(info.inferred.begin(), info.inferred.end(), [](const std::string& line) {
    return line.rfind("layers: 3,", 0) == 0;
  }));
}

TEST_CASE(
    "stacks keep Python where there is Python, and autograd's node with its operator where there "
    "is none") {
  Builder b;
  b.alloc(8192, 100, model_stack(147));
  b.alloc(16384, 100, backward_stack());
  b.alloc(24576, 100, json::array({frame("??", 0, "__clone")}));
  LifetimeJudge judge;
  read(test::pickle_of(b.snapshot()), judge);
  CHECK(judge.stack_text(1) ==
        "u/train.py:9 <module> > torch/nn/modules/module.py:1790 _call_impl > net/model.py:147 "
        "forward");
  CHECK(judge.names[1] == "model.py:147 forward");
  CHECK(judge.stack_text(2) == "MulBackward0 > at::clone");
  CHECK(judge.names[2] == "MulBackward0");
  CHECK(judge.stack_text(3).empty());
  CHECK(judge.names.count(3) == 0);
}

TEST_CASE("user metadata, segments, out of memory, legacy frees and streams keep their place") {
  Builder b;
  b.add("segment_alloc", 1 << 20, 4096);
  b.alloc(8192, 100, model_stack(1));
  b.events.back()["user_metadata"] = "epoch \xff 1";
  b.events.back()["stream"] = 0x7f0000001234;
  b.add("free", 8192, 100);
  b.events.push_back(
      {{"action", "oom"}, {"device_free", 77}, {"size", 5000}, {"stream", 0}, {"time_us", 1}});
  b.events.push_back({{"action", "user_defined"}, {"stage", "START"}, {"name", "mine"}});
  b.add("segment_free", 2 << 20, 8192);
  LifetimeJudge judge;
  const std::string bytes = test::pickle_of(b.snapshot());
  read(bytes, judge);
  CHECK(judge.violations == 0);
  CHECK(judge.counts[RecordKind::kMap] ==
        3);  // the final segment, the one unmapped later, the one mapped
  CHECK(judge.counts[RecordKind::kUnmap] == 1);
  CHECK(judge.counts[RecordKind::kOom] == 1);
  CHECK(judge.counts[RecordKind::kStream] == 1);
  CHECK(judge.live_bytes == 0);
  CHECK(judge.story.find("pytorch.user_metadata+epoch \xef\xbf\xbd 1 pytorch.user_metadata- ") !=
        std::string::npos);
  CHECK(judge.story.find("<mine ") != std::string::npos);
}

TEST_CASE(
    "a snapshot of several devices gives the one with the most events, or the one asked for") {
  Builder small, large;
  small.alloc(8192, 1, model_stack(1));
  large.alloc(8192, 2, model_stack(1));
  large.alloc(16384, 2, model_stack(1));
  json both = small.snapshot();
  both["device_traces"] = {small.events, large.events};
  const std::string bytes = test::pickle_of(both);
  for (int device : {-1, 0, 1}) {
    LifetimeJudge judge;
    ReadOptions options;
    options.device = device;
    const auto source = memory_source(bytes);
    REQUIRE(read_trace(*source, options, judge).ok());
    CHECK(judge.live_bytes == (device == 0 ? 1 : 4));
  }
  LifetimeJudge judge;
  ReadOptions options;
  options.device = 2;
  const auto source = memory_source(bytes);
  CHECK(read_trace(*source, options, judge).status().code() == Code::kNotFound);
}

TEST_CASE("a snapshot that is no snapshot, or has impossible numbers, is refused with the place") {
  CHECK(error_of(test::pickle_of(json{{"a", 1}}))
            .find("s.pickle: offset 0: expected a memory snapshot") == 0);
  CHECK(error_of(test::pickle_of(json(3))).find("expected a memory snapshot") != std::string::npos);
  const auto with_size = [](const json& size) {
    Builder b;
    b.alloc(8192, 1, model_stack(1));
    b.events[0]["size"] = size;
    return error_of(test::pickle_of(b.snapshot()));
  };
  CHECK(with_size(-5).find("expected size to be a whole number from 0 to") != std::string::npos);
  CHECK(with_size(std::int64_t{1} << 60).find("expected size to be a whole number") !=
        std::string::npos);
  CHECK(with_size("many").find("expected size") != std::string::npos);
  CHECK(with_size(5) == "accepted");
  Builder b;
  b.events.push_back(7);
  CHECK(error_of(test::pickle_of(b.snapshot()))
            .find("expected an event to be a dict with an action") != std::string::npos);
}

TEST_CASE("lists shared so that a small file asks for endless work are refused") {
  // segments = [d] * 3 with one dict
  test::PickleWriter writer;
  writer.raw("}(");
  writer.text("device_traces");
  writer.raw("]");
  writer.text("segments");
  writer.raw("](");
  writer.value({{"device", 0}, {"address", 0}, {"total_size", 1}, {"blocks", json::array()}});
  // the dict is the third thing memorised: two texts, then itself
  writer.raw(
      "h\x02h\x02"
      "eu");
  CHECK(error_of(writer.finish()).find("expected segments to be distinct dicts") !=
        std::string::npos);
}

TEST_CASE("a snapshot cut short at any byte is an error, and gzip makes no difference") {
  Builder b;
  b.alloc(8192, 100, model_stack(1));
  b.alloc(16384, 100, backward_stack());
  b.block(8192, 100, "active_allocated");
  const std::string bytes = test::pickle_of(b.snapshot());
  for (std::size_t length = 0; length < bytes.size(); ++length)
    if (error_of(bytes.substr(0, length)) == "accepted")
      FAIL_CHECK("accepted a file cut at " << length);
  LifetimeJudge plain, packed;
  read(bytes, plain);
  read(test::gzip(bytes), packed);
  CHECK(plain.story == packed.story);
  CHECK(plain.counts == packed.counts);
}

TEST_SUITE_END();

TEST_SUITE_BEGIN("golden");

TEST_CASE(
    "recorded snapshots: events, peak and final state agree with what Python's pickle reads from "
    "them") {
  SPW_REQUIRE_SHARED_DATA(dir);
  struct Expected {
    const char* file;
    std::size_t allocs, frees, segment_allocs;
    std::uint64_t peak_bytes, final_bytes;
    double recorded_peak_mib;  // as PyTorch counted, with blocks rounded up; 0 unknown
  };
  const Expected expected[] = {
      {"medium_128_training", 6526, 6305, 0, 7013335044, 6808535044, 6696},
      {"medium_512_training", 7591, 7370, 1, 12426629128, 6829260804, 11859},
      {"medium_512_inference", 1666, 1666, 0, 1949343744, 1701482496, 0},
  };
  for (const Expected& e : expected) {
    CAPTURE(e.file);
    const std::string path =
        (dir / "snapshots" / (std::string(e.file) + "_memory_snapshot.pickle")).string();
    LifetimeJudge judge;
    const auto info = read_trace(path, {}, judge);
    REQUIRE_MESSAGE(info.ok(), info.status().message());
    CHECK(judge.violations == 0);
    CHECK(judge.counts[RecordKind::kAlloc] - judge.preexisting.size() == e.allocs);
    CHECK(judge.counts[RecordKind::kFreeRequested] == e.frees);
    CHECK(judge.counts[RecordKind::kFreeCompleted] == e.frees);
    CHECK(judge.peak_bytes == e.peak_bytes);
    CHECK(judge.live_bytes == e.final_bytes);
    if (e.recorded_peak_mib == 0) continue;
    CHECK(static_cast<double>(judge.peak_bytes) / (1 << 20) ==
          doctest::Approx(e.recorded_peak_mib).epsilon(0.002));
    CHECK(judge.story ==
          "step0 spillway+forward spillway- spillway+backward <Optimizer.step#AdamW.step spillway- "
          "spillway+optimizer > spillway- ");
    std::size_t deepest = 0;
    std::map<BufferKind, std::size_t> kinds;
    for (const auto& [id, tag] : judge.tags) {
      if (tag.layer != kNoLayer) deepest = std::max<std::size_t>(deepest, tag.layer);
      ++kinds[tag.kind];
    }
    CHECK(deepest == 23);
    CHECK(kinds[BufferKind::kOptimizer] == 438);
    CHECK(kinds[BufferKind::kParameter] == 226);
  }
}

TEST_SUITE_END();

}  // namespace spillway
