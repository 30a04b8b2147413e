"""What goes wrong: on demand, by chance, by limits, and by what an account may not do.

A fault is data: `action` (or `*`), `changes` (only calls that change something), `nth` (only that one of the calls that match), `count` (how often at most), `chance`
(of a hundred), `when` (`before`: refuse; `after`: do the work and lose the answer), `code`, `status`, `close` (no answer
at all), `delay_ms`.
"""

import fnmatch
import random
import time

from .query import failed

# Request rates of "Request throttling for the Amazon EC2 API" (ec2/latest/devguide/ec2-api-throttling.html): tokens in a
# full bucket, and tokens a second. The first name that fits counts; each action has a bucket of its own.
BUCKETS = [
    ("RunInstances", 5, 2),
    ("TerminateInstances", 100, 5),
    ("StartInstances", 5, 2),
    ("StopInstances", 5, 2),
    ("AuthorizeSecurityGroupIngress", 50, 5),
    ("CreateSecurityGroup", 50, 5),
    ("AssociateAddress", 20, 5),
    ("DisassociateAddress", 20, 5),
    ("CreateKeyPair", 12, 3),
    ("ImportKeyPair", 12, 3),
    ("DescribeInstances", 50, 10),
    ("DescribeNetworkInterfaces", 50, 10),
    ("DescribeSecurityGroups", 50, 10),
    ("DescribeVolumes", 50, 10),
    ("DescribeSnapshots", 50, 10),
    ("DescribeSpotInstanceRequests", 50, 10),
    ("Describe*", 100, 20),
    ("Get*", 100, 20),
    ("*", 50, 5),
]


class Buckets:
    """A bucket of tokens for each action."""

    def __init__(self):
        self.levels = {}

    def take(self, action, now):
        """Takes one token, if there is one."""
        size, rate = next((size, rate) for name, size, rate in BUCKETS if fnmatch.fnmatch(action, name))
        level, since = self.levels.get(action, (size, now))
        level = min(size, level + (now - since) * rate)
        self.levels[action] = (level - 1 if level >= 1 else level, now)
        return level >= 1


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
        if self.limited and call.service == "ec2" and not self.buckets.take(call.action, now):
            return failed(call, "RequestLimitExceeded", "Request limit exceeded.", 503)
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
