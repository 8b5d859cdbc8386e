// SPDX-License-Identifier: Apache-2.0
// Expected failures as values: `Status` (ok or a code with one line of text) and `Result<T>` (a
// value or a Status). Programmer errors go through core/check.hpp instead. Nothing here throws.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace spillway {

enum class Code {
  kOk = 0,
  kInvalidArgument,  // the caller's words are off (exit code 1)
  kBadInput,         // a file or stream is not what it should be (exit code 2)
  kNotFound,         // nothing under that name
  kIo,               // the operating system said no while reading or writing (exit code 2)
  kInfeasible,       // proven: no plan of this policy fits the budget (exit code 3)
  kGaveUp,           // no plan found within the work limit; one may exist (exit code 3)
  kOutOfMemory,      // the budget or the device is full
  kUnsupported,      // known, and not possible here
  kInternal,         // a bug of ours (exit code 4)
};

/// Lower-case name of a code, as printed in messages ("bad input").
std::string_view code_name(Code code);

/// One pointer: an ok Status is made, moved and destroyed without touching memory, so that hot
/// paths may return it.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message)
      : failure_(code == Code::kOk ? nullptr
                                   : std::make_unique<Failure>(Failure{code, std::move(message)})) {
  }
  Status(const Status& other)
      : failure_(other.ok() ? nullptr : std::make_unique<Failure>(*other.failure_)) {}
  Status& operator=(const Status& other) {
    if (this != &other) *this = Status(other);
    return *this;
  }
  Status(Status&&) noexcept = default;
  Status& operator=(Status&&) noexcept = default;
  ~Status() = default;

  [[nodiscard]] bool ok() const { return failure_ == nullptr; }
  [[nodiscard]] Code code() const { return ok() ? Code::kOk : failure_->code; }
  /// Empty when ok.
  [[nodiscard]] const std::string& message() const {
    return ok() ? no_message() : failure_->message;
  }

 private:
  struct Failure {
    Code code;
    std::string message;
  };
  static const std::string& no_message();

  std::unique_ptr<Failure> failure_;
};

/// A value of type T, or the Status that says why there is none. Invariant: has a value iff
/// status().ok().
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}         // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) {  // NOLINT(google-explicit-constructor)
    if (status_.ok()) status_ = Status(Code::kInternal, "Result built from an ok Status");
  }

  [[nodiscard]] bool ok() const { return value_.has_value(); }
  [[nodiscard]] const Status& status() const { return status_; }

  /// REQUIRES: ok().
  [[nodiscard]] T& value() & { return *value_; }
  [[nodiscard]] const T& value() const& { return *value_; }
  [[nodiscard]] T&& value() && { return std::move(*value_); }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace spillway

#define SPW_CONCAT_INNER(a, b) a##b
#define SPW_CONCAT(a, b) SPW_CONCAT_INNER(a, b)

// NOLINTBEGIN(bugprone-macro-parentheses): a declaration in parentheses is none.
/// Returns from the enclosing function (which returns Status or Result) when `expr` is a failed
/// Status.
#define SPW_RETURN_IF_ERROR(expr)            \
  do {                                       \
    ::spillway::Status spw_status = (expr);  \
    if (!spw_status.ok()) return spw_status; \
  } while (false)

/// `SPW_ASSIGN_OR_RETURN(auto x, f());`: x is the value of the Result, or its Status is returned.
#define SPW_ASSIGN_OR_RETURN(decl, expr) \
  SPW_ASSIGN_OR_RETURN_IMPL(SPW_CONCAT(spw_result_, __LINE__), decl, expr)
#define SPW_ASSIGN_OR_RETURN_IMPL(tmp, decl, expr) \
  auto tmp = (expr);                               \
  if (!tmp.ok()) return tmp.status();              \
  decl = std::move(tmp).value()
// NOLINTEND(bugprone-macro-parentheses)
