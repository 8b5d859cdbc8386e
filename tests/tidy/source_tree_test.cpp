// SPDX-License-Identifier: Apache-2.0
// The tree itself under test: no finding in the real one, and every rule proven on a small made-up
// tree.
#include "tests/tidy/source_tree.hpp"

#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

namespace spillway::test {
namespace {

namespace fs = std::filesystem;

const fs::path kRoot = source_dir();
const std::string kLicence = "// SPDX-License-Identifier: Apache-2.0\n";

void check_none(const Findings& findings) {
  for (const std::string& finding : findings) {
    CAPTURE(finding);
    CHECK(finding.empty());
  }
  CHECK(findings.empty());
}

bool has(const Findings& findings, const std::string& text) {
  return std::any_of(findings.begin(), findings.end(), [&text](const std::string& finding) {
    return finding.find(text) != std::string::npos;
  });
}

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("includes point one way and no layer knows a header above its station") {
    check_none(layer_findings(kRoot));
  }

  TEST_CASE("there is no include cycle between files or folders") {
    check_none(cycle_findings(kRoot));
  }

  TEST_CASE("every source file carries its licence line and no leftover") {
    check_none(file_findings(kRoot));
  }

  TEST_CASE("the documents name no file that is gone") { check_none(doc_findings(kRoot)); }

  TEST_CASE("the tree walk sees the product: a root without sources would prove nothing") {
    CHECK(fs::exists(kRoot / "core" / "status.hpp"));
    CHECK(fs::exists(kRoot / "integration" / "CMakeLists.txt"));
  }

  TEST_CASE("an upward, sideways or unrooted include is found") {
    const TempDir dir;
    write(dir.path() / "core/a.hpp", kLicence + "#pragma once\n#include \"policy/b.hpp\"\n");
    write(dir.path() / "policy/b.hpp",
          kLicence + "#include \"core/a.hpp\"\n#include \"device/c.hpp\"\n");
    write(dir.path() / "kernels/d.cpp", kLicence + "#include \"allocator/pool.hpp\"\n");
    write(dir.path() / "offload/e.cpp",
          kLicence + "#include \"e.hpp\"\n#include \"../core/a.hpp\"\n");
    write(dir.path() / "integration/f.cpp", kLicence + "  #  include \"tests/g.hpp\"\n");
    write(dir.path() / "integration/ok.cpp",
          kLicence + "#include \"offload/x.hpp\"\n#include <vector>\n");
    const Findings findings = layer_findings(dir.path());
    CHECK(findings.size() == 6);
    CHECK(has(findings, "core/a.hpp:3: policy/b.hpp: core may not include policy"));
    CHECK(has(findings, "policy/b.hpp:3: device/c.hpp: policy may not include device"));
    CHECK(has(findings, "kernels/d.cpp:2: allocator/pool.hpp: kernels may not include allocator"));
    CHECK(has(findings, "offload/e.cpp:2: e.hpp: write includes from the repository root"));
    CHECK(has(findings, "offload/e.cpp:3: ../core/a.hpp: write includes from the repository root"));
    CHECK(has(findings, "integration/f.cpp:2: tests/g.hpp: integration may not include tests"));
  }

  TEST_CASE("CUDA, console, library and clock headers are found where they do not belong") {
    const TempDir dir;
    write(dir.path() / "device/table.hpp", kLicence + "#include <cuda.h>\n");
    write(dir.path() / "device/cuda/table.cpp", kLicence + "#include <cuda.h>\n");
    write(dir.path() / "kernels/codec.cu", kLicence + "#include <cuda_runtime.h>\n");
    write(dir.path() / "kernels/codec.hpp", kLicence + "#include <cuda_fp16.h>\n");
    write(dir.path() / "integration/preload/hook.cpp",
          kLicence + "#include <cuda_runtime_api.h>\n");
    write(dir.path() / "integration/trace/ranges.cpp",
          kLicence + "#include <nvtx3/nvToolsExt.h>\n");
    write(dir.path() / "integration/trace/print.cpp", kLicence + "#include <iostream>\n");
    write(dir.path() / "integration/cli/main.cpp", kLicence + "#include <iostream>\n");
    write(dir.path() / "core/text.cpp", kLicence + "#include <fmt/format.h>\n#include <cstdint>\n");
    write(dir.path() / "policy/now.cpp", kLicence + "#include <chrono>\n#include <algorithm>\n");
    const Findings findings = layer_findings(dir.path());
    CHECK(findings.size() == 6);
    CHECK(has(findings, "device/table.hpp:2: cuda.h"));
    CHECK(has(findings, "kernels/codec.hpp:2: cuda_fp16.h"));
    CHECK(has(findings, "integration/trace/ranges.cpp:2: nvtx3/nvToolsExt.h"));
    CHECK(has(findings, "integration/trace/print.cpp:2: iostream"));
    CHECK(has(findings, "core/text.cpp:2: fmt/format.h"));
    CHECK(has(findings, "policy/now.cpp:2: chrono"));
  }

  TEST_CASE("a cycle is found between files, and between folders whose files form none") {
    const TempDir files;
    write(files.path() / "core/a.hpp", "#include \"core/b.hpp\"\n");
    write(files.path() / "core/b.hpp", "#include \"core/c.hpp\"\n");
    write(files.path() / "core/c.hpp", "#include \"core/a.hpp\"\n");
    CHECK(cycle_findings(files.path()) ==
          Findings{"core/a.hpp -> core/b.hpp -> core/c.hpp -> core/a.hpp: include cycle"});

    const TempDir folders;
    write(folders.path() / "kernels/a.hpp", "#include \"allocator/b.hpp\"\n");
    write(folders.path() / "allocator/c.hpp", "#include \"kernels/d.hpp\"\n");
    CHECK(cycle_findings(folders.path()) ==
          Findings{"allocator -> kernels -> allocator: cycle between folders"});
  }

  TEST_CASE("a missing licence line, include guard or a leftover is found") {
    const TempDir dir;
    const std::string mark = std::string("TO") + "DO";
    write(dir.path() / "core/a.hpp", "#pragma once\n");
    write(dir.path() / "core/b.hpp", kLicence);
    write(dir.path() / "core/c.cpp", kLicence + "// " + mark + ": later\n");
    write(dir.path() / "core/d.cpp", kLicence + "namespace spillway::detail {\n}\n");
    write(dir.path() / "tests/core/e_test.cpp", kLicence + "puts(\"skipp" + "ed: needs x\");\n");
    write(dir.path() / "run", "#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\n");
    write(dir.path() / "cmake/f.cmake", "include(x)\n");
    const Findings findings = file_findings(dir.path());
    CHECK(findings.size() == 6);
    CHECK(has(findings, "core/a.hpp:1: no SPDX"));
    CHECK(has(findings, "core/b.hpp:1: no #pragma once"));
    CHECK(has(findings, "core/c.cpp:2: leftover"));
    CHECK(has(findings, "core/d.cpp:2: namespace detail"));
    CHECK(has(findings, "tests/core/e_test.cpp:2: report a skip"));
    CHECK(has(findings, "cmake/f.cmake:1: no SPDX"));
  }

  TEST_CASE("a document that names a missing file is found, a generated or foreign path is not") {
    const TempDir dir;
    write(dir.path() / "core/here.hpp", kLicence);
    write(
        dir.path() / "docs/a.md",
        "`core/here.hpp` `core/gone.hpp` `n/a` `../shared/data` `build/bin/spillway` `core/*.hpp` "
        "`core/NAME.hpp` `allocator/kernels`\n"
        "[up](../README.md) [out](https://example.org/x) [gone](b.md#part)\n"
        "```\n`core/in_a_fence.hpp`\n```\n");
    write(dir.path() / "README.md", "`policy/planners/` and [docs](docs/a.md)\n");
    const Findings findings = doc_findings(dir.path());
    CHECK(findings == Findings{"README.md:1: policy/planners/ does not exist",
                               "docs/a.md:1: core/gone.hpp does not exist",
                               "docs/a.md:2: b.md does not exist"});
  }
}

}  // namespace spillway::test
