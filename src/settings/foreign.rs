//! Flags of other programs, above all of PyTorch's MNIST example, and what they are called here.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// A flag of another program, and what to do here.
const FLAGS: [(&str, &str); 22] = [
    ("--dry-run", "use --epochs 1 --limit-train 128"),
    ("--no-cuda", "use --device cpu"),
    ("--no-accel", "use --device cpu"),
    ("--no-mps", "use --device cpu"),
    ("--cpu", "use --device cpu"),
    ("--use-cuda", "use --device cuda"),
    ("--cuda", "use --device cuda"),
    ("--gpu", "use --device cuda"),
    ("--gpus", "use --device cuda:0"),
    ("--save-model", "a run always saves its weights, in the folder that --out names"),
    ("--log-interval", "losses.csv in the run's folder has every step, --format json prints every epoch"),
    ("--test-batch-size", "use --batch-size, which is for training and test"),
    ("--batchsize", "use --batch-size"),
    ("--learning-rate", "use --lr"),
    ("--num-epochs", "use --epochs"),
    ("--max-epochs", "use --epochs"),
    ("--num-workers", "all images are in memory, and no worker loads them"),
    ("--workers", "all images are in memory, and no worker loads them"),
    ("--checkpoint", "use --resume RUN"),
    ("--dataroot", "use --data DIR"),
    ("--data-dir", "use --data DIR"),
    ("--random-seed", "use --seed"),
];

/// The sentence on a flag, or a value, of another program, if `error` is about one.
pub(crate) fn sentence(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg) else { return None };
    let value = error.get(ContextKind::InvalidValue).map(ToString::to_string);
    if given.starts_with("--device") && value.is_some_and(|value| value.eq_ignore_ascii_case("mps")) {
        return Some("--device mps: Apple's GPU cannot be used from here; use --device cpu".into());
    }
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let flag = given.split('=').next().unwrap_or(given).replace('_', "-").to_lowercase();
    Some(format!("{given} is not a flag here: {}", advice(&flag)?))
}

/// What to do instead of giving `flag`.
pub(super) fn advice(flag: &str) -> Option<&'static str> {
    FLAGS.iter().find(|(foreign, _)| *foreign == flag).map(|(_, advice)| *advice)
}
