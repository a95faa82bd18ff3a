//! `state_dict()`: a net's tensors by name.

use super::architecture::Architecture;
use anyhow::{Context, Result, ensure};
use tch::Tensor;
use tch::nn::VarStore;

/// The parameters and buffers of a net by name, in PyTorch's order: what `Net().state_dict()` returns in Python.
#[derive(Debug)]
pub struct StateDict(pub Vec<(String, Tensor)>);

impl StateDict {
    /// The tensors of `var_store`, which has no order, for the net of `architecture`. They share the store's memory.
    ///
    /// # Errors
    ///
    /// One sentence if the store lacks a tensor of the net, or has one that the net does not have.
    pub fn of(var_store: &VarStore, architecture: &Architecture) -> Result<StateDict> {
        let mut tensors = var_store.variables();
        let mut take = |key: String| {
            let tensor = tensors.remove(&key).with_context(|| format!("the store has no {key}"))?;
            Ok((key, tensor))
        };
        let state = architecture.variables().map(|(key, _)| take(key)).collect::<Result<_>>()?;
        ensure!(tensors.is_empty(), "the net has no {}", tensors.into_keys().collect::<Vec<_>>().join(", "));
        Ok(StateDict(state))
    }
}
