#!/usr/bin/env python3
"""An example provider. Its machines are entries of a JSON file, which the setting `state` names; `seconds` is how long
making one takes. It asks for nothing but Python 3: link it as `castrum-provider-example` into a folder of PATH."""
import fcntl, json, os, sys, time, uuid

KINDS = ["network", "machine"]

class Failed(Exception): pass

def fail(kind, message, hint=None): raise Failed({"class": kind, "message": message, "hint": hint})

def say(kind, **fields): print(json.dumps({"say": kind, **fields}), flush=True)

def save(place, world):
    with open(place + ".new", "w") as file:
        json.dump(world, file)
    os.replace(place + ".new", place)  # whole or not at all, whenever we are killed

def ensure(mine, wanted, keep):
    path, kind, seen, change = wanted["path"], wanted["spec"]["kind"], mine.get(wanted["path"]), "created"
    if kind not in KINDS: fail("unsupported", f"`{path}`: this place makes no {kind}")
    if seen and seen["ready"]:
        as_it_was = seen["spec"] == wanted["digest"] and seen.get("machine", {}).get("power", "on") == "on"
        change = "unchanged" if as_it_was else "changed"
    else:
        seen = mine[path] = seen or {"path": path, "id": uuid.uuid4().hex[:12], "ready": False, "spec": None}
        if kind == "machine":  # wanted["boot_data"] would be handed to it now
            born = {"created_at": int(time.time() * 1000), "incarnation": seen["id"]}
            seen["machine"] = {"address": "192.0.2.1", "power": "on", **born}
        keep()  # labelled before the work begins: whoever comes after us finds it, and finishes it
        time.sleep(float(hello["settings"].get("seconds", 0)))
    seen.update(spec=wanted["digest"], ready=True)
    seen.get("machine", {})["power"] = "on"
    return {"change": change, "seen": seen}

def remove(mine, path):
    if "/network/" in path and any("/machine/" in other for other in mine):
        fail("not-ready", f"`{path}`: machines are still in it")
    return "removed" if mine.pop(path, None) else "absent"

def power(mine, call):
    if call["machine"] not in mine: fail("invalid", f"there is no machine `{call['machine']}`")
    machine = mine[call["machine"]]["machine"]
    if call["verb"] == "power-state": return machine["power"]
    machine["power"] = call.get("power", "off")

def perform(call):
    place = hello["settings"].get("state") or fail("invalid", "no state file", "give the setting `state`")
    with open(place + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one at a time, over all processes
        world = json.load(open(place)) if os.path.exists(place) else {}
        mine = world.setdefault(hello["cluster"], {})  # what carries our label, and nothing else
        if call["verb"] == "preflight": return []
        if call["verb"] == "observe":
            return {"seen": {path: seen for path, seen in mine.items() if path.startswith(hello["site"] + "/")}}
        if call["verb"] == "ensure": result = ensure(mine, call["wanted"], lambda: save(place, world))
        elif call["verb"] == "remove": result = remove(mine, call["path"])
        elif call["verb"].startswith("power-"): result = power(mine, call)
        else: fail("unsupported", "the verb is not known")
        save(place, world)
        return result

def answer(call):
    try:
        try: return say("answer", id=call["id"], result=perform(call))
        except OSError as error: fail("transient", f"the place does not answer: {error.strerror}")
    except Failed as failed:
        if call["verb"] != "observe": return say("failure", id=call["id"], failure=failed.args[0])
        blind = {"site": hello["site"], "kind": None, "reason": failed.args[0]["message"]}  # unseen is not absent
        say("answer", id=call["id"], result={"seen": {}, "blind": [blind]})

hello = json.loads(sys.stdin.readline() or sys.exit())
if hello["contract"] != 1:
    sys.exit(say("refuse", failure={"class": "unsupported", "message": "this example speaks contract version 1"}))
say("hello", contract=1, provider="example", version="1", abilities={"kinds": KINDS, "boot_data": True, "power": True})
for line in sys.stdin:
    message = json.loads(line)
    if message["say"] == "shutdown": break
    if message["say"] == "call": answer(message)  # calls are short here: none is ever left to cancel
