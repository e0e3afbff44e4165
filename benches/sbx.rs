//! `cargo bench [-- NAME OPTIONS]`: `sbx bench NAME OPTIONS` of the optimised binary; without a name each of the four.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    // cargo says `--bench` to every bench.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let named = [words.as_slice()];
    let all = ["namespaces", "launch", "hash", "io"].map(|name| [name.to_owned()]);
    let benches: Vec<&[String]> =
        if words.is_empty() { all.iter().map(<[String; 1]>::as_slice).collect() } else { named.to_vec() };
    for words in benches {
        let status = Command::new(env!("CARGO_BIN_EXE_sbx")).arg("bench").args(words).status();
        if !status.is_ok_and(|status| status.success()) {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
