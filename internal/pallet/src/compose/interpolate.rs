//! Variables in text: `$NAME`, `${NAME}` and the forms with an operator.
//!
//! Applied to every text value before merging, used or not; never to keys. Where Compose wants a bool or a
//! number, the text is converted as well.

use super::Environment;
use super::error::Fault;
use super::value::{Data, Path, Value};
use super::words::{to_bool, to_float, to_int};

/// Deepest nesting of `${A:-${B:-…}}`.
const MAX_NESTING: usize = 32;
/// Longest text that may come out, in bytes.
const MAX_TEXT: usize = 1 << 20;

/// Replaces variables everywhere below a value.
pub(super) fn interpolate(
    value: &mut Value,
    environment: &Environment,
    path: &Path<'_>,
) -> Result<(), Fault> {
    let at = value.at;
    match &mut value.data {
        Data::Text(text) => {
            if text.contains('$') {
                let replaced = substitute(text, |name| environment.get(name).map(str::to_owned));
                *text = replaced.map_err(|message| Fault::new(at, path, message))?;
            }
            if let Some(cast) = path.matching(cast) {
                value.data = cast(text).map_err(|message| Fault::new(at, path, message))?;
            }
        }
        Data::Map(map) => {
            for (key, value) in map {
                interpolate(value, environment, &path.key(key))?;
            }
        }
        Data::List(list) => {
            for value in list {
                interpolate(value, environment, &path.element())?;
            }
        }
        _ => {}
    }
    Ok(())
}

type Cast = fn(&str) -> Result<Data, String>;

/// The conversion that is due at a path.
fn cast(path: &[&str]) -> Option<Cast> {
    const INT: Cast = |text| to_int(text).map(Data::Int);
    const FLOAT: Cast = |text| to_float(text).map(Data::Float);
    const BOOL: Cast = |text| to_bool(text).map(Data::Bool);
    let found = match path {
        ["services", _, field] => match *field {
            "cpu_count" | "cpu_period" | "cpu_quota" | "cpu_rt_period" | "cpu_rt_runtime" | "cpu_shares"
            | "oom_score_adj" | "pids_limit" | "scale" => INT,
            "cpu_percent" | "cpus" => FLOAT,
            "init" | "oom_kill_disable" | "privileged" | "read_only" | "stdin_open" | "tty" => BOOL,
            _ => return None,
        },
        ["services", _, rest @ ..] => match rest {
            ["deploy", "replicas"]
            | ["deploy", "update_config" | "rollback_config", "parallelism"]
            | ["deploy", "restart_policy", "max_attempts"]
            | ["deploy", "placement", "max_replicas_per_node"]
            | ["healthcheck", "retries"]
            | ["ports", "[]", "target"]
            | ["ulimits", _]
            | ["ulimits", _, "hard" | "soft"] => INT,
            ["deploy", "update_config" | "rollback_config", "max_failure_ratio"] => FLOAT,
            ["healthcheck", "disable"]
            | ["volumes", "[]", "read_only"]
            | ["volumes", "[]", "volume", "nocopy"] => BOOL,
            _ => return None,
        },
        ["networks", _, "external" | "internal" | "attachable" | "enable_ipv4" | "enable_ipv6"]
        | ["volumes" | "secrets" | "configs", _, "external"] => BOOL,
        _ => return None,
    };
    Some(found)
}

/// Replaces the variables of one text. `lookup` gives a variable's value.
pub(super) fn substitute(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    expand(text, &lookup, &mut out, 0)?;
    Ok(out)
}

fn expand(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    out: &mut String,
    depth: usize,
) -> Result<(), String> {
    if depth > MAX_NESTING {
        return Err(format!("variables are nested more than {MAX_NESTING} levels deep"));
    }
    let mut rest = text;
    while let Some(i) = rest.find('$') {
        out.push_str(&rest[..i]);
        let after = &rest[i + 1..];
        rest = match after.as_bytes().first() {
            Some(b'$') => {
                out.push('$');
                &after[1..]
            }
            Some(b'{') => braced(&after[1..], lookup, out, depth)?,
            _ => match name_length(after) {
                0 => {
                    out.push('$');
                    after
                }
                n => {
                    out.push_str(&lookup(&after[..n]).unwrap_or_default());
                    &after[n..]
                }
            },
        };
        if out.len() > MAX_TEXT {
            return Err(format!("variables make this longer than {MAX_TEXT} bytes"));
        }
    }
    out.push_str(rest);
    Ok(())
}

/// Length of the variable name at the start of a text, in bytes.
fn name_length(text: &str) -> usize {
    let word = |c: &u8| c.is_ascii_alphanumeric() || *c == b'_';
    if text.as_bytes().first().is_some_and(u8::is_ascii_digit) {
        return 0;
    }
    text.bytes().take_while(|c| word(c)).count()
}

/// What follows `${`. Returns what follows the closing brace.
fn braced<'t>(
    text: &'t str,
    lookup: &dyn Fn(&str) -> Option<String>,
    out: &mut String,
    depth: usize,
) -> Result<&'t str, String> {
    let invalid = || {
        let shown: String = text.chars().take(40).collect();
        format!("invalid variable \"${{{shown}\"; write $$ for a plain $")
    };
    let n = name_length(text);
    let (name, rest) = text.split_at(n);
    if n == 0 {
        return Err(invalid());
    }
    let value = lookup(name);
    if let Some(rest) = rest.strip_prefix('}') {
        out.push_str(&value.unwrap_or_default());
        return Ok(rest);
    }
    let empty_counts = !rest.starts_with(':');
    let rest = rest.strip_prefix(':').unwrap_or(rest);
    let operator = *rest.as_bytes().first().ok_or_else(invalid)?;
    if !matches!(operator, b'-' | b'+' | b'?') {
        return Err(invalid());
    }
    let argument = &rest[1..];
    // The form must end on its line: at its own brace, or, if braces don't balance, at the last one.
    let line = &argument[..argument.find('\n').unwrap_or(argument.len())];
    let last = line.rfind('}').ok_or_else(invalid)?;
    let end = closing_brace(&line[..=last]).unwrap_or(last);
    // Evaluated even if it isn't used.
    let mut given = String::new();
    expand(&argument[..end], lookup, &mut given, depth + 1)?;
    let set = value.as_deref().is_some_and(|v| empty_counts || !v.is_empty());
    match operator {
        b'-' if !set => out.push_str(&given),
        b'+' if set => out.push_str(&given),
        b'?' if !set => {
            let why = if given.is_empty() { "it is required" } else { &given };
            return Err(format!("variable {name} is not set: {why}"));
        }
        _ => out.push_str(&value.unwrap_or_default()),
    }
    Ok(&argument[end + 1..])
}

/// The brace that closes the form whose argument begins here. The character after each `{` isn't looked at.
fn closing_brace(argument: &str) -> Option<usize> {
    let (mut depth, mut chars) = (1usize, argument.char_indices());
    while let Some((i, c)) = chars.next() {
        match c {
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(i);
                }
            }
            '{' => {
                depth += 1;
                chars.next();
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Result<String, String> {
        substitute(text, |name| match name {
            "SET" => Some("value".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn every_form() {
        for (text, want) in [
            ("plain", "plain"),
            ("$SET-$NONE.", "value-."),
            ("${SET}x${NONE}", "valuex"),
            ("$$SET $$$SET", "$SET $value"),
            ("$(x) $1 a$", "$(x) $1 a$"),
            ("${NONE:-d} ${EMPTY:-d} ${SET:-d}", "d d value"),
            ("${NONE-d} ${EMPTY-d}|${SET-d}", "d |value"),
            ("${NONE:+d}|${EMPTY:+d}|${SET:+d}", "||d"),
            ("${NONE+d}|${EMPTY+d}|${SET+d}", "|d|d"),
            ("${SET?e}${SET:?e}${EMPTY?e}", "valuevalue"),
            ("${NONE:-${NONE:-${SET}}}", "value"),
            ("${NONE:-a}${NONE:-b}}", "ab}"),
            ("${NONE:-{}}i", "{}i"),
            ("${NONE:-{x}}", "{x}"),
            ("${NONE:-}", ""),
            ("registry/${NONE:-img}:${NONE:-1.0}@sha256:00", "registry/img:1.0@sha256:00"),
        ] {
            assert_eq!(with(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_form_is_an_error() {
        for text in [
            "${1}",
            "${",
            "${A",
            "${A:}",
            "${A:=x}",
            "${A/x/y}",
            "${}",
            "${ A}",
            "${A:-x",
            "${A:-a\nb}",
            "${NONE:?}",
            "${NONE?x}",
            "${EMPTY:?x}",
            "${SET:-${NONE:?inner}}",
        ] {
            assert!(with(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nesting_and_growth_are_bounded() {
        let deep = "${A:-".repeat(2000) + &"}".repeat(2000);
        assert!(with(&deep).is_err());
        let many = "${SET}".repeat(300_000);
        assert!(with(&many).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[${}A:?+\\-x\n\\PC]{0,60}") {
            let _ = with(&text);
        }
    }
}
