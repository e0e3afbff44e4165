//! `sbx pool`: the pool of ready net namespaces.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::args::{Pool, PoolCommand, PoolStart};
use super::{Context, End, output};
use crate::error::{Error, exit};
use crate::pool::place::Place;
use crate::pool::protocol::Status;
use crate::pool::server::{Server, Settings, Start};
use crate::pool::{PoolError, client};
use crate::sys::{clone, process};

/// The version of the JSON.
const VERSION: u32 = 1;
/// The first descriptor that a service manager hands over (sd_listen_fds(3)).
const FIRST_LISTENING: i32 = 3;
/// How long `warm` waits.
const WARM_TIME: Duration = Duration::from_secs(10);

pub(super) fn run(context: &Context, typed: &Pool) -> Result<End, Error> {
    match &typed.command {
        PoolCommand::Start(start) => self::start(context, start),
        PoolCommand::Stop => stop(context),
        PoolCommand::Status(json) => status(context, json.json),
        PoolCommand::Warm { size } => warm(context, *size),
    }
}

fn place(context: &Context) -> Result<Place, Error> {
    Ok(context.pool_place(&context.cache_directory()?))
}

fn start(context: &Context, typed: &PoolStart) -> Result<End, Error> {
    let inherited = match context.environment.listening(std::process::id()) {
        0 => None,
        1 => Some(process::take(FIRST_LISTENING).map_err(|_| PoolError::Activation)?),
        _ => return Err(PoolError::Activation.into()),
    };
    // A process that stays keeps nothing of its caller's.
    process::close_from(FIRST_LISTENING as u32 + u32::from(inherited.is_some()), None).map_err(PoolError::Kernel)?;
    // The socket may be in the cache directory, which is the store's to make.
    let store = context.store()?;
    let settings = Settings { size: typed.size, idle: typed.idle.0 };
    let server = match Server::start(&context.pool_place(store.path()), settings, inherited)? {
        Start::Ready(server) => server,
        Start::Running(status) => {
            context.ui.note(&format!("the pool is running already: {}", summary(&status)));
            if status.wanted != typed.size {
                let size = typed.size;
                context
                    .ui
                    .note(&format!("it keeps {}, not {size}: `sbx pool warm {size}` changes that", status.wanted));
            }
            return Ok(End::Code(exit::OK));
        }
    };
    let status = server.status();
    if typed.foreground {
        say_room(context, &status);
        context.ui.note(&format!("the pool is running: {}", summary(&status)));
        server.run()?;
        return Ok(End::Code(exit::OK));
    }
    match clone::fork().map_err(PoolError::Kernel)? {
        0 => {
            let ended = process::leave_caller().map_err(PoolError::Kernel).and_then(|()| server.run());
            clone::exit_now(if ended.is_ok() { exit::OK } else { exit::FAILED }.into())
        }
        pid => {
            say_room(context, &status);
            let status = Status { pid: pid.unsigned_abs(), ..status };
            context.ui.note(&format!("the pool is running: {}", summary(&status)));
            Ok(End::Code(exit::OK))
        }
    }
}

fn stop(context: &Context) -> Result<End, Error> {
    match client::stop(&place(context)?) {
        Ok(()) => context.ui.note("the pool has ended"),
        Err(PoolError::None) => context.ui.note("no pool is running"),
        Err(error) => return Err(error.into()),
    }
    Ok(End::Code(exit::OK))
}

fn warm(context: &Context, size: u32) -> Result<End, Error> {
    let place = place(context)?;
    let mut status = client::warm(&place, size)?;
    say_room(context, &status);
    let deadline = Instant::now() + WARM_TIME;
    while status.ready < status.size && status.failure.is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
        status = client::status(&place)?;
    }
    if let Some(failure) = status.failure {
        return Err(PoolError::Refused { source: failure }.into());
    }
    context.ui.note(&summary(&status));
    Ok(End::Code(exit::OK))
}

/// Says what keeps the pool small, if something does.
fn say_room(context: &Context, status: &Status) {
    if let Some(limit) = status.limit {
        let Status { size, wanted, .. } = status;
        context.ui.warn(&format!("the pool keeps {size}, not {wanted}: {limit}; {}", limit.remedy()));
    }
}

fn summary(status: &Status) -> String {
    format!("{} of {} net namespaces are ready (process {})", status.ready, status.size, status.pid)
}

/// A running pool, or none.
#[derive(Debug, Serialize)]
struct Shown {
    version: u32,
    running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<ShownPool>,
}

#[derive(Debug, Serialize)]
struct ShownPool {
    pid: u32,
    size: u32,
    wanted: u32,
    limit: Option<String>,
    ready: u32,
    handed_out: u64,
    missed: u64,
    made: u64,
    failed: u64,
    refused: u64,
    up_s: u64,
    idle_s: u64,
    idle_limit_s: Option<u64>,
    failure: Option<String>,
}

impl ShownPool {
    fn of(status: &Status) -> Self {
        Self {
            pid: status.pid,
            size: status.size,
            wanted: status.wanted,
            limit: status.limit.map(|limit| limit.to_string()),
            ready: status.ready,
            handed_out: status.handed_out,
            missed: status.missed,
            made: status.made,
            failed: status.failed,
            refused: status.refused,
            up_s: status.up,
            idle_s: status.idle,
            idle_limit_s: status.idle_limit,
            failure: status.failure.map(|error| error.to_string()),
        }
    }
}

fn status(context: &Context, json: bool) -> Result<End, Error> {
    let status = match client::status(&place(context)?) {
        Ok(status) => Some(status),
        Err(PoolError::None) => None,
        Err(error) => return Err(error.into()),
    };
    if json {
        output::json(&Shown { version: VERSION, running: status.is_some(), pool: status.as_ref().map(ShownPool::of) })?;
    } else {
        output::text(&status.as_ref().map_or_else(|| "no pool is running\n".to_owned(), text))?;
    }
    Ok(End::Code(if status.is_some() { exit::OK } else { exit::FOUND }))
}

fn text(status: &Status) -> String {
    let time = |seconds| humantime::format_duration(Duration::from_secs(seconds)).to_string();
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10}  {value}");
    };
    row("process", format!("{}, running for {}", status.pid, time(status.up)));
    row("ready", format!("{} of {}", status.ready, status.size));
    if let Some(limit) = status.limit {
        row("limited", format!("{} were asked for, {limit}", status.wanted));
    }
    row("handed out", format!("{}, {} more were asked for when none was ready", status.handed_out, status.missed));
    row("made", format!("{}, {} attempts failed", status.made, status.failed));
    if let Some(failure) = status.failure {
        row("failing", format!("{failure}; it tries again"));
    }
    if status.refused > 0 {
        row("refused", format!("{} connections of others", status.refused));
    }
    row(
        "idle",
        match status.idle_limit {
            None => format!("for {}; it stays", time(status.idle)),
            Some(limit) => format!("for {}; it ends after {}", time(status.idle), time(limit)),
        },
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::protocol::Limit;
    use crate::sys::errno::{Call, CallError, Errno};

    #[test]
    fn a_pool_is_described_in_a_few_lines() {
        let well = Status {
            pid: 4711,
            size: 8,
            wanted: 8,
            ready: 7,
            limit: None,
            handed_out: 20,
            missed: 0,
            made: 27,
            failed: 0,
            refused: 0,
            up: 90,
            idle: 3,
            idle_limit: Some(1800),
            failure: None,
        };
        let ill = Status {
            size: 4,
            limit: Some(Limit::NetNamespaces(8)),
            failed: 2,
            refused: 1,
            idle_limit: None,
            failure: Some(CallError { call: Call::clone3, errno: Errno::ENOSPC }),
            ..well
        };
        insta::assert_snapshot!([well, ill].map(|status| text(&status)).join("\n"));
    }
}
