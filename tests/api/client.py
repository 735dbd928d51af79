"""A client that openapi-python-client made of docs/api/openapi.json, as a back end in Python uses it.

Comes in: a server with the member 7 in the channel `room` of the app `live`. Goes out: nothing, where every answer is as
its type says. Deliberately absent: what is refused.
"""

import os

from lianmai_client import AuthenticatedClient
from lianmai_client.api.bans import lift_ban, list_bans
from lianmai_client.api.channels import (
    close_channel,
    create_channel,
    get_channel,
    list_channels,
    send_message,
    set_channel_policy,
)
from lianmai_client.api.events import list_events
from lianmai_client.api.history import read_history
from lianmai_client.api.keys import create_key, revoke_key
from lianmai_client.api.members import kick_member, list_members, set_member_role
from lianmai_client.api.tokens import mint_token
from lianmai_client.api.webhooks import create_webhook, remove_webhook
from lianmai_client.models import (
    Close,
    EventKind,
    Kick,
    Message,
    NewChannel,
    NewKey,
    NewToken,
    NewWebhook,
    Policy,
    Problem,
    RoleDto,
    Scope,
    SetRole,
)

APP = "live"
client = AuthenticatedClient(
    base_url=os.environ["LIANMAI_ADMIN"], token=os.environ["LIANMAI_TOKEN"]
)


def said(operation, *arguments, **more):
    """What an answer says; one that refuses is a failure here."""
    answer = operation.sync_detailed(*arguments, client=client, **more)
    assert 200 <= answer.status_code < 300, (operation.__name__, answer.status_code, answer.content)
    assert answer.parsed is not None and not isinstance(answer.parsed, Problem), operation.__name__
    return answer.parsed


made = said(create_channel, APP, body=NewChannel(channel_name="show", policy=Policy(max_members=3)))
assert made.policy.max_members == 3
assert said(get_channel, APP, "show").cid == made.cid
said(set_channel_policy, APP, "show", body=Policy())
names = [channel.channel_name for channel in said(list_channels, APP, limit=10).channels]
assert names == ["room", "show"], names
minted = said(mint_token, APP, body=NewToken(uid="9", channel_name="show", ttl_s=60))
assert len(minted.token) > 20
assert [member.uid for member in said(list_members, APP, "room").members] == ["7"]
said(set_member_role, APP, "room", "7", body=SetRole(role=RoleDto.AUDIENCE))
assert said(send_message, APP, "room", body=Message(uid="0", data="hello", to=["7"])).delivered == 1
said(kick_member, APP, "room", "7", body=Kick(duration_s=60, reason="spam"))
assert said(list_bans, APP, "room").bans[0].uid == "7"
assert said(lift_ban, APP, "room", "7").lifted == 1
hook = said(create_webhook, APP, body=NewWebhook(url="https://hooks.example/x", events=[EventKind.MEMBERLEFT]))
assert hook.secret.startswith("whsec_")
said(remove_webhook, APP, hook.id)
key = said(create_key, APP, body=NewKey(scopes=[Scope.READ], name="shop"))
said(revoke_key, APP, key.id)
kinds = {event.type_ for event in said(list_events, APP).events}
assert "memberLeft" in kinds, kinds
entries = said(read_history, APP, "room", uid="7").entries
assert any(entry.type_ == "memberJoined" and entry.uid == "7" for entry in entries)
said(close_channel, APP, "show", body=Close())
gone = get_channel.sync_detailed(APP, "show", client=client)
assert gone.status_code == 404, gone.status_code
