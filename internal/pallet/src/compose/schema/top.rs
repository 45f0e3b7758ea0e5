//! The top level: everything but services.

use super::service::SERVICE;
use super::shape::Shape::{self, Bool, Either, Free, Integer, List, Loose, Null, Number, Set, Text};
use super::shape::{Key, fields, open, strict, with_required};

pub(super) const BOOL_OR_TEXT: Shape = Either(&[Bool, Text]);
pub(super) const INTEGER_OR_TEXT: Shape = Either(&[Integer, Text]);
pub(super) const NUMBER_OR_TEXT: Shape = Either(&[Number, Text]);
/// `key: value` or `key=value`.
pub(super) const LIST_OR_MAP: Shape =
    Either(&[Free(Key::Some, &Either(&[Text, Number, Bool, Null])), Set(&Text)]);
/// Options of a driver.
pub(super) const OPTIONS: Shape = Loose(Key::Line, &NUMBER_OR_TEXT);

/// A whole model.
pub(super) const MODEL: Shape = fields(&[
    ("version", Text),
    ("name", Text),
    ("services", Free(Key::Name, &SERVICE)),
    ("models", Loose(Key::Name, &MODEL_RESOURCE)),
    ("networks", Loose(Key::Name, &NETWORK)),
    ("volumes", Free(Key::Name, &VOLUME)),
    ("secrets", Free(Key::Name, &SECRET)),
    ("configs", Free(Key::Name, &CONFIG)),
]);

const MODEL_RESOURCE: Shape = with_required(
    &[("name", Text), ("model", Text), ("context_size", Integer), ("runtime_flags", List(&Text))],
    &["model"],
);

/// Where nothing but the name may be said.
const EXTERNAL: Shape = Either(&[Bool, Text, fields(&[("name", Text)])]);
/// The same, as secrets and configs have it.
const LOOSE_EXTERNAL: Shape = Either(&[Bool, Text, open(&[("name", Text)], &[])]);

const NETWORK: Shape = Either(&[
    Null,
    fields(&[
        ("name", Text),
        ("driver", Text),
        ("driver_opts", OPTIONS),
        ("ipam", IPAM),
        ("external", EXTERNAL),
        ("internal", BOOL_OR_TEXT),
        ("enable_ipv4", BOOL_OR_TEXT),
        ("enable_ipv6", BOOL_OR_TEXT),
        ("attachable", BOOL_OR_TEXT),
        ("labels", LIST_OR_MAP),
    ]),
]);

const IPAM: Shape = fields(&[
    ("driver", Text),
    (
        "config",
        List(&fields(&[
            ("subnet", Text),
            ("ip_range", Text),
            ("gateway", Text),
            ("aux_addresses", Free(Key::Line, &Text)),
        ])),
    ),
    ("options", Free(Key::Line, &Text)),
]);

const VOLUME: Shape = Either(&[
    Null,
    fields(&[
        ("name", Text),
        ("driver", Text),
        ("driver_opts", OPTIONS),
        ("external", EXTERNAL),
        ("labels", LIST_OR_MAP),
    ]),
]);

const SECRET: Shape = fields(&[
    ("name", Text),
    ("environment", Text),
    ("file", Text),
    ("external", LOOSE_EXTERNAL),
    ("labels", LIST_OR_MAP),
    ("driver", Text),
    ("driver_opts", OPTIONS),
    ("template_driver", Text),
]);

const CONFIG: Shape = fields(&[
    ("name", Text),
    ("content", Text),
    ("environment", Text),
    ("file", Text),
    ("external", LOOSE_EXTERNAL),
    ("labels", LIST_OR_MAP),
    ("template_driver", Text),
]);

/// `extends` of a service.
pub(super) const EXTENDS: Shape = Either(&[Text, strict(&[("service", Text), ("file", Text)], &["service"])]);
