// SPDX-License-Identifier: Apache-2.0
// Call stacks of a PyTorch snapshot: what each says about the training step, and the few frames of
// it worth keeping. A snapshot names the same frame, and the same stack, many times over; each is
// looked at once.
#pragma once

#include "core/ids.hpp"
#include "core/status.hpp"
#include "integration/trace/emitter.hpp"
#include "integration/trace/pickle_parser.hpp"

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace spillway {

enum StackFlag : std::uint8_t {
  kStackPython = 1u << 0,     // has a Python frame
  kStackBackward = 1u << 1,   // runs in the autograd engine, or below a Python backward()
  kStackOptimizer = 1u << 2,  // below an optimizer's step or zero_grad
  kStackZeroGrad = 1u << 3,
  kStackForward = 1u << 4,  // below a function called forward
};

struct SnapshotStack {
  std::uint32_t node = 0;        // in the table's own call tree; 0 is its root
  std::uint32_t name_frame = 0;  // frame that names what it allocates; 0 when there is none
  std::uint8_t flags = 0;
};

class SnapshotStacks {
 public:
  explicit SnapshotStacks(const PickleDocument& document);

  /// Number of the stack in `frames` (a list of frame dicts, innermost first); 0 is the empty
  /// stack. Equal stacks, in all their frames and not only in the kept ones, have equal numbers.
  std::uint32_t add(PickleValue frames);
  const SnapshotStack& stack(std::uint32_t index) const { return stacks_[index]; }
  std::size_t size() const { return stacks_.size(); }

  /// "model.py:147 forward", or "RsqrtBackward0" for a stack without Python; "" when nothing says
  /// anything.
  const std::string& name(std::uint32_t index) const {
    return frames_[stacks_[index].name_frame].name;
  }
  /// Announces the kept frames, outermost first, and returns the innermost one's call-tree node.
  StackId emit(std::uint32_t index, TraceEmitter& emitter);

 private:
  enum FrameFlag : std::uint8_t {
    kFramePython = 1u << 0,
    kFrameLibrary = 1u << 1,  // Python that names nothing: torch and its helpers
    kFrameBackward = 1u << 2,
    kFrameOptimizer = 1u << 3,
    kFrameZeroGrad = 1u << 4,
    kFrameForward = 1u << 5,
    kFrameOperator = 1u << 6,  // C++: at::_ops::NAME::call
    kFrameNode = 1u << 7,      // C++: SomethingBackward::apply
  };
  struct Frame {
    std::string text;  // "cs336_basics/model.py:147 forward"
    std::string name;
    std::uint8_t flags = 0;
  };
  struct Node {
    std::uint32_t parent = 0;
    std::uint32_t frame = 0;
    std::uint32_t emitted = 0;  // call-tree node in the trace; 0 while it was not announced
  };

  std::uint32_t frame_of(PickleValue dict);
  std::uint32_t new_frame(PickleValue dict);
  Frame describe(PickleValue dict) const;
  static void describe_python(std::string_view file,
                              std::uint64_t line,
                              std::string_view name,
                              Frame* frame);
  static void describe_native(std::string_view name, Frame* frame);
  void keep_python(SnapshotStack* stack);
  void keep_native(SnapshotStack* stack);
  std::uint32_t kept_node(const std::vector<std::uint32_t>& outermost_first);

  const PickleDocument& document_;
  StringId filename_key_, line_key_, name_key_;
  std::vector<std::uint32_t> frame_of_container_;  // 0 is not seen yet
  std::vector<std::uint32_t> stack_of_container_;  // 1 + stack; 0 is not seen yet
  std::unordered_map<std::uint64_t, std::uint32_t> frame_of_content_;
  std::unordered_map<std::uint64_t, std::uint32_t> stack_of_content_;
  std::unordered_map<std::uint64_t, std::uint32_t> child_of_;  // parent << 32 | frame -> node
  std::vector<Frame> frames_;
  std::vector<std::uint8_t> frame_flags_;  // of frames_, close together
  std::vector<Node> nodes_;
  std::vector<SnapshotStack> stacks_;
  std::vector<std::uint32_t> all_, kept_;         // of the stack being added
  std::vector<std::uint32_t> path_, path_nodes_;  // kept frames of the last stack, and their nodes
};

}  // namespace spillway
