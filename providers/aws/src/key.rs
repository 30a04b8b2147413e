//! An SSH key that machines let in beside what their boot data says: a key pair of which only the public half is sent.

use aws_sdk_ec2::primitives::Blob;
use aws_sdk_ec2::types::{KeyPairInfo, ResourceType};
use castrum_blueprints::names::ResourcePath;
use castrum_provider::{Change, Failure, KeySpec, Removed, ResourceSeen, Wanted};

use crate::failure::fault;
use crate::list::{Part, Scope, tagged};
use crate::network::gone;
use crate::place::{Found, Pauses, Place, awaited, settle, taken_name};

pub(crate) const KEY: &str = "key";

/// What the parts are as one resource.
pub(crate) fn judge(place: &Place, path: &ResourcePath, parts: &[Part<KeyPairInfo>]) -> Option<ResourceSeen> {
    let (key, _) = settle(parts.to_vec(), |_| false);
    let key = key?;
    place.learn(path, KEY, key.it.key_name().unwrap_or_default());
    Some(Found::new(place, &key).seen())
}

/// Algorithm and key of a public key line, without its comment.
fn essence(line: &str) -> Vec<&str> {
    line.split_whitespace().take(2).collect()
}

/// Whether the key pair may be another key; the service does not always tell.
fn differs(key: &Part<KeyPairInfo>, wanted: &Wanted, spec: &KeySpec) -> bool {
    match key.it.public_key().filter(|line| !line.is_empty()) {
        Some(line) => essence(line) != essence(&spec.public_key),
        None => key.label.spec != Some(wanted.spec.digest()),
    }
}

/// Brings the key to the service.
pub(crate) async fn ensure(
    place: &Place,
    wanted: &Wanted,
    spec: &KeySpec,
) -> Result<(Change, ResourceSeen), Failure> {
    let path = &wanted.path;
    let (mut kept, _) = settle(place.keys(Scope::One(path)).await?, |_| false);
    let mut change = if kept.is_some() { Change::Unchanged } else { Change::Created };
    if let Some(key) = kept.take_if(|key| differs(key, wanted, spec)) {
        // A key pair cannot be changed; machines that have it keep what they were made with.
        delete(place, &key.id).await?;
        change = Change::Changed;
    }
    let tags = place.tags(wanted, KEY);
    if let Some(key) = &kept {
        if place.retag(&key.id, &key.label, &tags).await? {
            change = Change::Changed;
        }
    } else {
        let call = place.ec2.import_key_pair().key_name(place.name(path));
        let call = call.public_key_material(Blob::new(spec.public_key.clone()));
        match call
            .tag_specifications(tagged(ResourceType::KeyPair, &tags))
            .send()
            .await
            .map_err(fault("ImportKeyPair"))
        {
            Err(fault) if fault.is(&["InvalidKeyPair.Duplicate"]) => {
                let mut pauses = Pauses::new();
                while place.keys(Scope::One(path)).await?.is_empty() {
                    if !pauses.listing(place).await {
                        return Err(taken_name("key pair", &place.name(path)));
                    }
                }
            }
            made => drop(made?),
        }
    }
    let mut pauses = Pauses::new();
    loop {
        match judge(place, path, &place.keys(Scope::One(path)).await?) {
            Some(seen) if seen.ready => return Ok((change, seen)),
            seen => pauses.pause(|| awaited(path, seen.as_ref())).await?,
        }
    }
}

async fn delete(place: &Place, id: &str) -> Result<(), Failure> {
    gone(place.ec2.delete_key_pair().key_pair_id(id).send().await.map_err(fault("DeleteKeyPair")).map(drop))?;
    place.bury(id);
    Ok(())
}

/// Removes the key pair; machines do not need it once they are made.
pub(crate) async fn remove(place: &Place, path: &ResourcePath) -> Result<Removed, Failure> {
    let all = place.keys(Scope::One(path)).await?;
    for key in &all {
        delete(place, &key.id).await?;
    }
    place.removed(path);
    Ok(if all.is_empty() { Removed::Absent } else { Removed::Removed })
}
