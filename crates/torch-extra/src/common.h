// Shared by all C++ files here: tensors as tch passes them, and exceptions returned as strings.
#pragma once

#include <cstring>
#include <exception>
#include <new>

// tch's Tensor holds an `at::Tensor*`; torch_sys calls the pointed-to type C_tensor.
namespace at { class Tensor; }

// What `guarded` returns if there is no memory for the text of an exception.
inline char NO_MEMORY[] = "out of memory, and no memory for what libtorch said about it";

// Runs `body` and returns nullptr, or what() of the exception that ended it, which tm_free_text frees.
template <typename Body>
char *guarded(Body body) {
    const auto copy = [](const char *text) {
        char *copied = strdup(text);
        return copied ? copied : NO_MEMORY;
    };
    try {
        body();
        return nullptr;
    } catch (const std::exception &error) {
        return copy(error.what());
    } catch (...) {
        return copy("libtorch threw something that is not a std::exception");
    }
}

// A copy of a text that tm_free_text frees.
inline char *copied(const char *text) {
    char *copy = strdup(text);
    if (!copy) throw std::bad_alloc();
    return copy;
}
