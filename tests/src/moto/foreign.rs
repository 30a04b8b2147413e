//! What is somebody else's in the account, and must be there afterwards as it was before.

use super::peer::Peer;

/// The id in an answer that begins with `kind-`.
fn id(answer: &str, kind: &str) -> String {
    let begin = format!("{kind}-");
    let mut found = answer.match_indices(&begin).map(|(at, _)| &answer[at + begin.len()..]);
    let hex = |rest: &&str| rest.len() >= 17 && rest[..17].bytes().all(|byte| byte.is_ascii_hexdigit());
    let rest = found.find(hex).unwrap_or_else(|| panic!("no `{kind}-` in {answer}"));
    format!("{kind}-{}", &rest[..17])
}

fn text<'a>(answer: &'a str, element: &str) -> &'a str {
    let begun = answer.split_once(&format!("<{element}>")).map(|(_, rest)| rest);
    begun.and_then(|rest| rest.split_once('<')).map(|(text, _)| text).expect("the element is there")
}

/// Makes a network, group, instance, address, volume and load balancer in the names of others: of nobody, of another
/// cluster, and of somebody who copied our cluster's `Name` but not its labels.
pub async fn plant(peer: &Peer, cluster: &str) {
    let other = [("castrum-cluster", "ffffffffffff"), ("castrum-resource", "here/network/nodes")];
    let alike = [("Name", cluster), ("castrum-resource", "here/network/nodes")];
    for (number, tags) in [&[][..], &other[..], &alike[..]].into_iter().enumerate() {
        one(peer, number, tags).await;
    }
}

async fn one(peer: &Peer, number: usize, tags: &[(&str, &str)]) {
    let range = format!("172.{}.0.0/16", 20 + number);
    let vpc = id(&peer.call("ec2", "CreateVpc", &[("CidrBlock", &range)]).await, "vpc");
    let inner = format!("172.{}.1.0/24", 20 + number);
    let fields = [("VpcId", &*vpc), ("CidrBlock", &inner), ("AvailabilityZone", "eu-central-1a")];
    let subnet = id(&peer.call("ec2", "CreateSubnet", &fields).await, "subnet");
    let fields = [("VpcId", &*vpc), ("GroupName", "theirs"), ("GroupDescription", "of somebody else")];
    let group = id(&peer.call("ec2", "CreateSecurityGroup", &fields).await, "sg");
    let fields = [
        ("ImageId", "ami-0c1e0a8e5d3f4b202"),
        ("InstanceType", "t3.micro"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("SubnetId", &subnet),
        ("SecurityGroupId.1", &group),
    ];
    let instance = id(&peer.call("ec2", "RunInstances", &fields).await, "i");
    let address = id(&peer.call("ec2", "AllocateAddress", &[("Domain", "vpc")]).await, "eipalloc");
    let fields = [("AllocationId", &*address), ("InstanceId", &instance)];
    peer.call("ec2", "AssociateAddress", &fields).await;
    let fields = [("Size", "1"), ("AvailabilityZone", "eu-central-1a")];
    let volume = id(&peer.call("ec2", "CreateVolume", &fields).await, "vol");
    for thing in [&vpc, &subnet, &group, &instance, &address, &volume] {
        tag(peer, thing, tags).await;
    }
    let name = format!("theirs-{number}");
    let fields = [("Name", &*name), ("Type", "network"), ("Subnets.member.1", &subnet)];
    let balancer = peer.call("elasticloadbalancing", "CreateLoadBalancer", &fields).await;
    let fields = [("Name", &*name), ("Protocol", "TCP"), ("Port", "80"), ("VpcId", &vpc)];
    let targets = peer.call("elasticloadbalancing", "CreateTargetGroup", &fields).await;
    for arn in [text(&balancer, "LoadBalancerArn"), text(&targets, "TargetGroupArn")] {
        for (key, value) in tags {
            let fields =
                [("ResourceArns.member.1", arn), ("Tags.member.1.Key", key), ("Tags.member.1.Value", value)];
            peer.call("elasticloadbalancing", "AddTags", &fields).await;
        }
    }
}

async fn tag(peer: &Peer, thing: &str, tags: &[(&str, &str)]) {
    for (key, value) in tags {
        let fields = [("ResourceId.1", thing), ("Tag.1.Key", key), ("Tag.1.Value", value)];
        peer.call("ec2", "CreateTags", &fields).await;
    }
}
