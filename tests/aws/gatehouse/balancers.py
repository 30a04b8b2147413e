"""Load balancers as they are: made once for a name, with interfaces in their subnets, and gone a while after.

"CreateLoadBalancer", "CreateTargetGroup" and "CreateListener" in elasticloadbalancing/latest/APIReference: a create that is
repeated with the same settings succeeds and makes nothing; with other settings it is refused. moto makes a second one.
"""

import re

from .query import failed

MADE = {
    "CreateLoadBalancer": ("Name", "LoadBalancerArn", "DuplicateLoadBalancerName"),
    "CreateTargetGroup": ("Name", "TargetGroupArn", "DuplicateTargetGroupName"),
    "CreateListener": ("LoadBalancerArn", "ListenerArn", "DuplicateListener"),
}


class Balancers:
    """What was asked for when each thing was made."""

    def __init__(self):
        self.made = {}

    def clear(self):
        """Forgets it."""
        self.made.clear()

    def perform(self, call, backend, work):
        """Makes a thing once."""
        if call.action not in MADE:
            return work(call)
        name, arn, code = MADE[call.action]
        key = (call.region, call.action, call.params.get(name), call.params.get("Port"))
        if call.action == "CreateTargetGroup":
            key = key[:3]
        asked = {field: value for field, value in call.params.items() if not field.startswith("Tags.")}
        if key in self.made:
            before, answer, made = self.made[key]
            if exists(backend, made):
                return answer if before == asked else failed(call, code, "It exists already, with other settings.")
        answer = work(call)
        found = re.search(rf"<{arn}>([^<]+)</{arn}>".encode(), answer.body)
        if answer.ok() and found:
            self.made[key] = (asked, answer, found.group(1).decode())
        return answer


def exists(backend, arn):
    """Whether something with this name is there."""
    if ":listener/" in arn:
        return any(arn in one.listeners for one in backend.load_balancers.values())
    return arn in backend.load_balancers or arn in backend.target_groups


# elasticloadbalancing/latest/network/network-load-balancers.html: one interface in each subnet, in the balancer's groups.
def after_create(world, answer, backend, machines):
    """Gives a balancer its interfaces, which keep subnets and groups from being deleted."""
    found = re.search(rb"<LoadBalancerArn>([^<]+)</LoadBalancerArn>", answer.body)
    balancer = backend.load_balancers.get(found.group(1).decode())
    if balancer is None or getattr(balancer, "interfaces", None):
        return
    balancer.interfaces = []
    for subnet in balancer.subnets:
        groups = balancer.security_groups or [machines.get_default_security_group(subnet.vpc_id).id]
        eni = machines.create_network_interface(subnet, [], group_ids=groups)
        eni.description = f"ELB {balancer.arn.partition('loadbalancer/')[2]}"
        eni.requester_managed, eni.status, eni.interface_type = True, "in-use", "network_load_balancer"
        balancer.interfaces.append(eni)
    if world.limits.get("pending_ms"):
        balancer.state = "provisioning"
        world.later(world.limits["pending_ms"], lambda: setattr(balancer, "state", "active"))
