//! What there is to say of a run: gathered from the records and the store.

use std::collections::BTreeSet;

use crate::action::policy::{ContentIdentity, Rootfs};
use crate::action::why::closest::{Closest, closest};
use crate::action::why::{Difference, Listings, Side, differences};
use crate::record::{Cache, Record};
use crate::store::Store;
use crate::store::past::{Gone, Part};

/// Why a run was computed, or that it was not.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    /// The run.
    pub(super) record: &'a Record,
    /// The answer.
    pub(super) verdict: Verdict<'a>,
    /// What can't be read any more of this and of earlier runs.
    pub(super) gone: Vec<(&'a Record, Gone)>,
}

#[derive(Debug)]
pub(super) enum Verdict<'a> {
    /// It was not computed.
    Hit,
    /// No earlier run of the task, or of the command, is recorded.
    First,
    /// An earlier run has the same action.
    Same { run: &'a Record, lost: Lost<'a> },
    /// This is the closest earlier run.
    Differs { run: &'a Record, differences: Vec<Difference> },
    /// There are earlier runs, and nothing that they could be compared by.
    Incomparable,
}

/// Why there was no result of an earlier run of the same action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost<'a> {
    /// It was not kept, for this reason.
    NotKept(&'a str),
    /// The run failed with this exit code.
    Failed(i32),
    /// It was kept, and was removed or damaged since.
    Removed,
}

impl<'a> Answer<'a> {
    /// The answer for `record`; `earlier` are the older runs of the project, the newest first.
    pub(super) fn find(store: &Store, record: &'a Record, earlier: &'a [Record]) -> Self {
        let mut gone = Vec::new();
        let verdict = verdict(store, record, earlier, &mut gone);
        Self { record, verdict, gone }
    }
}

fn verdict<'a>(
    store: &Store,
    record: &'a Record,
    earlier: &'a [Record],
    gone: &mut Vec<(&'a Record, Gone)>,
) -> Verdict<'a> {
    if record.cache.state == Cache::HIT {
        return Verdict::Hit;
    }
    // Without a task, only the same command line is the same thing.
    let is_alike =
        |other: &&Record| other.task == record.task && (record.task.is_some() || other.command == record.command);
    let earlier: Vec<_> = earlier.iter().filter(is_alike).collect();
    if earlier.is_empty() {
        return Verdict::First;
    }
    let same = || earlier.iter().copied().filter(|other| other.action == record.action);
    // One that kept its result says more than a newer one that could not.
    if let Some(run) = same().find(|run| Lost::of(run) == Lost::Removed).or_else(|| same().next()) {
        return Verdict::Same { run, lost: Lost::of(run) };
    }
    let asked = match store.side(&record.action) {
        Ok(side) => side,
        Err(part) => {
            gone.push((record, part));
            return Verdict::Incomparable;
        }
    };
    let (mut runs, mut sides) = (Vec::new(), Vec::new());
    for run in earlier {
        match store.side(&run.action) {
            Ok(side) => {
                runs.push(run);
                sides.push(side);
            }
            Err(part) => gone.push((run, part)),
        }
    }
    let listings = listings(store, (record, &asked), runs.iter().copied().zip(&sides), gone);
    let mut tree = None;
    if sides.iter().any(|side| side.input_root() != asked.input_root()) {
        tree = store.tree_of(&asked);
        if tree.is_none() {
            gone.push((record, inputs_gone(record)));
        }
    }
    let found = closest((&asked, tree.as_ref()), &sides, &listings, &mut |index| {
        let tree = store.tree_of(&sides[index]);
        if tree.is_none() {
            gone.push((runs[index], inputs_gone(runs[index])));
        }
        tree
    });
    match found {
        None => Verdict::Incomparable,
        Some(Closest { index, tree: other }) => {
            let before = (&sides[index], other.as_ref());
            let differences = differences(before, (&asked, tree.as_ref()), &listings);
            Verdict::Differs { run: runs[index], differences }
        }
    }
}

impl<'a> Lost<'a> {
    fn of(run: &'a Record) -> Self {
        match &run.cache.reason {
            Some(reason) => Self::NotKept(reason),
            None if run.exit.code != 0 => Self::Failed(run.exit.code),
            None => Self::Removed,
        }
    }
}

fn inputs_gone(run: &Record) -> Gone {
    Gone { what: Part::Inputs, digest: run.input_root.clone() }
}

/// The lists of packages that the policies name, unless all name the same.
fn listings<'a, 'b>(
    store: &Store,
    asked: (&'a Record, &'b Side),
    earlier: impl Iterator<Item = (&'a Record, &'b Side)>,
    gone: &mut Vec<(&'a Record, Gone)>,
) -> Listings {
    let mut named: Vec<(&Record, &str)> = Vec::new();
    for (run, side) in std::iter::once(asked).chain(earlier) {
        let Rootfs::Host(directories) = &side.policy.rootfs else { continue };
        let digests = directories.values().filter_map(|identity| match identity {
            ContentIdentity::Packages(digest) => Some(digest.as_str()),
            _ => None,
        });
        named.extend(digests.collect::<BTreeSet<_>>().into_iter().map(|digest| (run, digest)));
    }
    let distinct: BTreeSet<_> = named.iter().map(|(_, digest)| *digest).collect();
    let mut listings = Listings::new();
    if distinct.len() < 2 {
        return listings;
    }
    for (run, digest) in named {
        if listings.contains_key(digest) || gone.iter().any(|(_, gone)| gone.digest == digest) {
            continue;
        }
        match store.listing(digest) {
            Some(listing) => drop(listings.insert(digest.to_owned(), listing)),
            None => gone.push((run, Gone { what: Part::Packages, digest: digest.to_owned() })),
        }
    }
    listings
}
