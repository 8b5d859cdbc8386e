// SPDX-License-Identifier: Apache-2.0
#include "device/kernel.hpp"

namespace spillway {

Result<Module> Module::load(const Driver& driver, const void* image) {
  cu::Module handle = nullptr;
  SPW_CU_TRY(driver.cuModuleLoadData(&handle, image));
  return Module(OwnedHandle<End>(driver, handle));
}

Result<cu::Function> Module::function(const std::string& name) const {
  cu::Function function = nullptr;
  const cu::Result result =
      owned_.driver().cuModuleGetFunction(&function, owned_.get(), name.c_str());
  if (result == cu::Result::kNotFound)
    return Status(Code::kNotFound, "the module has no kernel '" + name + "'");
  SPW_CU_TRY(result);
  return function;
}

}  // namespace spillway
