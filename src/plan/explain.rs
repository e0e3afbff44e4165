//! The plan in words, for `sbx plan`.

use std::fmt::Write as _;

use super::group::BinarySize;
use super::{Layer, Plan};

/// The plan as text, a line a step.
pub fn explain(plan: &Plan) -> String {
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| writeln!(text, "{words}").expect("writing to a string");
    line(format_args!("command      {:?}", plan.argv));
    line(format_args!("directory    {}", plan.directory));
    let names: Vec<_> = plan.namespaces.iter().map(|namespace| namespace.name()).collect();
    line(format_args!("namespaces   {}", names.join(" ")));
    if let Some(time) = plan.time_limit {
        line(format_args!("time limit   {time:?}"));
    }
    if let Some(group) = &plan.group {
        line(format_args!("limits       {} ({})", group.bounds, group.way));
    }
    if let Some(disk) = plan.disk {
        line(format_args!("disk limit   {}", BinarySize(disk)));
    }
    for output in &plan.outputs {
        line(format_args!("output       {output}"));
    }
    line(format_args!("\nenvironment"));
    for (name, value) in &plan.environment {
        line(format_args!("  {name}={value}"));
    }
    line(format_args!("\nroot, topmost layer first"));
    line(format_args!("  scratch (written by the command, dropped)"));
    for layer in &plan.layers {
        match layer {
            Layer::Inputs { at } => line(format_args!("  inputs at {at}")),
            Layer::Skeleton => line(format_args!("  skeleton (/etc, /dev, /tmp, home, mount points)")),
            Layer::Rootfs => line(format_args!("  rootfs")),
        }
    }
    line(format_args!("\nPID 1"));
    for (index, step) in plan.setup.iter().enumerate() {
        line(format_args!("  {index:2}  {}", step.purpose()));
    }
    line(format_args!("\nthe command's process"));
    for (index, step) in plan.start.iter().enumerate() {
        line(format_args!("  {index:2}  {}", step.purpose()));
    }
    text
}
