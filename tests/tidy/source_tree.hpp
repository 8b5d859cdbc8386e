// SPDX-License-Identifier: Apache-2.0
// Reads a source tree as text and reports what breaks the rules of the house: include direction,
// include cycles, headers that a layer may not know, licence lines, leftovers. Each finding is one
// line that starts with the file. Judges only: nothing here is shared with the product.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace spillway::test {

using Findings = std::vector<std::string>;

/// Includes that point upward or sideways, that are not written from the repository root, and
/// headers of CUDA, NVTX, the console, files, clocks or libraries in a layer that may not know
/// them.
Findings layer_findings(const std::filesystem::path& root);

/// Include cycles, between files and between folders; a cycle is printed as "a -> b -> a".
Findings cycle_findings(const std::filesystem::path& root);

/// Missing licence line or include guard, leftover marks, `detail` namespaces, skips printed by
/// hand.
Findings file_findings(const std::filesystem::path& root);

/// Paths in back quotes and relative links in the Markdown files that name nothing in the tree.
/// A file is known by its extension, a folder by a slash at its end; NAME and FOLDER stand for any
/// word.
Findings doc_findings(const std::filesystem::path& root);

}  // namespace spillway::test
