//! What was typed after `sbx cache`.

use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::Json;

/// What `sbx cache` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  sbx cache stats                   how much there is of what
  sbx cache gc --max-size 5GiB      leave 5 GiB of it, what was used last
  sbx cache gc --max-age 30d        remove what was not used for a month
  sbx cache verify --repair         look for damage, and remove it
  sbx cache clear                   remove all that can be computed again")]
pub struct Cache {
    /// What to do.
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// What can be done with the store.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum CacheCommand {
    /// Say what the store holds, by kind, and how often results were replayed
    Stats(Json),
    /// Remove what was not used for the longest time
    Gc(CacheGc),
    /// Look whether everything is what it should be
    Verify(CacheVerify),
    /// Remove everything that can be computed or fetched again; records of runs stay
    Clear(CacheClear),
}

/// What `sbx cache gc` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct CacheGc {
    /// Leave at most so much, such as 5GiB [default: the budget]
    #[arg(long, value_name = "SIZE")]
    pub max_size: Option<Bytes>,
    /// Remove whatever was not used for this long, such as 30d
    #[arg(long, value_name = "TIME")]
    pub max_age: Option<Age>,
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What `sbx cache verify` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct CacheVerify {
    /// Remove what is damaged, so that it is computed again
    #[arg(long)]
    pub repair: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What `sbx cache clear` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct CacheClear {
    /// Remove the kept scratch directories too, and what `run --keep` left
    #[arg(long)]
    pub scratch: bool,
}

/// A size in bytes; `0B` is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match crate::config::user::size(text) {
            Ok(size) => Ok(Self(size)),
            Err(_) if text == "0B" || text == "0" => Ok(Self(0)),
            Err(bad) => Err(format!("it {}: {}", bad.why, bad.hint.unwrap_or_default())),
        }
    }
}

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age(pub Duration);

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        humantime::parse_duration(text).map(Self).map_err(|_| "write it as `12h`, `30d` or `8weeks`".to_owned())
    }
}
