// SPDX-License-Identifier: Apache-2.0
#include "allocator/system_file.hpp"

#include <array>
#include <charconv>
#include <cstdio>
#include <memory>

namespace spillway {
namespace {

constexpr std::size_t kFileBytesMax = std::size_t{4} << 20;

struct Close {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

}  // namespace

std::optional<std::string> read_system_file(const std::string& path) {
  const std::unique_ptr<std::FILE, Close> file(std::fopen(path.c_str(), "re"));
  if (file == nullptr) return std::nullopt;
  std::string text;
  std::array<char, 4096> buffer{};
  for (;;) {
    const std::size_t got = std::fread(buffer.data(), 1, buffer.size(), file.get());
    text.append(buffer.data(), got);
    if (text.size() > kFileBytesMax) return std::nullopt;
    if (got < buffer.size()) break;
  }
  if (std::ferror(file.get()) != 0) return std::nullopt;
  return text;
}

std::optional<std::uint64_t> leading_number(std::string_view text, int base) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  std::uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (parsed.ec != std::errc{}) return std::nullopt;
  return value;
}

std::optional<std::string_view> value_of_key(std::string_view text, std::string_view key) {
  while (const std::optional<std::string_view> line = next_line(&text))
    if (line->substr(0, key.size()) == key) return line->substr(key.size());
  return std::nullopt;
}

std::optional<std::string_view> next_line(std::string_view* text) {
  if (text->empty()) return std::nullopt;
  return next_field(text, '\n');
}

std::string_view next_field(std::string_view* line, char separator) {
  const std::size_t end = line->find(separator);
  const std::string_view field = line->substr(0, end);
  line->remove_prefix(end == std::string_view::npos ? line->size() : end + 1);
  return field;
}

}  // namespace spillway
