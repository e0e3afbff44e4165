//! The integration tests: one crate, one module per area, every test through the `sbx` binary.

#[macro_use]
mod support;

mod again;
mod cli;
mod commands;
mod config;
mod isolation;
mod layers;
mod life;
mod live;
mod many;
mod outputs;
mod pool;
mod readme;
mod rootfs;
mod threats;
