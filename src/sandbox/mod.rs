//! Launching, supervising and collecting.

pub mod outputs;
