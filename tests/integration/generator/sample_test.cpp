// SPDX-License-Identifier: Apache-2.0
// The sample trace that ships with the project is what the generator writes today. After a change
// that means to alter it: spillway generate --model gpt2 --no-flash --micro-batches 2 -o
// integration/examples/sample.spwt
#include "integration/generator/generator.hpp"
#include "integration/trace/reader.hpp"
#include "tests/integration/generator/collected_step.hpp"
#include "tests/support/paths.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace spillway;

TEST_SUITE("golden") {
  TEST_CASE("the shipped sample holds the records of a generated GPT-2 step") {
    CollectedStep shipped;
    const auto info =
        read_trace((test::source_dir() / "integration/examples/sample.spwt").string(), {}, shipped);
    CAPTURE(info.status().message());
    REQUIRE(info.ok());
    GenerateOptions options;
    options.flash = false;
    options.micro_batches = 2;
    CollectedStep made;
    REQUIRE(generate(model_by_name("gpt2").value(), options, load_calibration("h200").value(), made)
                .ok());
    CHECK(shipped.faults == std::vector<std::string>{});
    CHECK(shipped.metas == made.metas);
    REQUIRE(shipped.raw.size() == made.raw.size());
    std::size_t different = 0;
    for (std::size_t i = 0; i < made.raw.size(); ++i)
      different += shipped.raw[i] == made.raw[i] ? 0u : 1u;
    CHECK(different == 0);
  }
}
