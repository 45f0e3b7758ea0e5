//! Services.

use super::shape::Shape::{
    self, Bool, Either, Free, Integer, Like, List, Loose, Null, Number, Range, Set, Text, Word,
};
use super::shape::{Key, fields, open, strict, with_required};
use super::top::{BOOL_OR_TEXT, EXTENDS, INTEGER_OR_TEXT, LIST_OR_MAP, NUMBER_OR_TEXT, OPTIONS};

const TEXTS: Shape = List(&Text);
const TEXT_SET: Shape = Set(&Text);
const TEXT_OR_SET: Shape = Either(&[Text, Set(&Text)]);
const TEXT_OR_LIST: Shape = Either(&[Text, List(&Text)]);
const COMMAND: Shape = Either(&[Null, Text, List(&Text)]);
const HOSTS: Shape = Either(&[Free(Key::Some, &Either(&[Text, List(&Text)])), Set(&Text)]);
const ULIMITS: Shape = Loose(
    Key::Lower,
    &Either(&[
        Integer,
        Text,
        with_required(&[("hard", INTEGER_OR_TEXT), ("soft", INTEGER_OR_TEXT)], &["soft", "hard"]),
    ]),
);
/// Secrets and configs that a service uses.
const GRANTS: Shape = List(&Either(&[
    Text,
    fields(&[("source", Text), ("target", Text), ("uid", Text), ("gid", Text), ("mode", NUMBER_OR_TEXT)]),
]));
const HOOKS: Shape = List(&HOOK);
const HOOK: Shape = with_required(
    &[
        ("command", COMMAND),
        ("user", Text),
        ("privileged", BOOL_OR_TEXT),
        ("working_dir", Text),
        ("environment", LIST_OR_MAP),
    ],
    &["command"],
);

/// A service.
pub(super) const SERVICE: Shape = fields(&[
    ("develop", DEVELOP),
    ("deploy", DEPLOY),
    ("annotations", LIST_OR_MAP),
    ("attach", BOOL_OR_TEXT),
    ("build", Either(&[Text, BUILD])),
    ("blkio_config", BLKIO),
    ("cap_add", TEXT_SET),
    ("cap_drop", TEXT_SET),
    ("cgroup", Word(&["host", "private"])),
    ("cgroup_parent", Text),
    ("command", COMMAND),
    ("configs", GRANTS),
    ("container_name", Like(is_container_name, "name for a container")),
    ("cpu_count", Either(&[Text, Range(0, i64::MAX)])),
    ("cpu_percent", Either(&[Text, Range(0, 100)])),
    ("cpu_shares", NUMBER_OR_TEXT),
    ("cpu_quota", NUMBER_OR_TEXT),
    ("cpu_period", NUMBER_OR_TEXT),
    ("cpu_rt_period", NUMBER_OR_TEXT),
    ("cpu_rt_runtime", NUMBER_OR_TEXT),
    ("cpus", NUMBER_OR_TEXT),
    ("cpuset", Text),
    ("credential_spec", fields(&[("config", Text), ("file", Text), ("registry", Text)])),
    ("depends_on", Either(&[TEXT_SET, Free(Key::Name, &DEPENDENCY)])),
    ("device_cgroup_rules", TEXT_SET),
    ("devices", List(&Either(&[Text, DEVICE]))),
    ("dns", TEXT_OR_SET),
    ("dns_opt", TEXT_SET),
    ("dns_search", TEXT_OR_SET),
    ("domainname", Text),
    ("entrypoint", COMMAND),
    ("env_file", Either(&[Text, List(&Either(&[Text, ENV_FILE]))])),
    ("label_file", TEXT_OR_LIST),
    ("environment", LIST_OR_MAP),
    ("expose", Set(&NUMBER_OR_TEXT)),
    ("extends", EXTENDS),
    ("provider", PROVIDER),
    ("external_links", TEXT_SET),
    ("extra_hosts", HOSTS),
    ("gpus", Either(&[Word(&["all"]), List(&GPU)])),
    ("group_add", Set(&NUMBER_OR_TEXT)),
    ("healthcheck", HEALTHCHECK),
    ("hostname", Text),
    ("image", Text),
    ("init", BOOL_OR_TEXT),
    ("ipc", Text),
    ("isolation", Text),
    ("labels", LIST_OR_MAP),
    ("links", TEXT_SET),
    ("logging", LOGGING),
    ("mac_address", Text),
    ("mem_limit", NUMBER_OR_TEXT),
    ("mem_reservation", INTEGER_OR_TEXT),
    ("mem_swappiness", INTEGER_OR_TEXT),
    ("memswap_limit", NUMBER_OR_TEXT),
    ("network_mode", Text),
    ("models", Either(&[TEXT_SET, Loose(Key::Name, &USED_MODEL)])),
    ("networks", Either(&[TEXT_SET, Free(Key::Name, &USED_NETWORK)])),
    ("oom_kill_disable", BOOL_OR_TEXT),
    ("oom_score_adj", Either(&[Text, Range(-1000, 1000)])),
    ("pid", Either(&[Text, Null])),
    ("pids_limit", NUMBER_OR_TEXT),
    ("platform", Text),
    ("ports", Set(&Either(&[Number, Text, PORT]))),
    ("post_start", HOOKS),
    ("pre_stop", HOOKS),
    ("privileged", BOOL_OR_TEXT),
    ("profiles", TEXT_SET),
    ("pull_policy", Like(is_pull_policy, "pull policy: always, never, build, missing, daily …")),
    ("pull_refresh_after", Text),
    ("read_only", BOOL_OR_TEXT),
    ("restart", Text),
    ("runtime", Text),
    ("scale", INTEGER_OR_TEXT),
    ("security_opt", TEXT_SET),
    ("shm_size", NUMBER_OR_TEXT),
    ("secrets", GRANTS),
    ("sysctls", LIST_OR_MAP),
    ("stdin_open", BOOL_OR_TEXT),
    ("stop_grace_period", Text),
    ("stop_signal", Text),
    ("storage_opt", open(&[], &[])),
    ("tmpfs", TEXT_OR_SET),
    ("tty", BOOL_OR_TEXT),
    ("ulimits", ULIMITS),
    ("use_api_socket", Bool),
    ("user", Text),
    ("uts", Text),
    ("userns_mode", Text),
    ("volumes", Set(&Either(&[Text, MOUNT]))),
    ("volumes_from", TEXT_SET),
    ("working_dir", Text),
]);

/// Somewhere in it are two allowed characters in a row: the pattern isn't anchored.
fn is_container_name(text: &str) -> bool {
    text.as_bytes().windows(2).any(|pair| {
        pair[0].is_ascii_alphanumeric()
            && (pair[1].is_ascii_alphanumeric() || matches!(pair[1], b'_' | b'.' | b'-'))
    })
}

/// Somewhere in it is a policy: this pattern isn't anchored either.
fn is_pull_policy(text: &str) -> bool {
    const WORDS: [&str; 8] =
        ["always", "never", "build", "if_not_present", "missing", "refresh", "daily", "weekly"];
    let interval = |rest: &str| {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        digits > 0 && rest[digits..].starts_with(['w', 'd', 'h', 'm', 's'])
    };
    let mut intervals = text.match_indices("every_").map(|(i, every)| &text[i + every.len()..]);
    WORDS.iter().any(|word| text.contains(word)) || intervals.any(interval)
}

const DEVELOP: Shape = Either(&[
    Null,
    fields(&[(
        "watch",
        List(&with_required(
            &[
                ("ignore", TEXT_OR_SET),
                ("include", TEXT_OR_SET),
                ("path", Text),
                ("action", Word(&["rebuild", "sync", "restart", "sync+restart", "sync+exec"])),
                ("target", Text),
                ("exec", HOOK),
                ("initial_sync", Bool),
            ],
            &["path", "action"],
        )),
    )]),
]);

const UPDATE: Shape = fields(&[
    ("parallelism", INTEGER_OR_TEXT),
    ("delay", Text),
    ("failure_action", Text),
    ("monitor", Text),
    ("max_failure_ratio", NUMBER_OR_TEXT),
    ("order", Word(&["start-first", "stop-first"])),
]);

const DEPLOY: Shape = Either(&[
    Null,
    fields(&[
        ("mode", Text),
        ("endpoint_mode", Text),
        ("replicas", INTEGER_OR_TEXT),
        ("labels", LIST_OR_MAP),
        ("rollback_config", UPDATE),
        ("update_config", UPDATE),
        ("resources", RESOURCES),
        (
            "restart_policy",
            fields(&[
                ("condition", Text),
                ("delay", Text),
                ("max_attempts", INTEGER_OR_TEXT),
                ("window", Text),
            ]),
        ),
        (
            "placement",
            fields(&[
                ("constraints", TEXTS),
                ("preferences", List(&fields(&[("spread", Text)]))),
                ("max_replicas_per_node", INTEGER_OR_TEXT),
            ]),
        ),
    ]),
]);

const RESOURCES: Shape = fields(&[
    ("limits", fields(&[("cpus", NUMBER_OR_TEXT), ("memory", Text), ("pids", INTEGER_OR_TEXT)])),
    (
        "reservations",
        fields(&[
            ("cpus", NUMBER_OR_TEXT),
            ("memory", Text),
            (
                "generic_resources",
                List(&fields(&[(
                    "discrete_resource_spec",
                    fields(&[("kind", Text), ("value", NUMBER_OR_TEXT)]),
                )])),
            ),
            ("devices", List(&with_required(DEVICE_REQUEST, &["capabilities"]))),
        ]),
    ),
]);

const DEVICE_REQUEST: &[(&str, Shape)] = &[
    ("capabilities", TEXT_SET),
    ("count", INTEGER_OR_TEXT),
    ("device_ids", TEXT_SET),
    ("driver", Text),
    ("options", LIST_OR_MAP),
];

const GPU: Shape = open(DEVICE_REQUEST, &[]);

const BUILD: Shape = fields(&[
    ("context", Text),
    ("dockerfile", Text),
    ("dockerfile_inline", Text),
    ("entitlements", TEXTS),
    ("args", LIST_OR_MAP),
    ("ssh", LIST_OR_MAP),
    ("labels", LIST_OR_MAP),
    ("cache_from", TEXTS),
    ("cache_to", TEXTS),
    ("no_cache", BOOL_OR_TEXT),
    ("additional_contexts", LIST_OR_MAP),
    ("network", Text),
    ("provenance", BOOL_OR_TEXT),
    ("sbom", BOOL_OR_TEXT),
    ("pull", BOOL_OR_TEXT),
    ("target", Text),
    ("shm_size", INTEGER_OR_TEXT),
    ("extra_hosts", HOSTS),
    ("isolation", Text),
    ("privileged", BOOL_OR_TEXT),
    ("secrets", GRANTS),
    ("tags", TEXTS),
    ("ulimits", ULIMITS),
    ("platforms", TEXTS),
]);

const LIMITS: Shape = List(&strict(&[("path", Text), ("rate", INTEGER_OR_TEXT)], &[]));
const WEIGHTS: Shape = List(&strict(&[("path", Text), ("weight", INTEGER_OR_TEXT)], &[]));

const BLKIO: Shape = strict(
    &[
        ("device_read_bps", LIMITS),
        ("device_read_iops", LIMITS),
        ("device_write_bps", LIMITS),
        ("device_write_iops", LIMITS),
        ("weight", INTEGER_OR_TEXT),
        ("weight_device", WEIGHTS),
    ],
    &[],
);

const DEPENDENCY: Shape = with_required(
    &[
        ("restart", BOOL_OR_TEXT),
        ("required", Bool),
        ("condition", Word(&["service_started", "service_healthy", "service_completed_successfully"])),
    ],
    &["condition"],
);

const DEVICE: Shape =
    with_required(&[("source", Text), ("target", Text), ("permissions", Text)], &["source"]);

const ENV_FILE: Shape = strict(&[("path", Text), ("format", Text), ("required", BOOL_OR_TEXT)], &["path"]);

const PROVIDER: Shape = with_required(
    &[
        ("type", Text),
        ("options", Loose(Key::Line, &Either(&[Text, Number, Bool, List(&Either(&[Text, Number, Bool]))]))),
    ],
    &["type"],
);

const HEALTHCHECK: Shape = fields(&[
    ("disable", BOOL_OR_TEXT),
    ("interval", Text),
    ("retries", NUMBER_OR_TEXT),
    ("test", TEXT_OR_LIST),
    ("timeout", Text),
    ("start_period", Text),
    ("start_interval", Text),
]);

const LOGGING: Shape =
    fields(&[("driver", Text), ("options", Loose(Key::Line, &Either(&[Text, Number, Null])))]);

const USED_MODEL: Shape = Either(&[Null, fields(&[("endpoint_var", Text), ("model_var", Text)])]);

const USED_NETWORK: Shape = Either(&[
    Null,
    fields(&[
        ("aliases", TEXT_SET),
        ("interface_name", Text),
        ("ipv4_address", Text),
        ("ipv6_address", Text),
        ("link_local_ips", TEXT_SET),
        ("mac_address", Text),
        ("driver_opts", OPTIONS),
        ("priority", Number),
        ("gw_priority", Number),
    ]),
]);

const PORT: Shape = fields(&[
    ("name", Text),
    ("mode", Text),
    ("host_ip", Text),
    ("target", INTEGER_OR_TEXT),
    ("published", INTEGER_OR_TEXT),
    ("protocol", Text),
    ("app_protocol", Text),
]);

const MOUNT: Shape = with_required(
    &[
        ("type", Word(&["bind", "volume", "tmpfs", "cluster", "npipe", "image"])),
        ("source", Text),
        ("target", Text),
        ("read_only", BOOL_OR_TEXT),
        ("consistency", Text),
        (
            "bind",
            fields(&[
                ("propagation", Text),
                ("create_host_path", BOOL_OR_TEXT),
                ("recursive", Word(&["enabled", "disabled", "writable", "readonly"])),
                ("selinux", Word(&["z", "Z"])),
            ]),
        ),
        ("volume", fields(&[("labels", LIST_OR_MAP), ("nocopy", BOOL_OR_TEXT), ("subpath", Text)])),
        ("tmpfs", fields(&[("size", Either(&[Range(0, i64::MAX), Text])), ("mode", NUMBER_OR_TEXT)])),
        ("image", fields(&[("subpath", Text)])),
    ],
    &["type"],
);
