//! Parameters and what an optimizer keeps for them, as the C++ file of each optimizer takes them.

use tch::Tensor;
use torch_sys::C_tensor;

/// A parameter and the `N` tensors that an optimizer keeps for it.
pub struct Parameter<const N: usize> {
    /// Its key in the state_dict.
    pub name: String,
    pub tensor: Tensor,
    /// That of its parameter group.
    pub weight_decay: f64,
    /// In the order of the optimizer's C++ struct, on the parameter's device; a tensor that the settings do not need is
    /// undefined.
    pub state: [Tensor; N],
}

/// `tm_SgdParameter` and those of the other optimizers, with `N` pointers at the end.
#[repr(C)]
pub(super) struct RawParameter<const N: usize> {
    tensor: *mut C_tensor,
    weight_decay: f64,
    state: [*mut C_tensor; N],
}

/// The parameters as C++ takes them; they stay borrowed as long as the pointers are in use.
pub(super) fn raw<const N: usize>(parameters: &mut [Parameter<N>]) -> Vec<RawParameter<N>> {
    let raw = |parameter: &mut Parameter<N>| RawParameter {
        tensor: parameter.tensor.as_mut_ptr(),
        weight_decay: parameter.weight_decay,
        state: parameter.state.each_mut().map(Tensor::as_mut_ptr),
    };
    parameters.iter_mut().map(raw).collect()
}
