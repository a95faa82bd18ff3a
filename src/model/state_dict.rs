//! `state_dict()`: a net's tensors by name.

use tch::Tensor;

/// The parameters and buffers of a net by name, in PyTorch's order: what `Net().state_dict()` returns in Python.
#[derive(Debug)]
pub struct StateDict(pub Vec<(String, Tensor)>);

/// A parameter or buffer of a net under its state_dict key.
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) tensor: Tensor,
}
