//! From the text of a `sandbox.toml` to its checked meaning.
pub mod model;
