//! Arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    tch_mnist::libtorch::allocator::keep_freed_memory();
    tch_mnist::cli::main()
}
