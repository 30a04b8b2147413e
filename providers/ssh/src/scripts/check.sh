# Prints what stands against a node, one lack a line. Arguments: the cluster, then ports as `tcp:2379`.
[ -d /run/systemd/system ] || echo systemd
[ "$(uname -s)" = Linux ] || echo linux
cluster=$1
shift
# On a machine that is ours already it is the platform that listens.
if grep -qs "^castrum-cluster=$cluster\$" /etc/castrum/owner; then exit 0; fi
for port; do
    case $port in tcp:*) listens=0A ;; *) listens=07 ;; esac
    hex=$(printf ':%04X' "${port#*:}")
    cat "/proc/net/${port%:*}" "/proc/net/${port%:*}6" 2>/dev/null |
        awk -v port="$hex\$" -v listens="$listens" '$2 ~ port && $4 == listens { found = 1 } END { exit !found }' &&
        echo "port $port"
done
exit 0
