"""Looks that show the past: what was made, changed or removed is seen by all looks only after a while.

"Eventual consistency in the Amazon EC2 API" (ec2/latest/devguide/eventual-consistency.html) tells of it. Each look is as of
a moment up to so many milliseconds ago: the answer that the same question had then, if it was asked, and otherwise what is
there now without what was made since.
"""

import random
import re
import xml.etree.ElementTree as ET

from .query import Answer, failed

ID = re.compile(rb"\b(?:[a-z]+-[0-9a-f]{8,17}|arn:aws:elasticloadbalancing:[^<\s]+)\b")
KEPT = 50
# The element that names the thing itself, by the action that lists it, and how the service says that it knows none.
LISTED = {
    "DescribeVpcs": ("vpcId", "InvalidVpcID.NotFound"),
    "DescribeSubnets": ("subnetId", "InvalidSubnetID.NotFound"),
    "DescribeSecurityGroups": ("groupId", "InvalidGroup.NotFound"),
    "DescribeSecurityGroupRules": ("securityGroupRuleId", "InvalidSecurityGroupRuleId.NotFound"),
    "DescribeInternetGateways": ("internetGatewayId", "InvalidInternetGatewayID.NotFound"),
    "DescribeNatGateways": ("natGatewayId", "NatGatewayNotFound"),
    "DescribeRouteTables": ("routeTableId", "InvalidRouteTableID.NotFound"),
    "DescribeAddresses": ("allocationId", "InvalidAllocationID.NotFound"),
    "DescribeVolumes": ("volumeId", "InvalidVolume.NotFound"),
    "DescribeInstances": ("instanceId", "InvalidInstanceID.NotFound"),
    "DescribeKeyPairs": ("keyPairId", "InvalidKeyPair.NotFound"),
    "DescribePlacementGroups": ("groupId", "InvalidPlacementGroup.Unknown"),
    "DescribeTags": ("resourceId", ""),
    "DescribeLoadBalancers": ("LoadBalancerArn", "LoadBalancerNotFound"),
    "DescribeTargetGroups": ("TargetGroupArn", "TargetGroupNotFound"),
}


class Past:
    """What was answered before, and when each thing was made."""

    def __init__(self):
        self.clear()

    def clear(self):
        """Forgets it all; looks show the present."""
        self.lag_ms, self.answers, self.born = 0, {}, {}
        self.chance = random.Random(2)

    def note(self, call, answer, now):
        """Remembers what a change made."""
        if self.lag_ms and answer.ok() and not call.looks():
            for one in ID.findall(answer.body):
                self.born.setdefault(one, now)

    def look(self, call, now, ask):
        """Answers a look as of a moment ago; `ask` is the present."""
        if not self.lag_ms or call.action not in LISTED:
            return ask()
        then = now - self.chance.random() * self.lag_ms / 1000
        key, present = (call.service, call.region, call.raw), ask()
        kept = self.answers.setdefault(key, [])
        kept.append((now, present))
        del kept[:-KEPT]
        before = [answer for at, answer in kept if at <= then]
        return before[-1] if before else self.without(call, present, then)

    def without(self, call, present, then):
        """The present without what was made after `then`."""
        young = {one.decode() for one, at in self.born.items() if at > then}
        if not present.ok() or not young:
            return present
        name, unknown = LISTED[call.action]
        root = ET.fromstring(present.body)
        space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
        if not prune(root, space, name, young):
            return present
        if unknown and any(value in young for value in call.params.values()):
            return failed(call, unknown, "It does not exist.")
        if space:
            ET.register_namespace("", space[1:-1])
        return Answer(200, ET.tostring(root, encoding="utf-8", xml_declaration=True))


def prune(element, space, name, young):
    """Takes out the items that are too young; whether there were any."""
    found = False
    for child in list(element):
        if child.tag in (f"{space}item", f"{space}member") and child.findtext(f"{space}{name}") in young:
            element.remove(child)
            found = True
        else:
            found |= prune(child, space, name, young)
    return found
