//! Pipes that are lent while bytes are under way.

use std::io;

use crate::sys::splice::Pipe;

/// How many empty pipes are kept.
const KEPT: usize = 32;

/// Empty pipes.
#[derive(Debug, Default)]
pub(super) struct Pipes(Vec<Pipe>);

impl Pipes {
    /// An empty pipe.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub(super) fn lend(&mut self) -> io::Result<Pipe> {
        self.0.pop().map_or_else(Pipe::new, Ok)
    }

    /// Takes an empty pipe back.
    pub(super) fn give_back(&mut self, pipe: Pipe) {
        if self.0.len() < KEPT {
            self.0.push(pipe);
        }
    }
}
