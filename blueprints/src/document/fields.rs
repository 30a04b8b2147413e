//! The one description of a blueprint's fields. Reading, the schema, `explain` and `fmt` all follow this table.

use super::shape::{Field, Map, Need, Record, Shape};
use super::words::Word;

/// The format that this version reads.
pub const API_VERSION: &str = "castrum/v1";

/// A blueprint.
pub(crate) static BLUEPRINT: Record = Record {
    title: "a blueprint",
    fields: &[
        Field {
            key: "apiVersion",
            shape: Shape::Choice(&[API_VERSION]),
            need: Need::Required,
            about: "The version of this format.",
            example: "castrum/v1",
        },
        Field {
            key: "name",
            shape: Shape::Text(Word::Name),
            need: Need::Required,
            about: "The cluster's name. It is part of the names of machines and networks, and `destroy` asks for it.",
            example: "demo",
        },
        Field {
            key: "sites",
            shape: Shape::Map(Map { key: "NAME", form: Word::Name, value: &Shape::Record(&SITE), least: 1 }),
            need: Need::Required,
            about: "The places that nodes are made in, by name.",
            example: "{ here: { provider: local } }",
        },
        Field {
            key: "groups",
            shape: Shape::Map(Map { key: "NAME", form: Word::Name, value: &Shape::Record(&GROUP), least: 1 }),
            need: Need::Required,
            about: "Nodes declared together, by name. The nodes of the group `workers` are `workers-1`, `workers-2` and so \
                    on. All groups with the role `master` together must have 1, 3, 5 or 7 nodes.",
            example: "{ masters: { role: master, count: 3 } }",
        },
        Field {
            key: "stack",
            shape: Shape::Record(&STACK),
            need: Need::Optional("the stack `swarm` with its own settings"),
            about: "The platform that the nodes run, and its settings.",
            example: "{ name: swarm }",
        },
        Field {
            key: "checks",
            shape: Shape::Map(Map { key: "NAME", form: Word::Name, value: &Shape::Record(&CHECK), least: 0 }),
            need: Need::Default("{}"),
            about: "Checks of your own, by name. Each is a script that every node of its roles runs again and again, as \
                    root, once what all of these carry is healthy on it. It ends with 0 (ok), 1 (warning), 2 (critical) or 3 (unknown), \
                    and says in its first line what it saw; anything else, and no end in time, is unknown. Only ok counts as \
                    healthy, so a run waits for it, and no further node is changed while it is not.",
            example: "{ scratch: { description: There is room for scratch files., run: checks/scratch.sh } }",
        },
        Field {
            key: "limits",
            shape: Shape::Record(&LIMITS),
            need: Need::Optional("every limit has its default"),
            about: "How much may be disturbed or waited for.",
            example: "{ boot: 5m }",
        },
        Field {
            key: "access",
            shape: Shape::Record(&ACCESS),
            need: Need::Optional("only Castrum itself can log in"),
            about: "Who may log in to the nodes beside Castrum itself.",
            example: "{ authorizedKeys: [] }",
        },
        Field {
            key: "state",
            shape: Shape::Record(&STATE),
            need: Need::Optional("the folder `.castrum/` beside the blueprint"),
            about: "Where keyring, journal and the lock of running commands lie: an object store that a team shares.",
            example: "{ place: \"s3://our-clusters/demo\" }",
        },
    ],
};

static SITE: Record = Record {
    title: "a site",
    fields: &[
        Field {
            key: "provider",
            shape: Shape::Text(Word::Name),
            need: Need::Required,
            about: "Who makes the nodes: `local` (on this machine), `ssh` (machines that exist already), `sim` (simulated), \
                    or the NAME of an executable `castrum-provider-NAME`.",
            example: "local",
        },
        Field {
            key: "settings",
            shape: Shape::Map(Map { key: "SETTING", form: Word::Setting, value: &Shape::Free, least: 0 }),
            need: Need::Default("{}"),
            about: "What the provider is told about this site; the keys are the provider's.",
            example: "{ region: north }",
        },
    ],
};

static GROUP: Record = Record {
    title: "a group",
    fields: &[
        Field {
            key: "role",
            shape: Shape::Choice(&["master", "agent", "public-agent"]),
            need: Need::Required,
            about: "What the nodes are for: masters carry the quorum store and the control plane, agents run workloads and \
                    are reached from inside only, public agents run the edge and are reached from outside.",
            example: "agent",
        },
        Field {
            key: "site",
            shape: Shape::Text(Word::Name),
            need: Need::Optional("the only site; with several sites it must be there"),
            about: "The site that the nodes are in.",
            example: "here",
        },
        Field {
            key: "count",
            shape: Shape::Integer(0, 100_000),
            need: Need::Optional("1, or the number of `machines`"),
            about: "How many nodes there are.",
            example: "3",
        },
        Field {
            key: "size",
            shape: Shape::Record(&SIZE),
            need: Need::Optional("every size has its default"),
            about: "What each machine has. Providers that make machines choose the smallest kind that has as much.",
            example: "{ cpus: 2, memory: 4GiB, disk: 20GiB }",
        },
        Field {
            key: "zones",
            shape: Shape::List(&Shape::Text(Word::Zone)),
            need: Need::Optional("the provider chooses"),
            about: "The zones of the site over which the nodes are spread, in turn.",
            example: "[a, b]",
        },
        Field {
            key: "disks",
            shape: Shape::List(&Shape::Record(&DISK)),
            need: Need::Default("[]"),
            about: "Further disks of each machine.",
            example: "[{ size: 100GiB, mount: /data }]",
        },
        Field {
            key: "openPorts",
            shape: Shape::List(&Shape::Text(Word::Port)),
            need: Need::Default("[]"),
            about: "Ports opened to the outside, beside those of the stack.",
            example: "[8080/tcp]",
        },
        Field {
            key: "labels",
            shape: Shape::Map(Map {
                key: "LABEL",
                form: Word::LabelKey,
                value: &Shape::Text(Word::LabelValue),
                least: 0,
            }),
            need: Need::Default("{}"),
            about: "Labels that workloads can choose nodes by. Keys that begin with `castrum` are Castrum's.",
            example: "{ tier: gold }",
        },
        Field {
            key: "machines",
            shape: Shape::List(&Shape::Record(&MACHINE)),
            need: Need::Optional("the provider makes the machines"),
            about: "The machines that exist already, for the provider `ssh`; the first is node 1.",
            example: "[{ address: 10.0.0.5 }]",
        },
    ],
};

static SIZE: Record = Record {
    title: "a size",
    fields: &[
        Field {
            key: "cpus",
            shape: Shape::Integer(1, 1024),
            need: Need::Default("2"),
            about: "Processors.",
            example: "2",
        },
        Field {
            key: "memory",
            shape: Shape::Text(Word::Memory),
            need: Need::Default("2GiB"),
            about: "Memory.",
            example: "4GiB",
        },
        Field {
            key: "disk",
            shape: Shape::Text(Word::Disk),
            need: Need::Default("20GiB"),
            about: "The root disk.",
            example: "20GiB",
        },
    ],
};

static DISK: Record = Record {
    title: "a disk",
    fields: &[
        Field {
            key: "size",
            shape: Shape::Text(Word::Disk),
            need: Need::Required,
            about: "How large the disk is.",
            example: "100GiB",
        },
        Field {
            key: "mount",
            shape: Shape::Text(Word::Folder),
            need: Need::Required,
            about: "Where the disk is mounted. Folders of the system and of Castrum are not for disks.",
            example: "/data",
        },
    ],
};

static MACHINE: Record = Record {
    title: "a machine",
    fields: &[
        Field {
            key: "address",
            shape: Shape::Text(Word::Host),
            need: Need::Required,
            about: "A host name or an address; an alias of `~/.ssh/config` works too.",
            example: "10.0.0.5",
        },
        Field {
            key: "privateAddress",
            shape: Shape::Text(Word::Address),
            need: Need::Optional("`address`"),
            about: "The address by which the other nodes reach the machine.",
            example: "10.1.0.5",
        },
        Field {
            key: "port",
            shape: Shape::Integer(1, 65_535),
            need: Need::Optional("that of `~/.ssh/config`, else 22"),
            about: "The SSH port.",
            example: "22",
        },
        Field {
            key: "user",
            shape: Shape::Text(Word::User),
            need: Need::Optional("that of `~/.ssh/config`, else root"),
            about: "The user to log in as; it must be root or have sudo without a password.",
            example: "root",
        },
        Field {
            key: "key",
            shape: Shape::Text(Word::File),
            need: Need::Optional("the SSH agent's keys and the default ones"),
            about: "The path of a private key.",
            example: "~/.ssh/id_ed25519",
        },
        Field {
            key: "hostKey",
            shape: Shape::Text(Word::PublicKey),
            need: Need::Optional("the machine must be in `known_hosts`"),
            about: "The machine's public host key.",
            example: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHBlOzfp2k9DkdtYB0UiZs6rGjJ4tCZs1Tt5FCBqeXfz",
        },
    ],
};

static STACK: Record = Record {
    title: "a stack",
    fields: &[
        Field {
            key: "name",
            shape: Shape::Text(Word::Stack),
            need: Need::Default("swarm"),
            about: "A stack that Castrum brings along, or the path (with a `/`) of a folder that holds `stack.yaml`.",
            example: "swarm",
        },
        Field {
            key: "settings",
            shape: Shape::Map(Map {
                key: "COMPONENT",
                form: Word::Name,
                value: &COMPONENT_SETTINGS,
                least: 0,
            }),
            need: Need::Default("{}"),
            about: "Settings by component; the stack says which there are.",
            example: "{ prometheus: { retention: 7d } }",
        },
    ],
};

static COMPONENT_SETTINGS: Shape =
    Shape::Map(Map { key: "SETTING", form: Word::Setting, value: &Shape::Free, least: 0 });

static CHECK: Record = Record {
    title: "a check",
    fields: &[
        Field {
            key: "description",
            shape: Shape::Text(Word::Sentence),
            need: Need::Required,
            about: "What holds when it is ok, in a sentence.",
            example: "There is room for scratch files.",
        },
        Field {
            key: "run",
            shape: Shape::Text(Word::Script),
            need: Need::Required,
            about: "The script, in the blueprint's folder. It begins with `#!`, and is brought to the nodes as it is.",
            example: "checks/scratch.sh",
        },
        Field {
            key: "roles",
            shape: Shape::List(&Shape::Choice(&["master", "agent", "public-agent"])),
            need: Need::Optional("nodes of every role"),
            about: "Whose nodes run it.",
            example: "[agent]",
        },
        Field {
            key: "every",
            shape: Shape::Text(Word::Duration),
            need: Need::Default("30s"),
            about: "How long after one run the next begins, once it is ok.",
            example: "30s",
        },
        Field {
            key: "timeout",
            shape: Shape::Text(Word::Duration),
            need: Need::Default("10s"),
            about: "How long it may take.",
            example: "10s",
        },
    ],
};

static LIMITS: Record = Record {
    title: "the limits",
    fields: &[
        Field {
            key: "boot",
            shape: Shape::Text(Word::Duration),
            need: Need::Default("5m"),
            about: "How long a machine may take from being made until its agent is heard; past it the node is set aside as \
                    debt.",
            example: "5m",
        },
        Field {
            key: "settle",
            shape: Shape::Text(Word::Duration),
            need: Need::Default("3m"),
            about: "How long a component may take from being started until its checks are ok; past it the node is set aside \
                    as debt.",
            example: "3m",
        },
        Field {
            key: "silence",
            shape: Shape::Text(Word::Duration),
            need: Need::Default("30s"),
            about: "How long after an agent's last word its node counts as silent.",
            example: "30s",
        },
        Field {
            key: "agentsAtOnce",
            shape: Shape::Integer(1, 10_000),
            need: Need::Default("10"),
            about: "How many agents may be changed at once; masters are always changed one at a time.",
            example: "10",
        },
        Field {
            key: "depotSeeds",
            shape: Shape::Integer(1, 7),
            need: Need::Default("1"),
            about: "How many masters the installer itself fills the depot of; all other nodes fetch from those.",
            example: "1",
        },
    ],
};

static ACCESS: Record = Record {
    title: "the access",
    fields: &[Field {
        key: "authorizedKeys",
        shape: Shape::List(&Shape::Text(Word::PublicKey)),
        need: Need::Default("[]"),
        about: "Public keys that may log in as the user `castrum`.",
        example: "[ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHBlOzfp2k9DkdtYB0UiZs6rGjJ4tCZs1Tt5FCBqeXfz me@here]",
    }],
};

static STATE: Record = Record {
    title: "the state",
    fields: &[
        Field {
            key: "place",
            shape: Shape::Text(Word::StatePlace),
            need: Need::Required,
            about: "The bucket or container, and a prefix in it that is this cluster's alone. Credentials are never written \
                    here: the environment has them.",
            example: "s3://our-clusters/demo",
        },
        Field {
            key: "endpoint",
            shape: Shape::Text(Word::Endpoint),
            need: Need::Optional("the endpoint of the cloud that the place names"),
            about: "Where the store answers, if it is not the cloud's own.",
            example: "https://store.example.org",
        },
        Field {
            key: "region",
            shape: Shape::Text(Word::Zone),
            need: Need::Optional("that of the environment, else `us-east-1`"),
            about: "The region of the bucket; only for `s3://`.",
            example: "eu-central-1",
        },
        Field {
            key: "lease",
            shape: Shape::Text(Word::Duration),
            need: Need::Default("30s"),
            about: "How long a command that was killed keeps the others out. One that runs renews its lease three times \
                    in this time, and stops where it cannot.",
            example: "30s",
        },
    ],
};

/// Every field with its path, as in `groups.NAME.count`, from the top down.
pub(crate) fn all() -> Vec<(String, &'static Field)> {
    fn below(prefix: &str, record: &'static Record, out: &mut Vec<(String, &'static Field)>) {
        for field in record.fields {
            let path = format!("{prefix}{}", field.key);
            let (inner, record) = field.shape.inner();
            out.push((path.clone(), field));
            if let Some(record) = record {
                below(&format!("{path}{inner}."), record, out);
            }
        }
    }
    let mut out = Vec::new();
    below("", &BLUEPRINT, &mut out);
    out
}
