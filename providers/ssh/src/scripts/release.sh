# release CLUSTER RESOURCE: removes everything of Castrum, and the owner label last, so that a release that was
# interrupted is found and finished. Prints what was done; after a refusal also the label.
set -u
owner=/etc/castrum/owner
ours='^/(opt|var/lib|run|var/log)/castrum(/|$)'

if [ ! -e "$owner" ]; then
    echo absent
    exit 0
fi
if ! grep -qxF "castrum-cluster=$1" "$owner" || ! grep -qxF "castrum-resource=$2" "$owner"; then
    echo refused
    cat "$owner"
    exit 0
fi

if [ -d /run/systemd/system ]; then
    units=$(systemctl list-units --all --plain --no-legend --full 'castrum-*' | awk '{print $1}')
    # Splitting is meant: unit names have no spaces.
    [ -z "$units" ] || systemctl stop $units </dev/null
fi
rm -rf /etc/systemd/system/castrum-* /etc/systemd/system/*.wants/castrum-* /run/systemd/system/castrum-*
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload </dev/null
    systemctl reset-failed 'castrum-*' </dev/null 2>/dev/null
fi

# What outlived its unit: programs that run from our folders, and containers, whose root is a mount from them.
left_over() {
    for process in /proc/[0-9]*; do
        if readlink "$process/exe" 2>/dev/null | grep -qE "$ours" ||
            awk '$5 == "/"' "$process/mountinfo" 2>/dev/null | grep -qE '[=: ]/(opt|var/lib|run)/castrum/'; then
            echo "${process#/proc/}"
        fi
    done
}
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    pids=$(left_over)
    [ -n "$pids" ] || break
    kill -9 $pids 2>/dev/null
    sleep 0.2
done

# The deepest mounts first, and again for those that were stacked.
for attempt in 1 2 3; do
    awk '{print $2}' /proc/self/mounts | grep -E "$ours" | sort -r | while read -r mount; do
        umount "$mount" 2>/dev/null || umount -l "$mount"
    done
done

failed=
for folder in /opt/castrum /var/lib/castrum /var/log/castrum /run/castrum; do
    rm -rf --one-file-system "$folder" || failed=yes
done
if [ -n "$failed" ]; then
    echo "something of Castrum could not be removed" >&2
    exit 1
fi
rm -rf /etc/castrum
echo removed
