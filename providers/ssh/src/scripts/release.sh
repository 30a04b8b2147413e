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

# What outlived its unit: programs that run from our folders, and containers, whose root is a mount from them. Where
# that mount comes from says nothing about processes that share the machine's own root: it may be anything.
root=$(stat -Lc %d:%i /)
is_container() {
    [ "$(stat -Lc %d:%i "$1/root" 2>/dev/null || echo "$root")" != "$root" ] &&
        awk '$5 == "/"' "$1/mountinfo" 2>/dev/null | grep -qE '[=: ]/(opt|var/lib|run)/castrum/'
}
left_over() {
    for process in /proc/[0-9]*; do
        if readlink "$process/exe" 2>/dev/null | grep -qE "$ours" || is_container "$process"; then
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

# What the engine of containers leaves when it ends, wherever its own folders are: bridges, rules for packets, that
# packets are forwarded, a key, names of peers, sockets. Of these only what the claim did not find there before.
before() { sed -n "s/^$1=//p" /etc/castrum/before 2>/dev/null; }
is_new() { [ -n "$(before links)" ] && ! before "$1" | tr ' ' '\n' | grep -qxF "$2"; }
new_links() {
    ls /sys/class/net | grep -E '^(docker0|docker_gwbridge|br-[0-9a-f]{12})$' | while read -r link; do
        ! is_new links "$link" || echo "$link"
    done
}
tables() {
    engine=/opt/castrum/active/docker/store
    [ -x "$engine/usr/sbin/xtables-nft-multi" ] || return 0
    LD_LIBRARY_PATH=$engine/usr/lib/x86_64-linux-gnu XTABLES_LIBDIR=$engine/usr/lib/x86_64-linux-gnu/xtables \
        "$engine/usr/sbin/xtables-nft-multi" "$@"
}
bridges='DOCKER|docker0|docker_gwbridge|br-[0-9a-f]{12}'
# A container that asks for its own published port.
hairpin='-s ([0-9./]+) -d \2 .*-j MASQUERADE'
if new_links | grep -qxF docker0; then
    for table in filter nat; do
        rules=$(tables iptables-save -t "$table" </dev/null)
        {
            echo "*$table"
            echo "$rules" | grep -E "^-A .*($bridges|$hairpin)" | sed 's/^-A/-D/'
            echo "$rules" | sed -n 's/^:\(DOCKER[^ ]*\) .*/-X \1/p'
            echo COMMIT
        } | tables iptables-restore --noflush
    done
    if [ "$(before forward)" = 0 ]; then
        echo 0 >/proc/sys/net/ipv4/ip_forward
        # The engine closes the chain when it opens the way.
        tables iptables -P FORWARD ACCEPT </dev/null
    fi
    for link in $(new_links); do
        ip link delete "$link" </dev/null
    done
fi
for folder in /etc/docker /var/lib/docker /run/docker /run/containerd; do
    ! is_new folders "$folder" || rm -rf --one-file-system "$folder"
done

# The deepest mounts first, and again for those that were stacked. A disk that somebody mounted for us is emptied, and
# stays where it is.
folders='/opt/castrum /var/lib/castrum /var/log/castrum /run/castrum'
for attempt in 1 2 3; do
    awk '{print $2}' /proc/self/mounts | grep -E "$ours" | sort -r | while read -r mount; do
        case " $folders " in *" $mount "*) continue ;; esac
        umount "$mount" 2>/dev/null || umount -l "$mount"
    done
done

failed=
for folder in $folders; do
    if awk '{print $2}' /proc/self/mounts | grep -qxF "$folder"; then
        find "$folder" -xdev -mindepth 1 -delete || failed=yes
        [ "$folder" != /var/lib/castrum ] || [ -z "$(before mode)" ] || chmod "$(before mode)" "$folder"
    else
        rm -rf --one-file-system "$folder" || failed=yes
    fi
done
# The accounts that agents make bear this as their full name.
for account in $(awk -F: '$5 == "castrum component" {print $1}' /etc/passwd); do
    userdel "$account" </dev/null || failed=yes
    ! grep -q "^$account:" /etc/group || groupdel "$account" </dev/null
done
if [ -n "$failed" ]; then
    echo "something of Castrum could not be removed" >&2
    exit 1
fi
rm -rf /etc/castrum
echo removed
