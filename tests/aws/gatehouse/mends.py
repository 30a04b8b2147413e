"""What the service does and moto does not, or does otherwise. Each mend says what the real one does, and where that is
written (pages of docs.aws.amazon.com).

`INSTEAD` answers for moto; `AFTER` puts right what moto has done.
"""

import random
import re
from xml.sax.saxutils import escape

from .query import Answer, done, failed

SETTLED = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}


def state(instance, name):
    """Puts an instance into a state."""
    instance._state.name, instance._state.code = name, SETTLED[name]


def drop_eni(backend, eni):
    """Removes an interface, and gives its addresses back."""
    for address in backend.addresses:
        if address.eni is eni:
            address.eni = address.instance = address.association_id = None
    eni.subnet.del_subnet_ip(eni.private_ip_address)
    backend.enis.pop(eni.id, None)


# AWSEC2/latest/APIReference/API_RunInstances.html: an instance is pending for a while. moto says so once, in the answer.
def after_run(world, call, backend, answer):
    """Lets a new instance take its time, and remembers its placement group, which moto forgets."""
    for one in re.findall(rb"<instanceId>(i-[0-9a-f]+)</instanceId>", answer.body):
        instance = backend.get_instance_by_id(one.decode())
        instance._placement.group_name = call.params.get("Placement.GroupName", "")
        if world.limits.get("pending_ms"):
            state(instance, "pending")
            world.later(world.limits["pending_ms"], lambda made=instance: starts(made))
    return answer


def starts(instance):
    """A pending instance runs, unless it was terminated before."""
    if instance.state == "pending":
        state(instance, "running")


# AWSEC2/latest/UserGuide/terminating-instances.html: it is shutting down for a while, and has its interfaces until then.
def terminate(world, call, backend):
    """Terminates after as long as it takes; then its interfaces go, and its addresses are free."""
    wait, ids = world.limits.get("terminating_ms", 0), call.many("InstanceId")
    instances = [backend.get_instance_by_id(one) for one in ids]
    if any(one is None for one in instances):
        return None
    if any(one.disable_api_termination for one in instances):
        return None
    items = []
    for instance in instances:
        before = instance.state
        if before != "terminated":
            if before != "shutting-down":
                state(instance, "shutting-down")
                world.later(wait, lambda gone=instance: ends(backend, gone))
        items.append((instance, before))
    world.let_happen()
    return done(call, f"<instancesSet>{''.join(changed(*item) for item in items)}</instancesSet>")


def changed(instance, before):
    """An instance whose state changed, as it is told."""
    now = instance.state
    return (
        f"<item><instanceId>{instance.id}</instanceId>"
        f"<currentState><code>{SETTLED[now]}</code><name>{now}</name></currentState>"
        f"<previousState><code>{SETTLED[before]}</code><name>{before}</name></previousState></item>"
    )


def ends(backend, instance):
    """The end of an instance."""
    interfaces = list(instance.nics.values())
    volumes = set(backend.volumes)
    instance.terminate()
    for eni in interfaces:
        drop_eni(backend, eni)
    for gone in volumes - set(backend.volumes):
        backend.tags.pop(gone, None)
    backend.iam_instance_profile_associations.pop(instance.id, None)


# vpc/latest/userguide/nat-gateway-working-with.html: it is pending, then available; deleting, then deleted. Its interface
# and the association of its address go with it.
def after_create_nat(world, call, backend, answer):
    """Lets a gateway take its time."""
    gateway = backend.nat_gateways[re.search(rb"\bnat-[0-9a-f]{17}\b", answer.body).group().decode()]
    gateway._eni.description = f"Interface for NAT Gateway {gateway.id}"
    if world.limits.get("pending_ms"):
        gateway.state = "pending"
        world.later(world.limits["pending_ms"], lambda: available(gateway))
    return Answer(answer.status, answer.body.replace(b"<state>available<", b"<state>pending<"), answer.headers)


def available(gateway):
    """A pending gateway is there."""
    if gateway.state == "pending":
        gateway.state = "available"


def delete_nat(world, call, backend):
    """Deletes a gateway after as long as it takes."""
    gateway = backend.nat_gateways.get(call.params.get("NatGatewayId"))
    if gateway is None or gateway.state == "deleted":
        text = f"The Nat Gateway {call.params.get('NatGatewayId')} was not found"
        return failed(call, "NatGatewayNotFound", text)
    if gateway.state != "deleting":
        gateway.state = "deleting"
        world.later(world.limits.get("terminating_ms", 0), lambda: deleted(backend, gateway))
    world.let_happen()
    return done(call, f"<natGatewayId>{gateway.id}</natGatewayId>")


def deleted(backend, gateway):
    """The end of a gateway."""
    gateway.state = "deleted"
    drop_eni(backend, gateway._eni)


# AWSEC2/latest/APIReference/API_DeleteSubnet.html: its associations with route tables go with it.
def after_delete_subnet(_, call, backend, answer):
    """Takes a subnet out of route tables."""
    gone = call.params.get("SubnetId")
    for table in backend.route_tables.values():
        table._associations = {name: subnet for name, subnet in table._associations.items() if subnet != gone}
    for acl in backend.network_acls.values():
        acl._associations = {name: one for name, one in acl._associations.items() if one.subnet_id != gone}
    backend.tags.pop(gone, None)
    return answer


# AWSEC2/latest/APIReference/API_DeleteKeyPair.html: by name or by id; moto knows the name only.
def delete_key(_, call, backend):
    """Deletes a key pair by its id."""
    one = call.params.get("KeyPairId")
    if not one or call.params.get("KeyName"):
        return None
    for name, pair in list(backend.key_pairs.items()):
        if pair.id == one:
            del backend.key_pairs[name]
            backend.tags.pop(one, None)
    return done(call)


# AWSEC2/latest/APIReference/API_DeleteTags.html and the deletion of anything: what is gone has no tags.
def after_delete(_, call, backend, answer):
    """Forgets the tags of what was deleted."""
    for value in call.params.values():
        if re.fullmatch(r"(vpc|sg|rtb|igw|vol|eipalloc|eni)-[0-9a-f]+", value):
            backend.tags.pop(value, None)
    return answer


# vpc/latest/userguide/delete-vpc.html: what a network came with goes with it; moto keeps its access control list.
def after_delete_vpc(world, call, backend, answer):
    """Forgets what came with a network."""
    gone = call.params.get("VpcId")
    for name, acl in list(backend.network_acls.items()):
        if acl.vpc_id == gone:
            del backend.network_acls[name]
            backend.tags.pop(name, None)
    return after_delete(world, call, backend, answer)


# AWSEC2/latest/UserGuide/placement-groups.html; moto has none.
def create_placement(_, call, backend):
    """Makes a placement group."""
    name = call.params.get("GroupName", "")
    if name in backend.placement_groups:
        return failed(call, "InvalidPlacementGroup.Duplicate", f"The placement group '{name}' already exists.")
    group = {"id": f"pg-{random.getrandbits(68):017x}", "strategy": call.params.get("Strategy", "cluster")}
    group["partitions"] = call.params.get("PartitionCount")
    group["spread"] = call.params.get("SpreadLevel")
    backend.placement_groups[name] = group
    keys = sorted(key for key in call.params if re.fullmatch(r"TagSpecification\.1\.Tag\.\d+\.Key", key))
    for key in keys:
        backend.tags[group["id"]][call.params[key]] = call.params[key[:-3] + "Value"]
    return done(call, f"<return>true</return><placementGroup>{placement(backend, name)}</placementGroup>")


def placement(backend, name):
    """A placement group, as it is told."""
    group = backend.placement_groups[name]
    tags = "".join(
        f"<item><key>{escape(key)}</key><value>{escape(value)}</value></item>"
        for key, value in sorted(backend.tags.get(group["id"], {}).items())
    )
    more = f"<partitionCount>{group['partitions']}</partitionCount>" if group["partitions"] else ""
    more += f"<spreadLevel>{group['spread'] or 'rack'}</spreadLevel>" if group["strategy"] == "spread" else ""
    return (
        f"<groupName>{escape(name)}</groupName><groupId>{group['id']}</groupId><state>available</state>"
        f"<strategy>{group['strategy']}</strategy>{more}<tagSet>{tags}</tagSet>"
    )


def describe_placement(_, call, backend):
    """Lists placement groups, by name, id, or filters."""
    names, ids = call.many("GroupName"), call.many("GroupId")
    unknown = set(names) - set(backend.placement_groups)
    known = {group["id"] for group in backend.placement_groups.values()}
    if unknown or set(ids) - known:
        text = f"The placement group '{sorted(unknown | set(ids) - known)[0]}' is unknown."
        return failed(call, "InvalidPlacementGroup.Unknown", text)
    items = ""
    for name, group in sorted(backend.placement_groups.items()):
        asked = (not names or name in names) and (not ids or group["id"] in ids)
        if asked and all(fits(backend, name, group, number) for number in filters(call)):
            items += f"<item>{placement(backend, name)}</item>"
    return done(call, f"<placementGroupSet>{items}</placementGroupSet>")


def filters(call):
    """The filters of a call: each its name and the values that it lets through."""
    numbers = sorted(key.split(".")[1] for key in call.params if re.fullmatch(r"Filter\.\d+\.Name", key))
    return [(call.params[f"Filter.{one}.Name"], call.many(f"Filter.{one}.Value")) for one in numbers]


def fits(backend, name, group, wanted):
    """Whether a placement group passes a filter."""
    key, values = wanted
    tags = backend.tags.get(group["id"], {})
    has = {"group-name": name, "group-id": group["id"], "strategy": group["strategy"], "state": "available"}
    if key == "tag-key":
        return bool(set(values) & set(tags))
    return (tags.get(key[4:]) if key.startswith("tag:") else has.get(key)) in values


def delete_placement(_, call, backend):
    """Deletes a placement group in which there is no instance."""
    name = call.params.get("GroupName", "")
    if name not in backend.placement_groups:
        return failed(call, "InvalidPlacementGroup.Unknown", f"The placement group '{name}' is unknown.")
    users = [one for one in backend.all_instances() if one._placement.group_name == name]
    if any(one.state != "terminated" for one in users):
        return failed(call, "InvalidPlacementGroup.InUse", f"The placement group '{name}' is in use.")
    backend.tags.pop(backend.placement_groups.pop(name)["id"], None)
    return done(call)


# AWSEC2/latest/APIReference/errors-overview.html: a type that does not exist is a wrong value to RunInstances.
def reworded(call, answer):
    """Says a failure as the service does."""
    if call.action == "RunInstances" and b"InvalidInstanceType.NotFound" in answer.body:
        text = f"Invalid value '{call.params.get('InstanceType')}' for InstanceType."
        return failed(call, "InvalidParameterValue", text)
    return answer


INSTEAD = {
    "TerminateInstances": terminate,
    "DeleteNatGateway": delete_nat,
    "DeleteKeyPair": delete_key,
    "CreatePlacementGroup": create_placement,
    "DescribePlacementGroups": describe_placement,
    "DeletePlacementGroup": delete_placement,
}
AFTER = {
    "RunInstances": after_run,
    "CreateNatGateway": after_create_nat,
    "DeleteSubnet": after_delete_subnet,
    "DeleteVpc": after_delete_vpc,
    "DeleteSecurityGroup": after_delete,
    "DeleteRouteTable": after_delete,
    "DeleteInternetGateway": after_delete,
    "DeleteVolume": after_delete,
    "ReleaseAddress": after_delete,
    "DeleteNetworkInterface": after_delete,
}
