import pytest
from zmock import named

pytest_plugins = ["zmock"]  # where zmock.py was copied; better in the topmost conftest.py


@pytest.mark.asyncio
async def test_no_room(zmock):  # a cloud of its own, in memory, on a free port, its clock frozen
    zmock.rule(api="StartVmInstance", then={"error": "HOST_ALLOCATION.1000", "details": "no host has room"})
    with pytest.raises(RuntimeError, match="no host has room"):
        await zmock.act("vm-instances", named("vm-ci-1"), "startVmInstance")  # or your client, on zmock.url
    assert [call.status for call in zmock.calls("StartVmInstance")] == [202]
