//! A small stack for tests, in the shape of a real one: a quorum store, runtimes, a pool that is founded once and joined
//! by everybody, and what stands on it.

use castrum_blueprints::stack::{Stack, StackFiles};

const STACK: &str = r#"
apiVersion: castrum.stack/v1
name: camp
version: 1.0.0
description: A small stack for tests.
components:
  store:
    category: cluster-management
    description: The quorum store.
    roles: [master]
    quorum: true
    source: {deb: {packages: [store]}}
    account: castrum-store
    folders: [{path: /var/lib/castrum/store, mode: "0700"}]
    ports: [{number: 2379, protocol: tcp, from: cluster, purpose: clients}]
    settings: {quota: {description: How much., default: 10}}
    config: {store.yaml: store.hbs}
    unit: unit.hbs
    checks: [{name: quorum, description: A majority agrees., assert: {tcp: "127.0.0.1:2379"}}]
  runtime:
    category: container-runtimes
    description: Runs containers.
    roles: [master, agent, public-agent]
    source: {deb: {packages: [runtime]}}
    settings: {level: {description: How loud., default: 1}}
    config: {runtime.toml: runtime.hbs}
    unit: unit.hbs
    checks: [{name: answers, description: It answers., assert: {exec: ["true"]}}]
  engine:
    category: container-runtimes
    description: What people speak to.
    roles: [master, agent, public-agent]
    requires: [runtime]
    source: {deb: {packages: [engine]}}
    account: castrum-engine
    unit: unit.hbs
    checks: [{name: answers, description: It answers., assert: {exec: ["true"]}}]
  pool:
    category: container-orchestration
    description: All engines in one pool.
    roles: [master, agent, public-agent]
    requires: [engine, store]
    membership:
      member: {exec: ["true"]}
      found: [{url: "http://localhost/found", method: POST, body: {address: "{{node.address}}"}}]
      join: [{url: "http://localhost/join", method: POST, body: {token: "${fact:token}"}}]
    facts: {token: {call: {url: "http://localhost/token"}, pointer: /token, roles: [master, agent, public-agent]}}
    checks: [{name: member, description: It is a member., assert: {http: {url: "http://{{node.address}}/"}}}]
  net:
    category: networking
    description: The network on which services meet.
    roles: [master]
    requires: [pool]
    membership: {member: {exec: ["true"]}, found: [{url: "http://localhost/net", method: POST}], join: []}
    checks: [{name: there, description: It is there., assert: {exec: ["true"]}}]
  gauge:
    category: logging-and-metrics
    description: Measures the machine.
    roles: [master, agent, public-agent]
    source: {deb: {packages: [gauge]}}
    unit: unit.hbs
    checks: [{name: measures, description: It measures., assert: {tcp: "{{node.address}}:9100"}}]
  panel:
    category: logging-and-metrics
    description: Shows what is measured.
    roles: [master]
    requires: [gauge]
    source: {deb: {packages: [panel]}}
    config: {targets.yaml: targets.hbs}
    unit: unit.hbs
    checks: [{name: shows, description: It shows., assert: {tcp: "127.0.0.1:9090"}}]
  edge:
    category: networking
    description: The way in for everybody.
    roles: [public-agent]
    requires: [pool]
    source: {deb: {packages: [edge]}}
    ports: [{number: 443, protocol: tcp, from: outside, purpose: everybody}]
    unit: unit.hbs
    checks: [{name: answers, description: It answers., assert: {tcp: "127.0.0.1:443"}}]
"#;

/// The files of the stack.
pub fn files() -> StackFiles {
    let files = [
        ("stack.yaml", STACK),
        (
            "store.hbs",
            "quota: {{settings.quota}}\nmembers:\n{{#each masters}}- {{name}}={{address}}\n{{/each}}",
        ),
        ("runtime.hbs", "level = {{settings.level}}\n"),
        ("targets.hbs", "targets:\n{{#each nodes}}- {{address}}\n{{/each}}"),
        ("unit.hbs", "[Service]\nExecStart={{store}}/run --config {{config}}\nType=notify\n"),
    ];
    files.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect()
}

/// The stack.
pub fn stack() -> Stack {
    Stack::read(&files()).expect("the stack of the tests is valid")
}
