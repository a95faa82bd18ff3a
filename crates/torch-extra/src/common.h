// Shared by all C++ files here: tensors as tch passes them, and exceptions returned as strings.
#pragma once

#include <cstring>
#include <exception>

// tch's Tensor holds an `at::Tensor*`; torch_sys calls the pointed-to type C_tensor.
namespace at { class Tensor; }

// Runs `body` and returns nullptr, or what() of the exception that ended it. The caller frees the string.
template <typename Body>
char *guarded(Body body) {
    try {
        body();
        return nullptr;
    } catch (const std::exception &error) {
        return strdup(error.what());
    } catch (...) {
        return strdup("libtorch threw something that is not a std::exception");
    }
}
