"""What goes wrong: on demand, by chance, by limits, and by what an account may not do.

A fault is data: `action` (or `*`), `changes` (only calls that change something), `nth` (only that one of the calls that match), `count` (how often at most), `chance`
(of a hundred), `when` (`before`: refuse; `after`: do the work and lose the answer), `code`, `status`, `close` (no answer
at all), `delay_ms`.
"""

import fnmatch
import random
import time

from .query import failed

# "Request throttling for the Amazon EC2 API" (docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html), its tables
# of request tokens and of resource tokens: how many a full bucket holds, and how many come each second. The first name that
# fits counts; each action has a bucket of its own.
REQUESTS = [
    ("RunInstances", 5, 2),
    ("StartInstances", 5, 2),
    ("TerminateInstances", 100, 5),
    ("CreateNatGateway", 10, 1),
    ("DeleteNatGateway", 10, 1),
    ("CreateTags", 100, 10),
    ("DeleteTags", 100, 10),
    ("CreateVolume", 100, 5),
    ("DeleteVolume", 100, 5),
    ("CreateNetworkInterface", 100, 5),
    ("DeleteNetworkInterface", 100, 5),
    ("ModifyNetworkInterfaceAttribute", 100, 5),
    ("ModifyInstanceMetadataOptions", 100, 5),
    ("AssociateIamInstanceProfile", 100, 5),
    ("DisassociateIamInstanceProfile", 100, 5),
    ("Describe*", 100, 20),
    ("Get*", 100, 20),
    ("*", 50, 5),
]
# Looks that take from a smaller bucket where they have neither a filter nor pages.
WHOLE = {
    "DescribeInstances",
    "DescribeInstanceStatus",
    "DescribeNetworkInterfaces",
    "DescribeSecurityGroups",
    "DescribeSnapshots",
    "DescribeSpotInstanceRequests",
    "DescribeVolumes",
}
WHOLE_LOOKS = (50, 10)
# One token for each instance that a call is about, beside the one for the call.
INSTANCES = {
    "RunInstances": (1000, 2),
    "TerminateInstances": (1000, 20),
    "StartInstances": (1000, 2),
    "StopInstances": (1000, 20),
}
# "Request throttling for the Elastic Load Balancing API" (docs.aws.amazon.com/elasticloadbalancing/latest/userguide/
# load-balancer-api-throttling.html), version 2; one more bucket is shared by all its actions.
BALANCERS = [
    ("CreateLoadBalancer", 10, 0.2),
    ("SetSubnets", 10, 0.2),
    ("RegisterTargets", 20, 4),
    ("DeregisterTargets", 20, 4),
    ("Describe*", 40, 10),
    ("*", 20, 3),
]
ALL_BALANCERS = (40, 10)


def buckets(call):
    """What a call takes: from which bucket, of what size and rate, how many tokens."""
    if call.service == "elasticloadbalancing":
        return [(call.action, *named(BALANCERS, call.action), 1), ("balancers", *ALL_BALANCERS, 1)]
    if call.service != "ec2":
        return []
    narrowed = any(key.startswith("Filter.") or key in ("MaxResults", "NextToken") for key in call.params)
    if call.action in WHOLE and not narrowed:
        return [(f"{call.action}, whole", *WHOLE_LOOKS, 1)]
    taken = [(call.action, *named(REQUESTS, call.action), 1)]
    if call.action in INSTANCES:
        count = int(call.params.get("MaxCount", 0)) or len(call.many("InstanceId"))
        taken.append((f"{call.action}, instances", *INSTANCES[call.action], count))
    return taken


def named(table, action):
    """The bucket of the first name that fits."""
    return next((size, rate) for name, size, rate in table if fnmatch.fnmatch(action, name))


class Buckets:
    """Buckets of tokens."""

    def __init__(self):
        self.levels = {}

    def take(self, call, now):
        """Takes what a call needs, if all of it is there."""
        wanted = buckets(call)
        for name, size, rate, _ in wanted:
            level, since = self.levels.get(name, (size, now))
            self.levels[name] = (min(size, level + (now - since) * rate), now)
        there = all(self.levels[name][0] >= count for name, _, _, count in wanted)
        if there:
            for name, _, _, count in wanted:
                self.levels[name] = (self.levels[name][0] - count, now)
        return there


class Faults:
    """Everything that a test may ask to go wrong."""

    def __init__(self):
        self.clear()

    def clear(self):
        """Nothing goes wrong any more."""
        self.rules, self.seen = [], []
        self.buckets, self.limited = Buckets(), False
        self.forbidden = set()
        self.chance = random.Random(1)

    def add(self, rules):
        """More that goes wrong."""
        self.rules += rules
        self.seen += [0] * len(rules)

    def choose(self, call):
        """The first fault that this call meets."""
        for number, rule in enumerate(self.rules):
            if not fnmatch.fnmatch(call.action, rule.get("action", "*")):
                continue
            if rule.get("changes") and call.looks():
                continue
            self.seen[number] += 1
            if rule.get("nth") not in (None, self.seen[number]) or rule.get("count", 1) <= 0:
                continue
            if self.chance.random() * 100 >= rule.get("chance", 100):
                continue
            if "count" in rule or "chance" not in rule:
                rule["count"] = rule.get("count", 1) - 1
            return dict(rule)
        return None

    def refusal(self, call, now):
        """What the service says to a call that it does not even begin with."""
        forbidden = call.action in self.forbidden
        if call.params.get("DryRun", "").lower() == "true" and not forbidden:
            return failed(call, "DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
        if forbidden:
            code = "UnauthorizedOperation" if call.service == "ec2" else "AccessDenied"
            return failed(call, code, "You are not authorized to perform this operation.", 403)
        if self.limited and not self.buckets.take(call, now):
            if call.service == "ec2":
                return failed(call, "RequestLimitExceeded", "Request limit exceeded.", 503)
            return failed(call, "Throttling", "Rate exceeded", 400)
        return None


def broken(call, fault):
    """The answer of a call that met a fault; `None` closes the connection."""
    if fault.get("close"):
        return None
    code, status = fault.get("code", "InternalError"), fault.get("status", 500)
    return failed(call, code, "An internal error has occurred", status)


def linger(fault):
    """Waits as long as a fault says."""
    time.sleep(fault.get("delay_ms", 0) / 1000)
