//! What the text of a scalar means: the resolution rules of `yaml.v3`.

use super::Tag;

/// A scalar's value for readers that want types. Those that want text take the node's text instead.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    /// An integer above `i64::MAX`, which few readers take for one.
    Uint(u64),
    Float(f64),
    /// A date or time: neither text nor number for Compose.
    Timestamp,
    /// Plain text that is no other type, anything quoted, or an unknown tag.
    Text(String),
    /// Decoded `!!binary`.
    Binary(String),
}

impl Scalar {
    pub(super) fn resolve(text: &str, plain: bool, tag: &Tag) -> Result<Self, String> {
        match tag {
            Tag::None if plain => Ok(look(text)),
            Tag::None | Tag::Local(_) => Ok(Self::Text(text.to_owned())),
            Tag::Core(tag) => Self::tagged(text, tag),
        }
    }

    fn tagged(text: &str, tag: &str) -> Result<Self, String> {
        let looks = || look(text);
        let value = match tag {
            "binary" => return base64(text).map(Self::Binary),
            "bool" => Some(looks()).filter(|v| matches!(v, Self::Bool(_))),
            "int" => Some(looks()).filter(|v| matches!(v, Self::Int(_) | Self::Uint(_))),
            "null" => Some(looks()).filter(|v| matches!(v, Self::Null)),
            "timestamp" => Some(looks()).filter(|v| matches!(v, Self::Timestamp)),
            "float" => match looks() {
                Self::Int(i) => Some(Self::Float(i as f64)),
                v @ Self::Float(_) => Some(v),
                _ => None,
            },
            _ => Some(Self::Text(text.to_owned())),
        };
        value.ok_or_else(|| format!("{text:?} can't be read as !!{tag}"))
    }

    /// For messages.
    pub(crate) fn what(&self) -> &'static str {
        match self {
            Self::Null => "nothing (null)",
            Self::Bool(_) => "a yes/no value",
            Self::Int(_) | Self::Uint(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Timestamp => "a date",
            Self::Text(_) | Self::Binary(_) => "text",
        }
    }
}

/// The YAML 1.1 words for true that `yaml.v3` takes where a bool is due, quoted or not.
pub(crate) fn is_yes(text: &str) -> bool {
    matches!(text, "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON")
}

/// The YAML 1.1 words for false.
pub(crate) fn is_no(text: &str) -> bool {
    matches!(text, "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF")
}

/// The type that a plain scalar looks like.
fn look(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Scalar::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let number = match text.as_bytes()[0] {
        b'.' => fraction(text),
        b'+' | b'-' | b'0'..=b'9' => {
            if is_timestamp(text) {
                return Scalar::Timestamp;
            }
            let digits = text.replace('_', "");
            integer(&digits).or_else(|| float(&digits))
        }
        _ => None,
    };
    number.unwrap_or_else(|| Scalar::Text(text.to_owned()))
}

/// `.5`, `.5e3`: no underscores here.
fn fraction(text: &str) -> Option<Scalar> {
    let after = text.strip_prefix('.')?;
    after.as_bytes().first().filter(|c| c.is_ascii_digit())?;
    float(text)
}

fn integer(text: &str) -> Option<Scalar> {
    let (negative, signed, digits) = match text.as_bytes().first()? {
        b'-' => (true, true, &text[1..]),
        b'+' => (false, true, &text[1..]),
        _ => (false, false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // A second sign would be let through by the standard parser.
    if !digits.bytes().next()?.is_ascii_hexdigit() {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if negative {
        return i64::try_from(-i128::from(magnitude)).ok().map(Scalar::Int);
    }
    match i64::try_from(magnitude) {
        Ok(i) => Some(Scalar::Int(i)),
        Err(_) if !signed => Some(Scalar::Uint(magnitude)),
        Err(_) => None,
    }
}

/// `[-+]? (.d+ | d+ (.d*)?) (e [-+]? d+)?`, and finite.
fn float(text: &str) -> Option<Scalar> {
    let bytes = text.as_bytes();
    let mut i = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    let digits = |i: &mut usize| {
        let start = *i;
        while bytes.get(*i).is_some_and(u8::is_ascii_digit) {
            *i += 1;
        }
        *i > start
    };
    if bytes.get(i) == Some(&b'.') {
        i += 1;
        if !digits(&mut i) {
            return None;
        }
    } else {
        if !digits(&mut i) {
            return None;
        }
        if bytes.get(i) == Some(&b'.') {
            i += 1;
            digits(&mut i);
        }
    }
    if matches!(bytes.get(i), Some(b'e' | b'E')) {
        i += 1;
        if matches!(bytes.get(i), Some(b'+' | b'-')) {
            i += 1;
        }
        if !digits(&mut i) {
            return None;
        }
    }
    if i < bytes.len() {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    value.is_finite().then_some(Scalar::Float(value))
}

/// `2024-01-01`, optionally with a time of day, as Go's `time.Parse` checks it.
fn is_timestamp(text: &str) -> bool {
    let mut rest = text;
    let Some(year) = number(&mut rest, 4, 4) else {
        return false;
    };
    let Some((month, day)) = (|| {
        rest = rest.strip_prefix('-')?;
        let month = number(&mut rest, 1, 2)?;
        rest = rest.strip_prefix('-')?;
        Some((month, number(&mut rest, 1, 2)?))
    })() else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    if day == 0 || day > days {
        return false;
    }
    if rest.is_empty() {
        return true;
    }
    let zoned = rest.starts_with(['T', 't']);
    if !zoned && !rest.starts_with(' ') {
        return false;
    }
    rest = &rest[1..];
    time_of_day(rest, zoned).is_some()
}

fn time_of_day(mut rest: &str, zoned: bool) -> Option<()> {
    let hour = number(&mut rest, 1, 2)?;
    rest = rest.strip_prefix(':')?;
    let minute = number(&mut rest, 1, 2)?;
    rest = rest.strip_prefix(':')?;
    let second = number(&mut rest, 1, 2)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        let end = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
        if end == 0 {
            return None;
        }
        rest = &fraction[end..];
    }
    if !zoned {
        return rest.is_empty().then_some(());
    }
    if rest == "Z" {
        return Some(());
    }
    rest = rest.strip_prefix(['+', '-'])?;
    let hours = number(&mut rest, 2, 2)?;
    rest = rest.strip_prefix(':')?;
    let minutes = number(&mut rest, 2, 2)?;
    (rest.is_empty() && hours <= 24 && minutes <= 60).then_some(())
}

/// Takes between `min` and `max` digits off the front.
fn number(rest: &mut &str, min: usize, max: usize) -> Option<u32> {
    let len = rest.bytes().take(max).take_while(u8::is_ascii_digit).count();
    if len < min {
        return None;
    }
    let (digits, tail) = rest.split_at(len);
    *rest = tail;
    digits.parse().ok()
}

/// Standard base64 with padding; line breaks are skipped. Bytes that aren't UTF-8 are replaced.
fn base64(text: &str) -> Result<String, String> {
    const BAD: &str = "invalid base64 after !!binary";
    let mut out = Vec::new();
    let (mut bits, mut count, mut padding, mut total) = (0u32, 0u32, 0usize, 0usize);
    for c in text.bytes().filter(|c| !matches!(c, b'\r' | b'\n')) {
        total += 1;
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                padding += 1;
                continue;
            }
            _ => return Err(BAD.into()),
        };
        if padding > 0 {
            return Err(BAD.into());
        }
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            // The shift leaves exactly the eight bits that were completed.
            out.push((bits >> count & 0xff) as u8);
        }
    }
    if total % 4 != 0 || padding > 2 || (padding > 0 && count == 0) {
        return Err(BAD.into());
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}
