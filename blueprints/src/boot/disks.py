"""Put this machine's further disks where they belong: wait for each volume, make a file system if it has none, mount it.

Usage: python3 disks.py DISKS_JSON [DEVICE_FOLDER [FSTAB [SECONDS]]]. Standard library only; safe to repeat. A volume that
holds anything keeps it. A disk that does not come keeps nobody waiting for longer than the given seconds.
"""
import json
import os
import subprocess
import sys
import time


def find(volume, folder):
    """The device of a volume: places put its id, or the beginning of it, into the device's serial number."""
    plain = volume.replace("-", "")
    for name in sorted(os.listdir(folder) if os.path.isdir(folder) else []):
        if "-part" not in name and (plain in name.replace("-", "") or name == f"virtio-{volume[:20]}"):
            return os.path.join(folder, name)
    return None


def probe(device):
    """What a device holds, as blkid tells it; nothing for one that is empty."""
    told = subprocess.run(["blkid", "-p", "-o", "export", device], capture_output=True, text=True)
    if told.returncode not in (0, 2):
        raise OSError(f"blkid cannot tell what {device} holds: {told.stderr.strip()}")
    return dict(line.split("=", 1) for line in told.stdout.splitlines() if "=" in line)


def prepare(device, mount, fstab):
    held = probe(device)
    if not held:
        subprocess.run(["mkfs.ext4", "-q", device], check=True)
        held = probe(device)
    if held.get("USAGE") != "filesystem":
        raise OSError(f"{device} holds something that is no file system, and is left as it is")
    line = f"UUID={held['UUID']} {mount} {held['TYPE']} defaults,nofail 0 2\n"
    with open(fstab, "a+", encoding="utf-8") as file:
        file.seek(0)
        if line not in file.readlines():
            file.write(line)
    os.makedirs(mount, exist_ok=True)
    if not os.path.ismount(mount):
        subprocess.run(["mount", device, mount], check=True)


def main(disks_file, folder="/dev/disk/by-id", fstab="/etc/fstab", seconds="300"):
    with open(disks_file, encoding="utf-8") as file:
        disks = json.load(file)
    until, failed = time.monotonic() + float(seconds), False
    for disk in disks:
        while not (device := find(disk["volume"], folder)) and time.monotonic() < until:
            time.sleep(0.5)
        try:
            if not device:
                raise OSError(f"no device of it in {folder} after {seconds} seconds")
            prepare(device, disk["mount"], fstab)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"castrum: volume {disk['volume']} is not on {disk['mount']}: {error}", flush=True)
            failed = True
    sys.exit(failed)


main(*sys.argv[1:])
