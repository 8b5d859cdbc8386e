// SPDX-License-Identifier: Apache-2.0
// The disk tier on real files through both ways of reading and writing, and on a made-up disk that
// fails, lies and does things by halves.
#include "offload/disk_store.hpp"

#include "core/random.hpp"
#include "offload/extents.hpp"
#include "tests/support/temp_dir.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <deque>
#include <filesystem>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

using namespace spillway;
using test::TempDir;

namespace {

constexpr std::uint64_t kPage = DiskStore::kAlignment;

/// Whole pages at a multiple of 4 KiB.
class Pages {
 public:
  explicit Pages(std::uint64_t bytes, unsigned char fill = 0)
      : bytes_(DiskStore::padded_bytes(bytes)),
        data_(static_cast<unsigned char*>(::operator new(bytes_, std::align_val_t(kPage)))) {
    std::memset(data_.get(), fill, bytes_);
  }
  [[nodiscard]] unsigned char* data() const { return data_.get(); }
  void randomize(Random* random) const {
    for (std::uint64_t i = 0; i < bytes_; ++i)
      data_.get()[i] = static_cast<unsigned char>(random->next());
  }

 private:
  struct Free {
    void operator()(unsigned char* data) const { ::operator delete(data, std::align_val_t(kPage)); }
  };
  std::uint64_t bytes_;
  std::unique_ptr<unsigned char, Free> data_;
};

/// A disk in memory. Requests end in the order they came, one per look.
class MadeUpDisk final : public DiskIo {
 public:
  struct Script {
    int fail_nth = 0;  // this request ends with `error`
    int error = EIO;
    int refuse_nth = 0;          // this one is not begun
    std::uint64_t most = ~0ull;  // bytes of one transfer
    bool corrupt = false;        // a bit of each page read is wrong
    int requests = 0;
    std::vector<unsigned char> bytes = std::vector<unsigned char>(1 << 20);
  };
  explicit MadeUpDisk(std::shared_ptr<Script> script) : script_(std::move(script)) {}

  [[nodiscard]] std::uint32_t depth() const override { return 3; }
  [[nodiscard]] const char* name() const override { return "made up"; }
  Status submit(const Request& request) override {
    REQUIRE(waiting_.size() < depth());
    ++script_->requests;
    if (script_->requests == script_->refuse_nth) return {Code::kIo, "refused"};
    waiting_.emplace_back(request, script_->requests);
    return {};
  }
  Status reap(bool wait, std::vector<Done>* done) override {
    if (waiting_.empty()) {
      REQUIRE(!wait);
      return {};
    }
    const auto [request, number] = waiting_.front();
    waiting_.pop_front();
    done->push_back({request.token, transfer(request, number)});
    return {};
  }

 private:
  [[nodiscard]] std::int64_t transfer(const Request& request, int number) const {
    if (number == script_->fail_nth) return -script_->error;
    const std::uint64_t bytes = std::min(request.bytes, script_->most);
    unsigned char* at = script_->bytes.data() + request.offset;
    if (request.kind == Kind::kWrite)
      std::memcpy(at, request.data, bytes);
    else
      std::memcpy(request.data, at, bytes);
    if (request.kind == Kind::kRead && script_->corrupt)
      static_cast<unsigned char*>(request.data)[bytes / 2] ^= 1;
    return static_cast<std::int64_t>(bytes);
  }

  std::shared_ptr<Script> script_;
  std::deque<std::pair<Request, int>> waiting_;
};

std::unique_ptr<DiskStore> make_store(const DiskStoreOptions& options) {
  Result<std::unique_ptr<DiskStore>> made = DiskStore::create(options);
  REQUIRE_MESSAGE(made.ok(), made.status().message());
  return std::move(made).value();
}

DiskStoreOptions made_up(const std::shared_ptr<MadeUpDisk::Script>& script, const TempDir& dir) {
  DiskStoreOptions options;
  options.directory = dir.path().string();
  options.budget_bytes = 1 << 20;
  options.chunk_bytes = 2 * kPage;
  options.make_io = [script](int) {
    return Result<std::unique_ptr<DiskIo>>(std::make_unique<MadeUpDisk>(script));
  };
  return options;
}

}  // namespace

TEST_SUITE("offload") {
  TEST_CASE("extents keep their books against a plain list of pages") {
    const std::uint64_t seed = 3;
    MESSAGE("seed " << seed << ": spillway_offload_tests -tc='extents keep*'");
    Random random(seed);
    constexpr std::uint64_t kLimit = 64;
    Extents extents;
    std::vector<int> owner(kLimit, 0);
    std::vector<std::pair<std::uint64_t, std::uint64_t>> taken;
    int refused = 0;
    for (int i = 1; i < 5000; ++i) {
      if (random.below(2) == 0) {
        const std::uint64_t bytes = 1 + random.below(9);
        const auto offset = extents.take(bytes, kLimit);
        if (!offset) {
          // Nowhere are so many free in a row.
          std::uint64_t row = 0;
          for (const int page : owner) {
            row = page == 0 ? row + 1 : 0;
            CHECK(row < bytes);
          }
          ++refused;
          continue;
        }
        REQUIRE(*offset + bytes <= kLimit);
        for (std::uint64_t at = *offset; at < *offset + bytes; ++at) {
          REQUIRE(owner[at] == 0);
          owner[at] = i;
        }
        taken.emplace_back(*offset, bytes);
      } else if (!taken.empty()) {
        const std::size_t pick = random.below(taken.size());
        const auto [offset, bytes] = taken[pick];
        extents.give(offset, bytes);
        for (std::uint64_t at = offset; at < offset + bytes; ++at) owner[at] = 0;
        taken.erase(taken.begin() + static_cast<std::ptrdiff_t>(pick));
      }
      REQUIRE(extents.check());
      CHECK(extents.used_bytes() ==
            static_cast<std::uint64_t>(
                std::count_if(owner.begin(), owner.end(), [](int page) { return page != 0; })));
      std::uint64_t end = kLimit;
      while (end != 0 && owner[end - 1] == 0) --end;
      CHECK(extents.end_bytes() == end);
    }
    CHECK(refused > 100);
  }

  TEST_CASE("bytes come back from disk, by io_uring and by a thread, direct or not") {
    const std::uint64_t seed = 4;
    MESSAGE("seed " << seed << ": spillway_offload_tests -tc='bytes come back from disk*'");
    const TempDir dir;
    for (const bool uring : {true, false})
      for (const bool direct : {true, false}) {
        Random random(seed);
        DiskStoreOptions options;
        options.directory = dir.path().string();
        options.budget_bytes = 4 << 20;
        options.chunk_bytes = 64 << 10;
        options.use_uring = uring;
        options.use_direct = direct;
        auto store = make_store(options);
        MESSAGE(std::string(store->stats().io)
                << (store->stats().is_direct ? ", direct" : ", cached"));
        if (!uring) CHECK(std::string(store->stats().io) == "thread");
        if (!direct) CHECK(!store->stats().is_direct);
        struct Item {
          DiskSlot slot;
          std::uint64_t bytes;
          std::unique_ptr<Pages> pages;
        };
        std::vector<Item> items;
        for (const std::uint64_t bytes : {1ull, 4095ull, 4096ull, 4097ull, 65536ull, 300001ull}) {
          Item item{{}, bytes, std::make_unique<Pages>(bytes)};
          item.pages->randomize(&random);
          const auto slot = store->write(item.pages->data(), bytes);
          REQUIRE_MESSAGE(slot.ok(), slot.status().message());
          item.slot = slot.value();
          items.push_back(std::move(item));
          store->poll();
        }
        // The file has no name.
        CHECK(std::filesystem::is_empty(dir.path()));
        for (std::size_t i = items.size(); i-- > 0;) {
          CHECK(store->wait(items[i].slot).ok());
          CHECK(store->is_stored(items[i].slot).value());
        }
        for (const Item& item : items) {
          const Pages back(item.bytes, 0x5a);
          REQUIRE(store->read(item.slot, back.data()).ok());
          CHECK(store->wait(item.slot).ok());
          CHECK(store->is_read(item.slot).value());
          CHECK(std::memcmp(back.data(), item.pages->data(), item.bytes) == 0);
        }
        CHECK(store->check_invariants().ok());
        for (const Item& item : items) CHECK(store->release(item.slot).ok());
        CHECK(store->stats().used_bytes == 0);
        CHECK(store->stats().file_bytes == 0);
        CHECK(store->stats().file_bytes_peak <= options.budget_bytes);
        CHECK(store->stats().failures == 0);
        // What is under way when the store ends ends before it.
        const Pages last(1 << 20, 7);
        REQUIRE(store->write(last.data(), 1 << 20).ok());
        store.reset();
      }
  }

  TEST_CASE("the disk budget is a law, and what is released is used again") {
    const TempDir dir;
    DiskStoreOptions options;
    options.directory = dir.path().string();
    options.budget_bytes = 4 * kPage;
    const auto store = make_store(options);
    const Pages pages(3 * kPage, 1);
    const auto first = store->write(pages.data(), 2 * kPage + 1);
    REQUIRE(first.ok());
    CHECK(store->stats().used_bytes == 3 * kPage);
    const auto refused = store->write(pages.data(), kPage + 1);
    CHECK(refused.status().code() == Code::kOutOfMemory);
    CHECK(refused.status().message().find("budget of 16384") != std::string::npos);
    const auto second = store->write(pages.data(), kPage);
    REQUIRE(second.ok());
    CHECK(store->release(first.value()).ok());
    const auto third = store->write(pages.data(), 3 * kPage);
    CHECK(third.ok());
    CHECK(store->stats().file_bytes == 4 * kPage);
    CHECK(store->check_invariants().ok());
    options.budget_bytes = 0;
    CHECK(make_store(options)->write(pages.data(), 1).status().code() == Code::kOutOfMemory);
  }

  TEST_CASE("a request that fails, or is not even begun, is the slot's answer and nobody else's") {
    const TempDir dir;
    const Pages pages(10 * kPage, 3);
    const Pages other(2 * kPage, 9);
    for (const bool refuse : {false, true})
      for (int nth = 1; nth <= 5; ++nth) {
        const auto script = std::make_shared<MadeUpDisk::Script>();
        (refuse ? script->refuse_nth : script->fail_nth) = nth;
        script->error = ENOSPC;
        const auto store = make_store(made_up(script, dir));
        const auto slot = store->write(pages.data(), 10 * kPage);
        REQUIRE(slot.ok());
        const Status status = store->wait(slot.value());
        CHECK(status.code() == Code::kIo);
        if (!refuse) CHECK(status.message().find("No space left") != std::string::npos);
        CHECK(store->release(slot.value()).code() == Code::kNotFound);
        CHECK(store->stats().used_bytes == 0);
        CHECK(store->stats().failures == 1);
        CHECK(store->check_invariants().ok());
        // The next one is stored, and a read that fails leaves it so.
        const auto next = store->write(other.data(), 2 * kPage);
        REQUIRE(next.ok());
        CHECK(store->wait(next.value()).ok());
        script->fail_nth = script->requests + 1;
        script->refuse_nth = 0;
        const Pages back(2 * kPage);
        REQUIRE(store->read(next.value(), back.data()).ok());
        CHECK(store->wait(next.value()).code() == Code::kIo);
        REQUIRE(store->read(next.value(), back.data()).ok());
        CHECK(store->wait(next.value()).ok());
        CHECK(back.data()[kPage] == 9);
        CHECK(store->check_invariants().ok());
      }
  }

  TEST_CASE("transfers by halves go on where they ended; by less than a page they fail") {
    const TempDir dir;
    const auto script = std::make_shared<MadeUpDisk::Script>();
    script->most = kPage + 17;
    const auto store = make_store(made_up(script, dir));
    const Pages pages(10 * kPage);
    Random random(5);
    pages.randomize(&random);
    const auto slot = store->write(pages.data(), 10 * kPage - 5);
    REQUIRE(slot.ok());
    CHECK(!store->is_stored(slot.value()).value());
    CHECK(store->wait(slot.value()).ok());
    const Pages back(10 * kPage);
    REQUIRE(store->read(slot.value(), back.data()).ok());
    CHECK(store->wait(slot.value()).ok());
    CHECK(std::memcmp(back.data(), pages.data(), 10 * kPage - 5) == 0);
    script->most = kPage - 1;
    REQUIRE(store->read(slot.value(), back.data()).ok());
    CHECK(store->wait(slot.value()).code() == Code::kIo);
    CHECK(store->check_invariants().ok());
  }

  TEST_CASE("a disk that lies is found out by the fingerprint") {
    const TempDir dir;
    const auto script = std::make_shared<MadeUpDisk::Script>();
    const auto store = make_store(made_up(script, dir));
    const Pages pages(3 * kPage, 4);
    const auto slot = store->write(pages.data(), 3 * kPage);
    REQUIRE(slot.ok());
    CHECK(store->wait(slot.value()).ok());
    script->corrupt = true;
    const Pages back(3 * kPage);
    REQUIRE(store->read(slot.value(), back.data()).ok());
    const Status status = store->wait(slot.value());
    CHECK(status.code() == Code::kIo);
    CHECK(status.message().find("not what was written") != std::string::npos);
    CHECK(store->stats().mismatches == 1);
    script->corrupt = false;
    REQUIRE(store->read(slot.value(), back.data()).ok());
    CHECK(store->wait(slot.value()).ok());
  }

  TEST_CASE("the disk store refuses what makes no sense, and says so") {
    const TempDir dir;
    DiskStoreOptions options;
    options.directory = (dir.path() / "nothing here").string();
    CHECK(DiskStore::create(options).status().code() == Code::kIo);
    options.directory = dir.path().string();
    options.chunk_bytes = 4095;
    CHECK(DiskStore::create(options).status().code() == Code::kInvalidArgument);

    const auto script = std::make_shared<MadeUpDisk::Script>();
    const auto store = make_store(made_up(script, dir));
    const Pages pages(2 * kPage);
    CHECK(store->write(nullptr, 1).status().code() == Code::kInvalidArgument);
    CHECK(store->write(pages.data(), 0).status().code() == Code::kInvalidArgument);
    CHECK(store->write(pages.data() + 512, 1).status().code() == Code::kInvalidArgument);
    const auto slot = store->write(pages.data(), kPage);
    REQUIRE(slot.ok());
    CHECK(store->read(slot.value(), pages.data() + kPage).code() == Code::kInvalidArgument);
    CHECK(store->wait(slot.value()).ok());
    CHECK(store->wait(slot.value()).ok());
    CHECK(store->read(slot.value(), nullptr).code() == Code::kInvalidArgument);
    CHECK(store->read(slot.value(), pages.data() + 1).code() == Code::kInvalidArgument);
    REQUIRE(store->read(slot.value(), pages.data() + kPage).ok());
    CHECK(store->read(slot.value(), pages.data() + kPage).code() == Code::kInvalidArgument);
    CHECK(store->release(slot.value()).ok());
    for (const DiskSlot gone : {slot.value(), DiskSlot{}, DiskSlot{99}}) {
      CHECK(store->is_stored(gone).status().code() == Code::kNotFound);
      CHECK(store->is_read(gone).status().code() == Code::kNotFound);
      CHECK(store->read(gone, pages.data()).code() == Code::kNotFound);
      CHECK(store->wait(gone).code() == Code::kNotFound);
      CHECK(store->release(gone).code() == Code::kNotFound);
    }
    CHECK(store->check_invariants().ok());
  }
}
