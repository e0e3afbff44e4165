//! The `sbx` binary: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    sbx::cli::main()
}
