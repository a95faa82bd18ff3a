//! TorchScript modules and pickled dicts, as the bytes of the files that torch would write.

use super::{new_tensor, pointers};
use anyhow::{Context, Result, ensure};
use std::ffi::{CString, c_char};
use tch::Tensor;
use torch_sys::C_tensor;

/// `ModuleSpec` of jit.cpp.
#[repr(C)]
struct ModuleSpec {
    parent: i64,
    name: *const c_char,
    class_name: *const c_char,
    source: *const c_char,
}

/// `TensorSpec` of jit.cpp.
#[repr(C)]
struct TensorSpec {
    module: i64,
    name: *const c_char,
    tensor: *const C_tensor,
    is_parameter: bool,
}

unsafe extern "C" {
    fn tm_jit_save(
        modules: *const ModuleSpec,
        module_count: i64,
        tensors: *const TensorSpec,
        tensor_count: i64,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn tm_pickle_dict(
        names: *const *const c_char,
        tensors: *const *const C_tensor,
        count: i64,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
}

/// A module in a tree of modules.
pub struct Module {
    /// The index of its parent, which comes before it; `None` for the root, which comes first.
    pub parent: Option<usize>,
    /// Its name in its parent.
    pub name: String,
    /// The qualified name of its class, such as `__torch__.torch.nn.modules.conv.Conv2d`.
    pub class: String,
    /// Its methods in TorchScript.
    pub source: String,
    /// Its parameters and buffers, in the order of its state_dict.
    pub tensors: Vec<(String, Tensor, TensorKind)>,
}

/// Whether a tensor is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorKind {
    /// `register_parameter`
    Parameter,
    /// `register_buffer`
    Buffer,
}

/// The file that `torch.jit.save` writes for this tree in evaluation mode. The bytes depend only on `modules`.
pub fn saved(modules: &[Module]) -> Result<Vec<u8>> {
    let mut strings = Strings::default();
    let mut module_specs = Vec::new();
    let mut tensor_specs = Vec::new();
    for (index, module) in modules.iter().enumerate() {
        let is_tree = if index == 0 { module.parent.is_none() } else { module.parent.is_some_and(|it| it < index) };
        ensure!(is_tree, "the module {} comes before its parent", module.name);
        module_specs.push(ModuleSpec {
            parent: module.parent.map_or(-1, |parent| parent as i64),
            name: strings.pointer(&module.name)?,
            class_name: strings.pointer(&module.class)?,
            source: strings.pointer(&module.source)?,
        });
        for (name, tensor, kind) in &module.tensors {
            tensor_specs.push(TensorSpec {
                module: index as i64,
                name: strings.pointer(name)?,
                tensor: tensor.as_ptr(),
                is_parameter: *kind == TensorKind::Parameter,
            });
        }
    }
    let (module_count, tensor_count) = (module_specs.len() as i64, tensor_specs.len() as i64);
    // SAFETY: the arrays have the lengths given and indices below `module_count`, parents before their children;
    // `strings` and `modules` keep the targets of the pointers alive during the call, which only reads them.
    let bytes = unsafe {
        new_tensor(|out| tm_jit_save(module_specs.as_ptr(), module_count, tensor_specs.as_ptr(), tensor_count, out))
    }?;
    Ok(Vec::try_from(bytes)?)
}

/// The file that `torch.save` writes for a plain dict of tensors in this order. The bytes depend only on `dict`.
pub fn pickled_dict(dict: &[(String, Tensor)]) -> Result<Vec<u8>> {
    let mut strings = Strings::default();
    let names = dict.iter().map(|(name, _)| strings.pointer(name)).collect::<Result<Vec<_>>>()?;
    let tensors = pointers(dict.iter().map(|(_, tensor)| tensor));
    // SAFETY: both arrays have the length of `dict`; `strings` and `dict` keep the targets of the pointers alive during
    // the call, which only reads them.
    let bytes = unsafe { new_tensor(|out| tm_pickle_dict(names.as_ptr(), tensors.as_ptr(), dict.len() as i64, out)) }?;
    Ok(Vec::try_from(bytes)?)
}

/// Keeps C strings in place until a call is over.
#[derive(Default)]
struct Strings(Vec<CString>);

impl Strings {
    fn pointer(&mut self, text: &str) -> Result<*const c_char> {
        self.0.push(CString::new(text).context("a name holds a NUL")?);
        // The string is on the heap, so it stays in place when the vector grows.
        Ok(self.0[self.0.len() - 1].as_ptr())
    }
}
