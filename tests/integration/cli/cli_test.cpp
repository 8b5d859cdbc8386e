// SPDX-License-Identifier: Apache-2.0
// The program as a user meets it: exit codes, one line on stderr, JSON on stdout, files written
// whole or not at all.
#include "policy/planner.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/run_program.hpp"
#include "tests/support/shared_data.hpp"
#include "tests/support/temp_dir.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

using namespace spillway;
using namespace spillway::test;
using nlohmann::json;

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif
#else
constexpr bool kSanitized = false;
#endif

ProgramRun spillway_run(std::vector<std::string> arguments, long file_bytes_max = 0) {
  arguments.insert(arguments.begin(), program_path().string());
  return run_program(arguments, file_bytes_max);
}

json json_of(const ProgramRun& run) {
  REQUIRE_MESSAGE(json::accept(run.out), run.out << run.err);
  return json::parse(run.out);
}

void write(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string read(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// One line, opened by the program's name, naming `file`.
void check_one_line(const ProgramRun& run, const std::string& file, int exit_code) {
  CHECK(run.exit_code == exit_code);
  CHECK(run.out.empty());
  CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 1);
  CHECK(run.err.rfind("spillway: ", 0) == 0);
  CHECK_MESSAGE(run.err.find(file) != std::string::npos, run.err);
}

struct Sample {
  TempDir dir;
  std::string trace = (dir.path() / "gpt2.spwt").string();
  Sample() {
    const ProgramRun run = spillway_run({"generate",
                                         "--model",
                                         "gpt2",
                                         "--layers",
                                         "4",
                                         "--batch",
                                         "8",
                                         "--seq",
                                         "512",
                                         "--optimizer",
                                         "none",
                                         "-o",
                                         trace});
    REQUIRE_MESSAGE(run.exit_code == 0, run.err);
  }
};

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("help and version go to stdout and succeed; wrong words are one line and exit 1") {
    const ProgramRun help = spillway_run({"--help"});
    CHECK(help.exit_code == 0);
    for (const char* command :
         {"replay", "plan", "compare", "generate", "convert", "inspect", "doctor", "calibrate"})
      CHECK(help.out.find(command) != std::string::npos);
    const ProgramRun version = spillway_run({"--version"});
    CHECK(version.exit_code == 0);
    CHECK(version.out.find("0.1.0") != std::string::npos);
    for (const std::vector<std::string>& wrong : std::vector<std::vector<std::string>>{
             {},
             {"fly"},
             {"replay"},
             {"replay", "x", "--no-such-option"},
             {"generate", "--model", "no-such-model", "-o", "/dev/null"},
             {"generate", "-o", "/dev/null"},
             {"generate", "--model", "gpt2", "--tp", "5", "-o", "/dev/null"}}) {
      const ProgramRun run = spillway_run(wrong);
      CHECK(run.exit_code == 1);
      CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 1);
      CHECK(run.out.empty());
    }
  }

  TEST_CASE("replay prints one JSON object whose figures agree with each other") {
    const Sample sample;
    const ProgramRun run = spillway_run({"replay", sample.trace, "--budget", "60%act", "--json"});
    CHECK(run.exit_code == 0);
    const json object = json_of(run);
    for (const char* field : {"schema",
                              "trace",
                              "policy",
                              "feasible",
                              "gave_up",
                              "min_budget_bytes",
                              "budget_bytes",
                              "peak_bytes",
                              "keep_all_peak_bytes",
                              "activation_bytes",
                              "unmovable_bytes",
                              "step_ns",
                              "keep_all_step_ns",
                              "bound_ns",
                              "overhead",
                              "stall_ns",
                              "plan_ms",
                              "tensors",
                              "measured",
                              "inferred",
                              "gpu",
                              "calibration",
                              "times_from",
                              "link_from",
                              "bytes"})
      CHECK_MESSAGE(object.contains(field), field);
    CHECK(object["feasible"] == true);
    CHECK(object["measured"] == false);
    CHECK(object["peak_bytes"].get<std::uint64_t>() <= object["budget_bytes"].get<std::uint64_t>());
    CHECK(object["step_ns"].get<std::int64_t>() >= object["bound_ns"].get<std::int64_t>());
    const json& bytes = object["bytes"];
    CHECK(bytes["keep"].get<std::uint64_t>() + bytes["compress"].get<std::uint64_t>() +
              bytes["offload"].get<std::uint64_t>() + bytes["recompute"].get<std::uint64_t>() ==
          object["activation_bytes"].get<std::uint64_t>());
    const std::uint64_t basis = object["unmovable_bytes"].get<std::uint64_t>() +
                                object["activation_bytes"].get<std::uint64_t>() * 6 / 10;
    CHECK(object["budget_bytes"].get<std::uint64_t>() == basis);
  }

  TEST_CASE("what does not fit exits 3 and names a budget that does") {
    const Sample sample;
    const ProgramRun run = spillway_run({"replay", sample.trace, "--budget", "1MiB", "--json"});
    CHECK(run.exit_code == 3);
    const json object = json_of(run);
    CHECK(object["feasible"] == false);
    CHECK(object["peak_bytes"].is_null());
    CHECK(object["step_ns"].is_null());
    CHECK(!object["holders"].empty());
    const std::string enough = std::to_string(object["min_budget_bytes"].get<std::uint64_t>());
    CHECK(spillway_run({"replay", sample.trace, "--budget", enough}).exit_code == 0);
    const ProgramRun words = spillway_run({"replay", sample.trace, "--budget", "1MiB"});
    CHECK(words.exit_code == 3);
    CHECK(words.out.find("does not fit") != std::string::npos);
  }

  TEST_CASE("compare has a row for every policy") {
    const Sample sample;
    const json object =
        json_of(spillway_run({"compare", sample.trace, "--budget", "70%", "--json"}));
    REQUIRE(object["rows"].size() == planners().size());
    std::vector<std::string> names;
    for (const json& row : object["rows"]) names.push_back(row["policy"]);
    CHECK(names.front() == "keep-all");
    CHECK(names.back() == "joint");
    const json one =
        json_of(spillway_run({"compare", sample.trace, "--policies", "every-k:3,joint", "--json"}));
    CHECK(one["rows"].size() == 2);
    CHECK(spillway_run({"compare", sample.trace, "--policies", "magic"}).exit_code == 1);
    CHECK(spillway_run({"compare", sample.trace, "--budget", "1KiB"}).exit_code == 3);
  }

  TEST_CASE("replay --simrd adds what the DTR authors' simulator says, and only for DTR logs") {
    const Sample sample;
    const std::string log =
        (source_dir() / "tests/integration/trace/dtr_samples/residual.log").string();
    const json object = json_of(spillway_run(
        {"replay", log, "--policy", "dtr:h_eq", "--simrd", "--budget", "18146", "--json"}));
    // As in dtr_samples/expected.csv.
    const json& simrd = object["simrd"];
    CHECK(simrd["heuristic"] == "DTREqClass");
    CHECK(simrd["budget_bytes"] == 18146);
    CHECK(simrd["result"] == "ok");
    CHECK(simrd["clock_ns"] == 6872);
    CHECK(simrd["model_compute_ns"] == 5059);
    CHECK(simrd["remat_compute_ns"] == 1812);
    CHECK(simrd["max_memory_bytes"] == 18103);
    CHECK(simrd["n_evictions_in_free"] == 29);
    CHECK(simrd["bytes_evicted_in_free"] == 51728);
    CHECK(simrd["n_remat_calls"] == 40);
    const ProgramRun words =
        spillway_run({"replay", log, "--policy", "dtr:size", "--simrd", "--budget", "9073"});
    CHECK(words.out.find("simrd LargestStorage: OOM, clock 4971 ns") != std::string::npos);
    CHECK(spillway_run({"replay", log, "--policy", "joint", "--simrd", "--budget", "18146"})
              .exit_code == 1);
    CHECK(spillway_run({"replay", log, "--policy", "dtr", "--simrd"}).exit_code == 1);
    CHECK(spillway_run({"replay", sample.trace, "--policy", "dtr", "--simrd", "--budget", "70%"})
              .exit_code == 2);
  }

  TEST_CASE("a limit on host memory makes rows infeasible, and says so") {
    const Sample sample;
    const ProgramRun run =
        spillway_run({"compare", sample.trace, "--budget", "80%", "--pinned", "1MiB", "--json"});
    const json object = json_of(run);
    CHECK(run.exit_code == 0);
    for (const json& row : object["rows"]) {
      if (row["policy"] == "offload-all") CHECK(row["feasible"] == false);
      if (row["policy"] == "full") CHECK(row["feasible"] == true);
    }
    const json few =
        json_of(spillway_run({"compare", sample.trace, "--actions", "keep,offload", "--json"}));
    CHECK(few["rows"].size() == 3);
  }

  TEST_CASE("plan --what-if prices the plan on changed machines, each beside the plan as it is") {
    const Sample sample;
    const ProgramRun run = spillway_run({"plan",
                                         sample.trace,
                                         "--budget",
                                         "90%",
                                         "--what-if",
                                         "link=4x",
                                         "--what-if",
                                         "compute=2x,pinned=1MiB",
                                         "--what-if",
                                         "budget=1%",
                                         "--what-if",
                                         "budget=2x",
                                         "--json"});
    REQUIRE(run.exit_code == 0);
    const json object = json_of(run);
    const json& rows = object["what_if"];
    REQUIRE(rows.size() == 4);
    CHECK(rows[0]["what_if"] == "link=4x");
    CHECK(rows[0]["keep_all_step_ns"] == object["keep_all_step_ns"]);
    CHECK(rows[0]["step_ns"] <= rows[0]["unchanged_step_ns"]);
    CHECK(rows[0]["unchanged_step_ns"] <= object["step_ns"]);
    CHECK(rows[1]["keep_all_step_ns"] < object["keep_all_step_ns"]);
    CHECK(rows[2]["feasible"] == false);
    CHECK(rows[2]["step_ns"].is_null());
    CHECK(rows[2]["min_budget_bytes"] > rows[2]["budget_bytes"]);
    // More than keep-all's peak.
    CHECK(rows[3]["step_ns"] == object["keep_all_step_ns"]);
    const ProgramRun table =
        spillway_run({"plan", sample.trace, "--budget", "90%", "--what-if", "link=4x"});
    CHECK(table.exit_code == 0);
    CHECK(table.out.find("\nlink=4x ") != std::string::npos);
    CHECK(table.out.find("\nnow ") != std::string::npos);
    for (const char* wrong : {"link", "warp=2x", "link=0x", "compute=1GB/s", "pinned=2x", ""})
      check_one_line(spillway_run({"plan", sample.trace, "--what-if", wrong}), "what-if", 1);
  }

  TEST_CASE("plan --curve prints a row per budget, and neither step nor bound rises along it") {
    const Sample sample;
    const ProgramRun run =
        spillway_run({"plan", sample.trace, "--curve", "--budget", "90%", "--json"});
    REQUIRE(run.exit_code == 0);
    const json object = json_of(run);
    CHECK(object["schema"] == "spillway.curve/1");
    const json& rows = object["rows"];
    REQUIRE(rows.size() == 10);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      CHECK(rows[i]["feasible"] == true);
      CHECK(rows[i]["peak_bytes"] <= rows[i]["budget_bytes"]);
      CHECK(rows[i]["bound_ns"] <= rows[i]["step_ns"]);
      if (i == 0) continue;
      CHECK(rows[i]["budget_bytes"] > rows[i - 1]["budget_bytes"]);
      CHECK(rows[i]["step_ns"] <= rows[i - 1]["step_ns"]);
      CHECK(rows[i]["bound_ns"] <= rows[i - 1]["bound_ns"]);
    }
    CHECK(rows.back()["overhead"] == 0);
    const ProgramRun table = spillway_run({"plan", sample.trace, "--curve"});
    CHECK(table.exit_code == 0);
    CHECK(std::count(table.out.begin(), table.out.end(), '\n') == 13);
    CHECK(spillway_run({"plan", sample.trace, "--curve", "-o", "x.spwp"}).exit_code == 1);
  }

  TEST_CASE(
      "plan --advise prints settings of other tools, and none beats what joint gains over it") {
    const Sample sample;
    const std::vector<std::pair<std::string, std::string>> tools = {
        {"torch", "activation_memory_budget"},
        {"megatron", "--recompute-granularity"},
        {"deepspeed", "cpu_checkpointing"},
        {"te", "get_cpu_offload_context"}};
    for (const auto& pair : tools) {
      const std::string& tool = pair.first;
      const std::string& word = pair.second;
      const ProgramRun run =
          spillway_run({"plan", sample.trace, "--budget", "90%", "--advise", tool, "--json"});
      REQUIRE(run.exit_code == 0);
      const json object = json_of(run);
      CHECK(object["advice"]["tool"] == tool);
      const json& settings = object["advice"]["settings"];
      REQUIRE(!settings.empty());
      bool named = false;
      for (const json& row : settings) {
        named = named || row["setting"].get<std::string>().find(word) != std::string::npos;
        if (row["feasible"] == true)
          CHECK(row["peak_bytes"] <= object["budget_bytes"]);
        else
          CHECK(row["step_ns"].is_null());
      }
      CHECK(named);
      CHECK(settings[0]["feasible"] == true);
      CHECK(object["advice"]["gain"] >= 0);
      const ProgramRun text =
          spillway_run({"plan", sample.trace, "--budget", "90%", "--advise", tool});
      CHECK(text.out.find(word) != std::string::npos);
    }
    check_one_line(spillway_run({"plan", sample.trace, "--advise", "jax"}), "--advise", 1);
  }

  TEST_CASE("--codec and --max-error choose among the codecs that tags permit, in all commands") {
    const TempDir dir;
    const std::string trace = (dir.path() / "t.spwt").string();
    REQUIRE(spillway_run({"generate",
                          "--model",
                          "gpt2",
                          "--layers",
                          "4",
                          "--batch",
                          "16",
                          "--seq",
                          "512",
                          "--vocab",
                          "512",
                          "-o",
                          trace})
                .exit_code == 0);
    const std::string plan = (dir.path() / "p.spwp").string();
    const auto codecs_of = [&](std::vector<std::string> options) {
      std::vector<std::string> all = {
          "plan", trace, "--budget", "75%act", "--actions", "keep,compress", "-o", plan, "--json"};
      all.insert(all.end(), options.begin(), options.end());
      const ProgramRun run = spillway_run(all);
      CHECK_MESSAGE(run.exit_code == 0, run.err);
      std::map<std::string, int> counts;
      std::ifstream in(plan);
      const json file = json::parse(in);
      for (const json& decision : file["decisions"])
        if (decision[2] == "compress") ++counts[decision[3]];
      return counts;
    };
    CHECK(codecs_of({}).count("int8") == 0);
    CHECK(codecs_of({}).at("lossless12") > 0);
    CHECK(codecs_of({"--lossy"}).at("int8") > 0);
    auto counts = codecs_of({"--lossy", "--max-error", "0.001"});
    CHECK(counts.count("int8") == 0);
    CHECK(counts.at("lossless12") > 0);
    counts = codecs_of({"--lossy", "--codec", "*=lossless12", "--codec", "*mask=none"});
    CHECK(counts.size() == 1);
    CHECK(counts.at("lossless12") > 0);
    counts = codecs_of({"--lossy", "--codec", "*gelu=int4"});
    CHECK(counts.at("int4") > 0);
    // The plan just written uses what these forbid.
    check_one_line(spillway_run({"replay", trace, "--plan", plan, "--lossy", "--max-error", "0.1"}),
                   "is compressed by int4, which --codec or --max-error forbids",
                   2);
    CHECK(spillway_run({"replay", trace, "--plan", plan, "--lossy"}).exit_code == 0);
    const ProgramRun none =
        spillway_run({"compare", trace, "--budget", "75%act", "--json", "--codec", "*=none"});
    REQUIRE(json::accept(none.out));
    const json rows = json::parse(none.out)["rows"];
    for (const json& row : rows)
      if (row["feasible"] == true) CHECK(row["bytes"]["compress"] == 0);
    check_one_line(spillway_run({"plan", trace, "--codec", "*lse=int8", "--lossy"}),
                   "it is tagged exact_required",
                   1);
    check_one_line(spillway_run({"plan", trace, "--codec", "*gelu=int8"}), "needs --lossy", 1);
    check_one_line(spillway_run({"plan", trace, "--codec", "nothing*=int8"}), "no storage", 1);
    check_one_line(spillway_run({"plan", trace, "--codec", "gelu"}), "PATTERN=NAME", 1);
    check_one_line(spillway_run({"plan", trace, "--max-error", "-1"}), "--max-error", 1);
    check_one_line(spillway_run({"plan", trace, "--max-error", "nan"}), "--max-error", 1);
  }

  TEST_CASE("plan --explain prices what else could be done with a tensor, in one line each") {
    const Sample sample;
    const json object = json_of(
        spillway_run({"plan", sample.trace, "--budget", "90%", "--explain", "layer 1", "--json"}));
    const json& tensors = object["explain"]["tensors"];
    REQUIRE(!tensors.empty());
    CHECK(tensors.size() <= 20);
    bool priced = false;
    for (const json& tensor : tensors) {
      CHECK(tensor["name"].get<std::string>().find("layer 1") != std::string::npos);
      for (const json& other : tensor["alternatives"]) {
        CHECK((other["action"] != tensor["action"] || other["codec"] != tensor["codec"]));
        CHECK(other["fits"] == other["step_ns"].is_number());
        priced = priced || other["fits"] == true;
      }
    }
    CHECK(priced);
    const ProgramRun text = spillway_run({"plan", sample.trace, "--budget", "90%", "--explain"});
    CHECK(text.exit_code == 0);
    CHECK(text.out.find("; instead ") != std::string::npos);
    const ProgramRun none =
        spillway_run({"plan", sample.trace, "--budget", "90%", "--explain", "no such tensor"});
    CHECK(none.exit_code == 0);
    CHECK(none.out.find("no tensor of that name") != std::string::npos);
  }

  TEST_CASE("a plan written is a plan replayed, and fits no other step") {
    const Sample sample;
    const std::string plan = (sample.dir.path() / "p.spwp").string();
    const json planned =
        json_of(spillway_run({"plan", sample.trace, "--budget", "80%", "-o", plan, "--json"}));
    const json replayed = json_of(spillway_run({"replay", sample.trace, "--plan", plan, "--json"}));
    for (const char* field : {"peak_bytes", "step_ns", "budget_bytes", "bytes", "policy"})
      CHECK(planned[field] == replayed[field]);
    const ProgramRun tight =
        spillway_run({"replay", sample.trace, "--plan", plan, "--budget", "1MiB", "--json"});
    CHECK(tight.exit_code == 3);
    CHECK(json_of(tight)["feasible"] == false);
    const std::string other = (sample.dir.path() / "other.spwt").string();
    REQUIRE(spillway_run({"generate",
                          "--model",
                          "gpt2",
                          "--layers",
                          "4",
                          "--batch",
                          "1",
                          "--seq",
                          "256",
                          "-o",
                          other})
                .exit_code == 0);
    check_one_line(spillway_run({"replay", other, "--plan", plan}), plan, 2);
    // Every cut of the file is an error of one line.
    const std::string text = read(plan);
    for (const std::size_t keep :
         {std::size_t{0}, std::size_t{1}, text.size() / 3, text.size() / 2, text.size() - 3}) {
      write(plan, text.substr(0, keep));
      check_one_line(spillway_run({"replay", sample.trace, "--plan", plan}), plan, 2);
    }
    std::string changed = text;
    changed.replace(changed.find("\"drop\""), 6, "\"fall\"");
    write(plan, changed);
    check_one_line(spillway_run({"replay", sample.trace, "--plan", plan}), plan, 2);
  }

  TEST_CASE("convert to text and back gives the same bytes") {
    const Sample sample;
    const std::string text = (sample.dir.path() / "a.txt").string();
    const std::string back = (sample.dir.path() / "b.spwt").string();
    CHECK(spillway_run({"convert", sample.trace, "-o", text}).exit_code == 0);
    CHECK(spillway_run({"convert", text, "-o", back}).exit_code == 0);
    CHECK(read(back) == read(sample.trace));
    CHECK(spillway_run({"convert", sample.trace, "-o", "-"}).out == read(text));
  }

  TEST_CASE("replay writes a report page and a Perfetto trace") {
    const Sample sample;
    const std::string html = (sample.dir.path() / "r%q{HOME}.html").string();
    const std::string perfetto = (sample.dir.path() / "r.pftrace").string();
    CHECK(spillway_run({"replay",
                        sample.trace,
                        "--budget",
                        "60%act",
                        "--perfetto",
                        perfetto,
                        "--html",
                        (sample.dir.path() / "r.html").string()})
              .exit_code == 0);
    CHECK(read(sample.dir.path() / "r.html").find("<!doctype html>") != std::string::npos);
    CHECK(read(perfetto).size() > 1000);
    CHECK(spillway_run({"replay", sample.trace, "--perfetto", "/tmp/%z"}).exit_code == 1);
  }

  TEST_CASE("of a trace of two devices the busier is shown, and --device chooses") {
    const TempDir dir;
    const std::string trace = (dir.path() / "two.txt").string();
    std::string text = "# spwt text 1\n";
    for (int i = 0; i < 3; ++i)
      text += "0.00000000" + std::to_string(i) + " alloc #" + std::to_string(i) + " 100 device=1\n";
    text += "0.000000009 alloc #9 7\n";
    write(trace, text);
    CHECK(json_of(spillway_run({"inspect", trace, "--json"}))["keep_all_peak_bytes"] == 300);
    CHECK(json_of(spillway_run(
              {"inspect", trace, "--device", "0", "--json"}))["keep_all_peak_bytes"] == 7);
  }

  TEST_CASE("doctor and inspect describe machine and trace") {
    const Sample sample;
    const json machine = json_of(spillway_run({"doctor", "--json"}));
    CHECK(machine["cores"].get<int>() >= 1);
    CHECK(machine["calibrations"].size() >= 3);
    CHECK(machine["pinned_limits"].get<std::string>().find("by default: half of") !=
          std::string::npos);
    CHECK(machine["pinned_default_bytes"].get<std::uint64_t>() <=
          machine["available_bytes"].get<std::uint64_t>() / 2);
    // With or without a driver there is one line about it.
    CHECK(machine["cuda"].get<std::string>().find("driver") != std::string::npos);
    CHECK(machine["cuda"].get<std::string>().find('\n') == std::string::npos);
    const json trace = json_of(spillway_run({"inspect", sample.trace, "--json"}));
    CHECK(trace["format"] == "spwt");
    CHECK(trace["can_recompute"] == true);
    CHECK(trace["layers"] == 4);
    std::uint64_t at_peak = 0;
    for (const json& kind : trace["kinds"]) at_peak += kind["peak_bytes"].get<std::uint64_t>();
    CHECK(at_peak <= trace["keep_all_peak_bytes"].get<std::uint64_t>());
  }
}

TEST_SUITE("fault") {
  TEST_CASE("calibrate without such a GPU says so in one line and leaves no file") {
    const TempDir dir;
    const std::string file = (dir.path() / "gpu.json").string();
    // No machine has a thousand of them; most have no driver either.
    for (const char* gpu : {"1023", "-1", "first"}) {
      CAPTURE(gpu);
      const ProgramRun run = spillway_run({"calibrate", "--gpu", gpu, "--quick", "-o", file});
      CHECK(run.exit_code == 1);
      CHECK(run.out.empty());
      CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 1);
      CHECK(run.err.size() < 200);
      CHECK_FALSE(std::filesystem::exists(file));
    }
  }

  TEST_CASE("bad input is one line that names the file, with the documented exit code") {
    const Sample sample;
    const auto path = [&](const char* name) { return (sample.dir.path() / name).string(); };
    const std::string good = read(sample.trace);
    write(path("empty"), "");
    write(path("random"),
          std::string("\x93\x01\xfe\x7f\x00\x12zzzz", 10) + std::string(3000, '\x9d'));
    write(path("truncated"), good.substr(0, good.size() / 2));
    write(path("evil.pickle"), std::string("\x80\x02", 2) + "cos\nsystem\n(S'true'\ntR.");
    std::string flipped = good;
    flipped[good.size() / 2] = static_cast<char>(flipped[good.size() / 2] ^ 0x10);
    write(path("flipped"), flipped);
    std::filesystem::create_directory(path("folder"));
    for (const char* name :
         {"empty", "random", "truncated", "evil.pickle", "flipped", "folder", "missing"}) {
      CAPTURE(name);
      for (const char* command : {"replay", "compare", "inspect"})
        check_one_line(spillway_run({command, path(name)}), path(name), 2);
      const std::string out = path("out.spwt");
      check_one_line(spillway_run({"convert", path(name), "-o", out}), path(name), 2);
      CHECK(!std::filesystem::exists(out));
    }
    check_one_line(spillway_run({"replay", sample.trace, "--budget", "60%%"}), "60%%", 1);
    check_one_line(spillway_run({"replay", sample.trace, "--budget", "-3GiB"}), "-3GiB", 1);
    check_one_line(spillway_run({"replay", sample.trace, "--gpu", "abacus"}), "abacus", 1);
    check_one_line(spillway_run({"replay", sample.trace, "--actions", "keep,pray"}), "pray", 1);
    check_one_line(spillway_run({"replay", sample.trace, "--step", "7"}), "7", 1);
  }

  TEST_CASE("outputs are whole or not there: no such folder, no room") {
    const Sample sample;
    check_one_line(spillway_run({"convert", sample.trace, "-o", "/no/such/folder/x.spwt"}),
                   "/no/such/folder",
                   2);
    const std::string out = (sample.dir.path() / "limited.html").string();
    check_one_line(
        spillway_run({"replay", sample.trace, "--budget", "60%act", "--html", out}, 4096), out, 2);
    CHECK(!std::filesystem::exists(out));
    write(out, "before");
    check_one_line(
        spillway_run({"replay", sample.trace, "--budget", "60%act", "--html", out}, 4096), out, 2);
    CHECK(read(out) == "before");
    std::ptrdiff_t files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(sample.dir.path()))
      files += entry.is_regular_file() ? 1 : 0;
    CHECK(files == 2);  // the sample and the old report: no temporary stays behind
  }
}

TEST_SUITE("golden") {
  TEST_CASE(
      "training snapshots: accepted plans inside the budget, or the smallest budget and who holds "
      "it") {
    SPW_REQUIRE_SHARED_DATA(dir);
    for (const char* name : {"medium_128_training_memory_snapshot.pickle",
                             "medium_512_training_memory_snapshot.pickle"}) {
      CAPTURE(name);
      const std::string trace = (dir / "snapshots" / name).string();
      for (const char* budget : {"90%act", "60%act", "30%act"}) {
        CAPTURE(budget);
        const ProgramRun run = spillway_run({"replay", trace, "--budget", budget, "--json"});
        const json object = json_of(run);
        if (run.exit_code == 0) {
          CHECK(object["peak_bytes"].get<std::uint64_t>() <=
                object["budget_bytes"].get<std::uint64_t>());
        } else {
          CHECK(run.exit_code == 3);
          CHECK(!object["holders"].empty());
          CHECK(spillway_run({"replay",
                              trace,
                              "--budget",
                              std::to_string(object["min_budget_bytes"].get<std::uint64_t>())})
                    .exit_code == 0);
        }
      }
    }
    const json small = json_of(
        spillway_run({"replay",
                      (dir / "snapshots/medium_128_training_memory_snapshot.pickle").string(),
                      "--json"}));
    // Recorded: 6,696 MiB of live blocks at the peak; tensors are rounded up to 512 bytes there and
    // not here.
    const double peak_mib = small["keep_all_peak_bytes"].get<double>() / (1 << 20);
    CHECK(peak_mib <= 6697);
    CHECK(peak_mib >= 6680);
    const ProgramRun words = spillway_run(
        {"replay", (dir / "snapshots/medium_128_training_memory_snapshot.pickle").string()});
    CHECK(words.out.find("not the problem here") != std::string::npos);
  }

  TEST_CASE("keep-all on the recorded op logs gives the recorded peaks and compute times exactly") {
    SPW_REQUIRE_SHARED_DATA(dir);
    std::ifstream baselines(dir / "dtr/simrd_baselines.csv");
    std::string line;
    std::getline(baselines, line);
    int checked = 0;
    while (std::getline(baselines, line)) {
      std::vector<std::string> fields;
      std::size_t begin = 0;
      for (std::size_t comma = line.find(','); comma != std::string::npos;
           comma = line.find(',', begin)) {
        fields.push_back(line.substr(begin, comma - begin));
        begin = comma + 1;
      }
      if (fields.size() < 5 || !std::filesystem::exists(dir / "dtr" / fields[0])) continue;
      CAPTURE(fields[0]);
      const json object = json_of(spillway_run(
          {"replay", (dir / "dtr" / fields[0]).string(), "--policy", "keep-all", "--json"}));
      CHECK(object["step_ns"].get<std::int64_t>() == std::stoll(fields[2]));
      CHECK(object["peak_bytes"].get<std::int64_t>() == std::stoll(fields[3]));
      ++checked;
    }
    CHECK(checked >= 4);
  }

  TEST_CASE("compare serves every recorded graph at 80, 60, 50 and 40 %") {
    SPW_REQUIRE_SHARED_DATA(dir);
    std::vector<std::filesystem::path> traces = {dir / "checkmate/resnet50_184_graph.json",
                                                 dir / "checkmate/unet_11_graph.json"};
    for (const auto& entry : std::filesystem::directory_iterator(dir / "dtr/logs"))
      traces.push_back(entry.path());
    for (const auto& trace : traces)
      for (const char* budget : {"80%", "60%", "50%", "40%"}) {
        // Every policy plans here. The long logs get one budget, and none under a sanitizer, which
        // slows searches tenfold; there the others get one.
        const bool is_long = std::filesystem::file_size(trace) > 500'000;
        if (is_long && (kSanitized || std::string_view(budget) != "40%")) continue;
        if (kSanitized && std::string_view(budget) != "60%") continue;
        CAPTURE(trace.string());
        CAPTURE(budget);
        const ProgramRun run =
            spillway_run({"compare", trace.string(), "--budget", budget, "--json"});
        CHECK(run.exit_code == 0);
        const json object = json_of(run);
        CHECK(object["rows"].size() == planners().size());
        for (const json& row : object["rows"]) {
          if (row["feasible"] == true)
            CHECK(row["peak_bytes"].get<std::uint64_t>() <=
                  row["budget_bytes"].get<std::uint64_t>());
          else
            CHECK(row["min_budget_bytes"].get<std::uint64_t>() >
                  object["budget_bytes"].get<std::uint64_t>());
        }
        CHECK(object["rows"].back()["feasible"] == true);
      }
  }
}
