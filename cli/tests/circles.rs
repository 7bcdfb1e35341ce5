//! No files import one another in a circle: what a file builds on can be read without reading the file first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree};

/// The crates that are looked at, by their first files.
const CRATES: [&str; 8] = [
    "cli/src/main.rs",
    "fuzz/src/lib.rs",
    "fuzz/machines/src/lib.rs",
    "fuzz/report/src/lib.rs",
    "texts/src/lib.rs",
    "vmcs-hw/debian/src/lib.rs",
    "vmcs-hw/driver/src/lib.rs",
    "vmcs-hw/src/lib.rs",
];

/// The names of a path, such as `["crate", "oracle", "Judgement"]`.
type Names = Vec<String>;

/// A file, which is a module.
#[derive(Default)]
struct Module {
    /// Modules that are files of their own.
    children: BTreeSet<String>,
    /// Items that the file defines.
    items: BTreeSet<String>,
    /// What `use` makes known in it, by name.
    imports: BTreeMap<String, Names>,
    /// Every path that stands in it.
    paths: BTreeSet<Names>,
    /// Modules within the file that the reader is in.
    depth: usize,
}

impl Module {
    /// Notes a path; within a module of the file `super` is less far away.
    fn note(&mut self, mut names: Names) {
        if self.depth > 0 && names.first().is_some_and(|first| first == "super") {
            names[0] = "self".to_owned();
        }
        self.paths.insert(names);
    }

    fn import(&mut self, tree: &UseTree, mut before: Names) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.import(&path.tree, before);
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, before.clone())),
            UseTree::Glob(_) => self.note(before),
            UseTree::Name(name) if name.ident == "self" => {
                let known = before.last().cloned().unwrap_or_default();
                self.imports.insert(known, before.clone());
                self.note(before);
            }
            UseTree::Name(name) => self.imported(before, name.ident.to_string(), name.ident.to_string()),
            UseTree::Rename(name) => self.imported(before, name.ident.to_string(), name.rename.to_string()),
        }
    }

    fn imported(&mut self, mut names: Names, item: String, known: String) {
        names.push(item);
        self.imports.insert(known, names.clone());
        self.note(names);
    }
}

/// Whether an item is there for tests only.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|what| what == "test")
    })
}

impl<'ast> Visit<'ast> for Module {
    fn visit_item(&mut self, item: &'ast Item) {
        let name = match item {
            Item::Const(item) => Some(&item.ident),
            Item::Enum(item) => Some(&item.ident),
            Item::Fn(item) => Some(&item.sig.ident),
            Item::Static(item) => Some(&item.ident),
            Item::Struct(item) => Some(&item.ident),
            Item::Trait(item) => Some(&item.ident),
            Item::Type(item) => Some(&item.ident),
            Item::Macro(item) => item.ident.as_ref(),
            _ => None,
        };
        self.items.extend(name.map(ToString::to_string));
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if is_for_tests(&item.attrs) {
            return;
        }
        match &item.content {
            None => {
                self.children.insert(item.ident.to_string());
            }
            Some((_, items)) => {
                self.items.insert(item.ident.to_string());
                self.depth += 1;
                items.iter().for_each(|item| self.visit_item(item));
                self.depth -= 1;
            }
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.import(&item.tree, Names::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        // A name alone is known by an import; `pub(super)` is no import.
        if path.segments.len() > 1 {
            self.note(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }
}

/// The files of a crate, by the names of their modules.
struct Crate(BTreeMap<Names, Module>);

impl Crate {
    fn read(root: &Path) -> Self {
        let mut files = Self(BTreeMap::new());
        files.add(Names::new(), root.to_owned());
        files
    }

    fn add(&mut self, names: Names, file: PathBuf) {
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut module = Module::default();
        module.visit_file(&syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display())));
        let stands_for_its_folder = names.is_empty() || file.ends_with("mod.rs");
        let below = if stands_for_its_folder { file.with_file_name("") } else { file.with_extension("") };
        let children = module.children.clone();
        self.0.insert(names.clone(), module);
        for child in children {
            let names = names.iter().cloned().chain([child.clone()]).collect();
            let file = below.join(&child).with_extension("rs");
            self.add(names, if file.exists() { file } else { below.join(child).join("mod.rs") });
        }
    }

    /// The file that defines what `path` means in the file `here`, `None` for what is of another crate.
    fn definition(&self, here: &[String], path: &[String], depth: usize) -> Option<Names> {
        let (first, mut rest) = path.split_first().filter(|_| depth < 16)?;
        let module = &self.0[here];
        let mut at = match &first[..] {
            "crate" => Names::new(),
            "self" => here.to_vec(),
            "super" => here.split_last()?.1.to_vec(),
            child if module.children.contains(child) => [here, &[child.to_owned()]].concat(),
            name => {
                let import = module.imports.get(name).filter(|import| import[..] != path[..1])?;
                return self.definition(here, &[&import[..], rest].concat(), depth + 1);
            }
        };
        while let Some((name, further)) = rest.split_first() {
            let module = &self.0[&at];
            if name == "super" {
                at.pop()?;
            } else if module.children.contains(name) {
                at.push(name.clone());
            } else {
                // Who imports it from there means the file that it comes from.
                let import = module.imports.get(name).filter(|_| !module.items.contains(name));
                let origin =
                    import.and_then(|import| self.definition(&at, &[&import[..], further].concat(), depth + 1));
                return Some(origin.unwrap_or(at));
            }
            rest = further;
        }
        Some(at)
    }

    /// The files that each file imports from.
    fn imports(&self) -> BTreeMap<&Names, BTreeSet<Names>> {
        let of = |(here, module): (&Names, &Module)| {
            let defined = module.paths.iter().filter_map(|path| self.definition(here, path, 0));
            defined.filter(|there| there != here).collect()
        };
        self.0.iter().map(|file| (file.0, of(file))).collect()
    }

    /// The files that are in a circle, each with those that it imports from in the circle.
    fn circles(&self) -> Vec<String> {
        let imports = self.imports();
        let reached = |from: &Names| {
            let mut reached = BTreeSet::new();
            let mut open = vec![from.clone()];
            while let Some(file) = open.pop() {
                open.extend(imports[&file].iter().filter(|next| reached.insert((*next).clone())).cloned());
            }
            reached
        };
        let reached: BTreeMap<_, _> = self.0.keys().map(|file| (file, reached(file))).collect();
        let back = |from: &Names, to: &Names| reached[to].contains(from);
        let in_circles = self.0.keys().filter(|file| reached[file].contains(*file));
        let name = |file: &Names| if file.is_empty() { "the crate's first file".to_owned() } else { file.join("::") };
        let text = |file: &Names| {
            let there: Vec<_> = imports[file].iter().filter(|to| back(file, to)).map(name).collect();
            format!("{} imports from {}", name(file), there.join(", "))
        };
        in_circles.map(text).collect()
    }
}

#[test]
fn no_files_import_one_another_in_a_circle() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the command is a member of the workspace");
    for root in CRATES {
        let files = Crate::read(&workspace.join(root));
        let edges: usize = files.imports().values().map(BTreeSet::len).sum();
        assert!(edges > 0, "{root}: the imports are not understood");
        assert_eq!(files.circles(), [""; 0], "{root}");
    }
}

#[test]
fn a_circle_is_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).expect("it is written");
    write("lib.rs", "mod a;\nmod b;\nmod c;\npub use b::B;");
    write("a.rs", "use crate::B;\npub struct A(B);");
    write("b.rs", "use super::a;\npub struct B(Option<Box<a::A>>);");
    write(
        "c.rs",
        "mod inner { pub(super) use super::C; }\npub struct C;\n#[cfg(test)]\nmod tests { use crate::a::A; }",
    );
    let files = Crate::read(&directory.path().join("lib.rs"));
    assert_eq!(files.circles(), ["a imports from b", "b imports from a"]);
}
