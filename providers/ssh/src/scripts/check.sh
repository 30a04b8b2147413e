# Prints what is missing for a node: one word a line.
[ -d /run/systemd/system ] || echo systemd
[ "$(uname -s)" = Linux ] || echo linux
