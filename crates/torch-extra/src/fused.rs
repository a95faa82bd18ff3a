//! A block of the net as one operation on the CPU; `docs/kernels.md` explains why and how.
//!
//! Fused blocks read each other's output: images [N, H, W, C] with C padded to a multiple of 16. A [`ConvBlock`] in
//! training returns [N + 1, H, W, C], with BatchNorm's numbers in the place of one more image; [`normalise`] applies
//! them. The first block takes [N, 1, H, W]; [`average_pool_convolution`] returns [N, C].

use super::{check, new_tensor};
use anyhow::Result;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::null;
use tch::Tensor;
use tch::nn::ModuleT;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn tm_fused_block(
        x: *const C_tensor,
        weight: *const C_tensor,
        gamma: *const C_tensor,
        beta: *const C_tensor,
        running_mean: *const C_tensor,
        running_var: *const C_tensor,
        num_batches_tracked: *const C_tensor,
        padding: i64,
        dropout: f64,
        plain: bool,
        train: bool,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn tm_fused_convolution_max_pool(
        x: *const C_tensor,
        weight: *const C_tensor,
        plain: bool,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn tm_fused_average_pool_convolution(
        x: *const C_tensor,
        weight: *const C_tensor,
        plain: bool,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn tm_fused_evaluate(
        images: *const C_tensor,
        stages: *const RawStage,
        count: i64,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn tm_fused_normalise(x: *const C_tensor, out: *mut *mut C_tensor) -> *mut c_char;
    fn tm_dropout_key(out: *mut u64) -> *mut c_char;
    fn tm_dropout_mask(key: u64, p: f64, n: i64, out: *mut *mut C_tensor) -> *mut c_char;
    fn tm_fused_instruction_set() -> *const c_char;
    fn tm_fused_has_instruction_set(name: *const c_char) -> bool;
    fn tm_fused_use_instruction_set(name: *const c_char) -> bool;
}

/// `Conv2d(bias=False) -> ReLU -> BatchNorm2d -> Dropout` in one operation, with BatchNorm's default `momentum` and
/// `eps`. It shares the tensors of the layers that it replaces.
#[derive(Debug)]
pub struct ConvBlock {
    /// [out, in, 3, 3], or [out, 1, 3, 3] for the block that takes the images.
    pub weight: Tensor,
    /// BatchNorm's weight [out].
    pub gamma: Tensor,
    /// BatchNorm's bias [out].
    pub beta: Tensor,
    /// [out]; every training forward updates it.
    pub running_mean: Tensor,
    /// [out]; every training forward updates it.
    pub running_var: Tensor,
    /// An int64 scalar; every training forward adds 1.
    pub num_batches_tracked: Tensor,
    /// Zeros around the convolution's input.
    pub padding: i64,
    /// The probability of dropout; 0 for none.
    pub dropout: f64,
    /// Whether the input has no BatchNorm that is still to be applied: it is not the output of a [`ConvBlock`] in
    /// training.
    pub plain: bool,
}

impl ConvBlock {
    /// The block's output. With dropout, a training forward draws 64 bits from libtorch's default CPU generator. An
    /// evaluation has no gradient.
    pub fn f_forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        // SAFETY: the tensors outlive the call; it stores a tensor made with `new` when it returns null.
        unsafe {
            new_tensor(|out| {
                tm_fused_block(
                    x.as_ptr(),
                    self.weight.as_ptr(),
                    self.gamma.as_ptr(),
                    self.beta.as_ptr(),
                    self.running_mean.as_ptr(),
                    self.running_var.as_ptr(),
                    self.num_batches_tracked.as_ptr(),
                    self.padding,
                    self.dropout,
                    self.plain,
                    train,
                    out,
                )
            })
        }
    }
}

impl ModuleT for ConvBlock {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        // ModuleT cannot return an error; tch's own layers panic here too.
        self.f_forward_t(x, train).expect("a fused block")
    }
}

/// `Conv2d(kernel_size=1, bias=False) -> MaxPool2d(2, 2)`, with `weight` [out, in, 1, 1]. `plain` as in [`ConvBlock`].
pub fn convolution_max_pool(x: &Tensor, weight: &Tensor, plain: bool) -> Result<Tensor> {
    // SAFETY: the tensors outlive the call; it stores a tensor made with `new` when it returns null.
    unsafe { new_tensor(|out| tm_fused_convolution_max_pool(x.as_ptr(), weight.as_ptr(), plain, out)) }
}

/// `AvgPool2d` over the whole image, then `Conv2d(kernel_size=1, bias=False)`: [N, out] with `weight` [out, in, 1, 1].
/// If `x` is the output of a [`ConvBlock`], that one has no dropout.
pub fn average_pool_convolution(x: &Tensor, weight: &Tensor, plain: bool) -> Result<Tensor> {
    // SAFETY: the tensors outlive the call; it stores a tensor made with `new` when it returns null.
    unsafe { new_tensor(|out| tm_fused_average_pool_convolution(x.as_ptr(), weight.as_ptr(), plain, out)) }
}

/// A fused operation in evaluation.
#[derive(Clone, Copy, Debug)]
pub enum Stage<'a> {
    ConvBlock(&'a ConvBlock),
    /// [`convolution_max_pool`] with this weight.
    ConvolutionMaxPool(&'a Tensor),
    /// [`average_pool_convolution`] with this weight.
    AveragePoolConvolution(&'a Tensor),
}

/// `Stage` of `fused/evaluate.cpp`.
#[repr(C)]
struct RawStage {
    kind: c_int,
    /// The weight; for a block also gamma, beta, running_mean and running_var.
    tensors: [*const C_tensor; 5],
    padding: i64,
}

impl Stage<'_> {
    fn raw(self) -> RawStage {
        let only = |weight: &Tensor| [weight.as_ptr(), null(), null(), null(), null()];
        match self {
            Stage::ConvBlock(block) => {
                let tensors = [&block.weight, &block.gamma, &block.beta, &block.running_mean, &block.running_var];
                RawStage { kind: 0, tensors: tensors.map(|tensor| tensor.as_ptr()), padding: block.padding }
            }
            Stage::ConvolutionMaxPool(weight) => RawStage { kind: 1, tensors: only(weight), padding: 0 },
            Stage::AveragePoolConvolution(weight) => RawStage { kind: 2, tensors: only(weight), padding: 0 },
        }
    }
}

/// What `stages` make of `images` [N, 1, H, W] in evaluation mode, [N, out]: the first is a block, the last an
/// average-pool. A few images at a time go through all of them, so that their activations stay in cache.
pub fn evaluate_stages(images: &Tensor, stages: &[Stage]) -> Result<Tensor> {
    let raw: Vec<RawStage> = stages.iter().map(|stage| stage.raw()).collect();
    // SAFETY: the tensors and `raw` outlive the call, which only reads them; it stores a tensor made with `new` when it
    // returns null.
    unsafe { new_tensor(|out| tm_fused_evaluate(images.as_ptr(), raw.as_ptr(), raw.len() as i64, out)) }
}

/// The output of a [`ConvBlock`] in training, [N + 1, H, W, C], with BatchNorm and dropout applied: [N, H, W, C].
pub fn normalise(x: &Tensor) -> Result<Tensor> {
    // SAFETY: `x` outlives the call; it stores a tensor made with `new` when it returns null.
    unsafe { new_tensor(|out| tm_fused_normalise(x.as_ptr(), out)) }
}

/// Draws a key for dropout, as a training forward does.
pub fn dropout_key() -> Result<u64> {
    let mut key = 0;
    // SAFETY: `key` outlives the call, which writes it.
    unsafe { check(tm_dropout_key(&mut key))? };
    Ok(key)
}

/// Which of the first `n` elements of a block's padded output dropout of probability `p` drops under `key`: bool [n].
/// `n` is a multiple of 16.
pub fn dropout_mask(key: u64, p: f64, n: i64) -> Result<Tensor> {
    // SAFETY: it stores a tensor made with `new` when it returns null.
    unsafe { new_tensor(|out| tm_dropout_mask(key, p, n, out)) }
}

/// The instruction sets that the kernels are compiled for, the fastest first.
pub const INSTRUCTION_SETS: [&str; 3] = ["avx512", "x86_64_v3", "portable"];

/// The plain loops of `kernels/reference.cpp` in their place, which only tests use.
pub const REFERENCE: &str = "reference";

/// The instruction set of the kernels in use: unless another was chosen, the first of [`INSTRUCTION_SETS`] that the
/// processor has.
pub fn instruction_set() -> &'static str {
    // SAFETY: a string literal of the C++ side.
    unsafe { CStr::from_ptr(tm_fused_instruction_set()) }.to_str().unwrap_or("unknown")
}

/// Operations that begin from now on use another of [`INSTRUCTION_SETS`] or [`REFERENCE`]; returns false if the processor
/// does not have it. Operations that run meanwhile, and their backward passes, keep theirs.
pub fn use_instruction_set(name: &str) -> bool {
    // SAFETY: the C++ side only reads the string.
    CString::new(name).is_ok_and(|name| unsafe { tm_fused_use_instruction_set(name.as_ptr()) })
}

/// Those of [`INSTRUCTION_SETS`] that the processor has, the fastest first.
pub fn available_instruction_sets() -> Vec<&'static str> {
    // SAFETY: the C++ side only reads the string.
    let has = |name: &str| CString::new(name).is_ok_and(|name| unsafe { tm_fused_has_instruction_set(name.as_ptr()) });
    INSTRUCTION_SETS.into_iter().filter(|name| has(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

    /// The gradient of a block's weight, and of a max-pool's, if `between` runs after the forward passes.
    fn gradients(between: impl Fn()) -> [Tensor; 2] {
        let numbers = |size: &[i64]| (Tensor::arange(size.iter().product::<i64>(), FLOAT) * 0.7).sin().view(size);
        let weight = |size: &[i64]| numbers(size).set_requires_grad(true);
        let channels = |value: f64| Tensor::full([16], value, FLOAT);
        let block = ConvBlock {
            weight: weight(&[16, 16, 3, 3]),
            gamma: channels(1.0),
            beta: channels(0.0),
            running_mean: channels(0.0),
            running_var: channels(1.0),
            num_batches_tracked: Tensor::from(0i64),
            padding: 0,
            dropout: 0.0,
            plain: true,
        };
        let y = block.f_forward_t(&numbers(&[8, 10, 10, 16]), true).unwrap();
        let pool = weight(&[16, 16, 1, 1]);
        let pooled = convolution_max_pool(&normalise(&y).unwrap(), &pool, true).unwrap();
        between();
        (&pooled * &pooled).sum(Kind::Float).backward();
        [block.weight.grad(), pool.grad()]
    }

    #[test]
    fn a_backward_pass_has_the_kernels_of_its_forward_pass() {
        let chosen = instruction_set();
        let expected = gradients(|| ());
        for other in available_instruction_sets().into_iter().chain([REFERENCE]) {
            let got = gradients(|| assert!(use_instruction_set(other)));
            assert_eq!(instruction_set(), other);
            // Asking which sets there are chooses none.
            assert!(available_instruction_sets().contains(&chosen));
            assert_eq!(instruction_set(), other);
            assert!(use_instruction_set(chosen));
            // Normalising, which packs no weights, may be another's.
            for (got, expected) in got.iter().zip(&expected) {
                let error = (got - expected).abs().max() / expected.abs().max();
                assert!(error.double_value(&[]) < 1e-5, "{chosen}, then {other}: {error}");
            }
        }
        assert!(!use_instruction_set("mmx"));
    }
}
