//! Memory that runs out: what to do about it, and passes that take smaller batches by themselves.

use crate::error::{sentence, without_panic};
use crate::libtorch::memory;
use anyhow::{Result, anyhow};
use std::fmt::{self, Display};

/// Whether an error, a cause or a panic of libtorch says that memory ran out.
fn is_out_of_memory(error: &anyhow::Error) -> bool {
    memory::is_out_of_memory(&sentence(error))
}

/// The context of an error of too little memory: what does not fit, and what to do.
#[derive(Debug)]
pub(crate) struct TooLittleMemory(String);

impl Display for TooLittleMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What helps if there is nothing to make smaller.
const FREE_SOME: &str = "end other programs that use it, or choose another --device";

/// `error` with `advice` if memory ran out and no advice was given yet.
fn advised(error: anyhow::Error, advice: impl FnOnce() -> String) -> anyhow::Error {
    if error.is::<TooLittleMemory>() || !is_out_of_memory(&error) {
        return error;
    }
    // After what was wanted and what is free, libtorch goes on with the statistics and the settings of its allocator.
    let cause = sentence(&error);
    let cause = cause.split(" Of the allocated memory").next().unwrap_or_default().to_string();
    anyhow!(cause).context(TooLittleMemory(advice()))
}

/// The error of something that takes `--batch-size` images at once, with what to do if memory ran out.
pub(crate) fn of_batch_size(error: anyhow::Error, batch_size: i64) -> anyhow::Error {
    advised(error, || match batch_size {
        1 => format!("the device has too little memory, even for --batch-size 1: {FREE_SOME}"),
        _ => format!("the device has too little memory for --batch-size {batch_size}, try a smaller one"),
    })
}

/// The error of anything else, with what to do if memory ran out.
pub(crate) fn of_anything(error: anyhow::Error) -> anyhow::Error {
    advised(error, || format!("the device has too little memory: {FREE_SOME}"))
}

/// Makes a `pass` over images in batches of `most`. If they do not fit into memory, it is made again in batches of half the
/// size, and so on, and the log says so. Returns what the pass returned, and the size of its batches.
///
/// # Errors
///
/// [`TooLittleMemory`] if not even one image fits, and any other error of the pass. `what` names it.
pub(crate) fn in_smaller_batches<T>(what: &str, most: i64, mut pass: impl FnMut(i64) -> Result<T>) -> Result<(T, i64)> {
    let mut size = most;
    loop {
        match without_panic(|| pass(size)) {
            Err(error) if is_out_of_memory(&error) && size > 1 => size /= 2,
            Err(error) => {
                let advice =
                    || format!("the device has too little memory for {what}, even image by image: {FREE_SOME}");
                return Err(advised(error, advice));
            }
            Ok(done) => {
                if size < most {
                    tracing::warn!("{what} takes {size} images at a time: the device has too little memory for {most}");
                }
                return Ok((done, size));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[test]
    fn a_pass_that_does_not_fit_takes_half_as_many_images_until_it_fits() {
        let pass = |fits: i64| {
            let mut tried = Vec::new();
            let done = in_smaller_batches("the test", 2000, |size| {
                tried.push(size);
                if size > fits {
                    bail!("CUDA out of memory")
                }
                Ok(())
            });
            (tried, done)
        };
        let (tried, done) = pass(300);
        assert_eq!((tried, done.unwrap().1), (vec![2000, 1000, 500, 250], 250));
        let error = of_batch_size(pass(0).1.unwrap_err(), 128);
        let text = "the device has too little memory for the test, even image by image: end other programs that use it, or \
                    choose another --device: CUDA out of memory";
        assert_eq!(sentence(&error), text);
    }

    #[test]
    fn an_error_of_another_kind_ends_a_pass_and_gets_no_advice() {
        let mut tries = 0;
        let error = in_smaller_batches("the test", 2000, |_| -> Result<()> {
            tries += 1;
            bail!("a full disk")
        });
        assert_eq!((tries, sentence(&of_anything(of_batch_size(error.unwrap_err(), 128)))), (1, "a full disk".into()));
    }

    #[test]
    fn the_smallest_batch_size_is_not_advised_to_be_smaller() {
        let advice = |size| sentence(&of_batch_size(anyhow!("out of memory"), size));
        assert!(advice(128).contains("for --batch-size 128, try a smaller one"), "{}", advice(128));
        assert!(!advice(1).contains("smaller"), "{}", advice(1));
    }

    #[test]
    fn the_statistics_of_the_allocator_are_left_out() {
        let error = anyhow!(
            "CUDA out of memory. Tried to allocate 2 MiB. Of the allocated memory 1 MiB is allocated by PyTorch"
        );
        let expected = "the device has too little memory for --batch-size 128, try a smaller one: CUDA out of memory. Tried to \
                        allocate 2 MiB.";
        assert_eq!(sentence(&of_batch_size(error, 128)), expected);
    }
}
