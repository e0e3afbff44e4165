//! `sbx enter`: one more command in a running sandbox.

use std::io::IsTerminal as _;

use super::{Context, End, args, ps, resolve, sandbox_error};
use crate::error::{Error, exit};
use crate::sandbox::Stdin;
use crate::sandbox::enter::{Wanted, enter};
use crate::sandbox::live::pick;

pub(super) fn run(context: &Context, typed: &args::Enter) -> Result<End, Error> {
    let mut argv = typed.words.iter().map(resolve::utf8).collect::<Result<Vec<_>, _>>()?;
    if argv.is_empty() {
        argv = resolve::SHELL.map(str::to_owned).to_vec();
    }
    let store = context.store()?;
    let running = ps::running(context)?;
    let running = pick(store.path(), &running, &typed.id)?;
    // A terminal would mix the two output streams and change their bytes: not when they go to a file or a pipe.
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let wanted = Wanted {
        argv: &argv,
        stdin: if terminal { Stdin::Terminal } else { Stdin::Relay },
        terminal_name: context.environment.terminal_name(),
    };
    let entered = enter(running, wanted).map_err(sandbox_error)?;
    if entered.run_over {
        context.ui.note(&format!("the run {} is over, and what had entered it with it", running.entry.id));
    }
    Ok(match entered.reraise {
        Some(signal) => End::Signal(signal),
        None => End::Code(u8::try_from(entered.code).unwrap_or(exit::FAILED)),
    })
}
