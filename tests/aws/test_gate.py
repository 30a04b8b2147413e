#!/usr/bin/env python3
"""The gate does what it promises: each thing that it adds to moto is shown once, over plain HTTP."""

import json
import re
import subprocess
import sys
import threading
import time
import unittest
import urllib.error
import urllib.request
from http.client import RemoteDisconnected
from pathlib import Path
from urllib.parse import urlencode

IMAGE = "ami-0c1e0a8e5d3f4b202"
LISTS = {"ec2": "2016-11-15", "elasticloadbalancing": "2015-12-01"}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8n1Xc6xAwyKfXhL4T4zMyWbqTqnYCyRrVqYkC8sRJb somebody"
IDS = r"\b[a-z]+-[0-9a-f]{17}\b"


class Lost(Exception):
    """No answer came."""


def setUpModule():
    """One peer for all tests."""
    global peer, place
    gate = Path(__file__).resolve().parent / "gate.py"
    peer = subprocess.Popen([sys.executable, gate], stdout=subprocess.PIPE, text=True)
    place = f"http://127.0.0.1:{int(peer.stdout.readline())}"


def tearDownModule():
    """The peer goes."""
    peer.kill()
    peer.wait()
    peer.stdout.close()


def control(method, path, told=None):
    """Asks the gate."""
    data = None if told is None else json.dumps(told).encode()
    request = urllib.request.Request(f"{place}/_gate/{path}", data, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def call(action, service="ec2", **params):
    """One call to the service: its status, and its text. `_` in a name stands for a dot."""
    form = {"Action": action, "Version": LISTS[service]} | {key.replace("_", "."): value for key, value in params.items()}
    scope = f"AWS4-HMAC-SHA256 Credential=TEST/20260101/eu-central-1/{service}/aws4_request, SignedHeaders=x, Signature=0"
    request = urllib.request.Request(f"{place}/", urlencode(form).encode(), {"Authorization": scope})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except (RemoteDisconnected, ConnectionError, urllib.error.URLError) as error:
        raise Lost from error


def made(action, kind, **params):
    """Makes something, and tells its id."""
    status, text = call(action, **params)
    assert status == 200, text
    return re.search(rf"\b{kind}-[0-9a-f]{{8,17}}\b", text).group()


def code(answer):
    """The status and the error code of an answer."""
    found = re.search(r"<Code>([^<]+)</Code>", answer[1])
    return answer[0], found and found.group(1)


class GateTest(unittest.TestCase):
    """What the tests share."""

    def setUp(self):
        """An empty account."""
        control("POST", "reset")

    def network(self):
        """A network with a subnet and a group."""
        self.vpc = made("CreateVpc", "vpc", CidrBlock="10.9.0.0/16")
        self.subnet = made(
            "CreateSubnet", "subnet", VpcId=self.vpc, CidrBlock="10.9.1.0/24", AvailabilityZone="eu-central-1a"
        )
        self.group = made("CreateSecurityGroup", "sg", VpcId=self.vpc, GroupName="g", GroupDescription="d")

    def run_one(self, **more):
        """Runs an instance."""
        what = {"ImageId": IMAGE, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}
        return call("RunInstances", **what, SubnetId=self.subnet, SecurityGroupId_1=self.group, **more)

    def instance(self, **more):
        """The id of an instance that runs."""
        status, text = self.run_one(**more)
        self.assertEqual(status, 200, text)
        return re.search(r"<instanceId>(i-[0-9a-f]+)", text).group(1)

    def state(self, instance):
        """The state of an instance."""
        text = call("DescribeInstances", InstanceId_1=instance)[1]
        return re.search(r"<instanceState>.*?<name>([a-z-]+)", text, re.S).group(1)

    def refused(self, answer, *expected):
        """It is refused so."""
        self.assertEqual(code(answer), expected, answer[1])


class Tokens(GateTest):
    """A call that is sent again is the same call."""

    def test_the_same_token_is_the_same_instance(self):
        self.network()
        self.assertEqual(self.instance(ClientToken="a"), self.instance(ClientToken="a"))
        self.assertNotEqual(self.instance(ClientToken="a"), self.instance(ClientToken="b"))

    def test_other_parameters_under_a_token_are_refused(self):
        self.network()
        self.instance(ClientToken="a")
        self.refused(self.run_one(ClientToken="a", UserData="eA=="), 400, "IdempotentParameterMismatch")

    def test_a_token_of_a_terminated_instance_is_refused(self):
        self.network()
        call("TerminateInstances", InstanceId_1=self.instance(ClientToken="a"))
        self.refused(self.run_one(ClientToken="a"), 400, "IdempotentInstanceTerminated")

    def test_two_at_once_make_one(self):
        self.network()
        found = []
        threads = [threading.Thread(target=lambda: found.append(self.instance(ClientToken="a"))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual((len(found), len(set(found))), (6, 1))

    def test_volumes_have_tokens_too(self):
        volume = {"Size": 1, "AvailabilityZone": "eu-central-1a", "ClientToken": "v"}
        self.assertEqual(made("CreateVolume", "vol", **volume), made("CreateVolume", "vol", **volume))


class InUse(GateTest):
    """What something depends on stays."""

    def test_a_network_goes_from_the_leaves_to_the_root(self):
        self.network()
        instance = self.instance()
        self.refused(call("DeleteVpc", VpcId=self.vpc), 400, "DependencyViolation")
        self.refused(call("DeleteSubnet", SubnetId=self.subnet), 400, "DependencyViolation")
        self.refused(call("DeleteSecurityGroup", GroupId=self.group), 400, "DependencyViolation")
        self.assertEqual(call("TerminateInstances", InstanceId_1=instance)[0], 200)
        self.assertEqual(call("DeleteSecurityGroup", GroupId=self.group)[0], 200)
        self.assertEqual(call("DeleteSubnet", SubnetId=self.subnet)[0], 200)
        self.assertEqual(call("DeleteVpc", VpcId=self.vpc)[0], 200)

    def test_a_group_that_another_group_names_stays(self):
        self.network()
        other = made("CreateSecurityGroup", "sg", VpcId=self.vpc, GroupName="o", GroupDescription="d")
        rule = {"IpPermissions_1_IpProtocol": "tcp", "IpPermissions_1_FromPort": 1, "IpPermissions_1_ToPort": 2}
        rule |= {"GroupId": other, "IpPermissions_1_Groups_1_GroupId": self.group}
        self.assertEqual(call("AuthorizeSecurityGroupIngress", **rule)[0], 200)
        self.refused(call("DeleteSecurityGroup", GroupId=self.group), 400, "InvalidGroup.InUse")

    def test_a_gateway_stays_while_an_address_is_mapped_and_an_address_while_it_is_used(self):
        self.network()
        gateway = made("CreateInternetGateway", "igw")
        call("AttachInternetGateway", InternetGatewayId=gateway, VpcId=self.vpc)
        address = made("AllocateAddress", "eipalloc", Domain="vpc")
        instance = self.instance()
        self.assertEqual(call("AssociateAddress", AllocationId=address, InstanceId=instance)[0], 200)
        self.refused(call("ReleaseAddress", AllocationId=address), 400, "InvalidIPAddress.InUse")
        leave = {"InternetGatewayId": gateway, "VpcId": self.vpc}
        self.refused(call("DetachInternetGateway", **leave), 400, "DependencyViolation")
        call("TerminateInstances", InstanceId_1=instance)
        self.assertEqual(call("DetachInternetGateway", **leave)[0], 200)
        self.assertEqual(call("ReleaseAddress", AllocationId=address)[0], 200)

    def test_a_balancer_and_a_gateway_have_interfaces(self):
        self.network()
        balancer = call("CreateLoadBalancer", "elasticloadbalancing", **self.balancer())
        arn = re.search(r"<LoadBalancerArn>([^<]+)", balancer[1]).group(1)
        self.refused(call("DeleteSubnet", SubnetId=self.subnet), 400, "DependencyViolation")
        control("POST", "settings", {"terminating_ms": 500})
        call("DeleteLoadBalancer", "elasticloadbalancing", LoadBalancerArn=arn)
        self.refused(call("DeleteSubnet", SubnetId=self.subnet), 400, "DependencyViolation")
        time.sleep(0.6)
        address = made("AllocateAddress", "eipalloc", Domain="vpc")
        gateway = made("CreateNatGateway", "nat", SubnetId=self.subnet, AllocationId=address)
        self.refused(call("DeleteSubnet", SubnetId=self.subnet), 400, "DependencyViolation")
        call("DeleteNatGateway", NatGatewayId=gateway)
        self.assertIn("<state>deleting</state>", call("DescribeNatGateways", NatGatewayId_1=gateway)[1])
        self.refused(call("ReleaseAddress", AllocationId=address), 400, "InvalidIPAddress.InUse")
        time.sleep(0.6)
        self.assertEqual(call("DeleteSubnet", SubnetId=self.subnet)[0], 200)
        self.assertEqual(call("ReleaseAddress", AllocationId=address)[0], 200)

    def balancer(self, **more):
        """What a balancer is asked for with."""
        named = {"Name": "lb", "Type": "network", "Subnets_member_1": self.subnet}
        return named | {"SecurityGroups_member_1": self.group} | more

    def test_a_balancer_is_made_once_for_a_name(self):
        self.network()
        two = [call("CreateLoadBalancer", "elasticloadbalancing", **self.balancer()) for _ in range(2)]
        self.assertEqual(two[0], two[1])
        other = call("CreateLoadBalancer", "elasticloadbalancing", **self.balancer(Scheme="internal"))
        self.refused(other, 400, "DuplicateLoadBalancerName")

    def test_placement_groups_are_there(self):
        self.network()
        tags = {"TagSpecification_1_ResourceType": "placement-group", "TagSpecification_1_Tag_1_Key": "k"}
        tags |= {"TagSpecification_1_Tag_1_Value": "v"}
        group = made("CreatePlacementGroup", "pg", GroupName="p", Strategy="spread", **tags)
        found = call("DescribePlacementGroups", Filter_1_Name="tag:k", Filter_1_Value_1="v")[1]
        self.assertIn(group, found)
        self.assertNotIn(group, call("DescribePlacementGroups", Filter_1_Name="tag:k", Filter_1_Value_1="w")[1])
        self.refused(call("CreatePlacementGroup", GroupName="p"), 400, "InvalidPlacementGroup.Duplicate")
        self.refused(self.run_one(Placement_GroupName="q"), 400, "InvalidPlacementGroup.Unknown")
        instance = self.instance(Placement_GroupName="p")
        self.assertIn("<groupName>p</groupName>", call("DescribeInstances", InstanceId_1=instance)[1])
        self.refused(call("DeletePlacementGroup", GroupName="p"), 400, "InvalidPlacementGroup.InUse")
        call("TerminateInstances", InstanceId_1=instance)
        self.assertEqual(call("DeletePlacementGroup", GroupName="p")[0], 200)


class Time(GateTest):
    """Things take time."""

    def test_an_instance_is_pending_and_shutting_down_for_a_while(self):
        self.network()
        control("POST", "settings", {"pending_ms": 400, "terminating_ms": 400})
        instance = self.instance()
        self.assertEqual(self.state(instance), "pending")
        address = made("AllocateAddress", "eipalloc", Domain="vpc")
        early = call("AssociateAddress", AllocationId=address, InstanceId=instance)
        self.refused(early, 400, "IncorrectInstanceState")
        time.sleep(0.5)
        self.assertEqual(self.state(instance), "running")
        call("TerminateInstances", InstanceId_1=instance)
        self.assertEqual(self.state(instance), "shutting-down")
        self.refused(call("DeleteSubnet", SubnetId=self.subnet), 400, "DependencyViolation")
        time.sleep(0.5)
        self.assertEqual(self.state(instance), "terminated")
        self.assertEqual(call("DeleteSubnet", SubnetId=self.subnet)[0], 200)

    def test_a_look_shows_the_past_for_a_while(self):
        control("POST", "settings", {"stale_ms": 1500, "seed": 5})
        vpc = made("CreateVpc", "vpc", CidrBlock="10.9.0.0/16")
        seen = [vpc in call("DescribeVpcs")[1] for _ in range(20)]
        self.assertIn(False, seen)
        self.assertIn("InvalidVpcID.NotFound", {code(call("DescribeVpcs", VpcId_1=vpc))[1] for _ in range(20)})
        time.sleep(1.6)
        self.assertEqual({vpc in call("DescribeVpcs")[1] for _ in range(20)}, {True})
        call("DeleteVpc", VpcId=vpc)
        self.assertIn(True, [vpc in call("DescribeVpcs")[1] for _ in range(20)])
        time.sleep(1.6)
        self.assertEqual({vpc in call("DescribeVpcs")[1] for _ in range(20)}, {False})

    def test_no_look_shows_what_was_before_it_may_be_late(self):
        vpc = made("CreateVpc", "vpc", CidrBlock="10.9.0.0/16")
        control("POST", "settings", {"stale_ms": 500, "seed": 5})
        self.assertIn(vpc, call("DescribeVpcs")[1])
        time.sleep(0.6)
        call("CreateTags", ResourceId_1=vpc, Tag_1_Key="changed", Tag_1_Value="yes")
        time.sleep(0.6)
        self.assertIn("changed", call("DescribeVpcs")[1])
        call("DeleteVpc", VpcId=vpc)
        time.sleep(0.6)
        self.assertNotIn(vpc, call("DescribeVpcs")[1])

    def test_a_look_shows_all_of_one_moment(self):
        control("POST", "settings", {"stale_ms": 800, "seed": 5})
        vpc = made("CreateVpc", "vpc", CidrBlock="10.9.0.0/16")
        time.sleep(0.9)
        call("CreateTags", ResourceId_1=vpc, Tag_1_Key="a", Tag_1_Value="1")
        time.sleep(0.1)
        call("CreateTags", ResourceId_1=vpc, Tag_1_Key="b", Tag_1_Value="1")
        seen = [call("DescribeVpcs", VpcId_1=vpc)[1] for _ in range(40)]
        seen = {("<key>a<" in one, "<key>b<" in one) for one in seen}
        self.assertIn((False, False), seen)
        self.assertNotIn((False, True), seen)

    def test_what_is_asked_for_by_a_call_can_be_late(self):
        control("POST", "faults", [{"action": "DescribeVpcs", "delay_ms": 300}])
        began = time.monotonic()
        call("DescribeVpcs")
        late = time.monotonic() - began
        call("DescribeVpcs")
        self.assertTrue(0.3 < late < 2 and time.monotonic() - began - late < 0.3)


class Going(GateTest):
    """Calls go wrong when they are told to."""

    def vpcs(self):
        """How many networks there are beside the account's own."""
        return len(set(re.findall(r"vpc-[0-9a-f]{17}\b", call("DescribeVpcs")[1]))) - 1

    def test_a_call_is_refused_and_nothing_is_done(self):
        control("POST", "faults", [{"action": "CreateVpc", "nth": 2, "code": "InternalError", "status": 500}])
        made("CreateVpc", "vpc", CidrBlock="10.1.0.0/16")
        self.refused(call("CreateVpc", CidrBlock="10.2.0.0/16"), 500, "InternalError")
        self.assertEqual(self.vpcs(), 1)
        made("CreateVpc", "vpc", CidrBlock="10.2.0.0/16")

    def test_an_answer_is_lost_and_the_work_is_done(self):
        lost = {"action": "CreateVpc", "when": "after", "close": True}
        control("POST", "faults", [lost, {"action": "CreateVpc", "when": "after", "code": "Unavailable", "status": 503}])
        self.assertRaises(Lost, call, "CreateVpc", CidrBlock="10.1.0.0/16")
        self.refused(call("CreateVpc", CidrBlock="10.2.0.0/16"), 503, "Unavailable")
        self.assertEqual(self.vpcs(), 2)

    def test_half_of_all_calls_fail_by_chance(self):
        control("POST", "settings", {"seed": 7})
        control("POST", "faults", [{"action": "Describe*", "chance": 50, "code": "InternalError", "status": 500}])
        statuses = [call("DescribeVpcs")[0] for _ in range(100)]
        self.assertTrue(30 < statuses.count(500) < 70, statuses.count(500))
        control("POST", "settings", {"seed": 7})
        self.assertEqual([call("DescribeVpcs")[0] for _ in range(100)], statuses)

    def test_there_are_limits_on_calls(self):
        control("POST", "settings", {"buckets": True})
        self.network()
        answers = [code(self.run_one(ClientToken=str(number))) for number in range(8)]
        self.assertIn((503, "RequestLimitExceeded"), answers)
        self.assertGreaterEqual(answers.count((200, None)), 5)
        time.sleep(0.6)
        self.assertEqual(self.run_one(ClientToken="later")[0], 200)

    def test_looks_at_everything_and_balancers_have_limits_of_their_own(self):
        control("POST", "settings", {"buckets": True})
        whole = [code(call("DescribeVolumes")) for _ in range(80)]
        self.assertIn((503, "RequestLimitExceeded"), whole)
        self.assertGreaterEqual(whole.count((200, None)), 50)
        self.assertEqual(call("DescribeVolumes", MaxResults=50)[0], 200)
        actions = ["DescribeLoadBalancers", "DescribeTargetGroups"] * 35
        looks = [code(call(action, "elasticloadbalancing")) for action in actions]
        self.assertIn((400, "Throttling"), looks)
        self.assertGreaterEqual(looks.count((200, None)), 40)

    def test_what_is_forbidden_is_told_by_a_dry_run_and_by_the_call(self):
        self.network()
        self.refused(self.run_one(DryRun="true"), 412, "DryRunOperation")
        control("POST", "settings", {"forbidden": ["RunInstances", "CreateLoadBalancer"]})
        self.refused(self.run_one(DryRun="true"), 403, "UnauthorizedOperation")
        self.refused(self.run_one(), 403, "UnauthorizedOperation")
        self.refused(call("CreateLoadBalancer", "elasticloadbalancing", Name="x"), 403, "AccessDenied")

    def test_there_are_quotas_and_unknown_things(self):
        self.network()
        control("POST", "settings", {"addresses": 1, "instances": 1})
        made("AllocateAddress", "eipalloc", Domain="vpc")
        self.refused(call("AllocateAddress", Domain="vpc"), 400, "AddressLimitExceeded")
        unknown = {"InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1, "SubnetId": self.subnet}
        self.refused(call("RunInstances", ImageId="ami-00000000", **unknown), 400, "InvalidAMIID.NotFound")
        unknown |= {"ImageId": IMAGE, "InstanceType": "t99.nope"}
        self.refused(call("RunInstances", **unknown), 400, "InvalidParameterValue")
        self.refused(self.run_one(KeyName="nobodys"), 400, "InvalidKeyPair.NotFound")
        self.instance()
        self.refused(self.run_one(), 400, "VcpuLimitExceeded")

    def test_what_moto_cannot_answer_is_an_error_of_the_service(self):
        self.network()
        self.instance()
        answer = call("DescribeInstances", Filter_1_Name="bogus", Filter_1_Value_1="x")
        self.refused(answer, 400, "InvalidParameterValue")


class Held(GateTest):
    """Time stops at a call."""

    def at(self, moment):
        """Makes a network while time is to stop; whether it was made, and whether its maker heard."""
        control("POST", "reset")
        control("POST", "hold", {"action": "CreateVpc", "nth": 2, "moment": moment})
        made("CreateVpc", "vpc", CidrBlock="10.1.0.0/16")
        heard = []

        def make():
            try:
                heard.append(call("CreateVpc", CidrBlock="10.2.0.0/16")[0])
                heard.append(call("CreateVpc", CidrBlock="10.3.0.0/16")[0])
            except Lost:
                heard.append(None)

        maker = threading.Thread(target=make)
        maker.start()
        self.assertEqual(control("GET", "held?20"), {"action": "CreateVpc", "nth": 2, "moment": moment})
        time.sleep(0.3)
        control("POST", "release")
        maker.join()
        return len(set(re.findall(r"vpc-[0-9a-f]{17}\b", call("DescribeVpcs")[1]))) - 2, heard

    def test_before_there_is_nothing(self):
        self.assertEqual(self.at("before"), (0, [None]))

    def test_after_its_effect_nobody_hears(self):
        self.assertEqual(self.at("effect"), (1, [None]))

    def test_after_the_answer_nothing_more_has_an_effect(self):
        made_more, heard = self.at("answer")
        self.assertEqual(made_more, 1)
        self.assertEqual(heard[0], 200)

    def test_where_there_is_no_such_call_it_does_not_stop(self):
        control("POST", "hold", {"action": "CreateVpc", "nth": 2, "moment": "before"})
        made("CreateVpc", "vpc", CidrBlock="10.1.0.0/16")
        self.assertIsNone(control("GET", "held?0.2"))


    def test_whoever_watches_sees_every_moment_and_nothing_goes_on_meanwhile(self):
        control("POST", "watch")
        makers = [threading.Thread(target=call, args=["CreateVpc"], kwargs={"CidrBlock": f"10.{one}.0.0/16"}) for one in (1, 2)]
        for maker in makers:
            maker.start()
        seen, there = [], []
        for _ in range(6):
            stood = control("GET", "held?20")
            time.sleep(0.05)
            self.assertEqual(stood, control("GET", "held?20"))
            seen.append((stood["nth"], stood["moment"]))
            there.append(json.dumps(control("GET", "account")).count('"10.'))
            control("POST", "on")
        for maker in makers:
            maker.join()
        self.assertIsNone(control("GET", "held?0.2"))
        self.assertEqual(sorted(seen), [(one, moment) for one in (1, 2) for moment in ("answer", "before", "effect")])
        self.assertEqual(there, sorted(there))
        self.assertEqual(there[0], 0)
        control("POST", "release")
        made("CreateVpc", "vpc", CidrBlock="10.3.0.0/16")


class Account(GateTest):
    """What there is."""

    def test_it_can_be_again_what_it_was(self):
        self.everything()
        token = {"ClientToken": "again"}
        first = re.search(r"i-[0-9a-f]{17}", self.run_one(**token)[1]).group()
        before, copy = control("GET", "account"), control("POST", "copy")
        self.assertEqual(copy, control("POST", "copy"))
        for _ in range(2):
            self.instance(KeyName="k")
            call("DeleteVolume", VolumeId=made("CreateVolume", "vol", Size=1, AvailabilityZone="eu-central-1a"))
            call("TerminateInstances", InstanceId_1=first)
            self.assertNotEqual(before, control("GET", "account"))
            control("POST", "restore", {"state": copy})
            self.assertEqual(before, control("GET", "account"))
            self.assertIn(first, self.run_one(**token)[1])
            self.assertEqual(before, control("GET", "account"))

    def everything(self):
        """A bit of each kind."""
        self.network()
        call("ImportKeyPair", KeyName="k", PublicKeyMaterial=__import__("base64").b64encode(KEY.encode()).decode())
        call("CreatePlacementGroup", GroupName="p", Strategy="spread")
        self.instance(KeyName="k", Placement_GroupName="p")
        call("CreateTags", ResourceId_1=self.vpc, Tag_1_Key="castrum-resource", Tag_1_Value="here/network/nodes")
        elb = "elasticloadbalancing"
        named = {"Name": "lb", "Type": "network", "Subnets_member_1": self.subnet}
        arn = re.search(r"Arn>(arn[^<]+)", call("CreateLoadBalancer", elb, **named)[1]).group(1)
        group = {"Name": "tg", "Protocol": "TCP_UDP", "Port": 53, "VpcId": self.vpc}
        targets = re.search(r"Arn>(arn[^<]+)", call("CreateTargetGroup", elb, **group)[1]).group(1)
        forward = {"DefaultActions_member_1_Type": "forward", "DefaultActions_member_1_TargetGroupArn": targets}
        call("CreateListener", elb, LoadBalancerArn=arn, Protocol="TCP_UDP", Port=53, **forward)

    def test_it_is_the_same_text_until_something_changes(self):
        self.everything()
        first = control("GET", "account")
        self.assertEqual(first, control("GET", "account"))
        text = json.dumps(first)
        wrong = [one for one in first.values() if isinstance(one, str)]
        self.assertEqual(wrong, [])
        for word in ["lb", "tg", "TCP_UDP", "10.9.1.0/24", "here/network/nodes", '"p"', '"k"', "t3.micro"]:
            self.assertIn(word, text)
        call("CreateTags", ResourceId_1=self.group, Tag_1_Key="a", Tag_1_Value="b")
        self.assertNotEqual(first, control("GET", "account"))
        call("DeleteTags", ResourceId_1=self.group, Tag_1_Key="a")
        self.assertEqual(first, control("GET", "account"))

    def test_what_is_terminated_is_no_part_of_it(self):
        self.network()
        before = control("GET", "account")
        call("TerminateInstances", InstanceId_1=self.instance())
        self.assertEqual(before, control("GET", "account"))

    def test_by_names_two_accounts_with_the_same_are_the_same(self):
        self.everything()
        first = control("GET", "account?named")
        control("POST", "reset")
        self.everything()
        self.assertEqual(first, control("GET", "account?named"))
        self.assertIn("vpc<here/network/nodes>", json.dumps(first))
        self.assertEqual(re.findall(IDS, json.dumps(first)), [])

    def test_calls_are_written_down(self):
        call("DescribeVpcs")
        made("CreateVpc", "vpc", CidrBlock="10.1.0.0/16")
        calls = [(one["action"], one["who"], one["outcome"]) for one in control("GET", "calls")]
        self.assertEqual(calls, [("DescribeVpcs", "TEST", 200), ("CreateVpc", "TEST", 200)])
        control("DELETE", "calls")
        self.assertEqual(control("GET", "calls"), [])


if __name__ == "__main__":
    unittest.main()
