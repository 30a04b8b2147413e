"""Copies of an account: a state to look at or to come back to, whatever has happened since.

A copy holds machines with all around them, load balancers, and what their services remember of client tokens and names. It
is a text of its own, so that nothing that happens later can change it.
"""

import pickle

from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.elbv2.models import elbv2_backends

BACKENDS = (ec2_backends, elbv2_backends)


def present(region):
    """The services of a region as they are now."""
    return [backends[DEFAULT_ACCOUNT_ID][region] for backends in BACKENDS]


def exchange(region, services):
    """Puts other services in the place of those that are there."""
    for backends, service in zip(BACKENDS, services):
        backends[DEFAULT_ACCOUNT_ID][region] = service


def copied(region, memory):
    """A copy of the services of a region, and of what belongs to them."""
    return pickle.dumps((present(region), memory), pickle.HIGHEST_PROTOCOL)


def opened(copy):
    """The services of a copy, and what belongs to them, as they were."""
    return pickle.loads(copy)
