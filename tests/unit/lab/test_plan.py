from ipaddress import IPv4Network

import msgspec
import pytest
from lab.firewall import gateway_rules
from lab.plan import make_plan
from lab.scenario import FOLDER, Nat, load

DOCUMENTATION = [IPv4Network("198.51.100.0/24"), IPv4Network("203.0.113.0/24")]


@pytest.fixture(scope="module")
def scenario():
    return load(FOLDER / "radiologist.toml")


@pytest.fixture(scope="module")
def plan(scenario):
    return make_plan(scenario, "unit")


def test_every_namespace_carries_the_labs_name(plan):
    names = [node.namespace for node in plan.nodes.values()]
    assert len(names) == len(set(names)) == 6 + 2 * 5 + 3
    assert all(name.startswith("pg-unit-") for name in names)


def test_no_address_is_given_twice_and_all_outside_lans_are_documentation_addresses(plan):
    addresses = [one.address for node in plan.nodes.values() for one in node.interfaces]
    assert len({address.ip for address in addresses}) == len(addresses)
    public = [
        address.ip for address in addresses if not address.ip.is_private or address.ip in DOCUMENTATION[0]
    ]
    assert all(any(ip in network for network in DOCUMENTATION) for ip in public)


def test_both_ends_of_a_cable_are_in_one_network(plan):
    for cable in plan.cables:
        ends = [
            next(i.address for i in plan.nodes[node].interfaces if i.device == device)
            for node, device in ((cable.node_a, cable.device_a), (cable.node_b, cable.device_b))
        ]
        assert ends[0].network == ends[1].network


def test_device_names_fit_the_kernel(plan):
    devices = [one.device for node in plan.nodes.values() for one in node.interfaces]
    devices += [patch.device_b for patch in plan.patches]
    assert all(len(device) <= 15 for device in devices)


def test_every_cable_has_its_own_seed(plan):
    assert len({cable.seed for cable in plan.cables}) == len(plan.cables)


def test_only_a_site_without_translation_is_routed(scenario):
    routed = msgspec.structs.replace(scenario.sites[0], nat=Nat.NONE)
    open_plan = make_plan(msgspec.structs.replace(scenario, sites=[routed, *scenario.sites[1:]]), "unit")
    to_lans = [network for network, _ in open_plan.nodes["core"].routes if network == routed.lan]
    assert to_lans == [routed.lan]
    assert open_plan.hosts["pacs"].public_address == open_plan.hosts["pacs"].address


def test_rules_by_kind_of_translation():
    assert "masquerade" not in gateway_rules(Nat.NONE, [])
    assert "fully-random" not in gateway_rules(Nat.ORDINARY, [])
    assert "masquerade fully-random" in gateway_rules(Nat.SYMMETRIC, [])


def test_a_forward_leads_to_its_host():
    assert "tcp dport 4242 dnat to 10.20.0.10" in gateway_rules(Nat.ORDINARY, [(4242, "10.20.0.10")])
