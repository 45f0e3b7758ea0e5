//! `.env` files: `[export] NAME=value`, `NAME: value`, `'raw'`, `"with $VARS and \n"`.

use super::error::Fault;
use super::interpolate::substitute;
use super::{Environment, File};

/// Adds a file's variables to `out`. `lookup` gives the variables from outside, which values may use and
/// bare names take over; with `own` those of `out` count as well when names are looked up.
pub(super) fn parse(
    file: &File,
    out: &mut Environment,
    lookup: &dyn Fn(&str) -> Option<String>,
    own: bool,
) -> Result<(), Fault> {
    let text = String::from_utf8_lossy(&file.bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut parser = Parser { text, rest: text };
    while parser.next(out, lookup, own).map_err(|message| {
        let done = text.len() - parser.rest.len();
        let line = text[..done].matches('\n').count() + 1;
        Fault::in_file(&file.path, u32::try_from(line).ok(), message)
    })? {}
    Ok(())
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

/// Blanks within a line.
fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\x0b' | '\x0c' | '\r' | ' ' | '\u{85}' | '\u{a0}')
}

impl Parser<'_> {
    /// Reads one entry; false at the end.
    fn next(
        &mut self,
        out: &mut Environment,
        lookup: &dyn Fn(&str) -> Option<String>,
        own: bool,
    ) -> Result<bool, String> {
        debug_assert!(self.rest.len() <= self.text.len());
        self.rest = self.rest.trim_start();
        if self.rest.is_empty() {
            return Ok(false);
        }
        if self.rest.starts_with('#') {
            self.rest = self.rest.find('\n').map_or("", |i| &self.rest[i..]);
            return Ok(true);
        }
        if let Some(after) = self.rest.strip_prefix("export")
            && after.starts_with([' ', '\t', '\n', '\x0b', '\x0c', '\r'])
        {
            self.rest = after.trim_start_matches(is_blank);
        }
        let (name, inherited) = self.name()?;
        if name.contains(' ') {
            return Err(format!("the name {name:?} contains a space"));
        }
        if inherited {
            if let Some(value) =
                lookup(&name).or_else(|| own.then(|| out.get(&name).map(str::to_owned)).flatten())
            {
                out.set(name, value);
            }
            return Ok(true);
        }
        let value = self.value(&|name| lookup(name).or_else(|| out.get(name).map(str::to_owned)))?;
        out.set(name, value);
        Ok(true)
    }

    /// The name, and whether it stands alone on its line.
    fn name(&mut self) -> Result<(String, bool), String> {
        let rest = self.rest;
        let (mut name, mut after, mut inherited) = ("", rest, false);
        for (i, c) in rest.char_indices() {
            match c {
                c if is_blank(c) => {}
                '=' | ':' | '\n' => {
                    (name, after, inherited) = (&rest[..i], &rest[i + 1..], c == '\n');
                    break;
                }
                '_' | '.' | '-' | '[' | ']' => {}
                c if c.is_alphabetic() || c.is_numeric() => {}
                c => return Err(format!("{c:?} can't be part of a variable's name")),
            }
        }
        if rest.is_empty() {
            return Err("a name is missing".into());
        }
        if after.len() == rest.len() {
            // A last line without line break and value.
            let name = rest.trim_end();
            self.rest = "";
            return Ok((name.to_owned(), true));
        }
        self.rest = after.trim_start_matches(is_blank);
        Ok((name.trim_end().to_owned(), inherited))
    }

    fn value(&mut self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
        let Some(quote) = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"')) else {
            let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
            self.rest = rest;
            let value = line.split_once(" #").map_or(line, |(value, _)| value);
            return substitute(value.trim_end(), lookup);
        };
        let (mut value, mut escaped) = (String::new(), false);
        for (i, c) in self.rest.char_indices().skip(1) {
            if c == quote && !escaped {
                self.rest = &self.rest[i + 1..];
                if quote == '\'' {
                    return Ok(value);
                }
                return substitute(&unescape(&value), lookup);
            }
            if c == '\\' && !escaped {
                escaped = true;
                continue;
            }
            if escaped && c != quote {
                value.push('\\');
            }
            escaped = false;
            value.push(c);
        }
        Err("a quote isn't closed".into())
    }
}

/// The escapes of double quotes; `\$` becomes `$$`, which stays a dollar sign.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(i) = rest.find('\\') {
        out.push_str(&rest[..i]);
        let after = &rest[i + 1..];
        let simple = match after.chars().next() {
            Some('a') => "\x07",
            Some('b') => "\x08",
            Some('f') => "\x0c",
            Some('n') => "\n",
            Some('r') => "\r",
            Some('t') => "\t",
            Some('v') => "\x0b",
            Some('"') => "\"",
            Some('\\') => "\\",
            Some('$') => "$$",
            Some('c') => "\\c",
            Some('0') => {
                let digits = after[1..].bytes().take(3).take_while(u8::is_ascii_digit).count();
                let octal = u8::from_str_radix(&after[1..=digits], 8).ok();
                match octal.filter(|_| digits == 3) {
                    Some(byte) => out.push(char::from(byte)),
                    None => {
                        out.push('\\');
                        out.push_str(&after[..=digits]);
                    }
                }
                rest = &after[digits + 1..];
                continue;
            }
            _ => {
                out.push('\\');
                rest = after;
                continue;
            }
        };
        out.push_str(simple);
        rest = &after[1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Environment, Fault> {
        let file = File { path: ".env".into(), bytes: text.as_bytes().to_vec() };
        let mut out = Environment::default();
        let outside = |name: &str| (name == "OUT").then(|| "outside".to_owned());
        parse(&file, &mut out, &outside, false)?;
        Ok(out)
    }

    #[test]
    fn variables_of_all_forms() {
        let text = "# c\nA=1 # c\nexport B: two words\nC='$A #'\nD=\"$A\\n$OUT\\$\"\nOUT\nE=\nF=x#y\nG=${A}2";
        let env = read(text).unwrap();
        for (name, want) in [
            ("A", "1"),
            ("B", "two words"),
            ("C", "$A #"),
            ("D", "1\noutside$"),
            ("OUT", "outside"),
            ("E", ""),
            ("F", "x#y"),
            ("G", "12"),
        ] {
            assert_eq!(env.get(name), Some(want), "{name}");
        }
    }

    #[test]
    fn faults_have_a_line() {
        for (text, line) in [("A=1\nB C=2", 2), ("\n\nA='x", 3), ("A+B=1", 1), ("A=${", 1)] {
            let error = read(text).unwrap_err().resolve(|_| "x".into());
            assert!(error.line().is_some_and(|l| l >= line), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[A-C='\"$\\\\{}: #\n0-8]{0,60}") {
            let _ = read(&text);
        }
    }
}
