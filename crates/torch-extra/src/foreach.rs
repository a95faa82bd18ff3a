//! `torch._foreach_*`: one operation on each tensor of a list. A GPU gets a few kernels for all of them together; on a
//! CPU it is the operation on one tensor after the other, with the same bits.
//!
//! As in PyTorch, a name that ends in `_` changes its first list. Nothing here records gradients. A list may be empty.
//!
//! ```
//! use tch::Tensor;
//! use torch_extra::foreach;
//!
//! let [params, grads] = [[1.0, 2.0], [0.5, 0.25]].map(|numbers| numbers.map(Tensor::from));
//! foreach::mul_(&params, 0.5)?;
//! foreach::add_scaled_(&params, &grads, -2.0)?;
//! assert_eq!(params.map(|param| f64::try_from(param).unwrap()), [-0.5, 0.5]);
//! # anyhow::Ok(())
//! ```

use super::aten::{self, Argument, call, float, floats, list};
use anyhow::Result;
use std::borrow::Borrow;
use std::ffi::CStr;
use tch::Tensor;

/// A tensor, or a reference to one: what lists are made of.
pub trait AsTensor: Borrow<Tensor> {}

impl<T: Borrow<Tensor>> AsTensor for T {}

/// The other side of an operation: a number or one tensor for all, or a list of as many numbers or tensors.
pub struct Operand<'a> {
    overload: &'static CStr,
    argument: Argument<'a>,
}

impl From<f64> for Operand<'_> {
    fn from(number: f64) -> Self {
        Operand { overload: c"Scalar", argument: float(number) }
    }
}

impl From<i64> for Operand<'_> {
    fn from(number: i64) -> Self {
        Operand { overload: c"Scalar", argument: aten::int(number) }
    }
}

impl From<Vec<f64>> for Operand<'_> {
    fn from(numbers: Vec<f64>) -> Self {
        Operand { overload: c"ScalarList", argument: floats(numbers) }
    }
}

impl<'a> From<&'a Tensor> for Operand<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Operand { overload: c"Tensor", argument: aten::tensor(tensor) }
    }
}

impl<'a, T: AsTensor> From<&'a Vec<T>> for Operand<'a> {
    fn from(tensors: &'a Vec<T>) -> Self {
        Operand { overload: c"List", argument: list(tensors) }
    }
}

/// `xs += other`
pub fn add_<'a>(xs: &'a [impl AsTensor], other: impl Into<Operand<'a>>) -> Result<()> {
    binary(c"aten::_foreach_add_", xs, other).map(drop)
}

/// `xs + alpha * ys`
pub fn add_scaled(xs: &[impl AsTensor], ys: &[impl AsTensor], alpha: f64) -> Result<Vec<Tensor>> {
    foreach(c"aten::_foreach_add", c"List", xs, [list(ys), float(alpha)])
}

/// `xs += alpha * ys`
pub fn add_scaled_(xs: &[impl AsTensor], ys: &[impl AsTensor], alpha: f64) -> Result<()> {
    foreach(c"aten::_foreach_add_", c"List", xs, [list(ys), float(alpha)]).map(drop)
}

/// `xs - ys`
pub fn sub(xs: &[impl AsTensor], ys: &[impl AsTensor]) -> Result<Vec<Tensor>> {
    foreach(c"aten::_foreach_sub", c"List", xs, [list(ys)])
}

/// `xs -= ys`
pub fn sub_(xs: &[impl AsTensor], ys: &[impl AsTensor]) -> Result<()> {
    foreach(c"aten::_foreach_sub_", c"List", xs, [list(ys)]).map(drop)
}

/// `xs * other`
pub fn mul<'a>(xs: &'a [impl AsTensor], other: impl Into<Operand<'a>>) -> Result<Vec<Tensor>> {
    binary(c"aten::_foreach_mul", xs, other)
}

/// `xs *= other`
pub fn mul_<'a>(xs: &'a [impl AsTensor], other: impl Into<Operand<'a>>) -> Result<()> {
    binary(c"aten::_foreach_mul_", xs, other).map(drop)
}

/// `xs / other`
pub fn div<'a>(xs: &'a [impl AsTensor], other: impl Into<Operand<'a>>) -> Result<Vec<Tensor>> {
    binary(c"aten::_foreach_div", xs, other)
}

/// `xs /= other`
pub fn div_<'a>(xs: &'a [impl AsTensor], other: impl Into<Operand<'a>>) -> Result<()> {
    binary(c"aten::_foreach_div_", xs, other).map(drop)
}

/// `xs + value * ys * zs`
pub fn addcmul(xs: &[impl AsTensor], ys: &[impl AsTensor], zs: &[impl AsTensor], value: f64) -> Result<Vec<Tensor>> {
    foreach(c"aten::_foreach_addcmul", c"Scalar", xs, [list(ys), list(zs), float(value)])
}

/// `xs += value * ys * zs`
pub fn addcmul_(xs: &[impl AsTensor], ys: &[impl AsTensor], zs: &[impl AsTensor], value: f64) -> Result<()> {
    foreach(c"aten::_foreach_addcmul_", c"Scalar", xs, [list(ys), list(zs), float(value)]).map(drop)
}

/// `xs += value * ys / zs`, where `value` is a number or a list of numbers.
pub fn addcdiv_<'a>(
    xs: &'a [impl AsTensor],
    ys: &'a [impl AsTensor],
    zs: &'a [impl AsTensor],
    value: impl Into<Operand<'a>>,
) -> Result<()> {
    let Operand { overload, argument } = value.into();
    foreach(c"aten::_foreach_addcdiv_", overload, xs, [list(ys), list(zs), argument]).map(drop)
}

/// `xs += weight * (ys - xs)`
pub fn lerp_(xs: &[impl AsTensor], ys: &[impl AsTensor], weight: f64) -> Result<()> {
    foreach(c"aten::_foreach_lerp_", c"Scalar", xs, [list(ys), float(weight)]).map(drop)
}

/// The square roots.
pub fn sqrt(xs: &[impl AsTensor]) -> Result<Vec<Tensor>> {
    foreach(c"aten::_foreach_sqrt", c"", xs, [])
}

/// The square roots, in place.
pub fn sqrt_(xs: &[impl AsTensor]) -> Result<()> {
    foreach(c"aten::_foreach_sqrt_", c"", xs, []).map(drop)
}

/// `xs = max(xs, ys)`
pub fn maximum_(xs: &[impl AsTensor], ys: &[impl AsTensor]) -> Result<()> {
    foreach(c"aten::_foreach_maximum_", c"List", xs, [list(ys)]).map(drop)
}

/// `min(xs, most)`
pub fn clamp_max(xs: &[impl AsTensor], most: f64) -> Result<Vec<Tensor>> {
    foreach(c"aten::_foreach_clamp_max", c"Scalar", xs, [float(most)])
}

/// `xs = ys`
pub fn copy_(xs: &[impl AsTensor], ys: &[impl AsTensor]) -> Result<()> {
    foreach(c"aten::_foreach_copy_", c"", xs, [list(ys)]).map(drop)
}

/// The Euclidean norm of each.
pub fn norm(xs: &[impl AsTensor]) -> Result<Vec<Tensor>> {
    foreach(c"aten::_foreach_norm", c"Scalar", xs, [float(2.0)])
}

/// `params -= lr * grads` with `lr` in device memory, a float32 scalar: `torch._fused_sgd_`, one kernel.
pub fn fused_sgd_(params: &[impl AsTensor], grads: &[impl AsTensor], lr: &Tensor) -> Result<()> {
    let none: [&Tensor; 0] = [];
    let (weight_decay, momentum, dampening, nesterov, maximize, is_first_step) = (0.0, 0.0, 0.0, false, false, false);
    let lists = [list(grads), list(&none)];
    let numbers = [float(weight_decay), float(momentum), aten::tensor(lr), float(dampening)];
    let switches = [nesterov, maximize, is_first_step].map(aten::bool);
    foreach(c"aten::_fused_sgd_", c"tensor_lr", params, lists.into_iter().chain(numbers).chain(switches)).map(drop)
}

/// What [`fused_adam_`] takes of `torch.optim.Adam`'s arguments.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    /// The decays of the averages.
    pub betas: (f64, f64),
    /// Added to the denominator.
    pub eps: f64,
    /// L2 penalty, or decoupled weight decay.
    pub weight_decay: f64,
    /// Whether it is AdamW.
    pub decoupled_weight_decay: bool,
}

/// A step of Adam with `lr` in device memory, a float32 scalar: `torch._fused_adam_` or `torch._fused_adamw_`, one
/// kernel. `steps` already count this one. With amsgrad there are `max_exp_avg_sqs`, otherwise none.
pub fn fused_adam_<T: AsTensor>(
    params: &[T],
    grads: &[impl AsTensor],
    [exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps]: [&[T]; 4],
    lr: &Tensor,
    adam: &Adam,
) -> Result<()> {
    let name = if adam.decoupled_weight_decay { c"aten::_fused_adamw_" } else { c"aten::_fused_adam_" };
    let lists = [list(grads), list(exp_avgs), list(exp_avg_sqs), list(max_exp_avg_sqs), list(steps)];
    let (beta1, beta2) = adam.betas;
    let numbers = [aten::tensor(lr), float(beta1), float(beta2), float(adam.weight_decay), float(adam.eps)];
    let [amsgrad, maximize] = [!max_exp_avg_sqs.is_empty(), false];
    let switches = [amsgrad, maximize].map(aten::bool);
    foreach(name, c"tensor_lr", params, lists.into_iter().chain(numbers).chain(switches)).map(drop)
}

fn binary<'a>(name: &CStr, xs: &'a [impl AsTensor], other: impl Into<Operand<'a>>) -> Result<Vec<Tensor>> {
    let Operand { overload, argument } = other.into();
    foreach(name, overload, xs, [argument])
}

/// An operation on `xs` and the `rest` of its arguments; libtorch refuses empty lists.
fn foreach<'a>(
    name: &CStr,
    overload: &CStr,
    xs: &'a [impl AsTensor],
    rest: impl IntoIterator<Item = Argument<'a>>,
) -> Result<Vec<Tensor>> {
    if xs.is_empty() {
        return Ok(Vec::new());
    }
    let arguments: Vec<Argument> = std::iter::once(list(xs)).chain(rest).collect();
    call(name, overload, &arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors(numbers: &[f64]) -> Vec<Tensor> {
        numbers.iter().map(|&number| Tensor::from_slice(&[number, -number])).collect()
    }

    fn firsts(tensors: &[Tensor]) -> Vec<f64> {
        tensors.iter().map(|tensor| tensor.double_value(&[0])).collect()
    }

    #[test]
    fn each_operation_is_its_formula() {
        let [ys, zs] = [[2.0, 4.0], [0.5, 8.0]].map(|numbers| tensors(&numbers));
        let two = Tensor::from(2.0);
        let of = |operation: &dyn Fn(&Vec<Tensor>) -> Result<()>| {
            let xs = tensors(&[1.0, 3.0]);
            operation(&xs).unwrap();
            firsts(&xs)
        };
        assert_eq!(of(&|xs| add_(xs, 0.5)), [1.5, 3.5]);
        assert_eq!(of(&|xs| add_(xs, &ys)), [3.0, 7.0]);
        assert_eq!(of(&|xs| add_scaled_(xs, &ys, -2.0)), [-3.0, -5.0]);
        assert_eq!(of(&|xs| sub_(xs, &ys)), [-1.0, -1.0]);
        assert_eq!(of(&|xs| mul_(xs, &two)), [2.0, 6.0]);
        assert_eq!(of(&|xs| div_(xs, &ys)), [0.5, 0.75]);
        assert_eq!(of(&|xs| addcmul_(xs, &ys, &zs, 3.0)), [4.0, 99.0]);
        assert_eq!(of(&|xs| addcdiv_(xs, &ys, &zs, 3.0)), [13.0, 4.5]);
        assert_eq!(of(&|xs| addcdiv_(xs, &ys, &zs, vec![1.0, 2.0])), [5.0, 4.0]);
        assert_eq!(of(&|xs| lerp_(xs, &ys, 0.25)), [1.25, 3.25]);
        assert_eq!(of(&|xs| maximum_(xs, &zs)), [1.0, 8.0]);
        assert_eq!(of(&|xs| copy_(xs, &zs)), [0.5, 8.0]);
        assert_eq!(of(&|xs| mul_(xs, 16.0).and_then(|()| sqrt_(xs)))[0], 4.0);
        let xs = tensors(&[1.0, 4.0]);
        assert_eq!(firsts(&add_scaled(&xs, &ys, 0.5).unwrap()), [2.0, 6.0]);
        assert_eq!(firsts(&sub(&xs, &ys).unwrap()), [-1.0, 0.0]);
        assert_eq!(firsts(&mul(&xs, &ys).unwrap()), [2.0, 16.0]);
        assert_eq!(firsts(&div(&xs, 2.0).unwrap()), [0.5, 2.0]);
        assert_eq!(firsts(&addcmul(&xs, &ys, &zs, -1.0).unwrap()), [0.0, -28.0]);
        assert_eq!(firsts(&sqrt(&xs).unwrap()), [1.0, 2.0]);
        assert_eq!(firsts(&clamp_max(&xs, 2.0).unwrap()), [1.0, 2.0]);
        let norms = norm(&tensors(&[3.0])).unwrap();
        assert!((f64::try_from(&norms[0]).unwrap() - 18f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn parameters_change_in_place_without_a_gradient() {
        let parameter = Tensor::ones([2], (tch::Kind::Float, tch::Device::Cpu)).set_requires_grad(true);
        let before = parameter.data_ptr();
        let lr = Tensor::from(0.5f32);
        fused_sgd_(&[&parameter], &[parameter.ones_like()], &lr).unwrap();
        assert_eq!((parameter.double_value(&[1]), parameter.data_ptr()), (0.5, before));
        assert!(parameter.is_leaf() && parameter.requires_grad());
    }

    #[test]
    fn lists_may_be_empty_and_otherwise_fit() {
        let none: Vec<Tensor> = Vec::new();
        add_(&none, 1i64).unwrap();
        assert!(sqrt(&none).unwrap().is_empty());
        assert!(mul_(&tensors(&[1.0, 2.0]), &tensors(&[1.0])).is_err());
    }
}
