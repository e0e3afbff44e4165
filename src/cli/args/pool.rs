//! What was typed after `sbx pool`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::Json;

/// What `sbx pool` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  sbx pool start           keep 8 ready, until nobody has asked for half an hour
  sbx pool status          how many are ready, handed out and made
  sbx pool warm 32         keep 32 ready from now on
  sbx pool stop            end it")]
pub struct Pool {
    /// What to do.
    #[command(subcommand)]
    pub command: PoolCommand,
}

/// What can be done with a pool.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum PoolCommand {
    /// Start the pool of this user, unless one is running
    Start(PoolStart),
    /// End it
    Stop,
    /// Say how it is; the exit code is 1 when there is none
    Status(Json),
    /// Keep N ready from now on, and wait until they are
    Warm {
        /// How many
        #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(crate::pool::protocol::MOST)))]
        size: u32,
    },
}

/// What `sbx pool start` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PoolStart {
    /// How many to keep ready
    #[arg(long, value_name = "N", default_value_t = 8,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(crate::pool::protocol::MOST)))]
    pub size: u32,
    /// End when nobody has asked for this long: a duration, or `never`
    #[arg(long, value_name = "TIME", default_value = "30m")]
    pub idle: Idle,
    /// Stay in the foreground, as a service manager wants it; a socket that it hands over (LISTEN_FDS) is used
    #[arg(long)]
    pub foreground: bool,
}

/// After how long a pool that nobody asks ends; never without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idle(pub Option<Duration>);

impl std::str::FromStr for Idle {
    type Err = humantime::DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "never" { Ok(Self(None)) } else { humantime::parse_duration(text).map(|time| Self(Some(time))) }
    }
}
