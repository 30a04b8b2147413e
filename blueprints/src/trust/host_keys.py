"""Prove this machine's SSH host keys to the installer with the join token.

Usage: python3 host_keys.py TOKEN_FILE [PROOF_FILE [KEY_FOLDER]]. Standard library only; safe to repeat.
"""
import glob
import hashlib
import hmac
import os
import sys


def read_token(path):
    with open(path, encoding="ascii") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            sys.exit(f"{path} may be read by others: run `chmod 600 {path}`")
        token = bytes.fromhex(file.read().strip())
    if len(token) != 32:
        sys.exit(f"{path} does not hold a join token of 32 bytes")
    return token


def main(token_file, proof_file="/run/castrum/hostkeys.proof", folder="/etc/ssh"):
    token = read_token(token_file)
    lines = []
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), "ssh_host_*_key.pub"))):
        with open(path, encoding="utf-8") as file:
            kind, key = file.read().split()[:2]
        message = b"castrum-hostkey-v1\0" + f"{kind} {key}".encode("ascii")
        lines.append(f"{kind} {hmac.new(token, message, hashlib.sha256).hexdigest()}\n")
    if not lines:
        sys.exit(f"no SSH host key in {folder}: run `ssh-keygen -A`")
    os.makedirs(os.path.dirname(proof_file), mode=0o755, exist_ok=True)
    with open(proof_file + ".new", "w", encoding="ascii") as file:
        file.writelines(lines)
        os.fchmod(file.fileno(), 0o644)
    os.replace(proof_file + ".new", proof_file)


main(*sys.argv[1:])
