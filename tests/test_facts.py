"""How many facts of the real server are covered, by area, and which are not. -s prints the reports."""

import pytest
import test_facts_backup
import test_facts_balancers
import test_facts_configuration
import test_facts_hosts
import test_facts_identity
import test_facts_images
import test_facts_jobs
import test_facts_l2
import test_facts_l3
import test_facts_ldap
import test_facts_nics
import test_facts_permissions
import test_facts_routers
import test_facts_security_groups
import test_facts_services
import test_facts_storage
import test_facts_tags
import test_facts_vm
import test_facts_volumes
import test_facts_zql
from asking import each
from facts import Fact, Shown, check, report, take
from test_facts_backup import MAKE_CEPH
from test_facts_l2 import WITH_L3

AREAS = {
    "virtual machines, volumes, snapshots, images": (test_facts_vm, test_facts_nics, test_facts_volumes, test_facts_images),
    "zones, clusters, hosts, storage, networks": (test_facts_hosts, test_facts_storage, test_facts_backup, test_facts_l2, test_facts_l3),
    "ZQL": (test_facts_zql,),
    "network services, accounts, tags": (test_facts_permissions, test_facts_identity, test_facts_security_groups, test_facts_routers, test_facts_tags, test_facts_ldap, test_facts_services, test_facts_balancers, test_facts_configuration, test_facts_jobs),
}


@pytest.mark.parametrize("area", AREAS)
def test_at_most_3_percent_of_the_facts_are_not_covered(area):
    text = report([fact for module in AREAS[area] for fact in module.FACTS])
    print(text)
    assert float(text.rpartition("; ")[2].split()[0]) <= 3


# queries of which the server tells nothing special


def found(api, *steps):
    """All objects are found, and each of them by its first field."""

    async def story(mock):
        await take(mock, steps)
        row = mock.cloud.catalogue.apis[api]
        _, answer = await mock.request("GET", row.path)
        assert answer["inventories"]
        for item in answer["inventories"]:
            name = next(iter(item))
            _, same = await mock.request("GET", f"{row.path}?q={name}={item[name]}")
            assert item in same["inventories"] and {other[name] for other in same["inventories"]} == {item[name]}

    return Fact(api, "finds its objects", Shown(story))


PLAIN = (
    *map(found, ("QueryZone", "QueryCluster", "QueryL2VlanNetwork", "QueryL3Network", "QueryIpRange", "QueryNetworkServiceL3NetworkRef")),
    found("QueryCephBackupStorage", MAKE_CEPH),
    *(found(api, *WITH_L3) for api in ("QueryL2VxlanNetwork", "QueryL2VxlanNetworkPool", "QueryVniRange")),
)


@each("fact", PLAIN, ids=lambda fact: fact.name)
async def test_plain_queries(each_dialect, fact):
    await check(fact, each_dialect)
