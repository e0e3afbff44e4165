//! Where programs are measured: a directory of the bench's own, with a project, a store and a home that nothing else uses.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::BenchError;

/// The search path of everything that is measured.
pub const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// What a bench of programs is given.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The sbx to be measured.
    pub sbx: PathBuf,
    /// The directory in which the bench makes its own.
    pub place: PathBuf,
    /// The command that is launched.
    pub command: Vec<OsString>,
}

/// A directory of the bench's own. It goes when dropped.
#[derive(Debug)]
pub struct World {
    base: TempDir,
    /// For who takes no long path.
    short: TempDir,
    sbx: PathBuf,
}

impl World {
    /// A new one.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new(setup: &Setup) -> Result<Self, BenchError> {
        fs::create_dir_all(&setup.place).map_err(BenchError::io(format!("make {}", setup.place.display())))?;
        let base = tempfile::Builder::new().prefix("bench-").tempdir_in(&setup.place);
        let base = base.map_err(BenchError::io(format!("make a directory in {}", setup.place.display())))?;
        let short = tempfile::Builder::new().prefix("sbx-b-").tempdir();
        let short = short.map_err(BenchError::io("make a temporary directory"))?;
        // What a linker wrote is in the page cache page by page, and each start pays for that, up to 7 % of a launch. A copy
        // lies there in larger pieces, as what was installed or read from the disk does.
        let sbx = base.path().join("sbx");
        fs::copy(&setup.sbx, &sbx).map_err(BenchError::io(format!("copy {}", setup.sbx.display())))?;
        let world = Self { base, short, sbx };
        // Here ends the reach of ignore rules of a repository that this may lie in.
        for name in [".git", "home", "cache"] {
            world.directory(name)?;
        }
        Ok(world)
    }

    /// The path of `name` in it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.base.path().join(name)
    }

    /// A directory whose path is as short as can be.
    pub fn short(&self) -> &Path {
        self.short.path()
    }

    /// A directory in it, with its parents, for nobody else.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn directory(&self, name: impl AsRef<Path>) -> Result<PathBuf, BenchError> {
        let path = self.path(name);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(BenchError::io(format!("make {}", path.display()))).map(|()| path)
    }

    /// A project in it with this `sandbox.toml`.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn project(&self, name: &str, config: &str) -> Result<PathBuf, BenchError> {
        let project = self.directory(name)?;
        let file = project.join("sandbox.toml");
        fs::write(&file, config).map_err(BenchError::io(format!("write {}", file.display())))?;
        Ok(project)
    }

    /// A program with an environment of a few known variables.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", PATH).env("HOME", self.path("home"));
        command
    }

    /// sbx in a project, with the world's own store and no pool.
    pub fn sbx(&self, project: &Path, args: &[&str]) -> Command {
        let mut command = self.command(&self.sbx);
        command.current_dir(project).args(args).env("SBX_CACHE_DIR", self.path("cache"));
        command
    }
}

/// git in a directory, without anybody's configuration.
pub fn git(world: &World, directory: &Path, args: &[&str]) -> Command {
    let mut command = world.command("git");
    command
        .current_dir(directory)
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null");
    command
}

/// The program `name` on [`PATH`], or itself when it is a path.
pub fn program(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return name.is_file().then(|| name.to_owned());
    }
    std::env::split_paths(PATH).map(|dir| dir.join(name)).find(|path| path.is_file())
}
