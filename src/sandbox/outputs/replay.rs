//! From the store into the staging: what an earlier run of the same action made.

use super::copy::{BUFFER, Found, refusal, set_mode};
use super::operation::is_unchanged;
use super::staging::{StagedEntry, Staging};
use super::{OutputError, Request};
use crate::action::result::Known;
use crate::digest::Digest;
use crate::record::Output;
use crate::store::Store;

/// Copies what `known` holds and the project lacks; every byte is hashed on its way.
pub(super) fn fetch(
    request: &Request<'_>,
    known: &Known,
    store: &Store,
    staging: &mut Staging,
) -> Result<Found, OutputError> {
    let mut found = Found::default();
    let mut buffer = vec![0; BUFFER];
    found.present.extend(known.unchanged.iter().cloned());
    for output in &known.outputs {
        found.present.insert(output.path.clone());
        if let Some(reason) = refusal(&output.path, request.protected) {
            return Err(OutputError::Refused { path: output.path.clone(), reason });
        }
        if output.kind != Output::DIRECTORY && is_unchanged(&staging.directories.project, output) {
            found.in_place.push(output.clone());
            continue;
        }
        let slot = match (&output.target, content(output)) {
            (Some(target), _) => Some(staging.create_link(target)?),
            (None, Some(digest)) => {
                let (slot, mut to) = staging.create_file()?;
                let place = |source| OutputError::Place { path: output.path.clone(), source };
                if !store.copy_blob(&digest, output.executable, &mut to, &mut buffer).map_err(place)? {
                    let (path, executable) = (output.path.clone(), output.executable);
                    return Err(OutputError::Damaged { path, digest, executable });
                }
                set_mode(&to, output.executable).map_err(place)?;
                Some(slot)
            }
            (None, None) => None,
        };
        found.staged.push(StagedEntry { output: output.clone(), slot });
    }
    Ok(found)
}

fn content(output: &Output) -> Option<Digest> {
    output.digest.as_ref().and_then(|digest| digest.parse().ok())
}
