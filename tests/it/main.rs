//! The integration tests: one crate, one module per area, every test through the `sbx` binary.

#[macro_use]
mod support;

mod again;
mod bench;
mod cache;
mod cache_care;
mod cli;
mod clients;
mod commands;
mod config;
mod faults;
mod fetch;
mod figures;
mod garbage;
mod host;
mod isolation;
mod kills;
mod layers;
mod life;
mod limits;
mod live;
mod many;
mod names;
mod outputs;
mod pool;
mod publish;
mod readme;
mod refused;
mod rootfs;
mod rules;
mod servers;
mod storm;
mod threats;
mod threats_net;
mod toolchains;
mod traffic;
mod why;
mod world;
