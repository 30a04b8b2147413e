//! What is somebody else's in the account, and must be there afterwards as it was before.

use super::peer::Peer;

/// What stands in the first element of this name.
fn text(answer: &str, element: &str) -> String {
    let begun = answer.split_once(&format!("<{element}>")).map(|(_, rest)| rest);
    let text = begun.and_then(|rest| rest.split_once('<')).map(|(text, _)| text.to_owned());
    text.unwrap_or_else(|| panic!("no `{element}` in {answer}"))
}

/// Makes a network, group, instance, address, volume and load balancer in the names of others: of nobody, of another
/// cluster, and of somebody who uses our cluster's id as a name and our paths, but not our label.
pub async fn plant(peer: &Peer, cluster: &str) {
    let path = ("castrum-resource", "here/network/nodes");
    let other = [("castrum-cluster", "ffffffffffff"), path];
    let alike = [("Name", cluster), path];
    for (number, tags) in [&[][..], &other[..], &alike[..]].into_iter().enumerate() {
        let own = Owner { peer, number, tags };
        let vpc = own.machines().await;
        own.balancer(&vpc).await;
    }
}

/// Somebody else.
struct Owner<'a> {
    peer: &'a Peer,
    number: usize,
    tags: &'a [(&'a str, &'a str)],
}

impl Owner<'_> {
    async fn make(&self, action: &str, fields: &[(&str, &str)], element: &str) -> String {
        let id = text(&self.peer.call("ec2", action, fields).await, element);
        for (key, value) in self.tags {
            let fields = [("ResourceId.1", id.as_str()), ("Tag.1.Key", key), ("Tag.1.Value", value)];
            self.peer.call("ec2", "CreateTags", &fields).await;
        }
        id
    }

    /// A network with an instance in it, and what belongs to one; the subnet and its network.
    async fn machines(&self) -> (String, String) {
        let (range, inner) =
            (format!("172.{}.0.0/16", 20 + self.number), format!("172.{}.1.0/24", 20 + self.number));
        let zone = ("AvailabilityZone", "eu-central-1a");
        let vpc = self.make("CreateVpc", &[("CidrBlock", &range)], "vpcId").await;
        let subnet =
            self.make("CreateSubnet", &[("VpcId", &vpc), ("CidrBlock", &inner), zone], "subnetId").await;
        let fields = [("VpcId", &*vpc), ("GroupName", "theirs"), ("GroupDescription", "of somebody else")];
        let group = self.make("CreateSecurityGroup", &fields, "groupId").await;
        let fields = [
            ("ImageId", "ami-0c1e0a8e5d3f4b202"),
            ("InstanceType", "t3.micro"),
            ("MinCount", "1"),
            ("MaxCount", "1"),
            ("SubnetId", &subnet),
            ("SecurityGroupId.1", &group),
        ];
        let instance = self.make("RunInstances", &fields, "instanceId").await;
        let address = self.make("AllocateAddress", &[("Domain", "vpc")], "allocationId").await;
        let fields = [("AllocationId", &*address), ("InstanceId", &instance)];
        self.peer.call("ec2", "AssociateAddress", &fields).await;
        self.make("CreateVolume", &[("Size", "1"), zone], "volumeId").await;
        (vpc, subnet)
    }

    async fn balancer(&self, (vpc, subnet): &(String, String)) {
        let (service, name) = ("elasticloadbalancing", format!("theirs-{}", self.number));
        let fields = [("Name", &*name), ("Type", "network"), ("Subnets.member.1", subnet)];
        let balancer = self.peer.call(service, "CreateLoadBalancer", &fields).await;
        let fields = [("Name", &*name), ("Protocol", "TCP"), ("Port", "80"), ("VpcId", vpc)];
        let targets = self.peer.call(service, "CreateTargetGroup", &fields).await;
        for arn in [text(&balancer, "LoadBalancerArn"), text(&targets, "TargetGroupArn")] {
            for (key, value) in self.tags {
                let tag = [("Tags.member.1.Key", *key), ("Tags.member.1.Value", value)];
                let fields = [("ResourceArns.member.1", arn.as_str()), tag[0], tag[1]];
                self.peer.call(service, "AddTags", &fields).await;
            }
        }
    }
}
