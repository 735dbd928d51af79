#!/usr/bin/env python3
"""Two users in one channel, with nothing but sockets and JSON. Written from docs/protocol.md; ids like ORD-2 are its ids."""
import argparse, base64, hashlib, json, secrets, socket, sys, time
from urllib.parse import urlsplit

# The whole run may take 10 s; so nobody is silent for pingIntervalMs, and no timer has to send pings (LIV-1).
DEADLINE = time.monotonic() + 10


class Failure(Exception):
    pass


class Client:
    def __init__(self, name, server):
        self.name, self.last_id, self.answers, self.messages, self.close_code = name, 0, {}, [], None
        url = urlsplit(server)
        self.check(url.scheme == "ws" and url.hostname, f"{server} is not a ws:// address")
        self.sock = socket.create_connection((url.hostname, url.port or 80), max(DEADLINE - time.monotonic(), 0.001))
        self.file = self.sock.makefile("rb")
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        self.sock.sendall((f"GET /v1/signal HTTP/1.1\r\nHost: {url.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: lianmai.v1\r\nSec-WebSocket-Key: {key}\r\n\r\n").encode())
        status, *lines = [*iter(lambda: self.file.readline().decode("latin-1").strip(), "")] or ["no answer"]
        headers = {field.lower(): value.strip() for field, _, value in (line.partition(":") for line in lines)}
        accept = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        self.check(status.split(" ")[1:2] == ["101"], f"the upgrade was refused: {status}")
        self.check(headers.get("sec-websocket-accept") == base64.b64encode(accept).decode(), "wrong Sec-WebSocket-Accept")
        self.check(headers.get("sec-websocket-protocol") == "lianmai.v1", "wrong sub-protocol")

    def check(self, good, otherwise):
        if not good:
            raise Failure(f"{self.name}: {otherwise}")

    def send_frame(self, opcode, payload):
        n, mask = len(payload), secrets.token_bytes(4)
        length = bytes([0x80 | n]) if n < 126 else b"\xfe" + n.to_bytes(2, "big")  # nothing here reaches 64 KiB
        self.sock.sendall(bytes([0x80 | opcode]) + length + mask + bytes(c ^ mask[i % 4] for i, c in enumerate(payload)))

    def read(self, n):
        self.sock.settimeout(max(DEADLINE - time.monotonic(), 0.001))  # out of time: socket.timeout
        data = self.file.read(n)
        self.check(len(data) == n, "the connection ended without a close frame")
        return data

    def read_text(self):
        """The next text message, put together from its fragments; None when the server closes."""
        text = b""
        while True:
            first, n = self.read(2)
            if n >= 126:
                n = int.from_bytes(self.read(2 if n == 126 else 8), "big")
            opcode, payload = first & 15, self.read(n)
            if opcode == 8:  # answered with the same code (CON-10)
                self.close_code = int.from_bytes(payload[:2], "big")
                self.send_frame(8, payload[:2])
                self.file.close()
                return self.sock.close()
            if opcode == 9:
                self.send_frame(10, payload)
            elif opcode in (0, 1):
                text += payload
                if first & 0x80:
                    return text

    def until(self, what, test):
        while not test():
            try:
                text = self.read_text()
            except socket.timeout:
                raise Failure(f"{self.name}: no {what} within 10 s") from None
            if text is None:
                self.check(self.close_code == 1000 and test(), f"no {what}: the server closed with {self.close_code}")
            else:
                frame = json.loads(text)
                for message in frame if isinstance(frame, list) else [frame]:  # FRM-1
                    self.apply(message)

    def apply(self, m):
        if "id" in m:
            self.check("result" in m, f"{self.method} was answered {m.get('error')}")
            self.answers[m["id"]] = result = m["result"]
            if self.method == "join":  # the picture (ORD-2)
                self.epoch, self.seq, self.uid, self.mid = (result[k] for k in ("epoch", "seq", "uid", "mid"))
                self.streams = {s["pub"]: (x["mid"], s["mediaType"]) for x in result["members"] for s in x["streams"]}
            elif self.method == "ping" and (result["epoch"], result["seq"]) != (self.epoch, self.seq):
                self.gap(f"ping tells {result}")
            elif result["seq"] > self.seq:  # ORD-4
                self.gap(f"{self.method} was answered at seq {result['seq']}")
        elif {"epoch", "seq"} <= m["params"].keys():  # an event (EVT-1); a notice changes nothing here
            self.event(m["method"], m["params"])

    def event(self, name, p):
        if p["epoch"] == self.epoch and p["seq"] <= self.seq:  # CLI-1
            return
        if (p["epoch"], p["seq"]) != (self.epoch, self.seq + 1):
            self.gap(f"event {name} {p}")
        self.seq = p["seq"]
        if name == "streamAdded":
            self.streams[p["pub"]] = (p["mid"], p["mediaType"])
        elif name == "streamRemoved":
            del self.streams[p["pub"]]
        elif name == "message":
            self.messages.append((p["uid"], p["data"]))

    def gap(self, why):  # CLI-2; a client for users comes back then (CLI-3), this one only shows that there is none
        self.send_frame(8, (4005).to_bytes(2, "big") + b"gap")
        self.check(False, f"gap: {why}, but {self.epoch} {self.seq} was applied last")

    def call(self, method, **params):
        """One request at a time: everything before it is answered, so `ack` is the id before (IDS-4)."""
        ack = {"ack": self.last_id} if self.last_id else {}
        self.last_id, self.method = self.last_id + 1, method
        self.send_frame(1, json.dumps({"jsonrpc": "2.0", "id": self.last_id, **ack, "method": method, "params": params}).encode())
        self.until(f"answer to {method}", lambda: self.last_id in self.answers)
        return self.answers.pop(self.last_id)

    def kinds(self, mid):
        return sorted(kind for owner, kind in self.streams.values() if owner == mid)


def main(server, channel, appkey):
    a, b = Client("A", server), Client("B", server)
    a.call("join", appkey=appkey, channelName=channel, uid=None, joinId=secrets.token_hex(16))
    print("push", a.call("publish", mediaType="")["url"])  # a secret (URL-4); shown because this is a demonstration
    b.call("join", appkey=appkey, channelName=channel, uid=None, joinId=secrets.token_hex(16))
    b.until("streams of A", lambda: b.kinds(a.mid) == ["audio", "video"])
    print("pull", *{b.call("subscribe", uid=a.uid, mediaType=kind)["url"] for kind in b.kinds(a.mid)})  # one URL (SUB-1)
    a.call("sendMessage", data="hello from A")
    b.until("message", lambda: (a.uid, "hello from A") in b.messages)
    print("message", b.messages[-1][1])
    for client in (a, b):
        print("ping", client.name, "is answered; seq", client.call("ping")["seq"], "is the last one applied")
    a.call("unpublish", mediaType="")
    b.until("streamRemoved", lambda: not b.kinds(a.mid))
    print("removed: the streams of A")
    a.call("leave")
    a.until("close", lambda: a.close_code == 1000)  # SES-6
    b.call("leave")
    b.until("close", lambda: b.close_code == 1000)
    print("both left")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="ws://127.0.0.1:8600")
    parser.add_argument("--channel", default="raw-" + secrets.token_hex(4))
    parser.add_argument("--appkey", default="demo")
    args = parser.parse_args()
    try:
        main(args.server, args.channel, args.appkey)
    except Failure as e:
        sys.exit(f"error: {e}")
    except socket.timeout:
        sys.exit("error: no connection within 10 s")
    except Exception as e:
        sys.exit(f"error: {type(e).__name__}: {e}")
