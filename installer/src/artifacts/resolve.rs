//! From the names in a stack to exact packages, in two calls of apt for a whole stack.

use std::collections::BTreeMap;

use castrum_blueprints::lock::LockedPackage;
use castrum_blueprints::names::ComponentName;
use castrum_blueprints::stack::Source;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::packages::{self, Choice, Paragraph};
use super::{Apt, ArtifactError, Cache, Order};

/// Apt is one busy thread; more of them at once than this only heat the machine.
const SOLVERS: usize = 2;

type Solution = BTreeMap<String, Choice>;

/// Pins the packages of every order, in order of name; archives and files are pinned by the stack itself and get none.
///
/// All packages are solved together, so that every component sees the same choice; only a stack whose components
/// exclude each other costs one call for each component.
pub async fn resolve(
    apt: &Apt,
    cache: &Cache,
    orders: &BTreeMap<ComponentName, Order>,
) -> Result<BTreeMap<ComponentName, Vec<LockedPackage>>, ArtifactError> {
    let lists = Lists::of(apt, cache, orders).await?;
    let mut pinned = BTreeMap::new();
    for (component, order) in orders {
        let mut packages = Vec::new();
        if let Source::Deb(deb) = &order.source {
            // Apt also takes `name/suite` and `name=version`.
            let name = |package: &String| package.split(['/', '=']).next().unwrap_or("").to_owned();
            let roots: Vec<String> = deb.packages.iter().map(name).collect();
            let found = packages::closure(lists.for_component(component), &roots, &order.provided);
            let missing = |detail| ArtifactError::Unsatisfiable { packages: roots.join(" "), detail };
            packages = found.map_err(missing)?.into_values().map(locked).collect::<Result<_, _>>()?;
        }
        pinned.insert(component.clone(), packages);
    }
    Ok(pinned)
}

/// What apt chose, with the paragraph of each package.
struct Lists {
    /// One if all components could be solved together, else one for each component.
    solutions: BTreeMap<Option<ComponentName>, BTreeMap<String, Paragraph>>,
    none: BTreeMap<String, Paragraph>,
}

impl Lists {
    async fn of(
        apt: &Apt,
        cache: &Cache,
        orders: &BTreeMap<ComponentName, Order>,
    ) -> Result<Self, ArtifactError> {
        let wanted: Vec<(ComponentName, Vec<String>)> = orders
            .iter()
            .filter_map(|(component, order)| match &order.source {
                Source::Deb(deb) => Some((component.clone(), deb.packages.iter().cloned().collect())),
                Source::Tarball(_) | Source::File(_) => None,
            })
            .collect();
        let solved = solve_all(apt, cache, wanted).await?;
        let described = describe(apt, cache, &solved).await?;
        let mut solutions = BTreeMap::new();
        for (component, solution) in solved {
            let mut paragraphs = BTreeMap::new();
            for choice in solution.into_values() {
                let found = described.get(&choice).cloned().ok_or_else(|| no_digest(&choice))?;
                paragraphs.insert(choice.name, found);
            }
            solutions.insert(component, paragraphs);
        }
        Ok(Self { solutions, none: BTreeMap::new() })
    }

    fn for_component(&self, component: &ComponentName) -> &BTreeMap<String, Paragraph> {
        let own = self.solutions.get(&Some(component.clone()));
        own.or_else(|| self.solutions.get(&None)).unwrap_or(&self.none)
    }
}

async fn solve_all(
    apt: &Apt,
    cache: &Cache,
    wanted: Vec<(ComponentName, Vec<String>)>,
) -> Result<BTreeMap<Option<ComponentName>, Solution>, ArtifactError> {
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut all: Vec<String> = wanted.iter().flat_map(|(_, packages)| packages.clone()).collect();
    all.sort_unstable();
    all.dedup();
    match solve(apt, cache, &all).await {
        Err(ArtifactError::Unsatisfiable { .. }) if wanted.len() > 1 => {
            let each = wanted.into_iter().map(|(component, packages)| async move {
                solve(apt, cache, &packages).await.map(|solution| (Some(component), solution))
            });
            stream::iter(each).buffer_unordered(SOLVERS).try_collect().await
        }
        result => result.map(|solution| BTreeMap::from([(None, solution)])),
    }
}

async fn solve(apt: &Apt, cache: &Cache, packages: &[String]) -> Result<Solution, ArtifactError> {
    let printed = apt.solve(cache, packages).await?;
    let choices = printed.lines().filter_map(packages::parse_uri_line);
    Ok(choices.map(|choice| (choice.name.clone(), choice)).collect())
}

/// The paragraph of every package of the solutions, in one call.
async fn describe(
    apt: &Apt,
    cache: &Cache,
    solved: &BTreeMap<Option<ComponentName>, Solution>,
) -> Result<BTreeMap<Choice, Paragraph>, ArtifactError> {
    let mut specs: Vec<String> = solved.values().flat_map(BTreeMap::values).map(Choice::spec).collect();
    specs.sort_unstable();
    specs.dedup();
    if specs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let shown = apt.show(cache, &specs).await?;
    let mut described = BTreeMap::new();
    for paragraph in packages::parse_paragraphs(&shown) {
        // Two archives may have the same version with other bytes; the size tells which one apt chose.
        let choice = Choice {
            name: paragraph.name.clone(),
            version: paragraph.version.clone(),
            arch: paragraph.arch.clone(),
            size: paragraph.size,
        };
        described.entry(choice).or_insert(paragraph);
    }
    Ok(described)
}

fn locked(paragraph: &Paragraph) -> Result<LockedPackage, ArtifactError> {
    let Paragraph { name, version, arch, size, sha256, .. } = paragraph;
    let sha256 = sha256
        .parse()
        .map_err(|_| ArtifactError::NoDigest { name: name.clone(), version: version.clone() })?;
    let (name, version, architecture) = (name.clone(), version.clone(), arch.clone());
    Ok(LockedPackage { name, version, architecture, sha256, size: *size })
}

fn no_digest(choice: &Choice) -> ArtifactError {
    ArtifactError::NoDigest { name: choice.name.clone(), version: choice.version.clone() }
}
