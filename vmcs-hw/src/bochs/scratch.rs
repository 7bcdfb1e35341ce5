//! Temporary directories. A program removes its own when it ends, and the next program removes those of programs that were
//! killed.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// What the names of the directories begin with.
const PREFIX: &str = "vmcs-bochs-";
/// The file in each that its owner holds locked.
const LOCK: &str = "owner";

/// A temporary directory. It is deleted with the value.
#[derive(Debug)]
pub(super) struct Scratch {
    directory: tempfile::TempDir,
    /// Locked until the system closes it.
    _lock: File,
}

impl Scratch {
    /// A new directory. Those whose owners are gone are deleted.
    pub(super) fn new() -> io::Result<Self> {
        Self::within(&std::env::temp_dir())
    }

    fn within(parent: &Path) -> io::Result<Self> {
        remove_abandoned(parent);
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        // It gets its name when it is locked: nobody finds it otherwise.
        let unlocked = directory.path().join("owner.new");
        let lock = File::create(&unlocked)?;
        lock.lock()?;
        fs::rename(unlocked, directory.path().join(LOCK))?;
        Ok(Self { directory, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Deletes directories whose lock nobody holds. What cannot be deleted, such as another user's, stays.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        let is_abandoned = File::open(entry.path().join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if is_abandoned {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_program_left_is_removed_and_nothing_else() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let left = |name: &str, lock: Option<&str>| {
            let directory = parent.path().join(name);
            fs::create_dir(&directory).expect("a directory");
            fs::write(directory.join("disk.img"), "x").expect("a file");
            if let Some(lock) = lock {
                fs::write(directory.join(lock), "").expect("a file");
            }
            directory
        };
        let abandoned = left("vmcs-bochs-1", Some(LOCK));
        let beginning = left("vmcs-bochs-2", None);
        let foreign = left("other", Some(LOCK));
        let in_use = Scratch::within(parent.path()).expect("a directory");
        let another = Scratch::within(parent.path()).expect("a directory");
        assert!(!abandoned.exists());
        assert!(beginning.exists() && foreign.exists() && in_use.path().exists());
        let path = another.path().to_owned();
        drop(another);
        assert!(!path.exists());
    }
}
