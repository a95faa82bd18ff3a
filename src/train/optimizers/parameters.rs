//! The parameters of a net, and the tensors that an optimizer keeps for each.

use super::WeightDecay;
use crate::libtorch::foreach;
use crate::model::Net;
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// The parameters of a net, with `N` tensors of state for each.
pub(super) struct Parameters<const N: usize> {
    pub(super) all: Vec<Parameter<N>>,
    pub(super) weight_decay: f64,
    /// The names of the state, as in `torch.optim`.
    names: [&'static str; N],
}

/// A parameter and what is kept for it.
pub(super) struct Parameter<const N: usize> {
    /// Its key in the state_dict.
    name: String,
    pub(super) tensor: Tensor,
    /// Whether weight decay applies to it.
    decays: bool,
    /// A tensor that the settings do not need is undefined.
    pub(super) state: [Tensor; N],
}

impl<const N: usize> Parameters<N> {
    /// The parameters of `net`, each with the tensors that `state` makes for it, which are called `names`.
    pub(super) fn new(
        net: &Net,
        decay: &WeightDecay,
        names: [&'static str; N],
        state: impl Fn(&Tensor) -> Result<[Tensor; N]>,
    ) -> Result<Parameters<N>> {
        let parameter = |(name, tensor): (&str, &Tensor)| {
            Ok(Parameter {
                name: name.to_string(),
                tensor: tensor.shallow_clone(),
                // Without --weight-decay-norm, BatchNorm's parameters and all biases do not decay.
                decays: decay.weight_decay != 0.0 && (decay.weight_decay_norm || tensor.dim() > 1),
                state: state(tensor)?,
            })
        };
        let all = net.parameters().map(parameter).collect::<Result<_>>()?;
        Ok(Parameters { all, weight_decay: decay.weight_decay, names })
    }

    /// The parameters that have a gradient; the others are left alone, as in `torch.optim`.
    pub(super) fn with_gradients(&self) -> Lists<'_, N> {
        let mut lists = Lists::default();
        for parameter in &self.all {
            lists.push(parameter, parameter.tensor.grad());
        }
        lists
    }

    /// The same in groups that share a weight decay, which comes with them.
    pub(super) fn groups(&self) -> [(f64, Lists<'_, N>); 2] {
        let [mut decaying, mut others] = [(self.weight_decay, Lists::default()), (0.0, Lists::default())];
        for parameter in &self.all {
            let group = if parameter.decays { &mut decaying } else { &mut others };
            group.1.push(parameter, parameter.tensor.grad());
        }
        [decaying, others]
    }

    /// The state by the names that it has in a checkpoint, such as `momentum_buffer.convblock1.0.weight`.
    pub(super) fn state(&self) -> Vec<(String, Tensor)> {
        let mut named = Vec::new();
        for parameter in &self.all {
            let state = self.names.iter().zip(&parameter.state).filter(|(_, tensor)| tensor.defined());
            named.extend(state.map(|(name, tensor)| (format!("{name}.{}", parameter.name), tensor.shallow_clone())));
        }
        named
    }
}

/// Parameters, their gradients and their state as lists, which `foreach` takes. Tensors of state that the settings do not
/// need are undefined.
pub(super) struct Lists<'a, const N: usize> {
    pub(super) params: Vec<&'a Tensor>,
    pub(super) grads: Vec<Tensor>,
    pub(super) state: [Vec<&'a Tensor>; N],
    decays: Vec<bool>,
}

impl<const N: usize> Default for Lists<'_, N> {
    fn default() -> Self {
        Lists { params: Vec::new(), grads: Vec::new(), state: [const { Vec::new() }; N], decays: Vec::new() }
    }
}

impl<'a, const N: usize> Lists<'a, N> {
    fn push(&mut self, parameter: &'a Parameter<N>, grad: Tensor) {
        if !grad.defined() {
            return;
        }
        self.params.push(&parameter.tensor);
        self.grads.push(grad);
        self.decays.push(parameter.decays);
        self.state.iter_mut().zip(&parameter.state).for_each(|(list, tensor)| list.push(tensor));
    }

    /// The parameters that decay.
    pub(super) fn decaying(&self) -> Vec<&'a Tensor> {
        self.params.iter().zip(&self.decays).filter(|(_, decays)| **decays).map(|(param, _)| *param).collect()
    }

    /// L2 penalty: `grad = grad.add(param, alpha=weight_decay)` for the parameters that decay.
    pub(super) fn add_weight_decay(&mut self, weight_decay: f64) -> Result<()> {
        let params = self.decaying();
        let decaying = self.grads.iter_mut().zip(&self.decays).filter(|(_, decays)| **decays);
        let grads: Vec<&mut Tensor> = decaying.map(|(grad, _)| grad).collect();
        let sums = foreach::add_scaled(&grads, &params, weight_decay)?;
        grads.into_iter().zip(sums).for_each(|(grad, sum)| *grad = sum);
        Ok(())
    }
}

/// Zeros like a parameter, if they are needed.
pub(super) fn zeros_like(tensor: &Tensor, needed: bool) -> Result<Tensor> {
    Ok(if needed { tensor.detach().f_zeros_like()? } else { Tensor::new() })
}

/// A float32 zero on `device`: a count of steps.
pub(super) fn zero(device: Device) -> Result<Tensor> {
    Ok(Tensor::f_zeros([0i64; 0], (Kind::Float, device))?)
}
