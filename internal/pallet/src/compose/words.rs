//! Texts that stand for something else: bools, numbers, durations, sizes, commands, addresses.

use std::net::IpAddr;

/// Compose's bools, in any case.
pub(super) fn to_bool(text: &str) -> Result<bool, String> {
    match &*text.to_ascii_lowercase() {
        "true" | "y" | "yes" | "on" => Ok(true),
        "false" | "n" | "no" | "off" => Ok(false),
        _ => Err(format!("expected true or false, found {text:?}")),
    }
}

/// A decimal integer of 64 bits.
pub(super) fn to_int(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("expected a whole number, found {text:?}"))
}

/// A decimal number.
pub(super) fn to_float(text: &str) -> Result<f64, String> {
    let wrong = || format!("expected a number, found {text:?}");
    let value: f64 = text.parse().map_err(|_| wrong())?;
    let spelled_out = text.contains(['n', 'N']);
    if value.is_finite() || spelled_out {
        return Ok(value);
    }
    Err(wrong())
}

/// `1d2h`, `-5s`, `.5h`, `0`.
pub(super) fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
        let whole = digits(rest);
        let mut end = whole;
        let mut fraction = 0;
        if rest.as_bytes().get(end) == Some(&b'.') {
            fraction = digits(&rest[end + 1..]);
            end += 1 + fraction;
        }
        if whole + fraction == 0 {
            return false;
        }
        rest = &rest[end..];
        let units = ["ns", "us", "\u{b5}s", "\u{3bc}s", "ms", "s", "m", "h", "d", "w"];
        match units.into_iter().find_map(|u| rest.strip_prefix(u)) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    true
}

/// A size such as `5`, `1.5g`, `5 k`, `1GiB` in bytes. What doesn't fit 63 bits gives 0.
pub(super) fn to_size(text: &str) -> Result<i64, String> {
    let wrong = || format!("expected a size such as 512m, found {text:?}");
    let numeric = |c: char| c.is_ascii_digit() || c == '.' || c == ' ';
    let i = text.rfind(numeric).ok_or_else(wrong)?;
    let (number, suffix) =
        if text.as_bytes()[i] == b' ' { (&text[..i], &text[i + 1..]) } else { text.split_at(i + 1) };
    let number = to_float(number).map_err(|_| wrong())?;
    if number < 0.0 {
        return Err(wrong());
    }
    let suffix = suffix.to_ascii_lowercase();
    let mut letters = suffix.chars();
    let shift = match letters.next() {
        None => 0,
        Some('b') if suffix == "b" => 0,
        Some(unit) => {
            let power = "kmgtp".find(unit).ok_or_else(wrong)?;
            if !matches!(letters.as_str(), "" | "b" | "ib") {
                return Err(wrong());
            }
            10 * (power + 1)
        }
    };
    let bytes = number * (1u64 << shift) as f64;
    // Below 2^63 the cast only cuts the fraction.
    #[allow(clippy::cast_possible_truncation)]
    let whole = bytes as i64;
    Ok(if bytes < 9_223_372_036_854_775_808.0 { whole } else { 0 })
}

/// Whether a command line can be split into words: quotes and brackets must close.
pub(super) fn splits_into_words(line: &str) -> bool {
    let (mut escaped, mut double, mut single, mut back, mut bracket) = (false, false, false, false, false);
    // Whether the word so far ends with a `$`, after which a bracket may open.
    let mut dollar = false;
    for c in line.chars() {
        if escaped {
            (escaped, dollar) = (false, c == '$');
            continue;
        }
        match c {
            '\\' if single => dollar = false,
            '\\' => escaped = true,
            ' ' | '\t' | '\r' | '\n' => dollar = false,
            '`' if !(single || double || bracket) => (back, dollar) = (!back, false),
            ')' if !(single || double || back) => (bracket, dollar) = (!bracket, false),
            '(' if !(single || double || back) => {
                if bracket || !dollar {
                    return false;
                }
                (bracket, dollar) = (true, false);
            }
            '"' if !(single || bracket) => double = !double,
            '\'' if !(double || bracket) => single = !single,
            ';' | '&' | '|' | '<' | '>' if !(single || double || back || bracket) => break,
            _ => dollar = c == '$',
        }
    }
    !(escaped || double || single || back || bracket)
}

/// An IPv4 or IPv6 address without zone.
pub(super) fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for good in ["1d2h", "-5s", ".5h", "0", "1.5m", "10ms", "5.s", "3us"] {
            assert!(is_duration(good), "{good}");
        }
        for bad in ["", "10", "-", "1x", ".s", "1h 2m", "h"] {
            assert!(!is_duration(bad), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for (text, want) in
            [("5", 5), ("1.5g", 1_610_612_736), ("5 k", 5120), ("1GiB", 1 << 30), ("7b", 7), ("2KB", 2048)]
        {
            assert_eq!(to_size(text), Ok(want), "{text}");
        }
        for bad in ["", "-5", "m", "5x", "5kk", "1.2.3"] {
            assert!(to_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn command_lines() {
        for good in ["a b", "a 'b c'", r#"a "b'c""#, "echo $(date)", "a; echo 'open", r"a\ b", ""] {
            assert!(splits_into_words(good), "{good}");
        }
        for bad in ["a 'b", r#"a "b"#, "f(x)", "a\\", "`a"] {
            assert!(!splits_into_words(bad), "{bad}");
        }
    }
}
