//! Weights files.

use tch::Tensor;

/// The tensors of a net by name, in PyTorch's order: what `Net().state_dict()` returns there.
pub struct StateDict(pub Vec<(String, Tensor)>);
