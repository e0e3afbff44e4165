//! Takes the unwinder into the binary: the shared one asks the processor what it can at every start, each time a trap in a
//! virtual machine (0.1 ms together), besides what loading it takes.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is_gnu = std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|environment| environment == "gnu");
    if is_gnu {
        // Whole, for what refers to it stands later on the linker's line.
        println!("cargo:rustc-link-lib=static:+whole-archive,-bundle=gcc_eh");
    }
}
