//! What each node shall run, rendered, and kept from plan to plan for as long as it stays the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::desired::{Desired, DesiredNode};
use crate::manifest::{MANIFEST_FORMAT, Manifest, Peer};
use crate::names::{ComponentName, Digest, NodeName};
use crate::render::{NodeContext, Part, RenderError, Rendered, Renderer, Session};

/// What every content is rendered from; the same while both are the very same.
type Basis = (Arc<Renderer>, Arc<BTreeMap<NodeName, DesiredNode>>);

/// Rendered components by node, and what they were rendered from.
#[derive(Debug, Default)]
pub(super) struct RenderCache {
    /// Whether there will be another plan; else nothing is kept, which is a matter of memory.
    keeps: bool,
    basis: Option<Basis>,
    masters: Vec<Peer>,
    addresses: Vec<IpAddr>,
    founders: BTreeMap<ComponentName, NodeName>,
    nodes: BTreeMap<NodeName, Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    content: Option<Arc<Content>>,
    /// What is still good of a content that is not.
    spare: Vec<Rendered>,
}

/// What a node shall run, rendered.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) components: Vec<Rendered>,
    /// The manifest, but for its generation.
    pub(super) manifest: Manifest,
    pub(super) digest: Digest,
}

impl RenderCache {
    /// One that keeps what it rendered for the next plan.
    pub(super) fn for_many() -> Self {
        Self { keeps: true, ..Self::default() }
    }

    /// Drops what was rendered from something that is otherwise now.
    pub(super) fn turn_to(&mut self, desired: &Desired, masters: &[Peer], nodes: &[NodeContext<'_>]) {
        let same = |(renderer, known): &Basis| {
            Arc::ptr_eq(renderer, &desired.renderer) && Arc::ptr_eq(known, &desired.nodes)
        };
        if !self.basis.as_ref().is_some_and(same) || self.masters != masters {
            let basis = Some((Arc::clone(&desired.renderer), Arc::clone(&desired.nodes)));
            *self = Self { keeps: self.keeps, basis, masters: masters.to_vec(), ..Self::default() };
        }
        let mut stale = BTreeSet::new();
        if !self.addresses.iter().copied().eq(nodes.iter().map(|node| node.address)) {
            self.addresses = nodes.iter().map(|node| node.address).collect();
            stale.extend(desired.renderer.names().filter(|name| desired.renderer.needs_nodes(name)).cloned());
        }
        if self.founders != desired.founders {
            let other = |name: &&ComponentName| self.founders.get(*name) != desired.founders.get(*name);
            stale.extend(desired.renderer.names().filter(other).cloned());
            self.founders.clone_from(&desired.founders);
        }
        if !stale.is_empty() {
            self.nodes.values_mut().for_each(|kept| kept.drop_stale(&stale));
        }
    }

    /// What `node` shall run when the components `open` are open on it.
    pub(super) fn content(
        &mut self,
        desired: &Desired,
        session: &mut Session<'_>,
        node: &NodeContext<'_>,
        open: &[&ComponentName],
    ) -> Result<Arc<Content>, RenderError> {
        if !self.keeps {
            let render =
                |name: &&ComponentName| session.render(name, node, part(desired, &self.masters, node, name));
            let rendered = open.iter().map(render).collect::<Result<_, _>>()?;
            return Ok(Arc::new(Content::of(desired, &self.masters, node, rendered)));
        }
        if !self.nodes.contains_key(node.name) {
            self.nodes.insert(node.name.clone(), Kept::default());
        }
        let masters = &self.masters;
        let kept = self.nodes.get_mut(node.name).expect("it was just put there");
        if let Some(content) = &kept.content
            && content.components.iter().map(|rendered| &rendered.manifest.name).eq(open.iter().copied())
        {
            return Ok(Arc::clone(content));
        }
        let known = kept.content.take().map_or_else(Vec::new, |content| content.components.clone());
        let known: Vec<Rendered> = known.into_iter().chain(kept.spare.drain(..)).collect();
        let render = |name: &&ComponentName| {
            let known = known.iter().find(|rendered| rendered.manifest.name == **name);
            known.cloned().map_or_else(|| session.render(name, node, part(desired, masters, node, name)), Ok)
        };
        let rendered = open.iter().map(render).collect::<Result<_, _>>()?;
        let content = Arc::new(Content::of(desired, masters, node, rendered));
        kept.content = Some(Arc::clone(&content));
        Ok(content)
    }
}

impl Kept {
    fn drop_stale(&mut self, stale: &BTreeSet<ComponentName>) {
        let is_stale = |rendered: &Rendered| stale.contains(&rendered.manifest.name);
        if self.content.as_ref().is_some_and(|content| content.components.iter().any(is_stale)) {
            let content = self.content.take();
            self.spare = content.into_iter().flat_map(|content| content.components.clone()).collect();
        }
        self.spare.retain(|rendered| !is_stale(rendered));
    }
}

impl Content {
    fn of(desired: &Desired, masters: &[Peer], node: &NodeContext<'_>, components: Vec<Rendered>) -> Self {
        let manifest = Manifest {
            format_version: MANIFEST_FORMAT,
            cluster: desired.cluster.clone(),
            cluster_name: desired.name.clone(),
            node: node.name.clone(),
            role: node.role,
            generation: 0,
            masters: masters.to_vec(),
            components: components.iter().map(|rendered| Arc::clone(&rendered.manifest)).collect(),
        };
        let digests: Vec<&Digest> = components.iter().map(|rendered| &rendered.digest).collect();
        let digest = manifest.content_with(&digests);
        Self { components, manifest, digest }
    }
}

/// How a node takes part in a component's membership.
fn part(desired: &Desired, masters: &[Peer], node: &NodeContext<'_>, name: &ComponentName) -> Part {
    match desired.founders.get(name) {
        Some(founder) if founder != node.name => {
            let founder = masters.iter().find(|peer| peer.name == *founder);
            founder.map_or(Part::None, |founder| Part::Joiner(founder.clone()))
        }
        Some(_) => Part::Founder,
        None => Part::None,
    }
}
