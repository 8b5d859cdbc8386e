// SPDX-License-Identifier: Apache-2.0
// Pre-norm decoder: attention and MLP with residuals, dropout behind both. Sums run in a fixed
// order on one thread, so that the same inputs give the same bits.
#include "bench/support/tiny_transformer.hpp"

#include <algorithm>
#include <cmath>

namespace spillway::bench {
namespace {

constexpr float kNormEpsilon = 1e-5F;

std::size_t size_of(int value) { return static_cast<std::size_t>(value); }

/// out (m, n) += a (m, k) b (k, n); all row-major.
void add_product(
    const float* a, const float* b, float* out, std::size_t m, std::size_t k, std::size_t n) {
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t p = 0; p < k; ++p) {
      const float factor = a[i * k + p];
      const float* row = b + p * n;
      float* to = out + i * n;
      for (std::size_t j = 0; j < n; ++j) to[j] += factor * row[j];
    }
}

/// out (k, n) += the transpose of a (m, k), times b (m, n).
void add_transposed_product(
    const float* a, const float* b, float* out, std::size_t m, std::size_t k, std::size_t n) {
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t p = 0; p < k; ++p) {
      const float factor = a[i * k + p];
      const float* row = b + i * n;
      float* to = out + p * n;
      for (std::size_t j = 0; j < n; ++j) to[j] += factor * row[j];
    }
}

Floats transposed(const Floats& x, std::size_t rows, std::size_t columns) {
  Floats out(x.size());
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t j = 0; j < columns; ++j) out[j * rows + i] = x[i * columns + j];
  return out;
}

void add_to(Floats* sum, const Floats& x) {
  for (std::size_t i = 0; i < x.size(); ++i) (*sum)[i] += x[i];
}

// The tanh form.
constexpr float kGeluScale = 0.7978845608F;  // sqrt(2 / pi)
constexpr float kGeluCube = 0.044715F;

float gelu(float x) { return 0.5F * x * (1 + std::tanh(kGeluScale * (x + kGeluCube * x * x * x))); }

float gelu_slope(float x) {
  const float t = std::tanh(kGeluScale * (x + kGeluCube * x * x * x));
  return 0.5F * (1 + t) + 0.5F * x * (1 - t * t) * kGeluScale * (1 + 3 * kGeluCube * x * x);
}

/// Approximately normal, from sums of uniform numbers: the same on every machine.
float bell(Random* random) {
  double sum = 0;
  for (int i = 0; i < 12; ++i) sum += random->unit();
  return static_cast<float>(sum - 6);
}

}  // namespace

std::size_t TinyTransformer::parameter(std::size_t count,
                                       double deviation,
                                       double fill,
                                       Random* random) {
  Parameter made;
  made.value.assign(count, static_cast<float>(fill));
  if (deviation > 0)
    for (float& x : made.value) x = static_cast<float>(deviation) * bell(random);
  made.grad.assign(count, 0);
  made.first.assign(count, 0);
  made.second.assign(count, 0);
  made.decays = deviation > 0;
  parameters_.push_back(std::move(made));
  return parameters_.size() - 1;
}

TinyTransformer::Norm TinyTransformer::norm(Random* random) {
  const std::size_t gain = parameter(size_of(shape_.width), 0, 1, random);
  return {gain, parameter(size_of(shape_.width), 0, 0, random)};
}

TinyTransformer::Linear TinyTransformer::linear(int in, int out, Random* random) {
  const std::size_t weight =
      parameter(size_of(in) * size_of(out), 1 / std::sqrt(static_cast<double>(in)), 0, random);
  return {weight, parameter(size_of(out), 0, 0, random), in, out};
}

TinyTransformer::TinyTransformer(const TransformerShape& shape, std::uint64_t seed)
    : shape_(shape), rows_(size_of(shape.batch) * size_of(shape.seq)) {
  Random random(seed);
  tokens_ = parameter(kByteValues * size_of(shape.width), 0.1, 0, &random);
  positions_ = parameter(size_of(shape.seq) * size_of(shape.width), 0.1, 0, &random);
  for (int l = 0; l < shape.layers; ++l) {
    Layer layer{};
    layer.norm1 = norm(&random);
    layer.qkv = linear(shape.width, 3 * shape.width, &random);
    layer.proj = linear(shape.width, shape.width, &random);
    layer.norm2 = norm(&random);
    layer.fc1 = linear(shape.width, shape.ffn, &random);
    layer.fc2 = linear(shape.ffn, shape.width, &random);
    layer.relu = l % 2 == 1;
    layers_.push_back(layer);
  }
  last_norm_ = norm(&random);
  head_ = linear(shape.width, kByteValues, &random);
}

Floats TinyTransformer::norm_forward(const Norm& norm,
                                     const Floats& x,
                                     NormTape* tape,
                                     Stash* stash) const {
  const std::size_t width = size_of(shape_.width);
  const Floats& gain = parameters_[norm.gain].value;
  const Floats& bias = parameters_[norm.bias].value;
  Floats out(x.size());
  tape->mean.assign(rows_, 0);
  tape->inverse.assign(rows_, 0);
  for (std::size_t t = 0; t < rows_; ++t) {
    const float* row = x.data() + t * width;
    float mean = 0;
    for (std::size_t i = 0; i < width; ++i) mean += row[i];
    mean /= static_cast<float>(width);
    float variance = 0;
    for (std::size_t i = 0; i < width; ++i) variance += (row[i] - mean) * (row[i] - mean);
    const float inverse = 1 / std::sqrt(variance / static_cast<float>(width) + kNormEpsilon);
    for (std::size_t i = 0; i < width; ++i)
      out[t * width + i] = (row[i] - mean) * inverse * gain[i] + bias[i];
    tape->mean[t] = mean;
    tape->inverse[t] = inverse;
  }
  tape->input = stash->save(x);
  return out;
}

Floats TinyTransformer::norm_backward(const Norm& norm,
                                      const NormTape& tape,
                                      const Floats& gradient,
                                      const Stash& stash) {
  const std::size_t width = size_of(shape_.width);
  const Floats x = stash.load(tape.input);
  const Floats& gain = parameters_[norm.gain].value;
  Floats& gain_grad = parameters_[norm.gain].grad;
  Floats& bias_grad = parameters_[norm.bias].grad;
  Floats out(x.size());
  for (std::size_t t = 0; t < rows_; ++t) {
    const float* row = x.data() + t * width;
    const float* up = gradient.data() + t * width;
    float sum = 0;
    float along = 0;
    for (std::size_t i = 0; i < width; ++i) {
      const float unit = (row[i] - tape.mean[t]) * tape.inverse[t];
      gain_grad[i] += up[i] * unit;
      bias_grad[i] += up[i];
      sum += up[i] * gain[i];
      along += up[i] * gain[i] * unit;
    }
    sum /= static_cast<float>(width);
    along /= static_cast<float>(width);
    for (std::size_t i = 0; i < width; ++i) {
      const float unit = (row[i] - tape.mean[t]) * tape.inverse[t];
      out[t * width + i] = tape.inverse[t] * (up[i] * gain[i] - sum - unit * along);
    }
  }
  return out;
}

Floats TinyTransformer::linear_forward(const Linear& linear, const Floats& x) const {
  const std::size_t out = size_of(linear.out);
  const Floats& bias = parameters_[linear.bias].value;
  Floats y(rows_ * out);
  for (std::size_t t = 0; t < rows_; ++t)
    std::copy(bias.begin(), bias.end(), y.begin() + static_cast<std::ptrdiff_t>(t * out));
  add_product(
      x.data(), parameters_[linear.weight].value.data(), y.data(), rows_, size_of(linear.in), out);
  return y;
}

Floats TinyTransformer::linear_backward(const Linear& linear,
                                        const Floats& x,
                                        const Floats& gradient) {
  const std::size_t in = size_of(linear.in);
  const std::size_t out = size_of(linear.out);
  Parameter& weight = parameters_[linear.weight];
  Floats& bias_grad = parameters_[linear.bias].grad;
  add_transposed_product(x.data(), gradient.data(), weight.grad.data(), rows_, in, out);
  for (std::size_t t = 0; t < rows_; ++t)
    for (std::size_t j = 0; j < out; ++j) bias_grad[j] += gradient[t * out + j];
  Floats down(rows_ * in);
  const Floats turned = transposed(weight.value, in, out);
  add_product(gradient.data(), turned.data(), down.data(), rows_, out, in);
  return down;
}

Floats TinyTransformer::attention_forward(const Floats& qkv, LayerTape* tape, Stash* stash) const {
  const std::size_t width = size_of(shape_.width);
  const std::size_t heads = size_of(shape_.heads);
  const std::size_t head = width / heads;
  const std::size_t seq = size_of(shape_.seq);
  const float scale = 1 / std::sqrt(static_cast<float>(head));
  Floats q(rows_ * width), k(rows_ * width), v(rows_ * width), out(rows_ * width);
  for (std::size_t t = 0; t < rows_; ++t)
    for (std::size_t i = 0; i < width; ++i) {
      q[t * width + i] = qkv[t * 3 * width + i];
      k[t * width + i] = qkv[t * 3 * width + width + i];
      v[t * width + i] = qkv[t * 3 * width + 2 * width + i];
    }
  tape->log_sum.assign(rows_ * heads, 0);
  Floats scores(seq);
  for (std::size_t t = 0; t < rows_; ++t) {
    const std::size_t begin = t / seq * seq;  // causal: this row's tokens up to t
    for (std::size_t h = 0; h < heads; ++h) {
      const std::size_t at = h * head;
      float largest = -1e30F;
      for (std::size_t u = begin; u <= t; ++u) {
        float dot = 0;
        for (std::size_t i = 0; i < head; ++i) dot += q[t * width + at + i] * k[u * width + at + i];
        scores[u - begin] = dot * scale;
        largest = std::max(largest, scores[u - begin]);
      }
      float sum = 0;
      for (std::size_t u = begin; u <= t; ++u) sum += std::exp(scores[u - begin] - largest);
      const float log_sum = largest + std::log(sum);
      tape->log_sum[t * heads + h] = log_sum;
      for (std::size_t u = begin; u <= t; ++u) {
        const float weight = std::exp(scores[u - begin] - log_sum);
        for (std::size_t i = 0; i < head; ++i)
          out[t * width + at + i] += weight * v[u * width + at + i];
      }
    }
  }
  tape->q = stash->save(q);
  tape->k = stash->save(k);
  tape->v = stash->save(v);
  return out;
}

Floats TinyTransformer::attention_backward(const LayerTape& tape,
                                           const Floats& gradient,
                                           const Stash& stash) const {
  const std::size_t width = size_of(shape_.width);
  const std::size_t heads = size_of(shape_.heads);
  const std::size_t head = width / heads;
  const std::size_t seq = size_of(shape_.seq);
  const float scale = 1 / std::sqrt(static_cast<float>(head));
  const Floats q = stash.load(tape.q);
  const Floats k = stash.load(tape.k);
  const Floats v = stash.load(tape.v);
  const Floats context = stash.load(tape.context);
  Floats down(rows_ * 3 * width);
  for (std::size_t t = 0; t < rows_; ++t) {
    const std::size_t begin = t / seq * seq;
    for (std::size_t h = 0; h < heads; ++h) {
      const std::size_t at = h * head;
      const float* up = gradient.data() + t * width + at;
      float shared = 0;  // sum of weights times their gradients
      for (std::size_t i = 0; i < head; ++i) shared += up[i] * context[t * width + at + i];
      for (std::size_t u = begin; u <= t; ++u) {
        float dot = 0;
        float slope = 0;
        for (std::size_t i = 0; i < head; ++i) {
          dot += q[t * width + at + i] * k[u * width + at + i];
          slope += up[i] * v[u * width + at + i];
        }
        const float weight = std::exp(dot * scale - tape.log_sum[t * heads + h]);
        const float score_grad = weight * (slope - shared) * scale;
        for (std::size_t i = 0; i < head; ++i) {
          down[t * 3 * width + at + i] += score_grad * k[u * width + at + i];
          down[u * 3 * width + width + at + i] += score_grad * q[t * width + at + i];
          down[u * 3 * width + 2 * width + at + i] += weight * up[i];
        }
      }
    }
  }
  return down;
}

Floats TinyTransformer::dropout_forward(Floats x,
                                        Random* random,
                                        std::size_t* handle,
                                        Stash* stash) const {
  std::vector<std::uint8_t> mask(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    mask[i] = random->unit() >= shape_.dropout ? 1 : 0;
    x[i] = mask[i] != 0 ? x[i] / static_cast<float>(1 - shape_.dropout) : 0;
  }
  *handle = stash->save_mask(mask);
  return x;
}

Floats TinyTransformer::dropout_backward(Floats gradient,
                                         std::size_t handle,
                                         const Stash& stash) const {
  const std::vector<std::uint8_t> mask = stash.load_mask(handle);
  for (std::size_t i = 0; i < gradient.size(); ++i)
    gradient[i] = mask[i] != 0 ? gradient[i] / static_cast<float>(1 - shape_.dropout) : 0;
  return gradient;
}

double TinyTransformer::train_step(std::span<const std::uint8_t> bytes,
                                   Random* dropout,
                                   Stash* stash) {
  const std::size_t width = size_of(shape_.width);
  const std::size_t seq = size_of(shape_.seq);
  const auto byte_at = [&](std::size_t t, std::size_t ahead) {
    return static_cast<std::size_t>(bytes[t / seq * (seq + 1) + t % seq + ahead]);
  };
  for (Parameter& p : parameters_) std::fill(p.grad.begin(), p.grad.end(), 0.0F);

  Floats x(rows_ * width);
  for (std::size_t t = 0; t < rows_; ++t)
    for (std::size_t i = 0; i < width; ++i)
      x[t * width + i] = parameters_[tokens_].value[byte_at(t, 0) * width + i] +
                         parameters_[positions_].value[t % seq * width + i];
  std::vector<LayerTape> tapes(layers_.size());
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const Layer& layer = layers_[l];
    LayerTape& tape = tapes[l];
    Floats y = norm_forward(layer.norm1, x, &tape.norm1, stash);
    tape.qkv_in = stash->save(y);
    y = attention_forward(linear_forward(layer.qkv, y), &tape, stash);
    tape.context = stash->save(y);
    add_to(&x, dropout_forward(linear_forward(layer.proj, y), dropout, &tape.mask1, stash));
    y = norm_forward(layer.norm2, x, &tape.norm2, stash);
    tape.fc1_in = stash->save(y);
    y = linear_forward(layer.fc1, y);
    if (layer.relu) {
      for (float& one : y) one = one > 0 ? one : 0.0F;
      tape.fc2_in = stash->save(y, kSparseValues);
    } else {
      tape.gelu_in = stash->save(y);
      for (float& one : y) one = gelu(one);
      tape.fc2_in = stash->save(y);
    }
    add_to(&x, dropout_forward(linear_forward(layer.fc2, y), dropout, &tape.mask2, stash));
  }
  NormTape last;
  const Floats top = norm_forward(last_norm_, x, &last, stash);
  const std::size_t head_in = stash->save(top);
  Floats logits = linear_forward(head_, top);

  // Cross entropy; the logits become their gradient, in fp32 and never through a codec.
  double loss = 0;
  for (std::size_t t = 0; t < rows_; ++t) {
    float* row = logits.data() + t * kByteValues;
    const float largest = *std::max_element(row, row + kByteValues);
    float sum = 0;
    for (int c = 0; c < kByteValues; ++c) sum += std::exp(row[c] - largest);
    const std::size_t right = byte_at(t, 1);
    loss -= static_cast<double>(row[right] - largest - std::log(sum));
    for (int c = 0; c < kByteValues; ++c)
      row[c] = std::exp(row[c] - largest) / sum / static_cast<float>(rows_);
    row[right] -= 1 / static_cast<float>(rows_);
  }

  Floats gradient = linear_backward(head_, stash->load(head_in), logits);
  gradient = norm_backward(last_norm_, last, gradient, *stash);
  for (std::size_t l = layers_.size(); l-- > 0;) {
    const Layer& layer = layers_[l];
    const LayerTape& tape = tapes[l];
    const Floats fc2_in = stash->load(tape.fc2_in);
    Floats down =
        linear_backward(layer.fc2, fc2_in, dropout_backward(gradient, tape.mask2, *stash));
    if (layer.relu) {
      for (std::size_t i = 0; i < down.size(); ++i) down[i] = fc2_in[i] > 0 ? down[i] : 0.0F;
    } else {
      const Floats gelu_in = stash->load(tape.gelu_in);
      for (std::size_t i = 0; i < down.size(); ++i) down[i] *= gelu_slope(gelu_in[i]);
    }
    down = linear_backward(layer.fc1, stash->load(tape.fc1_in), down);
    add_to(&gradient, norm_backward(layer.norm2, tape.norm2, down, *stash));
    down = linear_backward(
        layer.proj, stash->load(tape.context), dropout_backward(gradient, tape.mask1, *stash));
    down = attention_backward(tape, down, *stash);
    down = linear_backward(layer.qkv, stash->load(tape.qkv_in), down);
    add_to(&gradient, norm_backward(layer.norm1, tape.norm1, down, *stash));
  }
  for (std::size_t t = 0; t < rows_; ++t)
    for (std::size_t i = 0; i < width; ++i) {
      parameters_[tokens_].grad[byte_at(t, 0) * width + i] += gradient[t * width + i];
      parameters_[positions_].grad[t % seq * width + i] += gradient[t * width + i];
    }
  return loss / static_cast<double>(rows_);
}

void TinyTransformer::update(double learning_rate, std::uint64_t step) {
  constexpr float kFirst = 0.9F;
  constexpr float kSecond = 0.99F;
  constexpr float kDecay = 0.01F;
  const auto count = static_cast<float>(step + 1);
  const float first_scale = 1 / (1 - std::pow(kFirst, count));
  const float second_scale = 1 / (1 - std::pow(kSecond, count));
  const auto rate = static_cast<float>(learning_rate);
  for (Parameter& p : parameters_) {
    const float decay = p.decays ? 1 - rate * kDecay : 1;
    for (std::size_t i = 0; i < p.value.size(); ++i) {
      p.first[i] = kFirst * p.first[i] + (1 - kFirst) * p.grad[i];
      p.second[i] = kSecond * p.second[i] + (1 - kSecond) * p.grad[i] * p.grad[i];
      p.value[i] = decay * p.value[i] - rate * p.first[i] * first_scale /
                                            (std::sqrt(p.second[i] * second_scale) + 1e-8F);
    }
  }
}

}  // namespace spillway::bench
