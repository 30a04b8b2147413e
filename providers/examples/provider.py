#!/usr/bin/env python3
# An example provider. Its machines are entries of a JSON file, which the setting `state` names; `seconds` is how long
# making one takes. It asks for nothing but Python 3: link it as `castrum-provider-example` into a folder of PATH.
import fcntl, json, os, sys, time, uuid

KINDS = ["network", "machine"]

class Failed(Exception): pass

def fail(kind, message, hint=None): raise Failed({"class": kind, "message": message, "hint": hint})

def say(kind, **fields): print(json.dumps({"say": kind, **fields}), flush=True)

# The verbs. Each is handed what is ours by path, its call, and `keep`, which writes down what has been done so far.

def observe(mine, call, keep): return {"seen": mine}

def ensure(mine, call, keep):
    path, kind, digest = call["wanted"]["path"], call["wanted"]["spec"]["kind"], call["wanted"]["digest"]
    if kind not in KINDS: fail("unsupported", f"`{path}`: this place makes no {kind}")
    seen = mine.setdefault(path, {"path": path, "id": uuid.uuid4().hex[:12], "ready": False, "spec": None})
    now = {**seen, "ready": True, "spec": digest}
    if kind == "machine":  # a new one would be handed its boot data now
        born = {"address": "192.0.2.1", "created_at": int(time.time() * 1000), "incarnation": seen["id"]}
        now["machine"] = {**seen.setdefault("machine", {**born, "power": "on"}), "power": "on"}
    keep()  # labelled before the work begins: whoever comes after us finds it, and finishes it
    if not seen["ready"]: time.sleep(float(hello["settings"].get("seconds", 0)))
    mine[path] = now
    return {"change": "created" if not seen["ready"] else "unchanged" if now == seen else "changed", "seen": now}

def remove(mine, call, keep):
    if "/network/" in call["path"] and any("/machine/" in path for path in mine): fail("not-ready", "machines use it")
    return "removed" if mine.pop(call["path"], None) else "absent"

def power(mine, call, keep):
    machine = mine.get(call["machine"], {}).get("machine") or fail("invalid", f"no machine `{call['machine']}`")
    if call["verb"] == "power-state": return machine["power"]
    machine["power"] = call.get("power", "off")

VERBS = {"preflight": lambda *_: [], "observe": observe, "ensure": ensure, "remove": remove, "power": power}

def perform(call):
    verb = VERBS.get(call["verb"].split("-")[0]) or fail("unsupported", "the verb is not known")
    place = hello["settings"].get("state") or fail("invalid", "no state file", "give the setting `state`")
    with open(place + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one at a time, over all processes
        world = json.load(open(place)) if os.path.exists(place) else {}
        def keep():
            with open(place + ".new", "w") as file: json.dump(world, file)
            os.replace(place + ".new", place)  # whole or not at all, whenever we are killed
        mine = world.setdefault(hello["cluster"], {}).setdefault(hello["site"], {})  # our label, and nothing else
        try: return verb(mine, call, keep)
        finally: keep()

def answer(call):
    try: return say("answer", id=call["id"], result=perform(call))
    except OSError as error: failure = {"class": "transient", "message": f"the place does not answer: {error}"}
    except Failed as failed: failure = failed.args[0]
    if call["verb"] != "observe": return say("failure", id=call["id"], failure=failure)
    unseen = {"site": hello["site"], "kind": None, "reason": failure["message"]}
    say("answer", id=call["id"], result={"seen": {}, "blind": [unseen]})  # unseen is not absent

hello = json.loads(sys.stdin.readline() or sys.exit())
if hello["contract"] != 1: sys.exit(say("refuse", failure={"class": "unsupported", "message": "I speak version 1"}))
say("hello", contract=1, provider="example", version="1", abilities={"kinds": KINDS, "boot_data": True, "power": True})
while (message := json.loads(sys.stdin.readline() or '{"say": "shutdown"}'))["say"] != "shutdown":
    if message["say"] == "call": answer(message)  # calls are short here: none is ever left to cancel
