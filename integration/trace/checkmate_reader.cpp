// SPDX-License-Identifier: Apache-2.0
// Op graphs as profiled for Checkmate and MONeT: one JSON object with nodes (bytes, milliseconds)
// and edges (from, to). A node makes one storage; without recompute it is freed after its last
// user. Memory that never moves (fixed_mem_bytes of the last node: parameters and their gradients)
// is one storage that was there before. Workspaces are not charged, as in the reference.
#include "integration/trace/emitter.hpp"
#include "integration/trace/formats.hpp"
#include "integration/trace/json_stream.hpp"
#include "integration/trace/op_names.hpp"
#include "integration/trace/utf8.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace spillway {
namespace {

constexpr std::uint64_t kBytesMax = std::uint64_t{1} << 48;
constexpr std::size_t kNodesMax = std::size_t{1} << 24;
constexpr double kCostMaxMs = 1e9;

struct GraphNode {
  std::uint64_t id = 0;
  std::uint64_t bytes = 0;
  std::uint64_t fixed_bytes = 0;
  std::uint64_t duration_ns = 0;
  std::uint64_t offset = 0;
  std::string op;
  Phase phase = Phase::kUnknown;
  bool has_id = false, has_bytes = false, has_cost = false;
};

struct GraphEdge {
  std::uint64_t from = 0;
  std::uint64_t to = 0;
  std::uint64_t offset = 0;
};

/// Depth 1 is the graph, 2 the lists, 3 a node or an edge; what is deeper (shapes, argument lists)
/// is not needed.
class GraphEvents final : public JsonEvents {
 public:
  explicit GraphEvents(BufferedInput& input) : input_(input) {}

  Status key(std::string_view text) override {
    if (depth_ == 1) top_key_ = text;
    if (depth_ == 3) node_key_ = text;
    return {};
  }

  Status text(std::string_view text) override {
    if (depth_ == 1 && top_key_ == "model") model = clean_utf8(text);
    if (!in_node()) return {};
    if (node_key_ == "op") nodes.back().op = clean_utf8(text, 256);
    if (node_key_ == "kind") {
      if (text != "fwd" && text != "loss" && text != "bwd")
        return bad("expected kind to be fwd, loss or bwd, found \"" + clean_utf8(text, 64) + "\"");
      nodes.back().phase = text == "bwd" ? Phase::kBackward : Phase::kForward;
    }
    return {};
  }

  Status number(double value, bool whole, std::uint64_t unsigned_value) override {
    if (depth_ == 3 && top_key_ == "edges") return edge_number(whole, unsigned_value);
    if (!in_node()) return {};
    GraphNode& node = nodes.back();
    if (node_key_ == "id")
      return take(whole, unsigned_value, "id", kNodesMax, &node.id, &node.has_id);
    if (node_key_ == "mem_bytes")
      return take(whole, unsigned_value, "mem_bytes", kBytesMax, &node.bytes, &node.has_bytes);
    bool ignored = false;
    if (node_key_ == "fixed_mem_bytes")
      return take(whole, unsigned_value, "fixed_mem_bytes", kBytesMax, &node.fixed_bytes, &ignored);
    if (node_key_ != "cost_ms") return {};
    if (!(value >= 0 && value <= kCostMaxMs))
      return bad("expected cost_ms to be a number from 0 to 1e9");
    // Hundredths of a millisecond are the unit of the published schedules; rounding as Python does
    // keeps their totals.
    node.duration_ns = static_cast<std::uint64_t>(std::nearbyint(value * 100)) * 10000;
    node.has_cost = true;
    return {};
  }

  Status other() override { return {}; }

  Status begin_object() override {
    ++depth_;
    if (depth_ == 3 && top_key_ == "nodes") {
      if (nodes.size() >= kNodesMax) return bad("expected at most 2^24 nodes, found more");
      nodes.emplace_back();
      nodes.back().offset = input_.offset();
      node_open_ = true;
    }
    return {};
  }

  Status end_object() override {
    if (depth_ == 3 && node_open_) {
      const GraphNode& node = nodes.back();
      node_open_ = false;
      if (!node.has_id || !node.has_bytes || !node.has_cost || node.phase == Phase::kUnknown)
        return bad(
            "expected a node with id, kind, mem_bytes and cost_ms, found one of them missing");
    }
    --depth_;
    return {};
  }

  Status begin_array() override {
    ++depth_;
    if (depth_ == 1) return bad("expected a graph object, found a list");
    if (depth_ == 3 && top_key_ == "edges") {
      edge_ = {0, 0, input_.offset()};
      edge_numbers_ = 0;
    }
    return {};
  }

  Status end_array() override {
    if (depth_ == 3 && top_key_ == "edges") {
      if (edge_numbers_ < 2) return bad("expected an edge [from, to], found fewer numbers");
      edges.push_back(edge_);
    }
    --depth_;
    return {};
  }

  std::string model;
  std::vector<GraphNode> nodes;
  std::vector<GraphEdge> edges;

 private:
  Status bad(const std::string& text) const { return input_.error(text); }
  bool in_node() const { return depth_ == 3 && node_open_; }

  Status take(bool whole,
              std::uint64_t value,
              const char* what,
              std::uint64_t limit,
              std::uint64_t* out,
              bool* has) const {
    if (!whole || value > limit)
      return bad(std::string("expected ") + what + " to be a whole number from 0 to " +
                 std::to_string(limit));
    *out = value;
    *has = true;
    return {};
  }

  Status edge_number(bool whole, std::uint64_t value) {
    if (!whole || value > kNodesMax) return bad("expected an edge to name nodes by number");
    if (edge_numbers_ == 0) edge_.from = value;
    if (edge_numbers_ == 1) edge_.to = value;
    edge_numbers_ = std::min(edge_numbers_ + 1, 3);
    return {};
  }

  BufferedInput& input_;
  int depth_ = 0;
  std::string top_key_, node_key_;
  bool node_open_ = false;
  GraphEdge edge_;
  int edge_numbers_ = 0;
};

Status bad_at(BufferedInput& input, std::uint64_t offset, const std::string& text) {
  return {Code::kBadInput,
          input.source().name() + ": offset " + std::to_string(offset) + ": " + text};
}

Status check(BufferedInput& input, GraphEvents& graph) {
  if (graph.nodes.empty()) return input.error("expected a graph with nodes, found none");
  std::stable_sort(graph.nodes.begin(), graph.nodes.end(), [](const auto& a, const auto& b) {
    return a.id < b.id;
  });
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const GraphNode& node = graph.nodes[i];
    if (node.id != i)
      return bad_at(input,
                    node.offset,
                    "expected node ids 0 to " + std::to_string(graph.nodes.size() - 1) +
                        ", each once, found " + std::to_string(node.id));
    if ((total += node.bytes) > std::uint64_t{1} << 60)
      return bad_at(input, node.offset, "expected storages below 2^60 bytes together");
  }
  for (const GraphEdge& edge : graph.edges)
    if (edge.from >= edge.to || edge.to >= graph.nodes.size())
      return bad_at(input,
                    edge.offset,
                    "expected an edge from an earlier node to a later one, found " +
                        std::to_string(edge.from) + " to " + std::to_string(edge.to));
  // Ops read their inputs in the order of ids, each once.
  std::sort(graph.edges.begin(), graph.edges.end(), [](const GraphEdge& a, const GraphEdge& b) {
    return std::pair(a.to, a.from) < std::pair(b.to, b.from);
  });
  graph.edges.erase(std::unique(graph.edges.begin(),
                                graph.edges.end(),
                                [](const GraphEdge& a, const GraphEdge& b) {
                                  return a.to == b.to && a.from == b.from;
                                }),
                    graph.edges.end());
  return {};
}

void emit(const GraphEvents& graph, TraceEmitter& out) {
  constexpr std::uint64_t kFixedId = 1;
  const auto storage_of = [](std::uint64_t node) { return node + 2; };
  out.meta("source", "checkmate-graph");
  out.meta("gpu", "p100");
  out.meta("times_from", "profiled on a P100");
  if (!graph.model.empty()) out.meta("model", graph.model);
  out.step(0);
  out.alloc(kFixedId, graph.nodes.back().fixed_bytes, 0, kRecordPreexisting);
  Tag fixed;
  fixed.kind = BufferKind::kParameter;
  fixed.flags = kPreexisting;
  out.tag(kFixedId, fixed);
  out.name(kFixedId, "parameters and gradients");

  std::vector<std::uint64_t> last_user(graph.nodes.size());
  for (const GraphNode& node : graph.nodes) last_user[node.id] = node.id;
  for (const GraphEdge& edge : graph.edges)
    last_user[edge.from] = std::max(last_user[edge.from], edge.to);

  std::uint64_t clock_ns = 0;
  std::size_t next_edge = 0;
  for (const GraphNode& node : graph.nodes) {
    const OpNameInfo info = describe_op_name(node.op);
    OpTag tag;
    tag.kind = info.kind;
    tag.phase = node.phase;
    if (info.rng) tag.flags |= kOpRng;
    out.op_begin(node.id, node.op, tag);
    const std::size_t first_edge = next_edge;
    for (; next_edge < graph.edges.size() && graph.edges[next_edge].to == node.id; ++next_edge)
      out.use(node.id, storage_of(graph.edges[next_edge].from), kRecordRead);
    // A node without inputs reads what was there before the step: the batch and the parameters.
    if (next_edge == first_edge) out.use(node.id, kFixedId, kRecordRead);
    out.alloc(storage_of(node.id), node.bytes);
    out.name(storage_of(node.id), node.op + " " + std::to_string(node.id));
    out.use(node.id, storage_of(node.id), kRecordCreate);
    clock_ns += node.duration_ns;
    out.set_time_ns(clock_ns);
    out.op_end(node.id);
    for (std::size_t i = first_edge; i < next_edge; ++i)
      if (last_user[graph.edges[i].from] == node.id) out.free(storage_of(graph.edges[i].from));
    if (last_user[node.id] == node.id) out.free(storage_of(node.id));
  }
}

}  // namespace

bool matches_checkmate_graph(std::string_view head) {
  const std::size_t begin = head.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos || head[begin] != '{') return false;
  const auto has = [head](std::string_view key) {
    return head.find(key) != std::string_view::npos;
  };
  return (has("\"nodes\"") && has("\"mem_bytes\"")) ||
         (has("\"edges\"") && has("\"loss\"") && has("\"model\""));
}

Result<TraceInfo> read_checkmate_graph(BufferedInput& input, const ReadOptions&, TraceSink& sink) {
  GraphEvents graph(input);
  SPW_RETURN_IF_ERROR(parse_json(input, graph));
  SPW_RETURN_IF_ERROR(check(input, graph));
  TraceEmitter out(sink);
  emit(graph, out);
  TraceInfo info;
  info.format = "checkmate-graph";
  info.event_count = out.record_count();
  info.inferred.push_back("kinds of ops from their names");
  info.notes.push_back("workspaces of the graph are not charged, as in the published schedules");
  return info;
}

}  // namespace spillway
