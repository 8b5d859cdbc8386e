// SPDX-License-Identifier: Apache-2.0
// spillway convert: any readable trace into .spwt or its text twin; --recover saves what is intact
// of a damaged file.
#include "core/units.hpp"
#include "integration/cli/command.hpp"
#include "integration/cli/output_name.hpp"
#include "integration/cli/progress.hpp"
#include "integration/report/clean_text.hpp"
#include "integration/trace/atomic_file.hpp"
#include "integration/trace/reader.hpp"
#include "integration/trace/spwt_text_writer.hpp"
#include "integration/trace/spwt_writer.hpp"

#include <fmt/core.h>

#include <memory>

namespace spillway::cli {
namespace {

struct ConvertOptions {
  std::string input;
  std::string output;
  std::string format;
  int device = -1;
  bool recover = false;
};

template <typename Writer>
Result<TraceInfo> write_as(const ConvertOptions& options,
                           const ReadOptions& read_options,
                           AtomicFile& file) {
  Writer writer(file);
  SPW_ASSIGN_OR_RETURN(TraceInfo info, read_trace(options.input, read_options, writer));
  SPW_RETURN_IF_ERROR(writer.finish());
  return info;
}

Status convert(const ConvertOptions& options) {
  std::string format = options.format;
  if (format.empty()) {
    const std::string& name = options.output;
    const bool text = name.size() > 4 && (name.ends_with(".txt") || name.ends_with(".text"));
    format = text || name == "-" ? "text" : "spwt";
  }
  if (format != "spwt" && format != "text")
    return Status(Code::kInvalidArgument, "--to: expected spwt or text, found '" + format + "'");
  Progress progress;
  ReadOptions read_options;
  read_options.device = options.device;
  read_options.recover = options.recover;
  read_options.progress = [&progress](std::uint64_t done, std::uint64_t total) {
    progress.show("converting", done, total);
  };
  SPW_ASSIGN_OR_RETURN(
      const std::string path,
      options.output == "-" ? std::string("/dev/stdout") : expand_output_name(options.output));
  SPW_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path));
  SPW_ASSIGN_OR_RETURN(const TraceInfo info,
                       format == "text" ? write_as<SpwtTextWriter>(options, read_options, file)
                                        : write_as<SpwtWriter>(options, read_options, file));
  SPW_RETURN_IF_ERROR(file.commit());
  progress.clear();
  if (path == "/dev/stdout") return {};
  fmt::print("{}: {} events from {} ({}), {}\n",
             path,
             info.event_count,
             clean_text(options.input),
             info.format,
             format_bytes(file.written_bytes()));
  for (const std::string& note : info.notes) fmt::print("note: {}\n", clean_text(note));
  return {};
}

}  // namespace

void add_convert(::CLI::App& app, Session& session) {
  auto options = std::make_shared<ConvertOptions>();
  ::CLI::App* command = app.add_subcommand("convert", "any trace into .spwt or its text twin");
  command->add_option("trace", options->input, "trace file (any known format, also .gz)")
      ->required()
      ->type_name("TRACE");
  command->add_option("-o,--output", options->output, "file to write; - is standard output")
      ->required()
      ->type_name("FILE");
  command->add_option(
      "--to", options->format, "spwt or text (default: by the output's name, else spwt)");
  command->add_option(
      "--device", options->device, "only this device (default: the one with the most events)");
  command->add_flag(
      "--recover", options->recover, "damaged .spwt: write what is intact and say what was lost");
  command->callback([options, &session] { session.report(convert(*options)); });
}

}  // namespace spillway::cli
