//! The front end as its two readers see it.

use std::path::Path;

use super::{Decoder, Documents, Error, NodeKind, Scalar, Stream, Tag, parse};

fn stream(text: impl AsRef<[u8]>) -> Result<Stream, Error> {
    parse(text.as_ref(), Path::new("f.yml"), Documents::All)
}

fn scalar(text: &str) -> Scalar {
    let stream = stream(text).unwrap();
    stream.scalar(stream.node(stream.documents()[0])).unwrap()
}

#[test]
fn scalars_mean_what_they_mean_to_go() {
    let text = |t: &str| Scalar::Text(t.into());
    for (given, want) in [
        ("~", Scalar::Null),
        ("null", Scalar::Null),
        ("\"null\"", text("null")),
        ("True", Scalar::Bool(true)),
        ("tRue", text("tRue")),
        ("yes", text("yes")),
        ("no", text("no")),
        ("1.10", Scalar::Float(1.1)),
        ("0644", Scalar::Int(420)),
        ("0o17", Scalar::Int(15)),
        ("0x1F", Scalar::Int(31)),
        ("0b11", Scalar::Int(3)),
        ("1_000", Scalar::Int(1000)),
        ("-0x10", Scalar::Int(-16)),
        ("09", Scalar::Float(9.0)),
        ("18446744073709551615", Scalar::Uint(u64::MAX)),
        ("+18446744073709551615", Scalar::Float(18_446_744_073_709_551_615.0)),
        ("1e3", Scalar::Float(1000.0)),
        (".5", Scalar::Float(0.5)),
        ("._5", text("._5")),
        ("-.inf", Scalar::Float(f64::NEG_INFINITY)),
        ("1.2.3", text("1.2.3")),
        ("80:80", text("80:80")),
        ("2024-01-01", Scalar::Timestamp),
        ("2024-13-01", text("2024-13-01")),
        ("2024-02-30", text("2024-02-30")),
        ("2024-01-01T10:00:00Z", Scalar::Timestamp),
        ("2024-01-01 10:00:61", text("2024-01-01 10:00:61")),
        ("!!str 12", text("12")),
        ("!!int \"12\"", Scalar::Int(12)),
        ("!!float 1", Scalar::Float(1.0)),
        ("!!binary aGk=", Scalar::Binary("hi".into())),
        ("!foo 12", text("12")),
        ("! 12", Scalar::Int(12)),
        ("'12'", text("12")),
        ("+", text("+")),
        ("0x", text("0x")),
        ("1__", Scalar::Int(1)),
    ] {
        assert_eq!(scalar(given), want, "{given}");
    }
    for bad in ["!!int x", "!!bool 1", "!!binary a", "!!null x"] {
        let stream = stream(bad).unwrap();
        assert!(stream.scalar(stream.node(stream.documents()[0])).is_err(), "{bad}");
    }
}

#[test]
fn tags_and_places_are_kept() {
    let stream = stream("# c\na: !reset null\nb:\n  - !!str 1\n").unwrap();
    let NodeKind::Mapping(pairs) = &stream.node(stream.documents()[0]).kind else { panic!("not a map") };
    let value = stream.node(pairs[0].1);
    assert_eq!(value.tag, Tag::Local("!reset".into()));
    let key = stream.node(pairs[1].0);
    assert_eq!((key.at.line, key.at.column), (3, 1));
    let NodeKind::Sequence(items) = &stream.node(pairs[1].1).kind else { panic!("not a list") };
    assert_eq!(stream.node(items[0]).tag, Tag::Core("str".into()));
}

#[test]
fn what_is_no_yaml_is_an_error_with_its_place() {
    for (text, line) in [
        (&b"a: b\nc: [1, 2\n"[..], 2..=3),
        (b"a: 'b\n", 1..=2),
        (b"a: b\n\tc: d\n", 1..=2),
        (b"a: \x00\n", 1..=1),
        (b"a: b\nc: \xff\n", 2..=2),
        (b"a: *none\n", 1..=1),
        (b"a: &a [*a]\n", 1..=1),
        (b"%YAML 1.2\n---\na: b\n", 1..=2),
        (b"# c\n...\na: b\n", 2..=2),
    ] {
        let error = stream(text).unwrap_err();
        let shown = String::from_utf8_lossy(text);
        assert!(error.line().is_some_and(|l| line.contains(&l)), "{shown}: {error}");
        assert!(error.to_string().starts_with("f.yml:"), "{error}");
    }
}

#[test]
fn tabs_in_empty_lines_and_before_comments() {
    for (text, valid) in [
        ("a: b\n\t\nc: d", false),
        ("a: b\n\t", false),
        ("a: b\n  \t\nc: d", true),
        ("a: b # x\n  \t\nc: d", false),
        ("a: 'b'\n  \t\nc: d", false),
        ("a:\n\t\n  b: c", false),
        ("a:\n  \t# c\n  b: c", false),
        ("a: |\n  x\n  \t\nc: d", true),
        ("a: [x,\n\t\n  y]", true),
        ("a: b\n \t\n", true),
        ("b\n\t\n", true),
        ("a:\n  b: c\n \t\nd: e", false),
        ("a:\n  b: c\n   \t\nd: e", true),
        ("a: b\t\nc:\td", true),
        ("\ta: b", false),
        ("a: b\n  \tc", true),
        ("\t[a, b]", false),
    ] {
        let result = stream(text);
        assert_eq!(result.is_ok(), valid, "{text:?}: {:?}", result.err());
    }
}

#[test]
fn other_encodings() {
    let utf16 =
        |unit: fn(u16) -> [u8; 2]| -> Vec<u8> { "\u{feff}12".encode_utf16().flat_map(unit).collect() };
    for text in [utf16(u16::to_le_bytes), utf16(u16::to_be_bytes), b"\xef\xbb\xbf12".to_vec()] {
        let stream = stream(&text).unwrap();
        let root = stream.node(stream.documents()[0]);
        assert_eq!(stream.scalar(root).unwrap(), Scalar::Int(12));
    }
}

#[test]
fn other_line_breaks() {
    for text in ["a: 1\u{85}b: 2", "a: 1\u{2028}b: 2", "a: 1\rb: 2", "a: 1\r\nb: 2"] {
        let stream = stream(text).unwrap();
        let decoder = Decoder::new(&stream);
        let map = decoder.map(decoder.root().unwrap(), |id| decoder.string(id)).unwrap();
        assert_eq!(map.len(), 2, "{text:?}");
    }
}

#[test]
fn anchors_live_as_long_as_the_stream() {
    let stream = stream("a: &x 1\n---\nb: *x\n").unwrap();
    assert_eq!(stream.documents().len(), 2);
}

#[test]
fn bombs_are_refused() {
    let deep = "[".repeat(100_000);
    assert!(stream(deep).is_err());
    let wide = "[".to_owned() + &"1,".repeat(300_000) + "]";
    assert!(stream(wide).is_err());
    let mut laughs = "a0: &a0 [x, x]\n".to_owned();
    for i in 1..40 {
        let before = i - 1;
        laughs += &format!("a{i}: &a{i} [*a{before}, *a{before}]\n");
    }
    let stream = stream(laughs).unwrap();
    let decoder = Decoder::new(&stream);
    let nested = |d: &Decoder<'_>, id| {
        fn all(d: &Decoder<'_>, id: super::NodeId) -> Result<(), Error> {
            d.list(id, |id| all(d, id)).map(drop).or_else(|e| match d.string(id) {
                Ok(_) => Ok(()),
                Err(_) => Err(e),
            })
        }
        d.map(id, |id| all(d, id))
    };
    let root = decoder.root().unwrap();
    assert!(nested(&decoder, root).unwrap_err().message().contains("too many"));
}

/// The strings of a list under `a`, as Forklift's files are read.
fn strings(text: &str) -> Result<Vec<String>, Error> {
    let stream = parse(text.as_bytes(), Path::new("f.yml"), Documents::First)?;
    let decoder = Decoder::new(&stream);
    let mut out = Vec::new();
    if let Some(root) = decoder.root() {
        decoder.fields(root, |key, value| {
            if key == "a" {
                out = decoder.strings(value)?;
            }
            Ok(())
        })?;
    }
    Ok(out)
}

#[test]
fn typed_reading() {
    for (text, want) in [
        ("a: [010, 1.10, yes, 2024-01-01]", &["010", "1.10", "yes", "2024-01-01"][..]),
        ("a: [null, x, ~]", &["x"]),
        ("a:", &[]),
        ("", &[]),
        ("# only a comment", &[]),
        ("~", &[]),
        ("b: {x: 1}", &[]),
        ("a: [x]\n---\n]broken", &["x"]),
        ("a: [x]\n%broken", &["x"]),
        ("<<: {a: [x], b: 1}", &["x"]),
        ("<<: [{a: [x]}, {a: [y]}]", &["x"]),
        ("a: [x]\n<<: {a: [y]}", &["x"]),
        ("z: &z [x]\na: *z", &["x"]),
        ("\"<<\": 5\na: [x]", &["x"]),
    ] {
        assert_eq!(strings(text).unwrap(), want, "{text}");
    }
    for bad in [
        "a: text",
        "a: {b: c}",
        "a: [[x]]",
        "a: [x]\na: [y]",
        "1: x\n\"1\": y",
        "[a]",
        "text",
        "<<: text",
        "<<: ~",
        "<<: {}\n<<: {}",
        "a: [!!int x]",
    ] {
        assert!(strings(bad).is_err(), "{bad}");
    }
}

#[test]
fn bools_and_integers() {
    let read = |text: &str| {
        let stream = stream(text).unwrap();
        let decoder = Decoder::new(&stream);
        let root = decoder.root().unwrap();
        (decoder.boolean(root).ok(), decoder.integer(root, 0..=4095).ok())
    };
    for (text, bool_, int) in [
        ("true", Some(Some(true)), None),
        ("\"true\"", None, None),
        ("Off", Some(Some(false)), None),
        ("'y'", Some(Some(true)), None),
        ("1", None, Some(Some(1))),
        ("0644", None, Some(Some(420))),
        ("1.9", None, Some(Some(1))),
        ("-1", None, None),
        ("4096", None, None),
        ("~", Some(None), Some(None)),
        ("[]", None, None),
    ] {
        assert_eq!(read(text), (bool_, int), "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = stream(&bytes);
    }

    #[test]
    fn no_text_panics(text in "[\\-:?,\\[\\]{}#&*!|>'\"%@` \t\na-c0-1<.]{0,80}") {
        let _ = stream(&text);
        let _ = strings(&text);
    }
}
