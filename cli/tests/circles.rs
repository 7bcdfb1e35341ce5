//! A test that no files of a crate import one another in a circle.
//!
//! An import counts for the file in which the imported item stands: a module that only re-exports what its children define
//! does not depend on them, and whoever imports from it depends on the children. Code under `#[cfg(test)]` does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, File, Item, ItemMod, ItemUse, UseTree, Visibility};

/// The roots of the crates that are looked at.
const ROOTS: [&str; 16] = [
    "benches/src/lib.rs",
    "cli/src/main.rs",
    "fuzz/src/lib.rs",
    "fuzz/machines/src/lib.rs",
    "fuzz/report/src/lib.rs",
    "texts/src/lib.rs",
    "vmcs-hw/src/lib.rs",
    "vmcs-hw/case/src/lib.rs",
    "vmcs-hw/debian/src/lib.rs",
    "vmcs-hw/driver/src/lib.rs",
    "vmcs-hw/kvm/src/lib.rs",
    "vmcs-hw/probe/src/main.rs",
    "vmcs-hw/wire/src/lib.rs",
    "vmcs-model/profiles/src/lib.rs",
    "web/src/lib.rs",
    "web/page/src/lib.rs",
];

/// A file by the names of its module and of those around it; the root of the crate has none.
type Module = Vec<String>;

/// The files of a crate.
struct Crate {
    files: BTreeMap<Module, File>,
    /// Where a name that a module re-exports leads, as the words of a path from the root of the crate.
    exports: BTreeMap<(Module, String), Module>,
}

/// Whether an item is there for tests only.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// Every path that a tree of imports names, with the name that it has here.
fn paths(tree: &UseTree, before: &[String], into: &mut Vec<(Vec<String>, String)>) {
    let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
    match tree {
        UseTree::Path(path) => paths(&path.tree, &with(&path.ident), into),
        UseTree::Name(name) if name.ident == "self" => {
            into.push((before.to_vec(), before.last().cloned().unwrap_or_default()));
        }
        UseTree::Name(name) => into.push((with(&name.ident), name.ident.to_string())),
        UseTree::Rename(name) => into.push((with(&name.ident), name.rename.to_string())),
        UseTree::Glob(_) => into.push((before.to_vec(), "*".to_owned())),
        UseTree::Group(group) => group.items.iter().for_each(|tree| paths(tree, before, into)),
    }
}

impl Crate {
    fn read(root: &Path) -> Self {
        let mut all = Self { files: BTreeMap::new(), exports: BTreeMap::new() };
        all.read_file(root, root.parent().expect("a directory"), Vec::new());
        let mut exports = BTreeMap::new();
        for (module, file) in &all.files {
            for item in &file.items {
                let Item::Use(ItemUse { vis, tree, .. }) = item else { continue };
                let mut found = Vec::new();
                if !matches!(vis, Visibility::Inherited) {
                    paths(tree, &[], &mut found);
                }
                for (path, name) in found {
                    exports.extend(all.absolute(module, &path).map(|path| ((module.clone(), name), path)));
                }
            }
        }
        all.exports = exports;
        all
    }

    /// Reads a file and those of its modules, which lie in `directory`.
    fn read_file(&mut self, path: &Path, directory: &Path, module: Module) {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        file.items.retain(|item| !matches!(item, Item::Mod(item) if is_for_tests(&item.attrs)));
        for item in &file.items {
            let Item::Mod(ItemMod { ident, content: None, .. }) = item else { continue };
            let below = directory.join(ident.to_string());
            let beside = directory.join(format!("{ident}.rs"));
            let path = if beside.exists() { beside } else { below.join("mod.rs") };
            self.read_file(&path, &below, [&module[..], &[ident.to_string()]].concat());
        }
        self.files.insert(module, file);
    }

    /// A path that stands in `module`, as words from the root of the crate; `None` if it leads out of the crate.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Vec<String>> {
        let mut base = module.clone();
        let mut rest = path;
        match rest.first()?.as_str() {
            "crate" => {
                base.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|word| word == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            child if self.files.contains_key(&[&base[..], &[child.to_owned()]].concat()) => {}
            _ => return None,
        }
        Some([&base[..], rest].concat())
    }

    /// The file in which the item of a path from the root stands.
    fn file_of(&self, path: &[String]) -> Module {
        let mut path = path.to_vec();
        // A re-export can lead to another one; more than a few are none.
        for _ in 0..8 {
            let known = (0..=path.len()).rev().find(|length| self.files.contains_key(&path[..*length]));
            let length = known.expect("the root is a file");
            let module = path[..length].to_vec();
            let Some(name) = path.get(length) else { return module };
            match self.exports.get(&(module.clone(), name.clone())) {
                Some(leads_to) if *leads_to != path[..=length] => path = [leads_to, &path[length + 1..]].concat(),
                _ => return module,
            }
        }
        panic!("{path:?} is re-exported in a circle")
    }

    /// The other files that a file imports from.
    fn imports(&self, module: &Module) -> BTreeSet<Module> {
        let mut found = Paths::default();
        found.visit_file(&self.files[module]);
        let paths = found.0.iter().filter_map(|path| self.absolute(module, path));
        paths.map(|path| self.file_of(&path)).filter(|file| file != module).collect()
    }
}

/// The paths that a file names, but for its re-exports.
#[derive(Default)]
struct Paths(Vec<Vec<String>>);

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if matches!(item.vis, Visibility::Inherited) && !is_for_tests(&item.attrs) {
            let mut found = Vec::new();
            paths(&item.tree, &[], &mut found);
            self.0.extend(found.into_iter().map(|(path, _)| path));
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        // The paths of a module within the file are seen from there; such modules import nothing from other files.
        if !is_for_tests(&item.attrs) {
            item.attrs.iter().for_each(|attribute| self.visit_attribute(attribute));
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        // One word alone is imported, or stands in the file.
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {
        // `pub(super)` imports nothing.
    }
}

/// A way from `start` back to it along `imports`, if there is one.
fn way_back<'a>(imports: &'a BTreeMap<Module, BTreeSet<Module>>, start: &'a Module) -> Option<Vec<&'a Module>> {
    let mut ways = vec![vec![start]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        for next in &imports[way[way.len() - 1]] {
            if next == start {
                return Some(way);
            }
            if seen.insert(next) {
                ways.push([&way[..], &[next]].concat());
            }
        }
    }
    None
}

#[test]
fn no_files_import_one_another_in_a_circle() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut circles = String::new();
    for root in ROOTS {
        let all = Crate::read(&workspace.join(root));
        let imports = all.files.keys().map(|module| (module.clone(), all.imports(module))).collect();
        for module in all.files.keys() {
            // The way is told once, from the first of its files.
            if let Some(way) = way_back(&imports, module)
                && way.iter().min() == Some(&module)
            {
                let names: Vec<_> = way.iter().map(|module| format!("crate::{}", module.join("::"))).collect();
                circles += &format!("{root}: {} -> {}\n", names.join(" -> "), names[0]);
            }
        }
    }
    assert!(circles.is_empty(), "\n{circles}");
}
