//! The `sbx` binary: parse, run, exit code.

fn main() {}
