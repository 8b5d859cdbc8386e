// SPDX-License-Identifier: Apache-2.0
// The rules behind source_tree.hpp. Line-based on purpose: an include is a line that starts with
// #include.
#include "tests/tidy/source_tree.hpp"

#include <algorithm>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string_view>

namespace spillway::test {
namespace {

namespace fs = std::filesystem;
using Graph = std::map<std::string, std::set<std::string>>;

// What each folder may include besides itself: the arrows of docs/architecture.md, closed over
// their ends.
const std::map<std::string, std::set<std::string>>& allowed_folders() {
  static const std::map<std::string, std::set<std::string>> kTable = {
      {"core", {}},
      {"policy", {"core"}},
      {"device", {"core"}},
      {"allocator", {"device", "core"}},
      {"kernels", {"device", "core"}},
      {"offload", {"policy", "allocator", "kernels", "device", "core"}},
      {"integration", {"offload", "policy", "allocator", "kernels", "device", "core"}},
  };
  return kTable;
}

struct Include {
  std::size_t line = 0;  // 1-based
  bool quoted = false;   // "..." rather than <...>
  std::string target;
};

std::vector<std::string> read_lines(const fs::path& path) {
  std::ifstream in(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::string_view without_blanks(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  return first == std::string_view::npos ? std::string_view() : text.substr(first);
}

// `#include <x>` or `#include "x"`, with blanks wherever the preprocessor allows them.
std::optional<Include> parse_include(std::string_view text) {
  text = without_blanks(text);
  if (!text.starts_with("#")) return std::nullopt;
  text = without_blanks(text.substr(1));
  if (!text.starts_with("include")) return std::nullopt;
  text = without_blanks(text.substr(std::string_view("include").size()));
  if (!text.starts_with("<") && !text.starts_with("\"")) return std::nullopt;
  const bool quoted = text.front() == '"';
  const std::size_t end = text.find(quoted ? '"' : '>', 1);
  if (end == std::string_view::npos) return std::nullopt;
  return Include{0, quoted, std::string(text.substr(1, end - 1))};
}

std::vector<Include> includes_of(const fs::path& path) {
  std::vector<Include> found;
  const std::vector<std::string> lines = read_lines(path);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (std::optional<Include> include = parse_include(lines[i])) {
      include->line = i + 1;
      found.push_back(*include);
    }
  }
  return found;
}

bool is_word_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

bool has_word(std::string_view text, std::string_view word) {
  for (std::size_t at = text.find(word); at != std::string_view::npos;
       at = text.find(word, at + 1)) {
    const std::size_t end = at + word.size();
    if ((at == 0 || !is_word_char(text[at - 1])) &&
        (end == text.size() || !is_word_char(text[end]))) {
      return true;
    }
  }
  return false;
}

// The texts between each `open` and the next `close` of a line.
std::vector<std::string> between(std::string_view line,
                                 std::string_view open,
                                 std::string_view close) {
  std::vector<std::string> texts;
  std::size_t at = line.find(open);
  while (at != std::string_view::npos) {
    const std::size_t begin = at + open.size();
    const std::size_t end = line.find(close, begin);
    if (end == std::string_view::npos) break;
    texts.emplace_back(line.substr(begin, end - begin));
    at = line.find(open, end + close.size());
  }
  return texts;
}

bool has_extension(const fs::path& path, std::initializer_list<std::string_view> extensions) {
  const std::string own = path.extension().string();
  return std::find(extensions.begin(), extensions.end(), own) != extensions.end();
}

bool is_cxx(const fs::path& path) {
  return has_extension(path, {".hpp", ".h", ".cpp", ".c", ".cu", ".cuh"});
}

std::string relative_name(const fs::path& root, const fs::path& path) {
  return path.lexically_relative(root).generic_string();
}

// Regular files below root/folder, sorted; none when the folder is absent.
std::vector<fs::path> files_below(const fs::path& root, const std::string& folder) {
  std::vector<fs::path> files;
  if (!fs::is_directory(root / folder)) return files;
  for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<fs::path> product_sources(const fs::path& root) {
  std::vector<fs::path> sources;
  for (const auto& [folder, below] : allowed_folders()) {
    for (const fs::path& path : files_below(root, folder)) {
      if (is_cxx(path)) sources.push_back(path);
    }
  }
  return sources;
}

bool starts_with_any(std::string_view text, std::initializer_list<std::string_view> prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(), [text](std::string_view prefix) {
    return text.starts_with(prefix);
  });
}

std::string first_part(const std::string& path) { return path.substr(0, path.find('/')); }

// Why the layer of `file` may not include the angled header `target`; empty when it may.
std::string angled_fault(const std::string& file, const std::string& target) {
  const std::string folder = first_part(file);
  // Thrust's TBB system runs the codecs on the host; its headers need no CUDA.
  if (file.starts_with("kernels/host/") && starts_with_any(target, {"thrust/"})) return "";
  if (starts_with_any(target,
                      {"cuda",
                       "cub/",
                       "thrust/",
                       "cooperative_groups",
                       "driver_types.h",
                       "vector_types.h",
                       "nvrtc",
                       "nvml"})) {
    const bool may = file.starts_with("device/cuda/") || file.starts_with("integration/preload/") ||
                     (folder == "kernels" && (file.ends_with(".cu") || file.ends_with(".cuh")));
    return may ? ""
               : "CUDA headers belong to device/cuda, .cu files of kernels and integration/preload";
  }
  if (starts_with_any(target, {"nvtx3/", "nvToolsExt"})) {
    const bool may = file.starts_with("device/cuda/") || file.starts_with("integration/preload/") ||
                     file.starts_with("integration/nvtx/");
    return may ? ""
               : "NVTX headers belong to device/cuda, integration/nvtx and integration/preload";
  }
  if (target == "iostream" && !file.starts_with("integration/cli/") &&
      !file.starts_with("integration/examples/")) {
    return "libraries do not write to the console";
  }
  // Searches run side by side on oneTBB, the bound asks an LP library: both give the same answer
  // every time.
  if (folder == "policy" && starts_with_any(target, {"tbb/", "coin/"})) return "";
  if ((folder == "core" || folder == "policy") && target.find_first_of("./") != std::string::npos) {
    return folder + " includes the standard library only";
  }
  static const std::set<std::string> kImpure = {"chrono",
                                                "ctime",
                                                "filesystem",
                                                "fstream",
                                                "future",
                                                "mutex",
                                                "thread",
                                                "iostream",
                                                "random",
                                                "atomic",
                                                "condition_variable"};
  if (folder == "policy" && kImpure.count(target) != 0) {
    return "policy is pure: no files, clock, threads or unseeded chance";
  }
  return "";
}

// Why the layer of `file` may not include the quoted header `target`; empty when it may.
std::string quoted_fault(const std::string& file, const std::string& target) {
  const std::string from = first_part(file);
  const std::string to = first_part(target);
  const auto& table = allowed_folders();
  if (target.find('/') == std::string::npos || target.starts_with(".") ||
      (table.count(to) == 0 && to != "tests" && to != "bench")) {
    return "write includes from the repository root";
  }
  if (from == to || table.at(from).count(to) != 0) return "";
  return from + " may not include " + to;
}

// Every cycle that a depth-first walk closes, each once, written from its smallest node.
std::set<std::string> cycles_in(const Graph& graph) {
  std::set<std::string> cycles;
  std::set<std::string> done;
  std::vector<std::string> path;
  const std::function<void(const std::string&)> visit = [&](const std::string& node) {
    const auto on_path = std::find(path.begin(), path.end(), node);
    if (on_path != path.end()) {
      std::vector<std::string> cycle(on_path, path.end());
      std::rotate(cycle.begin(), std::min_element(cycle.begin(), cycle.end()), cycle.end());
      std::string text;
      for (const std::string& step : cycle) text += step + " -> ";
      cycles.insert(text + cycle.front());
      return;
    }
    if (!done.insert(node).second) return;
    path.push_back(node);
    const auto next = graph.find(node);
    if (next != graph.end()) {
      for (const std::string& target : next->second) visit(target);
    }
    path.pop_back();
  };
  for (const auto& [node, targets] : graph) visit(node);
  return cycles;
}

bool has_licence_line(const std::vector<std::string>& lines) {
  constexpr std::string_view kLine = "SPDX-License-Identifier: Apache-2.0";
  // The second line is for scripts (their first is the interpreter) and for pages (their doctype).
  for (std::size_t i = 0; i < std::min<std::size_t>(2, lines.size()); ++i) {
    if (lines[i].find(kLine) != std::string::npos) return true;
  }
  return false;
}

bool is_licensed_kind(const fs::path& path) {
  return is_cxx(path) || path.filename() == "CMakeLists.txt" || path.filename() == "run" ||
         has_extension(path, {".cmake", ".py", ".sh", ".js", ".css", ".html"});
}

std::vector<fs::path> markdown_files(const fs::path& root) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(root)) {
    if (entry.is_regular_file() && entry.path().extension() == ".md") files.push_back(entry.path());
  }
  for (const char* folder : {"docs", "bench", "device", "integration", "tests"}) {
    for (const fs::path& path : files_below(root, folder)) {
      if (path.extension() == ".md") files.push_back(path);
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

// True for a back-quoted text that can only be meant as a file or folder of this repository.
bool looks_like_repo_path(const fs::path& root, const std::string& text) {
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
    return is_word_char(c) || c == '.' || c == '-' || c == '/';
  });
  if (!plain || text.find('/', 1) == std::string::npos || text.front() == '/') return false;
  if (text.starts_with("../") || text.starts_with("build")) return false;
  for (const char* wildcard : {"NAME", "FOLDER"}) {
    if (text.find(wildcard) != std::string::npos) return false;
  }
  const fs::path name = fs::path(text).filename();
  if (!name.empty() && !name.has_extension()) return false;  // words with a slash between them
  if (name.string().starts_with("embedded_"))
    return false;  // generated, see cmake/SpillwayEmbed.cmake
  const std::string top = first_part(text);
  static const std::set<std::string> kOurs = {"cmake", "docs", "tests", "bench", "scripts", ".ci"};
  return allowed_folders().count(top) != 0 || kOurs.count(top) != 0 || fs::exists(root / top);
}

}  // namespace

Findings layer_findings(const fs::path& root) {
  Findings findings;
  for (const fs::path& path : product_sources(root)) {
    const std::string file = relative_name(root, path);
    for (const Include& include : includes_of(path)) {
      const std::string fault =
          include.quoted ? quoted_fault(file, include.target) : angled_fault(file, include.target);
      if (!fault.empty()) {
        std::string finding = file;
        finding += ":" + std::to_string(include.line) + ": ";
        finding += include.target + ": " + fault;
        findings.push_back(finding);
      }
    }
  }
  return findings;
}

Findings cycle_findings(const fs::path& root) {
  Graph files;
  Graph folders;
  for (const fs::path& path : product_sources(root)) {
    const std::string file = relative_name(root, path);
    for (const Include& include : includes_of(path)) {
      if (!include.quoted) continue;
      files[file].insert(include.target);
      const std::string from = first_part(file);
      const std::string to = first_part(include.target);
      if (from != to) folders[from].insert(to);
    }
  }
  Findings findings;
  for (const std::string& cycle : cycles_in(files)) findings.push_back(cycle + ": include cycle");
  for (const std::string& cycle : cycles_in(folders))
    findings.push_back(cycle + ": cycle between folders");
  return findings;
}

Findings file_findings(const fs::path& root) {
  std::vector<fs::path> paths;
  for (const char* folder : {"allocator",
                             "bench",
                             "cmake",
                             "core",
                             "device",
                             "integration",
                             "kernels",
                             "offload",
                             "policy",
                             "scripts",
                             "tests",
                             ".ci"}) {
    const std::vector<fs::path> below = files_below(root, folder);
    paths.insert(paths.end(), below.begin(), below.end());
  }
  for (const char* name : {"CMakeLists.txt", "run"}) {
    if (fs::exists(root / name)) paths.push_back(root / name);
  }

  // Spelled in two halves, so that this file does not report itself.
  const std::vector<std::string> leftovers = {std::string("TO") + "DO",
                                              std::string("FIX") + "ME",
                                              std::string("XX") + "X",
                                              std::string("HA") + "CK"};
  const std::string skip_text = std::string("\"skipp") + "ed: ";
  Findings findings;
  for (const fs::path& path : paths) {
    if (!is_licensed_kind(path)) continue;
    const std::string file = relative_name(root, path);
    const std::vector<std::string> lines = read_lines(path);
    if (!has_licence_line(lines)) findings.push_back(file + ":1: no SPDX licence line");
    if (path.extension() == ".hpp" &&
        std::find(lines.begin(), lines.end(), "#pragma once") == lines.end()) {
      findings.push_back(file + ":1: no #pragma once");
    }
    for (std::size_t i = 0; i < lines.size(); ++i) {
      const std::string at = file + ":" + std::to_string(i + 1) + ": ";
      for (const std::string& word : leftovers) {
        if (has_word(lines[i], word)) findings.push_back(at + "leftover mark");
      }
      const std::string_view code = without_blanks(lines[i]);
      if ((code.starts_with("namespace ") || code.starts_with("inline namespace ")) &&
          has_word(code, "detail")) {
        findings.push_back(at + "namespace detail");
      }
      if (is_cxx(path) && file.starts_with("tests/") && !file.starts_with("tests/support/") &&
          lines[i].find(skip_text) != std::string::npos) {
        findings.push_back(at + "report a skip with report_skipped(), which ctest can see");
      }
    }
  }
  return findings;
}

Findings doc_findings(const fs::path& root) {
  Findings findings;
  for (const fs::path& path : markdown_files(root)) {
    const std::string file = relative_name(root, path);
    const std::vector<std::string> lines = read_lines(path);
    bool in_fence = false;
    for (std::size_t i = 0; i < lines.size(); ++i) {
      if (lines[i].starts_with("```")) in_fence = !in_fence;
      if (in_fence) continue;
      const std::string at = file + ":" + std::to_string(i + 1) + ": ";
      for (const std::string& text : between(lines[i], "`", "`")) {
        if (looks_like_repo_path(root, text) && !fs::exists(root / text)) {
          findings.push_back(at + text + " does not exist");
        }
      }
      for (const std::string& link : between(lines[i], "](", ")")) {
        const std::string text = link.substr(0, link.find('#'));
        if (!text.empty() && text.find("://") == std::string::npos &&
            !text.starts_with("mailto:") && !fs::exists(path.parent_path() / text)) {
          findings.push_back(at + text + " does not exist");
        }
      }
    }
  }
  return findings;
}

}  // namespace spillway::test
