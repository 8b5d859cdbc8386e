// SPDX-License-Identifier: Apache-2.0
// The restricted unpickler: plain data comes through, everything that could act is refused, and no
// byte sequence hurts it.
#include "integration/trace/pickle_parser.hpp"

#include "core/random.hpp"
#include "tests/support/pickle_writer.hpp"

#include <doctest/doctest.h>

#include <string>

namespace spillway {
namespace {

using namespace std::string_literals;

Result<PickleDocument> parse(std::string_view bytes) {
  const auto source = memory_source(bytes, "t.pickle");
  BufferedInput input(*source, 64);
  return parse_pickle(input);
}

std::string error_of(std::string_view bytes) {
  const auto document = parse(bytes);
  return document.ok() ? "accepted" : document.status().message();
}

/// Back to JSON, to compare. Only for data without cycles.
nlohmann::json to_json(const PickleDocument& document, PickleValue value) {
  if (const auto text = document.as_string(value)) return std::string(*text);
  if (const auto flag = document.as_bool(value)) return *flag;
  if (const auto number = document.as_int(value)) return *number;
  if (value.kind() == PickleKind::kFloat) return document.as_float(value).value();
  if (value.kind() == PickleKind::kNone) return nullptr;
  nlohmann::json json =
      value.kind() == PickleKind::kDict ? nlohmann::json::object() : nlohmann::json::array();
  for (std::size_t i = 0; i < document.size(value); ++i) {
    if (value.kind() == PickleKind::kDict) {
      json[std::string(document.as_string(document.key(value, i)).value())] =
          to_json(document, document.entry(value, i));
    } else {
      json.push_back(to_json(document, document.item(value, i)));
    }
  }
  return json;
}

nlohmann::json random_json(Random& random, int depth) {
  switch (random.below(depth == 0 ? 6 : 8)) {
    case 0:
      return nullptr;
    case 1:
      return random.below(2) == 0;
    case 2:
      return static_cast<std::int64_t>(random.below(100000)) - 50000;
    case 3:
      return static_cast<std::int64_t>(random.next());
    case 4:
      return 0.25 * static_cast<double>(random.below(1000));
    case 5:
      return "text " + std::string(static_cast<std::size_t>(random.below(400)), 'x') +
             std::to_string(random.below(50));
    case 6: {
      auto list = nlohmann::json::array();
      for (std::uint64_t n = random.below(20); n != 0; --n)
        list.push_back(random_json(random, depth - 1));
      return list;
    }
    default: {
      auto dict = nlohmann::json::object();
      for (std::uint64_t n = random.below(50); n != 0; --n)
        dict["key " + std::to_string(random.below(60))] = random_json(random, depth - 1);
      return dict;
    }
  }
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("plain data comes back as it was written, in old and new protocols") {
  for (unsigned seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    const nlohmann::json json = random_json(random, 4);
    for (int protocol : {2, 4}) {
      const std::string bytes = test::pickle_of(json, protocol);
      const auto document = parse(bytes);
      REQUIRE_MESSAGE(document.ok(), document.status().message());
      CHECK((to_json(document.value(), document.value().root()) == json));
    }
  }
}

TEST_CASE("integers keep their sign and all 64 bits") {
  const auto of = [](const std::string& bytes) { return parse("\x80\x04" + bytes + "."); };
  CHECK(of("\x8a\x00"s).value().as_int(of("\x8a\x00"s).value().root()) == 0);
  const auto minus = of("\x8a\x01\xff");
  CHECK(minus.value().as_int(minus.value().root()) == -1);
  CHECK_FALSE(minus.value().as_uint(minus.value().root()).has_value());
  const auto low = of("\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80"s);
  CHECK(low.value().as_int(low.value().root()) == INT64_MIN);
  const auto high = of("\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00"s);
  CHECK(high.value().as_uint(high.value().root()) == UINT64_MAX);
  CHECK_FALSE(high.value().as_int(high.value().root()).has_value());
  const auto huge = of("\x8a\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00"s);
  CHECK(huge.value().root().kind() == PickleKind::kBigInt);
  CHECK_FALSE(huge.value().as_uint(huge.value().root()).has_value());
}

TEST_CASE("an object named twice through the memo is one object") {
  // [d, d] with d = {"a": 1}
  const auto document = parse(
      "\x80\x04]\x94(}\x94\x8c\x01"
      "aK\x01sh\x01"
      "e.");
  REQUIRE(document.ok());
  const PickleDocument& doc = document.value();
  REQUIRE(doc.size(doc.root()) == 2);
  CHECK(doc.container_index(doc.item(doc.root(), 0)) ==
        doc.container_index(doc.item(doc.root(), 1)));
  CHECK(doc.as_int(*doc.find(doc.item(doc.root(), 1), "a")) == 1);
}

TEST_CASE("lists and dicts filled in several goes are whole, and the last entry of a key counts") {
  std::string bytes = "\x80\x04]\x94";
  for (int i = 0; i < 5; ++i)
    bytes +=
        "(K\x01K\x02"
        "e"
        "K\x03"
        "a";
  const auto list = parse(bytes + ".");
  REQUIRE(list.ok());
  CHECK(to_json(list.value(), list.value().root()).dump() == "[1,2,3,1,2,3,1,2,3,1,2,3,1,2,3]");
  const auto dict = parse(
      "\x80\x04}(\x8c\x01"
      "aK\x01\x8c\x01"
      "bK\x02u\x8c\x01"
      "aK\x03s.");
  REQUIRE(dict.ok());
  CHECK(dict.value().size(dict.value().root()) == 3);
  CHECK(dict.value().as_int(*dict.value().find(dict.value().root(), "a")) == 3);
  CHECK(dict.value().as_int(*dict.value().find(dict.value().root(), "b")) == 2);
}

TEST_CASE("a list that contains itself is data like any other") {
  const auto document = parse(
      "\x80\x04]\x94h\x00"
      "a."s);
  REQUIRE(document.ok());
  const PickleDocument& doc = document.value();
  CHECK(doc.item(doc.root(), 0).bits == doc.root().bits);
}

TEST_CASE("a pickle that wants to import or call something is refused by name") {
  CHECK(error_of("\x80\x02"
                 "cos\nsystem\n(X\x02\x00\x00\x00idtR."s) ==
        "t.pickle: offset 2: pickle opcode GLOBAL refused: expected plain data");
  CHECK(error_of("\x80\x04\x8c\x02os\x8c\x06system\x93.")
            .find("offset 14: pickle opcode STACK_GLOBAL refused") != std::string::npos);
  const std::pair<char, const char*> calls[] = {{'R', "REDUCE"},
                                                {'b', "BUILD"},
                                                {'i', "INST"},
                                                {'o', "OBJ"},
                                                {'\x81', "NEWOBJ"},
                                                {'\x92', "NEWOBJ_EX"},
                                                {'P', "PERSID"},
                                                {'Q', "BINPERSID"},
                                                {'\x82', "EXT1"},
                                                {'\x83', "EXT2"},
                                                {'\x84', "EXT4"},
                                                {'c', "GLOBAL"},
                                                {'\x93', "STACK_GLOBAL"}};
  for (const auto& [opcode, name] : calls) {
    const auto& shown = name;  // clang 14 lets no lambda capture a structured binding
    CAPTURE(shown);
    const std::string bytes = "\x80\x04)"s + opcode + "xxxxxxxx.";
    CHECK(error_of(bytes) == "t.pickle: offset 3: pickle opcode " + std::string(name) +
                                 " refused: expected plain data");
  }
}

TEST_CASE(
    "lengths beyond the file, bad memo indices and a broken stack are errors at their offset") {
  CHECK(error_of("\x80\x04X\xff\xff\xff\x7fshort.") ==
        "t.pickle: offset 2: expected a piece of at most 64 MiB, found a length of 2147483647");
  CHECK(error_of("\x80\x04X\x00\x00\x10\x00short."s) ==
        "t.pickle: offset 2: expected 1048576 more bytes, found the end of the file after 6");
  CHECK(error_of("\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff").find("at most 64 MiB") !=
        std::string::npos);
  CHECK(error_of("\x80\x04h\x07.").find("expected a memo index that was written, found 7") !=
        std::string::npos);
  CHECK(error_of("\x80\x04]r\xff\xff\xff\xff.").find("expected a memo index up to") !=
        std::string::npos);
  CHECK(error_of("\x80\x04"
                 "e.")
            .find("expected a mark") != std::string::npos);
  CHECK(error_of("\x80\x04(K\x01"
                 "e.")
            .find("expected a list") != std::string::npos);
  CHECK(error_of("\x80\x04}(K\x01u.").find("expected pairs") != std::string::npos);
  CHECK(error_of("\x80\x04K\x01K\x01K\x01s.").find("expected a dict") != std::string::npos);
  CHECK(error_of("\x80\x04K\x01\x86.").find("expected 2 values") != std::string::npos);
  CHECK(error_of("\x80\x04.").find("expected one value") != std::string::npos);
  CHECK(error_of("\x80\x04]].").find("expected one value") != std::string::npos);
  CHECK(error_of("\x80\x09N.").find("expected pickle protocol 2 to 5, found 9") !=
        std::string::npos);
  CHECK(error_of("\x80\x04\xee.").find("pickle opcode 238 refused") != std::string::npos);
  CHECK(error_of("\x80\x04(]\x94(\x94.").find("expected a value to memorise") != std::string::npos);
}

TEST_CASE(
    "a million open marks are refused and a million nested tuples are data, both without "
    "recursion") {
  CHECK(error_of("\x80\x04" + std::string(1000000, '(')).find("open marks") != std::string::npos);
  CHECK(error_of("\x80\x04N" + std::string(1000000, '\x85') + ".") == "accepted");
}

TEST_CASE("a file cut short at any byte is an error, never more") {
  Random random(7);
  const std::string bytes = test::pickle_of(random_json(random, 4));
  for (std::size_t length = 0; length < std::min<std::size_t>(bytes.size(), 4000); ++length) {
    if (!parse(std::string_view(bytes).substr(0, length)).ok()) continue;
    FAIL_CHECK("accepted a file cut at " << length);
  }
}

TEST_CASE("a file with any byte changed is read or refused, never more") {
  Random random(11);
  nlohmann::json json = {
      {"a", {1, 2, 3}}, {"b", {{"c", "text"}, {"d", 1e9}}}, {"e", {{{"x", 1}}, {{"x", 2}}}}};
  const std::string bytes = test::pickle_of(json);
  std::size_t refused = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (int flip = 1; flip < 256; ++flip) {
      std::string changed = bytes;
      changed[i] = static_cast<char>(changed[i] ^ flip);
      if (!parse(changed).ok()) ++refused;
    }
  }
  CHECK(refused > bytes.size() * 50);
}

TEST_SUITE_END();

}  // namespace spillway
