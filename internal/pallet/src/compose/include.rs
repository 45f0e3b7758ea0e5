//! `include`: other Compose projects whose resources become part of this one.

use std::path::PathBuf;

use super::env_file;
use super::error::Fault;
use super::loader::{Loader, Scope, absolute, directory_of, read};
use super::rebase::rebase;
use super::value::{Data, Map, Path, Value};
use crate::path;

/// Longest chain of files that include each other.
const MAX_CHAIN: usize = 32;

/// Replaces a document's `include` by what it names.
pub(super) fn apply(loader: &mut Loader, model: &mut Value, scope: &Scope) -> Result<(), Fault> {
    let Some(include) = model.as_map_mut().and_then(|m| m.remove("include")) else {
        return Ok(());
    };
    if include.is_null() {
        return Ok(());
    }
    let path = Path::ROOT.key("include");
    if scope.including.len() > MAX_CHAIN {
        return Err(Fault::new(include.at, &path, "files include each other too deeply"));
    }
    for item in include.expect_list(&path)? {
        let item = Item::parse(item, &path.element())?;
        let included = item.load(loader, scope)?;
        add(model, included, &item)?;
    }
    Ok(())
}

/// One entry of `include`.
struct Item {
    value: Value,
    files: Vec<String>,
    env_files: Vec<String>,
    directory: String,
}

impl Item {
    fn parse(value: Value, path: &Path<'_>) -> Result<Self, Fault> {
        let (mut files, mut env_files, mut directory) = (Vec::new(), Vec::new(), String::new());
        match &value.data {
            Data::Text(file) => files.push(file.clone()),
            Data::Map(map) => {
                files = texts(map.get("path"), &path.key("path"))?;
                env_files = texts(map.get("env_file"), &path.key("env_file"))?;
                if let Some(given) = map.get("project_directory").filter(|d| !d.is_null()) {
                    directory = match given.data {
                        Data::Int(number) => number.to_string(),
                        _ => given.expect_text(&path.key("project_directory"))?.to_owned(),
                    };
                }
            }
            _ => return Err(value.wrong(path, "a path or a map")),
        }
        Ok(Self { value, files, env_files, directory })
    }

    fn load(&self, loader: &mut Loader, scope: &Scope) -> Result<Value, Fault> {
        let path = Path::ROOT.key("include");
        let files: Vec<PathBuf> = self.files.iter().map(|f| absolute(&scope.base, f)).collect();
        let (mut directory, mut relative) = (self.directory.clone(), String::new());
        if let Some(first) = files.first() {
            if directory.is_empty() {
                let first = first.to_string_lossy();
                relative = directory_of(&scope.base, &first);
                directory = path::parent(&first);
            } else if directory.starts_with('/') {
                relative.clone_from(&directory);
            } else {
                relative = directory_of(&scope.base, &directory);
                directory = path::join([&scope.working_directory, &directory]);
            }
            if scope.including.contains(first) {
                let message = format!("{} includes itself", first.display());
                return Err(Fault::new(self.value.at, &path, message));
            }
        }
        let mut environment = scope.environment.clone();
        environment.fill(&self.variables(scope, &directory)?);
        let inner = Scope {
            base: directory.into(),
            working_directory: relative.clone(),
            environment,
            including: scope.including.clone(),
        };
        let mut model = loader.included(&files, &inner)?;
        rebase(&mut model, &relative)?;
        Ok(model)
    }

    /// Variables of the given files, or else of the `.env` beside the included file.
    fn variables(&self, scope: &Scope, directory: &str) -> Result<super::Environment, Fault> {
        let mut files = Vec::new();
        for name in &self.env_files {
            let file = if name.starts_with('/') {
                name.clone()
            } else {
                path::join([&scope.working_directory, name])
            };
            let file = PathBuf::from(file);
            if !file.is_file() {
                let path = Path::ROOT.key("include");
                let message = format!("env_file {} is not there", file.display());
                return Err(Fault::new(self.value.at, &path.key("env_file"), message));
            }
            files.push(file);
        }
        if self.env_files.is_empty() {
            let file = PathBuf::from(path::join([directory, ".env"]));
            if file.is_file() {
                files.push(file);
            }
        }
        let mut out = super::Environment::default();
        for file in files {
            let content = read(&file)?;
            let outer = &scope.environment;
            env_file::parse(&content, &mut out, &|name| outer.get(name).map(str::to_owned), true)?;
        }
        Ok(out)
    }
}

/// Nothing, one text, or a list of texts.
fn texts(value: Option<&Value>, path: &Path<'_>) -> Result<Vec<String>, Fault> {
    match value.map(|v| &v.data) {
        None | Some(Data::Null) => Ok(Vec::new()),
        Some(Data::Text(text)) => Ok(vec![text.clone()]),
        Some(Data::List(list)) => {
            let texts = list.iter().map(|v| v.expect_text(path).map(str::to_owned));
            texts.collect()
        }
        Some(_) => match value {
            Some(value) => Err(value.wrong(path, "text or a list of texts")),
            None => Ok(Vec::new()),
        },
    }
}

/// Adds the resources of an included project. The same name twice must mean the same.
fn add(model: &mut Value, included: Value, item: &Item) -> Result<(), Fault> {
    let Data::Map(mut included) = included.data else {
        return Ok(());
    };
    for kind in ["services", "volumes", "networks", "secrets", "configs", "models"] {
        let path = Path::ROOT.key(kind);
        let Some(Value { at, data: Data::Map(resources) }) = included.remove(kind) else {
            continue;
        };
        let Some(model) = model.as_map_mut() else {
            return Ok(());
        };
        let target = model.entry(kind.to_owned()).or_insert_with(|| Value::new(at, Data::Map(Map::new())));
        let Data::Map(target) = &mut target.data else {
            return Err(target.wrong(&path, "a map"));
        };
        for (name, resource) in resources {
            match target.get(&name) {
                Some(own) if !own.same(&resource) => {
                    let message = "is defined here and in an included file, differently";
                    return Err(Fault::new(item.value.at, &path.key(&name), message));
                }
                Some(_) => {}
                None => {
                    target.insert(name, resource);
                }
            }
        }
    }
    Ok(())
}
