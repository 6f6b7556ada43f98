//! Shards by pattern.

use std::{path::PathBuf, sync::Arc};

use convnext_data::ShardSet;

use crate::{Failure, Outcome};

/// The files of a glob, in the order of their names.
pub(crate) fn expand(pattern: &str) -> Outcome<Vec<PathBuf>> {
    let what = || format!("`{pattern}` is no pattern of files");
    let paths = glob::glob(pattern).map_err(|error| Failure::because(what(), error))?;
    let paths = paths.collect::<Result<Vec<_>, _>>().map_err(|error| Failure::because(what(), error))?;
    match paths.is_empty() {
        true => Err(Failure::failed(format!(
            "no file matches `{pattern}`; quote the pattern, or make shards with `convnext pack`"
        ))),
        false => Ok(paths),
    }
}

/// Opens the shards of a glob as one set.
pub(crate) fn open(pattern: &str) -> Outcome<Arc<ShardSet>> {
    open_set(pattern).map(Arc::new)
}

/// As [`open`], for who changes its labels.
pub(crate) fn open_set(pattern: &str) -> Outcome<ShardSet> {
    Ok(ShardSet::open(&expand(pattern)?)?)
}
