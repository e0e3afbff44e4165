//! What tasks need of one another: every name is a task's, and no way along the needs comes back to where it began.

use std::collections::BTreeMap;

use super::fault::Fault;
use super::file::File;
use super::read::{At, closest};

/// The needs of one task as written.
type Needs<'f> = &'f [At<String>];

/// A fault for each name that is no task's or that is there twice, and for each circle.
pub(super) fn judge(file: &File, faults: &mut Vec<Fault>) {
    let mut tasks: BTreeMap<&str, Needs<'_>> = BTreeMap::new();
    for (name, task) in file.task.iter().flat_map(|tasks| &tasks.value.0) {
        tasks.insert(&name.value, task.value.needs.as_ref().map_or(&[], |at| at.value.as_slice()));
    }
    let names: Vec<&str> = tasks.keys().copied().collect();
    for needs in tasks.values() {
        for (index, at) in needs.iter().enumerate() {
            if !tasks.contains_key(at.value.as_str()) {
                let hint = match closest(&at.value, &names) {
                    Some(close) => format!("did you mean `{close}`?"),
                    None => format!("the tasks are: {}", names.join(", ")),
                };
                faults.push(Fault::new(&at.span, format!("`needs` names {:?}, which is no task", at.value)).hint(hint));
            } else if let Some(first) = needs[..index].iter().find(|other| other.value == at.value) {
                let fault = Fault::new(&at.span, format!("`needs` names `{}` twice", at.value));
                faults.push(fault.also(&first.span, "first here").label("again").hint("once is enough"));
            }
        }
    }
    circles(&tasks, faults);
}

/// Where a search has got to with a task.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    OnTheWay,
    Done,
}

/// A fault for each circle, at the need that closes it. The way down is a list, not the call stack: a file may have
/// thousands of tasks.
fn circles(tasks: &BTreeMap<&str, Needs<'_>>, faults: &mut Vec<Fault>) {
    let mut seen: BTreeMap<&str, Seen> = BTreeMap::new();
    for start in tasks.keys() {
        if seen.contains_key(start) {
            continue;
        }
        // The way from `start` to here: each task, and which of its needs comes next.
        let mut way: Vec<(&str, usize)> = vec![(start, 0)];
        seen.insert(start, Seen::OnTheWay);
        while let Some((name, next)) = way.last_mut() {
            let Some(need) = tasks.get(name).and_then(|needs| needs.get(*next)) else {
                seen.insert(name, Seen::Done);
                way.pop();
                continue;
            };
            *next += 1;
            let needed = need.value.as_str();
            match seen.get(needed) {
                None if tasks.contains_key(needed) => {
                    seen.insert(needed, Seen::OnTheWay);
                    way.push((needed, 0));
                }
                Some(Seen::OnTheWay) => {
                    let circle = way.iter().map(|(name, _)| *name).skip_while(|name| *name != needed).chain([needed]);
                    let circle: Vec<&str> = circle.collect();
                    let fault = Fault::new(&need.span, format!("tasks need themselves: {}", circle.join(" → ")));
                    faults.push(fault.hint("take one of these needs away"));
                }
                _ => {}
            }
        }
    }
}
