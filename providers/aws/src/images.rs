//! Machine images: the newest of a release, and what has to be known of one to start from it.

use async_trait::async_trait;
use aws_sdk_ec2::types::Image;
use castrum_provider::{Failure, Images};

use crate::failure::fault;
use crate::list::filter;
use crate::place::{Place, invalid, lock};
use crate::settings::ImageName;

/// The release that machines start from where nothing names an image.
const RELEASE: &str = "debian-12";

/// The root disk of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Root {
    /// Its name.
    pub(crate) device: String,
    /// How large it is at the least, in GiB.
    pub(crate) gib: i32,
}

#[async_trait]
impl Images for Place {
    async fn find(&self, release: &str) -> Result<String, Failure> {
        let name = self.settings.image.clone().unwrap_or_else(|| ImageName::of_release(release));
        let call = self.ec2.describe_images().owners(&name.owner).filters(filter("name", &name.name));
        let call = call.filters(filter("state", "available")).filters(filter("architecture", "x86_64"));
        let found: Result<Vec<Image>, _> = call.into_paginator().items().send().collect().await;
        let found = found.map_err(fault("DescribeImages"))?;
        newest(&found).ok_or_else(|| {
            let text = format!("no image of {release} is named `{}` and owned by {}", name.name, name.owner);
            invalid(text).with_hint("set `image: {owner: ACCOUNT, name: PATTERN}` for the site")
        })
    }
}

fn newest(images: &[Image]) -> Option<String> {
    let dated = images.iter().filter_map(|image| Some((image.creation_date()?, image.image_id()?)));
    dated.max().map(|(_, id)| id.to_owned())
}

/// The image that a machine starts from.
pub(crate) async fn image_of(place: &Place, named: Option<&str>) -> Result<String, Failure> {
    if let Some(id) = named {
        return Ok(id.to_owned());
    }
    if let Some(id) = lock(&place.default_image).clone() {
        return Ok(id);
    }
    let id = place.find(RELEASE).await?;
    *lock(&place.default_image) = Some(id.clone());
    Ok(id)
}

/// The root disk of an image; asked for once.
pub(crate) async fn root_of(place: &Place, id: &str) -> Result<Root, Failure> {
    if let Some(root) = lock(&place.roots).get(id) {
        return Ok(root.clone());
    }
    let found = place.ec2.describe_images().image_ids(id).send().await.map_err(fault("DescribeImages"));
    let found = match found {
        Err(fault) if fault.is(&["InvalidAMIID*"]) => None,
        found => found?.images.unwrap_or_default().into_iter().next(),
    };
    let image = found.ok_or_else(|| {
        invalid(format!("there is no image `{id}` in the region"))
            .with_hint("images are of one region; remove the image from the lock file, to look it up anew")
    })?;
    let root = root(&image);
    lock(&place.roots).insert(id.to_owned(), root.clone());
    Ok(root)
}

fn root(image: &Image) -> Root {
    let device = image.root_device_name().unwrap_or("/dev/xvda").to_owned();
    let mappings = image.block_device_mappings().iter();
    let mut own = mappings.filter(|mapping| mapping.device_name() == Some(&device));
    let gib = own.find_map(|mapping| mapping.ebs()?.volume_size()).unwrap_or(1);
    Root { device, gib }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{BlockDeviceMapping, EbsBlockDevice};

    use super::*;

    fn image(id: &str, date: &str) -> Image {
        Image::builder().image_id(id).creation_date(date).build()
    }

    #[test]
    fn the_newest_is_taken() {
        let images = [image("ami-2", "2026-03-01T00:00:00.000Z"), image("ami-1", "2026-09-01T00:00:00.000Z")];
        assert_eq!(newest(&images).as_deref(), Some("ami-1"));
        assert_eq!(newest(&[]), None);
    }

    #[test]
    fn the_root_disk_is_the_one_that_the_image_names() {
        let mapping = |name: &str, size| {
            let ebs = EbsBlockDevice::builder().volume_size(size).build();
            BlockDeviceMapping::builder().device_name(name).ebs(ebs).build()
        };
        let image =
            Image::builder().root_device_name("/dev/xvda").block_device_mappings(mapping("/dev/xvdb", 99));
        let image = image.block_device_mappings(mapping("/dev/xvda", 8)).build();
        assert_eq!(root(&image), Root { device: "/dev/xvda".to_owned(), gib: 8 });
    }
}
