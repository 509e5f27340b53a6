"""What schemathesis cannot know of job uuids and web-hooks."""

import re
import uuid

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    """A job's uuid is used once; results are told to nobody."""
    given = {name.lower(): name for name in case.headers or ()}
    if "x-job-uuid" in given and re.fullmatch("[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}", str(case.headers[given["x-job-uuid"]])):
        case.headers[given["x-job-uuid"]] = uuid.UUID(int=uuid.uuid4().int, version=4).hex
    if "x-web-hook" in given:
        case.headers[given["x-web-hook"]] = "http://127.0.0.1:9/"
