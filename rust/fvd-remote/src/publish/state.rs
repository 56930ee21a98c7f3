//! How far an upload is, so that the same command goes on after a kill.
//!
//! The file is in the user's folder for such things, not next to the source, which may be read-only, and not in the
//! store: to look there would need a permission that writing does not. It has no credentials in it.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::Environment;
use crate::manifest::{Hash, hash, hex};

const VERSION: u32 = 1;

/// An upload that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    version: u32,
    /// The name of the object.
    pub(super) target: String,
    /// Of the template, in hexadecimal digits.
    pub(super) identity: String,
    /// Bytes of a part.
    pub(super) part: u64,
    /// What the store calls the upload.
    pub(super) upload: String,
    /// What the store calls each part that it has.
    pub(super) parts: BTreeMap<usize, String>,
    /// Whether the store has the whole object.
    pub(super) is_whole: bool,
}

impl State {
    pub(super) fn new(target: &str, identity: &Hash, part: u64, upload: String) -> Self {
        Self {
            version: VERSION,
            target: target.to_owned(),
            identity: hex(identity),
            part,
            upload,
            parts: BTreeMap::new(),
            is_whole: false,
        }
    }

    pub(super) fn is_of(&self, identity: &Hash) -> bool {
        self.identity == hex(identity)
    }
}

/// Where the state of one target is.
pub(super) struct StateFile {
    target: String,
    /// None: there is no place for it.
    path: Option<PathBuf>,
}

impl StateFile {
    pub(super) fn new(target: &str, environment: &Environment) -> Self {
        let set = |name| {
            environment
                .get(name)
                .filter(|folder| folder.starts_with('/'))
                .map(PathBuf::from)
        };
        let folder = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
        let file = format!("{}.json", hex(&hash(target.as_bytes())));
        Self {
            target: target.to_owned(),
            path: folder.map(|folder| folder.join("fvd/uploads").join(file)),
        }
    }

    /// None: nothing was begun, or it is not known how far it is.
    pub(super) fn read(&self) -> Option<State> {
        let text = fs::read(self.path.as_ref()?).ok()?;
        let state: State = serde_json::from_slice(&text).ok()?;
        let is_usable = state.version == VERSION && state.target == self.target && state.part > 0;
        is_usable.then_some(state)
    }

    /// A failure costs nothing but that a later call begins anew.
    pub(super) fn write(&self, state: &State) {
        let Some(path) = &self.path else { return };
        let write = || {
            let folder = path.parent().unwrap_or(path);
            fs::create_dir_all(folder)?;
            let new = path.with_extension("new");
            let mut file = File::create(&new)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(&serde_json::to_vec(state)?)?;
            fs::rename(new, path)
        };
        if let Err(error) = write() {
            tracing::debug!(path = %path.display(), %error, "how far the upload is could not be written down");
        }
    }

    pub(super) fn remove(&self) {
        if let Some(path) = &self.path {
            // Without it, the next call finds the template in the store.
            _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &std::path::Path, target: &str) -> StateFile {
        let folder = folder.to_str().expect("text");
        StateFile::new(target, &Environment::of([("XDG_STATE_HOME", folder)]))
    }

    #[test]
    fn what_was_written_is_read_for_the_same_target_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let one = file(folder.path(), "s3://images/a");
        assert_eq!(one.read(), None);
        let mut state = State::new("s3://images/a", &[7; 32], 8 << 20, "id".to_owned());
        state.parts.insert(3, "tag".to_owned());
        one.write(&state);
        assert_eq!(one.read(), Some(state.clone()));
        assert!(state.is_of(&[7; 32]) && !state.is_of(&[8; 32]));
        assert_eq!(file(folder.path(), "s3://images/b").read(), None);
        one.remove();
        assert_eq!(one.read(), None);
    }

    #[test]
    fn a_damaged_state_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let one = file(folder.path(), "s3://images/a");
        one.write(&State::new("s3://images/a", &[7; 32], 8 << 20, "id".to_owned()));
        let path = one.path.as_ref().expect("a place");
        let text = fs::read_to_string(path).expect("written");
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("images/a", "images/b"),
            ("}", ""),
            ("8388608", "0"),
        ] {
            fs::write(path, text.replace(from, to)).expect("written");
            assert_eq!(one.read(), None, "{from} -> {to}");
        }
    }
}
