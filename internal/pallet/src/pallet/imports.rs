//! Layering: which files a pallet imports from the pallets that it requires.
//!
//! ```text
//!   import groups --evaluate on their source pallet--> target -> source --trace--> overlay below the pallet
//! ```
//!
//! Once one group is enabled, disabled groups take part as well: so it is in Forklift v0.8.0.

use std::collections::{BTreeMap, btree_map};
use std::io::{BufRead as _, BufReader};

use super::{Pallet, Requirements};
use crate::definition::{ImportGroup, Modifier, decode};
use crate::error::Error;
use crate::glob::{self, Find};
use crate::path;
use crate::tree::Tree;

const GROUP_SUFFIX: &str = ".imports.yml";
const FEATURE_SUFFIX: &str = ".feature.yml";
/// Deepest chain of pallets, and of features that use features.
const MAX_CHAIN: usize = 64;
/// Most files that a pallet may import.
const MAX_FILES: usize = 200_000;

/// Target -> source, both beginning with `/`.
type Mapping = BTreeMap<String, String>;

/// The pallet with all imports below its own files.
pub(super) fn merge(shallow: Pallet) -> Result<Pallet, Error> {
    merge_within(shallow, &mut Vec::new())
}

fn merge_within(mut shallow: Pallet, chain: &mut Vec<String>) -> Result<Pallet, Error> {
    let groups = load_groups(&shallow)?;
    if groups.iter().all(|(_, group)| group.disabled) {
        return Ok(shallow);
    }
    let identity = shallow.own.root().display().to_string();
    let looped = chain.contains(&identity);
    chain.push(identity);
    if looped || chain.len() > MAX_CHAIN {
        return Err(Error::ImportCycle { chain: chain.clone() });
    }
    let mut sources: BTreeMap<String, (Pallet, Vec<(String, ImportGroup)>)> = BTreeMap::new();
    for (name, group) in groups {
        let source = source_pallet(&shallow, &name).map_err(|e| in_group(&name, e))?;
        match sources.entry(source.identity()) {
            btree_map::Entry::Vacant(slot) => {
                slot.insert((source, vec![(name, group)]));
            }
            btree_map::Entry::Occupied(mut slot) => {
                // Two versions under one path: the one of the last group is used for all.
                slot.get_mut().0 = source;
                slot.get_mut().1.push((name, group));
            }
        }
    }
    let mut imports: BTreeMap<String, (Tree, String)> = BTreeMap::new();
    for (source, groups) in sources.into_values() {
        let first = groups.first().map_or("", |(name, _)| name).to_owned();
        let source = merge_within(source, chain).map_err(|e| match e {
            cycle @ Error::ImportCycle { .. } => cycle,
            e => in_group(&first, e),
        })?;
        for (target, from) in union(&source, &groups)? {
            add_import(&mut imports, &source, &target, &from).map_err(|e| in_group(&first, e))?;
        }
    }
    chain.pop();
    shallow.tree = Tree::overlay(shallow.own.clone(), imports);
    Ok(shallow)
}

fn in_group(group: &str, error: Error) -> Error {
    Error::ImportGroup { group: group.to_owned(), source: Box::new(error) }
}

fn load_groups(pallet: &Pallet) -> Result<Vec<(String, ImportGroup)>, Error> {
    let tree = pallet.own.sub(Requirements::PALLETS);
    let mut out = Vec::new();
    for file in glob::search(&tree, &format!("**/*{GROUP_SUFFIX}"), Find::Everything)? {
        let group = load_group(&tree, &file)?;
        let name = file.strip_suffix(GROUP_SUFFIX).unwrap_or(&file);
        out.push((name.to_owned(), group));
    }
    Ok(out)
}

fn load_group(tree: &Tree, name: &str) -> Result<ImportGroup, Error> {
    let path = tree.location(name);
    let bytes = tree.read(name).map_err(|e| Error::read(&path, e))?;
    Ok(decode(&bytes, &path, ImportGroup::decode)?)
}

/// The pallet that a group imports from: by a requirement, or the pallet itself for one of its own features.
fn source_pallet(pallet: &Pallet, group: &str) -> Result<Pallet, Error> {
    let own = path::join(["features", &format!("{group}{FEATURE_SUFFIX}")]);
    if pallet.own.status(&own).is_ok() {
        return Ok(pallet.clone());
    }
    let requirements = Requirements::new(&pallet.own, Requirements::PALLETS);
    let (path, version) = requirements.containing(group)?;
    Pallet::cached(&pallet.cache, &path, &version)
}

/// What all groups of one source pallet import together.
fn union(source: &Pallet, groups: &[(String, ImportGroup)]) -> Result<Mapping, Error> {
    let mut all = Mapping::new();
    for (name, group) in groups {
        let mapping = evaluate(&group.modifiers, source, 0).map_err(|e| in_group(name, e))?;
        for (target, from) in mapping {
            match all.get(&target) {
                Some(other) if *other != from => {
                    let message = format!("{target} is imported both from {other} and from {from}");
                    return Err(in_group(name, Error::Import(message)));
                }
                _ => {
                    all.insert(target, from);
                }
            }
        }
        for target in all.keys() {
            let wrong = if target.starts_with("/requirements/pallets") {
                "requirements on pallets can't be imported"
            } else if matches!(&*path::parent(target), "/" | ".") {
                "files in the pallet's root can't be imported"
            } else {
                continue;
            };
            return Err(in_group(name, Error::Import(format!("target {target}: {wrong}"))));
        }
    }
    Ok(all)
}

fn add_import(
    imports: &mut BTreeMap<String, (Tree, String)>,
    source: &Pallet,
    target: &str,
    from: &str,
) -> Result<(), Error> {
    let name = path::trim_prefix(from, "/");
    let unreadable = |e| Error::read(source.tree.location(name), e);
    let provider = if source.tree.has_imports() {
        source.tree.provider(name).map_err(unreadable)?
    } else {
        (source.tree.clone(), name.to_owned())
    };
    let target = path::trim_prefix(target, "/").to_owned();
    if imports.len() >= MAX_FILES {
        return Err(Error::Import(format!("more than {MAX_FILES} files are imported")));
    }
    match imports.entry(target) {
        btree_map::Entry::Vacant(slot) => {
            slot.insert(provider);
        }
        btree_map::Entry::Occupied(mut slot) => {
            let (old, new) = (location(slot.get()), location(&provider));
            if old == new {
                return Ok(());
            }
            if !same_file(slot.get(), &provider).map_err(unreadable)? {
                let message = format!(
                    "{} is imported with different content from {} and {}",
                    slot.key(),
                    old.display(),
                    new.display()
                );
                return Err(Error::Import(message));
            }
            if provider.0.root() < slot.get().0.root() {
                slot.insert(provider);
            }
        }
    }
    Ok(())
}

fn location((tree, name): &(Tree, String)) -> std::path::PathBuf {
    tree.location(name)
}

/// Equal in kind, size, permissions and content, links followed.
fn same_file(a: &(Tree, String), b: &(Tree, String)) -> std::io::Result<bool> {
    let (left, right) = (a.0.status(&a.1)?, b.0.status(&b.1)?);
    if (left.is_dir, left.size, left.mode) != (right.is_dir, right.size, right.mode) {
        return Ok(false);
    }
    let mut left = BufReader::new(a.0.open(&a.1)?.0);
    let mut right = BufReader::new(b.0.open(&b.1)?.0);
    loop {
        let (ours, theirs) = (left.fill_buf()?, right.fill_buf()?);
        let length = ours.len().min(theirs.len());
        if length == 0 {
            return Ok(ours.is_empty() && theirs.is_empty());
        }
        if ours[..length] != theirs[..length] {
            return Ok(false);
        }
        left.consume(length);
        right.consume(length);
    }
}

/// Runs modifiers in order on a mapping that starts empty.
fn evaluate(modifiers: &[Modifier], pallet: &Pallet, depth: usize) -> Result<Mapping, Error> {
    if depth > MAX_CHAIN {
        return Err(Error::Import("features use each other in a circle".into()));
    }
    let mut mapping = Mapping::new();
    for modifier in modifiers {
        match &*modifier.kind {
            "add" => add(&mut mapping, modifier, pallet)?,
            "remove" => remove(&mut mapping, modifier)?,
            "add-feature" | "remove-feature" => {
                let feature = load_feature(pallet, &modifier.source)?;
                let files = evaluate(&feature.modifiers, pallet, depth + 1)?;
                if modifier.kind == "add-feature" {
                    mapping.extend(files);
                } else {
                    mapping.retain(|target, _| !files.contains_key(target));
                }
            }
            other => {
                let message = format!("unknown type of modifier {other:?}");
                return Err(Error::Import(message));
            }
        }
        if mapping.len() > MAX_FILES {
            return Err(Error::Import(format!("more than {MAX_FILES} files are imported")));
        }
    }
    Ok(mapping)
}

fn add(mapping: &mut Mapping, modifier: &Modifier, pallet: &Pallet) -> Result<(), Error> {
    let (source, target) = (&*modifier.source, &*modifier.target);
    for matcher in &modifier.only_matching_any {
        let pattern = match &**matcher {
            "" => source.to_owned(),
            matcher => path::join([source, matcher]),
        };
        let pattern = path::trim_prefix(&pattern, "/");
        let below = path::join([pattern, "**"]);
        let mut files = Vec::new();
        if !pattern.is_empty() {
            files = glob::search(&pallet.tree, pattern, Find::Files)?;
        }
        files.extend(glob::search(&pallet.tree, &below, Find::Files)?);
        let prefix = path::join(["/", source]);
        for file in files {
            let file = path::join(["/", &file]);
            let to = path::join(["/", target, path::trim_prefix(&file, &prefix)]);
            mapping.insert(to, file);
        }
    }
    Ok(())
}

fn remove(mapping: &mut Mapping, modifier: &Modifier) -> Result<(), Error> {
    for matcher in &modifier.only_matching_any {
        let tail = match &**matcher {
            "" => "**".to_owned(),
            matcher => path::join([matcher, "**"]),
        };
        let pattern = path::join([&modifier.target, &tail]);
        let below = path::join([&pattern, "**"]);
        let mut dropped = Vec::new();
        for target in mapping.keys() {
            if glob::matches(&pattern, target)? || glob::matches(&below, target)? {
                dropped.push(target.clone());
            }
        }
        for target in dropped {
            mapping.remove(&target);
        }
    }
    Ok(())
}

/// A feature of the source pallet, or one of a pallet which that one requires.
fn load_feature(pallet: &Pallet, name: &str) -> Result<ImportGroup, Error> {
    let file = |name: &str| format!("{name}{FEATURE_SUFFIX}");
    let own = load_group(&pallet.tree.sub("features"), &file(name));
    let Err(own) = own else {
        return own;
    };
    let requirements = Requirements::new(&pallet.tree, Requirements::PALLETS);
    let Ok((path, version)) = requirements.containing(name) else {
        return Err(Error::Import(format!("there is no feature {name:?}: {own}")));
    };
    let owner = Pallet::cached(&pallet.cache, &path, &version)?;
    let prefix = format!("{}/", path::join([&owner.identity(), "features"]));
    let rest = path::trim_prefix(name, &prefix);
    load_group(&owner.tree.sub("features"), &file(rest))
}
