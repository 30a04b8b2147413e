#!/bin/bash
# workload.sh CASTRUM BLUEPRINT: proves that a healthy cluster carries work. A service with two replicas on private agents
# answers through the public agent's edge proxy, and a one-off job completes. Run again it finds its service as it left it.
set -euo pipefail
[[ $# == 2 ]] || { echo "usage: $0 CASTRUM BLUEPRINT" >&2; exit 64; }
castrum=$1 blueprint=$2
docker=/opt/castrum/active/docker/store/usr/bin/docker
busybox=$(command -v busybox || true)
replicas=2

fail() {
    echo "error: $*" >&2
    exit 1
}

# on NODE COMMAND: runs a command line on a node. What sudo says about names is no news.
on() {
    "$castrum" node ssh "$1" -f "$blueprint" -- "$2" 2> >(grep -v '^sudo: unable to resolve host' >&2)
}

# await SECONDS WHAT FUNCTION: until the function succeeds. What it saw last is the reason when it never does.
await() {
    local deadline=$((SECONDS + $1)) what=$2
    seen=nothing
    until "$3"; do
        ((SECONDS < deadline)) || fail "waited $1 s for $what; last seen: $seen"
        sleep 0.5
    done
}

# nodes ROLE FIELD: a field of every node of that role, one a line.
nodes() {
    "$castrum" get nodes --role "$1" -f "$blueprint" -o json </dev/null |
        python3 -c 'import json, sys
for node in json.load(sys.stdin)["items"]:
    print(node.get(sys.argv[1]) or "")' "$2"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/hello" <<'HELLO'
echo "hello from $(/bin/busybox hostname)" >/www/index.html
exec /bin/busybox httpd -f -p 8080 -h /www
HELLO
cat >"$work/Dockerfile" <<'DOCKERFILE'
FROM scratch
COPY busybox /bin/busybox
COPY hello /hello
WORKDIR /www
STOPSIGNAL SIGKILL
CMD ["/bin/busybox", "sh", "/hello"]
DOCKERFILE
[[ -n $busybox ]] && "$busybox" true || fail "there is no busybox here; install the package busybox-static"
cp "$busybox" "$work/busybox"
# Named by its content, on a registry that nobody can reach: what runs is what was built here.
tag=$(cat "$work/Dockerfile" "$work/hello" "$work/busybox" | sha256sum | cut -c1-12)
image=localhost/castrum-hello:$tag

mapfile -t masters < <(nodes master name)
mapfile -t agents < <(nodes agent name)
mapfile -t edges < <(nodes public-agent address)
[[ ${#masters[@]} -gt 0 && ${#agents[@]} -gt 0 && ${#edges[@]} -gt 0 ]] ||
    fail "the proof needs a master, a private agent and a public agent; there are ${#masters[@]}, ${#agents[@]} and ${#edges[@]}"

# The image, made from nothing on every node that may run it.
for agent in "${agents[@]}"; do
    if ! on "$agent" "sudo $docker image inspect $image >/dev/null 2>&1" </dev/null; then
        tar -C "$work" -c Dockerfile hello busybox | on "$agent" "sudo $docker build --quiet --tag $image -" >/dev/null ||
            fail "the image was not built on $agent"
    fi
done
printf '%-10s %s\n' image "$image, built from scratch on ${agents[*]}"

manager=
for master in "${masters[@]}"; do
    if [[ $(on "$master" "sudo $docker info --format '{{.Swarm.ControlAvailable}}'" </dev/null) == true ]]; then
        manager=$master
        break
    fi
done
[[ -n $manager ]] || fail "none of ${masters[*]} manages the swarm"

swarm() {
    on "$manager" "sudo $docker $*" </dev/null
}

common="--detach --no-resolve-image --constraint engine.labels.castrum.role==agent"
label() {
    swarm "service inspect --format '{{index .Spec.Labels \"castrum.proof\"}}' hello 2>/dev/null" || true
}
if [[ $(label) != "$tag" ]]; then
    swarm "service rm hello >/dev/null 2>&1" || true
    swarm "service create $common --name hello --label castrum.proof=$tag --network castrum --endpoint-mode dnsrr \
        --replicas $replicas --hostname '{{.Service.Name}}-{{.Task.Slot}}' $image" >/dev/null ||
        fail "the service hello was not created"
fi

running() {
    seen=$(swarm "service ps hello --filter desired-state=running --format '{{.Name}} on {{.Node}}: {{.CurrentState}} {{.Error}}'")
    (($(grep -c ': Running ' <<<"$seen") == replicas))
}
await 60 "$replicas replicas of hello to run" running
placed=$(sed 's/.* on \(.*\): Running.*/\1/' <<<"$seen" | sort -u | xargs)
for node in $placed; do
    [[ " ${agents[*]} " == *" $node "* ]] || fail "hello runs on $node, which is no private agent"
done
printf '%-10s %s\n' service "hello, $replicas replicas on $placed"

# Every edge proxy leads to every replica. Engines that all started at once, as after a loss of power, try once a minute
# to find each other, and know no names of services before.
for edge in "${edges[@]}"; do
    declare -A answered=()
    all_answer() {
        seen=$(curl --noproxy '*' --silent --show-error --max-time 3 --header 'Host: hello.castrum.test' "http://$edge/" 2>&1) || true
        [[ $seen =~ ^hello\ from\ (hello-[0-9]+)$ ]] && answered[${BASH_REMATCH[1]}]=1
        ((${#answered[@]} == replicas))
    }
    await 150 "all replicas of hello to answer through http://$edge/" all_answer
    printf '%-10s %s\n' answers "through http://$edge/ with 'Host: hello.castrum.test': $(printf '%s\n' "${!answered[@]}" | sort | xargs)"
done

# A job that runs once. It is removed when it is done, so that the next proof begins anew.
swarm "service rm castrum-proof >/dev/null 2>&1" || true
swarm "service create $common --name castrum-proof --mode replicated-job --restart-condition none \
    $image /bin/busybox true" >/dev/null || fail "the job was not created"
complete() {
    seen=$(swarm "service ps castrum-proof --format '{{.Name}} on {{.Node}}: {{.CurrentState}} {{.Error}}'")
    [[ $seen != *": Failed "* && $seen != *": Rejected "* ]] || fail "the job has failed: $seen"
    [[ $seen == *": Complete "* ]]
}
await 60 "the job to complete" complete
swarm "service rm castrum-proof" >/dev/null
printf '%-10s %s\n' job "completed on $(sed 's/.* on \(.*\): Complete.*/\1/' <<<"$seen" | head -1)"
