//! Where the cache is, and where else it might be.

use std::path::PathBuf;

use crate::environment::Environment;

/// The places for a cache, the chosen one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CacheLocation {
    /// The chosen place.
    pub(crate) chosen: PathBuf,
    /// Where a cache of this machine's may also lie: filled as another user, by a unit, or without `--workspace`.
    pub(crate) others: Vec<PathBuf>,
}

/// What decides, strongest first.
pub(crate) struct Wishes {
    /// `--cache-dir`, its variable, or the configuration.
    pub(crate) explicit: Option<PathBuf>,
    /// A workspace that was named.
    pub(crate) workspace: Option<PathBuf>,
}

impl CacheLocation {
    /// Chooses the place; `None` where nothing says one: no home, not root, nothing named.
    pub(crate) fn choose(wishes: &Wishes, environment: &Environment) -> Option<Self> {
        let system = PathBuf::from("/var/cache/palletjack");
        let own = environment.xdg_cache.as_ref().map(|cache| cache.join("palletjack"));
        let callers = environment.sudo_home.as_ref().map(|home| home.join(".cache/palletjack"));
        let ranked = [
            wishes.explicit.clone(),
            wishes.workspace.as_ref().map(|workspace| workspace.join(".cache/palletjack")),
            environment.systemd_cache.clone(),
            callers,
            own,
            environment.root.then(|| system.clone()),
        ];
        let mut places = ranked.into_iter().flatten();
        let chosen = places.next()?;
        let mut others: Vec<PathBuf> = Vec::new();
        for place in places.chain([system]) {
            if place != chosen && !others.contains(&place) {
                others.push(place);
            }
        }
        Some(Self { chosen, others })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment { xdg_cache: Some("/root/.cache".into()), root: true, ..Environment::default() }
    }

    fn choose(wishes: &Wishes, environment: &Environment) -> String {
        CacheLocation::choose(wishes, environment).unwrap().chosen.display().to_string()
    }

    #[test]
    fn the_strongest_wish_wins() {
        let none = Wishes { explicit: None, workspace: None };
        let named = Wishes { explicit: None, workspace: Some("/ws".into()) };
        let explicit = Wishes { explicit: Some("/c".into()), workspace: Some("/ws".into()) };
        let mut environment = environment();
        assert_eq!(choose(&none, &environment), "/root/.cache/palletjack");
        environment.sudo_home = Some("/home/pi".into());
        assert_eq!(choose(&none, &environment), "/home/pi/.cache/palletjack");
        environment.systemd_cache = Some("/var/cache/unit".into());
        assert_eq!(choose(&none, &environment), "/var/cache/unit");
        assert_eq!(choose(&named, &environment), "/ws/.cache/palletjack");
        assert_eq!(choose(&explicit, &environment), "/c");
    }

    #[test]
    fn root_without_a_home_has_the_systems_cache_and_others_have_none() {
        let none = Wishes { explicit: None, workspace: None };
        let mut environment = Environment { root: true, ..Environment::default() };
        assert_eq!(choose(&none, &environment), "/var/cache/palletjack");
        environment.root = false;
        assert_eq!(CacheLocation::choose(&none, &environment), None);
    }

    #[test]
    fn the_other_places_are_known() {
        let mut environment = environment();
        environment.sudo_home = Some("/home/pi".into());
        let wishes = Wishes { explicit: Some("/c".into()), workspace: None };
        let location = CacheLocation::choose(&wishes, &environment).unwrap();
        let want = ["/home/pi/.cache/palletjack", "/root/.cache/palletjack", "/var/cache/palletjack"];
        assert_eq!(location.others, want.map(PathBuf::from));
    }
}
