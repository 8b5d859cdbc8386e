// SPDX-License-Identifier: Apache-2.0
// A word-level LSTM unrolled over its sequence: a "layer" of the trace is one time step through all
// LSTM layers.
#include "integration/generator/forward_model.hpp"
#include "integration/generator/layers.hpp"

#include <string>
#include <utility>

namespace spillway {

void lstm_forward(const ModelConfig& model, const ForwardShape& shape, StepGraph& graph) {
  Layers layers(graph, shape);
  const std::uint64_t hidden = model.stack.hidden;
  const std::uint64_t state = shape.batch * hidden;
  const std::uint64_t depth = model.stack.layers;
  const ValueId table = graph.param("embed.tokens", model.vocab * hidden);
  struct CellParams {
    ValueId input_weight;
    ValueId state_weight;
    ValueId input_bias;
    ValueId state_bias;
  };
  std::vector<CellParams> cells;
  std::vector<ValueId> h;
  std::vector<ValueId> c;
  for (std::uint64_t l = 0; l < depth; ++l) {
    const std::string name = "lstm " + std::to_string(l) + ".";
    cells.push_back({graph.param(name + "input weight", 4 * hidden * hidden),
                     graph.param(name + "state weight", 4 * hidden * hidden),
                     graph.param(name + "input bias", 4 * hidden),
                     graph.param(name + "state bias", 4 * hidden)});
    h.push_back(graph.constant(name + "first h", state, graph.dtype()));
    c.push_back(graph.constant(name + "first c", state, graph.dtype()));
  }

  OpSpec join;
  for (std::uint64_t t = 0; t < shape.seq; ++t) {
    graph.enter_layer(static_cast<std::uint16_t>(t), "step " + std::to_string(t) + " ");
    const ValueId ids = graph.constant("token ids", shape.batch, Dtype::kInt64);
    ValueId x = layers.embedding("embed", ids, {table}, state);
    x = layers.dropout("embed.dropout", x, state, model.dropout);
    for (std::uint64_t l = 0; l < depth; ++l) {
      const std::string name = "lstm " + std::to_string(l) + ".";
      const std::string gates_name = name + "gates";
      OpSpec gates;
      gates.name = gates_name;
      gates.kind = OpKind::kMatmul;
      gates.inputs = {x, h[l]};
      gates.params = {
          cells[l].input_weight, cells[l].state_weight, cells[l].input_bias, cells[l].state_bias};
      gates.outputs = {{.name = gates_name, .elements = 4 * state}};
      gates.saved_inputs = {0, 1};
      gates.backward = BackwardRule::kTwo;
      gates.rate = RateClass::kMatmul;
      gates.flops = 2 * static_cast<double>(state) * static_cast<double>(8 * hidden);
      const ValueId sums = graph.op(std::move(gates)).front();
      const std::string h_name = name + "h";
      const std::string c_name = name + "c";
      const std::string active_name = name + "active gates";
      OpSpec cell;
      cell.name = h_name;
      cell.kind = OpKind::kElementwise;
      cell.inputs = {sums, c[l]};
      cell.outputs = {{.name = h_name, .elements = state},
                      {.name = c_name, .elements = state},
                      {.name = active_name, .elements = 4 * state, .needs_grad = false}};
      cell.saved_inputs = {1};
      cell.saved_outputs = {1, 2};
      cell.flops = 25 * static_cast<double>(state);
      const std::vector<ValueId> out = graph.op(std::move(cell));
      h[l] = out[0];
      c[l] = out[1];
      x = layers.dropout(name + "dropout", h[l], state, model.dropout);
    }
    join.inputs.push_back(x);
  }
  graph.leave_layer();
  const std::uint64_t rows = shape.batch * shape.seq;
  join.name = "join steps";
  join.kind = OpKind::kOther;
  join.outputs = {{.name = "join steps", .elements = rows * hidden}};
  const ValueId all = graph.op(std::move(join)).front();
  const ValueId logits = layers.linear("head", all, rows, hidden, model.vocab, true);
  layers.cross_entropy("loss", logits, rows, model.vocab, false);
}

}  // namespace spillway
