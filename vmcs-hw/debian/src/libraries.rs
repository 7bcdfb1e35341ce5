//! The shared libraries that programs need, and the packages that hold them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where Debian's packages put libraries, below `/` or the directory that they are unpacked to.
pub const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Sonames that `programs`, which lie below `root`, need and that no library below `root` has.
pub(super) fn missing(root: &Path, programs: Vec<PathBuf>) -> io::Result<Vec<String>> {
    let libraries = root.join(LIBRARIES);
    let mut missing = Vec::new();
    for file in programs {
        let mut loader = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        loader.arg("--library-path").arg(&libraries).arg("--list").arg(file);
        let output = loader.env_remove("LD_PRELOAD").env_remove("LD_LIBRARY_PATH").output()?;
        let lines = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        missing.extend(lines.lines().filter_map(|line| missing_in(line, &libraries)));
    }
    missing.sort();
    missing.dedup();
    Ok(missing)
}

/// The soname that a line of `ld.so --list` reports as not found, or as found among the host's libraries, where the
/// loader looks last.
fn missing_in(line: &str, libraries: &Path) -> Option<String> {
    if let Some((_, rest)) = line.split_once("error while loading shared libraries: ") {
        return rest.split_once(": cannot open").map(|(name, _)| name.to_owned());
    }
    let (name, place) = line.trim().split_once(" => ")?;
    // The loader itself stands there with a path.
    let is_there = name.contains('/') || Path::new(place).starts_with(libraries);
    (!is_there).then(|| name.to_owned())
}

/// Which of the packages `known`, without those that `have` holds, to unpack for libraries of those names.
///
/// Debian names a package after its library, more or less: libgio-2.0.so.0 lies in libglib2.0-0t64, libz.so.1 in zlib1g.
/// So for each library it is the packages whose names share most of its letters and have the number behind `.so.`, and
/// when that leads nowhere all libraries among `known`, which has what the packages depend on.
pub(super) fn packages_of(
    sonames: &[String],
    known: &BTreeSet<String>,
    have: &BTreeMap<String, String>,
) -> Vec<String> {
    let libraries = || known.iter().filter(|name| is_library(name) && !have.contains_key(*name));
    let mut wanted = BTreeSet::new();
    for soname in sonames {
        let (soname, version) = (letters(soname), soname.rsplit_once(".so.").map_or("", |(_, version)| version));
        let shared = |name: &String| {
            let letters = letters(name);
            let fits = soname.starts_with(&letters) && name.contains(version);
            if fits { letters.len() } else { 0 }
        };
        let most = known.iter().filter(|name| is_library(name)).map(shared).max().unwrap_or(0);
        wanted.extend(libraries().filter(|name| most > 0 && shared(name) == most).cloned());
    }
    if wanted.is_empty() { libraries().cloned().collect() } else { wanted.into_iter().collect() }
}

/// The letters with which the name of a library or package begins, in lower case.
fn letters(name: &str) -> String {
    let name = name.to_lowercase();
    let name = name.strip_prefix("zlib").map_or(name.clone(), |rest| format!("libz{rest}"));
    name.split(|c: char| c.is_ascii_digit() || "-_.".contains(c)).next().unwrap_or_default().to_owned()
}

fn is_library(package: &str) -> bool {
    package.starts_with("lib") || package.starts_with("zlib")
}

/// Moves what packages from before the merge of / and /usr have in /lib and the like to below usr, where it is looked
/// for.
pub(super) fn merge_usr(root: &Path) -> io::Result<()> {
    for name in ["bin", "lib", "lib64", "sbin"] {
        let directory = root.join(name);
        if directory.is_dir() && !directory.is_symlink() {
            merge(&directory, &root.join("usr").join(name))?;
        }
    }
    Ok(())
}

fn merge(from: &Path, to: &Path) -> io::Result<()> {
    if !to.is_dir() || !from.is_dir() || from.is_symlink() {
        fs::create_dir_all(to.parent().unwrap_or(to))?;
        return fs::rename(from, to);
    }
    let entries: Vec<PathBuf> =
        fs::read_dir(from)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    for entry in entries {
        let name = entry.file_name().unwrap_or_default().to_owned();
        merge(&entry, &to.join(name))?;
    }
    fs::remove_dir(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_that_may_hold_a_library() {
        let known =
            ["libc6", "libcairo2", "libcairo-gobject2", "libcap2", "libgcc-s1", "libglib2.0-0t64", "libstdc++6"];
        let known = known.into_iter().chain(["libbrotli1", "libx11-6", "libx11-data", "libz3-4", "zlib1g"]);
        let known: BTreeSet<_> = known.map(str::to_owned).collect();
        let mut have = BTreeMap::new();
        let mut packages = |soname: &str| {
            have.insert("libc6".to_owned(), String::new());
            packages_of(&[soname.to_owned()], &known, &have)
        };
        assert_eq!(packages("libcairo-gobject.so.2"), ["libcairo-gobject2", "libcairo2"]);
        assert_eq!(packages("libcap.so.2"), ["libcap2"]);
        assert_eq!(packages("libgcc_s.so.1"), ["libgcc-s1"]);
        assert_eq!(packages("libstdc++.so.6"), ["libstdc++6"]);
        assert_eq!(packages("libbrotlidec.so.1"), ["libbrotli1"]);
        assert_eq!(packages("libX11.so.6"), ["libx11-6"]);
        assert_eq!(packages("libz.so.1"), ["zlib1g"]);
        // Without any: all that is left.
        assert_eq!(packages("plugin.so").len(), known.len() - 1);
    }

    #[test]
    fn what_the_loader_lists() {
        let libraries = Path::new("/r/usr/lib");
        let missing = |line| missing_in(line, libraries);
        assert_eq!(missing("\tlibm.so.6 => /r/usr/lib/libm.so.6 (0x00007f0000000000)"), None);
        assert_eq!(missing("\tlibm.so.6 => /usr/lib/libm.so.6 (0x00007f0000000000)").as_deref(), Some("libm.so.6"));
        assert_eq!(missing("\tlibm.so.6 => not found").as_deref(), Some("libm.so.6"));
        assert_eq!(missing("\t/lib64/ld-linux-x86-64.so.2 => ./ld.so (0x00007f0000000000)"), None);
        assert_eq!(missing("\tlinux-vdso.so.1 (0x00007f0000000000)"), None);
        let error = "x.so: error while loading shared libraries: libpulse.so.0: cannot open shared object file: No such \
                     file or directory";
        assert_eq!(missing(error).as_deref(), Some("libpulse.so.0"));
    }

    #[test]
    fn directories_are_merged_into_usr() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let at = |path: &str| root.path().join(path);
        for (directory, file) in [("lib/x", "a"), ("usr/lib/x", "b"), ("lib64", "c")] {
            fs::create_dir_all(at(directory)).expect("a directory");
            fs::write(at(directory).join(file), file).expect("a file");
        }
        std::os::unix::fs::symlink("x/a", at("lib/link")).expect("a link");
        merge_usr(root.path()).expect("they are merged");
        for file in ["usr/lib/x/a", "usr/lib/x/b", "usr/lib64/c", "usr/lib/link"] {
            assert!(at(file).is_file(), "{file}");
        }
        assert!(!at("lib").exists() && !at("lib64").exists());
    }
}
