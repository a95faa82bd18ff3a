// Any of libtorch's operations, by the name and the arguments of its schema: tch has no operations on lists of tensors.

#include "common.h"
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/core/stack.h>

#include <vector>

// As declared in aten.rs.
struct tm_Argument {
    enum Kind : int { TENSOR, TENSORS, FLOAT, FLOATS, INT, BOOL } kind;
    const at::Tensor *const *tensors; // `count` of them
    const double *numbers;            // the same
    int64_t count;                    // for INT and BOOL the value
};

static c10::IValue value_of(const tm_Argument &argument) {
    const auto &[kind, tensors, numbers, count] = argument;
    switch (kind) {
    case tm_Argument::TENSOR: return **tensors;
    case tm_Argument::TENSORS: {
        c10::List<at::Tensor> list;
        list.reserve(count);
        for (int64_t i = 0; i < count; ++i) list.push_back(*tensors[i]);
        return list;
    }
    case tm_Argument::FLOAT: return *numbers;
    case tm_Argument::FLOATS: {
        c10::List<c10::Scalar> list;
        for (int64_t i = 0; i < count; ++i) list.push_back(numbers[i]);
        return list;
    }
    case tm_Argument::INT: return count;
    case tm_Argument::BOOL: return count != 0;
    }
    return {};
}

extern "C" {

// Calls the operation without recording gradients. `arguments` are the first of its schema, the rest have their
// defaults. `each(context, result)` gets each tensor that it returns, made with `new`.
char *tm_aten_call(const char *name, const char *overload, const tm_Argument *arguments, int64_t count, void *context,
                   void (*each)(void *, at::Tensor *)) {
    return guarded([&] {
        at::NoGradGuard no_grad;
        const c10::OperatorHandle operation = c10::Dispatcher::singleton().findSchemaOrThrow(name, overload);
        torch::jit::Stack stack;
        for (int64_t i = 0; i < count; ++i) stack.push_back(value_of(arguments[i]));
        // The kernels behind a boxed call trust the types of their arguments.
        operation.schema().checkAndNormalizeInputs(stack);
        operation.callBoxed(stack);
        for (const c10::IValue &result : stack) {
            if (result.isTensor()) each(context, new at::Tensor(result.toTensor()));
            else if (result.isTensorList())
                for (const at::Tensor &tensor : result.toTensorVector()) each(context, new at::Tensor(tensor));
        }
    });
}
}
