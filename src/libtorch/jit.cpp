// Writes a TorchScript module from a description of its tree: tch can only trace one, which loses the tree.

#include "common.h"
#include <fstream>
#include <memory>
#include <stdexcept>
#include <torch/csrc/jit/api/module.h>
#include <vector>

extern "C" {

// A module: its parent's index (its own is higher; the root's is -1), its name there, the qualified name of its class,
// and its methods in TorchScript.
struct ModuleSpec {
    int64_t parent;
    const char *name;
    const char *type;
    const char *source;
};

// A tensor of the module with this index.
struct TensorSpec {
    int64_t module;
    const char *name;
    const at::Tensor *tensor;
    bool is_parameter;
};

// Builds the tree and writes it to `path`. Through a stream: of a path, libtorch would write the name into the file.
char *tm_jit_save(const ModuleSpec *modules, int64_t module_count, const TensorSpec *tensors, int64_t tensor_count,
                  const char *path) {
    return guarded([&] {
        auto unit = std::make_shared<torch::jit::CompilationUnit>();
        std::vector<torch::jit::Module> built;
        for (int64_t i = 0; i < module_count; ++i) {
            built.emplace_back(c10::QualifiedName(modules[i].type), unit, /*shouldMangle=*/true);
            built[i].register_attribute("training", c10::BoolType::get(), true);
        }
        for (int64_t i = 0; i < tensor_count; ++i) {
            const TensorSpec &spec = tensors[i];
            at::Tensor tensor = spec.tensor->detach();
            if (spec.is_parameter)
                built[spec.module].register_parameter(spec.name, tensor.set_requires_grad(true), false);
            else
                built[spec.module].register_buffer(spec.name, tensor);
        }
        // From the leaves up: what a method calls must be there when it is compiled.
        for (int64_t i = module_count - 1; i >= 0; --i) {
            for (int64_t child = i + 1; child < module_count; ++child)
                if (modules[child].parent == i) built[i].register_module(modules[child].name, built[child]);
            built[i].define(modules[i].source);
        }
        std::ofstream file(path, std::ios::binary);
        built[0].save(file);
        file.flush();
        if (!file) throw std::runtime_error("the file could not be written");
    });
}
}
