//! Names to addresses, by the host's resolver, which blocks: on a few threads that come when there is something to look up
//! and go when there is nothing more.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::sys::epoll::Bell;
use crate::sys::thread;

use super::slab::Key;

/// How many names are looked up at the same time.
const THREADS: usize = 16;

/// What a look-up found.
#[derive(Debug)]
pub(super) struct Answer {
    /// Those who asked.
    pub(super) askers: Vec<Key>,
    /// The addresses, in the order to try them.
    pub(super) addresses: io::Result<Vec<IpAddr>>,
}

/// How a name is looked up.
pub(super) type LookUp = fn(&str) -> io::Result<Vec<IpAddr>>;

/// Asks the host's resolver.
pub(super) fn by_host(name: &str) -> io::Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    for address in (name, 0).to_socket_addrs()?.map(|address: SocketAddr| address.ip().to_canonical()) {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    Ok(found)
}

#[derive(Debug, Default)]
struct Work {
    waiting: VecDeque<Arc<str>>,
    done: Vec<(Arc<str>, io::Result<Vec<IpAddr>>)>,
    threads: usize,
}

#[derive(Debug, Default)]
struct Shared(Mutex<Work>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        // Nobody panics with it, and each change is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Look-ups under way.
#[derive(Debug)]
pub(super) struct Resolver {
    shared: Arc<Shared>,
    bell: Arc<Bell>,
    askers: HashMap<Arc<str>, Vec<Key>>,
    look_up: LookUp,
}

impl Resolver {
    /// Answers ring `bell`.
    pub(super) fn new(bell: Arc<Bell>, look_up: LookUp) -> Self {
        Self { shared: Arc::default(), bell, askers: HashMap::new(), look_up }
    }

    /// Looks a name up for `asker`; those who ask for a name that is being looked up share its answer.
    ///
    /// # Errors
    /// When there is no thread to do it.
    pub(super) fn ask(&mut self, name: &Arc<str>, asker: Key) -> io::Result<()> {
        if let Some(askers) = self.askers.get_mut(name) {
            askers.push(asker);
            return Ok(());
        }
        let mut work = self.shared.lock();
        if work.threads < THREADS {
            // The threads own neither the bell nor, while they look up, anything of the relay's: one that hangs in a
            // look-up when the relay ends holds memory alone.
            let (shared, bell, look_up) = (Arc::downgrade(&self.shared), Arc::downgrade(&self.bell), self.look_up);
            match thread::spawn("sbx-resolve", move || run(&shared, &bell, look_up)) {
                Ok(_) => work.threads += 1,
                Err(error) if work.threads == 0 => return Err(error),
                Err(_) => {}
            }
        }
        work.waiting.push_back(Arc::clone(name));
        drop(work);
        self.askers.insert(Arc::clone(name), vec![asker]);
        Ok(())
    }

    /// What was found since the last time.
    pub(super) fn answers(&mut self) -> Vec<Answer> {
        let done = std::mem::take(&mut self.shared.lock().done);
        let answer = |(name, addresses)| Answer { askers: self.askers.remove(&name).unwrap_or_default(), addresses };
        done.into_iter().map(answer).collect()
    }
}

fn run(shared: &Weak<Shared>, bell: &Weak<Bell>, look_up: LookUp) {
    loop {
        let Some(held) = shared.upgrade() else { return };
        let mut work = held.lock();
        let Some(name) = work.waiting.pop_front() else {
            work.threads -= 1;
            return;
        };
        drop(work);
        drop(held);
        let found = look_up(&name);
        let Some(held) = shared.upgrade() else { return };
        held.lock().done.push((name, found));
        if let Some(bell) = bell.upgrade() {
            bell.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::slab::Slab;
    use super::*;
    use crate::sys::epoll::{Epoll, Watch};

    fn answers(resolver: &mut Resolver, bell: &Bell, count: usize) -> Vec<Answer> {
        let epoll = Epoll::new().unwrap();
        epoll.add(bell, 0, Watch::Readable).unwrap();
        let (mut found, mut ready) = (Vec::new(), Vec::new());
        while found.len() < count {
            epoll.wait(None, &mut ready).unwrap();
            bell.hear();
            found.extend(resolver.answers());
        }
        found
    }

    #[test]
    fn many_names_are_looked_up_by_few_threads() {
        let bell = Arc::new(Bell::new().unwrap());
        let mut resolver = Resolver::new(Arc::clone(&bell), |name| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            Ok(vec![[127, 0, 0, name.parse().unwrap()].into()])
        });
        let mut slab = Slab::<()>::new();
        for index in 0..100 {
            let name: Arc<str> = index.to_string().into();
            resolver.ask(&name, slab.reserve()).unwrap();
            resolver.ask(&name, slab.reserve()).unwrap();
            assert!(resolver.shared.lock().threads <= THREADS);
        }
        let answers = answers(&mut resolver, &bell, 100);
        assert!(answers.iter().all(|answer| answer.askers.len() == 2 && answer.addresses.is_ok()));
    }

    #[test]
    fn the_host_knows_itself() {
        let found = by_host("localhost").unwrap();
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty());
    }
}
