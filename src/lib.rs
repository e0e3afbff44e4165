//! `sbx` is a declarative build sandbox for Linux.
//!
//! A project keeps one `sandbox.toml` that declares the inputs, the read-only mounts and the network a command may
//! use. The library turns that file and a command line into a [`plan::Plan`] (plain data), and the plan into a
//! running, supervised process tree that sees only what was declared.
//!
//! The modules form layers; each imports only from the ones below it (`ARCHITECTURE.md` states the rule, a test
//! holds it):
//!
//! ```text
//! cli → ui, bench → sandbox, doctor → net, pool → store, plan, inputs, action, record → config::model → path, digest
//!                    └────────────────────────► sys (the only door to the kernel)
//! ```

pub mod action;
pub mod bench;
pub mod cli;
pub mod config;
pub mod digest;
pub mod doctor;
pub mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod inputs;
pub mod net;
pub mod path;
pub mod plan;
pub mod pool;
pub mod record;
pub mod sandbox;
pub mod store;
pub mod sys;
pub mod ui;
