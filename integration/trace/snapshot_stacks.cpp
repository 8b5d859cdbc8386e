// SPDX-License-Identifier: Apache-2.0
// Which frames of PyTorch and Python mean what. The names were read from snapshots of PyTorch 2.x
// with and without C++ frames.
#include "integration/trace/snapshot_stacks.hpp"

#include "integration/trace/utf8.hpp"

#include <algorithm>
#include <array>

namespace spillway {
namespace {

constexpr std::size_t kNameMaxBytes = 256;
constexpr std::size_t kNativeFramesKept = 4;

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

std::string_view last_component(std::string_view text, char separator) {
  const std::size_t at = text.rfind(separator);
  return at == std::string_view::npos ? text : text.substr(at + 1);
}

/// What follows site-packages/, else the file and the folder it is in: enough to find it, and no
/// home folder in a report.
std::string_view short_path(std::string_view file) {
  for (std::string_view folder : {"site-packages/", "dist-packages/"}) {
    const std::size_t at = file.rfind(folder);
    if (at != std::string_view::npos) return file.substr(at + folder.size());
  }
  std::size_t at = file.rfind('/');
  if (at != std::string_view::npos && at != 0) at = file.rfind('/', at - 1);
  return at == std::string_view::npos ? file : file.substr(at + 1);
}

/// Packages whose frames stand between the model and the allocator.
bool is_library(std::string_view path) {
  constexpr std::array<std::string_view, 9> kPackages = {"torch/",
                                                         "einops/",
                                                         "jaxtyping/",
                                                         "typeguard/",
                                                         "beartype/",
                                                         "functorch/",
                                                         "triton/",
                                                         "accelerate/",
                                                         "torchgen/"};
  for (std::string_view package : kPackages)
    if (path.substr(0, package.size()) == package) return true;
  const std::string_view base = last_component(path, '/');
  return base == "contextlib.py" || base == "functools.py" || base == "runpy.py" ||
         path.substr(0, 1) == "<";
}

bool names_optimizer(std::string_view text) {
  constexpr std::array<std::string_view, 10> kHints = {
      "optim", "Optim", "adam", "Adam", "sgd", "SGD", "lamb", "adafactor", "lion", "muon"};
  return std::any_of(
      kHints.begin(), kHints.end(), [text](std::string_view hint) { return contains(text, hint); });
}

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
  return hash ^ (hash >> 32);
}

}  // namespace

SnapshotStacks::SnapshotStacks(const PickleDocument& document)
    : document_(document),
      filename_key_(document.key_id("filename")),
      line_key_(document.key_id("line")),
      name_key_(document.key_id("name")),
      frame_of_container_(document.container_count(), 0),
      stack_of_container_(document.container_count(), 0),
      frames_(1),
      frame_flags_(1, 0),
      nodes_(1),
      stacks_(1) {}

void SnapshotStacks::describe_python(std::string_view file,
                                     std::uint64_t line,
                                     std::string_view name,
                                     Frame* frame) {
  const std::string_view path = short_path(file);
  const std::string_view base = last_component(path, '/');
  const std::string where = ":" + std::to_string(line) + " " + clean_utf8(name, kNameMaxBytes);
  frame->text = clean_utf8(path, kNameMaxBytes) + where;
  frame->name = clean_utf8(base, kNameMaxBytes) + where;
  frame->flags = kFramePython;
  if (is_library(path)) frame->flags |= kFrameLibrary;

  const std::string_view function = last_component(name, '.');
  const bool checkpoint = ends_with(path, "torch/utils/checkpoint.py");
  if (function == "backward" || function == "run_backward" || function == "_engine_run_backward" ||
      function == "_make_grads" ||
      (checkpoint && (function == "unpack_hook" || function == "recompute_fn")))
    frame->flags |= kFrameBackward;
  if (function == "zero_grad") frame->flags |= kFrameOptimizer | kFrameZeroGrad;
  if (function == "step" &&
      (contains(path, "/optim/") || names_optimizer(base) || names_optimizer(name)))
    frame->flags |= kFrameOptimizer;
  if (function == "forward") frame->flags |= kFrameForward;
}

void SnapshotStacks::describe_native(std::string_view name, Frame* frame) {
  name = name.substr(0, 4096);
  std::string_view function = name.substr(0, name.find('('));
  if (contains(name, "autograd::Engine::") || contains(name, "PythonEngine::") ||
      (contains(name, "Backward") && contains(name, "::apply(")))
    frame->flags |= kFrameBackward;
  if (contains(function, "Backward") && ends_with(function, "::apply")) {
    frame->flags |= kFrameNode;
    function.remove_suffix(std::string_view("::apply").size());
    frame->name = clean_utf8(last_component(function, ':'), kNameMaxBytes);
    frame->text = frame->name;
  } else if (function.substr(0, 10) == "at::_ops::" && ends_with(function, "::call")) {
    frame->flags |= kFrameOperator;
    function.remove_suffix(std::string_view("::call").size());
    frame->name = clean_utf8(function.substr(10), kNameMaxBytes);
    frame->text = "at::" + frame->name;
  }
}

SnapshotStacks::Frame SnapshotStacks::describe(PickleValue dict) const {
  Frame frame;
  const auto text_of = [this, dict](StringId key) {
    const auto value = document_.find(dict, key);
    return value ? document_.as_string(*value).value_or("") : std::string_view();
  };
  const std::string_view file = text_of(filename_key_);
  const auto line_value = document_.find(dict, line_key_);
  const std::uint64_t line = line_value ? document_.as_uint(*line_value).value_or(0) : 0;
  const bool python = ends_with(file, ".py") ||
                      (file.substr(0, 1) == "<" && ends_with(file, ">")) ||
                      contains(file, "ipykernel_") || contains(file, "<ipython-input");
  if (python)
    describe_python(file, line, text_of(name_key_), &frame);
  else
    describe_native(text_of(name_key_), &frame);
  return frame;
}

std::uint32_t SnapshotStacks::frame_of(PickleValue dict) {
  if (dict.kind() != PickleKind::kDict) return 0;
  const std::uint32_t known = frame_of_container_[document_.container_index(dict)];
  return known != 0 ? known : new_frame(dict);
}

std::uint32_t SnapshotStacks::new_frame(PickleValue dict) {
  // Writers without a memo repeat the dict; equal texts have equal ids there too.
  const auto bits_of = [this, dict](StringId key) {
    return document_.find(dict, key).value_or(PickleValue{}).bits;
  };
  const std::uint64_t content =
      mix(mix(mix(1, bits_of(filename_key_)), bits_of(line_key_)), bits_of(name_key_));
  const auto [place, fresh] =
      frame_of_content_.try_emplace(content, static_cast<std::uint32_t>(frames_.size()));
  if (fresh) {
    frames_.push_back(describe(dict));
    frame_flags_.push_back(frames_.back().flags);
  }
  return frame_of_container_[document_.container_index(dict)] = place->second;
}

std::uint32_t SnapshotStacks::kept_node(const std::vector<std::uint32_t>& outermost_first) {
  // Stacks in a row share most of their outer frames: only what differs from the last one is looked
  // up.
  std::size_t same = 0;
  while (same < path_.size() && same < outermost_first.size() &&
         path_[same] == outermost_first[same])
    ++same;
  path_.resize(same);
  path_nodes_.resize(same);
  std::uint32_t node = same == 0 ? 0 : path_nodes_[same - 1];
  for (std::size_t i = same; i < outermost_first.size(); ++i) {
    const std::uint64_t key = static_cast<std::uint64_t>(node) << 32 | outermost_first[i];
    const auto [place, fresh] =
        child_of_.try_emplace(key, static_cast<std::uint32_t>(nodes_.size()));
    if (fresh) nodes_.push_back({node, outermost_first[i], 0});
    node = place->second;
    path_.push_back(outermost_first[i]);
    path_nodes_.push_back(node);
  }
  return node;
}

/// The innermost frame of the model names the allocation.
void SnapshotStacks::keep_python(SnapshotStack* stack) {
  for (const std::uint32_t frame : all_) {
    const std::uint8_t kind = frame_flags_[frame];
    if ((kind & kFramePython) == 0) continue;
    kept_.push_back(frame);
    if (stack->name_frame == 0 && (kind & kFrameLibrary) == 0) stack->name_frame = frame;
  }
  if (stack->name_frame == 0) stack->name_frame = kept_.front();
}

/// The autograd nodes, and of the operators that each of them calls the outermost; the first node
/// names the allocation.
void SnapshotStacks::keep_native(SnapshotStack* stack) {
  std::uint32_t last_operator = 0;
  for (const std::uint32_t frame : all_) {
    const std::uint8_t kind = frame_flags_[frame];
    if ((kind & kFrameOperator) != 0) last_operator = frame;
    if ((kind & kFrameNode) == 0 || kept_.size() >= kNativeFramesKept) continue;
    if (last_operator != 0) kept_.push_back(last_operator);
    kept_.push_back(frame);
    last_operator = 0;
    if (stack->name_frame == 0) stack->name_frame = frame;
  }
  if (kept_.empty() && last_operator != 0) {
    kept_.push_back(last_operator);
    stack->name_frame = last_operator;
  }
}

std::uint32_t SnapshotStacks::add(PickleValue frames) {
  if (!frames.is_sequence()) return 0;
  std::uint32_t& known = stack_of_container_[document_.container_index(frames)];
  if (known != 0) return known - 1;

  all_.clear();
  std::uint64_t content = 2;
  std::uint8_t flags = 0;
  const std::span<const PickleValue> items = document_.items(frames);
  const std::size_t count = items.size();
  for (const PickleValue item : items) {
    const std::uint32_t frame = frame_of(item);
    content = mix(content, frame);
    flags |= frame_flags_[frame];
    all_.push_back(frame);
  }
  if (count == 0) {
    known = 1;
    return 0;
  }
  const auto [place, fresh] =
      stack_of_content_.try_emplace(content, static_cast<std::uint32_t>(stacks_.size()));
  known = place->second + 1;
  if (!fresh) return place->second;

  SnapshotStack stack;
  const auto copy_flag = [&stack, flags](std::uint8_t from, StackFlag to) {
    if ((flags & from) != 0) stack.flags |= to;
  };
  copy_flag(kFramePython, kStackPython);
  copy_flag(kFrameBackward, kStackBackward);
  copy_flag(kFrameOptimizer, kStackOptimizer);
  copy_flag(kFrameZeroGrad, kStackZeroGrad);
  copy_flag(kFrameForward, kStackForward);

  kept_.clear();
  if ((stack.flags & kStackPython) != 0)
    keep_python(&stack);
  else
    keep_native(&stack);
  std::reverse(kept_.begin(), kept_.end());
  stack.node = kept_node(kept_);
  stacks_.push_back(stack);
  return place->second;
}

StackId SnapshotStacks::emit(std::uint32_t index, TraceEmitter& emitter) {
  path_.clear();
  path_nodes_.clear();
  std::uint32_t node = stacks_[index].node;
  for (; node != 0 && nodes_[node].emitted == 0; node = nodes_[node].parent) path_.push_back(node);
  StackId parent(nodes_[node].emitted);
  for (std::size_t i = path_.size(); i-- > 0;) {
    parent = emitter.frame(parent, frames_[nodes_[path_[i]].frame].text);
    nodes_[path_[i]].emitted = parent.value;
  }
  path_.clear();
  return parent;
}

}  // namespace spillway
