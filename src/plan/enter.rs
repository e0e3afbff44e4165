//! What `sbx enter` does: nothing is made, a process joins what a run has made and begins as the run's command did.

use std::collections::BTreeMap;

use super::calls::Calls;
use super::skeleton::Skeleton;
use super::step::{Landlock, Limit};
use super::{Plan, PlanError, env, process};
use crate::path::GuestPath;

/// What the plan has to know of the sandbox and of the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Where the run's command started.
    pub directory: GuestPath,
    /// The environment that it was started with.
    pub environment: BTreeMap<String, String>,
    /// The limits that it began with.
    pub limits: Vec<Limit>,
    /// What it may call besides the usual.
    pub calls: Calls,
    /// What is to be given up by Landlock.
    pub landlock: Option<Landlock>,
    /// The caller's own hard limits of the same resources, in the same order.
    pub hard_limits: Vec<u64>,
    /// For a terminal: what the caller's is called, if that is known.
    pub terminal_name: Option<String>,
}

/// The plan of a process that enters; `terminal` says whether it gets a terminal of the sandbox's own.
///
/// # Errors
/// When an argument can't be one.
pub fn build(standing: Standing, argv: &[String], terminal: bool) -> Result<Plan, PlanError> {
    let Standing { directory, mut environment, mut limits, calls, landlock, hard_limits, terminal_name } = standing;
    if argv.iter().any(|argument| argument.contains('\0')) {
        return Err(PlanError::Nul);
    }
    if let Some(name) = terminal_name.filter(|_| terminal) {
        environment.insert("TERM".to_owned(), name);
    }
    // Nobody may raise a hard limit: where the caller's is lower than the command's, it stays.
    for (limit, most) in limits.iter_mut().zip(hard_limits) {
        limit.hard = limit.hard.min(most);
        limit.soft = limit.soft.min(most);
    }
    let path = environment.get("PATH").map_or("", String::as_str);
    let program = argv.first().map_or("", String::as_str);
    Ok(Plan {
        inherited_limits: BTreeMap::new(),
        candidates: env::candidates(program, path),
        argv: argv.to_vec(),
        setup: process::confine(calls).into(),
        start: process::start(&directory, &limits, landlock, terminal),
        environment,
        directory,
        namespaces: Vec::new(),
        layers: Vec::new(),
        time_limit: None,
        group: None,
        disk: None,
        outputs: Vec::new(),
        skeleton: Skeleton::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::step::{Resource, Step};

    fn standing() -> Standing {
        let limit = |resource, soft, hard| Limit { resource, soft, hard };
        Standing {
            directory: GuestPath::new("/src/sub").unwrap(),
            environment: [("PATH".to_owned(), "/a:/b".to_owned()), ("TERM".to_owned(), "set".to_owned())].into(),
            limits: vec![limit(Resource::CoreSize, 0, 0), limit(Resource::OpenFiles, 1024, 4096)],
            calls: Calls { nested: true, ..Calls::default() },
            landlock: Some(Landlock { own_sockets: true }),
            hard_limits: vec![u64::MAX, 512],
            terminal_name: Some("vt100".to_owned()),
        }
    }

    #[test]
    fn whoever_enters_gives_up_what_the_command_has_given_up() {
        let plan = build(standing(), &["make".to_owned()], false).unwrap();
        assert_eq!(plan.setup, process::confine(Calls { nested: true, ..Calls::default() }));
        assert!(plan.start.contains(&Step::Landlock(Landlock { own_sockets: true })));
        assert!(plan.setup.contains(&Step::DropCapabilities) && plan.setup.contains(&Step::ForbidNewPrivileges));
        assert!(plan.start.contains(&Step::EnterDirectory(GuestPath::new("/src/sub").unwrap())));
        assert_eq!((plan.start.first(), plan.start.last()), (Some(&Step::BeginSession), Some(&Step::Execute)));
        assert_eq!(plan.candidates, ["/a/make", "/b/make"]);
        assert!(plan.namespaces.is_empty() && plan.layers.is_empty());
    }

    #[test]
    fn limits_are_the_command_s_or_the_caller_s_lower_ones() {
        let limits = build(standing(), &["x".to_owned()], false).unwrap().limits();
        assert_eq!((limits[0].soft, limits[0].hard), (0, 0));
        assert_eq!((limits[1].soft, limits[1].hard), (512, 512));
    }

    #[test]
    fn the_terminal_s_name_is_the_caller_s_where_there_is_a_terminal() {
        let term = |terminal| build(standing(), &["x".to_owned()], terminal).unwrap().environment["TERM"].clone();
        assert_eq!((term(true), term(false)), ("vt100".to_owned(), "set".to_owned()));
        assert_eq!(build(standing(), &["a\0b".to_owned()], false), Err(PlanError::Nul));
    }
}
