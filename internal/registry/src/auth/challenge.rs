//! `WWW-Authenticate`: how a registry wants to be asked.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// What a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token from the service at `realm` (the distribution project's token authentication specification).
    Bearer {
        /// The URL of the token service.
        realm: String,
        /// What the registry is called there.
        service: Option<String>,
        /// What the token must be good for.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The best challenge among an answer's headers: a token where one is offered.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut basic = None;
        for value in headers.get_all(WWW_AUTHENTICATE) {
            let Ok(value) = value.to_str() else { continue };
            for (scheme, parameters) in challenges(value) {
                if scheme.eq_ignore_ascii_case("bearer") {
                    let find = |name: &str| {
                        let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
                    };
                    if let Some(realm) = find("realm") {
                        return Some(Self::Bearer { realm, service: find("service"), scope: find("scope") });
                    }
                } else if scheme.eq_ignore_ascii_case("basic") {
                    basic = Some(Self::Basic);
                }
            }
        }
        basic
    }
}

type Parameters = Vec<(String, String)>;

/// Takes a header apart (RFC 9110, 11.6.1): `scheme key=value, key="value", scheme …`.
fn challenges(header: &str) -> Vec<(String, Parameters)> {
    let mut found: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return found;
        }
        let after_space = after.trim_start_matches([' ', '\t']);
        match (after_space.strip_prefix('='), found.last_mut()) {
            (Some(value), Some((_, parameters))) => {
                let (value, left) = parameter(value.trim_start_matches([' ', '\t']));
                parameters.push((word.to_owned(), value));
                rest = left;
            }
            // A parameter of nothing: not a header that can be read.
            (Some(_), None) => return found,
            (None, _) => {
                found.push((word.to_owned(), Vec::new()));
                rest = after;
            }
        }
    }
}

/// A token or a quoted string, and what follows it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn parse(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
        }
        Challenge::of(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }
    }

    #[test]
    fn challenges_as_registries_write_them() {
        assert_eq!(
            parse(&[
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#
            ]),
            Some(bearer(
                "https://auth.docker.io/token",
                Some("registry.docker.io"),
                Some("repository:a/b:pull,push")
            ))
        );
        assert_eq!(
            parse(&["bearer realm=https://x/t , service=y"]),
            Some(bearer("https://x/t", Some("y"), None))
        );
        assert_eq!(parse(&[r#"Basic realm="Registry \"Realm\"""#]), Some(Challenge::Basic));
        assert_eq!(parse(&["Basic"]), Some(Challenge::Basic));
        assert_eq!(
            parse(&[r#"Basic realm="a, b", Bearer realm="https://x", error="invalid_token""#]),
            Some(bearer("https://x", None, None))
        );
        assert_eq!(
            parse(&["Negotiate", r#"Bearer realm="https://x""#]),
            Some(bearer("https://x", None, None))
        );
    }

    #[test]
    fn what_cannot_be_read_is_no_challenge_and_no_panic() {
        for value in [
            "",
            "Digest realm=x",
            "Bearer",
            r#"Bearer realm="""#,
            "=,=",
            r#"Bearer x="\"#,
            ",,, ,",
            "Bearer realm",
        ] {
            assert_eq!(parse(&[value]), None, "{value}");
        }
    }
}
