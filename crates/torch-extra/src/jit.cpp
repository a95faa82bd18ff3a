// TorchScript modules and pickled dicts as files: tch can only trace a module, which loses its tree, and libtorch's
// own pickle_save tags dicts with TorchScript types, which torch.load(weights_only=True) refuses.

#include "common.h"
#include <ATen/ATen.h>
#include <caffe2/serialize/inline_container.h>
#include <memory>
#include <sstream>
#include <string>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/pickler.h>
#include <vector>

namespace {
// A copy without gradient and with its own storage: torch writes whole storages.
at::Tensor copy_of(const at::Tensor &tensor) { return tensor.detach().clone(at::MemoryFormat::Contiguous); }

// A file's bytes as a uint8 tensor. Files are made in memory: given a path, libtorch writes its name into the file.
at::Tensor *bytes_tensor(const std::string &bytes) {
    at::Tensor tensor = at::empty({static_cast<int64_t>(bytes.size())}, at::kByte);
    std::memcpy(tensor.mutable_data_ptr(), bytes.data(), bytes.size());
    return new at::Tensor(tensor);
}
} // namespace

extern "C" {

// A module: its parent's index (its own is higher; the root's is -1), its name there, the qualified name of its class,
// and its methods in TorchScript.
struct ModuleSpec {
    int64_t parent;
    const char *name;
    const char *class_name;
    const char *source;
};

// A parameter or buffer of the module with this index.
struct TensorSpec {
    int64_t module;
    const char *name;
    const at::Tensor *tensor;
    bool is_parameter;
};

// The file that torch.jit.save writes for the tree.
char *tm_jit_save(const ModuleSpec *modules, int64_t module_count, const TensorSpec *tensors, int64_t tensor_count,
                  at::Tensor **out) {
    return guarded([&] {
        // A new one, so that the mangled names of classes do not depend on what was compiled before.
        auto unit = std::make_shared<torch::jit::CompilationUnit>();
        std::vector<torch::jit::Module> built;
        for (int64_t i = 0; i < module_count; ++i) {
            built.emplace_back(c10::QualifiedName(modules[i].class_name), unit, /*shouldMangle=*/true);
            // As after the original's last test: whoever loads and calls it gets predictions.
            built[i].register_attribute("training", c10::BoolType::get(), false);
        }
        for (int64_t i = 0; i < tensor_count; ++i) {
            const TensorSpec &spec = tensors[i];
            at::Tensor tensor = copy_of(*spec.tensor);
            if (spec.is_parameter)
                built[spec.module].register_parameter(spec.name, tensor.set_requires_grad(true), /*is_buffer=*/false);
            else
                built[spec.module].register_buffer(spec.name, tensor);
        }
        for (int64_t i = 1; i < module_count; ++i)
            built[modules[i].parent].register_module(modules[i].name, built[i]);
        // From the leaves up: the methods that a method calls must exist when it is compiled.
        for (int64_t i = module_count - 1; i >= 0; --i) built[i].define(modules[i].source);
        std::ostringstream file;
        built[0].save(file);
        *out = bytes_tensor(file.str());
    });
}

// The file that torch.save writes for a dict of tensors in this order.
char *tm_pickle_dict(const char *const *names, const at::Tensor *const *tensors, int64_t count, at::Tensor **out) {
    return guarded([&] {
        c10::impl::GenericDict dict(c10::StringType::get(), c10::TensorType::get());
        for (int64_t i = 0; i < count; ++i) dict.insert(std::string(names[i]), copy_of(*tensors[i]));
        std::string pickle;
        torch::jit::Pickler pickler([&](const char *data, size_t size) { pickle.append(data, size); },
                                    /*tensor_table=*/nullptr, /*type_renamer=*/nullptr,
                                    /*memoized_class_types=*/nullptr, /*get_tensor_id=*/nullptr,
                                    /*tag_aggregates=*/false);
        pickler.protocol();
        pickler.pushIValue(dict);
        pickler.stop();

        std::string file;
        caffe2::serialize::PyTorchStreamWriter writer([&](const void *data, size_t size) {
            file.append(static_cast<const char *>(data), size);
            return size;
        });
        writer.writeRecord("data.pkl", pickle.data(), pickle.size());
        writer.writeRecord("byteorder", "little", 6);
        size_t index = 0;
        for (const at::Tensor &tensor : pickler.tensorData()) {
            torch::jit::WriteableTensorData data = torch::jit::getWriteableTensorData(tensor);
            writer.writeRecord("data/" + std::to_string(index++), data.data(), data.sizeInBytes());
        }
        writer.writeEndOfFile();
        *out = bytes_tensor(file);
    });
}
}
