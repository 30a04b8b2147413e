//! From a component of the stack to the manifest of one node: templates and settings become plain text here.
//!
//! A template sees `cluster.{id,name}`, `node.{name,role,address,group,labels}`, `masters` and `nodes` (lists of
//! `{name,role,address,labels}`), `settings.*`, and the paths `store`, `config`, `pki`. A component whose templates do
//! not mention `node.` is rendered once for all nodes of a role, which keeps rendering linear in nodes.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use handlebars::{Context, Handlebars};
use serde_json::{Value, json};

use crate::blueprint::Blueprint;
use crate::lock::Lock;
use crate::manifest::{
    ACTIVE_DIR, Assertion, Blob, Call, Check, ComponentManifest, Digests, FactManifest, FolderManifest,
    HttpAssertion, MembershipManifest, PKI_DIR, Peer, Target,
};
use crate::names::{ComponentName, Digest, NodeName, Role};
use crate::stack::{Component, Stack};

/// Why a component cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A template does not parse.
    #[error("template `{path}`: {message}")]
    Template {
        /// The template's path.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// A template cannot be filled in.
    #[error("component `{component}`, {place}: {message}")]
    Fill {
        /// The component.
        component: ComponentName,
        /// Where in it.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A blueprint sets what the stack does not know, or with another type.
    #[error("stack.settings.{path}: {message}")]
    Setting {
        /// `component.setting`.
        path: String,
        /// What is wrong with it.
        message: String,
    },
}

/// A node as templates see it.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeContext<'a> {
    /// Its name.
    pub name: &'a NodeName,
    /// What it is for.
    pub role: Role,
    /// Its address inside the cluster.
    pub address: IpAddr,
    /// The group that declares it.
    pub group: &'a str,
    /// Labels for workloads.
    pub labels: &'a BTreeMap<String, String>,
}

impl NodeContext<'_> {
    fn value(&self) -> Value {
        json!({
            "name": self.name, "role": self.role, "address": self.address,
            "group": self.group, "labels": self.labels,
        })
    }
}

/// The cluster as templates see it. Most components name masters at the most, so the list of all nodes is made when it
/// is first asked for.
#[derive(Debug)]
pub struct ClusterContext<'a> {
    masters: Vec<Value>,
    all: &'a [NodeContext<'a>],
    nodes: OnceCell<Vec<Value>>,
}

impl<'a> ClusterContext<'a> {
    /// Makes it from the nodes whose addresses are known, in order of name.
    pub fn new(nodes: &'a [NodeContext<'a>]) -> Self {
        let masters = nodes.iter().filter(|node| node.role == Role::Master);
        Self { masters: masters.map(NodeContext::value).collect(), all: nodes, nodes: OnceCell::new() }
    }

    fn nodes(&self) -> &[Value] {
        self.nodes.get_or_init(|| self.all.iter().map(NodeContext::value).collect())
    }
}

/// How a component takes part in its membership on one node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// It has no membership.
    None,
    /// This node founds it.
    Founder,
    /// This node joins through the given founder.
    Joiner(Peer),
}

/// A rendered component with its digest.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// The component.
    pub manifest: Arc<ComponentManifest>,
    /// Its digest.
    pub digest: Digest,
}

/// Renders the components of one stack with one blueprint's settings.
#[derive(Debug)]
pub struct Renderer {
    templates: Handlebars<'static>,
    components: BTreeMap<ComponentName, Prepared>,
    cluster: Value,
}

#[derive(Debug)]
struct Prepared {
    component: Component,
    wave: u32,
    bundle: Option<Blob>,
    settings: Value,
    by_node: bool,
    needs_nodes: bool,
}

impl Renderer {
    /// Parses every template and checks every setting.
    pub fn new(blueprint: &Blueprint, stack: &Stack, lock: &Lock) -> Result<Self, RenderError> {
        let mut templates = Handlebars::new();
        templates.set_strict_mode(true);
        templates.register_escape_fn(handlebars::no_escape);
        for (path, text) in &stack.templates {
            templates
                .register_template_string(path, text)
                .map_err(|error| RenderError::Template { path: path.clone(), message: error.to_string() })?;
        }
        for component in stack.components.values() {
            for text in inline_templates(component) {
                let named = templates.register_template_string(&text, &text);
                named.map_err(|error| RenderError::Template { path: text, message: error.to_string() })?;
            }
        }
        check_settings(blueprint, stack)?;
        let chosen = &blueprint.stack.settings;
        let components = stack.components.iter().map(|(name, component)| {
            let mentions = |word: &str| mentions(component, &stack.templates, word);
            let prepared = Prepared {
                component: component.clone(),
                wave: stack.waves[name],
                bundle: lock.components.get(name).and_then(|c| c.bundle.clone()),
                settings: merged_settings(component, chosen.get(name.as_str())),
                by_node: mentions("node."),
                needs_nodes: mentions("nodes"),
            };
            (name.clone(), prepared)
        });
        let cluster = json!({ "id": lock.cluster, "name": lock.name });
        Ok(Self { components: components.collect(), templates, cluster })
    }

    /// The components that must be healthy before `name` is started.
    pub fn requires(&self, name: &ComponentName) -> &BTreeSet<ComponentName> {
        &self.components[name].component.requires
    }

    /// Whether a majority of `name`'s nodes is enough for what requires it.
    pub fn is_quorum(&self, name: &ComponentName) -> bool {
        self.components[name].component.quorum
    }

    /// Whether `name` has a membership, which exactly one node founds.
    pub fn has_membership(&self, name: &ComponentName) -> bool {
        self.components[name].component.membership.is_some()
    }

    /// The roles that carry `name`.
    pub fn roles(&self, name: &ComponentName) -> &BTreeSet<Role> {
        &self.components[name].component.roles
    }

    /// The files of `name`.
    pub fn bundle(&self, name: &ComponentName) -> Option<&Blob> {
        self.components[name].bundle.as_ref()
    }

    /// The place of `name` in the boot order, from 1.
    pub fn wave(&self, name: &ComponentName) -> u32 {
        self.components[name].wave
    }

    /// Whether its config names every node of the cluster.
    pub fn needs_nodes(&self, name: &ComponentName) -> bool {
        self.components[name].needs_nodes
    }

    /// Whether `name` has a process of its own, and with it a log.
    pub fn has_process(&self, name: &ComponentName) -> bool {
        self.components.get(name).is_some_and(|c| c.component.unit.is_some())
    }

    /// How many seconds lie between two runs of each check of `name` that is ok.
    pub fn check_intervals(&self, name: &ComponentName) -> BTreeMap<&str, u32> {
        let checks = self.components.get(name).into_iter().flat_map(|c| &c.component.checks);
        checks.map(|check| (check.name.as_str(), check.every)).collect()
    }

    /// Every component, in order of name.
    pub fn names(&self) -> impl Iterator<Item = &ComponentName> {
        self.components.keys()
    }

    /// Renders components for one state of the cluster, each distinct result once.
    pub fn session<'a>(&'a self, cluster: &'a ClusterContext<'a>) -> Session<'a> {
        Session { renderer: self, cluster, shared: BTreeMap::new() }
    }
}

/// Rendering against one state of the cluster.
#[derive(Debug)]
pub struct Session<'a> {
    renderer: &'a Renderer,
    cluster: &'a ClusterContext<'a>,
    shared: BTreeMap<(ComponentName, Role, Part), Rendered>,
}

impl Session<'_> {
    /// The component `name` as `node` shall run it.
    pub fn render(
        &mut self,
        name: &ComponentName,
        node: &NodeContext<'_>,
        part: Part,
    ) -> Result<Rendered, RenderError> {
        let prepared = &self.renderer.components[name];
        if prepared.by_node {
            return self.render_one(name, node, part);
        }
        let key = (name.clone(), node.role, part.clone());
        if let Some(rendered) = self.shared.get(&key) {
            return Ok(rendered.clone());
        }
        let rendered = self.render_one(name, node, part)?;
        self.shared.insert(key, rendered.clone());
        Ok(rendered)
    }

    fn render_one(
        &self,
        name: &ComponentName,
        node: &NodeContext<'_>,
        part: Part,
    ) -> Result<Rendered, RenderError> {
        let Prepared { component, wave, bundle, settings, needs_nodes, .. } = &self.renderer.components[name];
        let active = format!("{ACTIVE_DIR}/{name}");
        let context = json!({
            "cluster": self.renderer.cluster,
            "node": node.value(),
            "masters": self.cluster.masters,
            "nodes": if *needs_nodes { self.cluster.nodes() } else { &[] },
            "settings": settings,
            "store": format!("{active}/store"),
            "config": format!("{active}/config"),
            "pki": PKI_DIR,
        });
        let context = Context::from(context);
        let fill = Fill { templates: &self.renderer.templates, component: name, context: &context };
        let local = |required: &&ComponentName| {
            self.renderer.components[*required].component.roles.contains(&node.role)
        };
        let config = component.config.iter().map(|(path, template)| Ok((path.clone(), fill.file(template)?)));
        let manifest = ComponentManifest {
            name: name.clone(),
            wave: *wave,
            requires: component.requires.iter().filter(local).cloned().collect(),
            bundle: bundle.clone(),
            account: component.account.clone(),
            folders: folders(component),
            config: config.collect::<Result<_, RenderError>>()?,
            unit: component.unit.as_ref().map(|template| fill.file(template)).transpose()?,
            membership: fill.membership(component, part)?,
            facts: fill.facts(component)?,
            checks: fill.checks(component)?,
            digests: Digests::default(),
        };
        let digest = manifest.digest();
        Ok(Rendered { manifest: Arc::new(manifest), digest })
    }
}

/// Fills in the templates of one component for one node.
struct Fill<'a> {
    templates: &'a Handlebars<'static>,
    component: &'a ComponentName,
    context: &'a Context,
}

impl Fill<'_> {
    fn error(&self, place: &str, message: &impl ToString) -> RenderError {
        let (component, message) = (self.component.clone(), message.to_string());
        RenderError::Fill { component, place: place.to_owned(), message }
    }

    fn file(&self, template: &str) -> Result<String, RenderError> {
        self.templates
            .render_with_context(template, self.context)
            .map_err(|error| self.error(template, &error))
    }

    fn text(&self, place: &str, text: &str) -> Result<String, RenderError> {
        if !text.contains("{{") {
            return Ok(text.to_owned());
        }
        self.templates.render_with_context(text, self.context).map_err(|error| self.error(place, &error))
    }

    fn value(&self, place: &str, value: &Value) -> Result<Value, RenderError> {
        Ok(match value {
            Value::String(text) => Value::String(self.text(place, text)?),
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.value(place, item)).collect::<Result<_, _>>()?)
            }
            Value::Object(map) => {
                let filled = map.iter().map(|(key, item)| Ok((key.clone(), self.value(place, item)?)));
                Value::Object(filled.collect::<Result<_, RenderError>>()?)
            }
            other => other.clone(),
        })
    }

    fn assertion(&self, place: &str, assertion: &Assertion) -> Result<Assertion, RenderError> {
        Ok(match assertion {
            Assertion::Http(http) => Assertion::Http(HttpAssertion {
                url: self.text(place, &http.url)?,
                equals: http.equals.as_ref().map(|value| self.value(place, value)).transpose()?,
                ..http.clone()
            }),
            Assertion::Tcp(address) => Assertion::Tcp(self.text(place, address)?),
            Assertion::Exec(words) => {
                Assertion::Exec(words.iter().map(|word| self.text(place, word)).collect::<Result<_, _>>()?)
            }
        })
    }

    fn call(&self, place: &str, call: &Call) -> Result<Call, RenderError> {
        let target = Target { url: self.text(place, &call.target.url)?, socket: call.target.socket.clone() };
        let body = call.body.as_ref().map(|body| self.value(place, body)).transpose()?;
        Ok(Call { target, body, method: call.method.clone(), accept: call.accept.clone() })
    }

    fn membership(
        &self,
        component: &Component,
        part: Part,
    ) -> Result<Option<MembershipManifest>, RenderError> {
        let Some(membership) = &component.membership else { return Ok(None) };
        let (calls, facts_from) = match part {
            Part::Joiner(founder) => (&membership.join, Some(founder)),
            Part::Founder | Part::None => (&membership.found, None),
        };
        let calls = calls.iter().map(|call| self.call("membership", call)).collect::<Result<_, _>>()?;
        let member = self.assertion("membership.member", &membership.member)?;
        Ok(Some(MembershipManifest { member, calls, facts_from }))
    }

    fn facts(&self, component: &Component) -> Result<BTreeMap<String, FactManifest>, RenderError> {
        let facts = component.facts.iter().map(|(name, fact)| {
            let call = self.call(&format!("facts.{name}"), &fact.call)?;
            Ok((
                name.clone(),
                FactManifest { call, pointer: fact.pointer.clone(), roles: fact.roles.clone() },
            ))
        });
        facts.collect()
    }

    fn checks(&self, component: &Component) -> Result<Vec<Check>, RenderError> {
        let checks = component.checks.iter().map(|check| {
            Ok(Check {
                name: check.name.clone(),
                description: check.description.clone(),
                assert: self.assertion(&format!("checks.{}", check.name), &check.assert)?,
                every: check.every,
                timeout: check.timeout,
            })
        });
        checks.collect()
    }
}

fn folders(component: &Component) -> Vec<FolderManifest> {
    let owner = |folder: &crate::stack::Folder| {
        folder.owner.clone().or_else(|| component.account.clone()).unwrap_or_else(|| "root".to_owned())
    };
    let made = component.folders.iter().map(|folder| FolderManifest {
        path: folder.path.clone(),
        owner: owner(folder),
        mode: u32::from_str_radix(&folder.mode, 8).unwrap_or(0o755),
    });
    made.collect()
}

/// The texts with placeholders that stand in the component itself; each is parsed once, under its own text as a name.
fn inline_templates(component: &Component) -> BTreeSet<String> {
    fn collect(value: &Value, texts: &mut BTreeSet<String>) {
        match value {
            Value::String(text) if text.contains("{{") => {
                texts.insert(text.clone());
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
            Value::Object(map) => map.values().for_each(|item| collect(item, texts)),
            _ => {}
        }
    }
    let parts = json!([component.checks, component.membership, component.facts]);
    let mut texts = BTreeSet::new();
    collect(&parts, &mut texts);
    texts
}

/// Whether a template, check or call of the component mentions `word` inside a `{{ }}`.
fn mentions(component: &Component, templates: &BTreeMap<String, String>, word: &str) -> bool {
    let files = component.config.values().chain(&component.unit).filter_map(|path| templates.get(path));
    let data = serde_json::to_string(&(&component.checks, &component.membership, &component.facts))
        .expect("a component is plain data");
    files.map(String::as_str).chain([data.as_str()]).any(|text| {
        text.split("{{").skip(1).any(|rest| {
            let inside = rest.split("}}").next().unwrap_or_default();
            inside.split(|c: char| !(c.is_alphanumeric() || c == '.' || c == '_')).any(|token| {
                if word.ends_with('.') {
                    token.starts_with(word) || token == &word[..word.len() - 1]
                } else {
                    token == word
                }
            })
        })
    })
}

fn check_settings(blueprint: &Blueprint, stack: &Stack) -> Result<(), RenderError> {
    for (component, settings) in &blueprint.stack.settings {
        let known = stack.components.get(component.as_str());
        for (setting, value) in settings {
            let path = format!("{component}.{setting}");
            let fail = |message: String| Err(RenderError::Setting { path: path.clone(), message });
            let Some(known) = known else { return fail(format!("the stack has no component `{component}`")) };
            let Some(declared) = known.settings.get(setting) else {
                let near = nearest(setting, known.settings.keys().map(String::as_str));
                return fail(format!("the component has no such setting{near}"));
            };
            if std::mem::discriminant(value) != std::mem::discriminant(&declared.default) {
                return fail(format!("a value like `{}` is expected, not `{value}`", declared.default));
            }
        }
    }
    Ok(())
}

fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let best = known.map(|k| (strsim::osa_distance(word, k), k)).min();
    best.filter(|(distance, _)| *distance <= 3)
        .map_or_else(String::new, |(_, k)| format!("; did you mean `{k}`?"))
}

fn merged_settings(component: &Component, chosen: Option<&BTreeMap<String, Value>>) -> Value {
    let value = |name: &String, default: &Value| chosen.and_then(|c| c.get(name)).unwrap_or(default).clone();
    Value::Object(component.settings.iter().map(|(n, s)| (n.clone(), value(n, &s.default))).collect())
}
