//! The earlier run that differs least.

use std::collections::HashMap;

use super::{Listings, Side, Tree, settings};
use crate::digest::Digest;

/// What [`closest`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closest {
    /// Which one of the earlier runs.
    pub index: usize,
    /// Its input tree, when it is another one than the asked run's and can be read.
    pub tree: Option<Tree>,
}

/// The one of the `earlier` runs (the newest first) that has the fewest differences from the asked one; of several, the
/// newest. Those whose inputs can't be compared any more come last.
///
/// `read` gives the input tree of the run of an index. It is called at most once for each tree, and for none that can't belong
/// to the closest run.
pub fn closest(
    asked: (&Side, Option<&Tree>),
    earlier: &[Side],
    listings: &Listings,
    read: &mut dyn FnMut(usize) -> Option<Tree>,
) -> Option<Closest> {
    let (asked, asked_tree) = asked;
    let mut leaders: HashMap<Option<Digest>, Ranked> = HashMap::new();
    for (index, side) in earlier.iter().enumerate() {
        let ranked = Ranked { count: settings(side, asked, listings).len(), index };
        let leader = leaders.entry(side.input_root()).or_insert(ranked);
        *leader = (*leader).min(ranked);
    }
    let root = asked.input_root();
    let mut best = leaders.remove(&root).map(|ranked| (ranked, None));
    let mut incomparable: Option<Ranked> = None;
    let mut others: Vec<_> = leaders.into_values().collect();
    others.sort_unstable();
    for ranked in others {
        // Another tree is one difference at least.
        let at_best = Ranked { count: ranked.count + 1, ..ranked };
        if best.as_ref().is_some_and(|(best, _)| *best <= at_best) {
            break;
        }
        let tree = asked_tree.and_then(|asked| Some((asked, read(ranked.index)?)));
        let Some((asked_tree, tree)) = tree else {
            incomparable = incomparable.or(Some(ranked));
            continue;
        };
        let unlike = tree.manifest.unlike(&asked_tree.manifest).count() + usize::from(tree.at != asked_tree.at);
        let ranked = Ranked { count: ranked.count + unlike, ..ranked };
        if best.as_ref().is_none_or(|(best, _)| ranked < *best) {
            best = Some((ranked, Some(tree)));
        }
    }
    let best = best.or(incomparable.map(|ranked| (ranked, None)));
    best.map(|(ranked, tree)| Closest { index: ranked.index, tree })
}

/// How many differences a run has; of equally many the newer run is the lesser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ranked {
    count: usize,
    index: usize,
}
