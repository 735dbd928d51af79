"""What Schemathesis cannot know: bodies that name what there is.

Comes in: its cases. Goes out: for some operations the first body that is meant to be good, replaced by one that fits the
server; and a line for each answer, so that the story can see which operations succeeded. Deliberately absent: checks.
"""

import json
import os

import schemathesis
from schemathesis.core import NOT_SET

LAYOUT = {"canvas": {"width": 640, "height": 360}, "users": [{"uid": "7", "width": 640, "height": 360, "pushVideo": True}]}


def task(name):
    return {"taskId": name, "streamUrl": f"rtmp://127.0.0.1:9/live/api-{name}", "layout": LAYOUT}


BODIES = {
    "addTasks": {"rtmpTasks": [task("t9")]},
    "updateTasks": {"rtmpTasks": [task("t1")]},
    "deleteTasks": {"taskIds": ["t2"]},
    "createWebhook": {"url": "https://hooks.example/x"},
    "changeWebhook": {"enabled": False},
    "createKey": {"scopes": ["read"], "name": "shop"},
    "createGlobalKey": {"scopes": ["read"], "name": "shop"},
    "mintToken": {"uid": "7", "channelName": "room", "ttlS": 60},
    "revokeTokens": {"uid": "7"},
    "closeChannel": {},
    "kickMember": {"durationS": 60},
}
replaced = set()


def operation_of(case):
    return case.operation.definition.raw.get("operationId", case.operation.label)


def is_meant_to_be_good(case):
    meta = case.meta
    return meta is not None and str(meta.generation.mode.value) == "positive"


@schemathesis.hook
def before_call(context, case, kwargs):
    # The server refuses bodies of these before it looks at the path, lest somebody in between reads them as requests.
    if case.method.upper() in ("GET", "HEAD", "OPTIONS", "TRACE"):
        case.body = NOT_SET
    operation = operation_of(case)
    if operation in BODIES and operation not in replaced and is_meant_to_be_good(case):
        replaced.add(operation)
        case.body = BODIES[operation]


@schemathesis.hook
def after_call(context, case, response):
    line = json.dumps({"operation": operation_of(case), "status": response.status_code})
    with open(os.environ["LIANMAI_ANSWERS"], "a", encoding="utf-8") as answers:
        answers.write(line + "\n")
