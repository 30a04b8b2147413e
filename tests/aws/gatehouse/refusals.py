"""What the service refuses and moto does: things in use cannot go, and quotas are quotas.

Codes and reasons are those of "Error codes for the Amazon EC2 API" (ec2/latest/devguide/ec2-api-error-codes.html).
"""

from .query import failed

GONE = ("shutting-down", "terminated")


def refusal(call, backend, limits):
    """Why this call cannot be; `None` if it can."""
    check = CHECKS.get(call.action) if call.service == "ec2" else None
    return check and check(call, backend, limits)


def violation(call, what):
    """Something depends on it."""
    return failed(call, "DependencyViolation", f"{what} has dependencies and cannot be deleted.")


def delete_security_group(call, backend, _):
    """A group that an interface carries, or that a rule of another group names, is in use."""
    group = backend.get_security_group_from_id(call.params.get("GroupId", ""))
    if group is None:
        return None
    if group.name == "default":
        return failed(call, "CannotDelete", "the specified group: default cannot be deleted by a user")
    if any(group in eni._group_set for eni in backend.enis.values()):
        return failed(call, "DependencyViolation", f"resource {group.id} has a dependent object")
    others = (other for groups in backend.groups.values() for other in groups.values() if other is not group)
    for other in others:
        rules = list(other.ingress_rules) + list(other.egress_rules)
        if any((rule.source_group or {}).get("GroupId") == group.id for rule in rules):
            return failed(call, "InvalidGroup.InUse", f"{group.id} is referenced by {other.id}")
    return None


def delete_subnet(call, backend, _):
    """A subnet in which there is an interface stays."""
    subnet = call.params.get("SubnetId")
    if any(eni.subnet.id == subnet for eni in backend.enis.values()):
        return violation(call, f"The subnet '{subnet}'")
    return None


def delete_vpc(call, backend, _):
    """A network goes when all that was made in it is gone."""
    vpc = call.params.get("VpcId")
    subnets = [one for zone in backend.subnets.values() for one in zone.values() if one.vpc_id == vpc]
    groups = [group for group in backend.groups.get(vpc, {}).values() if group.name != "default"]
    gateways = [one for one in backend.internet_gateways.values() if one.vpc and one.vpc.id == vpc]
    tables = [one for one in backend.route_tables.values() if one.vpc_id == vpc and not is_main(one)]
    if subnets or groups or gateways or tables:
        return violation(call, f"The vpc '{vpc}'")
    return None


def is_main(table):
    """Whether a route table is its network's own, which goes with it."""
    return bool(table.main_association_id)


def detach_internet_gateway(call, backend, _):
    """A network with public addresses in use keeps its gateway."""
    vpc = call.params.get("VpcId")
    if any(eni.public_ip and eni.subnet.vpc_id == vpc for eni in backend.enis.values()):
        text = f"Network {vpc} has some mapped public address(es). Please unmap those before detaching the gateway."
        return failed(call, "DependencyViolation", text)
    return None


def delete_route_table(call, backend, _):
    """A table that a subnet uses stays."""
    table = backend.route_tables.get(call.params.get("RouteTableId"))
    if table is not None and (is_main(table) or table._associations):
        return violation(call, f"The routeTable '{table.id}'")
    return None


def release_address(call, backend, _):
    """An address that something has is in use."""
    for address in backend.addresses:
        if address.allocation_id == call.params.get("AllocationId") and address.association_id:
            return failed(call, "InvalidIPAddress.InUse", f"Address {address.public_ip} is in use.")
    return None


def allocate_address(call, backend, limits):
    """Elastic addresses are few."""
    if len(backend.addresses) >= limits.get("addresses", 1 << 30):
        return failed(call, "AddressLimitExceeded", "The maximum number of addresses has been reached.")
    return None


def is_settled(call, backend):
    """An instance that is still being made takes nothing."""
    instance = backend.get_instance_by_id(call.params.get("InstanceId", ""))
    if instance is not None and instance.state == "pending":
        text = f"The pending instance '{instance.id}' is not in a valid state for this operation."
        return failed(call, "IncorrectInstanceState", text)
    if instance is not None and instance.state in GONE:
        return failed(call, "InvalidInstanceID.NotFound", f"The instance ID '{instance.id}' does not exist")
    return None


def associate_address(call, backend, _):
    """An address goes to an instance that runs."""
    return is_settled(call, backend)


def attach_volume(call, backend, _):
    """A volume goes to an instance that runs, in the same zone."""
    refused = is_settled(call, backend)
    instance = backend.get_instance_by_id(call.params.get("InstanceId", ""))
    volume = backend.volumes.get(call.params.get("VolumeId"))
    if refused or instance is None or volume is None:
        return refused
    if volume.zone.name != instance.availability_zone:
        text = f"The volume '{volume.id}' is not in the same availability zone as instance '{instance.id}'"
        return failed(call, "InvalidVolume.ZoneMismatch", text)
    return None


def run_instances(call, backend, limits):
    """A private address is given once, and instances are counted."""
    alive = [one for one in backend.all_instances() if one.state not in GONE]
    if len(alive) >= limits.get("instances", 1 << 30):
        text = "You have requested more vCPU capacity than your current vCPU limit allows."
        return failed(call, "VcpuLimitExceeded", text)
    wanted = call.params.get("PrivateIpAddress") or call.params.get("NetworkInterface.1.PrivateIpAddress")
    if wanted and any(eni.private_ip_address == wanted for eni in backend.enis.values()):
        return failed(call, "InvalidIPAddress.InUse", f"Address {wanted} is in use.")
    group = call.params.get("Placement.GroupName")
    if group and group not in backend.placement_groups:
        return failed(call, "InvalidPlacementGroup.Unknown", f"The Placement Group '{group}' is unknown.")
    return None


CHECKS = {
    "DeleteSecurityGroup": delete_security_group,
    "DeleteSubnet": delete_subnet,
    "DeleteVpc": delete_vpc,
    "DetachInternetGateway": detach_internet_gateway,
    "DeleteRouteTable": delete_route_table,
    "ReleaseAddress": release_address,
    "AllocateAddress": allocate_address,
    "AssociateAddress": associate_address,
    "AttachVolume": attach_volume,
    "RunInstances": run_instances,
}
