"""Everything that an account has, as the service shows it: sorted, and without what is another word at every look.

With names, what a place chooses by itself (ids, addresses, times) is replaced by what a thing is called, so that two
accounts in which the same was made are the same text.
"""

import json
import re
import xml.etree.ElementTree as ET
from urllib.parse import urlencode

from .query import Call

EC2 = [
    "DescribeVpcs",
    "DescribeSubnets",
    "DescribeRouteTables",
    "DescribeInternetGateways",
    "DescribeEgressOnlyInternetGateways",
    "DescribeNatGateways",
    "DescribeNetworkAcls",
    "DescribeNetworkInterfaces",
    "DescribeSecurityGroups",
    "DescribeSecurityGroupRules",
    "DescribeAddresses",
    "DescribeKeyPairs",
    "DescribePlacementGroups",
    "DescribeVolumes",
    "DescribeInstances",
    "DescribeLaunchTemplates",
    "DescribeVpcEndpoints",
    "DescribeTags",
]
ELB = ["DescribeLoadBalancers", "DescribeTargetGroups"]
# What belongs to each balancer and each target group: the action, and the field that names whose.
OF_BALANCER = [("DescribeListeners", "LoadBalancerArn"), ("DescribeLoadBalancerAttributes", "LoadBalancerArn")]
OF_TARGETS = [("DescribeTargetHealth", "TargetGroupArn"), ("DescribeTargetGroupAttributes", "TargetGroupArn")]
RESOURCE = "castrum-resource"
STATE = "castrum-state"


def dump(ask, region, named):
    """The whole account in one region: a list of things for each action that lists them."""
    shown = {action: listed(ask, region, "ec2", "2016-11-15", action, {}) for action in EC2}
    for action in ELB:
        shown[action] = balancers(ask, region, action, {})
    for action, field in OF_BALANCER + OF_TARGETS:
        of = "DescribeLoadBalancers" if field == "LoadBalancerArn" else "DescribeTargetGroups"
        arns = re.findall(rf'"{field}": "(arn:[^"]+)"', json.dumps(shown[of]))
        shown[action] = [[arn, balancers(ask, region, action, {field: arn})] for arn in sorted(set(arns))]
    arns = sorted(set(re.findall(r'"(arn:aws:elasticloadbalancing:[^"]+)"', json.dumps(shown))))
    shown["DescribeElbTags"] = [balancers(ask, region, "DescribeTags", {"ResourceArns.member.1": arn}) for arn in arns]
    shown = without_past(shown)
    return ordered(rename(shown) if named else shown)


def balancers(ask, region, action, more):
    """One look at the load balancers' service."""
    return listed(ask, region, "elasticloadbalancing", "2015-12-01", action, more)


def listed(ask, region, service, version, action, more):
    """What one look shows, as plain data."""
    raw = urlencode({"Action": action, "Version": version, "MaxResults": "1000", **more}).encode()
    scope = f"AWS4-HMAC-SHA256 Credential=DUMP/20260101/{region}/{service}/aws4_request, Signature=0"
    headers = {
        "authorization": scope,
        "content-type": "application/x-www-form-urlencoded; charset=utf-8",
        "content-length": str(len(raw)),
        "host": "127.0.0.1",
    }
    answer = ask(Call.read("POST", "/", headers, raw))
    if not answer.ok():
        return f"{answer.status}: {answer.body[:300]!r}"
    return plain(ET.fromstring(answer.body))


def plain(element):
    """XML as lists and objects, without the number of the request."""
    children = [child for child in element if not child.tag.lower().endswith(("requestid", "responsemetadata"))]
    if not children:
        return (element.text or "").strip()
    names = [child.tag.rpartition("}")[2] for child in children]
    if set(names) <= {"item", "member"}:
        return [plain(child) for child in children]
    return {name: plain(child) for name, child in zip(names, children)}


def without_past(shown):
    """Leaves out what is gone and is shown for a while all the same: terminated instances, deleted gateways."""
    gone = set()

    def keep(thing):
        if not isinstance(thing, dict):
            return True
        state = thing.get("state", thing.get("instanceState", ""))
        state = state.get("name") if isinstance(state, dict) else state
        if state in ("terminated", "deleted") or (thing.get("instanceState") or {}) and state == "terminated":
            gone.add(thing.get("instanceId") or thing.get("natGatewayId"))
            return False
        return thing.get("instancesSet") != ""

    def walk(thing):
        if isinstance(thing, dict):
            return {name: walk(value) for name, value in thing.items()}
        if isinstance(thing, list):
            return [one for one in (walk(one) for one in thing) if keep(one)] or ""
        return thing

    shown = walk(shown)
    tags = shown["DescribeTags"].get("tagSet") if isinstance(shown["DescribeTags"], dict) else None
    if isinstance(tags, list):
        shown["DescribeTags"]["tagSet"] = [tag for tag in tags if tag["resourceId"] not in gone] or ""
    return shown


def ordered(thing):
    """The same with every list in the order of its text."""
    if isinstance(thing, dict):
        return {name: ordered(value) for name, value in sorted(thing.items())}
    if isinstance(thing, list):
        return sorted((ordered(one) for one in thing), key=lambda one: json.dumps(one, sort_keys=True))
    return thing


def digests(thing):
    """The same without tags that are computed from ids."""
    if isinstance(thing, dict):
        key = thing.get("key", thing.get("Key"))
        return {
            name: "<>" if key == STATE and name in ("value", "Value") else digests(value)
            for name, value in thing.items()
        }
    return [digests(one) for one in thing] if isinstance(thing, list) else thing


def rename(shown):
    """Ids by the label of what they belong to, and everything else that is drawn by chance by what it is."""
    names = {}
    tags = shown["DescribeTags"].get("tagSet", []) if isinstance(shown["DescribeTags"], dict) else []
    for tag in tags:
        if tag["key"] == RESOURCE:
            names[tag["resourceId"]] = f"{tag['resourceId'].rpartition('-')[0]}<{tag['value']}>"
    text = json.dumps(digests(shown), sort_keys=True)
    text = re.sub(
        r"\b([a-z]{1,3}[a-z-]{0,12})-(?:[0-9a-f]{17}|[0-9a-f]{8})\b",
        lambda found: names.get(found.group(), f"{found.group(1)}<>"),
        text,
    )
    text = re.sub(r"\bip-\d+-\d+-\d+-\d+|\bec2-\d+-\d+-\d+-\d+", "dns<>", text)
    text = re.sub(r"(?<![\d./])\d+\.\d+\.\d+\.\d+(?![\d/])", "ip<>", text)
    text = re.sub(r"(?<![\d./])\d+\.\d+\.\d+\.\d+/20\b", "subnet<>", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z?", "time<>", text)
    text = re.sub(r"\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b", "mac<>", text)
    text = re.sub(r"/[0-9a-f]{16}\b", "/<>", text)
    text = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "uuid<>", text)
    text = re.sub(r'"clientToken": "[^"]*"', '"clientToken": "<>"', text)
    return json.loads(text)
