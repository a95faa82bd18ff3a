//! TorchScript files, written from a description of a module's tree.

use super::check;
use anyhow::{Context, Result};
use std::ffi::{CString, c_char};
use std::path::Path;
use tch::Tensor;
use torch_sys::C_tensor;

#[repr(C)]
struct ModuleSpec {
    parent: i64,
    name: *const c_char,
    type_: *const c_char,
    source: *const c_char,
}

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
        path: *const c_char,
    ) -> *mut c_char;
}

/// A module of a tree: a node of what `print(module)` shows.
pub struct Module {
    /// The index of its parent, which comes before it; none for the root, which comes first.
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
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TensorKind {
    /// `register_parameter`
    Parameter,
    /// `register_buffer`
    Buffer,
}

/// Writes the tree as `torch.jit.save` does. The bytes depend on `modules` alone.
///
/// # Errors
///
/// When a source does not compile, or the file cannot be written.
pub fn save(modules: &[Module], path: &Path) -> Result<()> {
    // The C strings live here until the call is over.
    let mut strings = Vec::new();
    let mut text = |text: &str| -> Result<*const c_char> {
        strings.push(CString::new(text).context("a name holds a NUL")?);
        Ok(strings[strings.len() - 1].as_ptr())
    };
    let mut module_specs = Vec::new();
    let mut tensor_specs = Vec::new();
    for (index, module) in modules.iter().enumerate() {
        assert!(module.parent.is_none_or(|parent| parent < index));
        module_specs.push(ModuleSpec {
            parent: module.parent.map_or(-1, |parent| parent as i64),
            name: text(&module.name)?,
            type_: text(&module.class)?,
            source: text(&module.source)?,
        });
        for (name, tensor, kind) in &module.tensors {
            let is_parameter = *kind == TensorKind::Parameter;
            tensor_specs.push(TensorSpec {
                module: index as i64,
                name: text(name)?,
                tensor: tensor.as_ptr(),
                is_parameter,
            });
        }
    }
    let path = text(path.to_str().context("the path is not UTF-8")?)?;
    // SAFETY: the arrays have the lengths given; every string lies on the heap, where `strings` keeps it, and every
    // tensor is borrowed through `modules`, both beyond the call; indices are those of `modules`, parents before children.
    unsafe {
        check(tm_jit_save(
            module_specs.as_ptr(),
            module_specs.len() as i64,
            tensor_specs.as_ptr(),
            tensor_specs.len() as i64,
            path,
        ))
    }
}
