//! `extends`: a service that takes over what another one says.

use std::path::{Path as FilePath, PathBuf};

use super::error::Fault;
use super::loader::{Loader, Scope, absolute, directory_of};
use super::merge::merge;
use super::read::Resets;
use super::rebase::rebase;
use super::value::{Data, Map, Path, Value};

/// Longest chain of services that extend each other.
const MAX_CHAIN: usize = 64;

/// Resolves the `extends` of one document.
pub(super) struct Extending<'a> {
    loader: &'a mut Loader,
    scope: &'a Scope,
    main: &'a FilePath,
    resets: &'a Resets,
    /// Files and services on the way to where we are.
    chain: Vec<(PathBuf, String)>,
}

impl<'a> Extending<'a> {
    pub(super) fn new(
        loader: &'a mut Loader,
        scope: &'a Scope,
        main: &'a FilePath,
        resets: &'a Resets,
    ) -> Self {
        Self { loader, scope, main, resets, chain: Vec::new() }
    }

    /// Resolves all services of a document.
    pub(super) fn apply(mut self, mut model: Value) -> Result<Value, Fault> {
        let Some(services) = model.as_map_mut().and_then(|m| m.get_mut("services")) else {
            return Ok(model);
        };
        let Data::Map(map) = &mut services.data else {
            return Err(services.wrong(&Path::ROOT.key("services"), "a map"));
        };
        let resets = self.resets;
        let names: Vec<String> = map.keys().cloned().collect();
        for name in names {
            self.service(&name, map, resets)?;
        }
        Ok(model)
    }

    /// Resolves one service within its map.
    fn service(&mut self, name: &str, services: &mut Map, resets: &Resets) -> Result<(), Fault> {
        let above = Path::ROOT.key("services");
        let path = above.key(name);
        let Some(service) = services.get(name).filter(|s| !s.is_null()) else {
            return Ok(());
        };
        let Data::Map(fields) = &service.data else {
            return Err(service.wrong(&path, "a map"));
        };
        let Some(extends) = fields.get("extends") else {
            return Ok(());
        };
        let (at, path) = (extends.at, path.key("extends"));
        let (wanted, file) = match &extends.data {
            Data::Text(name) => (name.clone(), None),
            Data::Map(map) => {
                let Some(service) = map.get("service") else {
                    return Err(Fault::new(at, &path, "service is missing"));
                };
                let wanted = service.expect_text(&path.key("service"))?.to_owned();
                // A null `file` is given, and isn't text.
                let file = match map.get("file").filter(|f| !f.is_null()) {
                    Some(file) => Some(file.expect_text(&path.key("file"))?.to_owned()),
                    None => None,
                };
                (wanted, file)
            }
            _ => return Err(extends.wrong(&path, "a service")),
        };
        let missing =
            |where_: &str| Fault::new(at, &path, format!("there is no service {wanted:?} in {where_}"));
        let key = match &file {
            Some(file) => (PathBuf::from(file), name.to_owned()),
            None => (self.main.to_owned(), name.to_owned()),
        };
        let circle = self.chain.contains(&key);
        if circle || self.chain.len() >= MAX_CHAIN {
            return Err(Fault::new(at, &path, "services extend each other in a circle"));
        }
        let base = match file {
            Some(file) => {
                let local = absolute(&self.scope.base, &file);
                let (mut source, theirs) = self.loader.extended(&local, &self.scope.environment)?;
                let Some(Data::Map(_)) = source.get("services").map(|s| &s.data) else {
                    return Err(missing(&file));
                };
                rebase(&mut source, &directory_of(&self.scope.base, &file))?;
                let mut others = source.as_map_mut().and_then(|m| m.remove("services"));
                let Some(others) = others.as_mut().and_then(Value::as_map_mut) else {
                    return Err(missing(&file));
                };
                if !others.contains_key(&wanted) {
                    return Err(missing(&file));
                }
                self.chain.push(key);
                self.service(&wanted, others, &theirs)?;
                others.remove(&wanted)
            }
            None if services.contains_key(&wanted) => {
                self.chain.push(key);
                self.service(&wanted, services, &Resets::default())?;
                services.get(&wanted).cloned()
            }
            None => return Err(missing("this file")),
        };
        self.chain.pop();
        let Some(mut base) = base.filter(|b| !b.is_null()) else {
            return Ok(());
        };
        resets.apply_to_service(name, &mut base);
        let Some(service) = services.remove(name) else {
            return Ok(());
        };
        let own = service.at;
        let mut merged = merge(base, service, &above.key("x"))?;
        merged.at = own;
        if let Some(fields) = merged.as_map_mut() {
            fields.remove("extends");
        }
        services.insert(name.to_owned(), merged);
        Ok(())
    }
}
