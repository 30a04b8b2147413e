#!/bin/bash
# packages.sh KIND...: installs the packages that packages.txt lists for these kinds, if any is missing.
set -euo pipefail
kinds=" $* "
missing=()
while read -r kind package _; do
    [[ $kind == \#* || -z ${package:-} || $kinds != *" $kind "* ]] && continue
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
done < "$(dirname "$0")/../packages.txt"
# apt's lists are needed for the platform's packages too.
if [[ ${#missing[@]} -gt 0 ]] || ! compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null; then
    echo "installing: ${missing[*]:-package lists only}"
    [[ $(id -u) == 0 ]] || { echo "error: packages are missing and only root can install them" >&2; exit 1; }
    apt-get update -qq
    [[ ${#missing[@]} -eq 0 ]] || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi
